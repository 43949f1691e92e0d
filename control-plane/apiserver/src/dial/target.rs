//! Where a request to a pod, a node or a Service's endpoint goes, as plain functions of objects.

use serde_json::Value;
use skep_api::{Reason, Status};
use std::net::IpAddr;

/// How the other end is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Plain HTTP.
    Plain,
    /// TLS whose certificate is not looked at: pods have none that anybody could vouch for.
    Unverified,
    /// TLS both ends of which the cluster CA vouches for: a node's agent.
    Agent,
}

/// An address to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// An IP address or a host name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How.
    pub security: Security,
}

impl Target {
    /// `host:port`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The port an agent listens on where its node does not say.
const AGENT_PORT: u16 = 10_250;

/// A name in a proxy's path: `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// `https` was asked for.
    pub secure: bool,
    /// Name of the object; not empty.
    pub name: &'a str,
    /// Port by number or name, or empty.
    pub port: &'a str,
}

impl<'a> Named<'a> {
    /// Splits a name; none where it has no such form. `what` names the kind in the message.
    pub fn parse(id: &'a str, what: &str) -> Result<Self, Status> {
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match *parts.as_slice() {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => ("?", "", ""),
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            return Err(Status::bad_request(format!("invalid {what} request {id:?}")));
        }
        Ok(Named { secure: scheme == "https", name, port })
    }

    fn security(&self) -> Security {
        if self.secure { Security::Unverified } else { Security::Plain }
    }

    /// The port by its number, or that of the scheme where none was given.
    fn number(&self) -> Result<u16, Status> {
        match self.port {
            "" => Ok(if self.secure { 443 } else { 80 }),
            text => text
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| unreachable(format!("dial tcp: lookup tcp/{text}: unknown port"))),
        }
    }
}

/// 503: what was to be reached was not.
pub fn unreachable(why: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("error trying to reach service: {why}"))
}

pub(super) fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn list<'a>(tree: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    tree.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// Whether requests may be sent to an address on somebody's behalf: not to this machine itself, nor to its link, nor to
/// groups.
pub fn may_be_dialled(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_unspecified()
                || v4.is_broadcast())
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => may_be_dialled(v4.into()),
            None => {
                let link_local = (v6.segments()[0] & 0xffc0) == 0xfe80;
                !(v6.is_loopback() || v6.is_multicast() || v6.is_unspecified() || link_local)
            }
        },
    }
}

fn not_allowed() -> Status {
    Status::bad_request("address not allowed")
}

/// Where a pod is reached: its first address; without a port the first that a container declares.
pub fn pod(pod: &Value, asked: &Named<'_>) -> Result<Target, Status> {
    let host = list(pod, "/status/podIPs").map(|ip| text(ip, "/ip")).next().unwrap_or_default();
    let host = if host.is_empty() { text(pod, "/status/podIP") } else { host };
    let address: IpAddr = host.parse().map_err(|_| not_allowed())?;
    if !may_be_dialled(address) {
        return Err(not_allowed());
    }
    let declared = || {
        let of = |c: &Value| c.pointer("/ports/0/containerPort").and_then(Value::as_u64);
        list(pod, "/spec/containers").find_map(of).and_then(|port| u16::try_from(port).ok())
    };
    let port = match declared().filter(|_| asked.port.is_empty()) {
        Some(port) => port,
        None => asked.number()?,
    };
    Ok(Target { host: host.to_owned(), port, security: asked.security() })
}

/// Where a node's agent listens: its internal address before others.
pub fn agent(node: &Value) -> Result<Target, Status> {
    let of = |kind: &str| {
        let found = list(node, "/status/addresses").find(|a| text(a, "/type") == kind);
        found.map(|a| text(a, "/address")).filter(|a| !a.is_empty())
    };
    let host = ["InternalIP", "ExternalIP", "Hostname"].into_iter().find_map(of).ok_or_else(|| {
        let name = text(node, "/metadata/name");
        Status::internal(format!("no preferred addresses found; node {name:?} has not reported any"))
    })?;
    let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0).unwrap_or(AGENT_PORT);
    Ok(Target { host: host.to_owned(), port, security: Security::Agent })
}

