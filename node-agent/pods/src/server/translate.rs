//! A command's streams: `v5.channel.k8s.io` of WebSocket to the client, SPDY to the runtime. Both directions run by
//! themselves, so that a command which waits for its output to be read does not stop what is still being written to it.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use skep_streams::spdy::{Event, Reader, Writer};
use skep_streams::websocket::{self, Message, Socket, io_error};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// The byte after it names a channel whose sending side has ended.
const CLOSE: u8 = 255;
/// Largest status that is taken of the runtime, in bytes.
const STATUS: usize = 64 << 10;

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

/// The streams' numbers on the runtime's side.
#[derive(Debug, Clone, Copy)]
struct Ids {
    error: u32,
    stdin: Option<u32>,
    stdout: Option<u32>,
    stderr: Option<u32>,
    resize: Option<u32>,
}

fn frame(channel: u8, data: &[u8]) -> Message {
    let mut out = Vec::with_capacity(data.len() + 1);
    out.push(channel);
    out.extend_from_slice(data);
    Message::Binary(Bytes::from(out))
}

fn failure(message: &str) -> Vec<u8> {
    serde_json::json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": format!("Internal error occurred: {message}"),
    })
    .to_string()
    .into_bytes()
}

/// Passes a command's or container's streams between a socket and the runtime until either side has ended.
pub async fn streams(socket: Socket, far: impl AsyncRead + AsyncWrite, wanted: Wanted) {
    let (reader, writer) = tokio::io::split(far);
    let (mut reader, mut writer) = (Reader::new(reader), Writer::new(writer));
    let (mut sink, mut source) = socket.split();
    let status = async {
        let ids = open(&mut writer, wanted).await?;
        let (pongs, mut asked) = mpsc::channel(1);
        let there = async {
            match forward(&mut source, &mut writer, ids, &mut asked).await {
                Ok(()) => Ok(None),
                // The runtime takes no more; what it has said until then is still to be told.
                Err(why) => {
                    tracing::debug!(%why, "a stream's input ended");
                    std::future::pending::<io::Result<Option<Vec<u8>>>>().await
                }
            }
        };
        let back = async { backward(&mut reader, &mut sink, ids, &pongs).await.map(Some) };
        tokio::select! {
            ended = there => ended,
            ended = back => ended,
        }
    }
    .await;
    let last = match status {
        // The client has gone.
        Ok(None) => None,
        Ok(Some(status)) if !status.is_empty() => Some(status),
        Ok(Some(_)) => Some(failure("the runtime did not say how the command ended")),
        Err(why) => Some(failure(&why.to_string())),
    };
    if let Some(status) = last {
        let _ = sink.send(frame(ERROR, &status)).await;
    }
    if let Ok(socket) = sink.reunite(source) {
        websocket::end(socket).await;
    }
}

/// Opens the streams; the runtime begins once it has seen all that it expects.
async fn open<W: AsyncWrite + Unpin>(writer: &mut Writer<W>, wanted: Wanted) -> io::Result<Ids> {
    async fn one<W: AsyncWrite + Unpin>(
        writer: &mut Writer<W>,
        name: &str,
        wanted: bool,
    ) -> io::Result<Option<u32>> {
        if !wanted {
            return Ok(None);
        }
        writer.open(&[("streamtype", name)]).await.map(Some)
    }
    Ok(Ids {
        error: writer.open(&[("streamtype", "error")]).await?,
        stdin: one(writer, "stdin", wanted.stdin).await?,
        stdout: one(writer, "stdout", wanted.stdout).await?,
        stderr: one(writer, "stderr", wanted.stderr && !wanted.tty).await?,
        resize: one(writer, "resize", wanted.tty).await?,
    })
}

/// From the client to the runtime; done when the client has gone.
///
/// # Errors
/// Those of the runtime's connection.
async fn forward<W: AsyncWrite + Unpin>(
    source: &mut (impl StreamExt<Item = Result<Message, websocket::Error>> + Unpin),
    writer: &mut Writer<W>,
    ids: Ids,
    pongs: &mut mpsc::Receiver<u32>,
) -> io::Result<()> {
    let mut stdin = ids.stdin;
    loop {
        let message = tokio::select! {
            message = source.next() => message,
            Some(number) = pongs.recv() => {
                writer.pong(number).await?;
                continue;
            }
        };
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
            Some(Ok(_)) => continue,
        };
        match (bytes.first().copied(), bytes.get(1..).unwrap_or_default()) {
            (Some(STDIN), data) => {
                if let Some(id) = stdin {
                    writer.data(id, data, false).await?;
                }
            }
            (Some(RESIZE), data) => {
                if let Some(id) = ids.resize {
                    writer.data(id, data, false).await?;
                }
            }
            (Some(CLOSE), [STDIN]) => {
                if let Some(id) = stdin.take() {
                    writer.data(id, &[], true).await?;
                }
            }
            _ => {}
        }
    }
}

/// From the runtime to the client, until all streams have ended; answers the status.
///
/// # Errors
/// Those of either connection.
async fn backward<R: AsyncRead + Unpin>(
    reader: &mut Reader<R>,
    sink: &mut (impl SinkExt<Message, Error = websocket::Error> + Unpin),
    ids: Ids,
    pongs: &mpsc::Sender<u32>,
) -> io::Result<Vec<u8>> {
    let mut open: Vec<u32> = [Some(ids.error), ids.stdout, ids.stderr].into_iter().flatten().collect();
    let mut status = Vec::new();
    while !open.is_empty() {
        match reader.next().await? {
            Some(Event::Data { id, data, last }) => {
                if id == ids.error {
                    let room = STATUS - status.len();
                    status.extend_from_slice(data.get(..data.len().min(room)).unwrap_or_default());
                } else if !data.is_empty() {
                    let channel = if Some(id) == ids.stderr { STDERR } else { STDOUT };
                    sink.send(frame(channel, &data)).await.map_err(io_error)?;
                }
                if last {
                    open.retain(|one| *one != id);
                }
            }
            Some(Event::Reset(id)) => open.retain(|one| *one != id),
            // Even numbers are the other side's questions; one answer that is waiting to go out will do.
            Some(Event::Ping(number)) if number % 2 == 0 => {
                let _ = pongs.try_send(number);
            }
            Some(Event::Ping(_)) => {}
            Some(Event::GoAway) | None => break,
        }
    }
    Ok(status)
}

#[cfg(test)]
#[path = "translate_tests.rs"]
mod tests;
