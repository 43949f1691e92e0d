//! Attaching pinned programs by pinned links, and taking over the links that are there.
//!
//! From Linux 6.6 interfaces have TCX links, which are pinned like a cgroup's. Below, a clsact filter holds
//! the program; it has no pin, lives as long as the interface, and is exchanged in place.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{SchedClassifier, TcAttachType, tc};
use aya::util::KernelVersion;
use aya_obj::generated::bpf_link_type;

use crate::config::TcMode;
use crate::error::{Error, Result};
use crate::pins::{Direction, Hook, Pins, Place, file, open_pin, open_program, syscall, unpin};
use crate::{net, sys};

/// Priority and handle of Skep's clsact filters.
const FILTER: (u16, TcHandle) = (50, TcHandle::new(0, 1));

/// Whether a link was there or is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attached {
    Adopted,
    Created,
}

/// Whether this kernel has TCX links.
pub(crate) fn has_tcx(mode: TcMode) -> bool {
    mode == TcMode::Probe && KernelVersion::current().is_ok_and(|v| v >= KernelVersion::new(6, 6, 0))
}

/// Attaches the program to the cgroup, or brings the link that is there to it.
pub(crate) fn cgroup(pins: &Pins, hook: &Hook, root: &Path) -> Result<Attached> {
    let Place::Cgroup(attach_type) = hook.place else {
        return Err(Error::Invalid(format!("{} is no cgroup program", hook.program)));
    };
    let dir = std::fs::File::open(root).map_err(file("cannot open the cgroup", root))?;
    let id = dir.metadata().map_err(file("cannot read the cgroup", root))?.ino();
    let target = dir.as_raw_fd() as u32;
    let is_here = |info: &sys::LinkInfo| {
        info.kind == bpf_link_type::BPF_LINK_TYPE_CGROUP as u32 && info.cgroup_id() == id
    };
    ensure(pins, hook, &pins.node_link(hook), target, attach_type as u32, is_here)
}

/// Attaches the program to an interface, or brings what is there to it. `link` is the path of the pin.
pub(crate) fn interface(
    pins: &Pins,
    hook: &Hook,
    link: &Path,
    ifindex: u32,
    direction: Direction,
    mode: TcMode,
) -> Result<Attached> {
    if !has_tcx(mode) {
        return clsact(pins, hook, ifindex, direction);
    }
    let is_here = |info: &sys::LinkInfo| {
        info.kind == bpf_link_type::BPF_LINK_TYPE_TCX as u32 && info.ifindex() == ifindex
    };
    ensure(pins, hook, link, ifindex, direction.tcx() as u32, is_here)
}

fn ensure(
    pins: &Pins,
    hook: &Hook,
    at: &Path,
    target: u32,
    attach_type: u32,
    is_here: impl Fn(&sys::LinkInfo) -> bool,
) -> Result<Attached> {
    let program = open_program(pins, hook.program)?;
    if let Some(link) = open_pin(at)? {
        let info = sys::link_info(link.as_fd()).map_err(syscall("BPF_OBJ_GET_INFO_BY_FD", hook.label))?;
        if is_here(&info) {
            if info.prog_id != program_id(program.as_fd(), hook)? {
                sys::link_update(link.as_fd(), program.as_fd())
                    .map_err(syscall("BPF_LINK_UPDATE", hook.program))?;
            }
            return Ok(Attached::Adopted);
        }
        // The link of an interface that is gone, or of another cgroup.
        unpin(at)?;
        detach(&link);
    }
    let link = sys::link_create(program.as_fd(), target, attach_type)
        .map_err(syscall("BPF_LINK_CREATE", format!("{} at {}", hook.program, hook.label)))?;
    sys::obj_pin(link.as_fd(), at).map_err(syscall("BPF_OBJ_PIN", at.display().to_string()))?;
    Ok(Attached::Created)
}

