//! URLs as the `uri` format and the `url()` library read them: absolute ones, or absolute paths.

/// A URL in its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url {
    /// As it was written.
    pub text: String,
    /// In lower case; empty for a path alone.
    pub scheme: String,
    /// Host and port.
    pub host: String,
    /// Host without port and brackets.
    pub hostname: String,
    /// Port; may be empty.
    pub port: String,
    /// Path, escaped.
    pub path: String,
    /// Parameters of the query in the order of their names.
    pub query: Vec<(String, Vec<String>)>,
}

/// Why text is no URL.
fn fail<T>(text: &str, why: &str) -> Result<T, String> {
    Err(format!("parse {text:?}: {why}"))
}

/// Checks that text is a URI without a fragment apart (`#` is taken for a part of the path).
pub(crate) fn check(text: &str) -> Result<(), String> {
    read(text).map(|_| ())
}

/// Reads a URL.
pub(crate) fn parse(text: &str) -> Result<Url, String> {
    check(text)?;
    read(text.split('#').next().unwrap_or(text)).map(|url| Url { text: text.to_owned(), ..url })
}

fn read(text: &str) -> Result<Url, String> {
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return fail(text, "net/url: invalid control character in URL");
    }
    if text.is_empty() {
        return fail(text, "empty url");
    }
    let mut url = Url { text: text.to_owned(), ..Url::default() };
    if text == "*" {
        url.path = "*".to_owned();
        return Ok(url);
    }
    let mut rest = text;
    if let Some(end) = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
        && text[end..].starts_with(':')
    {
        if end == 0 {
            return fail(text, "missing protocol scheme");
        }
        if text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            url.scheme = text[..end].to_ascii_lowercase();
            rest = &text[end + 1..];
        }
    }
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    url.query = parameters(query);
    rest = before;
    if !rest.starts_with('/') {
        return if url.scheme.is_empty() { fail(text, "invalid URI for request") } else { Ok(url) };
    }
    if let Some(after) = rest.strip_prefix("//").filter(|_| !url.scheme.is_empty()) {
        let end = after.find('/').unwrap_or(after.len());
        rest = &after[end..];
        authority(text, &after[..end], &mut url)?;
    }
    if let Some(bad) = bad_escape(rest) {
        return fail(text, &format!("invalid URL escape {bad:?}"));
    }
    url.path = escaped_path(rest);
    Ok(url)
}

fn authority(text: &str, authority: &str, url: &mut Url) -> Result<(), String> {
    let (user, host) =
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    if user.is_some_and(|user| !user.chars().all(allowed) || bad_escape(user).is_some()) {
        return fail(text, "net/url: invalid userinfo");
    }
    let port_at = if host.starts_with('[') {
        let Some(end) = host.rfind(']') else { return fail(text, "missing ']' in host") };
        end + 1
    } else {
        host.rfind(':').unwrap_or(host.len())
    };
    let (name, port) = host.split_at(port_at);
    let digits = port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    if !port.is_empty() && !digits {
        return fail(text, &format!("invalid port {port:?} after host"));
    }
    if let Some(bad) = bad_escape(name) {
        return fail(text, &format!("invalid URL escape {bad:?}"));
    }
    let strange =
        |c: char| c.is_ascii() && !(c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(c));
    if let Some(bad) = name.chars().find(|c| strange(*c)) {
        return fail(text, &format!("invalid character {:?} in host name", bad.to_string()));
    }
    url.host = decoded(host, false).unwrap_or_default();
    url.hostname = decoded(name.trim_start_matches('[').trim_end_matches(']'), false).unwrap_or_default();
    url.port = port.trim_start_matches(':').to_owned();
    Ok(())
}

fn bad_escape(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let escape = &rest.as_bytes()[at + 1..];
        if escape.len() < 2 || !escape[..2].iter().all(u8::is_ascii_hexdigit) {
            return Some(rest[at..].chars().take(3).collect());
        }
        rest = &rest[at + 3..];
    }
    None
}

fn decoded(text: &str, plus: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' if plus => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// The path as it was written where that is a way to write it, escaped otherwise.
fn escaped_path(path: &str) -> String {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*[]%".contains(&byte);
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if fine(byte) { out.push(char::from(byte)) } else { out.push_str(&format!("%{byte:02X}")) }
    }
    out
}

fn parameters(query: &str) -> Vec<(String, Vec<String>)> {
    let mut found = std::collections::BTreeMap::<String, Vec<String>>::new();
    for part in query.split('&').filter(|part| !part.is_empty() && !part.contains(';')) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if let (Some(name), Some(value)) = (decoded(name, true), decoded(value, true)) {
            found.entry(name).or_default().push(value);
        }
    }
    found.into_iter().collect()
}
