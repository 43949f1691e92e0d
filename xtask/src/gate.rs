//! `cargo xtask test`: the gate. Groups of checks, each of which passes, fails, or cannot run here and says why.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::kernels::verifier::{self, Ledger};
use crate::kernels::{self, Outcome};
use crate::layout::Layout;
use crate::run::{captured, cargo, passthrough, which};
use crate::tools::CARGO_DENY;
use crate::ui::Table;
use crate::{builder, kernel, kubectl, prereq, python, tidy};

/// A group of checks.
pub struct Group {
    /// Name on the command line.
    pub name: &'static str,
    /// What it checks.
    pub about: &'static str,
    /// Whether it runs only when it is named or with large samples.
    pub long: bool,
    run: fn(&Gate) -> Result<Verdict>,
}

/// How a group ended.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// This machine lacks something.
    CannotRun(String),
}

/// Every group, the quick ones first.
pub const GROUPS: &[Group] = &[
    Group { name: "fmt", about: "format of every crate", long: false, run: fmt },
    Group { name: "tidy", about: "the walls between the rooms", long: false, run: walls },
    Group { name: "clippy", about: "lints, warnings denied", long: false, run: clippy },
    Group { name: "deny", about: "licences and sources of dependencies", long: false, run: deny },
    Group { name: "unit", about: "tests of single crates", long: false, run: unit },
    Group { name: "bpf", about: "eBPF programs run by the kernel on test packets", long: false, run: bpf },
    Group { name: "e2e", about: "whole clusters with containerd and kubectl", long: false, run: e2e },
    Group {
        name: "kernels",
        about: "the eBPF programs on other kernels, under emulation",
        long: true,
        run: other_kernels,
    },
];

struct Gate {
    layout: Layout,
    long: bool,
    record: bool,
}

/// Runs the groups named, or all. `long` adds the large samples; `record` has the group `kernels` record what verifiers say.
///
/// # Errors
/// A group that does not exist, that failed, or with `CI=true` one that cannot run here.
pub fn test(layout: &Layout, names: &[String], long: bool, record: bool) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !GROUPS.iter().any(|group| group.name == **name)) {
        let known: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
        bail!("no test group {unknown}; there are {}", known.join(", "));
    }
    if record && !names.iter().any(|name| name == "kernels") {
        bail!("it is the group kernels that records: {}", verifier::COMMAND);
    }
    // Crates that generate code need their tools before anything compiles.
    prereq::ensure(&[prereq::BUILD])?;
    let gate = Gate { layout: layout.clone(), long, record };
    let ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    let mut table = Table::new(&["GROUP", "RESULT", "SECONDS", ""]);
    let mut bad = Vec::new();
    let asked = |group: &&Group| match names {
        [] => long || !group.long,
        names => names.iter().any(|name| name == group.name),
    };
    for group in GROUPS.iter().filter(asked) {
        eprintln!("\n=== {}: {}", group.name, group.about);
        let begun = Instant::now();
        let (result, detail) = match (group.run)(&gate) {
            Ok(Verdict::Passed) => ("passed", String::new()),
            Ok(Verdict::CannotRun(why)) => {
                if ci {
                    bad.push(group.name);
                }
                ("cannot run here", why)
            }
            Err(error) => {
                bad.push(group.name);
                ("FAILED", format!("{error:#}"))
            }
        };
        if !detail.is_empty() {
            eprintln!("{}: {result}: {detail}", group.name);
        }
        let first = detail.lines().next().unwrap_or_default().to_owned();
        table.row([group.name.to_owned(), result.to_owned(), begun.elapsed().as_secs().to_string(), first]);
    }
    println!("\n{}", table.render());
    if !bad.is_empty() {
        let why = if ci { " (with CI=true a group that cannot run is a failure)" } else { "" };
        bail!("the gate is closed by {}{why}", bad.join(", "));
    }
    println!("the gate is open");
    Ok(())
}

impl Gate {
    fn cargo(&self, words: &[&str]) -> Command {
        let mut cargo = cargo();
        cargo.current_dir(&self.layout.root).args(words).arg("--target-dir").arg(&self.layout.target);
        cargo
    }

    /// Tests of the workspace that a nextest filter picks, all with the same build; `fallback` picks for `cargo test`.
    fn tests(&self, filter: &str, fallback: &[&str], threads: Option<&str>) -> Result<Verdict> {
        let mut tests = if which("cargo-nextest").is_some() {
            let mut tests =
                self.cargo(&["nextest", "run", "--workspace", "--locked", "--no-fail-fast", "-E", filter]);
            tests.args(threads.map(|count| format!("--test-threads={count}")));
            tests
        } else {
            let mut tests = self.cargo(&["test", "--locked", "--no-fail-fast"]);
            tests.args(fallback);
            if let Some(count) = threads {
                tests.args(["--", &format!("--test-threads={count}")]);
            }
            tests
        };
        tests.env("SKEP_BPF_OBJECT", self.layout.bin().join("skep-ebpf.o"));
        tests.env("SKEP_BIN", self.layout.bin());
        if self.long {
            tests.env("SKEP_TEST_LONG", "1");
        }
        passthrough(&mut tests)?;
        Ok(Verdict::Passed)
    }
}

