//! What can go wrong between the agent and the kernel.

use std::io;
use std::path::PathBuf;

/// Errors of the dataplane's user side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The eBPF object could not be read.
    #[error("cannot read the eBPF object {path}: {source}")]
    Object {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No BPF file system is mounted at the given place, and none could be mounted.
    #[error("no BPF file system at {path}, and it could not be mounted: {source}")]
    Bpffs {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory or file of the pins, or of the cgroup hierarchy, could not be used.
    #[error("{action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process holds the pins of this node.
    #[error("another agent holds the pins in {path}")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// What is pinned has a layout that this build knows nothing of.
    #[error(
        "the pins in {path} have layout {found}, and this build knows {known}: run the build that made them or a later one, \
         or remove them, which ends the connections of the node's pods"
    )]
    Layout {
        /// The directory.
        path: PathBuf,
        /// Its layout.
        found: u32,
        /// That of this build.
        known: u32,
    },
    /// The object could not be loaded.
    #[error("cannot load the eBPF object: {0}")]
    Load(#[from] aya::EbpfError),
    /// A program was refused by the kernel or is absent from the object.
    #[error("eBPF program {name}: {reason}")]
    Program {
        /// The program's name.
        name: String,
        /// Why, with the verifier's last lines where it spoke.
        reason: String,
    },
    /// A map could not be opened, read or written.
    #[error("eBPF map {name}: {source}")]
    Map {
        /// The map's name.
        name: &'static str,
        /// Why.
        source: aya::maps::MapError,
    },
    /// A `bpf(2)` call failed.
    #[error("{call} for {what}: {source}")]
    Syscall {
        /// The command.
        call: &'static str,
        /// What it was for.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// An interface does not exist in this network namespace, or has no address of the needed family.
    #[error("interface {name}: {reason}")]
    Interface {
        /// Its name or index.
        name: String,
        /// What is missing.
        reason: String,
    },
    /// A value given by the caller cannot be used.
    #[error("{0}")]
    Invalid(String),
}

/// Result of the dataplane's user side.
pub type Result<T, E = Error> = std::result::Result<T, E>;
