//! `cargo xtask node-exec N -- CMD`: a command where node N is, that is in its network namespace and its cgroup.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use super::config::Config;

/// Runs a command on a node and gives its exit code. `node` is a name or a number counted from 1.
///
/// # Errors
/// A node this cluster does not have; a command that cannot be started.
pub fn node_exec(config: &Config, node: &str, words: &[String]) -> Result<ExitCode> {
    if node != config.node && node != "1" {
        bail!("no node {node}: this cluster has {} (1)", config.node);
    }
    let Some((program, arguments)) = words.split_first() else { bail!("which command?") };
    // The one node is the machine itself: its network namespace and the root of the cgroup hierarchy. A namespace of its
    // own would be entered here.
    let status =
        Command::new(program).args(arguments).status().with_context(|| format!("cannot start {program}"))?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(255)).unwrap_or(255)))
}
