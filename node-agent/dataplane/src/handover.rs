//! Taking over from an agent whose maps had another layout, killed at any point or not.
//!
//! 1. The maps that are alike in both layouts are pinned in the new directory too; the others are made anew. Whatever fails up
//!    to here leaves the older layout in force, and the next agent begins again.
//! 2. The programs are loaded, and the entries of maps that are not alike are copied, again until little is new.
//! 3. `META` says [`stage::MOVING`]: from here on it only goes forward. The pins of links are moved, each in one step, and the
//!    program of each link is exchanged, which is one step as well.
//! 4. What old programs wrote to old maps meanwhile is copied, `META` says [`stage::COMPLETE`], and the older pins go.
//!
//! Between 2 and 4 an old program and a new one may see different maps, where they are not alike: a connection that begins
//! in those milliseconds may have to begin again. One that lived before is known to both.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use aya_obj::Object;
use skep_abi::config::stage;
use skep_abi::{LAYOUT, Meta};

use crate::attach;
use crate::carry::{Carried, InUse};
use crate::error::{Error, Result};
use crate::layouts::{Entry, OLDEST, Origin, origin};
use crate::load::remove_tree;
use crate::maps::Maps;
use crate::pins::{HOOKS, MAPS, Pins, Place, file, open_pin, syscall, unpin};
use crate::sys::{self, Shape};

/// A pass that writes fewer entries than this is the last one before links are moved.
const FEW: usize = 32;
/// So many passes at most.
const PASSES: usize = 8;

/// The pins of older layouts that an agent finds.
#[derive(Debug)]
pub(crate) struct Former {
    /// The layout whose entries are taken over.
    layout: u32,
    /// Its pins.
    pins: Pins,
    /// All that there are, this one included.
    all: Vec<Pins>,
}

/// Where a hand-over stands.
pub(crate) struct Handover {
    former: Former,
    /// What the pins of this layout said at the beginning.
    found: u32,
    /// Maps that are not alike: the old one, and how its entries are turned.
    unlike: Vec<(&'static str, OwnedFd, Vec<Entry>)>,
    /// The same, with the new maps.
    carried: Vec<Carried>,
    written: usize,
}

/// What `META` says of how far the agent came that wrote it; its shape is that of every layout.
fn stage_of(pins: &Pins) -> Result<u32> {
    let Some(meta) = open_pin(&pins.map("META"))? else { return Ok(stage::FILLING) };
    let width = size_of::<skep_abi::Meta>();
    let value = sys::lookup(meta.as_fd(), &[0; 4], width).map_err(syscall("BPF_MAP_LOOKUP_ELEM", "META"))?;
    let word = value.as_deref().and_then(|v| v.get(4..8)).and_then(|v| v.try_into().ok());
    Ok(word.map_or(stage::FILLING, u32::from_ne_bytes))
}

fn has_links(pins: &Pins) -> bool {
    fs::read_dir(pins.links()).is_ok_and(|mut entries| entries.next().is_some())
}

impl Former {
    /// The older layouts beside these pins. What a newer one left that never came into force is removed.
    ///
    /// # Errors
    /// When a layout is in force that this build does not know.
    pub(crate) fn find(pins: &Pins) -> Result<Option<Self>> {
        let mut found: Option<(u32, u32, Pins)> = None;
        let mut all = Vec::new();
        for (layout, other) in pins.others()? {
            let stage = stage_of(&other)?;
            if layout > LAYOUT && stage == stage::FILLING && !has_links(&other) {
                tracing::warn!(
                    layout,
                    "an agent with a newer layout did not come into force; its pins are removed"
                );
                remove(&other)?;
                continue;
            }
            if !(OLDEST..LAYOUT).contains(&layout) {
                return Err(Error::Layout { path: other.root().to_owned(), found: layout, known: LAYOUT });
            }
            // The newest one that was in force, or on its way to it.
            let rank = (u32::from(stage != stage::FILLING), layout);
            if found.as_ref().is_none_or(|(in_force, known, _)| rank > (*in_force, *known)) {
                found = Some((rank.0, layout, other.clone()));
            }
            all.push(other);
        }
        Ok(found.map(|(_, layout, pins)| Self { layout, pins, all }))
    }

    /// Makes this layout's directory ready to load `object` into: with the maps that are alike, and nothing of an attempt
    /// that did not come as far as links.
    pub(crate) fn begin(self, pins: &Pins, object: &[u8]) -> Result<Handover> {
        let found = stage_of(pins)?;
        if found == stage::FILLING {
            for dir in [pins.map(""), pins.program("")] {
                for entry in fs::read_dir(&dir).map_err(file("cannot list", &dir))? {
                    unpin(&entry.map_err(file("cannot list", &dir))?.path())?;
                }
            }
        }
        tracing::info!(from = self.layout, to = LAYOUT, stage = found, "taking over from another layout");
        let mut handover =
            Handover { former: self, found, unlike: Vec::new(), carried: Vec::new(), written: 0 };
        if found != stage::COMPLETE {
            handover.share(pins, &shapes(object)?)?;
        }
        Ok(handover)
    }
}

/// What the maps of an object are like.
fn shapes(object: &[u8]) -> Result<Vec<(String, Shape)>> {
    let object = Object::parse(object).map_err(|e| Error::Load(e.into()))?;
    let shape = |map: &aya_obj::Map| Shape {
        kind: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        flags: map.map_flags(),
    };
    Ok(object.maps.iter().map(|(name, map)| (name.clone(), shape(map))).collect())
}

impl Handover {
    /// The layout that is taken over from.
    pub(crate) const fn layout(&self) -> u32 {
        self.former.layout
    }

