//! `cargo xtask load`: for those who work on the eBPF side. Builds the object, loads its programs, prints what the verifier
//! said, and attaches them to an interface or a cgroup until Ctrl-C.
//!
//! For the command line: [`LoadArgs`] are the arguments, [`load`] does it all. Nothing is pinned: when the process ends,
//! however it ends, the kernel detaches and unloads everything.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use nix::sys::signal::{SigSet, Signal};
use skep_dataplane::trial::Trial;

use crate::ebpf::{EbpfOptions, build_ebpf};
use crate::layout::Layout;
use crate::ui::Table;

/// What to load, and where to attach it.
#[derive(Debug, Clone, Default, Args)]
pub struct LoadArgs {
    /// Build the programs with their log records and print them as they come.
    #[arg(long)]
    pub log: bool,
    /// Attach the interface programs to this interface until Ctrl-C.
    #[arg(long, value_name = "IF")]
    pub iface: Option<String>,
    /// Attach the socket programs to this cgroup (version 2) until Ctrl-C.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Only this program [default: all].
    #[arg(long, value_name = "NAME")]
    pub program: Option<String>,
    /// Load this object instead of building one.
    #[arg(long, value_name = "FILE")]
    pub object: Option<PathBuf>,
}

/// Set by SIGINT and SIGTERM.
static STOP: AtomicBool = AtomicBool::new(false);

/// Builds, loads, prints, attaches; returns after Ctrl-C, or at once when there is nothing to attach to.
///
/// # Errors
/// Without root; what the compiler or the verifier said; when an interface or cgroup is not there.
pub fn load(args: LoadArgs) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("loading eBPF needs root: run `sudo -E env PATH=\"$PATH\" cargo xtask load`");
    }
    let object = match args.object {
        Some(object) => object,
        None => {
            let layout = Layout::find();
            let options = EbpfOptions { target: layout.target.clone(), log: args.log, install: true };
            build_ebpf(&layout.root, &options)?
        }
    };
    let mut trial = Trial::load(&object, args.program.as_deref())?;
    print!("{}", table(&trial));

    let mut places = Vec::new();
    if let Some(iface) = &args.iface {
        places.extend(trial.attach_interface(iface)?);
    }
    if let Some(cgroup) = &args.cgroup {
        places.extend(trial.attach_cgroup(cgroup)?);
    }
    if places.is_empty() {
        if args.iface.is_some() || args.cgroup.is_some() {
            bail!("no loaded program belongs there");
        }
        println!("\nNothing is attached: name an interface (--iface) or a cgroup (--cgroup).");
        return Ok(());
    }
    println!();
    places.iter().for_each(|place| println!("attached {place}"));
    let mut records = if args.log { Some(trial.records(|line| println!("{line}"))?) } else { None };
    println!("Ctrl-C detaches.");
    catch_signals()?;
    while !STOP.load(Ordering::Relaxed) {
        match &mut records {
            Some(records) => {
                if records.wait(Duration::from_millis(200)) {
                    records.flush();
                }
            }
            None => std::thread::sleep(Duration::from_millis(200)),
        }
    }
    drop(trial);
    println!("detached");
    Ok(())
}

fn table(trial: &Trial) -> String {
    let head = ["PROGRAM", "PLACE", "INSTRUCTIONS", "STACK", "JITED BYTES", "BPF BYTES", "LOAD MS"];
    let mut table = Table::new(&head);
    for program in trial.verified() {
        table.row([
            program.name.clone(),
            program.place.clone(),
            program.processed.to_string(),
            program.stack.clone(),
            program.jited_bytes.to_string(),
            program.translated_bytes.to_string(),
            format!("{:.1}", program.load_time.as_secs_f64() * 1000.0),
        ]);
    }
    table.render()
}

/// From here on SIGINT and SIGTERM end the loop instead of the process.
fn catch_signals() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            STOP.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}
