//! Exec, attach and port-forward: WebSocket (`v4` and `v5.channel.k8s.io`) to the API server, SPDY to the runtime.

use super::spdy::{self, Event};
use base64::Engine;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::io;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// v5 only: the byte after it names a channel whose sending side has ended.
const CLOSE: u8 = 255;

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error (never with a terminal).
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Picks the sub-protocol, best first; `None` for one that is not spoken here.
fn protocol(headers: &HeaderMap) -> Option<&'static str> {
    let asked: Vec<&str> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .collect();
    ["v5.channel.k8s.io", "v4.channel.k8s.io"].into_iter().find(|p| asked.contains(p))
}

/// Answers the handshake and hands the socket to `work`.
pub fn upgrade<F, W>(mut r: Request<Incoming>, work: F) -> Response<super::Body>
where
    F: FnOnce(Socket, bool) -> W + Send + 'static,
    W: Future<Output = ()> + Send,
{
    let is_ws = r
        .headers()
        .get(header::UPGRADE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.eq_ignore_ascii_case("websocket"));
    let key = r.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
    let (true, Some(key)) = (is_ws, key) else {
        return super::text(StatusCode::BAD_REQUEST, "a WebSocket upgrade is needed here\n");
    };
    let Some(p) = protocol(r.headers()) else {
        return super::text(StatusCode::BAD_REQUEST, "none of the offered sub-protocols is spoken here\n");
    };
    let mut hash = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = base64::engine::general_purpose::STANDARD.encode(hash.finish());
    let on = hyper::upgrade::on(&mut r);
    tokio::spawn(async move {
        match on.await {
            Ok(io) => {
                let config = WebSocketConfig::default().max_message_size(Some(16 << 20));
                let ws = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, Some(config)).await;
                work(ws, p.starts_with("v5")).await;
            }
            Err(error) => tracing::debug!(%error, "upgrade failed"),
        }
    });
    let mut out = super::text(StatusCode::SWITCHING_PROTOCOLS, "");
    let h = out.headers_mut();
    h.remove(header::CONTENT_TYPE);
    h.insert(header::UPGRADE, http::HeaderValue::from_static("websocket"));
    h.insert(header::CONNECTION, http::HeaderValue::from_static("Upgrade"));
    h.insert(header::SEC_WEBSOCKET_PROTOCOL, http::HeaderValue::from_static(p));
    if let Ok(v) = http::HeaderValue::from_str(&accept) {
        h.insert(header::SEC_WEBSOCKET_ACCEPT, v);
    }
    out
}

fn frame(channel: u8, data: &[u8]) -> Message {
    let mut out = Vec::with_capacity(data.len() + 1);
    out.push(channel);
    out.extend_from_slice(data);
    Message::Binary(Bytes::from(out))
}

fn failure(message: &str) -> Vec<u8> {
    serde_json::json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500, "message": message,
    })
    .to_string()
    .into_bytes()
}

/// Passes a command's or container's streams between the socket and the runtime's streaming URL.
pub async fn pass(mut ws: Socket, v5: bool, url: String, w: Wanted) {
    if let Err(error) = passing(&mut ws, v5, &url, w).await {
        tracing::debug!(%error, "stream ended");
        let _ = ws.send(frame(ERROR, &failure(&error.to_string()))).await;
    }
    end(&mut ws).await;
}

/// Ends a socket as clients expect: a close frame that says "normal", and time for theirs.
async fn end(ws: &mut Socket) {
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = ws.close(Some(frame)).await;
    let answer = async { while let Some(Ok(_)) = ws.next().await {} };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), answer).await;
}

