//! Exec, attach and port-forward: an upgrade of the client meets one of the runtime's streaming server.
//!
//! What the runtime speaks itself (SPDY, and WebSocket up to `v4.channel.k8s.io`) is passed on as bytes. What it does not,
//! is translated to SPDY here: `v5.channel.k8s.io`, and SPDY within WebSocket.

use super::translate::{self, Wanted};
use super::{Body, text};
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use skep_streams::splice::splice;
use skep_streams::upgrade::{self, SPDY, STREAM_PROTOCOL};
use skep_streams::websocket::{self, Handshake, Message, Socket, io_error};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sub-protocol of WebSocket that can end standard input.
const V5: &str = "v5.channel.k8s.io";
/// SPDY's protocol for a command's streams: the last one.
const V4: &str = "v4.channel.k8s.io";
/// Largest error text that is read of the runtime.
const ERROR_TEXT: usize = 64 << 10;
/// Bytes of SPDY that are put into one WebSocket message at most.
const TUNNEL: usize = 32 << 10;

/// What a stream carries.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// The streams of a command or container.
    Command(Wanted),
    /// Connections to ports.
    Ports,
}

/// How a client's upgrade is met.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// The runtime speaks this itself.
    Bytes,
    /// A command's streams over WebSocket, to SPDY.
    Translate,
    /// SPDY within WebSocket.
    Tunnel {
        /// The sub-protocol the client is answered with.
        outer: String,
        /// SPDY's own.
        inner: String,
    },
}

impl Way {
    /// None where no upgrade is asked for.
    fn of(headers: &HeaderMap, ports: bool) -> Option<Way> {
        if !upgrade::is_upgrade(headers) {
            return None;
        }
        if !upgrade::is_websocket(headers) {
            return Some(Way::Bytes);
        }
        let offered = upgrade::offered(headers);
        Some(match upgrade::tunnelled(&offered) {
            Some((outer, inner)) if ports => Way::Tunnel { outer: outer.to_owned(), inner: inner.to_owned() },
            _ if !ports && offered.contains(&V5) => Way::Translate,
            _ => Way::Bytes,
        })
    }
}

/// Serves a client's upgrade by the runtime's streaming `url`.
pub async fn serve(mut request: Request<Incoming>, url: &str, kind: Kind) -> Response<Body> {
    let ports = matches!(kind, Kind::Ports);
    let Some(way) = Way::of(request.headers(), ports) else {
        return text(StatusCode::BAD_REQUEST, "Upgrade request required\n");
    };
    let (method, headers) = match &way {
        Way::Bytes => (request.method().clone(), request.headers().clone()),
        Way::Translate => (Method::POST, spdy(V4)),
        Way::Tunnel { inner, .. } => (Method::POST, spdy(inner)),
    };
    let mut answer = match ask(url, method, headers).await {
        Ok(answer) => answer,
        Err(why) => {
            let why = format!("the runtime's streaming server does not answer: {why}\n");
            return text(StatusCode::INTERNAL_SERVER_ERROR, &why);
        }
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return refusal(answer).await;
    }
    let far = hyper::upgrade::on(&mut answer);
    let protocol = match &way {
        Way::Bytes => {
            let near = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let both = futures::future::try_join(near, far).await.map_err(io::Error::other);
                let spliced = match both {
                    Ok((near, far)) => splice(TokioIo::new(near), TokioIo::new(far)).await,
                    Err(why) => Err(why),
                };
                if let Err(why) = spliced {
                    tracing::debug!(%why, "a stream ended");
                }
            });
            return switching(answer.headers());
        }
        Way::Translate => V5,
        Way::Tunnel { outer, .. } => outer,
    };
    let Some(handshake) = Handshake::new(&mut request, Some(protocol)) else {
        return text(StatusCode::BAD_REQUEST, "the WebSocket handshake is not whole\n");
    };
    let response = switching(handshake.headers());
    tokio::spawn(async move {
        let met =
            futures::future::try_join(handshake.socket(), async { far.await.map_err(io::Error::other) });
        match (met.await, kind) {
            (Ok((socket, far)), Kind::Command(wanted)) => {
                translate::streams(socket, TokioIo::new(far), wanted).await
            }
            (Ok((socket, far)), Kind::Ports) => tunnel(socket, far).await,
            (Err(why), _) => tracing::debug!(%why, "an upgrade failed"),
        }
    });
    response
}

/// The headers of an upgrade to SPDY.
fn spdy(protocol: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
    if let Ok(protocol) = HeaderValue::from_str(protocol) {
        headers.insert(STREAM_PROTOCOL, protocol);
    }
    headers
}

