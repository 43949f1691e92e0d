//! Changing what a running pod has: which containers, in which order, and what is told of it.
//! Source: kubelet `computePodResizeAction`, `doPodResizeAction`, `validateMemoryResizeAction`, `events/resize.go`.

use super::allot::{Size, Told, resizable};
use super::observed::{Container as Seen, Observed, State};
use super::resources::{Kernel, pod_kernel};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use std::collections::BTreeMap;

/// Condition of a pod whose new size its node has not agreed to.
pub const PENDING: &str = "PodResizePending";
/// Condition of a pod whose new size is being made.
pub const IN_PROGRESS: &str = "PodResizeInProgress";
/// Reason of the former while there is no room.
pub const DEFERRED: &str = "Deferred";
/// Reason of the latter after a failure.
pub const ERROR: &str = "Error";

/// One of the two conditions, while it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// One word, or empty.
    pub reason: String,
    /// For people, or empty.
    pub message: String,
    /// The generation that asked for the size.
    pub generation: Option<i64>,
    /// Since when it holds for this reason.
    pub since: Timestamp,
}

impl Note {
    fn read(pod: &Pod, kind: &str) -> Option<Self> {
        let c = pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)?;
        Some(Self {
            reason: c.reason.clone().unwrap_or_default(),
            message: c.message.clone().unwrap_or_default(),
            generation: c.observed_generation,
            since: c.last_transition_time.as_ref().map(|t| t.0).unwrap_or_default(),
        })
    }

    fn condition(&self, kind: &str) -> PodCondition {
        let text = |s: &str| (!s.is_empty()).then(|| s.to_owned());
        PodCondition {
            type_: kind.into(),
            status: "True".into(),
            reason: text(&self.reason),
            message: text(&self.message),
            observed_generation: self.generation,
            last_transition_time: Timestamp::from_second(self.since.as_second()).ok().map(Time),
            ..PodCondition::default()
        }
    }
}

/// How it stands with a pod's new size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notes {
    /// The node has not agreed.
    pub pending: Option<Note>,
    /// It has, and it is being made.
    pub progress: Option<Note>,
}

/// Something worth an event: whether a warning, its reason, its message.
pub type Word = (bool, &'static str, String);

impl Notes {
    /// As an earlier life of this process told it.
    pub fn read(pod: &Pod) -> Self {
        Self { pending: Note::read(pod, PENDING), progress: Note::read(pod, IN_PROGRESS) }
    }

    /// The conditions that hold.
    pub fn conditions(&self) -> impl Iterator<Item = PodCondition> {
        let pending = self.pending.iter().map(|n| n.condition(PENDING));
        pending.chain(self.progress.iter().map(|n| n.condition(IN_PROGRESS)))
    }

    /// The node has not agreed to what `pod` asks for.
    pub fn refuse(&mut self, pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Option<Word> {
        let generation = pod.metadata.generation;
        let before = self.pending.take();
        let since = before.as_ref().map_or(now, |n| n.since);
        let fresh = before.is_none_or(|n| n.generation != generation);
        let (kept, message) = (DEFERRED.to_owned(), message.to_owned());
        let told = summary(pod, generation, &message);
        self.pending = Some(Note { reason: kept, message, generation, since });
        fresh.then(|| (true, "ResizeDeferred", format!("Pod resize {reason}: {told}")))
    }

    /// The node has agreed.
    pub fn agree(&mut self, pod: &Pod, now: Timestamp) -> Word {
        let generation = pod.metadata.generation;
        self.pending = None;
        self.progress = Some(Note { reason: String::new(), message: String::new(), generation, since: now });
        (false, "ResizeStarted", format!("Pod resize started: {}", summary(pod, generation, "")))
    }

    /// Whether it is still being made, as it is seen now.
    pub fn look(&mut self, pod: &Pod, going_on: bool, now: Timestamp) -> Option<Word> {
        if going_on {
            self.progress.get_or_insert_with(|| Note {
                reason: String::new(),
                message: String::new(),
                generation: pod.metadata.generation,
                since: now,
            });
            return None;
        }
        let done = self.progress.take()?;
        Some((
            false,
            "ResizeCompleted",
            format!("Pod resize completed: {}", summary(pod, done.generation, "")),
        ))
    }

    /// It could not be made.
    pub fn fail(&mut self, pod: &Pod, message: &str, now: Timestamp) -> Option<Word> {
        let before = self.progress.take();
        let generation = before.as_ref().map_or(pod.metadata.generation, |n| n.generation);
        let same = before.as_ref().is_some_and(|n| n.reason == ERROR && n.message == message);
        let since = before.filter(|n| n.reason == ERROR).map_or(now, |n| n.since);
        self.progress = Some(Note { reason: ERROR.into(), message: message.to_owned(), generation, since });
        (!same).then(|| {
            (true, "ResizeError", format!("Pod resize error: {}", summary(pod, generation, message)))
        })
    }
}

#[derive(Serialize)]
struct Summed<'a> {
    name: &'a str,
    resources: ResourceRequirements,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Summed<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Summed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

fn summary(pod: &Pod, generation: Option<i64>, error: &str) -> String {
    let one = |c| {
        let c: &Container = c;
        Summed { name: &c.name, resources: c.resources.clone().unwrap_or_default() }
    };
    let spec = pod.spec.as_ref();
    let out = Summary {
        init_containers: spec.iter().flat_map(|s| s.init_containers.iter().flatten()).map(one).collect(),
        containers: spec.iter().flat_map(|s| &s.containers).map(one).collect(),
        generation,
        error,
    };
    serde_json::to_string(&out).unwrap_or_default()
}

/// The kinds of resources that are changed one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    Cpu,
}

/// A running container that has not what it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Runtime identifier.
    pub id: String,
    /// Name in the spec.
    pub name: String,
    /// What it has, as far as the runtime was told.
    pub from: Option<Size>,
    /// What it was given.
    pub to: Size,
    /// Its policy asks for a new start.
    pub restart: bool,
}

