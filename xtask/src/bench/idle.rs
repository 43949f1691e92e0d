//! What a cluster costs that does nothing.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Figure, Goal, Place};
use crate::cluster::program::{AGENT, process_name};
use crate::cluster::up::SERVER;
use crate::cluster::{Config, status};
use crate::proc::{Process, Stat};
use crate::ui::Step;

/// Age of the cluster when it is measured.
const SETTLED: Duration = Duration::from_secs(300);
/// Time over which processor use is averaged.
const WINDOW: Duration = Duration::from_secs(60);
/// Clock ticks a second as `/proc` counts them: fixed at 100 on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

pub(super) fn run(place: &Place<'_>) -> Result<Vec<Figure>> {
    let config = Config::existing(place.dir)?;
    let node = config.nodes.first().context("a cluster without nodes")?;
    let processes = [SERVER.to_owned(), process_name(AGENT.name, node)].map(|name| {
        let process = Process::read(&config.pid_file(&name))?.filter(Process::alive);
        process.with_context(|| format!("{name} is not running: `cargo xtask up` first"))
    });
    let [server, agent] = processes;
    let (server, agent) = (server?, agent?);
    let step = Step::begin("waiting until the cluster is five minutes old");
    let youngest = server.started.max(agent.started);
    while age(youngest)? < SETTLED {
        thread::sleep(Duration::from_secs(1));
    }
    step.done("");
    let step = Step::begin(format!("watching processor time for {} s", WINDOW.as_secs()));
    let before = (ticks(server)?, ticks(agent)?);
    let begun = Instant::now();
    thread::sleep(WINDOW);
    let window = begun.elapsed().as_secs_f64();
    let used = (ticks(server)? - before.0, ticks(agent)? - before.1);
    step.done("");
    let share = |ticks: u64| ticks as f64 / TICKS / window * 100.0;
    let resident = |process: Process| status::resident(process.pid).context("a process ended").map(mib);
    let (server_memory, agent_memory) = (resident(server)?, resident(agent)?);
    let maps =
        skep_dataplane::status_from_pins(Path::new("/sys/fs/bpf"), &config.name, &node.name)?.map_bytes();
    let total = server_memory + agent_memory + mib(maps);
    Ok(vec![
        Figure::new("skep-server resident", server_memory, "MiB", Goal::None),
        Figure::new("skep-agent resident", agent_memory, "MiB", Goal::None),
        Figure::new("eBPF maps", mib(maps), "MiB", Goal::None),
        Figure::new("memory together", total, "MiB", Goal::Below(96.0)),
        Figure::new("skep-server processor", share(used.0), "% of a core", Goal::None),
        Figure::new("skep-agent processor", share(used.1), "% of a core", Goal::None),
        Figure::new("processor together", share(used.0 + used.1), "% of a core", Goal::Below(2.0)),
    ])
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1048576.0
}

fn ticks(process: Process) -> Result<u64> {
    Stat::of(process.pid)
        .filter(|stat| stat.started == process.started)
        .map(|stat| stat.ticks)
        .context("a process ended")
}

/// Time since a process started that began `started` ticks after boot.
fn age(started: u64) -> Result<Duration> {
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let uptime: f64 = uptime.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_secs_f64((uptime - started as f64 / TICKS).max(0.0)))
}
