//! The status a pod's node reports: container statuses, phase, conditions, addresses.
//! Source: kubelet `generateAPIPodStatus`, `getPhase`, `status/generate.go`.

use super::allot::Size;
use super::observed::{Container as Seen, Memory, Observed, Outcome, State};
use super::resources::{milli, qos, shares_milli, units};
use super::rules;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, HostIP, LinuxContainerUser, Pod, PodCondition, PodIP, PodSpec, PodStatus,
    ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use skep_api::quantity::QuantityFormat;
use std::collections::BTreeMap;

/// Waiting reasons the plan decided, by container name: reason and message.
pub type Waiting = BTreeMap<String, (String, String)>;

/// Everything a status is computed from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The pod as the API has it.
    pub pod: &'a Pod,
    /// What the runtime says.
    pub seen: &'a Observed,
    /// What the agent remembers.
    pub memory: &'a Memory,
    /// The present.
    pub now: Timestamp,
    /// Node addresses, the primary first.
    pub host_ips: &'a [String],
}

/// Condition types that the node owns; all others are kept as they are.
pub const OWNED: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    super::resize::PENDING,
    super::resize::IN_PROGRESS,
];

/// Condition of a pod that something else than itself ends.
const DISRUPTION: &str = "DisruptionTarget";

/// Nanoseconds since the epoch, cut to whole seconds as the API keeps them; `None` for 0.
pub fn time(ns: i64) -> Option<Time> {
    if ns <= 0 { None } else { Timestamp::from_second(ns.div_euclid(1_000_000_000)).ok().map(Time) }
}

/// The runtime's identifier as the API writes it.
pub fn container_id(id: &str) -> String {
    format!("containerd://{id}")
}

fn terminated(c: &Seen) -> ContainerStateTerminated {
    let reason = if !c.reason.is_empty() {
        c.reason.clone()
    } else if c.exit_code == 0 {
        "Completed".into()
    } else {
        "Error".into()
    };
    ContainerStateTerminated {
        container_id: Some(container_id(&c.id)),
        exit_code: c.exit_code,
        finished_at: time(c.finished_at),
        message: (!c.message.is_empty()).then(|| c.message.clone()),
        reason: Some(reason),
        signal: None,
        started_at: time(c.started_at),
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..ContainerState::default()
    }
}

fn state_of(c: &Seen, old: Option<&ContainerStatus>) -> ContainerState {
    match c.state {
        State::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: time(c.started_at) }),
            ..ContainerState::default()
        },
        State::Exited => ContainerState { terminated: Some(terminated(c)), ..ContainerState::default() },
        State::Created => waiting("", ""),
        State::Unknown if was_running(old) => vanished(old),
        State::Unknown => waiting("", ""),
    }
}

fn was_running(old: Option<&ContainerStatus>) -> bool {
    old.and_then(|o| o.state.as_ref()).is_some_and(|s| s.running.is_some())
}

fn vanished(old: Option<&ContainerStatus>) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: old.and_then(|o| o.container_id.clone()),
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was terminated".into()),
            started_at: None,
            finished_at: None,
            signal: None,
        }),
        ..ContainerState::default()
    }
}

fn nothing(s: &ContainerState) -> bool {
    s.running.is_none() && s.terminated.is_none() && s.waiting.is_none()
}

/// Whether the container counts as started (startup probe passed, or none).
pub fn started(c: &Container, seen: Option<&Seen>, old: Option<&ContainerStatus>, memory: &Memory) -> bool {
    let Some(s) = seen.filter(|s| s.state == State::Running) else { return false };
    if c.startup_probe.is_some() {
        return match memory.probes.get(&s.id).and_then(|p| p.startup) {
            Some(o) => o == Outcome::Success,
            None => {
                memory.adopted.contains(&s.id)
                    && old.is_some_and(|o| {
                        o.started == Some(true) && o.container_id.as_deref() == Some(&container_id(&s.id))
                    })
            }
        };
    }
    true
}