/// Sends an upgrade to a streaming URL (`http://host:port/path`).
async fn ask(url: &str, method: Method, headers: HeaderMap) -> io::Result<Response<Incoming>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let uri: http::Uri = url.parse().map_err(|_| bad("not a URL"))?;
    let host = uri.host().ok_or_else(|| bad("a URL without a host"))?;
    let port = uri.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(why) = connection.with_upgrades().await {
            tracing::debug!(%why, "a connection to the runtime ended");
        }
    });
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request =
        Request::builder().method(method).uri(path).body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    *request.headers_mut() = headers;
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        request.headers_mut().remove(name);
    }
    let authority = uri.authority().map_or(host, |a| a.as_str());
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority).map_err(io::Error::other)?);
    sender.send_request(request).await.map_err(io::Error::other)
}

/// What the runtime answers instead of an upgrade.
async fn refusal(answer: Response<Incoming>) -> Response<Body> {
    let code = answer.status();
    let code = if code.is_success() { StatusCode::BAD_GATEWAY } else { code };
    match Limited::new(answer.into_body(), ERROR_TEXT).collect().await {
        Ok(body) => text(code, &String::from_utf8_lossy(&body.to_bytes())),
        Err(why) => text(code, &why.to_string()),
    }
}

/// 101, with the headers of an answer that concern the upgrade.
fn switching(from: &HeaderMap) -> Response<Body> {
    let mut out = text(StatusCode::SWITCHING_PROTOCOLS, "");
    out.headers_mut().clear();
    let concern = |name: &HeaderName| {
        *name == CONNECTION
            || *name == UPGRADE
            || *name == STREAM_PROTOCOL
            || *name == SEC_WEBSOCKET_PROTOCOL
            || name.as_str().starts_with("sec-websocket-")
    };
    for (name, value) in from.iter().filter(|(name, _)| concern(name)) {
        out.headers_mut().append(name.clone(), value.clone());
    }
    out
}

/// SPDY within WebSocket: the bytes of binary messages are those of the connection, wherever they are cut.
async fn tunnel(socket: Socket, far: Upgraded) {
    let (mut reader, mut writer) = tokio::io::split(TokioIo::new(far));
    let (mut sink, mut source) = socket.split();
    let there = async {
        while let Some(message) = source.next().await {
            match message.map_err(io_error)? {
                Message::Binary(bytes) => {
                    writer.write_all(&bytes).await?;
                    writer.flush().await?;
                }
                Message::Close(_) => break,
                Message::Text(_) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "text within a tunnel"));
                }
                _ => {}
            }
        }
        writer.shutdown().await
    };
    let back = async {
        let mut buffer = vec![0; TUNNEL];
        loop {
            let read = reader.read(&mut buffer).await?;
            let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { return Ok(()) };
            sink.send(Message::Binary(Bytes::copy_from_slice(part))).await.map_err(io_error)?;
        }
    };
    let ended: io::Result<()> = tokio::select! {
        ended = there => ended,
        ended = back => ended,
    };
    if let Err(why) = ended {
        tracing::debug!(%why, "a tunnel ended");
    }
    if let Ok(socket) = sink.reunite(source) {
        websocket::end(socket).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn how_upgrades_are_met() {
        let of = |upgrade: &'static str, protocols: &'static str, ports: bool| {
            let pairs =
                [("connection", "Upgrade"), ("upgrade", upgrade), ("sec-websocket-protocol", protocols)];
            Way::of(&headers(&pairs), ports)
        };
        assert_eq!(Way::of(&headers(&[]), false), None);
        assert_eq!(of("SPDY/3.1", "", false), Some(Way::Bytes));
        assert_eq!(of("websocket", "channel.k8s.io", false), Some(Way::Bytes));
        assert_eq!(of("websocket", "v4.channel.k8s.io, v5.channel.k8s.io", false), Some(Way::Translate));
        assert_eq!(of("websocket", "v4.channel.k8s.io", true), Some(Way::Bytes));
        let tunnel =
            Way::Tunnel { outer: "SPDY/3.1+portforward.k8s.io".into(), inner: "portforward.k8s.io".into() };
        assert_eq!(of("websocket", "SPDY/3.1+portforward.k8s.io", true), Some(tunnel));
        assert_eq!(of("websocket", "SPDY/3.1+portforward.k8s.io", false), Some(Way::Bytes));
    }

    #[test]
    fn only_what_concerns_the_upgrade_is_answered() {
        let from = headers(&[
            ("upgrade", "SPDY/3.1"),
            ("connection", "Upgrade"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("sec-websocket-accept", "x"),
            ("date", "now"),
        ]);
        let answer = switching(&from);
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers().len(), 4);
    }
}
