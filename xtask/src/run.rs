//! Starting other programs with an environment of their own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Variables that `cargo run` sets for this program and that mislead the programs it starts: another toolchain would load
/// the wrong compiler driver, and build scripts would see a change where there is none.
const LEAKED: &[&str] =
    &["LD_LIBRARY_PATH", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PRIMARY_PACKAGE"];

/// A command without what cargo left in the environment.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if LEAKED.contains(&name.as_str())
            || name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_BIN_")
            || name.starts_with("NEXTEST")
        {
            command.env_remove(name);
        }
    }
    command
}

/// The cargo that runs this program, of the same toolchain.
#[must_use]
pub fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// `outer` with more arguments, in the environment and the directory that `inner` has.
#[must_use]
pub fn wrapped<'a>(
    mut outer: Command,
    arguments: impl IntoIterator<Item = &'a OsStr>,
    inner: &Command,
) -> Command {
    outer.args(arguments);
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(dir) = inner.get_current_dir() {
        outer.current_dir(dir);
    }
    outer
}

/// How a command reads in a message.
#[must_use]
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut words = vec![program.to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs a command whose output the person should see.
///
/// # Errors
/// When it cannot be started or fails.
pub fn passthrough(command: &mut Command) -> Result<()> {
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a command and keeps its output; a failure carries the last lines of its standard error.
///
/// # Errors
/// When it cannot be started or fails.
pub fn captured(command: &mut Command) -> Result<Output> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.trim_end().lines().collect();
        let last = lines[lines.len().saturating_sub(12)..].join("\n");
        bail!("`{}` failed ({}): {last}", shown(command), output.status);
    }
    Ok(output)
}

/// Standard output of a command that succeeds, as text.
///
/// # Errors
/// When it cannot be started or fails.
pub fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&captured(command)?.stdout).into_owned())
}

/// Where a program is: along PATH, then where distributions put those of the administrator.
#[must_use]
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_what_the_program_said() {
        let error = captured(command("sh").args(["-c", "echo spoken >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("spoken") && error.contains("3"), "{error}");
    }

    #[test]
    fn which_finds_files_only() {
        assert!(which("sh").is_some());
        assert!(which("no-such-program-anywhere").is_none());
    }
}
