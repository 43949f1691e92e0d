//! What an upgrade asks for.

use http::HeaderMap;
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_PROTOCOL, UPGRADE};

/// The header in which SPDY clients list the protocols they speak within.
pub const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// The name of SPDY in `Upgrade`.
pub const SPDY: &str = "SPDY/3.1";
/// Prefix of WebSocket sub-protocols that carry SPDY (KEP-4006).
const TUNNEL: &str = "SPDY/3.1+";

/// Whether a request asks for its connection to become another: the `Connection` header names `upgrade`.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    values(headers, &CONNECTION).any(|v| v.eq_ignore_ascii_case("upgrade"))
}

/// Whether it asks for WebSocket.
pub fn is_websocket(headers: &HeaderMap) -> bool {
    is_upgrade(headers) && values(headers, &UPGRADE).any(|v| v.eq_ignore_ascii_case("websocket"))
}

/// The members of a header that is a list.
pub fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let all = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
    all.flat_map(|v| v.split(',')).map(str::trim).filter(|v| !v.is_empty())
}

/// The WebSocket sub-protocols a client offers, in its order.
pub fn offered(headers: &HeaderMap) -> Vec<&str> {
    values(headers, &SEC_WEBSOCKET_PROTOCOL).collect()
}

/// A sub-protocol that is SPDY within WebSocket, as `(sub-protocol, SPDY's own protocol)`.
pub fn tunnelled<'a>(offered: &[&'a str]) -> Option<(&'a str, &'a str)> {
    let within = |p: &&'a str| {
        let inner = p.strip_prefix(TUNNEL)?;
        inner.ends_with(".k8s.io").then_some((*p, inner))
    };
    offered.iter().find_map(within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut out = HeaderMap::new();
        for (name, value) in pairs {
            out.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        out
    }

    #[test]
    fn which_requests_ask_for_what() {
        assert!(!is_upgrade(&headers(&[("upgrade", "websocket")])));
        assert!(is_upgrade(&headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "SPDY/3.1")])));
        assert!(!is_websocket(&headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")])));
        assert!(is_websocket(&headers(&[("connection", "upgrade"), ("upgrade", "WebSocket")])));
    }

    #[test]
    fn protocols_in_several_headers() {
        let headers = headers(&[
            ("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io"),
            ("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io"),
        ]);
        let offered = offered(&headers);
        assert_eq!(offered, ["v5.channel.k8s.io", "v4.channel.k8s.io", "SPDY/3.1+portforward.k8s.io"]);
        assert_eq!(tunnelled(&offered), Some(("SPDY/3.1+portforward.k8s.io", "portforward.k8s.io")));
        assert_eq!(tunnelled(&["SPDY/3.1+evil", "v4.channel.k8s.io"]), None);
    }
}
