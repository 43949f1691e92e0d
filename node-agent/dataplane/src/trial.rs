//! Trying the object out: what the verifier says of each program, and attaching programs to an interface or a
//! cgroup for as long as the process lives. Nothing is pinned, and the maps are empty: a program that is told
//! nothing touches nothing.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::time::{Duration, Instant};

use aya::maps::Map;
use aya::programs::{CgroupAttachMode, Program, SchedClassifier, TcAttachType, tc};
use aya::{Ebpf, EbpfLoader};
use aya_obj::Object;
use aya_obj::generated::{bpf_insn, bpf_prog_type};

use crate::error::{Error, Result};
use crate::load;
use crate::pins::{Direction, HOOKS, Hook, Place, file};
use crate::sys;

/// What the kernel said when it took a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The program's name.
    pub name: String,
    /// Where it belongs: `cgroup connect4`, `pod ingress`, `uplink egress`.
    pub place: String,
    /// Instructions the verifier walked, over all paths.
    pub processed: u32,
    /// Bytes of stack, for each function, as the verifier prints them: `136` or `136+64`.
    pub stack: String,
    /// Bytes of machine code.
    pub jited_bytes: u32,
    /// Bytes of BPF code after the kernel's rewriting.
    pub translated_bytes: u32,
    /// How long the kernel took to take it.
    pub load_time: Duration,
}

/// Loaded programs; dropping them detaches and unloads them.
#[derive(Debug)]
pub struct Trial {
    ebpf: Ebpf,
    hooks: Vec<&'static Hook>,
    verified: Vec<Verified>,
}

/// Reads the programs' log records.
pub struct Records(aya_log::EbpfLogger<Printer>);

struct Printer(fn(&str));

impl log::Log for Printer {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        (self.0)(&record.args().to_string());
    }

    fn flush(&self) {}
}

impl Records {
    /// Hands over every record there is.
    pub fn flush(&mut self) {
        self.0.flush();
    }

    /// Waits until there may be records; false when the time is over or a signal came.
    pub fn wait(&self, time: Duration) -> bool {
        let millis = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        let mut poll = libc::pollfd { fd: self.0.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd, borrowed for the call.
        #[allow(unsafe_code)]
        let ready = unsafe { libc::poll(&raw mut poll, 1, millis) };
        ready > 0
    }
}

impl Trial {
    /// Loads all programs of the object, or the one named.
    ///
    /// # Errors
    /// When the object cannot be read, holds no such program, or is refused by the verifier, whose last lines
    /// the error carries.
    pub fn load(object: &Path, only: Option<&str>) -> Result<Self> {
        let bytes = fs::read(object).map_err(|source| Error::Object { path: object.to_owned(), source })?;
        let hooks: Vec<&Hook> = HOOKS.iter().filter(|h| only.is_none_or(|name| h.program == name)).collect();
        if hooks.is_empty() {
            let names: Vec<&str> = HOOKS.iter().map(|h| h.program).collect();
            let name = only.unwrap_or_default();
            return Err(Error::Invalid(format!(
                "there is no program {name:?}; there are {}",
                names.join(", ")
            )));
        }
        let has_set_retval = load::probe_set_retval();
        let mut loader = EbpfLoader::new();
        loader.btf(None).override_global("HAS_SET_RETVAL", &has_set_retval, true);
        let mut ebpf = loader.load(&bytes)?;
        let mut verified = Vec::new();
        for hook in &hooks {
            load::program(&mut ebpf, hook)?;
            verified.push(verify(&ebpf, &bytes, hook)?);
        }
        Ok(Self { ebpf, hooks, verified })
    }

    /// What the kernel said of each program.
    #[must_use]
    pub fn verified(&self) -> &[Verified] {
        &self.verified
    }

    /// Begins to hand the programs' log records to `print`.
    ///
    /// # Errors
    /// When the object was built without records.
    pub fn records(&mut self, print: fn(&str)) -> Result<Records> {
        let logger = aya_log::EbpfLogger::init_with_logger(&mut self.ebpf, Printer(print));
        logger.map(Records).map_err(|e| Error::Invalid(format!("no log records: {e}")))
    }

    /// Attaches the interface programs. Returns where.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach_interface(&mut self, name: &str) -> Result<Vec<String>> {
        // It may be there already; kernels with TCX do not need it.
        let _ = tc::qdisc_add_clsact(name);
        let mut places = Vec::new();
        for hook in &self.hooks {
            let (Place::Pod(direction) | Place::Uplink(direction)) = hook.place else { continue };
            let program: &mut SchedClassifier = match self.ebpf.program_mut(hook.program) {
                Some(Program::SchedClassifier(program)) => program,
                _ => continue,
            };
            let at = match direction {
                Direction::Ingress => TcAttachType::Ingress,
                Direction::Egress => TcAttachType::Egress,
            };
            program.attach(name, at).map_err(|e| refused(hook, format!("cannot attach to {name}: {e}")))?;
            places.push(format!("{} at {name} {}", hook.program, direction.name()));
        }
        Ok(places)
    }

