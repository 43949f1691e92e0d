//! The dataplane: what a connection through a ClusterIP costs beside one to the pod itself and beside other proxies, and how
//! an agent copes with many Services and many changes.

mod agent;
mod changes;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::api::Ours;
use super::{Figure, Goal, Place, store};
use crate::builder;
use crate::layout::Layout;
use crate::run::command;
use crate::ui::Step;

/// The program that measures in network namespaces.
fn program(layout: &Layout) -> PathBuf {
    layout.target.join("release/skep-bench-dataplane")
}

pub(super) fn run(place: &Place<'_>) -> Result<Vec<Figure>> {
    builder::build(place.layout)?;
    store::build(place.layout)?;
    let dir = place.layout.target.join(format!("bench-dataplane-{}", std::process::id()));
    let figures = measure(place, &dir);
    let _ = fs::remove_dir_all(&dir);
    figures
}

fn measure(place: &Place<'_>, dir: &std::path::Path) -> Result<Vec<Figure>> {
    let mut bench = command(program(place.layout));
    bench.arg("--object").arg(place.layout.bin().join("skep-ebpf.o"));
    // For people in a hurry: `SKEP_BENCH_DATAPLANE="--pairs 4 --sizes 1,100"`. Figures for the record are taken without.
    let asked = std::env::var("SKEP_BENCH_DATAPLANE").unwrap_or_default();
    bench.args(asked.split_whitespace());
    let server = match place.against {
        Some(programs) => {
            let proxy = fs::canonicalize(programs.join("kube-proxy"))
                .with_context(|| format!("--against {}: there is no kube-proxy in it", programs.display()))?;
            let server = Ours::start(place.layout, &dir.join("server"))?;
            bench.arg("--kube-proxy").arg(proxy).arg("--kubeconfig").arg(server.config.kubeconfig());
            Some(server)
        }
        None => None,
    };
    let mut figures = lines(&mut bench)?;
    drop(server);
    figures.extend(agent::measure(place.layout, &dir.join("cluster"))?);
    Ok(figures)
}

/// Runs the program, whose progress the person sees, and judges its figures.
fn lines(bench: &mut Command) -> Result<Vec<Figure>> {
    let step = Step::begin("measuring in network namespaces");
    let mut child =
        bench.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("skep-bench-dataplane")?;
    let mut figures = Vec::new();
    for line in BufReader::new(child.stdout.take().context("a pipe")?).lines() {
        let line = line?;
        let value: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        let (name, unit) =
            (value["name"].as_str().unwrap_or_default(), value["unit"].as_str().unwrap_or_default());
        let number = value["value"].as_f64().context("a figure without a value")?;
        step.note(name);
        figures.push(Figure::new(name, number, unit, goal(name)));
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("skep-bench-dataplane failed ({status})");
    }
    ensure!(!figures.is_empty(), "skep-bench-dataplane measured nothing");
    step.done("");
    Ok(figures)
}

/// What a figure of the program must reach: a Service costs next to nothing beside the pod's own address, and never more
/// than through another proxy.
fn goal(name: &str) -> Goal {
    let Some((what, rest)) = name.split_once(", Skep / ") else { return Goal::None };
    match rest.split_once(": ") {
        Some(("the pod IP", "median")) => Goal::AtLeast(0.98),
        Some(("the pod IP", "lower bound")) if !what.starts_with("bulk") => Goal::AtLeast(0.95),
        Some((other, "median")) if other != "the pod IP" => Goal::AtLeast(1.0),
        _ => Goal::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_have_the_goals_that_were_set() {
        let of = |rest: &str| goal(&format!("connections, 100 Services, Skep / {rest}"));
        assert_eq!(of("the pod IP: median"), Goal::AtLeast(0.98));
        assert_eq!(of("the pod IP: lower bound"), Goal::AtLeast(0.95));
        assert_eq!(of("the pod IP: upper bound"), Goal::None);
        assert_eq!(of("nftables: median"), Goal::AtLeast(1.0));
        assert_eq!(of("kube-proxy (iptables): lower bound"), Goal::None);
        assert_eq!(goal("bulk, 1 Services, Skep / the pod IP: lower bound"), Goal::None);
        assert_eq!(goal("bulk, 1 Services, Skep / the pod IP: median"), Goal::AtLeast(0.98));
        assert_eq!(goal("connections, 1 Services, Skep"), Goal::None);
    }

    #[test]
    fn the_program_names_its_ratios_so() {
        let source = include_str!("../../../bench/src/dataplane/main.rs");
        for part in [", Skep / {}", ": median", ": lower bound", "the pod IP"] {
            assert!(source.contains(part), "{part}");
        }
    }
}
