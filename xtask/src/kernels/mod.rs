//! `cargo xtask test kernels`: the object and the tests of the dataplane on kernels that this machine does not run, under
//! emulation. Each boots with one static program as its `init` (`xtask/guest`), which has the verifier take every program
//! and runs the dataplane's own tests.

pub mod fetch;
pub mod initramfs;
pub mod report;
pub mod table;
pub mod verifier;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::builder;
use crate::layout::Layout;
use crate::run::shown;
use crate::ui::{Step, Table};
use fetch::{Emulator, Fetched};
use initramfs::Archive;
use report::Report;
use table::{KERNELS, Kernel};
use verifier::{Ledger, running};

/// Long after the slowest kernel has come to its end.
const LIMIT: Duration = Duration::from_secs(1200);
/// Kernels that run at the same time; each keeps one processor busy.
const AT_ONCE: usize = 2;

/// How it ended.
pub enum Outcome {
    /// Every kernel is as it should be.
    Passed,
    /// Those that ran are, and some could not be had.
    Lacking(String),
}

/// Boots every kernel. With `record`, kernels are fetched anew and what their verifiers say becomes what is expected, that
/// of the running kernel included.
///
/// # Errors
/// When a kernel refuses a program, a test fails, or a program has grown.
pub fn test(layout: &Layout, record: bool) -> Result<Outcome> {
    if std::env::consts::ARCH != "x86_64" {
        return Ok(Outcome::Lacking("the kernels are those of x86_64 machines".to_owned()));
    }
    let emulator = match Emulator::ensure(layout) {
        Ok(emulator) => emulator,
        Err(why) => return Ok(Outcome::Lacking(format!("{why:#}"))),
    };
    let mut lacking = Vec::new();
    let mut ready = Vec::new();
    for kernel in KERNELS {
        match fetch::kernel(layout, kernel, record) {
            Ok(fetched) => ready.push((kernel, fetched)),
            Err(why) => lacking.push(format!("the kernel of {}: {why:#}", kernel.suite)),
        }
    }
    builder::build_ebpf(layout)?;
    let guest = builder::build_guest(layout)?;
    let mut ledger = Ledger::read(layout)?;
    let reports = boot_all(layout, &emulator, &guest, &ready)?;

    let mut table =
        Table::new(&["KERNEL", "PROGRAMS", "MOST INSTRUCTIONS", "TESTS PASSED", "NOT", "SECONDS"]);
    let mut faults = Vec::new();
    let mut grown = Vec::new();
    for ((kernel, fetched), (report, seconds)) in ready.iter().zip(&reports) {
        let passed = report.tests.values().filter(|passed| **passed).count();
        let most = report.programs.values().map(|count| count.instructions).max().unwrap_or_default();
        table.row([
            fetched.release.clone(),
            report.programs.len().to_string(),
            most.to_string(),
            passed.to_string(),
            (report.tests.len() - passed).to_string(),
            seconds.to_string(),
        ]);
        let of_this = report::faults(kernel, report, &guest.test_names());
        faults.extend(of_this.into_iter().map(|fault| format!("{}: {fault}", fetched.release)));
        if record {
            ledger.record(&fetched.release, report.programs.clone());
        } else if ledger.of(&fetched.release).is_none() {
            eprintln!("nothing is recorded of {} ({})", fetched.release, verifier::COMMAND);
        }
        grown.extend(ledger.faults(&fetched.release, &report.programs));
    }
    println!("{}", table.render());
    if !faults.is_empty() {
        let logs = log_dir(layout);
        bail!("{}\nTheir consoles are in {}", faults.join("\n"), logs.display());
    }
    if record {
        let (release, counts) = running(layout)?;
        ledger.record(&release, counts);
        ledger.write(layout)?;
    }
    verifier::judge(&grown)?;
    if lacking.is_empty() { Ok(Outcome::Passed) } else { Ok(Outcome::Lacking(lacking.join("; "))) }
}

/// What every kernel is given.
pub struct Guest {
    /// The first program.
    pub init: PathBuf,
    /// The eBPF object.
    pub object: PathBuf,
    /// Test programs by their names.
    pub tests: Vec<(String, PathBuf)>,
}

impl Guest {
    fn test_names(&self) -> Vec<String> {
        self.tests.iter().map(|(name, _)| name.clone()).collect()
    }

    fn archive(&self, modules: &[PathBuf]) -> Result<Vec<u8>> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("{}", path.display()));
        let mut archive = Archive::default();
        for name in ["proc", "sys", "dev", "tmp", "modules", "tests"] {
            archive.directory(name);
        }
        archive.file("init", &read(&self.init)?);
        archive.file("skep-ebpf.o", &read(&self.object)?);
        for module in modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            archive.file(&format!("modules/{name}"), &read(module)?);
        }
        for (name, program) in &self.tests {
            archive.file(&format!("tests/{name}"), &read(program)?);
        }
        Ok(archive.finish())
    }
}

fn log_dir(layout: &Layout) -> PathBuf {
    layout.target.join("kernels")
}

/// Boots the kernels, a few at the same time; gives what each said and the seconds it took, in their order.
fn boot_all(
    layout: &Layout,
    emulator: &Emulator,
    guest: &Guest,
    kernels: &[(&Kernel, Fetched)],
) -> Result<Vec<(Report, u64)>> {
    fs::create_dir_all(log_dir(layout))?;
    let next = Mutex::new(0..kernels.len());
    let take = || next.lock().ok().and_then(|mut next| next.next());
    let step =
        Step::begin(format!("booting {} kernels under emulation, with the dataplane's tests", kernels.len()));
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let work = || {
            while let Some(index) = take() {
                let booted = boot(layout, emulator, guest, &kernels[index].1);
                done.lock().map_err(|_| anyhow!("the other thread panicked"))?.push((index, booted?));
            }
            Ok(())
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let mut ends = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        ends.try_for_each(|end| end.unwrap_or_else(|_| Err(anyhow!("a thread panicked"))))
    })?;
    let mut reports: Vec<(usize, (Report, u64))> =
        done.into_inner().map_err(|_| anyhow!("a thread panicked"))?;
    reports.sort_by_key(|(index, _)| *index);
    step.done("");
    Ok(reports.into_iter().map(|(_, report)| report).collect())
}

/// Boots one kernel and waits for its end.
fn boot(layout: &Layout, emulator: &Emulator, guest: &Guest, kernel: &Fetched) -> Result<(Report, u64)> {
    let begun = Instant::now();
    let at = |extension: &str| log_dir(layout).join(format!("{}.{extension}", kernel.release));
    let (archive, console) = (at("cpio"), at("log"));
    fs::write(&archive, guest.archive(&kernel.modules)?)?;
    let mut qemu = emulator.command();
    // Nothing but a processor, memory and a serial line. A reset, which is how the guest ends, ends the emulator.
    qemu.args(["-machine", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "2048"]);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-nic", "none"]);
    qemu.args(["-no-reboot", "-serial", "stdio", "-kernel"]).arg(&kernel.image);
    qemu.arg("-initrd").arg(&archive);
    qemu.args(["-append", "console=ttyS0 quiet loglevel=1 panic=-1"]);
    let log = fs::File::create(&console)?;
    qemu.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut child = qemu.spawn().with_context(|| shown(&qemu))?;
    while child.try_wait()?.is_none() {
        if begun.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::remove_file(&archive)?;
    let said = fs::read(&console)?;
    Ok((report::parse(&String::from_utf8_lossy(&said)), begun.elapsed().as_secs()))
}
