//! Questions to other servers, with a cache before them.

use crate::core::cache::{self, Cache, Key};
use crate::metrics::Metrics;
use crate::upstream::Upstreams;
use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long one server has for an answer before another is asked.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long a client is kept waiting altogether: less than its own patience, which is five seconds.
const ALTOGETHER: Duration = Duration::from_millis(4500);
/// So many servers are asked for one question, or one of them so many times.
const TRIES: usize = 3;
/// So many questions may be under way at a time.
const AT_ONCE: usize = 1000;
/// The largest datagram we ask for: one that needs no fragments.
const PAYLOAD: u16 = 1232;

/// Flags of a question that others must know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Recursion.
    pub recursion: bool,
    /// Signatures along with the records.
    pub dnssec: bool,
    /// No check of signatures.
    pub unchecked: bool,
    /// Whether the answer was checked.
    pub authentic: bool,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Too many questions are under way.
    #[error("too many questions are under way")]
    Busy,
    /// There is nobody to ask.
    #[error("there is no server to ask")]
    Nobody,
    /// Nobody answered in time.
    #[error("no server answered")]
    Silence,
}

/// Asks others.
pub struct Forwarder {
    upstreams: Upstreams,
    cache: Mutex<Cache>,
    began: Instant,
    slots: Semaphore,
    /// Local ports from which questions are under way: one that comes in from there has gone in a circle.
    ports: Mutex<HashSet<u16>>,
    metrics: Arc<Metrics>,
}

struct UnderWay<'a>(&'a Mutex<HashSet<u16>>, u16);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Forwarder {
    /// A forwarder with a cache of so many bytes.
    pub fn new(upstreams: Upstreams, cache: usize, metrics: Arc<Metrics>) -> Self {
        Forwarder {
            upstreams,
            cache: Mutex::new(Cache::new(cache)),
            began: Instant::now(),
            slots: Semaphore::new(AT_ONCE),
            ports: Mutex::default(),
            metrics,
        }
    }

    /// How many answers are kept.
    pub fn kept(&self) -> usize {
        self.cache.lock().len()
    }

    /// Whether a question under way was sent from this port of ours.
    pub fn is_ours(&self, port: u16) -> bool {
        self.ports.lock().contains(&port)
    }

    fn key(query: &Query, wish: Wish) -> Key {
        let name = query.name().to_lowercase();
        Key { name, kind: query.query_type(), dnssec: wish.dnssec, unchecked: wish.unchecked }
    }

    /// The answer that is kept, with what is left of its time.
    pub fn recall(&self, query: &Query, wish: Wish) -> Option<Message> {
        let found = self.cache.lock().get(&Self::key(query, wish), self.began.elapsed());
        let (bytes, age) = found?;
        let mut message = Message::from_vec(&bytes).ok()?;
        cache::age(&mut message, age);
        self.metrics.count(&self.metrics.hits);
        Some(message)
    }

    /// Asks others, who have not been asked lately.
    ///
    /// # Errors
    /// Nobody answers in time.
    pub async fn ask(&self, query: &Query, wish: Wish) -> Result<Message, Failure> {
        let Ok(_slot) = self.slots.try_acquire() else {
            self.metrics.count(&self.metrics.overloaded);
            return Err(Failure::Busy);
        };
        self.metrics.count(&self.metrics.misses);
        let answer = self.ask_in_turn(query, wish).await;
        match &answer {
            Ok(message) => self.keep(query, wish, message),
            Err(_) => self.metrics.count(&self.metrics.unanswered),
        }
        answer
    }

    fn keep(&self, query: &Query, wish: Wish, message: &Message) {
        if let Some(seconds) = cache::lifetime(message)
            && let Ok(bytes) = message.to_vec()
        {
            self.cache.lock().put(Self::key(query, wish), bytes.into(), seconds, self.began.elapsed());
        }
    }

    async fn ask_in_turn(&self, query: &Query, wish: Wish) -> Result<Message, Failure> {
        let servers = self.upstreams.in_order();
        if servers.is_empty() {
            return Err(Failure::Nobody);
        }
        let ends = Instant::now() + ALTOGETHER;
        let mut refusal = None;
        for (place, server) in servers.iter().cycle().take(TRIES.max(servers.len())) {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match timeout(left.min(PATIENCE), self.exchange(*server, query, wish)).await {
                Ok(Ok(message)) => {
                    let code = message.metadata.response_code;
                    if matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
                        self.upstreams.answered(*place);
                        return Ok(message);
                    }
                    tracing::debug!(%server, %code, name = %query.name(), "a server cannot answer");
                    refusal = Some(message);
                    // Who cannot answer will not at the second time.
                    if servers.len() == 1 {
                        break;
                    }
                }
                Ok(Err(error)) => {
                    tracing::debug!(%server, %error, name = %query.name(), "a server does not answer");
                }
                Err(_) => tracing::debug!(%server, name = %query.name(), "a server is silent"),
            }
        }
        refusal.ok_or(Failure::Silence)
    }

    async fn exchange(&self, server: SocketAddr, query: &Query, wish: Wish) -> io::Result<Message> {
        let mut request = Message::query();
        request.metadata.recursion_desired = wish.recursion;
        request.metadata.checking_disabled = wish.unchecked;
        request.metadata.authentic_data = wish.authentic;
        request.add_query(query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD).set_dnssec_ok(wish.dnssec);
        request.set_edns(edns);
        let bytes = request.to_vec().map_err(|_| invalid("the question cannot be written"))?;
        let answers = |bytes: &[u8]| {
            let message = Message::from_vec(bytes).ok()?;
            let meta = &message.metadata;
            let same = message
                .queries
                .first()
                .is_none_or(|asked| asked.name() == query.name() && asked.query_type() == query.query_type());
            let ours = meta.id == request.metadata.id && meta.message_type == MessageType::Response && same;
            ours.then_some(message)
        };
        let mut message = self.over_udp(server, &bytes, answers).await?;
        if message.metadata.truncation {
            message = self.over_tcp(server, &bytes, answers).await?;
        }
        message.edns = None;
        message.signature = None;
        Ok(message)
    }

    async fn over_udp(
        &self,
        server: SocketAddr,
        request: &[u8],
        answers: impl Fn(&[u8]) -> Option<Message>,
    ) -> io::Result<Message> {
        let any = match server {
            SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        };
        // A socket a question: its port is half of what a forger would have to guess.
        let socket = UdpSocket::bind(any).await?;
        socket.connect(server).await?;
        let port = socket.local_addr()?.port();
        self.ports.lock().insert(port);
        let _under_way = UnderWay(&self.ports, port);
        socket.send(request).await?;
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if let Some(message) = answers(&buffer[..length]) {
                return Ok(message);
            }
        }
    }

    async fn over_tcp(
        &self,
        server: SocketAddr,
        request: &[u8],
        answers: impl Fn(&[u8]) -> Option<Message>,
    ) -> io::Result<Message> {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(request.len()).map_err(|_| invalid("the question is too long"))?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(request);
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut buffer = vec![0; usize::from(length)];
        stream.read_exact(&mut buffer).await?;
        answers(&buffer).ok_or_else(|| invalid("an answer to something else"))
    }
}
