//! What is loaded, read from the pins alone.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use aya::maps::MapInfo;
use aya::programs::ProgramInfo;

use skep_abi::config::flags;

use crate::attach::fdinfo;
use crate::error::{Error, Result};
use crate::maps::Maps;
use crate::pins::{HOOKS, Hook, MAPS, Pins, Place, file, open_pin, syscall};
use crate::raw_map::RawMap;
use crate::report::{MapStatus, ProgramStatus, Status};
use crate::{net, pods, sys};

/// Reads everything. A node without pins has an empty status.
pub(crate) fn read(pins: &Pins, node: &str) -> Result<Status> {
    let mut status = Status { node: node.to_owned(), layout: skep_abi::LAYOUT, ..Status::default() };
    if !pins.root().exists() {
        return Ok(status);
    }
    let mut points = attach_points(pins)?;
    for hook in HOOKS {
        if let Some(mut program) = program(pins, hook)? {
            program.attach_points = points.remove(&program.id).unwrap_or_default();
            status.programs.push(program);
        }
    }
    for name in MAPS {
        if let Some(map) = map(pins, name)? {
            status.maps.push(map);
        }
    }
    if status.maps.len() == MAPS.len() {
        let maps = Maps::open(pins)?;
        status.pods = pods::list(pins, &maps)?;
        filter_points(&maps, &mut status)?;
    }
    Ok(status)
}

/// The readable places of each program, by the program's number.
fn attach_points(pins: &Pins) -> Result<BTreeMap<u32, Vec<String>>> {
    let mut points: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let dir = pins.links();
    let Ok(entries) = fs::read_dir(&dir) else { return Ok(points) };
    for entry in entries.flatten() {
        let Some(link) = open_pin(&entry.path())? else { continue };
        let info = sys::link_info(link.as_fd())
            .map_err(syscall("BPF_OBJ_GET_INFO_BY_FD", entry.path().display().to_string()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let point = match name.split_once('_') {
            Some(("cgroup", hook)) => format!("cgroup {hook}"),
            _ => {
                let direction = name.rsplit('_').next().unwrap_or_default();
                match net::interface_name(info.ifindex()) {
                    Some(interface) => format!("{interface} {direction} (tcx)"),
                    None => format!("interface {} {direction} (tcx)", info.ifindex()),
                }
            }
        };
        points.entry(info.prog_id).or_default().push(point);
    }
    points.values_mut().for_each(|list| list.sort());
    Ok(points)
}

/// Where interfaces carry filters instead of links, the places come from the records.
fn filter_points(maps: &Maps, status: &mut Status) -> Result<()> {
    let uplink = maps.config()?.uplink_ifindex;
    if maps.config()?.flags & flags::CLSACT == 0 {
        return Ok(());
    }
    let pods: Vec<u32> = status.pods.iter().filter(|p| p.attached).map(|p| p.pod.ifindex).collect();
    for program in &mut status.programs {
        let Some(hook) = HOOKS.iter().find(|h| h.program == program.name) else { continue };
        let interfaces = match hook.place {
            Place::Cgroup(_) => continue,
            Place::Uplink(_) => (uplink != 0).then_some(uplink).into_iter().collect(),
            Place::Pod(_) => pods.clone(),
        };
        let names = interfaces.into_iter().filter_map(net::interface_name);
        program.attach_points = names.map(|name| format!("{name} {} (clsact)", hook.label)).collect();
    }
    Ok(())
}

fn program(pins: &Pins, hook: &Hook) -> Result<Option<ProgramStatus>> {
    let path = pins.program(hook.program);
    if open_pin(&path)?.is_none() {
        return Ok(None);
    }
    let info = ProgramInfo::from_pin(&path)
        .map_err(|e| Error::Program { name: hook.program.to_owned(), reason: e.to_string() })?;
    Ok(Some(program_status(hook.program, &info)))
}

/// What the kernel tells of a loaded program.
pub(crate) fn program_status(name: &str, info: &ProgramInfo) -> ProgramStatus {
    ProgramStatus {
        name: name.to_owned(),
        id: info.id(),
        tag: info.tag(),
        verified_instructions: info.verified_instruction_count(),
        jited_bytes: info.size_jitted(),
        translated_bytes: info.size_translated().unwrap_or(0),
        attach_points: Vec::new(),
    }
}

fn map(pins: &Pins, name: &'static str) -> Result<Option<MapStatus>> {
    let path = pins.map(name);
    let Some(fd) = open_pin(&path)? else { return Ok(None) };
    let info = MapInfo::from_pin(&path).map_err(|source| Error::Map { name, source })?;
    let bytes = charged(fd.as_raw_fd())?;
    let map = RawMap::new(name, fd)?;
    let (name, max_entries) = (name.to_owned(), map.shape().max_entries);
    Ok(Some(MapStatus { name, id: info.id(), entries: map.count()?, max_entries, bytes }))
}

/// Memory charged to all maps of a node, in bytes.
pub(crate) fn map_bytes(pins: &Pins) -> Result<u64> {
    let mut sum = 0;
    for name in MAPS {
        if let Some(fd) = open_pin(&pins.map(name))? {
            sum += charged(fd.as_raw_fd())?;
        }
    }
    Ok(sum)
}

/// What `/proc` says a map costs.
fn charged(fd: i32) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{fd}");
    let text = fs::read_to_string(&path).map_err(file("cannot read", Path::new(&path)))?;
    Ok(fdinfo(&text, "memlock").unwrap_or(0))
}
