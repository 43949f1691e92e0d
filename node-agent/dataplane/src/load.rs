//! Loading the object, or taking over what is pinned.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aya::programs::{CgroupSockAddr, Program, ProgramError, ProgramType, SchedClassifier};
use aya::sys::{BpfHelper, is_helper_supported};
use aya::{Ebpf, EbpfLoader};
use skep_abi::Meta;
use skep_abi::config::stage;

use crate::attach::{self, Attached};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::handover::Former;
use crate::maps::Maps;
use crate::net;
use crate::pins::{Direction, HOOKS, Hook, MAPS, Pins, Place, file, open_pin, replace_pin, unpin};
use crate::report::OpenReport;

/// Brings programs, maps and links of the node in place and returns its maps.
pub(crate) fn open(pins: &Pins, config: &Config) -> Result<(Maps, OpenReport)> {
    let object =
        fs::read(&config.object).map_err(|source| Error::Object { path: config.object.clone(), source })?;
    let digest = digest(&object);
    let mut handover = Former::find(pins)?.map(|former| former.begin(pins, &object)).transpose()?;
    let mut report = OpenReport::default();
    for name in MAPS {
        if open_pin(&pins.map(name))?.is_some() {
            report.maps_adopted += 1;
        }
    }
    report.maps_created = MAPS.len() - report.maps_adopted;

    let current = is_current(pins, &report, &digest)?;
    if current {
        report.programs_adopted = HOOKS.len();
    } else {
        load(pins, &object)?;
        report.programs_loaded = HOOKS.len();
    }
    let mut maps = Maps::open(pins)?;
    if let Some(handover) = &mut handover {
        handover.fill(pins)?;
    }
    let wanted = net::kernel_config(config)?;
    if maps.config()? != wanted {
        maps.set_config(wanted)?;
    }
    maps.sync_node_addrs(&net::node_addresses()?)?;
    if let Some(handover) = &handover {
        handover.take_links(pins, &mut maps)?;
    }
    node_links(pins, config, wanted.uplink_ifindex, &mut report)?;
    pod_links(pins, config, &maps)?;
    if let Some(handover) = &mut handover {
        handover.settle(pins)?;
    }
    if !current {
        let loaded_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let complete = stage::COMPLETE;
        maps.set_meta(Meta { layout: skep_abi::LAYOUT, complete, object: digest, loaded_at })?;
    }
    if let Some(handover) = handover {
        report.former_layout = Some(handover.layout());
        report.entries_carried = handover.written();
        handover.finish()?;
    }
    Ok((maps, report))
}

fn digest(object: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, object).as_ref());
    out
}

/// Whether the pinned programs are those of this very object, all of them.
fn is_current(pins: &Pins, report: &OpenReport, digest: &[u8; 32]) -> Result<bool> {
    if report.maps_created != 0 {
        return Ok(false);
    }
    for hook in HOOKS {
        if open_pin(&pins.program(hook.program))?.is_none() {
            return Ok(false);
        }
    }
    let meta = Maps::open(pins)?.meta()?;
    Ok(meta.complete == stage::COMPLETE && meta.layout == skep_abi::LAYOUT && meta.object == *digest)
}

/// Loads the object onto the maps that are pinned, or pins new ones, and pins its programs over those that
/// are there. What is attached goes on with the program it has.
fn load(pins: &Pins, object: &[u8]) -> Result<()> {
    let has_set_retval = probe_set_retval();
    let mut ebpf = {
        let mut loader = EbpfLoader::new();
        loader.btf(None).override_global("HAS_SET_RETVAL", &has_set_retval, true);
        for name in MAPS {
            loader.map_pin_path(name, pins.map(name));
        }
        loader.load(object)?
    };
    // From here until the end is noted, a killed agent's successor loads again.
    let mut maps = Maps::open(pins)?;
    let meta = maps.meta()?;
    if meta.complete == stage::COMPLETE {
        maps.set_meta(Meta { complete: stage::RELOADING, ..meta })?;
    }
    // All of them are verified before the first takes a place.
    let mut loaded = Vec::new();
    for hook in HOOKS {
        loaded.push((hook, program(&mut ebpf, hook)?));
    }
    for (hook, fd) in loaded {
        replace_pin(&fd, &pins.program(hook.program))?;
    }
    remove_strangers(pins)
}

/// Programs that another object had.
fn remove_strangers(pins: &Pins) -> Result<()> {
    let dir = pins.program("");
    for entry in fs::read_dir(&dir).map_err(file("cannot list", &dir))? {
        let entry = entry.map_err(file("cannot list", &dir))?;
        if !HOOKS.iter().any(|h| entry.file_name() == h.program) {
            unpin(&entry.path())?;
        }
    }
    Ok(())
}

