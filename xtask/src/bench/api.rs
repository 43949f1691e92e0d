//! The API server under load, alone or beside another implementation in the same run.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{Figure, Goal, Place, store};
use crate::builder;
use crate::cluster::{Config, up};
use crate::layout::Layout;
use crate::proc::{self, Process};
use crate::run::{captured, command, text};
use crate::ui::Step;

/// Goals as ratios of ours to theirs, by the beginning of a figure's name.
const GOALS: &[(&str, Goal)] = &[
    ("create, 1 clients", Goal::Above(1.5)),
    ("create, 64 clients", Goal::Above(3.0)),
    ("processor a create", Goal::Below(0.2)),
    ("processor a get", Goal::Below(0.1)),
    ("processor a list", Goal::Below(0.1)),
    ("list of", Goal::Below(0.25)),
    ("last of", Goal::Below(1.0 / 3.0)),
    ("resident memory", Goal::Below(0.2)),
];

/// Longest wait for a server to begin.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(place: &Place<'_>) -> Result<Vec<Figure>> {
    builder::build_binaries(place.layout)?;
    store::build(place.layout)?;
    let dir = place.layout.target.join(format!("bench-api-{}", std::process::id()));
    let figures = measure(place, &dir);
    let _ = fs::remove_dir_all(&dir);
    figures
}

fn measure(place: &Place<'_>, dir: &Path) -> Result<Vec<Figure>> {
    let ours = {
        let server = Ours::start(place.layout, &dir.join("skep"))?;
        load(place.layout, "skep-server", &server.config.kubeconfig(), &[server.process])?
    };
    let Some(programs) = place.against else { return Ok(ours) };
    let theirs = {
        let server = Theirs::start(programs, &dir.join("other"))?;
        load(place.layout, "kube-apiserver and etcd", &server.kubeconfig, &server.processes)?
    };
    Ok(beside(ours, &theirs))
}

/// Each of our figures, theirs, and the ratio that the goal speaks of.
fn beside(ours: Vec<Figure>, theirs: &[Figure]) -> Vec<Figure> {
    let theirs: BTreeMap<&str, &Figure> = theirs.iter().map(|figure| (&*figure.name, figure)).collect();
    let mut figures = Vec::new();
    for own in ours {
        let Some(other) = theirs.get(&*own.name) else { continue };
        let goal =
            GOALS.iter().find(|(name, _)| own.name.starts_with(name)).map_or(Goal::None, |(_, goal)| *goal);
        let ratio = Figure::new(&format!("{}: ratio", own.name), own.value / other.value, "", goal);
        figures.push(Figure { name: format!("{}: theirs", own.name), ..(*other).clone() });
        figures.push(Figure { name: format!("{}: ours", own.name), ..own });
        figures.push(ratio);
    }
    figures
}

/// Runs the load against a server.
fn load(layout: &Layout, name: &str, kubeconfig: &Path, processes: &[Process]) -> Result<Vec<Figure>> {
    let step = Step::begin(format!("putting load on {name}"));
    let mut bench = command(layout.target.join("release/skep-bench-api"));
    bench.arg(kubeconfig).args(processes.iter().map(|process| process.pid.to_string()));
    let lines = text(&mut bench)?;
    step.done("");
    let figures = lines.lines().map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let (name, unit) =
            (value["name"].as_str().unwrap_or_default(), value["unit"].as_str().unwrap_or_default());
        Ok(Figure::new(name, value["value"].as_f64().context("a figure without a value")?, unit, Goal::None))
    });
    figures.collect()
}

pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A server of this checkout, ended when dropped.
pub(super) struct Ours {
    pub(super) config: Config,
    process: Process,
}

