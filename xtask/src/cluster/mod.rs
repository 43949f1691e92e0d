//! A cluster on this machine: bringing it up, showing it, taking it down.

pub mod config;
pub mod containerd;
pub mod demo;
pub mod down;
pub mod node_exec;
pub mod status;
pub mod traffic;
pub mod undo;
pub mod up;

pub use config::Config;

/// The cluster's processes, in the order they start.
pub const PROCESSES: [&str; 3] = ["containerd", "skep-server", "skep-agent"];

/// The cluster of a directory. When the directory was deleted under a running cluster, what `/run` knows of it.
///
/// # Errors
/// When a record is there and cannot be read.
pub fn find(dir: &std::path::Path) -> anyhow::Result<Option<Config>> {
    if let Some(config) = Config::load(dir)? {
        return Ok(Some(config));
    }
    let dir = std::path::absolute(dir)?;
    for run in crate::kernel::subdirectories(std::path::Path::new("/run/skep")) {
        if let Some(config) = Config::load(&run)?
            && config.dir == dir
        {
            return Ok(Some(config));
        }
    }
    Ok(None)
}
