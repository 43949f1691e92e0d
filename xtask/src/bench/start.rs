//! How soon a server answers that finds its data.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use super::{Figure, Goal, Place, median};
use crate::api::Api;
use crate::builder;
use crate::cluster::{Config, up};
use crate::layout::Layout;
use crate::proc;
use crate::ui::Step;

const ROUNDS: usize = 10;
/// Objects in the data directory, so that there is something to recover.
const OBJECTS: usize = 1000;

pub(super) fn run(place: &Place<'_>) -> Result<Vec<Figure>> {
    builder::build_binaries(place.layout)?;
    let dir = place.layout.target.join(format!("bench-start-{}", std::process::id()));
    let figures = measure(place.layout, &dir);
    let _ = fs::remove_dir_all(&dir);
    figures
}

fn measure(layout: &Layout, dir: &Path) -> Result<Vec<Figure>> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let config = Config {
        name: "bench".into(),
        secure_port: port,
        server_ip: Ipv4Addr::LOCALHOST,
        ..Config::new(dir)?
    };
    for folder in ["logs", "pids"] {
        fs::create_dir_all(dir.join(folder))?;
    }
    let step = Step::begin(format!("making a data directory with {OBJECTS} objects"));
    let server = up::start_server(&config, layout)?;
    let api = Api::open(&config.kubeconfig())?;
    let filled = fill(&api);
    server.signal(Signal::SIGKILL);
    let _ = server.wait_gone(Duration::from_secs(10));
    filled?;
    step.done("");
    let step = Step::begin(format!("starting the server {ROUNDS} times"));
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let server = proc::daemon(&up::server_command(&config, layout), &config.log("skep-server"))?;
        let api = Api::open(&config.kubeconfig())?;
        let first = loop {
            if api.get("/api/v1/namespaces/default").is_ok_and(|answer| answer.status == 200) {
                break Some(begun.elapsed());
            }
            if begun.elapsed() > Duration::from_secs(30) {
                break None;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        server.signal(Signal::SIGKILL);
        let _ = server.wait_gone(Duration::from_secs(10));
        match first {
            Some(first) => times.push(first.as_secs_f64() * 1000.0),
            None => bail!("the server did not answer in 30 s: {}", proc::tail(&config.log("skep-server"), 8)),
        }
    }
    step.done("");
    let slowest = times.iter().copied().fold(0.0, f64::max);
    Ok(vec![
        Figure::new("start to first answer, median", median(times), "ms", Goal::Below(1000.0)),
        Figure::new("start to first answer, slowest", slowest, "ms", Goal::None),
    ])
}

fn fill(api: &Api) -> Result<()> {
    for number in 0..OBJECTS {
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("bench-{number}")}, "data": {"key": "x".repeat(1024)},
        });
        api.create("/api/v1/namespaces/default/configmaps", &object)?.success()?;
    }
    Ok(())
}