/// Where a node is reached: its agent where no port is asked for or the agent's own is, else that port as it is.
pub fn node(node: &Value, asked: &Named<'_>) -> Result<Target, Status> {
    let agent = agent(node)?;
    if asked.port.is_empty() || asked.port == agent.port.to_string() {
        return Ok(agent);
    }
    Ok(Target { port: asked.number()?, security: asked.security(), ..agent })
}

/// 500 of a failure to dial, in the words of upstream's upgrades.
pub fn backend_failure(why: impl std::fmt::Display) -> Status {
    Status {
        code: 500,
        reason: Reason::Unknown,
        message: format!("error dialing backend: {why}"),
        details: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_in_paths() {
        let named = |secure, name, port| Named { secure, name, port };
        for (id, want) in [
            ("a", Some(named(false, "a", ""))),
            ("a:80", Some(named(false, "a", "80"))),
            ("http:a:", Some(named(false, "a", ""))),
            ("https:a:web", Some(named(true, "a", "web"))),
            ("ftp:a:1", None),
            (":80", None),
            ("a:b:c:d", None),
            ("", None),
        ] {
            assert_eq!(Named::parse(id, "pod").ok(), want, "{id}");
        }
        assert_eq!(Named::parse("::", "pod").unwrap_err().message, "invalid pod request \"::\"");
    }

    #[test]
    fn addresses_that_are_nobody_elses_business() {
        for (address, want) in [
            ("10.0.0.1", true),
            ("192.168.1.1", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("224.0.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("fe80::1", false),
            ("::ffff:127.0.0.1", false),
        ] {
            assert_eq!(may_be_dialled(address.parse().unwrap()), want, "{address}");
        }
    }

    #[test]
    fn pods() {
        let it = json!({"status": {"podIP": "10.1.0.2", "podIPs": [{"ip": "10.1.0.2"}, {"ip": "fd00::2"}]},
            "spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]}]}});
        let to = |it: &Value, id: &str| {
            let target = pod(it, &Named::parse(id, "pod").unwrap());
            target.map(|t| (t.authority(), t.security)).map_err(|s| (s.code, s.message))
        };
        assert_eq!(to(&it, "p"), Ok(("10.1.0.2:8080".into(), Security::Plain)));
        assert_eq!(to(&it, "p:81"), Ok(("10.1.0.2:81".into(), Security::Plain)));
        assert_eq!(to(&it, "https:p:444"), Ok(("10.1.0.2:444".into(), Security::Unverified)));
        let (code, message) = to(&it, "p:web").unwrap_err();
        assert_eq!(
            (code, message.as_str()),
            (503, "error trying to reach service: dial tcp: lookup tcp/web: unknown port")
        );
        let six = json!({"status": {"podIPs": [{"ip": "fd00::2"}]}});
        assert_eq!(to(&six, "https:p:").unwrap().0, "[fd00::2]:443");
        for ip in ["127.0.0.1", "", "169.254.169.254"] {
            let it = json!({"status": {"podIPs": [{"ip": ip}]}});
            assert_eq!(to(&it, "p").unwrap_err(), (400, "address not allowed".to_owned()));
        }
    }

    #[test]
    fn nodes() {
        let it = json!({"metadata": {"name": "n"}, "status": {
            "addresses": [{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10351}}}});
        let to = |id: &str| {
            let target = node(&it, &Named::parse(id, "node").unwrap()).unwrap();
            (target.authority(), target.security)
        };
        assert_eq!(to("n"), ("10.0.0.1:10351".into(), Security::Agent));
        assert_eq!(to("n:10351"), ("10.0.0.1:10351".into(), Security::Agent));
        assert_eq!(to("n:9100"), ("10.0.0.1:9100".into(), Security::Plain));
        assert_eq!(to("https:n:9100"), ("10.0.0.1:9100".into(), Security::Unverified));
        let host = json!({"status": {"addresses": [{"type": "Hostname", "address": "h"}]}});
        assert_eq!(agent(&host).unwrap().authority(), "h:10250");
        assert_eq!(agent(&json!({})).unwrap_err().code, 500);
    }
}
