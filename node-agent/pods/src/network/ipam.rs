//! Addresses of pods: taken from the node's range, on disk before anyone uses them, given back once.
//!
//! One file a sandbox. A file is written whole, synced and renamed into place, so that a kill at any instant leaves
//! either the old state or the new one.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// An IPv4 range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    base: u32,
    prefix: u8,
}

impl Range {
    /// Reads `a.b.c.d/n`, with `n` up to 30.
    pub fn parse(s: &str) -> Option<Self> {
        let (ip, prefix) = s.split_once('/')?;
        let (ip, prefix): (Ipv4Addr, u8) = (ip.parse().ok()?, prefix.parse().ok()?);
        if prefix == 0 || prefix > 30 {
            return None;
        }
        let mask = u32::MAX << (32 - prefix);
        Some(Self { base: u32::from(ip) & mask, prefix })
    }

    /// Whether the address lies in the range.
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        u32::from(ip) & (u32::MAX << (32 - self.prefix)) == self.base
    }

    /// Addresses for pods: neither the first two (network, gateway) nor the last (broadcast).
    fn usable(&self) -> std::ops::Range<u32> {
        let size = 1u32 << (32 - self.prefix);
        self.base + 2..self.base + size - 1
    }

    /// The first free address after `last`, going round.
    pub fn next_free(&self, last: Option<Ipv4Addr>, used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let r = self.usable();
        let from = last.map(|l| u32::from(l).saturating_add(1)).filter(|n| r.contains(n)).unwrap_or(r.start);
        (from..r.end).chain(r.start..from).map(Ipv4Addr::from).find(|ip| !used.contains(ip))
    }
}

/// What is kept of a sandbox's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Format of this file.
    pub format: u32,
    /// Sandbox identifier.
    pub sandbox: String,
    /// The address.
    pub ip: Ipv4Addr,
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

const FORMAT: u32 = 1;

/// All addresses given on this node.
#[derive(Debug)]
pub struct Ipam {
    dir: PathBuf,
    range: Option<Range>,
    last: Option<Ipv4Addr>,
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
        Ok(Self { dir: dir.to_path_buf(), range: None, last, records })
    }

    /// Says from which range to give. What was given before stays.
    pub fn set_range(&mut self, range: Range) {
        self.range = Some(range);
    }

    /// The range, once known.
    pub fn range(&self) -> Option<Range> {
        self.range
    }

    /// What a sandbox has.
    pub fn get(&self, sandbox: &str) -> Option<&Record> {
        self.records.get(sandbox)
    }

    /// All that is given.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Gives an address to a sandbox and puts it on disk; the same one again if it has one.
    pub fn give(&mut self, mut wanted: Record) -> io::Result<Record> {
        if let Some(r) = self.records.get(&wanted.sandbox) {
            return Ok(r.clone());
        }
        let range = self.range.ok_or_else(|| io::Error::other("the node has no pod range yet"))?;
        let used: BTreeSet<Ipv4Addr> = self.records.values().map(|r| r.ip).collect();
        wanted.ip = range
            .next_free(self.last, &used)
            .ok_or_else(|| io::Error::other("no address is left in the pod range"))?;
        wanted.format = FORMAT;
        self.write(&wanted)?;
        self.last = Some(wanted.ip);
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
        i.set_range(Range::parse("10.244.7.9/29").unwrap());
        let given: Vec<String> =
            ["a", "b", "c", "d", "e"].iter().map(|s| i.give(record(s)).unwrap().ip.to_string()).collect();
        assert_eq!(given, ["10.244.7.10", "10.244.7.11", "10.244.7.12", "10.244.7.13", "10.244.7.14"]);
        assert!(i.give(record("f")).is_err(), "full");
        assert_eq!(i.give(record("c")).unwrap().ip.to_string(), "10.244.7.12");
        std::fs::write(dir.join("torn.tmp"), b"{").unwrap();
        drop(i);
        let mut i = Ipam::open(&dir).unwrap();
        i.set_range(Range::parse("10.244.7.8/29").unwrap());
        assert!(i.give(record("f")).is_err(), "still full after a restart");
        assert_eq!(i.take("b").unwrap().unwrap().ip.to_string(), "10.244.7.11");
        assert!(i.take("b").unwrap().is_none());
        assert_eq!(i.give(record("f")).unwrap().ip.to_string(), "10.244.7.11");
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
        assert!(Range::parse("10.0.0.0/31").is_none());
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
