//! Which headers pass a proxy.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use skep_streams::upgrade::values;
use std::net::IpAddr;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Removes what concerns one connection alone (RFC 9110, 7.6.1).
pub(super) fn end_to_end(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = values(headers, &CONNECTION).filter_map(|name| name.parse().ok()).collect();
    let own = [HeaderName::from_static("proxy-connection"), HeaderName::from_static("keep-alive")];
    let known =
        [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    for name in named.into_iter().chain(own).chain(known) {
        headers.remove(name);
    }
}

/// The headers a client's request goes on with: not its credentials, which were for this server.
fn without_credentials(headers: &HeaderMap) -> HeaderMap {
    let mut out = headers.clone();
    out.remove(AUTHORIZATION);
    let impersonation: Vec<HeaderName> =
        out.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in impersonation {
        out.remove(name);
    }
    // This server has answered that already, or will when the body is read.
    out.remove(EXPECT);
    out
}

fn forwarded_for(headers: &mut HeaderMap, client: Option<IpAddr>) {
    let Some(client) = client else { return };
    let before: Vec<&str> = values(headers, &FORWARDED_FOR).collect();
    let all = [before.as_slice(), &[client.to_string().as_str()]].concat().join(", ");
    if let Ok(value) = HeaderValue::from_str(&all) {
        headers.insert(FORWARDED_FOR, value);
    }
}

fn named(headers: &mut HeaderMap, host: &str) {
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.insert(HOST, host);
    }
}

/// The headers of a request that goes on. `host`: what the client named the server; `uri`: where the client finds what is
/// asked for, for applications that make links.
pub(super) fn request(headers: &HeaderMap, host: &str, client: Option<IpAddr>, uri: &str) -> HeaderMap {
    let mut out = without_credentials(headers);
    end_to_end(&mut out);
    forwarded_for(&mut out, client);
    if let Ok(uri) = HeaderValue::from_str(uri) {
        out.insert(FORWARDED_URI, uri);
    }
    named(&mut out, host);
    out
}

/// The headers of an upgrade that goes on.
pub(super) fn upgrade(headers: &HeaderMap, host: &str, client: Option<IpAddr>) -> HeaderMap {
    let mut out = without_credentials(headers);
    out.remove(CONTENT_LENGTH);
    out.remove(TRANSFER_ENCODING);
    forwarded_for(&mut out, client);
    named(&mut out, host);
    out
}

/// Makes the headers of an answer those of the proxy's: those of the connection go, and what the other side allows to other
/// origins, which it must not for this server.
pub(super) fn response(headers: &mut HeaderMap) {
    end_to_end(headers);
    for name in ["credentials", "headers", "methods", "origin"] {
        headers.remove(format!("access-control-allow-{name}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut out = HeaderMap::new();
        for (name, value) in pairs {
            out.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        out
    }

    #[test]
    fn what_goes_on() {
        let from = headers(&[
            ("host", "server:6443"),
            ("authorization", "Bearer secret"),
            ("impersonate-user", "x"),
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("x-forwarded-for", "10.0.0.9"),
            ("accept", "text/html"),
        ]);
        let got = request(&from, "server:6443", Some("192.0.2.1".parse().unwrap()), "/api/x");
        let mut told: Vec<String> =
            got.iter().map(|(k, v)| format!("{k}: {}", v.to_str().unwrap())).collect();
        told.sort();
        assert_eq!(
            told,
            [
                "accept: text/html",
                "host: server:6443",
                "x-forwarded-for: 10.0.0.9, 192.0.2.1",
                "x-forwarded-uri: /api/x"
            ]
        );
    }

    #[test]
    fn an_upgrade_keeps_what_it_is_about() {
        let from = headers(&[
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("content-length", "0"),
            ("authorization", "x"),
        ]);
        let got = upgrade(&from, "h", None);
        assert_eq!(got.len(), 4);
        assert!(got.contains_key("upgrade") && got.contains_key("x-stream-protocol-version"));
    }

    #[test]
    fn what_comes_back() {
        let mut got = headers(&[
            ("access-control-allow-origin", "*"),
            ("access-control-max-age", "3"),
            ("keep-alive", "5"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
        ]);
        response(&mut got);
        assert_eq!(
            got,
            headers(&[("access-control-max-age", "3"), ("set-cookie", "a"), ("set-cookie", "b")])
        );
    }
}