/// Loads one program of an object and returns a descriptor of its own.
pub(crate) fn program(ebpf: &mut Ebpf, hook: &Hook) -> Result<OwnedFd> {
    let refused = |reason: String| Error::Program { name: hook.program.to_owned(), reason };
    let program =
        ebpf.program_mut(hook.program).ok_or_else(|| refused("it is not in the object".to_owned()))?;
    let explain = |error: ProgramError| match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().collect();
            refused(format!("{io_error}\n{}", lines[lines.len().saturating_sub(40)..].join("\n")))
        }
        other => refused(other.to_string()),
    };
    let fd = match (hook.place, program) {
        (Place::Cgroup(_), Program::CgroupSockAddr(p)) => {
            let p: &mut CgroupSockAddr = p;
            p.load().map_err(explain)?;
            p.fd().map_err(|e| refused(e.to_string()))?.as_fd().try_clone_to_owned()
        }
        (Place::Pod(_) | Place::Uplink(_), Program::SchedClassifier(p)) => {
            let p: &mut SchedClassifier = p;
            p.load().map_err(explain)?;
            p.fd().map_err(|e| refused(e.to_string()))?.as_fd().try_clone_to_owned()
        }
        _ => return Err(refused("it is of another type in the object".to_owned())),
    };
    fd.map_err(|e| refused(e.to_string()))
}

/// Whether address hooks may set the error a call returns (Linux 6.1). Unknown counts as no.
pub(crate) fn probe_set_retval() -> u32 {
    let probed = is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval);
    u32::from(matches!(probed, Ok(true)))
}

/// The links of the cgroup and of the uplink.
fn node_links(pins: &Pins, config: &Config, uplink: u32, report: &mut OpenReport) -> Result<()> {
    for hook in HOOKS {
        let attached = match hook.place {
            Place::Cgroup(_) => attach::cgroup(pins, hook, &config.cgroup_root)?,
            Place::Uplink(direction) if uplink != 0 => {
                let link = pins.node_link(hook);
                attach::interface(pins, hook, &link, uplink, direction, config.tc)?
            }
            Place::Uplink(_) => {
                attach::remove_link(&pins.node_link(hook))?;
                continue;
            }
            Place::Pod(_) => continue,
        };
        match attached {
            Attached::Adopted => report.links_adopted += 1,
            Attached::Created => report.links_created += 1,
        }
    }
    Ok(())
}

/// The links of pods that are there go over to the pinned programs; those whose interface is gone are left to
/// the one who knows the pods.
fn pod_links(pins: &Pins, config: &Config, maps: &Maps) -> Result<()> {
    for (ifindex, _) in maps.pods()? {
        if net::interface_name(ifindex).is_none() {
            continue;
        }
        if let Err(error) = attach_pod_hooks(pins, config, ifindex, false) {
            // Interfaces of pods come and go meanwhile.
            if net::interface_name(ifindex).is_some() {
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Attaches both programs of a pod's interface; without `create` only links that are there are touched.
pub(crate) fn attach_pod_hooks(pins: &Pins, config: &Config, ifindex: u32, create: bool) -> Result<bool> {
    let mut all_there = true;
    for hook in HOOKS {
        let Place::Pod(direction) = hook.place else { continue };
        let link = pins.pod_link(ifindex, direction);
        if !create && attach::has_tcx(config.tc) && !attach::is_on(&link, ifindex)? {
            continue;
        }
        let attached = attach::interface(pins, hook, &link, ifindex, direction, config.tc)?;
        all_there &= attached == Attached::Adopted;
    }
    Ok(all_there)
}

/// Takes both programs off a pod's interface.
pub(crate) fn detach_pod_hooks(pins: &Pins, ifindex: u32) -> Result<bool> {
    let mut any = false;
    for hook in HOOKS {
        let Place::Pod(direction) = hook.place else { continue };
        let had_link = attach::remove_link(&pins.pod_link(ifindex, direction))?;
        any |= had_link || attach::remove_filter(ifindex, hook, direction);
    }
    Ok(any)
}

/// Whether both programs of a pod's interface are on it.
pub(crate) fn pod_is_attached(pins: &Pins, ifindex: u32, by_links: bool) -> Result<bool> {
    if !by_links {
        return Ok(net::interface_name(ifindex).is_some());
    }
    Ok(attach::is_on(&pins.pod_link(ifindex, Direction::Ingress), ifindex)?
        && attach::is_on(&pins.pod_link(ifindex, Direction::Egress), ifindex)?)
}

/// Removes the clsact filters of a node's interfaces; links go with their pins.
pub(crate) fn remove_filters(pins: &Pins) {
    let Ok(maps) = Maps::open(pins) else { return };
    for (ifindex, _) in maps.pods().unwrap_or_default() {
        for hook in HOOKS {
            if let Place::Pod(direction) = hook.place {
                attach::remove_filter(ifindex, hook, direction);
            }
        }
    }
    let uplink = maps.config().map_or(0, |c| c.uplink_ifindex);
    for hook in HOOKS {
        if let (Place::Uplink(direction), true) = (hook.place, uplink != 0) {
            attach::remove_filter(uplink, hook, direction);
        }
    }
}

/// Removes a directory of pins and all below it, detaching what is a link.
pub(crate) fn remove_tree(dir: &Path, failures: &mut Vec<Error>) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) => return failures.push(file("cannot list", dir)(e)),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&path, failures);
            continue;
        }
        let is_link = dir.file_name().is_some_and(|name| name == "links");
        let removed = if is_link { attach::remove_link(&path) } else { unpin(&path) };
        if let Err(e) = removed {
            failures.push(e);
        }
    }
    if let Err(e) = fs::remove_dir(dir) {
        failures.push(file("cannot remove", dir)(e));
    }
}
