//! Packages of Debian's suites, whichever this machine runs: fetched with sources and package lists of their own, unpacked
//! and never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{captured, command, text, which};

/// The keys that sign Debian's archive; the package `debian-archive-keyring` brings them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite, in a folder of its own.
pub struct Suite {
    dir: PathBuf,
    options: Vec<String>,
}

impl Suite {
    /// Reads the package lists of a suite into `dir`, which nobody else uses.
    ///
    /// # Errors
    /// Where there is no apt-get or no mirror, and what apt-get said.
    pub fn open(dir: &Path, suite: &str) -> Result<Self> {
        if which("apt-get").is_none() {
            bail!("this is not Debian or Ubuntu (no apt-get)");
        }
        for part in ["lists/partial", "cache/archives/partial", "etc"] {
            fs::create_dir_all(dir.join(part))?;
        }
        let mirror = debian_mirror().context("no Debian mirror in /etc/apt")?;
        let source = format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        fs::write(dir.join("etc/sources.list"), source)?;
        fs::write(dir.join("status"), "")?;
        let options = vec![
            format!("Dir::Etc::SourceList={}", dir.join("etc/sources.list").display()),
            "Dir::Etc::SourceParts=-".to_owned(),
            // A vendor's package of the same name must not be preferred.
            "Dir::Etc::PreferencesParts=-".to_owned(),
            format!("Dir::State::Lists={}", dir.join("lists").display()),
            // What is installed does not matter here.
            format!("Dir::State::Status={}", dir.join("status").display()),
            format!("Dir::Cache={}", dir.join("cache").display()),
            "APT::Sandbox::User=root".to_owned(),
        ];
        let suite = Self { dir: dir.to_owned(), options };
        captured(suite.apt("apt-get").arg("update"))?;
        Ok(suite)
    }

    fn apt(&self, program: &str) -> Command {
        let mut apt = command(program);
        apt.arg("-qq").args(self.options.iter().flat_map(|option| ["-o", option])).current_dir(&self.dir);
        apt
    }

    /// The packages that a package depends on by these beginnings of their names, and those that they depend on.
    ///
    /// # Errors
    /// When the suite has no such package.
    pub fn closure(&self, package: &str, beginnings: &[&str]) -> Result<Vec<String>> {
        let mut found = vec![package.to_owned()];
        let mut next = 0;
        while let Some(name) = found.get(next).cloned() {
            next += 1;
            let shown = text(self.apt("apt-cache").args(["show", &name]))?;
            for dependency in dependencies(&shown) {
                let wanted = beginnings.iter().any(|beginning| dependency.starts_with(beginning));
                if wanted && !found.contains(&dependency) {
                    found.push(dependency);
                }
            }
        }
        Ok(found)
    }

    /// Downloads a package and unpacks it into `to`.
    ///
    /// # Errors
    /// When the suite has no such package, or what apt-get and dpkg said.
    pub fn unpack(&self, package: &str, to: &Path) -> Result<()> {
        captured(self.apt("apt-get").args(["download", package]))?;
        unpack_all(&self.dir, to)
    }
}

/// Unpacks every package in a folder, and removes it there.
///
/// # Errors
/// What dpkg said.
pub fn unpack_all(from: &Path, to: &Path) -> Result<()> {
    let files = fs::read_dir(from)?.flatten().map(|entry| entry.path());
    for archive in files.filter(|path| path.extension().is_some_and(|ext| ext == "deb")) {
        captured(command("dpkg-deb").arg("-x").arg(&archive).arg(to))?;
        fs::remove_file(archive)?;
    }
    Ok(())
}

/// The names that a package's description says it depends on, of alternatives the first.
fn dependencies(shown: &str) -> Vec<String> {
    let lines = shown.lines().filter_map(|line| line.strip_prefix("Depends: "));
    lines
        .flat_map(|line| line.split(", "))
        .filter_map(|one| one.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// The mirror this machine uses for its own suite.
fn debian_mirror() -> Option<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.extend(fs::read_dir("/etc/apt/sources.list.d").ok()?.flatten().map(|entry| entry.path()));
    let known =
        files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "list" || ext == "sources"));
    known.filter_map(|file| fs::read_to_string(file).ok()).find_map(|text| mirror_in(&text))
}

/// The first address of a Debian archive, in either format of apt's sources.
fn mirror_in(text: &str) -> Option<String> {
    let lines = text.lines().filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
    let mut words = lines.flat_map(str::split_whitespace);
    words
        .find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_sources() {
        let one = "deb [arch=amd64] http://mirror.test/debian bookworm main\n";
        assert_eq!(mirror_in(one).as_deref(), Some("http://mirror.test/debian"));
        let other = "Types: deb\nURIs: http://mirror.test/debian-security\n\nTypes: deb\nURIs: http://mirror.test/debian\n";
        assert_eq!(mirror_in(other).as_deref(), Some("http://mirror.test/debian"));
        assert_eq!(mirror_in("# deb http://mirror.test/debian x\n"), None);
    }

    #[test]
    fn dependencies_are_named_without_their_versions() {
        let shown =
            "Package: a\nDepends: b (= 1), c | d, linux-image-6.1.0-50-cloud-amd64 (= 6.1.176-1)\nSize: 3\n";
        assert_eq!(dependencies(shown), ["b", "c", "linux-image-6.1.0-50-cloud-amd64"]);
    }
}