fn ready(c: &Container, seen: Option<&Seen>, old: Option<&ContainerStatus>, memory: &Memory) -> bool {
    let Some(s) = seen.filter(|s| s.state == State::Running) else { return false };
    if !started(c, seen, old, memory) {
        return false;
    }
    if c.readiness_probe.is_none() {
        return true;
    }
    match memory.probes.get(&s.id).and_then(|p| p.readiness) {
        Some(o) => o == Outcome::Success,
        None => {
            memory.adopted.contains(&s.id)
                && old.is_some_and(|o| o.ready && o.container_id.as_deref() == Some(&container_id(&s.id)))
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Regular,
    Init,
    Ephemeral,
}

fn one(v: &View<'_>, spec: &PodSpec, c: &Container, kind: Kind, wait: &Waiting) -> ContainerStatus {
    let status = v.pod.status.as_ref();
    let olds = match kind {
        Kind::Regular => status.and_then(|s| s.container_statuses.as_ref()),
        Kind::Init => status.and_then(|s| s.init_container_statuses.as_ref()),
        Kind::Ephemeral => status.and_then(|s| s.ephemeral_container_statuses.as_ref()),
    };
    let old = olds.into_iter().flatten().find(|o| o.name == c.name);
    let mut seen = v.seen.containers.iter().filter(|s| s.name == c.name);
    let (newest, before) = (seen.next(), seen.next());
    let has_init = spec.init_containers.as_ref().is_some_and(|i| !i.is_empty());
    let sidecar = rules::is_sidecar(c);

    let mut out = ContainerStatus {
        name: c.name.clone(),
        image: c.image.clone().unwrap_or_default(),
        volume_mounts: mounts(c),
        ..ContainerStatus::default()
    };
    let mut last = ContainerState::default();
    let state = match newest {
        Some(s) => {
            out.restart_count = i32::try_from(s.attempt).unwrap_or(i32::MAX);
            if !s.image.is_empty() && !s.image.starts_with("sha256:") {
                out.image.clone_from(&s.image);
            }
            out.image_id.clone_from(&s.image_ref);
            out.container_id = Some(container_id(&s.id));
            out.user = s.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: *uid,
                    gid: *gid,
                    supplemental_groups: Some(groups.clone()),
                }),
            });
            if kind != Kind::Ephemeral {
                out.resources = Some(used(c, s, v.memory.told.containers.get(&c.name).copied(), old));
                out.allocated_resources = c.resources.as_ref().and_then(|r| r.requests.clone());
            }
            if let Some(b) = before {
                let of_before = state_of(b, None);
                if of_before.terminated.is_some() {
                    last = of_before;
                }
            } else if let Some(o) = old {
                last = match (&o.state, &o.container_id) {
                    (Some(st), Some(id)) if st.terminated.is_some() && *id != container_id(&s.id) => {
                        st.clone()
                    }
                    _ => o.last_state.clone().unwrap_or_default(),
                };
            }
            state_of(s, old)
        }
        None => match old {
            Some(o) if o.state.as_ref().is_some_and(|s| s.terminated.is_some()) => {
                let mut kept = o.clone();
                kept.ready = kind == Kind::Init && o.ready;
                kept.started = Some(false);
                return apply_wait(v, spec, c, kind, wait, kept);
            }
            Some(o) if was_running(Some(o)) => {
                // It ran, and the runtime no longer knows it: its end is not known, but it has ended.
                out.restart_count = o.restart_count;
                out.image_id.clone_from(&o.image_id);
                out.container_id.clone_from(&o.container_id);
                let gone = vanished(Some(o));
                if v.pod.metadata.deletion_timestamp.is_none() && rules::container_restart(spec, c).after(137)
                {
                    out.restart_count = o.restart_count.saturating_add(1);
                    last = gone;
                    waiting(default_reason(has_init), "")
                } else {
                    gone
                }
            }
            other => {
                if let Some(o) = other {
                    out.restart_count = o.restart_count;
                    last = o.last_state.clone().unwrap_or_default();
                }
                if kind == Kind::Init && !sidecar && rules::any_regular_made(spec, v.seen) {
                    ContainerState {
                        terminated: Some(ContainerStateTerminated {
                            reason: Some("Completed".into()),
                            message: Some(
                                "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally".into(),
                            ),
                            ..ContainerStateTerminated::default()
                        }),
                        ..ContainerState::default()
                    }
                } else {
                    waiting(default_reason(has_init), "")
                }
            }
        },
    };
    out.state = Some(state);
    out.last_state = Some(last);
    let is_started = started(c, newest, old, v.memory);
    out.started = Some(is_started);
    out.ready = match kind {
        Kind::Init if !sidecar => {
            out.state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code == 0)
        }
        Kind::Ephemeral => false,
        _ => ready(c, newest, old, v.memory),
    };
    if kind == Kind::Ephemeral {
        out.started = None;
    }
    apply_wait(v, spec, c, kind, wait, out)
}

