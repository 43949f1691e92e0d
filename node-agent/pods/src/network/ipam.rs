//! Addresses of pods: taken from the node's range, on disk before anyone uses them, given back once.
//!
//! One file a sandbox. A file is written whole, synced and renamed into place, so that a kill at any instant leaves
//! either the old state or the new one.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// A range of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    base: u128,
    v4: bool,
    prefix: u8,
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

impl Range {
    /// Reads `a.b.c.d/n`, with `n` up to 30, or `a:b::/n`, with `n` up to 126.
    pub fn parse(s: &str) -> Option<Self> {
        let (ip, prefix) = s.split_once('/')?;
        let (ip, prefix): (IpAddr, u8) = (ip.parse().ok()?, prefix.parse().ok()?);
        let width: u8 = if ip.is_ipv4() { 32 } else { 128 };
        if prefix == 0 || prefix > width - 2 {
            return None;
        }
        let base = number(ip) & (u128::MAX << (width - prefix));
        Some(Self { base, v4: ip.is_ipv4(), prefix })
    }

    fn size(&self) -> u128 {
        1 << (if self.v4 { 32 } else { 128 } - u32::from(self.prefix))
    }

    fn address(&self, number: u128) -> IpAddr {
        // What lies in a range has no more bits than its family.
        if self.v4 { Ipv4Addr::from(number as u32).into() } else { Ipv6Addr::from(number).into() }
    }

    /// Whether the range is of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.v4
    }

    /// Whether the address lies in the range.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.v4 && number(ip) & !(self.size() - 1) == self.base
    }

    /// Addresses for pods: neither the first two (network, gateway) nor the last (broadcast).
    fn usable(&self) -> std::ops::Range<u128> {
        self.base + 2..self.base + (self.size() - 1)
    }

    /// The first free address after `last`, going round.
    pub fn next_free(&self, last: Option<IpAddr>, used: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let r = self.usable();
        let last = last.filter(|ip| ip.is_ipv4() == self.v4).map(number);
        let from = last.map(|l| l.saturating_add(1)).filter(|n| r.contains(n)).unwrap_or(r.start);
        (from..r.end).chain(r.start..from).map(|n| self.address(n)).find(|ip| !used.contains(ip))
    }
}

/// What is kept of a sandbox's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Format of this file.
    pub format: u32,
    /// Sandbox identifier.
    pub sandbox: String,
    /// The IPv4 address.
    pub ip: Ipv4Addr,
    /// The IPv6 address; none in a cluster of IPv4 alone, and in records that are older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip6: Option<Ipv6Addr>,
    /// Name of the interface in the pod.
    pub ifname: String,
    /// Name of the interface on the host.
    pub host_ifname: String,
    /// Network namespace of the pod.
    pub netns: PathBuf,
    /// Pod uid.
    pub uid: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Seconds since the epoch at which it was given.
    pub since: i64,
}

impl Record {
    /// All its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(IpAddr::V4(self.ip)).chain(self.ip6.map(IpAddr::V6))
    }
}

/// A record with an IPv6 address is read by agents that know of none, which give none either.
const FORMAT: u32 = 1;

/// The ranges of a node: one of IPv4, and one of IPv6 where the cluster has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges {
    v4: Range,
    v6: Option<Range>,
}

impl Ranges {
    /// The ranges of a node's list (`spec.podCIDRs`), whatever their order; none without one of IPv4.
    pub fn of<'a>(cidrs: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let all: Vec<Range> = cidrs.into_iter().filter_map(Range::parse).collect();
        let first = |v4: bool| all.iter().copied().find(|range| range.v4 == v4);
        Some(Self { v4: first(true)?, v6: first(false) })
    }

    /// The same without IPv6, for a kernel that has none.
    pub fn without_ipv6(self) -> Self {
        Self { v6: None, ..self }
    }
}

/// All addresses given on this node.
#[derive(Debug)]
pub struct Ipam {
    dir: PathBuf,
    ranges: Option<Ranges>,
    last: Option<Ipv4Addr>,
    last6: Option<Ipv6Addr>,
    records: BTreeMap<String, Record>,
}

/// Whether a sandbox identifier can be a file name.
pub fn valid_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 128
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