    /// Entries that were written to maps of this layout.
    pub(crate) const fn written(&self) -> usize {
        self.written
    }

    /// Pins the maps that are alike, and keeps the others to copy from.
    fn share(&mut self, pins: &Pins, shapes: &[(String, Shape)]) -> Result<()> {
        for name in MAPS {
            let Some((_, wanted)) = shapes.iter().find(|(known, _)| known == name) else { continue };
            let Some(map) = open_pin(&self.former.pins.map(name))? else { continue };
            let shape = sys::map_shape(map.as_fd()).map_err(syscall("BPF_OBJ_GET_INFO_BY_FD", *name))?;
            match origin(name, self.former.layout, Some(shape), *wanted) {
                Origin::Copied(by) => self.unlike.push((name, map, by)),
                Origin::Shared if self.found == stage::FILLING => {
                    let at = pins.map(name);
                    sys::obj_pin(map.as_fd(), &at)
                        .map_err(syscall("BPF_OBJ_PIN", at.display().to_string()))?;
                }
                Origin::Shared | Origin::Empty => {}
            }
        }
        Ok(())
    }

    /// Copies entries into the new maps, which are there now, until only a few are new.
    pub(crate) fn fill(&mut self, pins: &Pins) -> Result<()> {
        for (name, from, by) in self.unlike.drain(..) {
            let Some(to) = open_pin(&pins.map(name))? else { continue };
            self.carried.push(Carried::new(name, from, to, by)?);
        }
        // One that was on its way has both kinds of programs in use.
        if self.found == stage::FILLING {
            for _ in 0..PASSES {
                if self.pass(InUse::Old)? < FEW {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Notes that it only goes forward from here, and moves the pins of links.
    pub(crate) fn take_links(&self, pins: &Pins, maps: &mut Maps) -> Result<()> {
        if self.found == stage::COMPLETE {
            return Ok(());
        }
        let meta = maps.meta()?;
        maps.set_meta(Meta { complete: stage::MOVING, ..meta })?;
        for other in &self.former.all {
            let Ok(entries) = fs::read_dir(other.links()) else { continue };
            for entry in entries {
                let entry = entry.map_err(file("cannot list", &other.links()))?;
                let to = pins.links().join(entry.file_name());
                if !to.exists() {
                    fs::rename(entry.path(), &to).map_err(file("cannot move to", &to))?;
                }
            }
        }
        Ok(())
    }

    /// Once every link has its new program: takes off links that this layout has no program for, and copies what old programs
    /// wrote to old maps up to the end.
    pub(crate) fn settle(&mut self, pins: &Pins) -> Result<()> {
        if self.found == stage::COMPLETE {
            return Ok(());
        }
        self.pass(InUse::New)?;
        remove_strange_links(pins)?;
        if let Err(error) = sys::wait_for_programs() {
            tracing::warn!(%error, "what old programs write in these moments may be left behind");
        }
        self.pass(InUse::New)?;
        Ok(())
    }

    /// Removes the older pins. Every link of theirs that is in use has moved.
    pub(crate) fn finish(self) -> Result<()> {
        for other in &self.former.all {
            remove(other)?;
        }
        Ok(())
    }

    fn pass(&mut self, in_use: InUse) -> Result<usize> {
        let mut written = 0;
        for map in &mut self.carried {
            let passed = map.pass(in_use)?;
            if passed.refused > 0 {
                let name = map.name();
                tracing::warn!(name, entries = passed.refused, "entries of the older layout found no room");
            }
            written += passed.written;
        }
        self.written += written;
        Ok(written)
    }
}

/// Removes the pins of a layout.
fn remove(pins: &Pins) -> Result<()> {
    let mut failures = Vec::new();
    remove_tree(pins.root(), &mut failures);
    failures.into_iter().next().map_or(Ok(()), Err)
}

/// Links of hooks that only the older layout had.
fn remove_strange_links(pins: &Pins) -> Result<()> {
    let known: Vec<PathBuf> =
        HOOKS.iter().filter(|h| !matches!(h.place, Place::Pod(_))).map(|h| pins.node_link(h)).collect();
    let dir = pins.links();
    for entry in fs::read_dir(&dir).map_err(file("cannot list", &dir))? {
        let path = entry.map_err(file("cannot list", &dir))?.path();
        let of_pod = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"pod_"));
        if !of_pod && !known.contains(&path) {
            attach::remove_link(&path)?;
        }
    }
    Ok(())
}
