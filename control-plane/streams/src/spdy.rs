//! The client's side of SPDY/3.1, as the runtime's streaming server speaks it: open streams, data both ways, half-close.
//!
//! The codec is pure; [`Writer`] and [`Reader`] are thin shells around the halves of a connection.
//!
//! Header blocks go out as stored (uncompressed) deflate blocks, which every zlib reader takes; those that come in say
//! nothing that is needed and are passed over. Flow control is that of the connection: the library on the other side neither
//! counts windows nor sends `WINDOW_UPDATE`, so that whoever waited for one would wait for ever.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest control frame that is taken, in bytes. Data comes in pieces and needs no bound.
const CONTROL: usize = 64 << 10;
/// Largest data frame that is sent, in bytes.
const DATA: usize = 32 << 10;
const FIN: u8 = 1;
const VERSION: u16 = 0x8003;

/// The bytes are no SPDY.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpdyError {
    /// A control frame larger than any that makes sense.
    #[error("a control frame of {0} bytes")]
    TooLong(usize),
    /// A control frame of another version.
    #[error("SPDY version {0}")]
    Version(u16),
    /// A control frame shorter than its type needs.
    #[error("a control frame of type {0} that is too short")]
    TooShort(u16),
}

impl From<SpdyError> for io::Error {
    fn from(why: SpdyError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, why)
    }
}

/// What the other side says.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A piece of data on a stream (may be empty), and whether the other side has ended the stream with it.
    Data {
        /// The stream.
        id: u32,
        /// The bytes.
        data: Bytes,
        /// Nothing more comes on this stream.
        last: bool,
    },
    /// A stream is gone, both ways.
    Reset(u32),
    /// A question for a sign of life, to be answered with its number.
    Ping(u32),
    /// The other side takes no more streams.
    GoAway,
}

/// Takes frames off a growing buffer. Holds at most one control frame; data passes through in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    /// The data frame that is being passed on: stream, whether it is the last, bytes that are to come.
    data: Option<(u32, bool, usize)>,
}

impl Decoder {
    /// Where received bytes are appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next event; none until more bytes have come.
    ///
    /// # Errors
    /// When the bytes are no SPDY; the connection is then of no more use.
    pub fn event(&mut self) -> Result<Option<Event>, SpdyError> {
        loop {
            if let Some((id, fin, left)) = self.data.take() {
                if left > 0 && self.buffer.is_empty() {
                    self.data = Some((id, fin, left));
                    return Ok(None);
                }
                let data = self.buffer.split_to(left.min(self.buffer.len())).freeze();
                let left = left - data.len();
                if left > 0 {
                    self.data = Some((id, fin, left));
                }
                return Ok(Some(Event::Data { id, data, last: fin && left == 0 }));
            }
            let mut head: &[u8] = &self.buffer;
            if head.len() < 8 {
                return Ok(None);
            }
            let first = head.get_u32();
            let second = head.get_u32();
            let (flags, length) = ((second >> 24) as u8, (second & 0x00ff_ffff) as usize);
            if first & 0x8000_0000 == 0 {
                self.buffer.advance(8);
                self.data = Some((first, flags & FIN != 0, length));
                continue;
            }
            let (version, kind) = ((first >> 16) as u16, first as u16);
            if version != VERSION {
                return Err(SpdyError::Version(version & 0x7fff));
            }
            if length > CONTROL {
                return Err(SpdyError::TooLong(length));
            }
            if self.buffer.len() < 8 + length {
                return Ok(None);
            }
            self.buffer.advance(8);
            let body = self.buffer.split_to(length);
            if let Some(event) = control(kind, flags, &body)? {
                return Ok(Some(event));
            }
        }
    }
}

/// What a control frame says; none for those that need no answer (`SETTINGS`, `WINDOW_UPDATE`, …).
fn control(kind: u16, flags: u8, mut body: &[u8]) -> Result<Option<Event>, SpdyError> {
    const REPLY: u16 = 2;
    const RESET: u16 = 3;
    const PING: u16 = 6;
    const GO_AWAY: u16 = 7;
    const HEADERS: u16 = 8;
    let mut number = || if body.len() < 4 { Err(SpdyError::TooShort(kind)) } else { Ok(body.get_u32()) };
    Ok(match kind {
        REPLY | HEADERS => {
            let id = number()? & 0x7fff_ffff;
            (flags & FIN != 0).then(|| Event::Data { id, data: Bytes::new(), last: true })
        }
        RESET => Some(Event::Reset(number()? & 0x7fff_ffff)),
        PING => Some(Event::Ping(number()?)),
        GO_AWAY => Some(Event::GoAway),
        _ => None,
    })
}

/// Makes the frames of one connection.
#[derive(Debug)]
pub struct Encoder {
    /// Whether the header stream, one for all frames of the connection, has begun.
    begun: bool,
    next: u32,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder { begun: false, next: 1 }
    }
}

