//! What the container runtime says about one pod, newest first, and what the agent remembers beside it.

use super::allot::Told;
use super::backoff::Backoff;
use super::resize::Notes;
use super::resources::Kernel;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A pod sandbox as the runtime reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sandbox {
    /// Runtime identifier.
    pub id: String,
    /// Attempt number of the sandbox within the pod, from its metadata.
    pub attempt: u32,
    /// Whether the runtime calls it ready.
    pub ready: bool,
    /// Creation time, nanoseconds since the epoch.
    pub created_at: i64,
    /// Pod addresses, the primary first; empty for pods in the host's network.
    pub ips: Vec<String>,
}

/// State of a container in the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Made, never started.
    #[default]
    Created,
    /// Running.
    Running,
    /// Ended; exit code and times are known.
    Exited,
    /// The runtime has lost track of it.
    Unknown,
}

/// A container as the runtime reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    /// Runtime identifier.
    pub id: String,
    /// Name in the pod spec.
    pub name: String,
    /// Restart count, which is the attempt number it was made with.
    pub attempt: u32,
    /// The sandbox it lives in.
    pub sandbox_id: String,
    /// Its state.
    pub state: State,
    /// Nanoseconds since the epoch; 0 when not yet.
    pub created_at: i64,
    /// Nanoseconds since the epoch; 0 when not yet.
    pub started_at: i64,
    /// Nanoseconds since the epoch; 0 when not yet.
    pub finished_at: i64,
    /// Exit code, meaningful once exited.
    pub exit_code: i32,
    /// The runtime's reason (`Completed`, `Error`, `OOMKilled`, …).
    pub reason: String,
    /// Termination message, or the runtime's message.
    pub message: String,
    /// Image name as the runtime knows it.
    pub image: String,
    /// Image reference with digest.
    pub image_ref: String,
    /// Hash of the image field of the spec it was made from, if recorded.
    pub spec_hash: Option<String>,
    /// Identity of the first process, when the runtime tells (uid, gid, supplemental groups).
    pub user: Option<(i64, i64, Vec<i64>)>,
    /// What it may use, when the runtime tells.
    pub resources: Option<Kernel>,
}

/// Everything the runtime knows of one pod; both lists newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Sandboxes, newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Containers, newest first.
    pub containers: Vec<Container>,
}

impl Observed {
    /// The newest container of that name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// Whether any container still runs (or may run).
    pub fn any_running(&self) -> bool {
        self.containers.iter().any(|c| matches!(c.state, State::Running | State::Unknown))
    }

    /// Whether any sandbox is ready.
    pub fn any_sandbox_ready(&self) -> bool {
        self.sandboxes.iter().any(|s| s.ready)
    }
}

/// Result of a probe that crossed its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The success threshold was reached.
    Success,
    /// The failure threshold was reached.
    Failure,
}

/// Latest settled probe results of one container; `None` where there is none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProbeResults {
    /// Readiness.
    pub readiness: Option<Outcome>,
    /// Liveness.
    pub liveness: Option<Outcome>,
    /// Startup.
    pub startup: Option<Outcome>,
}

/// Why a container could not be started at the last attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError {
    /// Waiting reason, such as `ErrImagePull`.
    pub reason: String,
    /// Message for people.
    pub message: String,
    /// The next attempt is not made before this.
    pub retry_at: Timestamp,
}

/// An operation under way for the pod; the plan never asks for one twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Volumes, cgroup and sandbox are being made.
    Sandbox,
    /// The container of this name is being started (image, creation, start, post-start hook).
    Start(String),
    /// The container of this identifier is being stopped.
    Stop(String),
    /// The sandbox of this identifier is being stopped.
    StopSandbox(String),
    /// Volumes and cgroups are being removed, then the pod object.
    Finish,
    /// Running containers and the pod's cgroup are being given another size.
    Resize,
    /// Dead containers and sandboxes are being removed.
    Collect,
}

/// What the agent itself remembers of a pod. Lost with the process; nothing here is needed to adopt a running pod.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    /// Crash backoff by container name.
    pub backoff: BTreeMap<String, Backoff>,
    /// Image pull backoff by container name.
    pub pull_backoff: BTreeMap<String, Backoff>,
    /// Start failures by container name.
    pub start_errors: BTreeMap<String, StartError>,
    /// Probe results by container identifier.
    pub probes: BTreeMap<String, ProbeResults>,
    /// Identifiers of containers that ran before this process began: their readiness is kept until probed.
    pub adopted: BTreeSet<String>,
    /// Operations under way.
    pub in_flight: BTreeSet<Op>,
    /// No new sandbox is tried before this.
    pub sandbox_retry_at: Option<Timestamp>,
    /// Failures in a row to make the sandbox.
    pub sandbox_failures: u32,
    /// Set once volumes and cgroups are gone after the pod ended.
    pub finished: bool,
    /// Reason and message of a failure the agent itself decided (deadline, admission, eviction).
    pub forced_failure: Option<(String, String)>,
    /// The node did not take the pod: nothing of it was ever made.
    pub rejected: bool,
    /// Message of the `DisruptionTarget` condition of a pod that the node itself ends.
    pub disruption: Option<String>,
    /// Seconds that such a pod gets instead of its own.
    pub grace: Option<i64>,
    /// Containers (by identifier) that were stopped to be started again, whatever their restart policy says.
    pub restarting: BTreeSet<String>,
    /// What runtime and kernel have been told of the pod's size.
    pub told: Told,
    /// How it stands with another size.
    pub notes: Notes,
    /// No change of size is tried before this.
    pub resize_retry_at: Option<Timestamp>,
    /// When containers were first told to stop, for the remaining grace.
    pub stopping_since: Option<Timestamp>,
    /// The grace the running stops were given, in seconds.
    pub stop_grace: Option<i64>,
    /// Set when the previous pod object vanished from the API.
    pub orphaned: bool,
}
