//! A whole agent of a cluster of its own: changes on their way to the kernel, memory with 10,000 Services, and a start from
//! nothing with 30,000.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::changes::{Judged, Write, judge};
use super::{Figure, Goal};
use crate::api::Api;
use crate::bench::api::free_port;
use crate::bench::median;
use crate::cluster::lan::Lan;
use crate::cluster::program::{AGENT, on_node, process_name, start};
use crate::cluster::{Config, down, status, up};
use crate::kernel;
use crate::layout::Layout;
use crate::proc::{Process, until};
use crate::run::command;
use crate::ui::Step;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const BPFFS: &str = "/sys/fs/bpf";
/// Services beside the one that changes: for the figure with a goal, for the memory, for the start.
const FEW: usize = 100;
const MANY: usize = 10_000;
const MOST: usize = 30_000;
/// Changes, and time between two: a thousand a minute.
const CHANGES: usize = 1_000;
const BETWEEN: Duration = Duration::from_millis(60);
/// Backends that take turns: one comes back six seconds later at the soonest.
const BACKENDS: u8 = 100;
/// Starts from nothing.
const STARTS: usize = 3;
/// Requests at once, while objects are made.
const WRITERS: usize = 8;
/// Longest wait for the agent to have written what it was told.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster that goes with its owner.
struct Cluster<'a> {
    config: Config,
    layout: &'a Layout,
    api: Api,
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for left in down::down(&self.config, false) {
            eprintln!("... {left}");
        }
    }
}

pub(super) fn measure(layout: &Layout, dir: &Path) -> Result<Vec<Figure>> {
    let config = Config {
        name: format!("bench{}", std::process::id()),
        secure_port: free_port()?,
        service_cidr: "10.98.0.0/16".into(),
        cluster_cidr: "10.242.0.0/16".into(),
        ..Config::new(dir)?
    };
    let config = config.with_agents(1, Lan::free(1)?, 1)?;
    let api = match up::up(&config, layout) {
        Ok(api) => api,
        Err(error) => {
            let _ = down::down(&config, false);
            return Err(error);
        }
    };
    let cluster = Cluster { config, layout, api };
    let mut figures = Vec::new();
    let service = cluster.changing()?;
    cluster.fill(0, FEW)?;
    cluster.wait_for(FEW)?;
    figures.extend(cluster.changes(&service, FEW, Goal::Below(100.0), Goal::Below(500.0))?);
    cluster.fill(FEW, MANY)?;
    cluster.wait_for(MANY)?;
    figures.extend(cluster.memory("that saw them come")?);
    figures.extend(cluster.changes(&service, MANY, Goal::None, Goal::None)?);
    cluster.agent()?.signal(Signal::SIGTERM);
    cluster.wait_gone()?;
    cluster.start()?;
    thread::sleep(Duration::from_secs(10));
    figures.extend(cluster.memory("that was started with them")?);
    cluster.fill(MANY, MOST)?;
    cluster.wait_for(MOST)?;
    let mut cold = Vec::new();
    for _ in 0..STARTS {
        cold.push(cluster.cold()?.as_secs_f64());
    }
    let name = format!("agent's start to {MOST} Services in maps that it made, median of {STARTS}");
    figures.push(Figure::new(&name, median(cold), "s", Goal::Below(2.0)));
    Ok(figures)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// Unix time in milliseconds.
fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1000.0)
}