async fn passing(ws: &mut Socket, v5: bool, url: &str, w: Wanted) -> io::Result<()> {
    let (mut out, mut input) = spdy::connect(url, "v4.channel.k8s.io").await?;
    let other = |e: tokio_tungstenite::tungstenite::Error| io::Error::other(e.to_string());
    // The other side answers once it has seen all streams it expects.
    let error = out.open(&[("streamtype", "error")]).await?;
    let stdin = if w.stdin { Some(out.open(&[("streamtype", "stdin")]).await?) } else { None };
    let stdout = if w.stdout { Some(out.open(&[("streamtype", "stdout")]).await?) } else { None };
    let stderr = if w.stderr && !w.tty { Some(out.open(&[("streamtype", "stderr")]).await?) } else { None };
    let resize = if w.tty { Some(out.open(&[("streamtype", "resize")]).await?) } else { None };
    let mut open: Vec<u32> = [Some(error), stdout, stderr].into_iter().flatten().collect();
    let mut status = Vec::new();
    let mut input_open = stdin.is_some();
    loop {
        tokio::select! {
            m = ws.next() => match m {
                Some(Ok(Message::Binary(b))) => match (b.first().copied(), b.get(1..)) {
                    (Some(STDIN), Some(data)) => if let Some(id) = stdin.filter(|_| input_open) {
                        for part in data.chunks(1 << 20) {
                            out.data(id, part, false).await?;
                        }
                    },
                    (Some(RESIZE), Some(data)) => if let Some(id) = resize { out.data(id, data, false).await?; },
                    (Some(CLOSE), Some([STDIN])) if v5 => if let Some(id) = stdin.filter(|_| input_open) {
                        input_open = false;
                        out.data(id, &[], true).await?;
                    },
                    _ => {}
                },
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(other(e)),
            },
            e = input.next() => {
                let (event, ping) = e?;
                out.reply(ping).await?;
                match event {
                    Some(Event::Data(id, data, fin)) => {
                        if id == error {
                            status.extend_from_slice(&data);
                        } else if !data.is_empty() {
                            let channel = if Some(id) == stdout { STDOUT } else { STDERR };
                            ws.send(frame(channel, &data)).await.map_err(other)?;
                        }
                        if fin {
                            open.retain(|o| *o != id);
                        }
                    }
                    Some(Event::Reset(id)) => open.retain(|o| *o != id),
                    Some(Event::End) => open.clear(),
                    None => {}
                }
                if open.is_empty() {
                    if !status.is_empty() {
                        ws.send(frame(ERROR, &status)).await.map_err(other)?;
                    }
                    return Ok(());
                }
            }
        }
    }
}

/// Forwards ports: channel `2i` carries data of port `i`, `2i + 1` its error; each begins with the port's number.
pub async fn forward(mut ws: Socket, netns: Option<PathBuf>, ports: Vec<u16>) {
    use std::collections::HashMap;
    let mut writers: HashMap<u8, tokio::net::tcp::OwnedWriteHalf> = HashMap::new();
    let (tx, mut rx) = tokio::sync::mpsc::channel::<(u8, Bytes)>(32);
    for (i, port) in ports.iter().enumerate().take(100) {
        let (data, error) = ((2 * i) as u8, (2 * i + 1) as u8);
        for ch in [data, error] {
            if ws.send(frame(ch, &port.to_le_bytes())).await.is_err() {
                return;
            }
        }
        match connect_in(netns.clone(), *port).await {
            Ok(s) => {
                let (mut r, w) = s.into_split();
                writers.insert(data, w);
                let tx = tx.clone();
                tokio::spawn(async move {
                    let mut buf = vec![0u8; 32 << 10];
                    while let Ok(n) = r.read(&mut buf).await {
                        let Some(part) = buf.get(..n).filter(|p| !p.is_empty()) else { break };
                        if tx.send((data, Bytes::copy_from_slice(part))).await.is_err() {
                            break;
                        }
                    }
                });
            }
            Err(e) => {
                let m = format!("failed to connect to localhost:{port} inside the pod: {e}");
                let _ = ws.send(frame(error, m.as_bytes())).await;
            }
        }
    }
    drop(tx);
    loop {
        tokio::select! {
            m = ws.next() => match m {
                Some(Ok(Message::Binary(b))) => {
                    if let (Some(ch), Some(data)) = (b.first(), b.get(1..))
                        && let Some(w) = writers.get_mut(ch)
                        && w.write_all(data).await.is_err() {
                        writers.remove(ch);
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
            d = rx.recv() => match d {
                Some((ch, data)) => if ws.send(frame(ch, &data)).await.is_err() { break },
                None => break,
            },
        }
    }
    end(&mut ws).await;
}

/// Connects to a port on localhost, in a network namespace if one is given.
async fn connect_in(netns: Option<PathBuf>, port: u16) -> io::Result<tokio::net::TcpStream> {
    let Some(ns) = netns else { return tokio::net::TcpStream::connect(("127.0.0.1", port)).await };
    let s = tokio::task::spawn_blocking(move || {
        crate::network::netns::within(&ns, move || {
            std::net::TcpStream::connect(("127.0.0.1", port))
                .or_else(|_| std::net::TcpStream::connect(("::1", port)))
        })
    })
    .await
    .map_err(io::Error::other)???;
    s.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(s)
}