impl Encoder {
    /// A header block in stored form. The first of a connection carries the zlib header; each ends with an empty block,
    /// which makes the reader hand out what it has.
    fn header_block(&mut self, headers: &[(&str, &str)]) -> Bytes {
        let mut raw = BytesMut::new();
        raw.put_u32(headers.len() as u32);
        for (name, value) in headers {
            for text in [name, value] {
                raw.put_u32(text.len() as u32);
                raw.put_slice(text.as_bytes());
            }
        }
        let mut out = BytesMut::new();
        if !self.begun {
            self.begun = true;
            out.put_slice(&[0x78, 0x01]);
        }
        for part in raw.chunks(0xffff) {
            let length = part.len() as u16;
            out.put_u8(0);
            out.put_u16_le(length);
            out.put_u16_le(!length);
            out.put_slice(part);
        }
        out.put_slice(&[0, 0, 0, 0xff, 0xff]);
        out.freeze()
    }

    /// Opens a stream: its number and the frame.
    pub fn open(&mut self, headers: &[(&str, &str)]) -> (u32, Bytes) {
        let id = self.next;
        self.next += 2;
        let block = self.header_block(headers);
        let mut out = BytesMut::with_capacity(18 + block.len());
        control_head(&mut out, 1, 10 + block.len());
        out.put_u32(id);
        out.put_u32(0);
        out.put_u16(0);
        out.put_slice(&block);
        (id, out.freeze())
    }
}

fn control_head(out: &mut BytesMut, kind: u16, length: usize) {
    out.put_u16(VERSION);
    out.put_u16(kind);
    out.put_u32(length as u32);
}

fn data_head(id: u32, length: usize, last: bool) -> [u8; 8] {
    let flags = if last { u32::from(FIN) << 24 } else { 0 };
    let mut out = [0; 8];
    out[..4].copy_from_slice(&(id & 0x7fff_ffff).to_be_bytes());
    out[4..].copy_from_slice(&(flags | length as u32).to_be_bytes());
    out
}

/// The sending half of a connection.
pub struct Writer<W> {
    io: W,
    encoder: Encoder,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Sends on `io`, on which nothing has been sent yet.
    pub fn new(io: W) -> Self {
        Writer { io, encoder: Encoder::default() }
    }

    /// Opens a stream with these headers; answers its number.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn open(&mut self, headers: &[(&str, &str)]) -> io::Result<u32> {
        let (id, frame) = self.encoder.open(headers);
        self.io.write_all(&frame).await?;
        self.io.flush().await?;
        Ok(id)
    }

    /// Sends data on a stream, in frames of at most 32 KiB; with `last` the stream's sending side ends.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn data(&mut self, id: u32, data: &[u8], last: bool) -> io::Result<()> {
        let count = data.len().div_ceil(DATA).max(usize::from(last));
        for index in 0..count {
            let from = index * DATA;
            let part = data.get(from..data.len().min(from + DATA)).unwrap_or_default();
            self.io.write_all(&data_head(id, part.len(), last && index + 1 == count)).await?;
            self.io.write_all(part).await?;
        }
        self.io.flush().await
    }

    /// Answers a [`Event::Ping`].
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn pong(&mut self, number: u32) -> io::Result<()> {
        let mut out = BytesMut::with_capacity(12);
        control_head(&mut out, 6, 4);
        out.put_u32(number);
        self.io.write_all(&out).await?;
        self.io.flush().await
    }
}

/// The receiving half of a connection.
pub struct Reader<R> {
    io: R,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Receives from `io`.
    pub fn new(io: R) -> Self {
        Reader { io, decoder: Decoder::default() }
    }

