//! `cargo xtask bench store`: durable puts a second by number of writers, one JSON object a line.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use skep_store::{Config, Op, Store, Txn, TxnOutcome};

/// Size of a value, in bytes.
const VALUE: usize = 1024;
/// Keys that are written over and over.
const KEYS: u64 = 10_000;
/// Writers at once, and puts in all.
const ROUNDS: &[(u64, u64)] = &[(1, 5_000), (64, 100_000), (1_000, 200_000)];

fn main() -> Result<()> {
    let dir = std::env::args().nth(1).context("usage: skep-bench-store DIR")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(measure(Path::new(&dir)));
    std::fs::remove_dir_all(&dir).context("cannot remove the bench's directory")?;
    result
}

async fn measure(dir: &Path) -> Result<()> {
    let store = Store::open(Config::new(dir)).await?;
    for &(writers, puts) in ROUNDS {
        let (processor, begun) = (processor_time()?, Instant::now());
        let next = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> =
            (0..writers).map(|_| tokio::spawn(write(store.clone(), next.clone(), puts))).collect();
        let mut times = Vec::new();
        for task in tasks {
            times.append(&mut task.await??);
        }
        let seconds = begun.elapsed().as_secs_f64();
        let micros = (processor_time()? - processor).as_micros() as f64 / puts as f64;
        times.sort();
        let p99 = times[times.len() * 99 / 100].as_secs_f64() * 1000.0;
        print(&format!("durable puts, {writers} writers"), puts as f64 / seconds, "1/s");
        print(&format!("99th percentile, {writers} writers"), p99, "ms");
        print(&format!("processor a put, {writers} writers"), micros, "µs");
    }
    store.shutdown().await;
    Ok(())
}

async fn write(store: Store, next: Arc<AtomicU64>, puts: u64) -> Result<Vec<Duration>> {
    let value = Bytes::from(vec![b'x'; VALUE]);
    let mut times = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= puts {
            return Ok(times);
        }
        let key = Bytes::from(format!("/bench/{:06}", number % KEYS));
        let begun = Instant::now();
        let put = Op::Put { key, value: value.clone() };
        match store.txn(Txn { compare: Vec::new(), ops: vec![put] }).await? {
            TxnOutcome::Committed { .. } => times.push(begun.elapsed()),
            TxnOutcome::Conflict { .. } => bail!("a put without a condition met a conflict"),
        }
    }
}

/// User and system time of this process so far.
fn processor_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn print(name: &str, value: f64, unit: &str) {
    println!(
        "{}",
        serde_json::json!({ "name": name, "value": value, "unit": unit, "goal": null, "met": null })
    );
}