    /// Attaches the socket programs to a cgroup. Returns where.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach_cgroup(&mut self, path: &Path) -> Result<Vec<String>> {
        let dir = fs::File::open(path).map_err(file("cannot open the cgroup", path))?;
        let mut places = Vec::new();
        for hook in &self.hooks {
            if let (Place::Cgroup(_), Some(Program::CgroupSockAddr(program))) =
                (hook.place, self.ebpf.program_mut(hook.program))
            {
                program
                    .attach(&dir, CgroupAttachMode::Single)
                    .map_err(|e| refused(hook, format!("cannot attach to {}: {e}", path.display())))?;
                places.push(format!("{} at {} {}", hook.program, path.display(), hook.label));
            }
        }
        Ok(places)
    }
}

fn refused(hook: &Hook, reason: String) -> Error {
    Error::Program { name: hook.program.to_owned(), reason }
}

/// Loads the program once more, with the verifier's statistics asked for, which the loader library keeps to
/// itself when all goes well.
fn verify(ebpf: &Ebpf, bytes: &[u8], hook: &Hook) -> Result<Verified> {
    let (kind, attach_type, place) = match hook.place {
        Place::Cgroup(at) => (bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, at as u32, "cgroup"),
        Place::Pod(_) => (bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, 0, "pod"),
        Place::Uplink(_) => (bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, 0, "uplink"),
    };
    let instructions = instructions(ebpf, bytes, hook)?;
    let name = CString::new(hook.program).map_err(|e| refused(hook, e.to_string()))?;
    let begun = Instant::now();
    let log = sys::prog_load(kind as u32, attach_type, &name, &instructions)
        .map_err(|e| refused(hook, e.to_string()))?;
    let load_time = begun.elapsed();
    let info = match ebpf.program(hook.program) {
        Some(Program::CgroupSockAddr(p)) => p.info(),
        Some(Program::SchedClassifier(p)) => p.info(),
        _ => return Err(refused(hook, "it is not loaded".to_owned())),
    }
    .map_err(|e| refused(hook, e.to_string()))?;
    let (processed, stack) = statistics(&log);
    Ok(Verified {
        name: hook.program.to_owned(),
        place: format!("{place} {}", hook.label),
        processed: processed.or(info.verified_instruction_count()).unwrap_or(0),
        stack,
        jited_bytes: info.size_jitted(),
        translated_bytes: info.size_translated().unwrap_or(0),
        load_time,
    })
}

/// The program's instructions, with the maps of the loaded object in place.
fn instructions(ebpf: &Ebpf, bytes: &[u8], hook: &Hook) -> Result<Vec<bpf_insn>> {
    let bad = |reason: String| refused(hook, reason);
    let mut object = Object::parse(bytes).map_err(|e| bad(e.to_string()))?;
    let fds: Vec<(String, i32)> =
        ebpf.maps().filter_map(|(name, map)| Some((name.to_owned(), map_fd(map)?))).collect();
    let shapes: Vec<_> = object.maps.drain().collect();
    // A map that is left out would be taken for another one of its section.
    if let Some((name, _)) = shapes.iter().find(|(name, _)| !fds.iter().any(|(known, _)| known == name)) {
        return Err(bad(format!("the map {name} is of a kind that is not known here")));
    }
    let text: std::collections::HashSet<usize> =
        object.functions.keys().map(|(section, _)| *section).collect();
    let joined = shapes.iter().filter_map(|(name, shape)| {
        let (_, fd) = fds.iter().find(|(known, _)| known == name)?;
        Some((name.as_str(), *fd, shape))
    });
    object.relocate_maps(joined, &text).map_err(|e| bad(e.to_string()))?;
    object.relocate_calls(&text).map_err(|e| bad(e.to_string()))?;
    let key = object.programs.get(hook.program).map(aya_obj::Program::function_key);
    let function = key.and_then(|key| object.functions.get(&key));
    function.map(|f| f.instructions.clone()).ok_or_else(|| bad("it is not in the object".to_owned()))
}

fn map_fd(map: &Map) -> Option<i32> {
    let data = match map {
        Map::Array(m)
        | Map::HashMap(m)
        | Map::LruHashMap(m)
        | Map::LpmTrie(m)
        | Map::PerCpuHashMap(m)
        | Map::PerCpuArray(m)
        | Map::RingBuf(m) => m,
        _ => return None,
    };
    Some(data.fd().as_fd().as_raw_fd())
}

/// `processed N insns` and `stack depth N` of the verifier's statistics.
fn statistics(log: &str) -> (Option<u32>, String) {
    let after = |mark: &str| {
        let at = log.rfind(mark)? + mark.len();
        log[at..].split_whitespace().next()
    };
    let processed = after("processed ").and_then(|n| n.parse().ok());
    (processed, after("stack depth ").unwrap_or("?").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_words_are_understood() {
        let log = "verification time 211 usec\nstack depth 136+64\nprocessed 1442 insns (limit 1000000) max_states_per_insn 4";
        assert_eq!(statistics(log), (Some(1442), "136+64".to_owned()));
        assert_eq!(statistics(""), (None, "?".to_owned()));
    }
}
