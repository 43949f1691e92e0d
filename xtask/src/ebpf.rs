//! Building the eBPF object: finding a toolchain that can, its linker, and calling them.
//!
//! `core` is built for `bpfel-unknown-none`, so the toolchain must have the source of its own library, of exactly its own
//! version: rustup's component `rust-src`, or a distribution's package. The toolchain may be another than the one that
//! builds the rest; nothing of the two meets but the finished object.
//!
//! For the command line: [`build_ebpf`] is all; it installs what is missing unless told otherwise.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cluster::containerd::replace;
use crate::prereq;
use crate::run::{captured, command, text, which};
use crate::tools::Tool;
use crate::ui::Step;

/// The target of the programs.
const TARGET: &str = "bpfel-unknown-none";
/// The version of bpf-linker that goes with these toolchains.
const LINKER_VERSION: &str = "0.13.0";
/// The oldest rustc that builds the programs: the workspace's `rust-version`.
const OLDEST: (u32, u32) = (1, 95);
/// Debian's packages of a current toolchain, kept up to date for its browsers.
const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "libstd-rust-web-dev"];

/// How the object is built.
#[derive(Debug, Clone)]
pub struct EbpfOptions {
    /// Cargo's target directory of the checkout; the programs get a folder of their own in it.
    pub target: PathBuf,
    /// With the programs' log records, for `cargo xtask load --log`. Release objects carry none.
    pub log: bool,
    /// Whether missing tools may be installed.
    pub install: bool,
}

/// A Rust toolchain that has its library's source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// Its directory.
    pub sysroot: PathBuf,
    /// Major and minor number.
    pub version: (u32, u32),
}

/// Builds the object from the checkout at `root` and returns where it lies: `skep-ebpf.o`, or `skep-ebpf-log.o` with log
/// records, in the folder of finished binaries.
///
/// # Errors
/// One sentence with the remedy when a tool is missing and cannot be installed; what the compiler said.
pub fn build_ebpf(root: &Path, options: &EbpfOptions) -> Result<PathBuf> {
    let toolchain = toolchain(options.install)?;
    let linker = linker(&options.target, options.install)?;
    let what = if options.log { "the eBPF object with log records" } else { "the eBPF object" };
    let step =
        Step::begin(format!("building {what} (rustc {}.{})", toolchain.version.0, toolchain.version.1));
    captured(&mut build_command(root, &toolchain, &linker, options))?;
    let built = target_dir(options).join(TARGET).join("release/skep-ebpf");
    let bin = options.target.join("skep/bin");
    fs::create_dir_all(&bin)?;
    let to = bin.join(if options.log { "skep-ebpf-log.o" } else { "skep-ebpf.o" });
    let fresh = fs::read(&built).with_context(|| format!("{}", built.display()))?;
    if !fs::read(&to).is_ok_and(|old| old == fresh) {
        replace(&built, &to)?;
    }
    step.done(&format!("{} ({} KiB)", to.display(), fresh.len() / 1024));
    Ok(to)
}

/// Both variants have a folder, so that changing between them rebuilds nothing.
fn target_dir(options: &EbpfOptions) -> PathBuf {
    options.target.join(if options.log { "ebpf-log" } else { "ebpf" })
}

/// The compiler's command, with an environment in which no other toolchain shows.
fn build_command(root: &Path, toolchain: &Toolchain, linker: &Path, options: &EbpfOptions) -> Command {
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker.display()),
    ];
    let mut build = command(toolchain.sysroot.join("bin/cargo"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("RUST") && name != "RUST_LOG" && name != "RUST_BACKTRACE" || name == "CARGO" {
            build.env_remove(&*name);
        }
    }
    // Build flags of the surrounding build are for another target.
    for name in ["CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_INCREMENTAL"] {
        build.env_remove(name);
    }
    if let Some(home) = std::env::var_os("RUSTUP_HOME") {
        build.env("RUSTUP_HOME", home);
    }
    build
        .current_dir(root.join("ebpf/programs"))
        .env("RUSTC", toolchain.sysroot.join("bin/rustc"))
        // The library is built from source (`-Z build-std`), which stable compilers only do when told so.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args(["build", "--release", "--locked", "--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(target_dir(options));
    if options.log {
        build.args(["--features", "log"]);
    }
    build
}

/// The first toolchain that can build the programs, installed if there is none and that is allowed.
///
/// # Errors
/// One sentence with the remedy.
pub fn toolchain(install: bool) -> Result<Toolchain> {
    if let Some(found) = find_toolchain() {
        return Ok(found);
    }
    let remedy = format!(
        "run `rustup component add rust-src`, or install {} {}.{} or later with its library's source (Debian: {})",
        "rustc",
        OLDEST.0,
        OLDEST.1,
        PACKAGES.join(" ")
    );
    if !install {
        bail!("no Rust toolchain here has the source of its library, which the eBPF programs need: {remedy}");
    }
    eprintln!(
        "Missing on this machine:\n  - the Rust library's source: the eBPF programs are built with a `core` of their own"
    );
    if which("rustup").is_some() {
        let step = Step::begin("rustup component add rust-src");
        match captured(command("rustup").args(["component", "add", "rust-src"])) {
            Ok(_) => step.done(""),
            Err(error) => {
                drop(step);
                eprintln!("rustup could not: {error:#}");
            }
        }
        if let Some(found) = find_toolchain() {
            return Ok(found);
        }
    }
    prereq::install(&BTreeSet::from(PACKAGES)).with_context(|| remedy.clone())?;
    find_toolchain().with_context(|| format!("the installed toolchain is not found: {remedy}"))
}