/// The eBPF programs: a workspace of their own.
const PROGRAMS: &str = "ebpf/programs/Cargo.toml";

fn fmt(gate: &Gate) -> Result<Verdict> {
    passthrough(cargo().current_dir(&gate.layout.root).args(["fmt", "--all", "--check"]))?;
    for apart in [PROGRAMS, crate::fuzz::DRIVER] {
        let apart = ["fmt", "--manifest-path", apart, "--check"];
        passthrough(cargo().current_dir(&gate.layout.root).args(apart))?;
    }
    Ok(Verdict::Passed)
}

fn clippy(gate: &Gate) -> Result<Verdict> {
    let mut clippy = gate.cargo(&["clippy", "--workspace", "--all-targets", "--locked"]);
    passthrough(clippy.args(["--", "-D", "warnings"]))?;
    // Checked for this machine, not for BPF: lints need no library built from source.
    let mut programs = cargo();
    programs.current_dir(&gate.layout.root).args(["clippy", "--release", "--manifest-path", PROGRAMS]);
    programs.arg("--target-dir").arg(gate.layout.target.join("ebpf-clippy"));
    passthrough(programs.args(["--", "-D", "warnings"]))?;
    Ok(Verdict::Passed)
}

fn walls(gate: &Gate) -> Result<Verdict> {
    let faults = tidy::check(&gate.layout)?;
    for fault in &faults {
        eprintln!("{}: {}", fault.at, fault.what);
    }
    if !faults.is_empty() {
        bail!("{} faults", faults.len());
    }
    Ok(Verdict::Passed)
}

fn deny(gate: &Gate) -> Result<Verdict> {
    let program = CARGO_DENY.ensure(&gate.layout.tools(), |_| {})?;
    // It reads the dependencies of every platform, more than a build has brought.
    captured(cargo().current_dir(&gate.layout.root).args(["fetch", "--locked"]))?;
    let mut deny = crate::run::command(program);
    deny.current_dir(&gate.layout.root);
    passthrough(deny.args(["--offline", "check", "licenses", "bans", "sources"]))?;
    Ok(Verdict::Passed)
}

fn unit(gate: &Gate) -> Result<Verdict> {
    let filter = "not package(skep-tests) and not package(skep-operator) and not (package(skep-dataplane) and kind(test))";
    let fallback = [
        "--workspace",
        "--exclude",
        "skep-tests",
        "--exclude",
        "skep-operator",
        "--exclude",
        "skep-dataplane",
    ];
    gate.tests(filter, &fallback, None)
}

fn bpf(gate: &Gate) -> Result<Verdict> {
    if let Err(why) = prereq::kernel_ready() {
        return Ok(Verdict::CannotRun(format!("{why:#}")));
    }
    builder::build_ebpf(&gate.layout)?;
    let mounted = kernel::ensure_mounted("bpf", std::path::Path::new("/sys/fs/bpf"))?;
    let verdict =
        gate.tests("package(skep-dataplane) and kind(test)", &["--package", "skep-dataplane"], Some("1"));
    if mounted {
        let _ = nix::mount::umount("/sys/fs/bpf");
    }
    let verdict = verdict?;
    let (release, counts) = verifier::running(&gate.layout)?;
    let ledger = Ledger::read(&gate.layout)?;
    match ledger.of(&release) {
        Some((known, _)) => {
            eprintln!("the verifier of {release} is compared with what is recorded of {known}")
        }
        None => eprintln!("nothing is recorded of what the verifier of {release} says"),
    }
    verifier::judge(&ledger.faults(&release, &counts))?;
    Ok(verdict)
}

fn other_kernels(gate: &Gate) -> Result<Verdict> {
    match kernels::test(&gate.layout, gate.record)? {
        Outcome::Passed => Ok(Verdict::Passed),
        Outcome::Lacking(why) => Ok(Verdict::CannotRun(why)),
    }
}

fn e2e(gate: &Gate) -> Result<Verdict> {
    if let Err(why) = prereq::kernel_ready() {
        return Ok(Verdict::CannotRun(format!("{why:#}")));
    }
    if let Err(why) = prereq::ensure(&[prereq::RUN, prereq::TEST]) {
        return Ok(Verdict::CannotRun(format!("{why:#}")));
    }
    let kubectl = match kubectl::recent(&gate.layout) {
        Ok(kubectl) => kubectl,
        Err(why) => return Ok(Verdict::CannotRun(format!("{why:#}"))),
    };
    eprintln!("kubectl: {}", kubectl.display());
    builder::build(&gate.layout)?;
    if let Err(why) = python::with_client(&gate.layout) {
        return Ok(Verdict::CannotRun(format!("{why:#}")));
    }
    let fallback = ["--package", "skep-tests", "--package", "skep-operator"];
    gate.tests("package(skep-tests) or package(skep-operator)", &fallback, Some("1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_group_is_refused_before_anything_runs() {
        let error = test(&Layout::find(), &["units".to_owned()], false, false).unwrap_err().to_string();
        assert!(error.contains("units") && error.contains("e2e"), "{error}");
    }
}
