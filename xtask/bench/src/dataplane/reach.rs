//! Which backend a Service leads to, asked thousands of times a second: run on a node of a real cluster.
//!
//! The backends are addresses of the node's loopback interface, so that a change costs an API write and nothing else.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use crate::rules::PORT;

/// Time between two connections.
const PAUSE: Duration = Duration::from_micros(300);

/// Serves on `198.18.0.1` to `198.18.0.BACKENDS` and asks the Service until standard input ends; then writes a line
/// `MICROSECONDS BACKEND` of Unix time for each connection, `MICROSECONDS !` for one that failed.
pub(crate) fn run(service: &str, backends: u8) -> Result<()> {
    let service: SocketAddr = service.parse().context("ADDRESS:PORT of the Service")?;
    let add = (1..=backends).map(|last| format!("addr replace 198.18.0.{last}/32 dev lo\n"));
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
    ip.stdin.take().context("a pipe")?.write_all(add.collect::<String>().as_bytes())?;
    ensure!(ip.wait()?.success(), "ip failed");
    for last in 1..=backends {
        let listener = TcpListener::bind((Ipv4Addr::new(198, 18, 0, last), PORT))?;
        thread::Builder::new().stack_size(64 * 1024).spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(&[last]).and_then(|()| stream.read(&mut [0]));
            }
        })?;
    }
    println!("ready");
    static ENDED: AtomicBool = AtomicBool::new(false);
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        ENDED.store(true, Ordering::Relaxed);
    });
    let mut seen = Vec::new();
    while !ENDED.load(Ordering::Relaxed) {
        let begun = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
        seen.push((begun, ask(service).ok()));
        thread::sleep(PAUSE);
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (at, backend) in seen {
        match backend {
            Some(backend) => writeln!(out, "{at} {backend}")?,
            None => writeln!(out, "{at} !")?,
        }
    }
    Ok(out.flush()?)
}

fn ask(service: SocketAddr) -> Result<u8> {
    let mut stream = TcpStream::connect_timeout(&service, Duration::from_secs(5))?;
    setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut backend = [0];
    stream.read_exact(&mut backend)?;
    Ok(backend[0])
}