/// Whether the container has to start anew for this.
fn restarts(c: &Container, from: Size, to: Size) -> bool {
    let asked = |what: &str| {
        let policy = c.resize_policy.iter().flatten().find(|p| p.resource_name == what);
        policy.is_some_and(|p| p.restart_policy == "RestartContainer")
    };
    let cpu = (from.cpu_request, from.cpu_limit) != (to.cpu_request, to.cpu_limit);
    let memory = (from.memory_request, from.memory_limit) != (to.memory_request, to.memory_limit);
    (cpu && asked("cpu")) || (memory && asked("memory"))
}

/// The running containers of a pod (as it is given) that have something else.
pub fn changes(spec: &PodSpec, seen: &Observed, told: &Told) -> Vec<Change> {
    let running = |c: &Container| -> Option<Seen> {
        seen.container(&c.name).filter(|s| s.state == State::Running).cloned()
    };
    resizable(spec)
        .filter_map(|c| {
            let (s, to) = (running(c)?, Size::of(c.resources.as_ref()));
            let from = told.containers.get(&c.name).copied();
            let restart = from.is_some_and(|f| restarts(c, f, to));
            (from != Some(to)).then(|| Change { id: s.id, name: c.name.clone(), from, to, restart })
        })
        .collect()
}

/// Whether the pod's own cgroup has something else than the pod was given.
pub fn pod_differs(spec: &PodSpec, told: &Told) -> bool {
    told.cgroup.is_some_and(|k| k != pod_kernel(spec))
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Memory limit of the pod's cgroup.
    PodMemory(i64),
    /// Quota of the pod's cgroup.
    PodQuota(i64),
    /// Shares of the pod's cgroup.
    PodShares(i64),
    /// What the runtime is told of a container, and what it then has.
    Container {
        /// Runtime identifier.
        id: String,
        /// Name in the spec.
        name: String,
        /// All of it.
        size: Size,
    },
}

/// What the pod's cgroup has now: bytes and microseconds, none where nothing is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Memory limit.
    pub memory: Option<i64>,
    /// Quota.
    pub quota: Option<i64>,
    /// Shares.
    pub shares: i64,
}

