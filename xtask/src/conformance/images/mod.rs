//! The images that the suite's pods run, built from the suite's programs and the distribution's packages.

mod rootfs;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cluster::{Config, containerd};
use crate::oci::{self, Files, Image};
use crate::run::{captured, command, which};
use crate::ui::Step;
use rootfs::{Rootfs, Sources};
use table::{Content, PACKAGES, PICTURES, Picture, REGISTRY};

/// `PATH` in the images.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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

/// Puts archives into the containerd of every node.
///
/// # Errors
/// When containerd refuses one.
pub fn load(config: &Config, archives: &[PathBuf]) -> Result<()> {
    let step = Step::begin("loading the suite's images");
    containerd::import(config, archives)?;
    step.done(&format!("{} archives", archives.len()));
    Ok(())
}

/// Builds the archives of all images whose programs are in `programs` into `out`; those that are there already stay.
///
/// # Errors
/// When packages cannot be fetched or an image cannot be put together.
pub fn build(programs: &Path, out: &Path) -> Result<Vec<PathBuf>> {
    let programs =
        fs::canonicalize(programs).with_context(|| format!("--programs {}", programs.display()))?;
    let sources = Sources { programs, unpacked: out.join("packages") };
    fetch(&sources.unpacked)?;
    let step = Step::begin("building the suite's images");
    let mut archives = Vec::new();
    for picture in PICTURES {
        let lacking = picture.content.iter().find_map(|content| match content {
            Content::Program(from, ..) if !sources.programs.join(from).is_file() => Some(*from),
            _ => None,
        });
        if let Some(program) = lacking {
            eprintln!("no image {}: {} has no {program}", picture.repository, sources.programs.display());
            continue;
        }
        step.note(picture.repository);
        archives
            .extend(paint(picture, &sources, out).with_context(|| format!("image {}", picture.repository))?);
    }
    step.done(&format!("{} archives in {}", archives.len(), out.display()));
    Ok(archives)
}

/// One archive a tag.
fn paint(picture: &Picture, sources: &Sources, out: &Path) -> Result<Vec<PathBuf>> {
    let name = picture.repository.rsplit('/').next().unwrap_or(picture.repository);
    let archives: Vec<(PathBuf, String)> = picture
        .tags
        .iter()
        .map(|tag| {
            let registry = if picture.repository.contains('/') { "" } else { REGISTRY };
            (out.join(format!("{name}_{tag}.tar")), format!("{registry}{}:{tag}", picture.repository))
        })
        .collect();
    if archives.iter().any(|(file, _)| !file.is_file()) {
        let root = out.join("root");
        let rootfs = Rootfs::new(&root, sources)?;
        if picture.userland {
            rootfs.userland()?;
        }
        for content in picture.content {
            rootfs.add(content)?;
        }
        for (file, reference) in &archives {
            let image = Image {
                reference,
                files: Files::Tree(&root),
                entrypoint: picture.entrypoint,
                cmd: picture.cmd,
                user: picture.user,
                path: PATH,
            };
            let unfinished = file.with_extension("part");
            oci::write_archive(&image, fs::File::create(&unfinished)?)?;
            fs::rename(&unfinished, file)?;
        }
        fs::remove_dir_all(&root)?;
    }
    Ok(archives.into_iter().map(|(file, _)| file).collect())
}

/// Downloads the packages and unpacks them over each other; nothing is installed.
fn fetch(unpacked: &Path) -> Result<()> {
    let done = unpacked.join(".complete");
    if done.exists() {
        return Ok(());
    }
    if which("apt-get").is_none() {
        bail!("images are built from packages of Debian, and there is no apt-get; --images takes ready ones");
    }
    let step = Step::begin(format!("fetching {} packages for the suite's images", PACKAGES.len()));
    let debs = unpacked.join("debs");
    fs::create_dir_all(&debs)?;
    captured(command("apt-get").args(["download", "--quiet"]).args(PACKAGES).current_dir(&debs))?;
    for deb in fs::read_dir(&debs)? {
        captured(command("dpkg").arg("--extract").arg(deb?.path()).arg(unpacked))?;
    }
    fs::remove_dir_all(&debs)?;
    fs::write(done, "")?;
    step.done("");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_image_has_a_name_of_its_own() {
        let names: Vec<String> = PICTURES
            .iter()
            .flat_map(|picture| picture.tags.iter().map(|tag| format!("{}:{tag}", picture.repository)))
            .collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(PACKAGES.is_sorted());
    }
}
