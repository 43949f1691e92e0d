//! A cluster on this machine: bringing it up, showing it, taking it down.

pub mod agent;
pub mod config;
pub mod containerd;
pub mod demo;
pub mod dns;
pub mod down;
pub mod lan;
pub mod node_exec;
pub mod program;
pub mod status;
pub mod traffic;
pub mod undo;
pub mod up;

pub use config::{Config, Node};

/// One process of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its program's file name.
    pub program: &'static str,
    /// The node it belongs to; `None` for the server.
    pub node: Option<String>,
    /// The name under which it is recorded and logs.
    pub name: String,
}

/// The cluster's processes: the server's, then those of each node in the order they start.
#[must_use]
pub fn parts(config: &Config) -> Vec<Part> {
    let server = Part { program: up::SERVER, node: None, name: up::SERVER.to_owned() };
    let on = |node: &Node| {
        let node = node.clone();
        program::programs().map(move |program| Part {
            program: program.name,
            node: Some(node.name.clone()),
            name: program::process_name(program.name, &node),
        })
    };
    [server].into_iter().chain(config.nodes.iter().flat_map(on)).collect()
}

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
