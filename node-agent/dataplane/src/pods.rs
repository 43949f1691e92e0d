//! The interfaces of pods: attaching, detaching, naming, counting.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use skep_abi::config::flags;
use skep_abi::pod::{DIR_RX, NAME_LEN, NAMESPACE_LEN, UID_LEN};
use skep_abi::{Addr, DropReason, LocalEndpoint, PodRecord};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::maps::Maps;
use crate::pins::Pins;
use crate::report::{AttachedPod, Counters, Drops, PodAttachment, PodTraffic};
use crate::{load, net};

/// See [`crate::Dataplane::attach_pod`].
pub(crate) fn attach(pins: &Pins, config: &Config, maps: &mut Maps, pod: &PodAttachment) -> Result<bool> {
    if net::interface_name(pod.ifindex).is_none() {
        return Err(Error::Interface {
            name: pod.ifindex.to_string(),
            reason: "there is none of this index in this network namespace".to_owned(),
        });
    }
    let wanted = record(pod)?;
    let known = maps.pod(pod.ifindex)?;
    let same_pod = known.is_some_and(|r| r.uid == wanted.uid);
    if let (Some(old), false) = (known, same_pod) {
        // The index was another pod's, whose interface went away unheard.
        forget(pins, maps, pod.ifindex, &old)?;
    }
    maps.start_counting(pod.ifindex)?;
    let attached_at = known.filter(|_| same_pod).map_or_else(now, |r| r.attached_at);
    let wanted = PodRecord { attached_at, ..wanted };
    if known != Some(wanted) {
        maps.set_pod(pod.ifindex, wanted)?;
    }
    let done = load::attach_pod_hooks(pins, config, pod.ifindex, true).and_then(|there| {
        // Last: from here on packets are handed to the interface.
        for addr in addresses(&wanted) {
            let flags = match maps.endpoint(addr)? {
                Some(e) if e.ifindex == pod.ifindex => continue,
                _ => 0,
            };
            maps.set_endpoint(addr, LocalEndpoint { ifindex: pod.ifindex, flags, reserved: [0; 2] })?;
        }
        Ok(there)
    });
    match done {
        Ok(there) => Ok(there && same_pod),
        Err(error) => {
            if let Err(second) = forget(pins, maps, pod.ifindex, &wanted) {
                tracing::warn!(error = %second, ifindex = pod.ifindex, "a failed attachment was not undone");
            }
            Err(error)
        }
    }
}

/// See [`crate::Dataplane::detach_pod`].
pub(crate) fn detach(pins: &Pins, maps: &mut Maps, ifindex: u32) -> Result<bool> {
    match maps.pod(ifindex)? {
        Some(record) => forget(pins, maps, ifindex, &record).map(|()| true),
        None => {
            let hooks = load::detach_pod_hooks(pins, ifindex)?;
            Ok(maps.stop_counting(ifindex)? || hooks)
        }
    }
}

/// Undoes an attachment, the record last, so that a killed agent's successor undoes the rest.
fn forget(pins: &Pins, maps: &mut Maps, ifindex: u32, record: &PodRecord) -> Result<()> {
    for addr in addresses(record) {
        // The address may be another pod's by now.
        if maps.endpoint(addr)?.is_some_and(|e| e.ifindex == ifindex) {
            maps.remove_endpoint(addr)?;
        }
    }
    load::detach_pod_hooks(pins, ifindex)?;
    maps.stop_counting(ifindex)?;
    maps.remove_pod(ifindex)?;
    Ok(())
}

/// See [`crate::Dataplane::list_attached`].
pub(crate) fn list(pins: &Pins, maps: &Maps) -> Result<Vec<AttachedPod>> {
    let by_links = maps.config()?.flags & flags::CLSACT == 0;
    let mut out = Vec::new();
    for (ifindex, record) in maps.pods()? {
        let attached = load::pod_is_attached(pins, ifindex, by_links)?;
        out.push(AttachedPod { pod: attachment(ifindex, &record), attached });
    }
    Ok(out)
}

/// See [`crate::Dataplane::counters`].
pub(crate) fn counters(maps: &Maps) -> Result<Counters> {
    let mut counters = Counters::default();
    for (ifindex, record) in maps.pods()? {
        let traffic = maps.traffic(ifindex)?.unwrap_or_default();
        counters.pods.push(PodTraffic { pod: attachment(ifindex, &record), traffic, drops: Vec::new() });
    }
    for (key, count) in maps.drops()? {
        let Some(reason) = DropReason::from_number(key.reason) else { continue };
        let inbound = key.direction == DIR_RX;
        let drops = Drops { reason, inbound, packets: count.packets, bytes: count.bytes };
        match counters.pods.iter_mut().find(|p| p.pod.ifindex == key.ifindex) {
            Some(pod) => pod.drops.push(drops),
            None => counters.node_drops.push((key.ifindex, drops)),
        }
    }
    Ok(counters)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn addresses(record: &PodRecord) -> impl Iterator<Item = Addr> {
    record.addrs.into_iter().filter(|a| *a != Addr::default())
}

fn record(pod: &PodAttachment) -> Result<PodRecord> {
    let mut addrs = [Addr::default(); 2];
    if pod.addresses.len() > addrs.len() {
        return Err(Error::Invalid(format!("pod {} has more than two addresses", pod.uid)));
    }
    for (to, from) in addrs.iter_mut().zip(&pod.addresses) {
        *to = (*from).into();
    }
    Ok(PodRecord {
        addrs,
        attached_at: 0,
        reserved: 0,
        uid: bytes::<UID_LEN>("UID", &pod.uid)?,
        namespace: bytes::<NAMESPACE_LEN>("namespace", &pod.namespace)?,
        name: bytes::<NAME_LEN>("name", &pod.name)?,
    })
}

fn bytes<const N: usize>(what: &str, text: &str) -> Result<[u8; N]> {
    let mut out = [0; N];
    let room = out.get_mut(..text.len());
    match room {
        Some(room) if !text.bytes().any(|b| b == 0) => room.copy_from_slice(text.as_bytes()),
        _ => return Err(Error::Invalid(format!("the pod's {what} {text:?} has no room in {N} bytes"))),
    }
    Ok(out)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn attachment(ifindex: u32, record: &PodRecord) -> PodAttachment {
    PodAttachment {
        ifindex,
        addresses: addresses(record).map(IpAddr::from).collect(),
        uid: text(&record.uid),
        namespace: text(&record.namespace),
        name: text(&record.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> PodAttachment {
        PodAttachment {
            ifindex: 7,
            addresses: vec![IpAddr::from([10, 244, 0, 5]), "fd00::5".parse().unwrap()],
            uid: "9b2f6f0e-7c0c-4a58-8a1c-0c3a6f6a1d11".into(),
            namespace: "default".into(),
            name: "web-0".into(),
        }
    }

    #[test]
    fn a_record_says_what_was_attached() {
        assert_eq!(attachment(7, &record(&pod()).unwrap()), pod());
        let longest = PodAttachment { name: "n".repeat(253), namespace: "s".repeat(63), ..pod() };
        assert_eq!(attachment(7, &record(&longest).unwrap()), longest);
    }

    #[test]
    fn what_has_no_room_is_refused() {
        assert!(record(&PodAttachment { uid: "u".repeat(65), ..pod() }).is_err());
        assert!(record(&PodAttachment { name: "a\0b".into(), ..pod() }).is_err());
        let three = vec![IpAddr::from([10, 0, 0, 1]); 3];
        assert!(record(&PodAttachment { addresses: three, ..pod() }).is_err());
    }
}
