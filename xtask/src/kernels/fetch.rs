//! Kernels of Debian's suites and the emulator, fetched into `target/tools` and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::table::{Kernel, MODULES, PACKAGE, PARTS};
use crate::apt::{self, Suite};
use crate::layout::Layout;
use crate::run::{captured, command, which};
use crate::ui::Step;

/// A kernel that lies ready to be booted.
pub struct Fetched {
    /// What `uname -r` says there.
    pub release: String,
    /// The compressed kernel.
    pub image: PathBuf,
    /// Modules in the order in which they are loaded.
    pub modules: Vec<PathBuf>,
}

/// The kernel of a suite; fetched where it is not there yet, or with `anew`.
///
/// # Errors
/// When it cannot be fetched, or is not of the series that the suite keeps to.
pub fn kernel(layout: &Layout, kernel: &Kernel, anew: bool) -> Result<Fetched> {
    let dir = layout.tools().join("kernels").join(kernel.suite);
    let fetched = match found(&dir) {
        Some(fetched) if !anew => fetched,
        _ => {
            let step = Step::begin(format!("fetching the kernel of Debian's {} suite", kernel.suite));
            fetch(layout, kernel.suite, &dir)?;
            let fetched = found(&dir).context("the packages hold another set of files than they used to")?;
            step.done(&fetched.release);
            fetched
        }
    };
    match kernel.series {
        Some(series) if !fetched.release.starts_with(&format!("{series}.")) => {
            bail!("Debian's {} suite has Linux {} and not {series}", kernel.suite, fetched.release)
        }
        _ => Ok(fetched),
    }
}

fn module_file(number: usize, module: &str) -> String {
    format!("{number}-{}.ko", module.rsplit('/').next().unwrap_or(module))
}

fn found(dir: &Path) -> Option<Fetched> {
    let release = fs::read_to_string(dir.join("release")).ok()?;
    let modules = MODULES.iter().enumerate().map(|(number, module)| dir.join(module_file(number, module)));
    let fetched = Fetched { release, image: dir.join("vmlinuz"), modules: modules.collect() };
    let whole = fetched.modules.iter().chain([&fetched.image]).all(|file| file.is_file());
    whole.then_some(fetched)
}

fn fetch(layout: &Layout, suite: &str, dir: &Path) -> Result<()> {
    let work = layout.tools().join("kernels").join(format!("{suite}-packages"));
    let (lists, tree) = (work.join("apt"), work.join("tree"));
    let _ = fs::remove_dir_all(&work);
    let packages = Suite::open(&lists, suite)?;
    for package in packages.closure(PACKAGE, PARTS)? {
        packages.unpack(&package, &tree)?;
    }
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir)?;
    let of = ["lib/modules", "usr/lib/modules"].map(|at| tree.join(at));
    let mut releases =
        of.iter().filter_map(|at| fs::read_dir(at).ok()).flatten().flatten().map(|one| one.path());
    let modules = releases.next().context("no modules in the packages")?;
    let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let images = [tree.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")];
    let image = images.iter().find(|file| file.is_file()).context("no kernel in the packages")?;
    fs::copy(image, dir.join("vmlinuz"))?;
    for (number, module) in MODULES.iter().enumerate() {
        let plain = modules.join("kernel").join(format!("{module}.ko"));
        let bytes = if plain.is_file() {
            fs::read(&plain)?
        } else {
            let packed = plain.with_extension("ko.xz");
            captured(command("xz").arg("-dc").arg(&packed))
                .with_context(|| format!("the module {module}"))?
                .stdout
        };
        fs::write(dir.join(module_file(number, module)), bytes)?;
    }
    // Written last: a kernel with a release is whole.
    fs::write(dir.join("release"), release)?;
    fs::remove_dir_all(&work)?;
    Ok(())
}

/// The emulator: the machine's own, or one that lies unpacked.
pub struct Emulator {
    program: PathBuf,
    root: Option<PathBuf>,
}

const PROGRAM: &str = "qemu-system-x86_64";

impl Emulator {
    /// Finds it, or fetches the distribution's.
    ///
    /// # Errors
    /// When there is none and none can be fetched.
    pub fn ensure(layout: &Layout) -> Result<Self> {
        if let Some(program) = which(PROGRAM) {
            return Ok(Self { program, root: None });
        }
        let root = layout.tools().join("qemu");
        let program = root.join("usr/bin").join(PROGRAM);
        if !program.is_file() {
            let step = Step::begin("fetching qemu");
            let cache = layout.tools().join("qemu-packages");
            fs::create_dir_all(cache.join("archives/partial"))?;
            let option = format!("Dir::Cache={}", cache.display());
            let get = |words: &[&str]| {
                let mut get = command("apt-get");
                captured(get.args(["-qq", "-o", &option, "-o", "Debug::NoLocking=1"]).args(words))
            };
            // With the libraries that this machine lacks.
            let install =
                ["install", "--download-only", "--yes", "--no-install-recommends", "qemu-system-x86"];
            if get(&install).is_err() {
                captured(command("apt-get").args(["update", "-qq"]))?;
                get(&install)?;
            }
            apt::unpack_all(&cache.join("archives"), &root)?;
            fs::remove_dir_all(&cache)?;
            step.done("");
        }
        let emulator = Self { program, root: Some(root) };
        captured(emulator.command().arg("--version")).context("the emulator does not run")?;
        Ok(emulator)
    }

    /// The emulator's command, without a machine.
    pub fn command(&self) -> Command {
        let mut qemu = command(&self.program);
        if let Some(root) = &self.root {
            let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|at| root.join(at));
            if let Ok(path) = std::env::join_paths(&libraries) {
                qemu.env("LD_LIBRARY_PATH", path);
            }
            qemu.env("QEMU_MODULE_DIR", root.join("usr/lib/x86_64-linux-gnu/qemu"));
            for at in ["usr/share/qemu", "usr/share/seabios"] {
                qemu.arg("-L").arg(root.join(at));
            }
        }
        qemu
    }
}