/// What a container may use: what it was given, but for what the runtime says it has.
fn used(c: &Container, s: &Seen, told: Option<Size>, old: Option<&ContainerStatus>) -> ResourceRequirements {
    type Amounts = BTreeMap<String, Quantity>;
    let mut out = c.resources.clone().unwrap_or_default();
    if s.state != State::Running {
        return out;
    }
    let before = old
        .filter(|o| was_running(Some(o)) && o.container_id.as_deref() == Some(&container_id(&s.id)))
        .and_then(|o| o.resources.clone())
        .unwrap_or_default();
    // What is not known is what was said last.
    let keep = |to: &mut Amounts, earlier: Option<&Amounts>, name: &str| {
        if let (Some(to), Some(q)) = (to.get_mut(name), earlier.and_then(|e| e.get(name))) {
            to.clone_from(q);
        }
    };
    let cpu = |to: &mut Amounts, has: i64, least: i64, earlier: Option<&Amounts>| {
        if has <= 0 {
            keep(to, earlier, "cpu");
        } else if let Some(q) = to.get_mut("cpu") {
            let given = milli(q).unwrap_or(0);
            // Up to the least amount the kernel tells nothing apart.
            if has != given && (has > least || given > least) {
                q.0 = skep_api::quantity::Quantity::from_milli(has).to_string();
            }
        }
    };
    let memory = |to: &mut Amounts, has: i64, earlier: Option<&Amounts>| {
        if has <= 0 {
            keep(to, earlier, "memory");
        } else if let Some(q) = to.get_mut("memory").filter(|q| units(q) != Some(has)) {
            q.0 = skep_api::quantity::Quantity::new(has, QuantityFormat::BinarySi).to_string();
        }
    };
    let has = s.resources.unwrap_or_default();
    if let Some(to) = &mut out.limits {
        cpu(to, has.quota_milli(), 10, before.limits.as_ref());
        memory(to, has.memory, before.limits.as_ref());
    }
    if let Some(to) = &mut out.requests {
        cpu(to, shares_milli(has.shares), 2, before.requests.as_ref());
        // No runtime knows what memory was asked for, but it was told last with all else.
        memory(to, told.map_or(0, |t| t.memory_request), before.requests.as_ref());
    }
    out
}

/// A container that waits to be started shows why; its end, if any, moves to the last state.
fn apply_wait(
    v: &View<'_>,
    spec: &PodSpec,
    c: &Container,
    kind: Kind,
    wait: &Waiting,
    mut out: ContainerStatus,
) -> ContainerStatus {
    if kind == Kind::Ephemeral && v.seen.container(&c.name).is_some() {
        return out;
    }
    if let Some((reason, message)) = wait.get(&c.name)
        && rules::should_start(v.pod, spec, c, v.seen, v.memory)
    {
        if let Some(s) = out.state.take().filter(|s| s.terminated.is_some()) {
            out.last_state = Some(s);
        }
        out.state = Some(waiting(reason, message));
        out.ready = false;
    }
    out
}

fn default_reason(has_init: bool) -> &'static str {
    if has_init { "PodInitializing" } else { "ContainerCreating" }
}

fn mounts(c: &Container) -> Option<Vec<VolumeMountStatus>> {
    let list: Vec<VolumeMountStatus> = c
        .volume_mounts
        .iter()
        .flatten()
        .map(|m| VolumeMountStatus {
            name: m.name.clone(),
            mount_path: m.mount_path.clone(),
            read_only: m.read_only,
            recursive_read_only: (m.read_only == Some(true)).then(|| "Disabled".to_owned()),
            ..VolumeMountStatus::default()
        })
        .collect();
    (!list.is_empty()).then_some(list)
}

struct Count {
    pending_init: u32,
    pending_sidecar: u32,
    failed_init_final: u32,
    unknown: u32,
    running: u32,
    waiting: u32,
    stopped: u32,
    stopped_final: u32,
    succeeded: u32,
}

fn ended(s: Option<&ContainerState>) -> Option<&ContainerStateTerminated> {
    s?.terminated.as_ref()
}