/// What to do, in order: a pod that grows gets its own limits first, one that shrinks last; of the containers those
/// that shrink go first.
pub fn steps(want: &Kernel, now: &Now, changes: &[Change]) -> Vec<Step> {
    let mut out = Vec::new();
    let mut sizes: BTreeMap<&str, Size> =
        changes.iter().map(|c| (c.name.as_str(), c.from.unwrap_or(c.to))).collect();
    for kind in [Kind::Memory, Kind::Cpu] {
        let limit = match kind {
            Kind::Memory => (now.memory, want.memory, Step::PodMemory(want.memory)),
            Kind::Cpu => (now.quota, want.quota, Step::PodQuota(want.quota)),
        };
        // A pod without a limit of its own keeps what it has.
        let (have, limit_to, limit_step) = limit;
        let grows = limit_to > 0 && have.is_some_and(|h| limit_to > h);
        let shrinks = limit_to > 0 && have.is_none_or(|h| limit_to < h);
        let cpu = kind == Kind::Cpu;
        if grows {
            out.push(limit_step.clone());
        }
        if cpu && want.shares > now.shares {
            out.push(Step::PodShares(want.shares));
        }
        let part = |s: Size| match kind {
            Kind::Memory => (s.memory_limit, s.memory_request),
            Kind::Cpu => (s.cpu_limit, s.cpu_request),
        };
        let mut turn: Vec<(&Change, bool)> = changes
            .iter()
            .filter(|c| !c.restart && c.from.map(part) != Some(part(c.to)))
            .map(|c| {
                let (from, to) = (part(c.from.unwrap_or_default()), part(c.to));
                let less =
                    if from.0 == to.0 { to.1 < from.1 } else { to.0 != 0 && (from.0 == 0 || to.0 < from.0) };
                (c, less)
            })
            .collect();
        turn.sort_by_key(|(_, less)| !less);
        for (c, _) in turn {
            let size = sizes.entry(&c.name).or_default();
            match kind {
                Kind::Memory => {
                    size.memory_limit = c.to.memory_limit;
                    size.memory_request = c.to.memory_request;
                }
                Kind::Cpu => {
                    size.cpu_limit = c.to.cpu_limit;
                    size.cpu_request = c.to.cpu_request;
                }
            }
            out.push(Step::Container { id: c.id.clone(), name: c.name.clone(), size: *size });
        }
        if cpu && want.shares < now.shares {
            out.push(Step::PodShares(want.shares));
        }
        if shrinks {
            out.push(limit_step);
        }
    }
    out
}

/// Why memory cannot be taken away now: what is used would not fit. `used` is of the pod, `each` of containers by name.
pub fn too_small(
    want: &Kernel,
    now: &Now,
    changes: &[Change],
    used: Option<i64>,
    each: &BTreeMap<String, i64>,
) -> Option<String> {
    let mut why = Vec::new();
    if want.memory > 0 && now.memory.is_none_or(|h| want.memory < h) {
        match used {
            None => why.push("missing pod memory usage".to_owned()),
            Some(used) if used >= want.memory => why.push(format!(
                "attempting to set pod memory limit ({}) below current usage ({used})",
                want.memory
            )),
            Some(_) => {}
        }
    }
    for c in changes.iter().filter(|c| !c.restart) {
        let (from, to) = (c.from.unwrap_or_default().memory_limit, c.to.memory_limit);
        if to == 0 || (from != 0 && to >= from) {
            continue;
        }
        match each.get(&c.name) {
            None => why.push(format!("missing container {:?} memory usage", c.name)),
            Some(used) if *used >= to => why.push(format!(
                "attempting to set container {:?} memory limit ({to}) below current usage ({used})",
                c.name
            )),
            Some(_) => {}
        }
    }
    let all = match why.as_slice() {
        [] => return None,
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Some(format!("cannot decrease memory limits: {all}"))
}

/// A pod that waits for room.
#[derive(Debug, Clone)]
pub struct Waiting<'a> {
    /// As it would like to be.
    pub wants: &'a Pod,
    /// As it is.
    pub has: &'a Pod,
    /// Since when it waits.
    pub since: Timestamp,
}

/// Orders those that wait: who does not ask for more, then by priority, then guaranteed ones, then who waits longest.
pub fn order(list: &mut [Waiting<'_>]) {
    list.sort_by_cached_key(|w| {
        let asks = |p: &Pod| super::admit::requests(p, false);
        let (wants, has) = (asks(w.wants), asks(w.has));
        let more = |name: &str| wants.get(name) > has.get(name);
        let spec = w.wants.spec.as_ref();
        let priority = spec.and_then(|s| s.priority).unwrap_or(0);
        let guaranteed = spec.is_some_and(|s| super::resources::qos(s) == super::resources::Qos::Guaranteed);
        (more("cpu") || more("memory"), std::cmp::Reverse(priority), !guaranteed, w.since)
    });
}
