//! The load client: a fixed number of requests, each on its own socket or on kept ones, and who answered how many.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{http, resolve};

/// How a request travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A TCP connection of its own for every request.
    Tcp,
    /// A connected UDP socket for every request: `connect` then `send`.
    Udp,
    /// An unconnected UDP socket for every request: `sendto` then `recvfrom`.
    UdpUnconnected,
    /// No request at all: the target's name is looked up, and its addresses are the answer.
    Name,
}

/// What to send, where and how fast.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to.
    pub target: SocketAddr,
    /// The name that [`Transport::Name`] looks up.
    pub name: String,
    /// What is asked: a path over HTTP, the same as text over UDP.
    pub path: String,
    /// Whether each of the concurrent clients keeps one socket for all its requests.
    pub keep: bool,
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
    let mut kept = None;
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
        match ask(plan, &mut kept) {
            Ok(name) => *share.answered.entry(name).or_default() += 1,
            Err(error) => {
                kept = None;
                share.failed += 1;
                *share.errors.entry(error.to_string()).or_default() += 1;
            }
        }
        share.slowest_ms = share.slowest_ms.max(begun.elapsed().as_millis() as u64);
    }
}

/// A socket that a client keeps.
enum Kept {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

fn ask(plan: &Plan, kept: &mut Option<Kept>) -> io::Result<String> {
    match plan.transport {
        Transport::Name => resolve::addresses(&plan.name).map(|found| {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            found.join(" ")
        }),
        Transport::Tcp => {
            let stream = match kept.take() {
                Some(Kept::Tcp(stream)) => stream,
                _ => connect(plan.target, plan.timeout)?,
            };
            let answer = exchange(&stream, plan.target, &plan.path, plan.keep)?;
            *kept = plan.keep.then_some(Kept::Tcp(stream));
            match answer.status {
                200 => Ok(answer.body.trim_end().to_owned()),
                status => Err(io::Error::other(format!("status {status}"))),
            }
        }
        Transport::Udp | Transport::UdpUnconnected => {
            let socket = match kept.take() {
                Some(Kept::Udp(socket)) => socket,
                _ => udp(plan)?,
            };
            let answer = ask_udp(plan, &socket)?;
            *kept = plan.keep.then_some(Kept::Udp(socket));
            Ok(answer)
        }
    }
}

fn connect(target: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn exchange(
    mut stream: &TcpStream,
    target: SocketAddr,
    path: &str,
    keep: bool,
) -> io::Result<http::Response> {
    http::write_request(&mut stream, &target.to_string(), path, keep)?;
    http::read_response(&mut BufReader::new(stream))
}

/// One GET on a connection of its own.
///
/// # Errors
/// Whatever connecting, sending or reading gave.
pub fn get(target: SocketAddr, path: &str, timeout: Duration) -> io::Result<http::Response> {
    exchange(&connect(target, timeout)?, target, path, false)
}

fn udp(plan: &Plan) -> io::Result<UdpSocket> {
    let any: SocketAddr = match plan.target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(plan.timeout))?;
    if plan.transport == Transport::Udp {
        socket.connect(plan.target)?;
    }
    Ok(socket)
}

fn ask_udp(plan: &Plan, socket: &UdpSocket) -> io::Result<String> {
    let mut answer = [0u8; 2048];
    let length = if plan.transport == Transport::Udp {
        socket.send(plan.path.as_bytes())?;
        socket.recv(&mut answer)?
    } else {
        socket.send_to(plan.path.as_bytes(), plan.target)?;
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
        Plan {
            target,
            name: String::new(),
            path: "/".into(),
            keep: false,
            transport,
            requests: 40,
            concurrency: 4,
            rate: 0,
            timeout: Duration::from_secs(5),
        }
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
    fn kept_sockets_are_used_again() {
        let target = server();
        for transport in [Transport::Tcp, Transport::Udp] {
            let plan = Plan { keep: true, concurrency: 1, ..plan(target, transport) };
            let mut kept = None;
            assert_eq!(ask(&plan, &mut kept).unwrap(), "pod-a");
            let port = |kept: &Option<Kept>| match kept {
                Some(Kept::Tcp(stream)) => stream.local_addr().unwrap().port(),
                Some(Kept::Udp(socket)) => socket.local_addr().unwrap().port(),
                None => 0,
            };
            let first = port(&kept);
            assert_eq!((ask(&plan, &mut kept).unwrap(), port(&kept)), ("pod-a".to_owned(), first));
            assert!(first != 0);
            assert_eq!(run(&plan).answers(), 40, "{transport:?}");
        }
    }

    #[test]
    fn who_asks_is_told_when_asked_for() {
        let target = server();
        for transport in [Transport::Tcp, Transport::Udp, Transport::UdpUnconnected] {
            let outcome = run(&Plan { path: "/whence".into(), ..plan(target, transport) });
            assert_eq!(
                outcome.answered,
                BTreeMap::from([("pod-a 127.0.0.1".to_owned(), 40)]),
                "{transport:?}"
            );
        }
    }

    #[test]
    fn names_are_looked_up() {
        let any = (Ipv4Addr::UNSPECIFIED, 0).into();
        let outcome = run(&Plan { name: "192.0.2.7".into(), ..plan(any, Transport::Name) });
        assert_eq!(outcome.answered, BTreeMap::from([("192.0.2.7".to_owned(), 40)]));
        let outcome = run(&Plan { name: "-..-".into(), requests: 1, ..plan(any, Transport::Name) });
        assert_eq!(outcome.failed, 1);
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
