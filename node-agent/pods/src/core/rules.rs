//! Small rules about pods that several decisions share.

use super::observed::{Container as Seen, Memory, Observed, State};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// Restart policies of a pod or container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Whatever the exit code.
    Always,
    /// After a failure only.
    OnFailure,
    /// Never.
    Never,
}

impl Restart {
    fn parse(s: Option<&str>) -> Option<Self> {
        match s? {
            "Always" => Some(Self::Always),
            "OnFailure" => Some(Self::OnFailure),
            "Never" => Some(Self::Never),
            _ => None,
        }
    }

    /// Whether a container that ended with `code` is started again.
    pub fn after(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// The restart policy of the whole pod (`Always` when absent).
pub fn pod_restart(spec: &PodSpec) -> Restart {
    Restart::parse(spec.restart_policy.as_deref()).unwrap_or(Restart::Always)
}

/// The restart policy that counts for a container: its own, else the pod's.
pub fn container_restart(spec: &PodSpec, c: &Container) -> Restart {
    Restart::parse(c.restart_policy.as_deref()).unwrap_or_else(|| pod_restart(spec))
}

/// Whether a container that ended with `code` is started again, by its rules (`restartPolicyRules`) and policy.
pub fn restarts_after(spec: &PodSpec, c: &Container, code: i32) -> bool {
    for rule in c.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let has = codes.values.iter().flatten().any(|v| *v == code);
        let hit = match codes.operator.as_str() {
            "In" => has,
            "NotIn" => !has,
            _ => false,
        };
        if hit && rule.action == "Restart" {
            return true;
        }
    }
    container_restart(spec, c).after(code)
}

/// A native sidecar: an init container that is restarted for ever.
pub fn is_sidecar(c: &Container) -> bool {
    c.restart_policy.as_deref() == Some("Always")
}

/// Whether the container was stopped only to be started again.
pub fn restarting(c: &Container, seen: &Observed, memory: &Memory) -> bool {
    seen.container(&c.name).is_some_and(|s| memory.restarting.contains(&s.id))
}

/// Whether the container of the spec has to be (re)started, from what the runtime knows of it.
pub fn should_start(pod: &Pod, spec: &PodSpec, c: &Container, seen: &Observed, memory: &Memory) -> bool {
    let deleting = pod.metadata.deletion_timestamp.is_some();
    match seen.container(&c.name) {
        None => !deleting,
        Some(s) => match s.state {
            State::Running => false,
            State::Unknown | State::Created => !deleting,
            State::Exited => {
                !deleting && (memory.restarting.contains(&s.id) || restarts_after(spec, c, s.exit_code))
            }
        },
    }
}

/// Whether any regular container was ever made.
pub fn any_regular_made(spec: &PodSpec, seen: &Observed) -> bool {
    spec.containers.iter().any(|c| seen.container(&c.name).is_some())
}

/// An init container's end counts as failure unless it exited with 0.
pub fn init_failed(s: &Seen) -> bool {
    match s.state {
        State::Exited => s.exit_code != 0,
        State::Unknown => true,
        _ => false,
    }
}

/// Whether the pod lives in the host's network.
pub fn host_network(spec: &PodSpec) -> bool {
    spec.host_network == Some(true)
}

/// Longest grace in seconds: ten years. Longer ones mean the same and do not fit every clock.
pub const GRACE_MAX: i64 = 10 * 365 * 86400;

/// Grace for stopping, in seconds: deletion's own, else the spec's, else 30.
pub fn grace_seconds(pod: &Pod) -> i64 {
    let spec = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
    let grace = if pod.metadata.deletion_timestamp.is_some() {
        pod.metadata.deletion_grace_period_seconds.unwrap_or(spec)
    } else {
        spec
    };
    grace.clamp(0, GRACE_MAX)
}

/// Phases from which no pod returns.
pub fn terminal_phase(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// `name_namespace(uid)`, the way messages name a pod.
pub fn describe(pod: &Pod) -> String {
    format!(
        "{}_{}({})",
        pod.metadata.name.as_deref().unwrap_or_default(),
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.uid.as_deref().unwrap_or_default()
    )
}
