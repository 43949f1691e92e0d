//! `cargo xtask tidy`: a test of the walls between the rooms.

pub mod docs;
pub mod edges;
pub mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::layout::Layout;

/// A place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// File, relative to the repository, with a line number where there is one.
    pub at: String,
    /// Which rule and how.
    pub what: String,
}

/// A file of the repository.
#[derive(Debug, Clone)]
pub struct Source {
    /// Path relative to the repository, with slashes.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Checks every rule.
///
/// # Errors
/// When the repository cannot be read.
pub fn check(layout: &Layout) -> Result<Vec<Fault>> {
    let files = read_tree(&layout.root)?;
    let mut faults = edges::check(&edges::workspace(layout)?);
    faults.extend(sources::check(&files));
    faults.extend(sources::stale_rows(&files));
    faults.extend(docs::check(&layout.root, &files));
    faults.extend(crate::conformance::ledger::check(&layout.root)?);
    faults.sort();
    Ok(faults)
}

/// Every Rust and Markdown file of the checkout, build output aside.
///
/// # Errors
/// When a folder or file cannot be read.
pub fn read_tree(root: &Path) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if entry.file_type()?.is_dir() {
                if name != "target" && (!name.starts_with('.') || name == ".ci") {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") || name.ends_with(".md") {
                let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
                files.push(Source { path: relative(root, &path), text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn relative(root: &Path, path: &Path) -> String {
    let path: PathBuf = path.strip_prefix(root).unwrap_or(path).to_path_buf();
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
pub(crate) fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}
