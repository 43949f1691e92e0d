//! Finding sockets and ending them, by the kernel's `sock_diag` netlink family (`linux/inet_diag.h`, `man 7 sock_diag`).
//! Ending needs `CONFIG_INET_DIAG_DESTROY`; the socket's owner is told by `ECONNABORTED`.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
};
use nix::sys::time::TimeVal;
use skep_abi::{Addr, proto};

use crate::orphans::Peer;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_sockid`: ports, addresses, interface, cookie.
const ID: usize = 48;
/// Where it lies in a request (after family, protocol, extensions and states) and in an answer (after family, state, timer and
/// retransmissions).
const ID_IN_REQUEST: usize = 8;
const ID_IN_ANSWER: usize = 4;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Bits of socket states (`net/tcp_states.h`) in which a socket has a peer, and something may still come from it: established,
/// being connected, and half closed. A connected datagram socket counts as established.
const CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8;

/// A socket as the kernel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    family: u8,
    /// What it is known by.
    id: [u8; ID],
}

impl Found {
    /// The peer that it is connected to.
    pub(crate) fn peer(&self, protocol: u8) -> Peer {
        let word =
            |at: usize| u32::from_ne_bytes([self.id[at], self.id[at + 1], self.id[at + 2], self.id[at + 3]]);
        let addr = match self.family {
            AF_INET => Addr::v4(word(20)),
            _ => Addr { words: [word(20), word(24), word(28), word(32)] },
        };
        let cookie = u64::from(word(40)) | u64::from(word(44)) << 32;
        Peer { protocol, cookie, addr, port: u16::from_ne_bytes([self.id[2], self.id[3]]) }
    }
}

fn request(kind: u16, flags: u16, family: u8, protocol: u8, id: &[u8; ID]) -> Vec<u8> {
    let length = HEADER + ID_IN_REQUEST + ID;
    let mut message = Vec::with_capacity(length);
    message.extend_from_slice(&(length as u32).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
    message.extend_from_slice(&[0; 8]); // sequence and port, which one question at a time does not need
    message.extend_from_slice(&[family, protocol, 0, 0]);
    message.extend_from_slice(&CONNECTED.to_ne_bytes());
    message.extend_from_slice(id);
    message
}

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    Socket(Found),
    /// The end: zero, or what went wrong.
    End(i32),
}

/// Takes a buffer of answers apart. What is cut short is left out.
fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut out = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(body) = bytes.get(HEADER..length) else { break };
        match u16::from_ne_bytes([header[4], header[5]]) {
            SOCK_DIAG_BY_FAMILY => {
                let id = body.get(ID_IN_ANSWER..ID_IN_ANSWER + ID).and_then(|id| id.try_into().ok());
                if let (Some(family), Some(id)) = (body.first(), id) {
                    out.push(Message::Socket(Found { family: *family, id }));
                }
            }
            NLMSG_ERROR | NLMSG_DONE => {
                let error = body.first_chunk().map_or(0, |error| i32::from_ne_bytes(*error));
                out.push(Message::End(error.saturating_neg()));
            }
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    out
}

/// A way to ask about the sockets of the network namespace in which it was opened.
pub(crate) struct SockDiag(OwnedFd);

impl SockDiag {
    /// For the namespace of this thread.
    pub(crate) fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )?;
        // The kernel answers at once or not at all.
        setsockopt(&fd, ReceiveTimeout, &TimeVal::new(2, 0))?;
        Ok(Self(fd))
    }

    /// Sends a request and hears its answer out.
    fn ask(&self, request: &[u8]) -> io::Result<Vec<Found>> {
        send(self.0.as_raw_fd(), request, MsgFlags::empty())?;
        let mut found = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for message in messages(buffer.get(..length).unwrap_or_default()) {
                match message {
                    Message::Socket(socket) => found.push(socket),
                    Message::End(0) => return Ok(found),
                    Message::End(error) => return Err(io::Error::from_raw_os_error(error)),
                }
            }
        }
    }

    /// The sockets of a protocol, of both families, that are connected to a port (network byte order).
    pub(crate) fn connected_to(&self, protocol: u8, port: u16) -> io::Result<Vec<Found>> {
        let mut id = [0; ID];
        id[2..4].copy_from_slice(&port.to_ne_bytes());
        let mut found = self.ask(&request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, AF_INET, protocol, &id))?;
        found.extend(self.ask(&request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, AF_INET6, protocol, &id))?);
        Ok(found)
    }

    /// Ends a socket; false if it is gone.
    pub(crate) fn destroy(&self, protocol: u8, socket: &Found) -> io::Result<bool> {
        match self.ask(&request(SOCK_DESTROY, NLM_F_ACK, socket.family, protocol, &socket.id)) {
            Ok(_) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether this kernel ends sockets of both protocols: it is asked to end one that there cannot be.
    pub(crate) fn can_destroy(&self) -> io::Result<bool> {
        for protocol in [proto::TCP, proto::UDP] {
            match self.destroy(protocol, &Found { family: AF_INET, id: [0; ID] }) {
                Ok(_) => {}
                Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn answer(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&[0; 10]);
        message.extend_from_slice(body);
        message
    }

    fn socket(family: u8, dst: [u8; 16]) -> Vec<u8> {
        let mut body = vec![family, 1, 0, 0];
        body.extend_from_slice(&[0x9c, 0x40, 0, 53]);
        body.extend_from_slice(&[9; 16]);
        body.extend_from_slice(&dst);
        body.extend_from_slice(&3_u32.to_ne_bytes());
        body.extend_from_slice(&5_u32.to_ne_bytes());
        body.extend_from_slice(&6_u32.to_ne_bytes());
        body.extend_from_slice(&[0; 20]);
        answer(SOCK_DIAG_BY_FAMILY, &body)
    }

    #[test]
    fn sockets_are_read_with_their_peers() {
        let mut four = [0; 16];
        four[..4].copy_from_slice(&[10, 244, 0, 5]);
        let mapped = Ipv4Addr::new(10, 244, 0, 5).to_ipv6_mapped().octets();
        let bytes = [socket(AF_INET, four), socket(AF_INET6, mapped), answer(NLMSG_DONE, &[0; 4])].concat();
        let read = messages(&bytes);
        let [Message::Socket(a), Message::Socket(b), Message::End(0)] = read[..] else { panic!("{read:?}") };
        let peer = a.peer(proto::UDP);
        assert_eq!((peer.cookie, peer.port), (6 << 32 | 5, 53_u16.to_be()));
        assert_eq!(peer.addr, Addr::from(Ipv4Addr::new(10, 244, 0, 5)));
        assert_eq!(b.peer(proto::UDP), peer, "by the other family as well");
    }

    #[test]
    fn errors_are_told_and_what_is_cut_short_is_nothing() {
        let bytes = answer(NLMSG_ERROR, &(-libc::EOPNOTSUPP).to_ne_bytes());
        assert_eq!(messages(&bytes), [Message::End(libc::EOPNOTSUPP)]);
        for cut in 0..bytes.len() {
            assert_eq!(messages(&bytes[..cut]), [], "{cut}");
        }
        let mut endless = bytes.clone();
        endless[..4].copy_from_slice(&0_u32.to_ne_bytes());
        assert_eq!(messages(&endless), [], "a length shorter than its own header");
        assert_eq!(messages(&socket(AF_INET, [0; 16])[..40]), []);
    }

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let bytes = request(SOCK_DESTROY, NLM_F_ACK, AF_INET, proto::TCP, &[7; ID]);
        assert_eq!((bytes.len(), bytes[0]), (72, 72));
        assert_eq!((bytes[4], bytes[16], bytes[17], &bytes[24..]), (21, AF_INET, proto::TCP, &[7; ID][..]));
    }
}
