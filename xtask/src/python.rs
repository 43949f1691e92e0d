//! The Python client of Kubernetes, for the tests: in a virtual environment below `target/tools`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::layout::Layout;
use crate::run::{captured, command, text};
use crate::ui::Step;

/// The package, at the version that is known to fit.
const CLIENT: &str = "kubernetes==37.0.2";

/// A Python that has the client.
///
/// # Errors
/// When there is no Python, or the package cannot be fetched.
pub fn with_client(layout: &Layout) -> Result<PathBuf> {
    let folder = layout.tools().join("python");
    let python = folder.join("bin/python3");
    let has = || {
        let freeze = text(command(&python).args(["-m", "pip", "freeze", "--disable-pip-version-check"]));
        freeze.is_ok_and(|packages| packages.lines().any(|package| package == CLIENT))
    };
    if has() {
        return Ok(python);
    }
    let step = Step::begin(format!("fetching the Python client {CLIENT} into {}", folder.display()));
    let _ = fs::remove_dir_all(&folder);
    captured(command("python3").args(["-m", "venv"]).arg(&folder))
        .context("the tests need python3 with its venv module: install python3-venv")?;
    captured(command(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        CLIENT,
    ]))?;
    step.done("");
    Ok(python)
}
