//! The tree of an image, put together in a folder.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::table::Content;
use crate::run::{captured, command, text};

/// Folders every image with a userland has.
const FOLDERS: &[&str] = &[
    "bin",
    "dev",
    "etc",
    "home",
    "lib64",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "usr/local/bin",
    "usr/sbin",
    "var/log",
    "var/run",
    "var/www",
];

/// Files of `/etc`, as small images have them.
const ETC: &[(&str, &str)] = &[
    (
        "passwd",
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\n\
         www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    ),
    ("group", "root:x:0:\ndaemon:x:1:\nbin:x:2:\nwww-data:x:33:\nnogroup:x:65534:\n"),
    // A test of image volumes looks for this name.
    ("os-release", "NAME=\"Alpine Linux\"\nID=alpine\nPRETTY_NAME=\"Alpine Linux (imitation)\"\n"),
    ("nsswitch.conf", "hosts: files dns\n"),
    ("shadow", "root::0:0:99999:7:::\n"),
];

/// Where the content of images comes from.
pub(super) struct Sources {
    /// The suite's programs.
    pub programs: PathBuf,
    /// Packages, unpacked over each other.
    pub unpacked: PathBuf,
}

/// A tree under construction.
pub(super) struct Rootfs<'a> {
    root: &'a Path,
    sources: &'a Sources,
}

impl<'a> Rootfs<'a> {
    /// An empty tree in `root`, which is emptied.
    pub(super) fn new(root: &'a Path, sources: &'a Sources) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(root)?;
        }
        fs::create_dir_all(root)?;
        Ok(Rootfs { root, sources })
    }

    fn inside(&self, path: &str) -> Result<PathBuf> {
        let path = self.root.join(path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("{}", parent.display()))?;
        }
        Ok(path)
    }

    /// BusyBox with its applets, bash as the shell, and the files of `/etc`.
    pub(super) fn userland(&self) -> Result<()> {
        for folder in FOLDERS {
            fs::create_dir_all(self.root.join(folder))?;
        }
        fs::set_permissions(self.root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        self.link("/lib", "usr/lib")?;
        let busybox = ["usr/bin/busybox", "bin/busybox"].map(|path| self.sources.unpacked.join(path));
        let busybox = busybox
            .iter()
            .find(|path| path.is_file())
            .context("the package busybox-static has no busybox")?;
        self.copy(busybox, "/bin/busybox", 0o755)?;
        for applet in text(command(busybox).arg("--list"))?.lines().filter(|applet| *applet != "busybox") {
            self.link(&format!("/bin/{applet}"), "busybox")?;
        }
        // BusyBox' shell prefers its own applets to PATH and drops variables whose names have a dash.
        self.linked(&self.sources.unpacked.join("bin/bash"), "/bin/bash")?;
        self.link("/bin/sh", "bash")?;
        self.link("/usr/bin/env", "../../bin/env")?;
        for (name, content) in ETC {
            fs::write(self.root.join("etc").join(name), content)?;
        }
        Ok(())
    }

    /// Adds one piece.
    pub(super) fn add(&self, content: &Content) -> Result<()> {
        match *content {
            Content::Program(from, to, mode) => {
                let program = self.sources.programs.join(from);
                self.linked(&program, to)?;
                Ok(fs::set_permissions(self.inside(to)?, fs::Permissions::from_mode(mode))?)
            }
            Content::Package(from, to) => self.linked(&self.sources.unpacked.join(from), to),
            Content::Machine(from, to) => self.linked(Path::new(from), to),
            Content::Folder(from, to) => {
                let to = self.inside(to)?;
                captured(command("cp").arg("-a").arg(self.sources.unpacked.join(from)).arg(to)).map(drop)
            }
            Content::Text(path, text) => {
                let mut file = fs::File::options().create(true).append(true).open(self.inside(path)?)?;
                Ok(file.write_all(text.as_bytes())?)
            }
            Content::Link(path, target) => self.link(path, target),
            Content::Empty(path) => Ok(fs::create_dir_all(self.inside(path)?)?),
            Content::Certificate(certificate, key) => {
                let (certificate, key) = (self.inside(certificate)?, self.inside(key)?);
                let mut openssl = command("openssl");
                openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj"]);
                openssl.args(["/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
                captured(openssl.arg("-keyout").arg(key).arg("-out").arg(certificate)).map(drop)
            }
        }
    }

    fn link(&self, path: &str, target: &str) -> Result<()> {
        let path = self.inside(path)?;
        let _ = fs::remove_file(&path);
        symlink(target, &path).with_context(|| format!("{}", path.display()))
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let to = self.inside(to)?;
        // What is there may be a link of the userland.
        let _ = fs::remove_file(&to);
        fs::copy(from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        Ok(fs::set_permissions(&to, fs::Permissions::from_mode(mode))?)
    }

    /// A file and the shared libraries it needs, each where the loader looks for it.
    fn linked(&self, from: &Path, to: &str) -> Result<()> {
        let applet = self.root.join("bin").join(Path::new(to).file_name().unwrap_or_default());
        if applet.is_symlink() {
            fs::remove_file(applet)?;
        }
        self.copy(from, to, 0o755)?;
        for library in libraries(from, &self.sources.unpacked) {
            let place = match library.strip_prefix(&self.sources.unpacked) {
                Ok(inside) => PathBuf::from("/usr").join(inside.strip_prefix("usr").unwrap_or(inside)),
                Err(_) if library.starts_with("/lib64") => library.clone(),
                Err(_) => PathBuf::from("/usr")
                    .join(library.strip_prefix("/usr").or_else(|_| library.strip_prefix("/"))?),
            };
            let place = place.to_string_lossy();
            if !self.inside(&place)?.exists() {
                self.copy(&library, &place, 0o755)?;
            }
        }
        Ok(())
    }
}

/// The shared libraries a file is linked with, the loader among them; none for a static program or a text.
fn libraries(file: &Path, unpacked: &Path) -> BTreeSet<PathBuf> {
    let lib = "usr/lib/x86_64-linux-gnu";
    let path =
        [unpacked.join(lib), unpacked.join("lib/x86_64-linux-gnu")].map(|dir| dir.display().to_string());
    let said = text(command("ldd").arg(file).env("LD_LIBRARY_PATH", path.join(":"))).unwrap_or_default();
    said.lines().filter_map(library).collect()
}

/// The path in a line of ldd: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn library(line: &str) -> Option<PathBuf> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let path = match words.as_slice() {
        [_, "=>", path, ..] | [path, _] => *path,
        _ => return None,
    };
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ldd_are_read() {
        assert_eq!(library("\tlinux-vdso.so.1 (0x7f)"), None);
        assert_eq!(library("\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)"), Some("/lib/x/libc.so.6".into()));
        assert_eq!(
            library("\t/lib64/ld-linux-x86-64.so.2 (0x7f)"),
            Some("/lib64/ld-linux-x86-64.so.2".into())
        );
        assert_eq!(library("\tnot a dynamic executable"), None);
        assert_eq!(library("\tlibx.so => not found"), None);
    }
}
