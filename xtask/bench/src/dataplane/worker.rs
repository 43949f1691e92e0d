//! The two processes of a node's pods: one that serves, one that asks. A process each, so that each is in the cgroup and the
//! network namespace of its pod, as containers are.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};

use crate::netns::Netns;
use crate::rules::PORT;
use crate::stats::percentile;

/// What a client does. The first byte of a connection tells the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    /// A connection, one byte there and back, and its end by a reset: nothing stays in TIME_WAIT, whose port a translation
    /// could not use again.
    Connect,
    /// 64 bytes there and back on a connection that is kept.
    Request,
    /// As many bytes as go through one connection.
    Bulk,
}

impl Metric {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Connect, Self::Request, Self::Bulk];

    /// The word for people and for the client process.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connections",
            Self::Request => "requests",
            Self::Bulk => "bulk",
        }
    }

    /// Unit of the rate.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Connect | Self::Request => "1/s",
            Self::Bulk => "MiB/s",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == word)
    }
}

/// One sample.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// How much in a second, in the metric's unit.
    pub(crate) rate: f64,
    /// Time that 99 of 100 took at most, in microseconds; 0 for bulk.
    pub(crate) p99: f64,
}

const MESSAGE: usize = 64;
const CHUNK: usize = 128 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);

/// Moves this process into a cgroup, given by its `cgroup.procs`.
fn enter(cgroup: &str) -> Result<()> {
    if cgroup.is_empty() {
        return Ok(());
    }
    std::fs::write(cgroup, "0").with_context(|| cgroup.to_owned())
}

/// The serving process: one connection after the other, for ever.
pub(crate) fn serve(cgroup: &str) -> Result<()> {
    enter(cgroup)?;
    // It ends with who started it.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    println!("ready");
    for stream in listener.incoming() {
        // What a client does to its connection is its matter.
        let _ = answer(&stream?);
    }
    Ok(())
}

fn answer(mut stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut first = [0];
    stream.read_exact(&mut first)?;
    let mut buffer = vec![0; CHUNK];
    match first[0] {
        b'c' => {
            stream.write_all(&first)?;
            let _ = stream.read(&mut first)?;
        }
        b'r' => loop {
            stream.read_exact(&mut buffer[..MESSAGE])?;
            stream.write_all(&buffer[..MESSAGE])?;
        },
        _ => {
            let mut total = 0_u64;
            loop {
                match stream.read(&mut buffer)? {
                    0 => break,
                    read => total += read as u64,
                }
            }
            stream.write_all(&total.to_be_bytes())?;
            let _ = stream.read(&mut first)?;
        }
    }
    Ok(())
}

/// The asking process: a line `METRIC ADDRESS MILLISECONDS` in, a sample as a line of JSON out, or `! ERROR`.
pub(crate) fn ask(cgroup: &str) -> Result<()> {
    enter(cgroup)?;
    println!("ready");
    for line in std::io::stdin().lines() {
        match sample(&line?) {
            Ok(sample) => println!("{}", serde_json::to_string(&sample)?),
            Err(error) => println!("! {error:#}"),
        }
    }
    Ok(())
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    Ok(stream)
}

fn sample(line: &str) -> Result<Sample> {
    let words: Vec<&str> = line.split(' ').collect();
    let [metric, to, millis] = words[..] else { bail!("{line:?}: METRIC ADDRESS MILLISECONDS") };
    let metric = Metric::parse(metric).context("no such metric")?;
    let (to, window): (SocketAddr, _) = (to.parse()?, Duration::from_millis(millis.parse()?));
    match metric {
        Metric::Connect => {
            let mut byte = *b"c";
            repeat(window, || {
                let mut stream = connect(to)?;
                stream.write_all(&byte)?;
                Ok(stream.read_exact(&mut byte)?)
            })
        }
        Metric::Request => {
            let (mut stream, mut message) = (connect(to)?, [0; MESSAGE]);
            stream.write_all(b"r")?;
            let mut once = || {
                stream.write_all(&message)?;
                Ok(stream.read_exact(&mut message)?)
            };
            for _ in 0..10 {
                once()?;
            }
            repeat(window, once)
        }
        Metric::Bulk => bulk(to, window),
    }
}

/// Does something over and over, and times each.
fn repeat(window: Duration, mut once: impl FnMut() -> Result<()>) -> Result<Sample> {
    let begun = Instant::now();
    let mut times = Vec::with_capacity(16_384);
    let mut last = begun;
    while last - begun < window {
        once()?;
        let now = Instant::now();
        times.push((now - last).as_secs_f64() * 1e6);
        last = now;
    }
    let rate = times.len() as f64 / (last - begun).as_secs_f64();
    Ok(Sample { rate, p99: percentile(&mut times, 0.99).unwrap_or(0.0) })
}

fn bulk(to: SocketAddr, window: Duration) -> Result<Sample> {
    let mut stream = connect(to)?;
    let begun = Instant::now();
    stream.write_all(b"b")?;
    let chunk = vec![0; CHUNK];
    while begun.elapsed() < window {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut total = [0; 8];
    stream.read_exact(&mut total)?;
    let rate = u64::from_be_bytes(total) as f64 / 1_048_576.0 / begun.elapsed().as_secs_f64();
    Ok(Sample { rate, p99: 0.0 })
}

/// A pod's process, as this one sees it. It ends with its standard input.
pub(crate) struct Worker {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts `role` (`serve` or `ask`) in a pod.
    pub(crate) fn start(role: &str, pod: &Netns, cgroup: Option<&Path>) -> Result<Self> {
        let mut program = Command::new(std::env::current_exe()?);
        program.arg(role).arg(cgroup.map_or_else(Default::default, |dir| dir.join("cgroup.procs")));
        program.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pod.spawn(&mut program)?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a child without pipes")
        };
        let mut worker = Worker { child, to, from: BufReader::new(from) };
        let first = worker.line()?;
        anyhow::ensure!(first == "ready", "the process that is to {role} did not start: {first}");
        Ok(worker)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Takes one sample.
    pub(crate) fn sample(&mut self, metric: Metric, to: Ipv4Addr, window: Duration) -> Result<Sample> {
        writeln!(self.to, "{} {to}:{PORT} {}", metric.name(), window.as_millis())?;
        let line = self.line()?;
        match line.strip_prefix("! ") {
            Some(error) => bail!("{} to {to}: {error}", metric.name()),
            None => serde_json::from_str(&line).with_context(|| format!("a client said {line:?}")),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
