//! The network namespaces of a node: those of the processes in its cgroup, and the agent's own.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use crate::error::{Error, Result};
use crate::pins::file;

/// Opens each of them, once.
fn of_node(cgroup: &Path) -> Result<Vec<File>> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let mut take = |path: &Path| {
        // A process may have ended since it was listed.
        if let Ok(namespace) = File::open(path)
            && let Ok(data) = namespace.metadata()
            && seen.insert(data.ino())
        {
            found.push(namespace);
        }
    };
    take(Path::new("/proc/thread-self/ns/net"));
    let mut folders = vec![cgroup.to_owned()];
    fs::metadata(cgroup).map_err(file("cannot read the cgroup", cgroup))?;
    while let Some(folder) = folders.pop() {
        let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            take(&Path::new("/proc").join(process).join("ns/net"));
        }
        let below = fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    Ok(found)
}

/// Runs something in each, one after the other, in a thread of its own. What goes wrong in one does not keep it from the others;
/// the first failure is returned when all are done.
pub(crate) fn in_each(cgroup: &Path, mut work: impl FnMut() -> Result<()> + Send) -> Result<()> {
    let namespaces = of_node(cgroup)?;
    let run = move || {
        let mut failure = None;
        for namespace in namespaces {
            let entered = setns(&namespace, CloneFlags::CLONE_NEWNET)
                .map_err(|e| file("cannot enter a namespace of", cgroup)(e.into()));
            if let Err(error) = entered.and_then(|()| work()) {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespaces".to_owned()).spawn_scoped(scope, run);
        let thread = thread.map_err(file("cannot start a thread for", cgroup))?;
        thread.join().unwrap_or_else(|_| Err(Error::Invalid("the look at namespaces ended early".to_owned())))
    })
}