/// The phase that follows from container statuses.
fn phase(
    v: &View<'_>,
    spec: &PodSpec,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
    terminal: bool,
    initialized: bool,
) -> &'static str {
    // One that was stopped to be started again has not ended for good.
    let again = |c: &Container, code: i32| {
        rules::restarting(c, v.seen, v.memory) || rules::restarts_after(spec, c, code)
    };
    let mut n = Count {
        pending_init: 0,
        pending_sidecar: 0,
        failed_init_final: 0,
        unknown: 0,
        running: 0,
        waiting: 0,
        stopped: 0,
        stopped_final: 0,
        succeeded: 0,
    };
    for c in spec.init_containers.iter().flatten() {
        let st = init.iter().find(|s| s.name == c.name);
        let state = st.and_then(|s| s.state.as_ref());
        let last = st.and_then(|s| ended(s.last_state.as_ref()));
        let (run, end, wait) = (
            state.is_some_and(|s| s.running.is_some()),
            ended(state),
            state.is_some_and(|s| s.waiting.is_some()),
        );
        if rules::is_sidecar(c) {
            if run {
                if st.and_then(|s| s.started) != Some(true) {
                    n.pending_sidecar += 1;
                }
                n.running += 1;
            } else if end.is_some() || (wait && last.is_some()) {
            } else {
                n.pending_sidecar += 1;
                if wait {
                    n.waiting += 1;
                } else {
                    n.unknown += 1;
                }
            }
            continue;
        }
        let code = end.or(if wait { last } else { None }).map(|t| t.exit_code);
        match code {
            Some(0) if end.is_some() => {}
            Some(0) => {}
            Some(code) => {
                if !again(c, code) {
                    n.failed_init_final += 1;
                } else {
                    n.pending_init += 1;
                }
            }
            None => n.pending_init += 1,
        }
    }
    for c in &spec.containers {
        let st = regular.iter().find(|s| s.name == c.name);
        let state = st.and_then(|s| s.state.as_ref());
        let last = st.and_then(|s| ended(s.last_state.as_ref()));
        match state {
            Some(s) if s.running.is_some() => n.running += 1,
            Some(s) if s.terminated.is_some() => {
                let code = ended(Some(s)).map_or(0, |t| t.exit_code);
                n.stopped += 1;
                n.stopped_final += u32::from(!again(c, code));
                n.succeeded += u32::from(code == 0);
            }
            Some(s) if s.waiting.is_some() => match last {
                Some(t) => {
                    n.stopped += 1;
                    n.stopped_final += u32::from(!again(c, t.exit_code));
                }
                None => n.waiting += 1,
            },
            _ => n.unknown += 1,
        }
    }
    if n.failed_init_final > 0 {
        return "Failed";
    }
    if n.pending_init > 0 || (n.pending_sidecar > 0 && !initialized) || n.waiting > 0 {
        return "Pending";
    }
    if n.running > 0 && n.unknown == 0 {
        return "Running";
    }
    if n.running == 0 && n.stopped > 0 && n.unknown == 0 {
        if !terminal && n.stopped != n.stopped_final {
            return "Running";
        }
        return if n.stopped == n.succeeded { "Succeeded" } else { "Failed" };
    }
    "Pending"
}

fn names(list: &[&str]) -> String {
    format!("[{}]", list.join(" "))
}

fn condition(kind: &str, status: bool, reason: &str, message: String) -> PodCondition {
    PodCondition {
        type_: kind.into(),
        status: if status { "True" } else { "False" }.into(),
        reason: (!reason.is_empty()).then(|| reason.into()),
        message: (!message.is_empty()).then_some(message),
        ..PodCondition::default()
    }
}

