//! A server of names on loopback, another one for it to ask, and clients.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use hickory_net::client::{Client, ClientHandle};
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use skep_dns::access::Access;
use skep_dns::core::{Domain, Zone, objects};
use skep_dns::forward::Forwarder;
use skep_dns::handler::Handler;
use skep_dns::metrics::Metrics;
use skep_dns::serve;
use skep_dns::upstream::{Named, Upstreams};
use skep_dns::view::View;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Longest wait for an answer.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

/// A cluster with a Service, one with very many endpoints, and aliases to another server's names.
pub fn zone() -> Zone {
    let mut zone = Zone::default();
    zone.set_namespace("default", true);
    let mut put = |name: &str, json: &str| {
        let json = format!("{{\"spec\": {json}}}");
        zone.set_service("default", name, objects::service(json.as_bytes()).unwrap());
    };
    put("web", r#"{"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}"#);
    put("many", r#"{"clusterIP": "None"}"#);
    put("ext", r#"{"type": "ExternalName", "externalName": "a.example"}"#);
    put("dead", r#"{"type": "ExternalName", "externalName": "silent.example"}"#);
    let endpoints: Vec<String> =
        (0..100).map(|n| format!(r#"{{"addresses": ["10.244.1.{n}"], "hostname": "pod-{n}"}}"#)).collect();
    let slice = format!(
        r#"{{"metadata": {{"labels": {{"kubernetes.io/service-name": "many"}}}}, "ports": [{{"name": "http", "port": 80}}],
            "endpoints": [{}]}}"#,
        endpoints.join(",")
    );
    zone.set_slice("default", "many-1", objects::slice(slice.as_bytes()).unwrap());
    zone
}

pub struct Server {
    pub at: SocketAddr,
    pub handler: Arc<Handler>,
    _dir: tempfile::TempDir,
}

/// Two sockets of one number.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

/// A server that answers from `zone` and asks `upstreams`.
pub async fn server(zone: Option<Zone>, upstreams: Vec<SocketAddr>) -> Server {
    server_with(zone, |_| upstreams).await
}

pub async fn server_with(
    zone: Option<Zone>,
    upstreams: impl FnOnce(SocketAddr) -> Vec<SocketAddr>,
) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let view = View::open(dir.path());
    if let Some(zone) = zone {
        view.publish(zone);
    }
    let (udp, tcp) = sockets().await;
    let at = udp.local_addr().unwrap();
    let metrics = Arc::new(Metrics::default());
    let others = Upstreams::new(Named::Here(upstreams(at)), Vec::new());
    let handler = Arc::new(Handler {
        access: Access::new(vec![("10.244.0.0".parse().unwrap(), 16)]),
        domain: Domain::new("cluster.local").unwrap(),
        view: Arc::new(view),
        forwarder: Forwarder::new(others, 1 << 20, metrics.clone()),
        metrics,
        turn: AtomicUsize::new(0),
    });
    tokio::spawn(serve::datagrams(udp, handler.clone()));
    tokio::spawn(serve::streams(tcp, handler.clone()));
    Server { at, handler, _dir: dir }
}

/// Another server: `a.example` has an address, `gone.example` is not there, `big.example` does not fit a datagram,
/// `silent.example` gets no answer, all else fails.
#[derive(Clone)]
pub struct Other {
    pub at: SocketAddr,
    asked: Arc<Mutex<HashMap<(String, &'static str), usize>>>,
}

impl Other {
    pub async fn start() -> Self {
        let (udp, tcp) = sockets().await;
        let other = Other { at: udp.local_addr().unwrap(), asked: Arc::default() };
        let this = other.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let Ok((length, peer)) = udp.recv_from(&mut buffer).await else { return };
                if let Some(answer) = this.answer(&buffer[..length], "udp") {
                    udp.send_to(&answer, peer).await.unwrap();
                }
            }
        });
        let this = other.clone();
        tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = tcp.accept().await else { return };
                let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut question).await.unwrap();
                if let Some(answer) = this.answer(&question, "tcp") {
                    stream.write_u16(answer.len() as u16).await.unwrap();
                    stream.write_all(&answer).await.unwrap();
                }
            }
        });
        other
    }

    /// How often a name was asked for.
    pub fn asked(&self, name: &str, over: &'static str) -> usize {
        self.asked.lock().unwrap().get(&(name.to_owned(), over)).copied().unwrap_or(0)
    }

    fn answer(&self, question: &[u8], over: &'static str) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).unwrap();
        let query = question.queries[0].clone();
        let text = query.name().to_string().to_ascii_lowercase();
        *self.asked.lock().unwrap().entry((text.clone(), over)).or_default() += 1;
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        let soa = SOA::new(name("ns.example"), name("h.example"), 1, 1, 1, 1, 300);
        let authority = Record::from_rdata(name("example"), 600, RData::SOA(soa));
        let record =
            |n: u8| Record::from_rdata(query.name().clone(), 60, RData::from(IpAddr::from([192, 0, 2, n])));
        match (text.as_str(), over) {
            ("a.example.", _) if query.query_type() == RecordType::A => drop(answer.add_answer(record(1))),
            ("a.example.", _) => drop(answer.add_authority(authority)),
            ("gone.example.", _) => {
                answer.metadata.response_code = ResponseCode::NXDomain;
                answer.add_authority(authority);
            }
            ("big.example.", "udp") => answer.metadata.truncation = true,
            ("big.example.", _) => drop(answer.add_answers((0..200).map(record))),
            ("silent.example.", _) => return None,
            _ => answer.metadata.response_code = ResponseCode::ServFail,
        }
        Some(answer.to_vec().unwrap())
    }
}

/// Asks over UDP as hickory's client does.
pub async fn over_udp(at: SocketAddr, text: &str, kind: RecordType) -> Message {
    let connection =
        UdpClientStream::builder(at, TokioRuntimeProvider::default()).with_timeout(Some(PATIENCE)).build();
    let (mut client, background) = Client::<TokioRuntimeProvider>::from_sender(connection);
    tokio::spawn(background);
    client.query(name(text), DNSClass::IN, kind).await.unwrap().into_message()
}

/// Asks over TCP as hickory's client does.
pub async fn over_tcp(at: SocketAddr, text: &str, kind: RecordType) -> Message {
    let (stream, sender) = TcpClientStream::new(at, None, Some(PATIENCE), TokioRuntimeProvider::default());
    let (mut client, background) =
        Client::<TokioRuntimeProvider>::with_timeout(stream.await.unwrap(), sender, PATIENCE);
    tokio::spawn(background);
    client.query(name(text), DNSClass::IN, kind).await.unwrap().into_message()
}

/// A question in bytes, with the size of datagrams that the client takes, where it says so.
pub fn question(text: &str, kind: RecordType, payload: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

/// Sends bytes over UDP and gives the bytes that come back.
pub async fn datagram(at: SocketAddr, question: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(question, at).await.unwrap();
    let mut buffer = vec![0; 65_536];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    buffer.truncate(length);
    buffer
}

/// Sends several questions on one connection at once and gives the answers.
pub async fn pipelined(at: SocketAddr, questions: &[Vec<u8>]) -> Vec<Message> {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let mut bytes = Vec::new();
    for question in questions {
        bytes.extend_from_slice(&(question.len() as u16).to_be_bytes());
        bytes.extend_from_slice(question);
    }
    stream.write_all(&bytes).await.unwrap();
    let mut out = Vec::new();
    for _ in questions {
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        out.push(Message::from_vec(&answer).unwrap());
    }
    out
}

pub fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().filter_map(|record| record.data.ip_addr()).map(|ip| ip.to_string()).collect()
}
