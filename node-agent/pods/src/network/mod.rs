//! Networking of pods: the socket that `skep-cni` calls, addresses, wires, and the runtime's configuration for them.

pub mod ipam;
pub mod netns;
pub mod veth;

use ipam::{Ipam, Ranges, Record, valid_id};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;

/// A wire as the dataplane is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Index of the host's end.
    pub ifindex: u32,
    /// Addresses of the pod.
    pub addresses: Vec<IpAddr>,
    /// Pod uid.
    pub uid: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
}

/// Who attaches programs to wires.
pub trait Dataplane: Send + Sync + 'static {
    /// Attaches; again is fine.
    fn attach(&self, a: &Attachment) -> Result<(), String>;
    /// Forgets an interface that is going.
    fn detach(&self, ifindex: u32) -> Result<(), String>;
}

/// Facts of the node for its pods' network.
#[derive(Debug, Clone)]
pub struct Config {
    /// The agent's data directory.
    pub data_dir: PathBuf,
    /// Socket for `skep-cni`.
    pub socket: PathBuf,
    /// Where the runtime looks for network configurations.
    pub conf_dir: PathBuf,
    /// Where it looks for network plugins.
    pub bin_dir: PathBuf,
    /// Addresses of the node, as sources towards pods.
    pub node: veth::Sources,
    /// Interface whose MTU pods take.
    pub uplink: Option<String>,
}

/// Directory of the records.
fn records(data_dir: &Path) -> PathBuf {
    data_dir.join("network")
}

/// The network namespace of a sandbox, from its record.
pub fn netns_of(data_dir: &Path, sandbox: &str) -> Option<PathBuf> {
    if !valid_id(sandbox) {
        return None;
    }
    let text = std::fs::read(records(data_dir).join(format!("{sandbox}.json"))).ok()?;
    serde_json::from_slice::<Record>(&text).ok().map(|r| r.netns)
}

/// The network of the node's pods. Clones share it.
#[derive(Clone)]
pub struct Network {
    config: Arc<Config>,
    ipam: Arc<Mutex<Ipam>>,
    dataplane: Arc<dyn Dataplane>,
}

/// Longest request or answer.
const MESSAGE: usize = 1 << 20;
/// CNI's code for "try again later".
const LATER: u32 = 11;

impl Network {
    /// Takes over what was given before.
    pub fn open(config: Config, dataplane: Arc<dyn Dataplane>) -> io::Result<Self> {
        std::fs::create_dir_all(spool(&config.data_dir))?;
        let ipam = Ipam::open(&records(&config.data_dir))?;
        Ok(Self { config: Arc::new(config), ipam: Arc::new(Mutex::new(ipam)), dataplane })
    }

    /// Says from which ranges pods get addresses. Of IPv6 they get none from a kernel that has none.
    pub async fn set_ranges(&self, ranges: Ranges) {
        let ranges = if veth::has_ipv6() { ranges } else { ranges.without_ipv6() };
        self.ipam.lock().await.set_ranges(ranges);
    }

    /// Tells the dataplane of every wire that is there.
    pub async fn adopt(&self) {
        let all: Vec<Record> = self.ipam.lock().await.records().cloned().collect();
        for r in all {
            match veth::host_index(&r.host_ifname).await {
                Ok(Some(i)) => {
                    if let Err(error) = self.dataplane.attach(&attachment(&r, i)) {
                        tracing::warn!(interface = %r.host_ifname, %error, "not attached");
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(interface = %r.host_ifname, %error, "not looked at"),
            }
        }
    }

    /// Gives back what no sandbox holds any more: `alive` are the runtime's sandboxes. A record whose namespace is
    /// still there is left alone while it is young, as its sandbox may be in the making.
    pub async fn reconcile(&self, alive: &HashSet<String>) {
        let now = jiff::Timestamp::now().as_second();
        let all: Vec<Record> = self.ipam.lock().await.records().cloned().collect();
        for r in all.into_iter().filter(|r| !alive.contains(&r.sandbox)) {
            if (!r.netns.exists() || now - r.since > 600)
                && let Err(error) = self.remove(&r.sandbox).await
            {
                tracing::warn!(sandbox = %r.sandbox, %error, "address not given back");
            }
        }
        self.drain_spool().await;
    }

    /// Finishes removals that were asked for while nobody listened.
    pub async fn drain_spool(&self) {
        for e in std::fs::read_dir(spool(&self.config.data_dir)).into_iter().flatten().flatten() {
            let id = e.file_name().to_string_lossy().into_owned();
            let done = !valid_id(&id) || self.remove(&id).await.is_ok();
            if done {
                let _ = std::fs::remove_file(e.path());
            }
        }
    }

    /// Puts the plugin and its configuration where the runtime looks, the configuration last and at once.
    pub fn install(&self, plugin: &Path) -> io::Result<()> {
        let c = &self.config;
        std::fs::create_dir_all(&c.bin_dir)?;
        std::fs::create_dir_all(&c.conf_dir)?;
        replace(&c.bin_dir.join("skep-cni"), &std::fs::read(plugin)?, 0o755)?;
        let list = json!({
            "cniVersion": "1.0.0", "name": "skep",
            "plugins": [{
                "type": "skep-cni",
                "socket": c.socket, "spool": spool(&c.data_dir),
            }],
        });
        replace(&c.conf_dir.join("10-skep.conflist"), list.to_string().as_bytes(), 0o644)
    }

    /// Answers `skep-cni` until dropped.
    pub async fn serve(self) -> io::Result<()> {
        let at = &self.config.socket;
        if let Some(dir) = at.parent() {
            std::fs::create_dir_all(dir)?;
        }
        // Bound under another name and renamed: there is never a socket that nobody answers or that others may use.
        let fresh = at.with_extension("new");
        let _ = std::fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&fresh, at)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let this = self.clone();
            tokio::spawn(async move {
                if let Err(error) = this.one(stream).await {
                    tracing::warn!(%error, "network plugin");
                }
            });
        }
    }

