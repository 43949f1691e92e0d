//! kubectl: the user's own, or for the tests those of the distribution's newer suites.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::apt::Suite;
use crate::layout::Layout;
use crate::run::{command, text, which};
use crate::ui::Step;

/// The oldest minor version of Kubernetes 1 that the tests are meant for.
pub const OLDEST_MINOR: u32 = 32;
/// The newest one: that of the API that is served.
pub const NEWEST_MINOR: u32 = 36;
/// Where a kubectl of the oldest version or a younger one is in Debian, and its folder among the tools.
const OLDEST: (&str, &str) = ("trixie", "kubectl");
/// The same of the newest one.
const NEWEST: (&str, &str) = ("sid", "kubectl-newest");
/// The package has had two names; the older one may be an empty successor of the other.
const PACKAGES: [&str; 2] = ["kubectl", "kubernetes-client"];

/// What to tell somebody who has none.
pub const HINT: &str = "kubectl comes from the Kubernetes project (https://kubernetes.io/docs/tasks/tools/) or from your distribution's \
                        package kubernetes-client; any version from 1.32 on will do";

/// Minor version of a kubectl.
///
/// # Errors
/// When it does not run or says nothing of a version.
pub fn minor(kubectl: &Path) -> Result<u32> {
    let text = text(command(kubectl).args(["version", "--client", "--output", "json"]))?;
    parse_minor(&text).with_context(|| format!("{} told no version", kubectl.display()))
}

fn parse_minor(text: &str) -> Option<u32> {
    let version: Value = serde_json::from_str(text).ok()?;
    let minor = version["clientVersion"]["minor"].as_str()?;
    minor.trim_end_matches('+').parse().ok()
}

/// The kubectl on PATH, whatever its version.
#[must_use]
pub fn own() -> Option<PathBuf> {
    which("kubectl")
}

/// A kubectl that is new enough: the one on PATH, or one fetched before, or one fetched now into `target/tools`.
///
/// # Errors
/// When there is none and none can be fetched.
pub fn recent(layout: &Layout) -> Result<PathBuf> {
    one_of(layout, OLDEST, OLDEST_MINOR, |minor| minor >= OLDEST_MINOR)
}

/// The oldest kubectl that is meant to work and the newest: from PATH, fetched before, or fetched now.
///
/// # Errors
/// When one of them is not there and cannot be fetched.
pub fn oldest_and_newest(layout: &Layout) -> Result<[PathBuf; 2]> {
    Ok([
        one_of(layout, OLDEST, OLDEST_MINOR, |minor| minor == OLDEST_MINOR)?,
        one_of(layout, NEWEST, NEWEST_MINOR, |minor| minor >= NEWEST_MINOR)?,
    ])
}

/// A kubectl of a fitting minor version; `wanted` is said to whom none can be given.
fn one_of(
    layout: &Layout,
    (suite, folder): (&str, &str),
    wanted: u32,
    fits: impl Fn(u32) -> bool,
) -> Result<PathBuf> {
    let fetched = layout.tools().join(folder).join("usr/bin/kubectl");
    for candidate in own().into_iter().chain([fetched.clone()]) {
        if minor(&candidate).is_ok_and(&fits) {
            return Ok(candidate);
        }
    }
    let step = Step::begin(format!(
        "fetching kubectl from Debian's {suite} suite into {}",
        layout.tools().display()
    ));
    fetch(layout, suite, folder)
        .with_context(|| format!("no kubectl of version 1.{wanted}, and fetching one failed; {HINT}"))?;
    let minor = minor(&fetched)?;
    if !fits(minor) {
        bail!("Debian's {suite} suite has kubectl 1.{minor} and not 1.{wanted}; {HINT}");
    }
    step.done(&format!("1.{minor}"));
    Ok(fetched)
}

/// Downloads and unpacks the package: the machine's sources stay as they are.
fn fetch(layout: &Layout, suite: &str, folder: &str) -> Result<()> {
    let tools = layout.tools();
    let apt = tools.join("apt");
    let packages = Suite::open(&apt, suite)?;
    for package in PACKAGES {
        // A package that this suite does not have is no fault while the other one is there.
        if packages.unpack(package, &tools.join(folder)).is_err() {
            continue;
        }
        if tools.join(folder).join("usr/bin/kubectl").exists() {
            break;
        }
    }
    fs::remove_dir_all(&apt)?;
    if !tools.join(folder).join("usr/bin/kubectl").exists() {
        bail!("none of the packages {} of {suite} holds a kubectl", PACKAGES.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_vendors_too() {
        assert_eq!(parse_minor(r#"{"clientVersion":{"major":"1","minor":"32"}}"#), Some(32));
        assert_eq!(parse_minor(r#"{"clientVersion":{"major":"1","minor":"32+"}}"#), Some(32));
        assert_eq!(parse_minor("{}"), None);
    }
}