fn program_id(program: BorrowedFd<'_>, hook: &Hook) -> Result<u32> {
    let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    let text = std::fs::read_to_string(&path).map_err(file("cannot read", Path::new(&path)))?;
    fdinfo(&text, "prog_id").ok_or_else(|| Error::Program {
        name: hook.program.to_owned(),
        reason: "the kernel does not tell its number".to_owned(),
    })
}

/// A number out of a `/proc/*/fdinfo/*` file.
pub(crate) fn fdinfo<T: std::str::FromStr>(text: &str, name: &str) -> Option<T> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().parse().ok()
}

/// Detaches a link for good; one that the kernel cut already is as good as detached.
pub(crate) fn detach(link: &OwnedFd) {
    if let Err(error) = sys::link_detach(link.as_fd()) {
        tracing::debug!(%error, "a link was not detached: its target is gone");
    }
}

/// Removes a pinned link. True if there was one.
pub(crate) fn remove_link(at: &Path) -> Result<bool> {
    let Some(link) = open_pin(at)? else { return Ok(false) };
    unpin(at)?;
    detach(&link);
    Ok(true)
}

/// Whether the pinned link is still on that interface.
pub(crate) fn is_on(at: &Path, ifindex: u32) -> Result<bool> {
    let Some(link) = open_pin(at)? else { return Ok(false) };
    let info =
        sys::link_info(link.as_fd()).map_err(syscall("BPF_OBJ_GET_INFO_BY_FD", at.display().to_string()))?;
    Ok(info.ifindex() == ifindex)
}

fn tc_type(direction: Direction) -> TcAttachType {
    match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    }
}

fn name_of(ifindex: u32) -> Result<String> {
    net::interface_name(ifindex).ok_or_else(|| Error::Interface {
        name: ifindex.to_string(),
        reason: "there is none of this index in this network namespace".to_owned(),
    })
}

fn clsact(pins: &Pins, hook: &Hook, ifindex: u32, direction: Direction) -> Result<Attached> {
    let refused = |reason: String| Error::Program { name: hook.program.to_owned(), reason };
    let name = name_of(ifindex)?;
    // It may be there already, of whichever owner.
    let _ = tc::qdisc_add_clsact(&name);
    let mut program =
        SchedClassifier::from_pin(pins.program(hook.program)).map_err(|e| refused(e.to_string()))?;
    let (priority, handle) = FILTER;
    let options = TcAttachOptions::Netlink(NlOptions { priority, handle, classid: None });
    let (id, attached) = match program.attach_with_options(&name, tc_type(direction), options) {
        Ok(id) => (id, Attached::Created),
        // It is there: exchange its program in place.
        Err(_) => {
            let link = SchedClassifierLink::attached(&name, tc_type(direction), priority, handle, None)
                .map_err(|e| refused(e.to_string()))?;
            let id = program
                .attach_to_link(link)
                .map_err(|e| refused(format!("cannot attach to {name} {}: {e:?}", direction.name())))?;
            (id, Attached::Adopted)
        }
    };
    // The filter is to outlive this process: give up the guard that would remove it.
    std::mem::forget(program.take_link(id).map_err(|e| refused(e.to_string()))?);
    Ok(attached)
}

/// Removes our clsact filter from an interface. True if there was one.
pub(crate) fn remove_filter(ifindex: u32, hook: &Hook, direction: Direction) -> bool {
    match net::interface_name(ifindex) {
        Some(name) => tc::qdisc_detach_program(&name, tc_type(direction), hook.program).is_ok(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_fdinfo() {
        let text = "pos:\t0\nflags:\t02000002\nprog_type:\t18\nprog_id:\t77\nmemlock:\t4096\n";
        assert_eq!(fdinfo::<u32>(text, "prog_id"), Some(77));
        assert_eq!(fdinfo::<u64>(text, "memlock"), Some(4096));
        assert_eq!(fdinfo::<u32>(text, "prog"), None);
    }
}
