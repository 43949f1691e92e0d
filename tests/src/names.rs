//! Questions to the cluster's DNS, over datagrams and connections, and what comes back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

/// Longest wait for one answer: longer than the server may take.
const PATIENCE: Duration = Duration::from_secs(6);

/// What a question got.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the name is there.
    pub code: ResponseCode,
    /// The data of the answers as text, sorted.
    pub data: Vec<String>,
}

fn question(name: &str, kind: RecordType) -> Result<(u16, Vec<u8>)> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name)?;
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    Ok((message.metadata.id, message.to_vec()?))
}

fn read(id: u16, bytes: &[u8]) -> Result<Answer> {
    let message = Message::from_vec(bytes)?;
    ensure!(message.metadata.id == id && !message.metadata.truncation, "not the answer: {message}");
    let mut data: Vec<String> = message.answers.iter().map(|record| record.data.to_string()).collect();
    data.sort();
    Ok(Answer { code: message.metadata.response_code, data })
}

/// Asks in a datagram.
///
/// # Errors
/// There is no answer, or one that does not fit a datagram.
pub fn over_udp(server: SocketAddr, name: &str, kind: RecordType) -> Result<Answer> {
    let (id, question) = question(name, kind)?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(&question)?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).with_context(|| format!("{name} of {server}, UDP"))?;
    read(id, &buffer[..length])
}

/// Asks on a connection.
///
/// # Errors
/// There is no answer.
pub fn over_tcp(server: SocketAddr, name: &str, kind: RecordType) -> Result<Answer> {
    let (id, question) = question(name, kind)?;
    let about = || format!("{name} of {server}, TCP");
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE).with_context(about)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[&u16::try_from(question.len())?.to_be_bytes()[..], &question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).with_context(about)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).with_context(about)?;
    read(id, &answer)
}