impl Ipam {
    /// Reads what was given before. Files that cannot be read are an error: an address must not be given twice.
    pub fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut records = BTreeMap::new();
        for e in std::fs::read_dir(dir)? {
            let path = e?.path();
            match path.extension().and_then(|x| x.to_str()) {
                Some("tmp") => std::fs::remove_file(&path)?,
                Some("json") => {
                    let r: Record = serde_json::from_slice(&std::fs::read(&path)?)
                        .map_err(|e| io::Error::other(format!("{}: {e}", path.display())))?;
                    if r.format != FORMAT {
                        return Err(io::Error::other(format!("{}: format {}", path.display(), r.format)));
                    }
                    records.insert(r.sandbox.clone(), r);
                }
                _ => {}
            }
        }
        let last = records.values().max_by_key(|r: &&Record| r.since).map(|r| r.ip);
        let with_ip6 = records.values().filter(|r: &&Record| r.ip6.is_some());
        let last6 = with_ip6.max_by_key(|r| r.since).and_then(|r| r.ip6);
        Ok(Self { dir: dir.to_path_buf(), ranges: None, last, last6, records })
    }

    /// Says from which ranges to give. What was given before stays.
    pub fn set_ranges(&mut self, ranges: Ranges) {
        self.ranges = Some(ranges);
    }

    /// The ranges, once known.
    pub fn ranges(&self) -> Option<Ranges> {
        self.ranges
    }

    /// What a sandbox has.
    pub fn get(&self, sandbox: &str) -> Option<&Record> {
        self.records.get(sandbox)
    }

    /// All that is given.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Gives a sandbox an address of each family that the node has, and puts them on disk; the same ones again if it has some.
    pub fn give(&mut self, mut wanted: Record) -> io::Result<Record> {
        if let Some(r) = self.records.get(&wanted.sandbox) {
            return Ok(r.clone());
        }
        let ranges = self.ranges.ok_or_else(|| io::Error::other("the node has no pod range yet"))?;
        let used: BTreeSet<IpAddr> = self.records.values().flat_map(Record::addresses).collect();
        let full = || io::Error::other("no address is left in the pod range");
        let Some(IpAddr::V4(ip)) = ranges.v4.next_free(self.last.map(IpAddr::V4), &used) else {
            return Err(full());
        };
        wanted.ip = ip;
        wanted.ip6 = match ranges.v6.map(|range| range.next_free(self.last6.map(IpAddr::V6), &used)) {
            None => None,
            Some(Some(IpAddr::V6(ip))) => Some(ip),
            Some(_) => return Err(full()),
        };
        wanted.format = FORMAT;
        self.write(&wanted)?;
        self.last = Some(wanted.ip);
        self.last6 = wanted.ip6.or(self.last6);
        self.records.insert(wanted.sandbox.clone(), wanted.clone());
        Ok(wanted)
    }

    /// Takes a sandbox's address back.
    pub fn take(&mut self, sandbox: &str) -> io::Result<Option<Record>> {
        let Some(r) = self.records.get(sandbox).cloned() else { return Ok(None) };
        match std::fs::remove_file(self.file(sandbox)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        self.sync_dir()?;
        self.records.remove(sandbox);
        Ok(Some(r))
    }

    fn file(&self, sandbox: &str) -> PathBuf {
        self.dir.join(format!("{sandbox}.json"))
    }

    fn write(&self, r: &Record) -> io::Result<()> {
        let tmp = self.dir.join(format!("{}.tmp", r.sandbox));
        let mut f = std::fs::File::create(&tmp)?;
        f.write_all(&serde_json::to_vec(r).map_err(io::Error::other)?)?;
        f.sync_all()?;
        std::fs::rename(&tmp, self.file(&r.sandbox))?;
        self.sync_dir()
    }

    fn sync_dir(&self) -> io::Result<()> {
        std::fs::File::open(&self.dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sandbox: &str) -> Record {
        Record {
            format: 0,
            sandbox: sandbox.into(),
            ip: Ipv4Addr::UNSPECIFIED,
            ip6: None,
            ifname: "eth0".into(),
            host_ifname: "skep0".into(),
            netns: PathBuf::from("/x"),
            uid: "u".into(),
            namespace: "n".into(),
            name: "p".into(),
            since: 1,
        }
    }

    #[test]
    fn gives_each_address_once_and_remembers() {
        let dir = std::env::temp_dir().join(format!("skep-ipam-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let mut i = Ipam::open(&dir).unwrap();
        assert!(i.give(record("a")).is_err(), "no range yet");
        i.set_ranges(Ranges::of(["10.244.7.9/29"]).unwrap());
        let given: Vec<String> =
            ["a", "b", "c", "d", "e"].iter().map(|s| i.give(record(s)).unwrap().ip.to_string()).collect();
        assert_eq!(given, ["10.244.7.10", "10.244.7.11", "10.244.7.12", "10.244.7.13", "10.244.7.14"]);
        assert!(i.give(record("f")).is_err(), "full");
        assert_eq!(i.give(record("c")).unwrap().ip.to_string(), "10.244.7.12");
        std::fs::write(dir.join("torn.tmp"), b"{").unwrap();
        drop(i);
        let mut i = Ipam::open(&dir).unwrap();
        i.set_ranges(Ranges::of(["10.244.7.8/29"]).unwrap());
        assert!(i.give(record("f")).is_err(), "still full after a restart");
        assert_eq!(i.take("b").unwrap().unwrap().ip.to_string(), "10.244.7.11");
        assert!(i.take("b").unwrap().is_none());
        assert_eq!(i.give(record("f")).unwrap().ip.to_string(), "10.244.7.11");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn both_families_are_given_together_and_remembered() {
        let dir = std::env::temp_dir().join(format!("skep-ipam6-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let shown = |r: &Record| r.addresses().map(|ip| ip.to_string()).collect::<Vec<_>>().join(" ");
        let mut i = Ipam::open(&dir).unwrap();
        i.set_ranges(Ranges::of(["10.244.7.8/29"]).unwrap());
        assert_eq!(shown(&i.give(record("old")).unwrap()), "10.244.7.10");
        let text = std::fs::read_to_string(dir.join("old.json")).unwrap();
        assert!(!text.contains("ip6"), "as it was before there was a second family: {text}");
        // In whichever order the node lists them.
        i.set_ranges(Ranges::of(["fd00:10:244:7::/64", "10.244.7.8/29"]).unwrap());
        assert_eq!(shown(&i.give(record("a")).unwrap()), "10.244.7.11 fd00:10:244:7::2");
        assert_eq!(shown(&i.give(record("old")).unwrap()), "10.244.7.10", "what was given stays");
        drop(i);
        let mut i = Ipam::open(&dir).unwrap();
        i.set_ranges(Ranges::of(["10.244.7.8/29", "fd00:10:244:7::/64"]).unwrap());
        assert_eq!(shown(i.get("a").unwrap()), "10.244.7.11 fd00:10:244:7::2");
        assert_eq!(shown(&i.give(record("b")).unwrap()), "10.244.7.12 fd00:10:244:7::3");
        assert_eq!(shown(&i.take("a").unwrap().unwrap()), "10.244.7.11 fd00:10:244:7::2");
        assert_eq!(Ranges::of(["fd00::/64"]), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_freed_address_rests_while_others_are_free() {
        let r = Range::parse("10.0.0.0/24").unwrap();
        let used = BTreeSet::from(["10.0.0.2".parse().unwrap()]);
        assert_eq!(r.next_free(Some("10.0.0.5".parse().unwrap()), &used), Some("10.0.0.6".parse().unwrap()));
        assert_eq!(
            r.next_free(Some("10.0.0.254".parse().unwrap()), &used),
            Some("10.0.0.3".parse().unwrap())
        );
        for bad in ["10.0.0.0/31", "10.0.0.0/0", "fd00::/127", "fd00::", "x/24", "10.0.0.0/33"] {
            assert!(Range::parse(bad).is_none(), "{bad}");
        }
        let six = Range::parse("fd00:0:0:7::9/64").unwrap();
        let next =
            |last: &str| six.next_free(Some(last.parse().unwrap()), &BTreeSet::new()).unwrap().to_string();
        assert_eq!(next("fd00:0:0:7::9"), "fd00:0:0:7::a");
        assert_eq!(next("10.0.0.9"), "fd00:0:0:7::2");
        assert_eq!(next("fd00::7:ffff:ffff:ffff:ffff"), "fd00:0:0:7::2", "round");
        assert!(six.contains("fd00:0:0:7::".parse().unwrap()) && !six.contains("fd00::9".parse().unwrap()));
        assert!(r.contains("10.0.0.9".parse().unwrap()) && !r.contains("10.0.1.9".parse().unwrap()));
    }

    #[test]
    fn identifiers_that_could_leave_the_directory_are_refused() {
        assert!(valid_id("0123abc"));
        for bad in ["", "../x", "a/b", "a.json"] {
            assert!(!valid_id(bad));
        }
    }
}
