//! The little of SPDY/3.1 that the runtime's streaming endpoint needs of a client: open streams, send and receive
//! data, half-close. Unlike WebSocket v4 it can say that standard input has ended.
//!
//! Header blocks go out as stored (uncompressed) deflate blocks; those that come in are not needed and not read.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// What the other side says.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Data on a stream, and whether the stream has ended with it.
    Data(u32, Bytes, bool),
    /// A stream was reset.
    Reset(u32),
    /// The other side is done.
    End,
}

/// Sending side.
#[derive(Debug)]
pub struct Writer {
    io: OwnedWriteHalf,
    opened: bool,
    next: u32,
}

/// Receiving side.
#[derive(Debug)]
pub struct Reader {
    io: OwnedReadHalf,
    buf: BytesMut,
}

/// Largest frame taken.
const FRAME: usize = 16 << 20;
const FIN: u8 = 1;

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Connects to a streaming URL (`http://host:port/path`) with a sub-protocol.
pub async fn connect(url: &str, protocol: &str) -> io::Result<(Writer, Reader)> {
    let uri: http::Uri = url.parse().map_err(|_| invalid("streaming URL"))?;
    let host = uri.host().ok_or_else(|| invalid("streaming URL without host"))?;
    let port = uri.port_u16().unwrap_or(80);
    let mut io = TcpStream::connect((host, port)).await?;
    io.set_nodelay(true)?;
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n"
    );
    io.write_all(request.as_bytes()).await?;
    let mut buf = BytesMut::with_capacity(4096);
    let end = loop {
        if let Some(at) = buf.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if buf.len() > 64 << 10 || io.read_buf(&mut buf).await? == 0 {
            return Err(invalid("no answer from the streaming endpoint"));
        }
    };
    let head = buf.split_to(end);
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default();
    if line.split_whitespace().nth(1) != Some("101") {
        return Err(invalid(format!("the streaming endpoint answered {line:?}")));
    }
    let (r, w) = io.into_split();
    Ok((Writer { io: w, opened: false, next: 1 }, Reader { io: r, buf }))
}

/// A header block in stored form. The first of a connection carries the zlib header; each ends with an empty block,
/// which makes the reader hand out what it has.
fn header_block(headers: &[(&str, &str)], first: bool) -> Bytes {
    let mut raw = BytesMut::new();
    raw.put_u32(headers.len() as u32);
    for (k, v) in headers {
        for s in [k, v] {
            raw.put_u32(s.len() as u32);
            raw.put_slice(s.as_bytes());
        }
    }
    let mut out = BytesMut::new();
    if first {
        out.put_slice(&[0x78, 0x01]);
    }
    for part in raw.chunks(0xffff) {
        let n = part.len() as u16;
        out.put_u8(0);
        out.put_u16_le(n);
        out.put_u16_le(!n);
        out.put_slice(part);
    }
    out.put_slice(&[0, 0, 0, 0xff, 0xff]);
    out.freeze()
}

impl Writer {
    /// Opens a stream with these headers; answers its number.
    pub async fn open(&mut self, headers: &[(&str, &str)]) -> io::Result<u32> {
        let id = self.next;
        self.next += 2;
        let block = header_block(headers, !self.opened);
        self.opened = true;
        let mut f = BytesMut::new();
        f.put_u16(0x8003);
        f.put_u16(1);
        f.put_u32(10 + block.len() as u32);
        f.put_u32(id);
        f.put_u32(0);
        f.put_u16(0);
        f.put_slice(&block);
        self.io.write_all(&f).await?;
        Ok(id)
    }

    /// Sends data on a stream, the last if `fin`.
    pub async fn data(&mut self, id: u32, data: &[u8], fin: bool) -> io::Result<()> {
        let mut f = BytesMut::with_capacity(8 + data.len());
        f.put_u32(id & 0x7fff_ffff);
        f.put_u32((u32::from(if fin { FIN } else { 0 }) << 24) | (data.len() as u32 & 0x00ff_ffff));
        f.put_slice(data);
        self.io.write_all(&f).await
    }

    /// Answers a ping.
    async fn pong(&mut self, id: u32) -> io::Result<()> {
        let mut f = BytesMut::new();
        f.put_u16(0x8003);
        f.put_u16(6);
        f.put_u32(4);
        f.put_u32(id);
        self.io.write_all(&f).await
    }

    /// Carries out what a received frame asks of the sender.
    pub async fn reply(&mut self, ping: Option<u32>) -> io::Result<()> {
        match ping {
            Some(id) if id % 2 == 0 => self.pong(id).await,
            _ => Ok(()),
        }
    }
}

impl Reader {
    /// The next event; pings come back as their number beside `None`. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<(Option<Event>, Option<u32>)> {
        loop {
            if let Some(e) = parse(&mut self.buf)? {
                return Ok(e);
            }
            if self.io.read_buf(&mut self.buf).await? == 0 {
                return Ok((Some(Event::End), None));
            }
        }
    }
}

/// Takes one frame off the buffer; `None` while it is not whole.
#[allow(clippy::type_complexity)]
fn parse(buf: &mut BytesMut) -> io::Result<Option<(Option<Event>, Option<u32>)>> {
    loop {
        let mut head: &[u8] = buf;
        if head.len() < 8 {
            return Ok(None);
        }
        let first = head.get_u32();
        let second = head.get_u32();
        let (flags, len) = ((second >> 24) as u8, (second & 0x00ff_ffff) as usize);
        if len > FRAME {
            return Err(invalid("frame too long"));
        }
        if buf.len() < 8 + len {
            buf.reserve(8 + len - buf.len());
            return Ok(None);
        }
        buf.advance(8);
        let mut body = buf.split_to(len).freeze();
        if first & 0x8000_0000 == 0 {
            return Ok(Some((Some(Event::Data(first, body, flags & FIN != 0)), None)));
        }
        match first & 0xffff {
            3 if len >= 8 => return Ok(Some((Some(Event::Reset(body.get_u32())), None))),
            2 if flags & FIN != 0 && len >= 4 => {
                return Ok(Some((Some(Event::Data(body.get_u32(), Bytes::new(), true)), None)));
            }
            6 if len >= 4 => return Ok(Some((None, Some(body.get_u32())))),
            7 => return Ok(Some((Some(Event::End), None))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole() {
        let mut b = BytesMut::new();
        b.put_u32(5);
        b.put_u32((1 << 24) | 3);
        b.put_slice(b"ab");
        assert!(parse(&mut b).unwrap().is_none());
        b.put_slice(b"c");
        let (e, _) = parse(&mut b).unwrap().unwrap();
        assert_eq!(e, Some(Event::Data(5, Bytes::from_static(b"abc"), true)));
        b.put_slice(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2]);
        assert_eq!(parse(&mut b).unwrap().unwrap(), (None, Some(2)));
        b.put_slice(&[0x80, 3, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        assert!(parse(&mut b).unwrap().is_none(), "16 MiB less one is still a frame");
    }

    #[test]
    fn header_blocks_are_stored_deflate() {
        let b = header_block(&[("a", "b")], true);
        assert_eq!(&b[..2], &[0x78, 0x01]);
        assert_eq!(&b[2..7], &[0, 14, 0, 241, 255]);
        assert_eq!(&b[b.len() - 5..], &[0, 0, 0, 0xff, 0xff]);
    }
}
