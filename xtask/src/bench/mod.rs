//! `cargo xtask bench`: figures against goals. A bench that misses a goal makes the command fail.

mod api;
mod dataplane;
mod idle;
mod start;
mod store;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::ui::Table;

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: String,
    /// What it must reach, if anything: `< 96` or `> 1000`.
    pub goal: Option<String>,
    /// Whether it does.
    pub met: Option<bool>,
}

/// A goal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// None: for orientation.
    None,
    /// Less than.
    Below(f64),
    /// More than.
    Above(f64),
    /// This much or more.
    AtLeast(f64),
}

impl Figure {
    /// A figure judged by its goal.
    #[must_use]
    pub fn new(name: &str, value: f64, unit: &str, goal: Goal) -> Self {
        let (goal, met) = match goal {
            Goal::None => (None, None),
            Goal::Below(limit) => (Some(format!("< {limit}")), Some(value < limit)),
            Goal::Above(limit) => (Some(format!("> {limit}")), Some(value > limit)),
            Goal::AtLeast(limit) => (Some(format!(">= {limit}")), Some(value >= limit)),
        };
        Figure { name: name.to_owned(), value, unit: unit.to_owned(), goal, met }
    }
}

/// What a bench works with.
pub struct Place<'a> {
    /// The checkout.
    pub layout: &'a Layout,
    /// Directory of the cluster, for benches that measure a running one.
    pub dir: &'a Path,
    /// Folder with another implementation's programs, to be measured in the same run.
    pub against: Option<&'a Path>,
}

/// A bench.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Place<'_>) -> Result<Vec<Figure>>,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "api",
        about: "processor time, rates and memory of the API server; with --against DIR beside kube-apiserver and etcd",
        run: api::run,
    },
    Bench {
        name: "dataplane",
        about: "a ClusterIP beside the pod IP, kube-proxy's rules (with --against DIR kube-proxy itself), an agent with many Services",
        run: dataplane::run,
    },
    Bench {
        name: "idle",
        about: "memory and CPU of server and agent, five minutes after `up`, the demo running",
        run: idle::run,
    },
    Bench {
        name: "start",
        about: "start of the server on an existing data directory until its first answer",
        run: start::run,
    },
    Bench {
        name: "store",
        about: "durable puts a second of the store on this disk, by number of writers",
        run: store::run,
    },
];

/// Runs one bench, or lists them all.
///
/// # Errors
/// A bench that does not exist or cannot measure.
pub fn run(
    layout: &Layout,
    dir: &Path,
    target: Option<&str>,
    against: Option<&Path>,
    json: bool,
) -> Result<ExitCode> {
    let Some(target) = target else {
        let mut table = Table::new(&["BENCH", "MEASURES"]);
        for bench in BENCHES {
            table.row([bench.name.to_owned(), bench.about.to_owned()]);
        }
        print!("{}", table.render());
        return Ok(ExitCode::SUCCESS);
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == target) else {
        let known: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
        bail!("no bench {target}; there are {}", known.join(", "));
    };
    let figures = (bench.run)(&Place { layout, dir, against })?;
    if json {
        for figure in &figures {
            println!("{}", serde_json::to_string(figure)?);
        }
    } else {
        print!("{}", render(&figures));
    }
    let missed = figures.iter().any(|figure| figure.met == Some(false));
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn render(figures: &[Figure]) -> String {
    let mut table = Table::new(&["FIGURE", "VALUE", "UNIT", "GOAL", ""]);
    for figure in figures {
        let met = match figure.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let goal = figure.goal.clone().unwrap_or_default();
        table.row([
            figure.name.clone(),
            format!("{:.2}", figure.value),
            figure.unit.clone(),
            goal,
            met.to_owned(),
        ]);
    }
    table.render()
}

/// The middle of some numbers; the mean of the two middle ones of an even count.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_below_its_limit_only() {
        assert_eq!(Figure::new("a", 1.0, "s", Goal::Below(1.0)).met, Some(false));
        assert_eq!(Figure::new("a", 0.9, "s", Goal::Below(1.0)).met, Some(true));
        assert_eq!(Figure::new("a", 0.9, "", Goal::Above(1.0)).met, Some(false));
        assert_eq!(Figure::new("a", 1.1, "", Goal::Above(1.0)).goal.as_deref(), Some("> 1"));
        assert_eq!(Figure::new("a", 1.0, "", Goal::AtLeast(1.0)).met, Some(true));
        assert_eq!(Figure::new("a", 0.99, "", Goal::AtLeast(1.0)).met, Some(false));
        let free = Figure::new("a", 9.0, "s", Goal::None);
        assert_eq!((free.goal, free.met), (None, None));
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn a_line_of_json_has_the_five_fields() {
        let line = serde_json::to_value(Figure::new("a", 1.5, "s", Goal::Below(2.0))).unwrap();
        assert_eq!(
            line,
            serde_json::json!({"name": "a", "value": 1.5, "unit": "s", "goal": "< 2", "met": true})
        );
    }
}
