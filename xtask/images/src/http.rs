//! As much of HTTP/1.1 as a demo server and its client need: heads, lengths, persistent connections.

use std::io::{self, BufRead, Read, Write};

/// Longest head or body either side takes, in bytes; a peer that sends more is cut off.
const LIMIT: u64 = 64 * 1024;

/// A request's line, and whether the connection stays open after it.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST` …
    pub method: String,
    /// Path with query, as sent.
    pub path: String,
    /// Whether the client wants to send another request on this connection.
    pub keep_alive: bool,
}

/// A response's status and body.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Body as text.
    pub body: String,
}

struct Head {
    first: String,
    length: u64,
    close: bool,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads a head; `None` when the peer closed before the first byte of one.
fn read_head(from: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut limited = from.take(LIMIT);
    let mut line = String::new();
    if limited.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut head = Head { first: line.trim_end().to_owned(), length: 0, close: false };
    loop {
        line.clear();
        if limited.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let field = line.trim_end();
        if field.is_empty() {
            return Ok(Some(head));
        }
        let (name, value) = field.split_once(':').ok_or_else(|| bad("header without a colon"))?;
        if name.eq_ignore_ascii_case("content-length") {
            head.length = value.trim().parse().map_err(|_| bad("content-length is not a number"))?;
        } else if name.eq_ignore_ascii_case("connection") {
            head.close = value.trim().eq_ignore_ascii_case("close");
        }
    }
}

fn read_body(from: &mut impl BufRead, length: u64) -> io::Result<String> {
    if length > LIMIT {
        return Err(bad("body too long"));
    }
    let mut body = String::new();
    from.take(length).read_to_string(&mut body)?;
    if body.len() as u64 == length { Ok(body) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Reads one request and drops its body; `None` when the client closed between requests.
///
/// # Errors
/// I/O errors, and `InvalidData` for what is not HTTP/1.
pub fn read_request(from: &mut impl BufRead) -> io::Result<Option<Request>> {
    let Some(head) = read_head(from)? else { return Ok(None) };
    let mut words = head.first.split(' ');
    let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(bad("request line"));
    };
    read_body(from, head.length)?;
    let keep_alive = version == "HTTP/1.1" && !head.close;
    Ok(Some(Request { method: method.to_owned(), path: path.to_owned(), keep_alive }))
}

/// Writes a response with a text body in one piece.
///
/// # Errors
/// I/O errors.
pub fn write_response(to: &mut impl Write, status: u16, body: &str, keep_alive: bool) -> io::Result<()> {
    let reason = if status < 400 { "OK" } else { "Error" };
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let text = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
        body.len()
    );
    to.write_all(text.as_bytes())
}

/// Writes a request without a body in one piece.
///
/// # Errors
/// I/O errors.
pub fn write_request(to: &mut impl Write, host: &str, path: &str, keep_alive: bool) -> io::Result<()> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    to.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n").as_bytes(),
    )
}

/// Reads one response.
///
/// # Errors
/// I/O errors, a connection closed early, and `InvalidData` for what is not HTTP/1.
pub fn read_response(from: &mut impl BufRead) -> io::Result<Response> {
    let head = read_head(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let status =
        head.first.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| bad("status line"))?;
    Ok(Response { status, body: read_body(from, head.length)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let mut wire = Vec::new();
        write_request(&mut wire, "demo", "/a?b", true).unwrap();
        write_request(&mut wire, "demo", "/c", false).unwrap();
        let mut from = wire.as_slice();
        let first = read_request(&mut from).unwrap().unwrap();
        assert_eq!(first, Request { method: "GET".into(), path: "/a?b".into(), keep_alive: true });
        assert!(!read_request(&mut from).unwrap().unwrap().keep_alive);
        assert_eq!(read_request(&mut from).unwrap(), None);

        let mut wire = Vec::new();
        write_response(&mut wire, 503, "pod-a\n", false).unwrap();
        let answer = read_response(&mut wire.as_slice()).unwrap();
        assert_eq!(answer, Response { status: 503, body: "pod-a\n".into() });
    }

    #[test]
    fn an_answer_cut_short_is_an_error() {
        let mut wire = Vec::new();
        write_response(&mut wire, 200, "pod-a\n", false).unwrap();
        wire.truncate(wire.len() - 1);
        assert_eq!(read_response(&mut wire.as_slice()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(read_response(&mut b"".as_slice()).is_err());
        assert!(read_request(&mut b"GET\r\n\r\n".as_slice()).is_err());
    }
}
