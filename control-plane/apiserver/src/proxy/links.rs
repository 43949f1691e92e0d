//! Links of a proxied page: those to the page's own server lead through the proxy.

use super::path::clean;

/// Rewrites links of one request's answer.
#[derive(Clone, Debug)]
pub(super) struct Links {
    /// Path of the proxy.
    pub(super) prefix: String,
    /// The other side, `host:port`.
    pub(super) target: String,
    /// What the client called the server, as it was passed on.
    pub(super) host: String,
}

impl Links {
    /// A link as it leads through the proxy; none where it stays as it is: relative ones do that by themselves, and those to
    /// other servers are none of the proxy's.
    pub(super) fn rewrite(&self, link: &str) -> Option<String> {
        if link.bytes().any(|b| b.is_ascii_control()) {
            return None;
        }
        let (front, fragment) = cut(link, "#");
        let (front, query) = cut(front, "?");
        let (scheme, rest) = scheme(front);
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let at = rest.find('/').unwrap_or(rest.len());
                let (authority, path) = rest.split_at(at);
                (authority, path)
            }
            None => ("", rest),
        };
        let name = host.rsplit('@').next().unwrap_or_default();
        let elsewhere = !name.is_empty() && name != self.target && name != self.host;
        if elsewhere || !path.starts_with('/') {
            return None;
        }
        // A page that was asked for under the client's own name of the server may name it in full.
        let origin = if !name.is_empty() && name == self.host {
            let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}:") };
            format!("{scheme}//{host}")
        } else {
            String::new()
        };
        let path = if path.starts_with(&self.prefix) {
            path.to_owned()
        } else {
            let mut joined = clean(&format!("{}/{path}", self.prefix));
            if path.ends_with('/') && !joined.ends_with('/') {
                joined.push('/');
            }
            joined
        };
        let out = format!("{origin}{path}{query}{fragment}");
        (out != link).then_some(out)
    }
}

/// Cuts before the first `mark`, which stays with what follows.
fn cut<'a>(text: &'a str, mark: &str) -> (&'a str, &'a str) {
    text.split_at(text.find(mark).unwrap_or(text.len()))
}

/// The scheme, without its colon, and the rest.
fn scheme(text: &str) -> (&str, &str) {
    let Some((name, rest)) = text.split_once(':') else { return ("", text) };
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    let valid = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if first && valid { (name, rest) } else { ("", text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_links_lead_where() {
        let links = Links {
            prefix: "/api/v1/namespaces/d/pods/p:80/proxy".into(),
            target: "10.0.0.2:80".into(),
            host: "localhost:8001".into(),
        };
        for (link, want) in [
            ("/a", Some("/api/v1/namespaces/d/pods/p:80/proxy/a")),
            ("/a/", Some("/api/v1/namespaces/d/pods/p:80/proxy/a/")),
            ("/", Some("/api/v1/namespaces/d/pods/p:80/proxy/")),
            ("/a?q=/x#f", Some("/api/v1/namespaces/d/pods/p:80/proxy/a?q=/x#f")),
            ("/a/../b", Some("/api/v1/namespaces/d/pods/p:80/proxy/b")),
            ("a/b", None),
            ("?x=/y", None),
            ("#top", None),
            ("", None),
            ("mailto:/me", Some("/api/v1/namespaces/d/pods/p:80/proxy/me")),
            ("mailto:me@example.com", None),
            ("https://example.com/a", None),
            ("//example.com/a", None),
            ("http://10.0.0.2:80/a", Some("/api/v1/namespaces/d/pods/p:80/proxy/a")),
            ("http://localhost:8001/a", Some("http://localhost:8001/api/v1/namespaces/d/pods/p:80/proxy/a")),
            ("http://localhost:8001", None),
            ("/api/v1/namespaces/d/pods/p:80/proxy/a", None),
            ("/a\nb", None),
        ] {
            assert_eq!(links.rewrite(link).as_deref(), want, "{link}");
        }
    }
}
