//! What processes spend, as the kernel counts it.

use std::fs;
use std::future::Future;
use std::time::Instant;

use anyhow::{Context, Result};

/// Clock ticks a second in `/proc/PID/stat` (`USER_HZ`, 100 on every architecture that Linux has today).
const TICKS: f64 = 100.0;

/// A set of processes.
pub(crate) struct Usage {
    pids: Vec<u32>,
}

/// What some work took.
pub(crate) struct Spent<T> {
    /// What it gave.
    pub result: T,
    /// How long it took.
    pub seconds: f64,
    /// Processor time of the processes meanwhile, in seconds.
    pub processor: f64,
}

impl<T> Spent<T> {
    /// Processor time of each of `count` requests, in microseconds.
    pub(crate) fn micros(&self, count: u64) -> f64 {
        self.processor * 1e6 / count as f64
    }
}

impl Usage {
    pub(crate) fn of(pids: Vec<u32>) -> Self {
        Usage { pids }
    }

    /// Does some work and counts what the processes spend on it.
    pub(crate) async fn measure<T>(&self, work: impl Future<Output = Result<T>>) -> Result<Spent<T>> {
        let (processor, begun) = (self.processor()?, Instant::now());
        let result = work.await?;
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Spent { result, seconds, processor: self.processor()? - processor })
    }

    fn processor(&self) -> Result<f64> {
        let mut ticks = 0;
        for pid in &self.pids {
            let stat =
                fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("pid {pid}"))?;
            // The name, in parentheses, may hold anything; user and system time are the 12th and 13th words after it.
            let words: Vec<&str> =
                stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2).collect();
            for word in words {
                ticks += word.parse::<u64>().with_context(|| format!("/proc/{pid}/stat"))?;
            }
        }
        Ok(ticks as f64 / TICKS)
    }

    /// Resident memory of all, in MiB.
    pub(crate) fn resident(&self) -> Result<f64> {
        let mut kib = 0;
        for pid in &self.pids {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
            kib += line.trim().trim_end_matches(" kB").parse::<u64>()?;
        }
        Ok(kib as f64 / 1024.0)
    }
}
