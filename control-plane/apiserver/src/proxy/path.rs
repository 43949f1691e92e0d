//! The path of a proxied request: what leads to the proxy, and what goes on to the other side.

use crate::request::decode;

/// A request's path, cut in two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Up to and with `proxy`, as the client wrote it.
    pub(super) prefix: String,
    /// What follows, decoded, without `.`, `..` and empty segments; begins with a slash or is empty. A slash at the end of
    /// the request's path is one here.
    pub(super) inner: String,
}

impl Route {
    /// Cuts after so many segments: 7 below a namespaced object, 5 below another.
    pub(super) fn cut(path: &str, segments: usize) -> Route {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let at = segments.min(parts.len());
        let (lead, rest) = parts.split_at(at);
        let prefix = format!("/{}", lead.join("/"));
        let decoded: Vec<String> = rest.iter().map(|part| decode(part)).collect();
        let mut inner = if rest.is_empty() { String::new() } else { clean(&decoded.join("/")) };
        if path.ends_with('/') && !inner.ends_with('/') {
            inner.push('/');
        }
        Route { prefix, inner }
    }

    /// The path for a request's first line.
    pub(super) fn line(&self) -> String {
        if self.inner.is_empty() { "/".to_owned() } else { encode(&self.inner) }
    }
}

/// A path from the root without `.`, `..` and empty segments, and without a slash at its end.
pub(super) fn clean(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    format!("/{}", out.join("/"))
}

/// Percent-encodes what may not stand in a path, by the rules of Go's `net/url`.
pub(super) fn encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte);
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cut() {
        for (path, segments, prefix, inner, line) in [
            ("/api/v1/nodes/n/proxy", 5, "/api/v1/nodes/n/proxy", "", "/"),
            ("/api/v1/nodes/n/proxy/", 5, "/api/v1/nodes/n/proxy", "/", "/"),
            ("/api/v1/nodes/n:10250/proxy/logs/", 5, "/api/v1/nodes/n:10250/proxy", "/logs/", "/logs/"),
            ("/api/v1/namespaces/d/pods/p/proxy/a/b", 7, "/api/v1/namespaces/d/pods/p/proxy", "/a/b", "/a/b"),
            ("/api/v1/nodes/n/proxy/a//b/../c/.", 5, "/api/v1/nodes/n/proxy", "/a/c", "/a/c"),
            ("/api/v1/nodes/n/proxy/../../x", 5, "/api/v1/nodes/n/proxy", "/x", "/x"),
            ("/api/v1/nodes/n/proxy/%2e%2e/a%20b%3F", 5, "/api/v1/nodes/n/proxy", "/a b?", "/a%20b%3F"),
            ("/api/v1/nodes/n/proxy/a:b@c,d!", 5, "/api/v1/nodes/n/proxy", "/a:b@c,d!", "/a:b@c,d%21"),
        ] {
            let route = Route::cut(path, segments);
            assert_eq!((route.prefix.as_str(), route.inner.as_str()), (prefix, inner), "{path}");
            assert_eq!(route.line(), line, "{path}");
        }
    }
}
