//! Durable puts a second: `puts DIR [SECONDS] [WRITERS…]`. Each writer puts 1 KiB values under its own 50 keys, one at a time.

use std::{
    path::PathBuf,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use skep_store::{Config, Op, Store, StoreError, Txn};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir: PathBuf = args.next().ok_or("usage: puts DIR [SECONDS] [WRITERS…]")?.into();
    let seconds = args.next().map_or(Ok(3), |arg| arg.parse())?;
    let mut writers = args.map(|arg| arg.parse()).collect::<Result<Vec<usize>, _>>()?;
    if writers.is_empty() {
        writers = vec![1, 64, 1000];
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let opened = Instant::now();
        let store = Store::open(Config::new(&dir)).await?;
        println!("open_ms {:.1} revision {}", opened.elapsed().as_secs_f64() * 1e3, store.revision());
        for count in writers {
            let (puts, cpu) = run(&store, count, Duration::from_secs(seconds)).await?;
            println!(
                "writers {count} puts_per_second {:.0} cpu_us_per_put {:.1}",
                puts as f64 / seconds as f64,
                cpu / puts as f64
            );
        }
        store.shutdown().await;
        Ok(())
    })
}

/// CPU time of this process in microseconds.
fn cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse().ok())
        .collect();
    fields.iter().sum::<f64>() * 10_000.0
}

async fn run(store: &Store, writers: usize, time: Duration) -> Result<(u64, f64), StoreError> {
    let stop = Arc::new(AtomicBool::new(false));
    let puts = Arc::new(AtomicU64::new(0));
    let before = cpu_us();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, stop, puts) = (store.clone(), stop.clone(), puts.clone());
            tokio::spawn(async move {
                let mut n = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let key = Bytes::from(format!("/bench/{writer:04}/{:02}", n % 50));
                    let value = Bytes::from(vec![n as u8; 1024]);
                    store.txn(Txn { compare: vec![], ops: vec![Op::Put { key, value }] }).await?;
                    puts.fetch_add(1, Ordering::Relaxed);
                    n += 1;
                }
                Ok::<(), StoreError>(())
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    let (puts, cpu) = (puts.load(Ordering::Relaxed), cpu_us() - before);
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap_or(Err(StoreError::Closed))?;
    }
    Ok((puts, cpu))
}
