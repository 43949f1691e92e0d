//! `cargo xtask bench dataplane`, the part in network namespaces: a pod that asks another one, by its own address and by a
//! ClusterIP, through Skep's programs, through the rules that kube-proxy would write, and through the real kube-proxy.
//!
//! Rates of one machine say little by themselves: every sample has the others of its round beside it, and the median of the
//! rounds' ratios decides.

mod netns;
mod node;
mod proxy;
mod reach;
mod rules;
mod skep;
mod stats;
mod worker;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use node::{Node, Written};
use proxy::{Api, Proxy};
use rules::{SERVER, entry, measured};
use skep::Skep;
use stats::{estimate, order, percentile, ratios};
use worker::Metric;

const USAGE: &str = "usage: skep-bench-dataplane --object FILE [--sizes 1,100,5000,30000] [--pairs 30] [--window MS] \
                     [--kube-proxy FILE --kubeconfig FILE]";

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("serve") => return worker::serve(&words.next().unwrap_or_default()),
        Some("ask") => return worker::ask(&words.next().unwrap_or_default()),
        Some("reach") => {
            let (service, backends) = (words.next().context(USAGE)?, words.next().context(USAGE)?);
            return reach::run(&service, backends.parse().context(USAGE)?);
        }
        _ => {}
    }
    skep::private_mounts()?;
    let plan = Plan::parse(std::env::args().skip(1))?;
    run(&plan)
}

struct Plan {
    object: PathBuf,
    sizes: Vec<usize>,
    pairs: usize,
    window: Duration,
    proxy: Option<(PathBuf, PathBuf)>,
}

impl Plan {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = BTreeMap::new();
        while let Some(name) = words.next() {
            options.insert(name, words.next().context(USAGE)?);
        }
        let mut take = |name: &str| options.remove(name);
        let sizes = take("--sizes").unwrap_or_else(|| "1,100,5000,30000".into());
        let sizes = sizes.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>().context(USAGE)?;
        let plan = Plan {
            object: take("--object").context(USAGE)?.into(),
            sizes,
            pairs: take("--pairs").map_or(Ok(30), |n| n.parse()).context(USAGE)?,
            window: Duration::from_millis(take("--window").map_or(Ok(150), |n| n.parse()).context(USAGE)?),
            proxy: match (take("--kube-proxy"), take("--kubeconfig")) {
                (Some(program), Some(kubeconfig)) => Some((program.into(), kubeconfig.into())),
                _ => None,
            },
        };
        if !options.is_empty() || plan.sizes.contains(&0) {
            bail!(USAGE);
        }
        Ok(plan)
    }
}

fn print(name: &str, value: f64, unit: &str) {
    println!("{}", serde_json::json!({"name": name, "value": value, "unit": unit}));
}

/// The nodes that are compared.
struct Nodes {
    skep: Skep,
    written: Vec<(Written, Node)>,
    real: Vec<(String, Proxy)>,
}

/// What is measured beside each other: by which way, on which node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    PodIp,
    ClusterIp,
    Written(usize),
    Real(usize),
}

impl Nodes {
    fn ways(&self) -> Vec<Way> {
        let mut ways = vec![Way::PodIp, Way::ClusterIp];
        ways.extend((0..self.written.len()).map(Way::Written));
        ways.extend((0..self.real.len()).map(Way::Real));
        ways
    }

    fn name(&self, way: &Way) -> String {
        match way {
            Way::PodIp => "the pod IP".to_owned(),
            Way::ClusterIp => "Skep".to_owned(),
            Way::Written(at) => self.written[*at].0.name().to_owned(),
            Way::Real(at) => self.real[*at].0.clone(),
        }
    }

    fn sample(
        &mut self,
        way: &Way,
        metric: Metric,
        vip: Ipv4Addr,
        window: Duration,
    ) -> Result<worker::Sample> {
        let (node, to) = match way {
            Way::PodIp => (&mut self.skep.node, SERVER),
            Way::ClusterIp => (&mut self.skep.node, vip),
            Way::Written(at) => (&mut self.written[*at].1, vip),
            Way::Real(at) => (&mut self.real[*at].1.node, vip),
        };
        let sample = node.sample(metric, to, window);
        sample.with_context(|| format!("through {}", self.name(way)))
    }
}