    async fn one(&self, mut s: UnixStream) -> io::Result<()> {
        let root = s.peer_cred()?.uid() == 0;
        let mut text = Vec::new();
        (&mut s).take(MESSAGE as u64).read_to_end(&mut text).await?;
        let answer = if !root {
            failure(4, "only root may ask", "")
        } else {
            match serde_json::from_slice::<Value>(&text) {
                Ok(r) => self.answer(&r).await,
                Err(e) => failure(6, "the request cannot be read", &e.to_string()),
            }
        };
        s.write_all(answer.to_string().as_bytes()).await?;
        s.shutdown().await
    }

    async fn answer(&self, r: &Value) -> Value {
        let text = |k: &str| r[k].as_str().unwrap_or_default();
        let id = text("containerId");
        match text("command") {
            "STATUS" => {
                if self.ipam.lock().await.ranges().is_some() {
                    json!({"ok": null})
                } else {
                    failure(50, "the node has no pod range yet", "")
                }
            }
            "GC" => {
                let keep: HashSet<String> = r["config"]["cni.dev/valid-attachments"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|a| a["containerID"].as_str().map(str::to_owned))
                    .collect();
                self.reconcile(&keep).await;
                json!({"ok": null})
            }
            _ if !valid_id(id) => failure(4, "CNI_CONTAINERID is not usable", id),
            "ADD" => match self.add(r).await {
                Ok(v) => json!({"ok": v}),
                Err(e) => failure(LATER, "the pod's network could not be made", &e.to_string()),
            },
            "DEL" => match self.remove(id).await {
                Ok(()) => json!({"ok": null}),
                Err(e) => failure(LATER, "the pod's network could not be removed", &e.to_string()),
            },
            "CHECK" => match self.check(id).await {
                Ok(()) => json!({"ok": null}),
                Err(e) => failure(LATER, "the pod's network is not whole", &e.to_string()),
            },
            other => failure(4, "unknown CNI_COMMAND", other),
        }
    }

    async fn add(&self, r: &Value) -> io::Result<Value> {
        let text = |k: &str| r[k].as_str().unwrap_or_default().to_owned();
        let args: BTreeMap<String, String> = text("args")
            .split(';')
            .filter_map(|a| a.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())))
            .collect();
        let arg = |k: &str| args.get(k).cloned().unwrap_or_default();
        let sandbox = text("containerId");
        let ifname = Some(text("ifname")).filter(|n| !n.is_empty()).unwrap_or_else(|| "eth0".into());
        let wanted = Record {
            format: 0,
            host_ifname: host_name(&sandbox),
            sandbox,
            ip: Ipv4Addr::UNSPECIFIED,
            ip6: None,
            ifname,
            netns: PathBuf::from(text("netns")),
            uid: arg("K8S_POD_UID"),
            namespace: arg("K8S_POD_NAMESPACE"),
            name: arg("K8S_POD_NAME"),
            since: jiff::Timestamp::now().as_second(),
        };
        let given = self.ipam.lock().await.give(wanted)?;
        let wire = veth::lay(&given, self.config.node, self.config.uplink.as_deref()).await?;
        self.dataplane.attach(&attachment(&given, wire.host_index)).map_err(io::Error::other)?;
        Ok(result(&given, &wire, r["config"]["cniVersion"].as_str().unwrap_or("1.0.0")))
    }

    async fn remove(&self, sandbox: &str) -> io::Result<()> {
        let Some(r) = self.ipam.lock().await.get(sandbox).cloned() else { return Ok(()) };
        if let Some(i) = veth::host_index(&r.host_ifname).await? {
            if let Err(error) = self.dataplane.detach(i) {
                tracing::debug!(interface = %r.host_ifname, %error, "not detached");
            }
            veth::cut(&r.host_ifname).await?;
        }
        // Last: an address is free only once its wire is gone.
        self.ipam.lock().await.take(sandbox)?;
        Ok(())
    }

    async fn check(&self, sandbox: &str) -> io::Result<()> {
        let r = self.ipam.lock().await.get(sandbox).cloned();
        let r = r.ok_or_else(|| io::Error::other("no address was given"))?;
        veth::host_index(&r.host_ifname)
            .await?
            .map(|_| ())
            .ok_or_else(|| io::Error::other("the wire is gone"))
    }
}

