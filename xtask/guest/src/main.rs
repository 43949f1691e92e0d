//! The first and only program of a virtual machine that boots a kernel to try the eBPF object on: it makes the kernel
//! file systems, loads the modules that lie beside it, has the verifier take every program, runs the tests that lie
//! beside it, and resets the machine.
//!
//! What it finds out it says on the console, one line a fact, in words that `xtask/src/kernels/report.rs` reads.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use skep_dataplane::trial::Trial;

/// The object, in the file system the kernel was given.
const OBJECT: &str = "/skep-ebpf.o";
/// Modules, loaded in the order of their names.
const MODULES: &str = "/modules";
/// Test programs.
const TESTS: &str = "/tests";

fn main() {
    // Whatever happens, the machine must end: the kernel panics if its first program does, and resets too.
    if let Err(error) = prepare() {
        say(&format!("failed prepare {error}"));
    }
    say(&format!("kernel {}", fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim()));
    load();
    for test in sorted(TESTS) {
        run(&test);
    }
    say("end");
    let _ = std::io::stdout().flush();
    let _ = reboot(RebootMode::RB_AUTOBOOT);
}

/// One fact, on a line of its own whatever was printed before.
fn say(fact: &str) {
    println!("\n@skep {}", fact.replace('\n', "\n@skep-more "));
}

fn prepare() -> Result<(), String> {
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("bpf", "/sys/fs/bpf"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        fs::create_dir_all(at).map_err(|e| format!("{at}: {e}"))?;
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
            .map_err(|e| format!("{kind} at {at}: {e}"))?;
    }
    fs::create_dir_all("/tmp").map_err(|e| format!("/tmp: {e}"))?;
    // Before Linux 5.11 maps count as locked memory.
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
        .map_err(|e| format!("locked memory: {e}"))?;
    for module in sorted(MODULES) {
        let file = fs::File::open(&module).map_err(|e| format!("{}: {e}", module.display()))?;
        match finit_module(&file, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(format!("{}: {e}", module.display())),
        }
    }
    Ok(())
}

/// Has the verifier take every program, each told apart from the others.
fn load() {
    match Trial::load(Path::new(OBJECT), None) {
        Ok(trial) => {
            for program in trial.verified() {
                say(&format!("program {} {} {}", program.name, program.processed, program.translated_bytes));
            }
        }
        Err(error) => say(&format!("failed load {error}")),
    }
}

/// Runs one test program; the console shows its own words, which name each test with its result.
fn run(program: &Path) {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    say(&format!("begin {name}"));
    let mut command = Command::new(program);
    command.arg("--test-threads=1").env("SKEP_BPF_OBJECT", OBJECT).env("CI", "true").env("TMPDIR", "/tmp");
    match command.status() {
        Ok(status) => say(&format!("done {name} {}", status.code().unwrap_or(-1))),
        Err(error) => say(&format!("failed {name} {error}")),
    }
}

fn sorted(dir: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}
