//! `cargo xtask node-exec N -- CMD`: a command where node N is, that is in its network namespace and its cgroup.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::config::Config;
use super::program::on_node;
use crate::run::command;

/// Runs a command on a node and gives its exit code. `node` is a name or a number counted from 1.
///
/// # Errors
/// A node this cluster does not have; a command that cannot be started.
pub fn node_exec(config: &Config, node: &str, words: &[String]) -> Result<ExitCode> {
    let node = config.node(node)?;
    let Some((program, arguments)) = words.split_first() else { bail!("which command?") };
    let mut inner = command(program);
    inner.args(arguments);
    let status = on_node(config, node, &inner)
        .status()
        .with_context(|| format!("cannot start {program} on {}", node.name))?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(255)).unwrap_or(255)))
}