fn find_toolchain() -> Option<Toolchain> {
    sysroots().into_iter().find_map(|sysroot| {
        let tools = ["bin/rustc", "bin/cargo", "lib/rustlib/src/rust/library/core/Cargo.toml"];
        if !tools.iter().all(|file| sysroot.join(file).is_file()) {
            return None;
        }
        let mut rustc = command(sysroot.join("bin/rustc"));
        let version = parse_version(&text(rustc.env_remove("RUSTUP_TOOLCHAIN").arg("--version")).ok()?)?;
        (version >= OLDEST).then_some(Toolchain { sysroot, version })
    })
}

/// Where toolchains may be: the active one, rustup's others, the distribution's.
fn sysroots() -> Vec<PathBuf> {
    let mut roots = Vec::new();
    if let Ok(active) = text(command("rustc").args(["--print", "sysroot"])) {
        roots.push(PathBuf::from(active.trim()));
    }
    let rustup = std::env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".rustup"))
    });
    for dir in
        [rustup.map(|home| home.join("toolchains")), Some(PathBuf::from("/usr/lib"))].into_iter().flatten()
    {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|path| path.join("bin/rustc").is_file()).collect();
        found.sort();
        roots.extend(found);
    }
    roots.extend(["/usr", "/usr/local"].map(PathBuf::from));
    roots
}

/// `rustc 1.96.0 (ac68faa20 2026-05-25)` → (1, 96).
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("rustc ")?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// bpf-linker of this checkout, built if it is not there and that is allowed.
///
/// # Errors
/// One sentence with the remedy.
pub fn linker(target: &Path, install: bool) -> Result<PathBuf> {
    let tools = target.join("tools");
    let tool = Tool {
        name: "bpf-linker",
        version: LINKER_VERSION,
        purpose: "it links the eBPF object (about a minute to build)",
    };
    if let Some(linker) = tool.installed(&tools) {
        return Ok(linker);
    }
    let (major, prefix) = llvm(&tools)?;
    if !install {
        bail!(
            "bpf-linker {LINKER_VERSION} is missing: run `LLVM_PREFIX={} cargo install bpf-linker --version {LINKER_VERSION} --locked --no-default-features --features llvm-{major} --root {}`",
            prefix.display(),
            tools.display()
        );
    }
    tool.ensure(&tools, |cargo| {
        let features = format!("llvm-{major}");
        cargo.env("LLVM_PREFIX", &prefix).args(["--no-default-features", "--features", &features]);
    })
}

/// An LLVM to link bpf-linker with: its major number and a directory whose `lib` holds it. A toolchain's own copy serves,
/// under the names that are looked for.
fn llvm(tools: &Path) -> Result<(u32, PathBuf)> {
    let verbose = text(command("rustc").arg("-vV"))?;
    let line = verbose.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    let major: u32 = line
        .and_then(|version| version.split('.').next()?.parse().ok())
        .context("rustc does not say which LLVM it has")?;
    let system = PathBuf::from(format!("/usr/lib/llvm-{major}"));
    if system.join("lib/libLLVM.so").exists() && system.join("include/llvm-c").exists() {
        return Ok((major, system));
    }
    let lib = PathBuf::from(text(command("rustc").args(["--print", "sysroot"]))?.trim()).join("lib");
    let prefix = tools.join("llvm");
    fs::create_dir_all(prefix.join("lib"))?;
    let mut found = false;
    for entry in fs::read_dir(&lib).with_context(|| format!("{}", lib.display()))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("libLLVM") {
            continue;
        }
        found = true;
        for alias in [name.as_str(), "libLLVM.so"] {
            let alias = prefix.join("lib").join(alias);
            let _ = fs::remove_file(&alias);
            symlink(entry.path(), &alias)?;
        }
    }
    if !found {
        bail!("the toolchain in {} has no LLVM library of its own: install llvm-{major}-dev", lib.display());
    }
    Ok((major, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(
            parse_version("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n"),
            Some((1, 96))
        );
        assert_eq!(parse_version("rustc 1.97.0-nightly (abc 2026-06-01)\n"), Some((1, 97)));
        assert_eq!(parse_version("clang 19"), None);
    }

    #[test]
    fn the_compiler_sees_no_other_toolchain() {
        let toolchain = Toolchain { sysroot: "/opt/rust".into(), version: (1, 96) };
        let options = EbpfOptions { target: "/t".into(), log: true, install: false };
        let build =
            build_command(Path::new("/r"), &toolchain, Path::new("/t/tools/bin/bpf-linker"), &options);
        let of = |name: &str| build.get_envs().find(|(key, _)| *key == name).and_then(|(_, value)| value);
        assert_eq!(of("RUSTC").unwrap(), "/opt/rust/bin/rustc");
        assert_eq!(of("LD_LIBRARY_PATH"), None);
        assert!(
            of("CARGO_ENCODED_RUSTFLAGS")
                .unwrap()
                .to_string_lossy()
                .contains("-Clinker=/t/tools/bin/bpf-linker")
        );
        let words: Vec<_> = build.get_args().map(|word| word.to_string_lossy()).collect();
        assert!(words.windows(2).any(|pair| pair == ["--features", "log"]));
        assert!(words.windows(2).any(|pair| pair == ["--target-dir", "/t/ebpf-log"]));
    }
}