impl Cluster<'_> {
    fn agent(&self) -> Result<Process> {
        let name = process_name(AGENT.name, self.config.node("1")?);
        Process::read(&self.config.pid_file(&name))?.context("the agent has no pid file")
    }

    fn wait_gone(&self) -> Result<()> {
        ensure!(self.agent()?.wait_gone(PATIENCE), "the agent does not end");
        Ok(())
    }

    fn start(&self) -> Result<Process> {
        start(&AGENT, &self.config, self.config.node("1")?, self.layout)
    }

    /// Entries of the map of Services, and memory of all maps.
    fn maps(&self) -> Result<(u64, u64)> {
        let status = skep_dataplane::status_from_pins(
            Path::new(BPFFS),
            &self.config.name,
            &self.config.node("1")?.name,
        )?;
        let entries = status.maps.iter().find(|map| map.name == "SERVICES").map_or(0, |map| map.entries);
        Ok((entries, status.map_bytes()))
    }

    fn wait_for(&self, services: usize) -> Result<()> {
        let step = Step::begin(format!("waiting until the agent has {services} Services in its maps"));
        let there = until(PATIENCE, || self.maps().is_ok_and(|(entries, _)| entries >= services as u64));
        ensure!(there, "the agent did not bring {services} Services into its maps");
        step.done("");
        Ok(())
    }

    /// Makes Services with one endpoint each, numbered from `from`.
    fn fill(&self, from: usize, to: usize) -> Result<()> {
        let step = Step::begin(format!("making Services {from} to {to}"));
        let next = AtomicUsize::new(from);
        let write = || -> Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= to {
                    return Ok(());
                }
                let name = format!("filler-{number}");
                let service =
                    json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80, "targetPort": 80}]}});
                self.api.create(SERVICES, &service)?.success()?;
                let backend = format!("10.242.{}.{}", 128 + number / 250 % 128, 1 + number % 250);
                self.api.create(SLICES, &slice(&name, &backend))?.success()?;
            }
        };
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
            writers.into_iter().try_for_each(|writer| {
                writer.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
            })
        })?;
        step.done("");
        Ok(())
    }

    /// Makes the Service that changes; gives its address with its port.
    fn changing(&self) -> Result<String> {
        let service =
            json!({"metadata": {"name": "changing"}, "spec": {"ports": [{"port": 80, "targetPort": 80}]}});
        let service = self.api.create(SERVICES, &service)?.success()?;
        self.api.create(SLICES, &slice("changing", "198.18.0.1"))?.success()?;
        Ok(format!("{}:80", service["spec"]["clusterIP"].as_str().context("a Service without address")?))
    }

    /// Changes the Service's only endpoint a thousand times in a minute while a client asks who answers.
    fn changes(&self, service: &str, others: usize, delay: Goal, stale: Goal) -> Result<Vec<Figure>> {
        let step = Step::begin(format!("changing an endpoint {CHANGES} times, beside {others} Services"));
        let (mut client, mut out) = self.client(service)?;
        thread::sleep(Duration::from_secs(1));
        let begun = Instant::now();
        let mut writes = Vec::new();
        for number in 0..CHANGES {
            thread::sleep((begun + BETWEEN * number as u32).saturating_duration_since(Instant::now()));
            let backend = 1 + u8::try_from((number + 1) % usize::from(BACKENDS))?;
            let patch = json!({"endpoints": endpoints(&format!("198.18.0.{backend}"))});
            let begun = now()?;
            self.api.merge(&format!("{SLICES}/changing"), &patch)?.success()?;
            writes.push(Write { begun, answered: now()?, backend });
        }
        let spent = begun.elapsed().as_secs_f64();
        thread::sleep(Duration::from_secs(2));
        drop(client.stdin.take());
        let mut text = String::new();
        out.read_to_string(&mut text)?;
        client.wait()?;
        let (seen, failed) = parse(&text)?;
        let judged = judge(&writes, &seen);
        step.done(&format!("{} connections", seen.len()));
        let writing = writes.iter().map(|write| write.answered - write.begun).collect();
        Ok(figures(judged, others, failed, CHANGES as f64 / spent * 60.0, median(writing), delay, stale))
    }

    /// Starts the client on the node; gives it and its output, once it asks.
    fn client(&self, service: &str) -> Result<(Child, BufReader<ChildStdout>)> {
        let mut inner = command(super::program(self.layout));
        inner.args(["reach", service, &BACKENDS.to_string()]);
        let mut outer = on_node(&self.config, self.config.node("1")?, &inner);
        let mut client = outer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut out = BufReader::new(client.stdout.take().context("a pipe")?);
        let mut line = String::new();
        out.read_line(&mut line)?;
        ensure!(line.trim() == "ready", "the client says {line:?}");
        Ok((client, out))
    }

    fn memory(&self, of: &str) -> Result<Vec<Figure>> {
        let resident = mib(status::resident(self.agent()?.pid).context("the agent ended")?);
        let maps = mib(self.maps()?.1);
        let name = format!("an agent {of}, {MANY} Services");
        Ok(vec![
            Figure::new(&format!("{name}: resident"), resident, "MiB", Goal::None),
            Figure::new(&format!("{name}: eBPF maps"), maps, "MiB", Goal::None),
            Figure::new(&format!("{name}: together"), resident + maps, "MiB", Goal::Below(100.0)),
        ])
    }

    /// Time of a start without programs or maps until every Service is in the maps.
    fn cold(&self) -> Result<Duration> {
        let step = Step::begin("starting an agent from nothing");
        self.agent()?.signal(Signal::SIGKILL);
        self.wait_gone()?;
        let node = self.config.node("1")?;
        let netns = self.config.netns(node);
        kernel::in_netns(netns.as_deref(), || {
            skep_dataplane::remove_all(Path::new(BPFFS), &self.config.name, &node.name)
        })??;
        let begun = Instant::now();
        self.start()?;
        let mut took = None;
        while took.is_none() && begun.elapsed() < PATIENCE {
            // Counting takes some milliseconds itself: this is rather too long than too short.
            if self.maps().is_ok_and(|(entries, _)| entries >= MOST as u64) {
                took = Some(begun.elapsed());
            }
            thread::sleep(Duration::from_millis(10));
        }
        step.done("");
        took.context("the agent did not bring all Services into its maps")
    }
}