impl Ours {
    pub(super) fn start(layout: &Layout, dir: &Path) -> Result<Self> {
        let config = Config {
            name: "bench".into(),
            secure_port: free_port()?,
            server_ip: Ipv4Addr::LOCALHOST,
            ..Config::new(dir)?
        };
        for folder in ["logs", "pids"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let process = up::start_server(&config, layout)?;
        Ok(Ours { config, process })
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        up::end(self.process);
    }
}

/// etcd and kube-apiserver, ended when dropped.
struct Theirs {
    kubeconfig: std::path::PathBuf,
    processes: Vec<Process>,
}

impl Theirs {
    fn start(programs: &Path, dir: &Path) -> Result<Self> {
        let programs =
            fs::canonicalize(programs).with_context(|| format!("--against {}", programs.display()))?;
        for name in ["etcd", "kube-apiserver"] {
            ensure!(
                programs.join(name).is_file(),
                "--against {}: there is no {name} in it",
                programs.display()
            );
        }
        fs::create_dir_all(dir)?;
        let mut server = Theirs { kubeconfig: dir.join("kubeconfig"), processes: Vec::new() };
        let (clients, peers, port) = (free_port()?, free_port()?, free_port()?);
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let mut etcd = command(programs.join("etcd"));
        etcd.arg("--data-dir").arg(dir.join("etcd"));
        etcd.args(["--listen-client-urls", &url(clients), "--advertise-client-urls", &url(clients)]);
        etcd.args(["--listen-peer-urls", &url(peers), "--initial-advertise-peer-urls", &url(peers)]);
        etcd.args(["--initial-cluster", &format!("default={}", url(peers))]);
        server.spawn(&etcd, &dir.join("etcd.log"))?;

        let key = dir.join("sa.key");
        captured(command("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048"))?;
        // A token for this run alone, and a user of the group that may do everything.
        let token = text(command("openssl").args(["rand", "-hex", "16"]))?.trim().to_owned();
        fs::write(dir.join("tokens.csv"), format!("{token},bench,bench,system:masters\n"))?;
        let mut apiserver = command(programs.join("kube-apiserver"));
        apiserver.args([&format!("--etcd-servers={}", url(clients)), "--bind-address=127.0.0.1"]);
        apiserver
            .arg(format!("--secure-port={port}"))
            .arg(format!("--cert-dir={}", dir.join("certs").display()));
        apiserver.arg(format!("--token-auth-file={}", dir.join("tokens.csv").display()));
        apiserver.args([
            "--service-account-issuer=https://kubernetes.default.svc",
            &format!("--service-account-key-file={}", key.display()),
            &format!("--service-account-signing-key-file={}", key.display()),
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.97.0.0/16",
        ]);
        let log = dir.join("kube-apiserver.log");
        let process = server.spawn(&apiserver, &log)?;
        let certificate = dir.join("certs/apiserver.crt");
        let made = proc::until(PATIENCE, || certificate.is_file() || !process.alive());
        if !made || !process.alive() {
            bail!("kube-apiserver did not start: {}", proc::tail(&log, 8));
        }
        fs::write(&server.kubeconfig, kubeconfig(port, &certificate, &token).to_string())?;
        Ok(server)
    }

    fn spawn(&mut self, program: &Command, log: &Path) -> Result<Process> {
        let process = proc::daemon(program, log)?;
        self.processes.push(process);
        Ok(process)
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        // The server first: etcd ends cleanly when nobody asks it any more.
        for process in self.processes.iter().rev() {
            up::end(*process);
        }
    }
}

fn kubeconfig(port: u16, certificate: &Path, token: &str) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority": certificate,
        }}],
        "users": [{"name": "bench", "user": {"token": token}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_judged_by_their_goals() {
        let figure = |name: &str, value| Figure::new(name, value, "µs", Goal::None);
        let ours = vec![figure("processor a get, 64 clients", 9.0), figure("get, 64 clients", 3.0)];
        let theirs = [figure("processor a get, 64 clients", 100.0), figure("get, 64 clients", 1.0)];
        let figures = beside(ours, &theirs);
        assert_eq!(figures.len(), 6);
        assert_eq!((figures[2].value, figures[2].met), (0.09, Some(true)));
        assert_eq!((figures[5].value, figures[5].met), (3.0, None));
    }

    #[test]
    fn every_goal_has_a_figure() {
        let source = include_str!("../../bench/src/api/main.rs");
        for (name, _) in GOALS {
            let stem = name.split(", ").next().unwrap();
            assert!(source.contains(stem), "{name}");
        }
    }
}
