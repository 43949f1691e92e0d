//! The load client: a fixed number of requests, each on its own socket, and who answered how many.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::http;

/// How a request travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A TCP connection of its own for every request.
    Tcp,
    /// A connected UDP socket for every request: `connect` then `send`.
    Udp,
    /// An unconnected UDP socket for every request: `sendto` then `recvfrom`.
    UdpUnconnected,
}

/// What to send, where and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Where to.
    pub target: SocketAddr,
    /// How.
    pub transport: Transport,
    /// Number of requests.
    pub requests: u64,
    /// Requests in flight at most.
    pub concurrency: u64,
    /// Requests begun per second; 0 for as fast as they go.
    pub rate: u64,
    /// Time a request may take before it counts as failed.
    pub timeout: Duration,
}

/// What came of it. Printed as one line of JSON.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Requests begun.
    pub sent: u64,
    /// Answers by the name of the pod that gave them.
    pub answered: BTreeMap<String, u64>,
    /// Requests without an answer.
    pub failed: u64,
    /// The failures by what went wrong.
    pub errors: BTreeMap<String, u64>,
    /// Sockets opened per tenth of a second of Unix time.
    pub timeline: BTreeMap<u64, u64>,
    /// Longest time to an answer, in milliseconds.
    pub slowest_ms: u64,
}

impl Outcome {
    /// Adds another worker's share.
    pub fn merge(&mut self, other: Outcome) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.slowest_ms = self.slowest_ms.max(other.slowest_ms);
        for (name, count) in other.answered {
            *self.answered.entry(name).or_default() += count;
        }
        for (what, count) in other.errors {
            *self.errors.entry(what).or_default() += count;
        }
        for (tenth, count) in other.timeline {
            *self.timeline.entry(tenth).or_default() += count;
        }
    }

    /// Sum of the answers over all pods.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.answered.values().sum()
    }
}

/// Runs a plan to its end.
#[must_use]
pub fn run(plan: &Plan) -> Outcome {
    let next = AtomicU64::new(0);
    let total = Mutex::new(Outcome::default());
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..plan.concurrency.max(1) {
            scope.spawn(|| {
                let share = worker(plan, &next, start);
                if let Ok(mut total) = total.lock() {
                    total.merge(share);
                }
            });
        }
    });
    total.into_inner().unwrap_or_default()
}

fn worker(plan: &Plan, next: &AtomicU64, start: Instant) -> Outcome {
    let mut share = Outcome::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.requests {
            return share;
        }
        if plan.rate > 0 {
            let due = start + Duration::from_secs_f64(number as f64 / plan.rate as f64);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let tenth = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64 / 100;
        *share.timeline.entry(tenth).or_default() += 1;
        share.sent += 1;
        let begun = Instant::now();
        match ask(plan) {
            Ok(name) => *share.answered.entry(name).or_default() += 1,
            Err(error) => {
                share.failed += 1;
                *share.errors.entry(error.to_string()).or_default() += 1;
            }
        }
        share.slowest_ms = share.slowest_ms.max(begun.elapsed().as_millis() as u64);
    }
}

fn ask(plan: &Plan) -> io::Result<String> {
    match plan.transport {
        Transport::Tcp => get(plan.target, "/", plan.timeout).and_then(|answer| match answer.status {
            200 => Ok(answer.body.trim_end().to_owned()),
            status => Err(io::Error::other(format!("status {status}"))),
        }),
        Transport::Udp | Transport::UdpUnconnected => ask_udp(plan),
    }
}

/// One GET on a connection of its own.
///
/// # Errors
/// Whatever connecting, sending or reading gave.
pub fn get(target: SocketAddr, path: &str, timeout: Duration) -> io::Result<http::Response> {
    let stream = TcpStream::connect_timeout(&target, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_nodelay(true)?;
    http::write_request(&mut &stream, &target.to_string(), path, false)?;
    http::read_response(&mut BufReader::new(&stream))
}

fn ask_udp(plan: &Plan) -> io::Result<String> {
    let any: SocketAddr = match plan.target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(plan.timeout))?;
    let mut answer = [0u8; 2048];
    let length = if plan.transport == Transport::Udp {
        socket.connect(plan.target)?;
        socket.send(b"who")?;
        socket.recv(&mut answer)?
    } else {
        socket.send_to(b"who", plan.target)?;
        let (length, from) = socket.recv_from(&mut answer)?;
        // A client must see the Service it asked, not the backend that answered.
        if from != plan.target {
            return Err(io::Error::other(format!("asked {}, answered by {from}", plan.target)));
        }
        length
    };
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::{self, State};

    fn server() -> SocketAddr {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).unwrap();
        thread::spawn(move || serve::run(&State::new("pod-a".into(), true), &tcp, udp));
        address
    }

    fn plan(target: SocketAddr, transport: Transport) -> Plan {
        Plan { target, transport, requests: 40, concurrency: 4, rate: 0, timeout: Duration::from_secs(5) }
    }

    #[test]
    fn every_request_is_counted_once() {
        let target = server();
        for transport in [Transport::Tcp, Transport::Udp, Transport::UdpUnconnected] {
            let outcome = run(&plan(target, transport));
            assert_eq!(outcome.answered, BTreeMap::from([("pod-a".to_owned(), 40)]), "{transport:?}");
            assert_eq!((outcome.sent, outcome.failed), (40, 0));
            assert_eq!(outcome.timeline.values().sum::<u64>(), 40);
        }
    }

    #[test]
    fn a_port_nobody_listens_on_fails_every_request() {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let outcome = run(&plan(unused, Transport::Tcp));
        assert_eq!((outcome.sent, outcome.failed, outcome.answers()), (40, 40, 0));
        assert_eq!(outcome.errors.values().sum::<u64>(), 40);
    }

    #[test]
    fn an_outcome_survives_its_own_json() {
        let outcome = run(&plan(server(), Transport::Tcp));
        let text = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
    }
}