fn endpoints(backend: &str) -> Value {
    json!([{"addresses": [backend], "conditions": {"ready": true}}])
}

fn slice(service: &str, backend: &str) -> Value {
    json!({
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints(backend),
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
    })
}

/// What the client saw, and how many of its connections failed.
fn parse(text: &str) -> Result<(Vec<(f64, u8)>, usize)> {
    let (mut seen, mut failed) = (Vec::new(), 0);
    for line in text.lines() {
        let (at, backend) = line.split_once(' ').with_context(|| line.to_owned())?;
        match backend {
            "!" => failed += 1,
            backend => seen.push((at.parse::<f64>()? / 1000.0, backend.parse()?)),
        }
    }
    Ok((seen, failed))
}

fn figures(
    judged: Judged,
    others: usize,
    failed: usize,
    rate: f64,
    writing: f64,
    delay: Goal,
    stale: Goal,
) -> Vec<Figure> {
    let mut delays = judged.delays;
    delays.sort_by(f64::total_cmp);
    let p99 = delays.get((delays.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN);
    let of = |what: &str| format!("endpoint changes beside {others} Services: {what}");
    let lost = (failed + judged.unseen + judged.strange) as f64;
    vec![
        Figure::new(&of("a minute"), rate, "1/min", Goal::None),
        Figure::new(&of("the API's part, median"), writing, "ms", Goal::None),
        Figure::new(
            &of("request to the first connection that meets it, median"),
            median(delays),
            "ms",
            Goal::None,
        ),
        Figure::new(&of("the same, p99"), p99, "ms", delay),
        Figure::new(&of("last connection after a removal was answered"), judged.latest_stale, "ms", stale),
        Figure::new(&of("failed connections and changes nobody met"), lost, "", Goal::Below(1.0)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_wrote_is_read() {
        assert_eq!(parse("1500 7\n2000 !\n2500 8\n").unwrap(), (vec![(1.5, 7), (2.5, 8)], 1));
        assert!(parse("nonsense").is_err());
    }

    #[test]
    fn a_failed_connection_misses_the_goal() {
        let judged = Judged { delays: vec![1.0, 2.0], ..Judged::default() };
        let all = figures(judged.clone(), 5, 1, 1000.0, 1.0, Goal::Below(100.0), Goal::Below(500.0));
        assert!(all.iter().any(|figure| figure.met == Some(false)));
        let all = figures(judged, 5, 0, 1000.0, 1.0, Goal::Below(100.0), Goal::Below(500.0));
        assert!(all.iter().all(|figure| figure.met != Some(false)));
    }
}
