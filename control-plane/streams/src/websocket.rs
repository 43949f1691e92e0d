//! The server's side of WebSocket (RFC 6455): the handshake, and a socket on the connection that hyper gives up.

use base64::Engine;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Request};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

pub use tokio_tungstenite::tungstenite::{Error, Message};

/// A socket.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Largest message that is taken, in bytes.
const MESSAGE: usize = 16 << 20;
/// How long the other side may take to answer a farewell.
const FAREWELL: Duration = Duration::from_secs(2);

/// A handshake that can be answered.
pub struct Handshake {
    answer: HeaderMap,
    upgrade: OnUpgrade,
}

impl Handshake {
    /// Reads a client's handshake, to be answered with this sub-protocol; none where it is not whole.
    pub fn new<B>(request: &mut Request<B>, protocol: Option<&str>) -> Option<Self> {
        if !crate::upgrade::is_websocket(request.headers()) {
            return None;
        }
        let key = request.headers().get(SEC_WEBSOCKET_KEY)?;
        let mut hash = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
        hash.update(key.as_bytes());
        hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let accept = base64::engine::general_purpose::STANDARD.encode(hash.finish());
        let mut answer = HeaderMap::new();
        answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
        answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        answer.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).ok()?);
        if let Some(protocol) = protocol {
            answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(protocol).ok()?);
        }
        Some(Handshake { answer, upgrade: hyper::upgrade::on(request) })
    }

    /// The headers of the answer, which has the status 101.
    pub fn headers(&self) -> &HeaderMap {
        &self.answer
    }

    /// The socket, once the answer has been sent.
    ///
    /// # Errors
    /// When the connection was not given up.
    pub async fn socket(self) -> io::Result<Socket> {
        let upgraded = self.upgrade.await.map_err(io::Error::other)?;
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE));
        Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await)
    }
}

/// What goes wrong with a socket, as an I/O error.
pub fn io_error(why: Error) -> io::Error {
    match why {
        Error::Io(why) => why,
        other => io::Error::other(other.to_string()),
    }
}

/// Ends a socket as clients expect: a close frame that says "normal", and time for theirs.
pub async fn end(mut socket: Socket) {
    use futures::StreamExt;
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = socket.close(Some(frame)).await;
    let answer = async { while let Some(Ok(_)) = socket.next().await {} };
    let _ = tokio::time::timeout(FAREWELL, answer).await;
}
