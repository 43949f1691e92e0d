//! What `kubectl get pods` shows.

use crate::kinds::columns::{age, name};
use crate::resource::Column;
use crate::table::{self, column, wide};
use crate::validation::At;
use serde_json::Value;

pub(super) fn columns() -> Vec<Column> {
    vec![
        name(),
        column("Ready", "string", "The aggregate readiness state of this pod for accepting traffic."),
        column("Status", "string", "The aggregate status of the containers in this pod."),
        column(
            "Restarts",
            "string",
            "The number of times the containers in this pod have been restarted and when the last container in this \
             pod has restarted.",
        ),
        age(),
        wide("IP", "string", "IP address allocated to the pod."),
        wide("Node", "string", "The node on which the pod is scheduled."),
        wide("Nominated Node", "string", "The node on which the pod waits for others to leave."),
        wide("Readiness Gates", "string", "Further conditions of readiness: how many are true, of how many."),
    ]
}

/// How often containers were started again, and when the last one ended.
#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<jiff::Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &At<'_, '_>) {
        self.count += status.get("restartCount").int().unwrap_or(0);
        let last = status.get("lastState");
        let ended = last.get("terminated");
        let at = ended.get("finishedAt").text().parse::<jiff::Timestamp>().ok();
        self.last = self.last.max(at);
    }

    fn text(&self, now: jiff::Timestamp) -> String {
        match self.last.filter(|_| self.count != 0) {
            Some(at) => {
                let ago = table::human_duration(now.as_second() - at.as_second());
                format!("{} ({ago} ago)", self.count)
            }
            None => self.count.to_string(),
        }
    }
}

pub(super) fn cells(pod: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let root = At::root(pod);
    let (metadata, spec, status) = (root.get("metadata"), root.get("spec"), root.get("status"));
    let (ready, reason, restarts) = summary(&metadata, &spec, &status);
    let sidecars = spec.get("initContainers").items().filter(is_sidecar).count();
    let total = spec.get("containers").len() + sidecars;
    let or_none = |text: &str| -> Value { if text.is_empty() { "<none>".into() } else { text.into() } };
    let ips = status.get("podIPs");
    let ip = ips.items().next().map(|ip| ip.get("ip").text().to_owned()).unwrap_or_default();
    vec![
        table::name(pod),
        format!("{ready}/{total}").into(),
        reason.into(),
        restarts.text(now).into(),
        table::age(pod, now),
        or_none(&ip),
        or_none(spec.get("nodeName").text()),
        or_none(status.get("nominatedNodeName").text()),
        readiness_gates(&spec, &status).into(),
    ]
}

fn is_sidecar(container: &At<'_, '_>) -> bool {
    container.get("restartPolicy").text() == "Always"
}

fn condition_is_true(status: &At<'_, '_>, kind: &str) -> bool {
    let list = status.get("conditions");
    let condition = list.items().find(|c| c.get("type").text() == kind);
    condition.is_some_and(|c| c.get("status").text() == "True")
}

/// Why a container ended, as text: the reason, the signal or the exit code.
fn ended_text(ended: &At<'_, '_>) -> String {
    let reason = ended.get("reason").text();
    let signal = ended.get("signal").int().unwrap_or(0);
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", ended.get("exitCode").int().unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Ready containers, the word for the pod's state, and restarts.
fn summary(metadata: &At<'_, '_>, spec: &At<'_, '_>, status: &At<'_, '_>) -> (usize, String, Restarts) {
    let phase = status.get("phase").text();
    let own_reason = status.get("reason").text();
    let mut reason = if own_reason.is_empty() { phase } else { own_reason }.to_owned();
    for condition in status.get("conditions").items() {
        if condition.get("type").text() == "PodScheduled"
            && condition.get("reason").text() == "SchedulingGated"
        {
            reason = "SchedulingGated".into();
        }
    }
    let init = spec.get("initContainers");
    let sidecar = |name: &str| init.items().any(|c| c.get("name").text() == name && is_sidecar(&c));
    let mut ready = 0;
    let (mut restarts, mut of_sidecars) = (Restarts::default(), Restarts::default());
    let mut initializing = false;
    for (i, container) in status.get("initContainerStatuses").items().enumerate() {
        restarts.add(&container);
        let is_sidecar = sidecar(container.get("name").text());
        if is_sidecar {
            of_sidecars.add(&container);
        }
        let state = container.get("state");
        let (ended, waiting) = (state.get("terminated"), state.get("waiting"));
        if ended.present() && ended.get("exitCode").int().unwrap_or(0) == 0 {
            continue;
        }
        if is_sidecar && container.get("started").is_true() {
            ready += usize::from(container.get("ready").is_true());
            continue;
        }
        let why = waiting.get("reason").text();
        reason = if ended.present() {
            format!("Init:{}", ended_text(&ended))
        } else if !matches!(why, "" | "PodInitializing") {
            format!("Init:{why}")
        } else {
            format!("Init:{i}/{}", init.len())
        };
        initializing = true;
        break;
    }
    if !initializing || condition_is_true(status, "Initialized") {
        restarts = of_sidecars;
        let (mut running, mut error) = (false, String::new());
        let containers = status.get("containerStatuses");
        let list: Vec<At<'_, '_>> = containers.items().collect();
        for container in list.iter().rev() {
            restarts.add(container);
            let state = container.get("state");
            let (ended, waiting) = (state.get("terminated"), state.get("waiting"));
            let why = waiting.get("reason").text();
            if !why.is_empty() {
                reason = why.to_owned();
            } else if ended.present() {
                reason = ended_text(&ended);
                if ended.get("exitCode").int().unwrap_or(0) != 0 {
                    error.clone_from(&reason);
                }
            } else if container.get("ready").is_true() && state.get("running").present() {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" {
            if running && condition_is_true(status, "Ready") {
                reason = "Running".into();
            } else if !error.is_empty() {
                reason = error;
            } else if running {
                reason = "NotReady".into();
            }
        }
    }
    if metadata.get("deletionTimestamp").present() {
        if own_reason == "NodeLost" {
            reason = "Unknown".into();
        } else if !matches!(phase, "Failed" | "Succeeded") {
            reason = "Terminating".into();
        }
    }
    (ready, reason, restarts)
}

fn readiness_gates(spec: &At<'_, '_>, status: &At<'_, '_>) -> String {
    let gates = spec.get("readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let met = gates.items().filter(|g| condition_is_true(status, g.get("conditionType").text())).count();
    format!("{met}/{}", gates.len())
}
