//! Doing something inside another network namespace.

use std::fs::File;
use std::io;
use std::path::Path;

/// Runs `f` on a thread of its own that has entered the namespace; the thread ends with it.
pub fn within<T: Send + 'static>(ns: &Path, f: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let file = File::open(ns)?;
    let work = std::thread::Builder::new().name("netns".into()).spawn(move || -> io::Result<T> {
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?;
        Ok(f())
    })?;
    work.join().map_err(|_| io::Error::other("the thread in the network namespace ended early"))?
}
