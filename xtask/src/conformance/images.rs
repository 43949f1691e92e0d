//! The images that the suite's pods run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cluster::{Config, containerd};
use crate::run::captured;
use crate::ui::Step;

/// The archives of a folder.
///
/// # Errors
/// When the folder cannot be read or has none.
pub fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tar") {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("{} has no OCI archive (*.tar)", folder.display());
    }
    found.sort();
    Ok(found)
}

/// Puts archives into the node's containerd.
///
/// # Errors
/// When containerd refuses one.
pub fn load(config: &Config, archives: &[PathBuf]) -> Result<()> {
    let step = Step::begin("loading the suite's images");
    for archive in archives {
        step.note(&archive.display().to_string());
        captured(containerd::ctr(config).args(["images", "import"]).arg(archive))?;
    }
    step.done(&format!("{} archives", archives.len()));
    Ok(())
}
