//! The sockets: datagrams and streams, each in bounded number.

use crate::handler::{Decision, Handler, Transport};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// So many connections may be open; who comes next is turned away.
const CONNECTIONS: usize = 512;
/// How long a connection may be silent, or take to receive an answer.
const IDLE: Duration = Duration::from_secs(10);
/// A socket that fails is tried again so much later.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers datagrams, for as long as the process lives. What the zone knows is answered at once; the number of questions
/// to others is bounded by the forwarder.
pub async fn datagrams(socket: UdpSocket, handler: Arc<Handler>) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An error that the network reports about an earlier answer comes up here too.
                tracing::debug!(%error, "datagram not received");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match handler.decide(&buffer[..length], peer, Transport::Udp) {
            Decision::Ignore => {}
            Decision::Send(answer) => send(&socket, &answer, peer).await,
            Decision::Ask(pending) => {
                let (socket, handler) = (socket.clone(), handler.clone());
                tokio::spawn(async move { send(&socket, &handler.finish(*pending).await, peer).await });
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(answer, peer).await {
        tracing::debug!(%peer, %error, "answer not sent");
    }
}

/// Answers connections, for as long as the process lives.
pub async fn streams(listener: TcpListener, handler: Arc<Handler>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "connection not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let handler = handler.clone();
        tokio::spawn(async move {
            if let Err(error) = converse(stream, peer, &handler).await {
                tracing::debug!(%peer, %error, "connection ends");
            }
            drop(slot);
        });
    }
}

/// Answers the questions of a connection, one after the other.
async fn converse(mut stream: TcpStream, peer: SocketAddr, handler: &Handler) -> io::Result<()> {
    let mut question = Vec::new();
    loop {
        let length = match timeout(IDLE, stream.read_u16()).await {
            Ok(Ok(length)) => usize::from(length),
            // The client is done, or has nothing to say.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        };
        question.resize(length, 0);
        timeout(IDLE, stream.read_exact(&mut question)).await??;
        let answer = match handler.decide(&question, peer, Transport::Tcp) {
            Decision::Ignore => return Ok(()),
            Decision::Send(answer) => answer,
            Decision::Ask(pending) => handler.finish(*pending).await,
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}
