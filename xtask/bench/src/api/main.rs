//! `cargo xtask bench api`: one API server under load, measured by what its own processes spend.
//!
//! The client shares the machine's cores with the server, so a rate tells of both; the processor time of the server's
//! processes a request does not. Answers are read and thrown away, not parsed.

mod load;
mod usage;

use std::path::Path;

use anyhow::{Context, Result, bail};
use load::Target;
use usage::Usage;

/// Requests of the creating rounds: clients at once, and creations in all.
const CREATES: &[(u64, u64)] = &[(1, 1_000), (16, 3_000), (64, 6_000)];
/// Gets in all, by 64 clients.
const GETS: u64 = 20_000;
/// Lists of all pods that were created.
const LISTS: u64 = 10;
/// Watchers of the namespace, and events they are told one after another.
const WATCHERS: u64 = 1_000;
const EVENTS: u64 = 200;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let kubeconfig = words.next().context("usage: skep-bench-api KUBECONFIG PID...")?;
    let pids = words.map(|word| word.parse().with_context(|| word)).collect::<Result<Vec<u32>>>()?;
    if pids.is_empty() {
        bail!("name the server's processes, so that what they spend can be read");
    }
    tokio::runtime::Runtime::new()?.block_on(measure(Path::new(&kubeconfig), &Usage::of(pids)))
}

async fn measure(kubeconfig: &Path, usage: &Usage) -> Result<()> {
    let target = Target::open(kubeconfig).await?;
    for &(clients, creates) in CREATES {
        let spent = usage.measure(load::create(&target, clients, creates)).await?;
        print(&format!("create, {clients} clients"), creates as f64 / spent.seconds, "1/s");
        print(&format!("processor a create, {clients} clients"), spent.micros(creates), "µs");
    }
    let spent = usage.measure(load::get(&target, 64, GETS)).await?;
    print("get, 64 clients", GETS as f64 / spent.seconds, "1/s");
    print("processor a get, 64 clients", spent.micros(GETS), "µs");

    let pods: u64 = CREATES.iter().map(|(_, creates)| creates).sum();
    let spent = usage.measure(load::list(&target, LISTS, pods)).await?;
    print(&format!("list of {pods} pods, median"), load::median(spent.result.clone()), "ms");
    print(&format!("processor a list of {pods} pods"), spent.micros(LISTS), "µs");

    let mut watchers = load::watch(&target, WATCHERS).await?;
    let spent = usage.measure(load::tell(&target, &mut watchers, EVENTS)).await?;
    print(&format!("last of {WATCHERS} watchers told, median"), load::median(spent.result.clone()), "ms");
    print(&format!("processor an event to {WATCHERS} watchers"), spent.micros(EVENTS), "µs");
    print(&format!("resident memory with {pods} pods"), usage.resident()?, "MiB");
    Ok(())
}

fn print(name: &str, value: f64, unit: &str) {
    println!("{}", serde_json::json!({"name": name, "value": value, "unit": unit}));
}