fn containers_ready(spec: &PodSpec, all: &[&ContainerStatus], phase: &str) -> PodCondition {
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    let sidecars = spec.init_containers.iter().flatten().filter(|c| rules::is_sidecar(c));
    for c in sidecars.chain(&spec.containers) {
        match all.iter().find(|s| s.name == c.name) {
            None => unknown.push(c.name.as_str()),
            Some(s) if !s.ready => unready.push(c.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return condition("ContainersReady", false, "PodCompleted", String::new());
    }
    if phase == "Failed" {
        return condition("ContainersReady", false, "PodFailed", String::new());
    }
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: {}", names(&unknown)));
    }
    if !unready.is_empty() {
        parts.push(format!("containers with unready status: {}", names(&unready)));
    }
    if parts.is_empty() {
        condition("ContainersReady", true, "", String::new())
    } else {
        condition("ContainersReady", false, "ContainersNotReady", parts.join(", "))
    }
}

fn pod_ready(spec: &PodSpec, base: &PodCondition, kept: &[PodCondition]) -> PodCondition {
    if base.status != "True" {
        return PodCondition { type_: "Ready".into(), ..base.clone() };
    }
    let mut parts = Vec::new();
    for gate in spec.readiness_gates.iter().flatten() {
        let name = &gate.condition_type;
        match kept.iter().find(|c| c.type_ == *name) {
            None => {
                parts.push(format!("corresponding condition of pod readiness gate {name:?} does not exist."))
            }
            Some(c) if c.status != "True" => parts
                .push(format!("the status of pod readiness gate {name:?} is not \"True\", but {}", c.status)),
            Some(_) => {}
        }
    }
    if parts.is_empty() {
        condition("Ready", true, "", String::new())
    } else {
        condition("Ready", false, "ReadinessGatesNotReady", parts.join(", "))
    }
}

fn initialized(spec: &PodSpec, all: &[&ContainerStatus], phase: &str) -> PodCondition {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for c in spec.init_containers.iter().flatten() {
        match all.iter().find(|s| s.name == c.name) {
            None => unknown.push(c.name.as_str()),
            Some(s) => {
                let ok = if rules::is_sidecar(c) { s.started == Some(true) } else { s.ready };
                if !ok {
                    incomplete.push(c.name.as_str());
                }
            }
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return condition("Initialized", true, "PodCompleted", String::new());
    }
    let any_started = spec.containers.iter().any(|c| {
        all.iter().find(|s| s.name == c.name).is_some_and(|s| {
            s.started == Some(true)
                || ended(s.state.as_ref()).is_some()
                || ended(s.last_state.as_ref()).is_some()
                || s.state.as_ref().is_some_and(|s| s.running.is_some())
        })
    });
    if any_started {
        return condition("Initialized", true, "", String::new());
    }
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: {}", names(&unknown)));
    }
    if !incomplete.is_empty() {
        parts.push(format!("containers with incomplete status: {}", names(&incomplete)));
    }
    if parts.is_empty() {
        condition("Initialized", true, "", String::new())
    } else {
        condition("Initialized", false, "ContainersNotInitialized", parts.join(", "))
    }
}

/// The status to report. `terminal` says that no container will be started again.
pub fn generate(v: &View<'_>, wait: &Waiting, terminal: bool) -> PodStatus {
    let Some(spec) = v.pod.spec.as_ref() else { return PodStatus::default() };
    let old = v.pod.status.clone().unwrap_or_default();
    if v.memory.rejected {
        return rejected(v, spec, &old);
    }
    let init: Vec<ContainerStatus> =
        spec.init_containers.iter().flatten().map(|c| one(v, spec, c, Kind::Init, wait)).collect();
    let mut regular: Vec<ContainerStatus> =
        spec.containers.iter().map(|c| one(v, spec, c, Kind::Regular, wait)).collect();
    regular.sort_by(|a, b| a.name.cmp(&b.name));
    let ephemeral: Vec<ContainerStatus> = spec
        .ephemeral_containers
        .iter()
        .flatten()
        .map(|e| one(v, spec, &super::spec::ephemeral(e), Kind::Ephemeral, wait))
        .collect();

    let was_initialized = spec
        .containers
        .iter()
        .any(|c| v.seen.container(&c.name).is_some_and(|s| s.state != State::Unknown && s.started_at > 0));
    let mut phase = phase(v, spec, &init, &regular, terminal, was_initialized).to_owned();
    let (mut reason, mut message) = (None, None);
    if old.phase.as_deref() == Some(&phase) {
        reason.clone_from(&old.reason);
        message.clone_from(&old.message);
    }
    if let Some((r, m)) = &v.memory.forced_failure {
        phase = "Failed".into();
        reason = Some(r.clone());
        message = Some(m.clone());
    }
    let old_terminal = rules::terminal_phase(old.phase.as_deref());
    if old_terminal {
        phase = old.phase.clone().unwrap_or_default();
        reason.clone_from(&old.reason);
        message.clone_from(&old.message);
    } else if rules::terminal_phase(Some(&phase)) && v.seen.any_running() {
        // Nothing may be told to have ended while a container of it still runs.
        phase = old.phase.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "Pending".into());
        reason.clone_from(&old.reason);
        message.clone_from(&old.message);
    }

    let all: Vec<&ContainerStatus> = init.iter().chain(&regular).collect();
    let generation = v.pod.metadata.generation;
    let mut conditions: Vec<PodCondition> =
        old.conditions.iter().flatten().filter(|c| !OWNED.contains(&c.type_.as_str())).cloned().collect();
    if !rules::terminal_phase(Some(&phase)) {
        conditions.extend(v.memory.notes.conditions());
    }
    let base = containers_ready(spec, &all, &phase);
    let mut own = vec![
        condition(
            "PodReadyToStartContainers",
            !super::plan::sandbox_needed(spec, v.seen).0,
            "",
            String::new(),
        ),
        initialized(spec, &all, &phase),
        pod_ready(spec, &base, &conditions),
        base,
        condition("PodScheduled", true, "", String::new()),
    ];
    if let Some(message) = &v.memory.disruption {
        conditions.retain(|c| c.type_ != DISRUPTION);
        own.push(condition(DISRUPTION, true, "TerminationByKubelet", message.clone()));
    }
    for c in &mut own {
        let before = old.conditions.iter().flatten().find(|o| o.type_ == c.type_);
        c.observed_generation = generation;
        c.last_transition_time = match before {
            Some(o) if o.status == c.status => o.last_transition_time.clone(),
            _ => Timestamp::from_second(v.now.as_second()).ok().map(Time),
        };
    }
    conditions.extend(own);

    let (pod_ips, host_ip) = addresses(v, spec, &old);
    PodStatus {
        phase: Some(phase),
        reason: reason.filter(|r| !r.is_empty()),
        message: message.filter(|m| !m.is_empty()),
        conditions: Some(conditions),
        container_statuses: Some(regular),
        init_container_statuses: (!init.is_empty()).then_some(init),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        pod_ip: pod_ips.first().map(|p| p.ip.clone()),
        pod_ips: (!pod_ips.is_empty()).then_some(pod_ips),
        host_ip,
        host_ips: Some(v.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        qos_class: Some(qos(spec).as_str().into()),
        start_time: old
            .start_time
            .clone()
            .or_else(|| Timestamp::from_second(v.now.as_second()).ok().map(Time)),
        observed_generation: generation.max(old.observed_generation),
        ..PodStatus::default()
    }
    .tidy()
}

/// The status of a pod that the node did not take: there is nothing to tell of its containers.
fn rejected(v: &View<'_>, spec: &PodSpec, old: &PodStatus) -> PodStatus {
    let (reason, message) = v.memory.forced_failure.clone().unwrap_or_default();
    PodStatus {
        phase: Some("Failed".into()),
        reason: Some(reason),
        message: Some(message),
        qos_class: Some(qos(spec).as_str().into()),
        start_time: old
            .start_time
            .clone()
            .or_else(|| Timestamp::from_second(v.now.as_second()).ok().map(Time)),
        observed_generation: v.pod.metadata.generation.max(old.observed_generation),
        ..old.clone()
    }
}

/// Addresses are the running sandbox's; an ended pod keeps those it had.
fn addresses(v: &View<'_>, spec: &PodSpec, old: &PodStatus) -> (Vec<PodIP>, Option<String>) {
    let host = v.host_ips.first().cloned();
    if rules::host_network(spec) {
        let kept = old.pod_ips.clone().filter(|p| !p.is_empty());
        let own = v.host_ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect();
        return (kept.unwrap_or(own), host);
    }
    let seen = v.seen.sandboxes.iter().find(|s| !s.ips.is_empty());
    let ips = match seen {
        Some(s) => s.ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect(),
        None if v.seen.sandboxes.is_empty() && v.memory.finished => old.pod_ips.clone().unwrap_or_default(),
        None if v.pod.metadata.deletion_timestamp.is_some()
            || rules::terminal_phase(old.phase.as_deref())
            || v.seen.sandboxes.iter().all(|s| !s.ready) && !v.seen.sandboxes.is_empty() =>
        {
            old.pod_ips.clone().unwrap_or_default()
        }
        None => Vec::new(),
    };
    (ips, host)
}

/// Drops what means the same as absence.
trait Tidy {
    fn tidy(self) -> Self;
}

impl Tidy for PodStatus {
    fn tidy(mut self) -> Self {
        for list in [
            &mut self.container_statuses,
            &mut self.init_container_statuses,
            &mut self.ephemeral_container_statuses,
        ] {
            for s in list.iter_mut().flatten() {
                if s.last_state.as_ref().is_some_and(nothing) {
                    s.last_state = Some(ContainerState::default());
                }
            }
        }
        self
    }
}
