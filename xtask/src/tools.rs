//! Tools that cargo builds for this checkout alone, into `target/tools`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::run::{self, captured, command, text};
use crate::ui::Step;

/// A tool out of the crate registry, at the version that is known to fit.
pub struct Tool {
    /// The crate, and its program.
    pub name: &'static str,
    /// The version.
    pub version: &'static str,
    /// What it is for, said before it is installed.
    pub purpose: &'static str,
}

/// Licences, sources and bans of dependencies.
pub const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    purpose: "it checks licences and sources of dependencies (a few minutes to build, once)",
};

impl Tool {
    fn program(&self, tools: &Path) -> PathBuf {
        tools.join("bin").join(self.name)
    }

    /// The tool in `tools`, where it is there at its version.
    #[must_use]
    pub fn installed(&self, tools: &Path) -> Option<PathBuf> {
        let program = self.program(tools);
        let version = text(command(&program).arg("--version")).ok()?;
        version.trim().ends_with(self.version).then_some(program)
    }

    /// The tool in `tools`, built if it is not there; `prepare` adds what this one needs to the `cargo install`.
    ///
    /// # Errors
    /// When it cannot be built, or does not run afterwards.
    pub fn ensure(&self, tools: &Path, prepare: impl FnOnce(&mut std::process::Command)) -> Result<PathBuf> {
        if let Some(program) = self.installed(tools) {
            return Ok(program);
        }
        let Tool { name, version, purpose } = self;
        eprintln!("Missing on this machine:\n  - {name} {version}: {purpose}");
        let step = Step::begin(format!("building {name}"));
        let mut cargo = run::cargo();
        cargo.args(["install", name, "--version", version, "--locked", "--force"]);
        cargo.arg("--root").arg(tools).arg("--target-dir").arg(tools.join("build"));
        prepare(&mut cargo);
        captured(&mut cargo)?;
        step.done("");
        // Its intermediate files are of no more use, and large.
        let _ = fs::remove_dir_all(tools.join("build"));
        match self.installed(tools) {
            Some(program) => Ok(program),
            None => bail!("{} does not run", self.program(tools).display()),
        }
    }
}