    /// The next event; none when the connection has ended. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// Those of the connection, and bytes that are no SPDY.
    pub async fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(event) = self.decoder.event()? {
                return Ok(Some(event));
            }
            self.decoder.buffer().reserve(16 << 10);
            if self.io.read_buf(self.decoder.buffer()).await? == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn decode(bytes: &[u8], step: usize) -> Result<Vec<Event>, SpdyError> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for part in bytes.chunks(step) {
            decoder.buffer().put_slice(part);
            while let Some(event) = decoder.event()? {
                out.push(event);
            }
            assert!(decoder.buffer().len() <= CONTROL + 8, "more is held than a control frame");
        }
        Ok(out)
    }

    fn control_frame(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        out.put_u16(VERSION);
        out.put_u16(kind);
        out.put_u32((u32::from(flags) << 24) | body.len() as u32);
        out.put_slice(body);
        out.to_vec()
    }

    #[test]
    fn frames_come_in_whatever_pieces() {
        let mut bytes = data_head(5, 3, true).to_vec();
        bytes.extend(b"abc");
        bytes.extend(control_frame(4, 0, &[0; 12])); // SETTINGS
        bytes.extend(control_frame(6, 0, &[0, 0, 0, 2]));
        bytes.extend(control_frame(2, 0, &[0, 0, 0, 1]));
        bytes.extend(control_frame(9, 0, &[0; 8])); // WINDOW_UPDATE
        bytes.extend(control_frame(3, 0, &[0, 0, 0, 7, 0, 0, 0, 5]));
        bytes.extend(control_frame(2, FIN, &[0, 0, 0, 3]));
        bytes.extend(data_head(9, 0, true));
        bytes.extend(control_frame(7, 0, &[0; 8]));
        let end = |id| Event::Data { id, data: Bytes::new(), last: true };
        let whole = decode(&bytes, bytes.len()).unwrap();
        let abc = Event::Data { id: 5, data: Bytes::from_static(b"abc"), last: true };
        let rest = [Event::Ping(2), Event::Reset(7), end(3), end(9), Event::GoAway];
        assert_eq!(whole[0], abc);
        assert_eq!(whole[1..], rest);
        let single = decode(&bytes, 1).unwrap();
        let (pieces, others) = single.split_at(3);
        assert!(
            pieces
                .iter()
                .zip(b"abc")
                .all(|(e, b)| matches!(e, Event::Data { id: 5, data, .. } if **data == [*b]))
        );
        assert!(matches!(
            pieces,
            [
                Event::Data { last: false, .. },
                Event::Data { last: false, .. },
                Event::Data { last: true, .. }
            ]
        ));
        assert_eq!(others, rest);
    }

    #[test]
    fn what_is_no_spdy() {
        assert_eq!(decode(b"HTTP/1.1 200 OK\r\n\r\n", 99).unwrap().len(), 1, "looks like data of a stream");
        assert_eq!(decode(&[0x80, 2, 0, 1, 0, 0, 0, 0], 8), Err(SpdyError::Version(2)));
        assert_eq!(decode(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff], 8), Err(SpdyError::TooLong(0xff_ffff)));
        assert_eq!(decode(&[0x80, 3, 0, 3, 0, 0, 0, 2, 0, 0], 10), Err(SpdyError::TooShort(3)));
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_pile_up() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut decoded = 0;
        for round in 0..2000 {
            let mut bytes: Vec<u8> = (0..next() % 300).map(|_| next() as u8).collect();
            if round % 2 == 0 && bytes.len() > 8 {
                // A plausible head, so that bodies are reached too.
                bytes[..6].copy_from_slice(&[0x80, 3, 0, (next() % 12) as u8, (next() % 2) as u8, 0]);
                bytes[6] = 0;
            }
            decoded += decode(&bytes, 1 + (next() % 64) as usize).map_or(0, |events| events.len());
        }
        assert!(decoded > 1000, "{decoded}");
    }

    #[test]
    fn header_blocks_are_one_zlib_stream() {
        let mut encoder = Encoder::default();
        let (first, one) = encoder.open(&[("streamtype", "error")]);
        let (second, two) = encoder.open(&[("streamtype", "data"), ("port", "80")]);
        assert_eq!((first, second), (1, 3));
        assert_eq!(&one[..8], &[0x80, 3, 0, 1, 0, 0, 0, (one.len() - 8) as u8]);
        let stream: Vec<u8> = [&one[18..], &two[18..]].concat();
        let mut plain = vec![0; 4 + 4 + 10 + 4 + 5];
        let mut inflated = flate2::read::ZlibDecoder::new(&stream[..]);
        inflated.read_exact(&mut plain).unwrap();
        assert_eq!(&plain[..8], &[0, 0, 0, 1, 0, 0, 0, 10]);
        assert_eq!(&plain[8..18], b"streamtype");
        let mut count = [0; 4];
        inflated.read_exact(&mut count).unwrap();
        assert_eq!(count, [0, 0, 0, 2]);
    }

    #[tokio::test]
    async fn data_goes_out_in_frames_and_ends_once() {
        let mut sent = Vec::new();
        let mut writer = Writer::new(&mut sent);
        writer.data(3, &vec![1; DATA + 5], false).await.unwrap();
        writer.data(3, &[], false).await.unwrap();
        writer.data(3, &[], true).await.unwrap();
        writer.pong(2).await.unwrap();
        let events = decode(&sent, sent.len()).unwrap();
        let sizes: Vec<(usize, bool)> = events
            .iter()
            .filter_map(|e| match e {
                Event::Data { id: 3, data, last } => Some((data.len(), *last)),
                _ => None,
            })
            .collect();
        assert_eq!(sizes, [(DATA, false), (5, false), (0, true)]);
        assert_eq!(events.last(), Some(&Event::Ping(2)));
    }
}
