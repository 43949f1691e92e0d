//! The demo server: HTTP over TCP and an echo over UDP, both answering with the pod's name.

use std::io::{self, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::http;

/// What the connections of one server share.
#[derive(Debug)]
pub struct State {
    name: String,
    ready: AtomicBool,
    tcp: AtomicU64,
    udp: AtomicU64,
}

impl State {
    /// A server that answers with `name` and starts out ready or not.
    #[must_use]
    pub fn new(name: String, ready: bool) -> Arc<Self> {
        Arc::new(State {
            name,
            ready: AtomicBool::new(ready),
            tcp: AtomicU64::new(0),
            udp: AtomicU64::new(0),
        })
    }

    /// Who answers, and whom this sees asking.
    fn whence(&self, peer: IpAddr) -> String {
        format!("{} {peer}", self.name)
    }

    /// Status and body for a path that `peer` asks for. `/` counts; the others are for probes and tests. A query says nothing.
    fn answer(&self, path: &str, peer: IpAddr) -> (u16, String) {
        match path.split('?').next().unwrap_or_default() {
            "/" => {
                self.tcp.fetch_add(1, Ordering::Relaxed);
                (200, format!("{}\n", self.name))
            }
            "/healthz" => (200, "ok\n".to_owned()),
            "/readyz" if self.ready.load(Ordering::Relaxed) => (200, "ready\n".to_owned()),
            "/readyz" => (503, "not ready\n".to_owned()),
            "/ready/on" | "/ready/off" => {
                self.ready.store(path.starts_with("/ready/on"), Ordering::Relaxed);
                (200, "ok\n".to_owned())
            }
            "/counts" => {
                let (tcp, udp) = (self.tcp.load(Ordering::Relaxed), self.udp.load(Ordering::Relaxed));
                (200, format!("{{\"tcp\":{tcp},\"udp\":{udp}}}\n"))
            }
            "/peer" => (200, format!("{peer}\n")),
            "/whence" => (200, self.whence(peer)),
            _ => (404, "not found\n".to_owned()),
        }
    }
}

/// Listens on every address, IPv6 included where the kernel has it.
///
/// # Errors
/// When neither family can be bound.
pub fn bind(port: u16) -> io::Result<(TcpListener, UdpSocket)> {
    let on = |ip: IpAddr| -> io::Result<_> {
        let tcp = TcpListener::bind(SocketAddr::new(ip, port))?;
        let udp = UdpSocket::bind(tcp.local_addr()?)?;
        Ok((tcp, udp))
    };
    on(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| on(Ipv4Addr::UNSPECIFIED.into()))
}

/// Serves until the process ends.
///
/// # Errors
/// When accepting or receiving fails for good.
pub fn run(state: &Arc<State>, tcp: &TcpListener, udp: UdpSocket) -> io::Result<()> {
    let echo = Arc::clone(state);
    thread::spawn(move || serve_udp(&echo, &udp));
    loop {
        let stream = match tcp.accept() {
            Ok((stream, _)) => stream,
            // The peer went away between the handshake and accept: its matter, not ours.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        let state = Arc::clone(state);
        thread::Builder::new().stack_size(64 * 1024).spawn(move || serve_tcp(&state, &stream))?;
    }
}

fn serve_tcp(state: &State, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?.ip().to_canonical();
    let mut from = BufReader::new(stream);
    while let Some(request) = http::read_request(&mut from)? {
        let (status, body) = state.answer(&request.path, peer);
        http::write_response(&mut &*stream, status, &body, request.keep_alive)?;
        if !request.keep_alive {
            break;
        }
    }
    Ok(())
}

fn serve_udp(state: &State, socket: &UdpSocket) -> io::Result<()> {
    let mut datagram = [0u8; 2048];
    loop {
        // An ICMP error about an earlier answer surfaces here; the next datagram is unaffected.
        let Ok((length, peer)) = socket.recv_from(&mut datagram) else { continue };
        state.udp.fetch_add(1, Ordering::Relaxed);
        let answer = match &datagram[..length] {
            b"/whence" => state.whence(peer.ip().to_canonical()),
            _ => state.name.clone(),
        };
        let _ = socket.send_to(answer.as_bytes(), peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_a_switch_and_does_not_touch_answers() {
        let state = State::new("pod-a".into(), false);
        let answer = |path| state.answer(path, Ipv4Addr::new(10, 0, 0, 7).into());
        assert_eq!(answer("/readyz").0, 503);
        assert_eq!(answer("/ready/on").0, 200);
        assert_eq!(answer("/readyz").0, 200);
        answer("/ready/off");
        assert_eq!(answer("/readyz").0, 503);
        assert_eq!(answer("/"), (200, "pod-a\n".to_owned()));
        assert_eq!(answer("/counts").1, "{\"tcp\":1,\"udp\":0}\n");
        assert_eq!(answer("/peer").1, "10.0.0.7\n");
        assert_eq!(answer("/nothing").0, 404);
    }
}