fn run(plan: &Plan) -> Result<()> {
    let mut nodes = Nodes { skep: Skep::new(&plan.object)?, written: Vec::new(), real: Vec::new() };
    for written in Written::ALL {
        let node = Node::new(None)?;
        match written.load(&node.netns, 1) {
            Ok(()) => nodes.written.push((written, node)),
            Err(error) => eprintln!("... without {}: {error:#}", written.name()),
        }
    }
    let mut api = None;
    if let Some((program, kubeconfig)) = &plan.proxy {
        let opened = api.insert(Api::open(kubeconfig, &plan.sizes)?);
        for mode in ["iptables", "nftables"] {
            nodes
                .real
                .push((format!("kube-proxy ({mode})"), Proxy::start(program, mode, opened, kubeconfig)?));
        }
    }
    for &size in &plan.sizes {
        eprintln!("... {size} Services: writing tables and rules");
        nodes.skep.load(size)?;
        for (written, node) in &nodes.written {
            written.load(&node.netns, size).with_context(|| written.name())?;
        }
        if let Some(api) = &mut api {
            api.fill(size)?;
            for (name, proxy) in &mut nodes.real {
                proxy.settled(size).with_context(|| name.clone())?;
            }
        }
        for metric in Metric::ALL {
            eprintln!("... {size} Services: {}, {} rounds", metric.name(), plan.pairs);
            compare(plan, &mut nodes, size, metric)?;
        }
    }
    let largest = plan.sizes.iter().copied().max().unwrap_or(1);
    programs(&mut nodes.skep, entry(measured(largest), largest).vip)?;
    print(&format!("eBPF maps with {largest} Services"), nodes.skep.map_bytes()? as f64 / 1_048_576.0, "MiB");
    let mut cold = Vec::new();
    for _ in 0..5 {
        cold.push(nodes.skep.cold(largest)?.as_secs_f64());
    }
    let median = percentile(&mut cold, 0.5).unwrap_or_default();
    print(&format!("programs loaded and {largest} Services in their maps, from nothing"), median, "s");
    Ok(())
}

/// Pieces of a sample: the ways take turns within each round too, so that what else the machine does meets all alike.
const TURNS: usize = 5;

/// Measures all ways beside each other, and prints rates and ratios.
fn compare(plan: &Plan, nodes: &mut Nodes, size: usize, metric: Metric) -> Result<()> {
    let (ways, vip) = (nodes.ways(), entry(measured(size), size).vip);
    let mut rates: BTreeMap<Way, Vec<f64>> = BTreeMap::new();
    let mut p99s: BTreeMap<Way, Vec<f64>> = BTreeMap::new();
    for way in &ways {
        // The first of its kind finds cold caches.
        nodes.sample(way, metric, vip, plan.window)?;
    }
    let part = plan.window / TURNS as u32;
    for round in 0..plan.pairs {
        let mut sums = vec![(0.0, 0.0); ways.len()];
        for turn in 0..TURNS {
            for at in order(round * TURNS + turn, ways.len()) {
                let sample = nodes.sample(&ways[at], metric, vip, part)?;
                sums[at].0 += sample.rate / TURNS as f64;
                sums[at].1 += sample.p99 / TURNS as f64;
            }
        }
        for (way, (rate, p99)) in ways.iter().zip(sums) {
            rates.entry(way.clone()).or_default().push(rate);
            p99s.entry(way.clone()).or_default().push(p99);
        }
    }
    let title = format!("{}, {size} Services", metric.name());
    for way in &ways {
        let name = nodes.name(way);
        let all =
            rates.get_mut(way).map_or(0.0, |all| percentile(all.clone().as_mut_slice(), 0.5).unwrap_or(0.0));
        print(&format!("{title}, {name}"), all, metric.unit());
        if metric != Metric::Bulk {
            let all =
                p99s.get(way).map_or(0.0, |all| percentile(all.clone().as_mut_slice(), 0.5).unwrap_or(0.0));
            print(&format!("{title}, {name}: p99"), all, "µs");
        }
    }
    let ours = &rates[&Way::ClusterIp];
    for way in ways.iter().filter(|way| **way != Way::ClusterIp) {
        let Some(found) = estimate(ratios(ours, &rates[way])) else { continue };
        let name = format!("{title}, Skep / {}", nodes.name(way));
        print(&format!("{name}: median"), found.median, "");
        print(&format!("{name}: lower bound"), found.lower, "");
        print(&format!("{name}: upper bound"), found.upper, "");
    }
    Ok(())
}

/// The programs' own time: a run of each, for a connection and for packets.
fn programs(skep: &mut Skep, vip: Ipv4Addr) -> Result<()> {
    let window = Duration::from_millis(500);
    let cases = [
        (Metric::Connect, SERVER, "connections to the pod IP"),
        (Metric::Connect, vip, "connections to the ClusterIP"),
        (Metric::Request, vip, "requests to the ClusterIP"),
        (Metric::Bulk, vip, "bulk to the ClusterIP"),
    ];
    for (metric, to, name) in cases {
        for (program, (nanoseconds, _)) in skep.nanoseconds(metric, to, window)? {
            print(&format!("{program} a run, {name}"), nanoseconds, "ns");
        }
    }
    Ok(())
}
