//! What this node says of its dataplane: what is loaded, how full the maps are, and what the tasks have noted.

use crate::board::Board;
use crate::plane::Plane;
use serde_json::Value;
use skep_dataplane::Status;
use skep_observe::{MapReport, NodeReport, Problem, ProgramReport, SyncReport, node_metrics};
use skep_pods::server::Extra;

/// Where it is taken from.
#[derive(Clone)]
pub(crate) struct Shown {
    /// The dataplane.
    pub(crate) plane: Plane,
    /// What the tasks noted.
    pub(crate) board: Board,
    /// Name of the node.
    pub(crate) node: String,
}

impl Shown {
    fn report(&self) -> NodeReport {
        let mut report = NodeReport {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ends_sockets: self.plane.0.ends_sockets(),
            problems: self.board.problems(),
            last_sync: self.board.last().map(|done| SyncReport {
                at: done.at.to_string(),
                seconds: done.took.as_secs_f64(),
                services: done.report.services,
                backends: done.report.backends,
                writes: done.report.writes,
            }),
            ..NodeReport::default()
        };
        match self.plane.0.status() {
            Ok(status) => fill(&mut report, status),
            Err(error) => report.problems.push(Problem {
                subject: "status".to_owned(),
                message: format!("what is loaded cannot be read: {error}"),
            }),
        }
        report
    }
}

fn fill(report: &mut NodeReport, status: Status) {
    report.layout = status.layout;
    report.attached_pods = status.pods.iter().filter(|pod| pod.attached).count();
    report.detached_pods = status.pods.len() - report.attached_pods;
    let program = |p: skep_dataplane::ProgramStatus| ProgramReport {
        name: p.name,
        id: p.id,
        tag: format!("{:016x}", p.tag),
        verified_instructions: p.verified_instructions,
        attached_to: p.attach_points,
    };
    report.programs = status.programs.into_iter().map(program).collect();
    let map = |m: skep_dataplane::MapStatus| MapReport {
        name: m.name,
        entries: m.entries,
        max_entries: u64::from(m.max_entries),
        bytes: m.bytes,
    };
    report.maps = status.maps.into_iter().map(map).collect();
}

impl Extra for Shown {
    fn metrics(&self) -> String {
        let mut out = self.plane.0.counters().map(|c| skep_observe::prometheus(&c)).unwrap_or_default();
        out.push_str(&node_metrics(&self.report(), &self.board.figures()));
        out
    }

    fn status(&self) -> Value {
        serde_json::to_value(self.report()).unwrap_or_default()
    }
}