fn spool(data_dir: &Path) -> PathBuf {
    records(data_dir).join("spool")
}

fn attachment(r: &Record, ifindex: u32) -> Attachment {
    Attachment {
        ifindex,
        addresses: r.addresses().collect(),
        uid: r.uid.clone(),
        namespace: r.namespace.clone(),
        name: r.name.clone(),
    }
}

/// What an addition came to, as the CNI specification has it (1.1, "Success").
fn result(given: &Record, wire: &veth::Wire, version: &str) -> Value {
    let hex = |m: &[u8]| m.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":");
    let way = |ip: IpAddr| match ip {
        IpAddr::V4(_) => (32, "0.0.0.0/0", veth::GATEWAY.to_string()),
        IpAddr::V6(_) => (128, "::/0", veth::GATEWAY6.to_string()),
    };
    let address = |ip: IpAddr| {
        let (bits, _, gateway) = way(ip);
        json!({"interface": 1, "address": format!("{ip}/{bits}"), "gateway": gateway})
    };
    let route = |ip: IpAddr| {
        let (_, all, gateway) = way(ip);
        json!({"dst": all, "gw": gateway})
    };
    json!({
        "cniVersion": version,
        "interfaces": [
            {"name": given.host_ifname, "mac": hex(&wire.host_mac)},
            {"name": given.ifname, "mac": hex(&wire.pod_mac), "sandbox": given.netns},
        ],
        "ips": given.addresses().map(address).collect::<Vec<_>>(),
        "routes": given.addresses().map(route).collect::<Vec<_>>(),
        "dns": {},
    })
}

fn failure(code: u32, msg: &str, details: &str) -> Value {
    json!({"error": {"cniVersion": "1.0.0", "code": code, "msg": msg, "details": details}})
}

/// Name of the host's end: `skep` and eleven characters of the sandbox's hash (interface names have at most 15).
pub fn host_name(sandbox: &str) -> String {
    let d = ring::digest::digest(&ring::digest::SHA256, sandbox.as_bytes());
    let hex: String = d.as_ref().iter().take(6).map(|b| format!("{b:02x}")).collect();
    format!("skep{}", hex.get(..11).unwrap_or(&hex))
}

/// Writes a file whole and renames it into place; does nothing when it is already so.
fn replace(at: &Path, data: &[u8], mode: u32) -> io::Result<()> {
    if std::fs::read(at).is_ok_and(|have| have == data) {
        return Ok(());
    }
    let mut name = at.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    // A name the runtime does not read: it looks at .conf, .conflist and .json only.
    let tmp = at.with_file_name(name);
    std::fs::write(&tmp, data)?;
    std::fs::set_permissions(&tmp, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&tmp, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_names_every_address_with_its_way_out() {
        let given = Record {
            format: 1,
            sandbox: "s".into(),
            ip: Ipv4Addr::new(10, 244, 0, 5),
            ip6: Some("fd00:10:244::5".parse().unwrap()),
            ifname: "eth0".into(),
            host_ifname: "skep1".into(),
            netns: "/run/netns/x".into(),
            uid: "u".into(),
            namespace: "n".into(),
            name: "p".into(),
            since: 1,
        };
        let wire = veth::Wire { host_index: 7, host_mac: vec![2, 0xfe], pod_mac: vec![2, 1] };
        let both = result(&given, &wire, "1.0.0");
        assert_eq!(
            both["ips"],
            json!([
                {"interface": 1, "address": "10.244.0.5/32", "gateway": "169.254.1.1"},
                {"interface": 1, "address": "fd00:10:244::5/128", "gateway": "fe80::1"},
            ])
        );
        let routes = json!([{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1"}]);
        assert_eq!(both["routes"], routes);
        let one = result(&Record { ip6: None, ..given.clone() }, &wire, "1.0.0");
        assert_eq!((one["ips"].as_array().unwrap().len(), one["routes"].as_array().unwrap().len()), (1, 1));
        assert_eq!(attachment(&given, 7).addresses.len(), 2);
    }
}
