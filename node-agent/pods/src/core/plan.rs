//! The pod state machine: from what is wanted, what is there and what time it is, to what to do next.
//! Source: kubelet `computePodActions`, `computeInitContainerActions`, the pod workers' life cycle.

use super::backoff::{Backoff, go_duration};
use super::observed::{Container as Seen, Observed, Op, Outcome, State};
use super::resize;
use super::rules;
pub use super::status::View;
use super::status::{self, Waiting};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodStatus};

/// One thing to do. Each runs beside the machine; [`Op`] marks it while it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make volumes and cgroup, then a sandbox with this attempt number.
    MakeSandbox {
        /// Attempt number of the new sandbox.
        attempt: u32,
        /// Whether one was there before (an event says so).
        changed: bool,
    },
    /// Pull, create and start a container, then run its post-start hook.
    Start {
        /// Name in the pod spec.
        name: String,
        /// Attempt number, which is the restart count.
        attempt: u32,
        /// Sandbox to start it in.
        sandbox: String,
    },
    /// Run the pre-stop hook, then stop the container.
    Stop {
        /// Runtime identifier.
        id: String,
        /// Name in the pod spec.
        name: String,
        /// Seconds until it is killed.
        grace: i64,
        /// Message of the `Killing` event.
        message: String,
        /// A stop is already under way with more time; only shorten it.
        hasten: bool,
    },
    /// Give what runs the size that the pod was given.
    Resize,
    /// Stop a sandbox, and with it its network.
    StopSandbox {
        /// Runtime identifier.
        id: String,
    },
    /// Remove what the ended pod held: mounts, tokens, cgroups.
    Finish,
    /// Delete the pod object, all of it being gone.
    Delete,
    /// Remove dead containers and sandboxes.
    Collect {
        /// Container identifiers.
        containers: Vec<String>,
        /// Sandbox identifiers.
        sandboxes: Vec<String>,
    },
}

/// What comes out of one look at a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What to do now, in this order.
    pub actions: Vec<Action>,
    /// The status to report.
    pub status: PodStatus,
    /// Look again no later than this, even if nothing happens.
    pub wake_at: Option<Timestamp>,
    /// Backoff entries to remember, by container name.
    pub backoff: Vec<(String, Backoff)>,
    /// Containers that wait out a crash backoff, for the `BackOff` event.
    pub backing_off: Vec<String>,
    /// Containers (by identifier) that are stopped to be started again, whatever their restart policy says.
    pub restarting: Vec<String>,
    /// The pod has failed by the agent's own decision: reason and message to remember.
    pub force_failure: Option<(String, String)>,
    /// Nothing is left of the pod on this node and its object is gone.
    pub gone: bool,
}

/// Whether a new sandbox is needed, and its attempt number.
pub fn sandbox_needed(spec: &PodSpec, seen: &Observed) -> (bool, u32) {
    let Some(newest) = seen.sandboxes.first() else { return (true, 0) };
    let ready = seen.sandboxes.iter().filter(|s| s.ready).count();
    let next = newest.attempt.saturating_add(1);
    if ready > 1 || !newest.ready {
        return (true, next);
    }
    if !rules::host_network(spec) && newest.ips.is_empty() {
        return (true, next);
    }
    (false, newest.attempt)
}

struct Build<'a> {
    v: View<'a>,
    spec: &'a PodSpec,
    actions: Vec<Action>,
    wait: Waiting,
    wake: Option<Timestamp>,
    backoff: Vec<(String, Backoff)>,
    backing_off: Vec<String>,
    restarting: Vec<String>,
}

/// Why a running container has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Its image in the spec is another one.
    Image,
    /// Its liveness probe failed.
    Liveness,
    /// Its startup probe failed.
    Startup,
    /// It was given another size, for which it asks to start anew.
    Resize,
}

impl Why {
    /// What is told of it; `what` is the word for the container.
    fn message(self, what: &str, name: &str) -> String {
        match self {
            Self::Image => format!("{what} {name} definition changed"),
            Self::Liveness => format!("{what} {name} failed liveness probe"),
            Self::Startup => format!("{what} {name} failed startup probe"),
            Self::Resize => format!("Container {name} resize requires restart"),
        }
    }

    /// Whether it is started again although its policy says never.
    fn always(self) -> bool {
        matches!(self, Self::Image | Self::Resize)
    }
}

/// Decides for one pod.
pub fn plan(v: &View<'_>) -> Plan {
    let Some(spec) = v.pod.spec.as_ref() else {
        return Plan {
            actions: Vec::new(),
            status: PodStatus::default(),
            wake_at: None,
            backoff: Vec::new(),
            backing_off: Vec::new(),
            restarting: Vec::new(),
            force_failure: None,
            gone: true,
        };
    };
    let mut b = Build {
        v: *v,
        spec,
        actions: Vec::new(),
        wait: Waiting::new(),
        wake: None,
        backoff: Vec::new(),
        backing_off: Vec::new(),
        restarting: Vec::new(),
    };
    let phase = v.pod.status.as_ref().and_then(|s| s.phase.as_deref());
    let mut force_failure = None;
    let mut ending = v.memory.orphaned
        || v.pod.metadata.deletion_timestamp.is_some()
        || rules::terminal_phase(phase)
        || v.memory.forced_failure.is_some();
    if !ending && let Some(at) = b.deadline() {
        if v.now >= at {
            force_failure = Some((
                "DeadlineExceeded".to_owned(),
                "Pod was active on the node longer than the specified deadline".to_owned(),
            ));
            ending = true;
        } else {
            b.wake_by(at);
        }
    }
    let mut gone = false;
    let mut terminal = ending;
    if ending {
        gone = b.end();
    } else if b.run() {
        terminal = true;
        b.end_containers("", true);
    }
    b.keep_errors();
    let status = status::generate(v, &b.wait, terminal && !v.seen.any_running());
    Plan {
        actions: b.actions,
        status,
        wake_at: b.wake,
        backoff: b.backoff,
        backing_off: b.backing_off,
        restarting: b.restarting,
        force_failure,
        gone,
    }
}

impl Build<'_> {
    fn wake_by(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }

    fn busy(&self, op: &Op) -> bool {
        self.v.memory.in_flight.contains(op)
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.spec.active_deadline_seconds?;
        let start = self.v.pod.status.as_ref()?.start_time.as_ref()?;
        start.0.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    fn next_attempt(&self, name: &str) -> u32 {
        let seen = self
            .v
            .seen
            .containers
            .iter()
            .filter(|c| c.name == name)
            .map(|c| c.attempt.saturating_add(1))
            .max();
        let told = self.v.pod.status.as_ref().and_then(|s| {
            s.container_statuses
                .iter()
                .chain(&s.init_container_statuses)
                .flatten()
                .find(|c| c.name == name && c.container_id.is_some())
                .and_then(|c| u32::try_from(c.restart_count).ok())
        });
        match (seen, told) {
            (Some(s), _) => s,
            (None, Some(t)) => t.saturating_add(1),
            (None, None) => 0,
        }
    }

    /// The running pod. Says whether it is complete: nothing runs that should, nothing will be started.
    fn run(&mut self) -> bool {
        let (needed, attempt) = sandbox_needed(self.spec, self.v.seen);
        if needed {
            return self.need_sandbox(attempt);
        }
        let Some(sandbox) = self.v.seen.sandboxes.first().map(|s| s.id.clone()) else { return false };
        let spec = self.spec;
        // Once every regular container has ended for good, nothing is started any more, sidecars neither.
        let over = |c: &Container| {
            self.v.seen.container(&c.name).is_some_and(|s| s.state == State::Exited)
                && !rules::should_start(self.v.pod, spec, c, self.v.seen, self.v.memory)
        };
        if spec.containers.iter().all(over) {
            return true;
        }
        let mut starts: Vec<String> = Vec::new();
        for e in spec.ephemeral_containers.iter().flatten() {
            if self.v.seen.container(&e.name).is_none() {
                starts.push(e.name.clone());
            }
        }
        let (initialized, mut init_starts, failed) = self.init(&sandbox);
        if failed {
            return true;
        }
        if initialized {
            let mut keep = 0usize;
            let mut regular = Vec::new();
            for c in &spec.containers {
                match self.v.seen.container(&c.name) {
                    Some(s) if s.state == State::Running => match self.unfit(c, s) {
                        None => keep += 1,
                        Some(why) => {
                            let again =
                                rules::container_restart(spec, c) != rules::Restart::Never || why.always();
                            let mut message = why.message("Container", &c.name);
                            if again {
                                keep += 1;
                                self.restarting.push(s.id.clone());
                                if why != Why::Resize {
                                    message.push_str(", will be restarted");
                                }
                            }
                            self.stop(s, self.container_grace(c, why), message);
                        }
                    },
                    _ => {
                        if rules::should_start(self.v.pod, spec, c, self.v.seen, self.v.memory) {
                            regular.push(c.name.clone());
                        }
                    }
                }
            }
            if keep == 0 && regular.is_empty() {
                return true;
            }
            init_starts.extend(regular);
        }
        starts.extend(init_starts);
        if self.resize() {
            self.start_next(&starts, &sandbox);
        }
        self.collect_dead();
        false
    }

    /// Gives what runs the size the pod was given. Says whether containers may be started: not while that is under way,
    /// as a container may need the room its pod is about to get.
    fn resize(&mut self) -> bool {
        if self.busy(&Op::Resize) {
            return false;
        }
        let told = &self.v.memory.told;
        let changes = resize::changes(self.spec, self.v.seen, told);
        // What starts anew is stopped first.
        if changes.iter().any(|c| c.restart) {
            return true;
        }
        if changes.is_empty() && !resize::pod_differs(self.spec, told) {
            return true;
        }
        if let Some(at) = self.v.memory.resize_retry_at.filter(|at| self.v.now < *at) {
            self.wake_by(at);
            return true;
        }
        self.actions.push(Action::Resize);
        false
    }

    /// Starts go one after the other, as the order of containers in a spec means something to its author.
    fn start_next(&mut self, names: &[String], sandbox: &str) {
        let starting = self.v.memory.in_flight.iter().any(|o| matches!(o, Op::Start(_)));
        let mut given = starting;
        for name in names {
            if let Some(e) = self.v.memory.start_errors.get(name) {
                self.wait.insert(name.clone(), (e.reason.clone(), e.message.clone()));
                if self.v.now < e.retry_at {
                    self.wake_by(e.retry_at);
                    continue;
                }
            }
            let ended = self.v.seen.containers.iter().find(|c| c.name == *name && c.state == State::Exited);
            let memory = self.v.memory.backoff.get(name);
            if let Some(end) = ended.and_then(|c| stamp(c.finished_at)) {
                if let Some(until) = Backoff::waiting_until(memory, end, self.v.now) {
                    let d = memory.map(Backoff::delay).unwrap_or_default();
                    self.wait.insert(
                        name.clone(),
                        (
                            "CrashLoopBackOff".into(),
                            format!(
                                "back-off {} restarting failed container={name} pod={}",
                                go_duration(d),
                                rules::describe(self.v.pod)
                            ),
                        ),
                    );
                    self.backing_off.push(name.clone());
                    self.wake_by(until);
                    continue;
                }
                if !given {
                    self.backoff.push((name.clone(), Backoff::next(memory, end, self.v.now)));
                }
            }
            let stopping = self
                .v
                .seen
                .container(name)
                .is_some_and(|c| c.state == State::Running || self.busy(&Op::Stop(c.id.clone())));
            if given || stopping {
                continue;
            }
            given = true;
            self.actions.push(Action::Start {
                name: name.clone(),
                attempt: self.next_attempt(name),
                sandbox: sandbox.to_owned(),
            });
        }
    }

    /// A container that is being started again still shows why the last attempt failed.
    fn keep_errors(&mut self) {
        for (name, e) in &self.v.memory.start_errors {
            self.wait.entry(name.clone()).or_insert_with(|| (e.reason.clone(), e.message.clone()));
        }
    }

    fn need_sandbox(&mut self, attempt: u32) -> bool {
        let spec = self.spec;
        let seen = self.v.seen;
        let never = rules::pod_restart(spec) == rules::Restart::Never
            && spec.containers.iter().all(|c| rules::container_restart(spec, c) == rules::Restart::Never);
        if never && attempt != 0 && !seen.containers.is_empty() {
            return true;
        }
        let succeeded = |c: &Container| {
            rules::container_restart(spec, c) != rules::Restart::Always
                && seen.container(&c.name).is_some_and(|s| s.state == State::Exited && s.exit_code == 0)
        };
        if spec.containers.iter().all(succeeded) && rules::any_regular_made(spec, seen) {
            return true;
        }
        // Whatever lives in a sandbox that is no good goes first, then the sandbox, then a new one is made.
        let mut dirty = false;
        for c in &seen.containers {
            if matches!(c.state, State::Running | State::Unknown) {
                dirty = true;
                self.stop(c, rules::grace_seconds(self.v.pod), format!("Stopping container {}", c.name));
            }
        }
        if dirty || self.busy(&Op::Sandbox) {
            return false;
        }
        for s in seen.sandboxes.iter().filter(|s| s.ready) {
            dirty = true;
            self.stop_sandbox(&s.id);
        }
        if dirty {
            return false;
        }
        if let Some(at) = self.v.memory.sandbox_retry_at
            && self.v.now < at
        {
            self.wake_by(at);
            return false;
        }
        self.actions.push(Action::MakeSandbox { attempt, changed: !seen.sandboxes.is_empty() });
        false
    }

    /// Why a running container has to go, if it has to.
    fn unfit(&self, c: &Container, s: &Seen) -> Option<Why> {
        if s.spec_hash.as_deref().is_some_and(|h| Some(h) != c.image.as_deref()) {
            return Some(Why::Image);
        }
        let changes = resize::changes(self.spec, self.v.seen, &self.v.memory.told);
        if changes.iter().any(|x| x.id == s.id && x.restart) {
            return Some(Why::Resize);
        }
        let p = self.v.memory.probes.get(&s.id)?;
        if p.liveness == Some(Outcome::Failure) {
            return Some(Why::Liveness);
        }
        (p.startup == Some(Outcome::Failure)).then_some(Why::Startup)
    }

    /// Grace for one container: its probe's own after a failed probe, else the pod's.
    fn container_grace(&self, c: &Container, why: Why) -> i64 {
        let own = match why {
            Why::Liveness => c.liveness_probe.as_ref(),
            Why::Startup => c.startup_probe.as_ref(),
            Why::Image | Why::Resize => None,
        };
        own.and_then(|p| p.termination_grace_period_seconds)
            .map_or_else(|| rules::grace_seconds(self.v.pod), |g| g.clamp(0, rules::GRACE_MAX))
    }

    /// Init containers: whether all are done, which to start, and whether one failed for good.
    fn init(&mut self, sandbox: &str) -> (bool, Vec<String>, bool) {
        let spec = self.spec;
        let list: Vec<&Container> = spec.init_containers.iter().flatten().collect();
        if list.is_empty() {
            return (true, Vec::new(), false);
        }
        let here =
            |name: &str| self.v.seen.containers.iter().find(|c| c.name == name && c.sandbox_id == sandbox);
        let mut done = spec
            .containers
            .iter()
            .any(|c| here(&c.name).is_some_and(|s| matches!(s.state, State::Created | State::Running)));
        let mut before = done;
        let mut starts: Vec<usize> = Vec::new();
        let mut stops: Vec<(Seen, i64, String)> = Vec::new();
        for (i, c) in list.iter().enumerate().rev() {
            let sidecar = rules::is_sidecar(c);
            let Some(s) = here(&c.name) else {
                if before && sidecar {
                    starts.push(i);
                }
                continue;
            };
            if before && !sidecar {
                continue;
            }
            let last = i + 1 == list.len();
            match s.state {
                State::Created => starts.push(i),
                State::Running if !sidecar => {}
                State::Running => {
                    let old = self
                        .v
                        .pod
                        .status
                        .as_ref()
                        .and_then(|st| st.init_container_statuses.as_ref())
                        .and_then(|l| l.iter().find(|o| o.name == c.name));
                    let why = self.unfit(c, s);
                    let fresh = status::started(c, Some(s), old, self.v.memory);
                    if fresh {
                        if last {
                            done = true;
                        } else if !before {
                            starts.push(i + 1);
                        }
                    }
                    if let Some(why) = why {
                        starts.push(i);
                        let message = why.message("Init container", &c.name);
                        stops.push((s.clone(), self.container_grace(c, why), message));
                    }
                }
                State::Exited if sidecar => starts.push(i),
                State::Exited if s.exit_code != 0 => {
                    if !rules::restarts_after(spec, c, s.exit_code) {
                        return (false, Vec::new(), true);
                    }
                    starts.push(i);
                }
                State::Exited => {
                    if last {
                        done = true;
                    } else {
                        starts.push(i + 1);
                    }
                }
                State::Unknown => {
                    if !sidecar && rules::container_restart(spec, c) == rules::Restart::Never {
                        return (false, Vec::new(), true);
                    }
                    starts.push(i);
                    stops.push((
                        s.clone(),
                        rules::grace_seconds(self.v.pod),
                        "Init container is in \"unknown\" state, try killing it before restart".into(),
                    ));
                }
            }
            before = true;
        }
        if !before {
            starts.push(0);
        }
        starts.sort_unstable();
        starts.dedup();
        let names = starts.into_iter().filter_map(|i| list.get(i).map(|c| c.name.clone())).collect();
        for (s, grace, why) in stops {
            self.stop(&s, grace, why);
        }
        (done, names, false)
    }

    fn stop(&mut self, s: &Seen, grace: i64, message: String) {
        let wanted = Op::Stop(s.id.clone());
        if self.busy(&wanted) {
            return;
        }
        let message = if message.is_empty() { format!("Stopping container {}", s.name) } else { message };
        self.actions.push(Action::Stop {
            id: s.id.clone(),
            name: s.name.clone(),
            grace,
            message,
            hasten: false,
        });
    }

    fn stop_sandbox(&mut self, id: &str) {
        if !self.busy(&Op::StopSandbox(id.to_owned())) {
            self.actions.push(Action::StopSandbox { id: id.to_owned() });
        }
    }

    /// Stops what runs: regular containers first, then sidecars from the last to the first. Says whether all is still.
    fn end_containers(&mut self, message: &str, sandbox_too: bool) -> bool {
        let own = rules::grace_seconds(self.v.pod);
        let grace = self.v.memory.grace.map_or(own, |g| g.min(own));
        let since = self.v.memory.stopping_since.unwrap_or(self.v.now);
        let elapsed = self.v.now.duration_since(since).as_secs().max(0);
        let left = (grace - elapsed).max(0);
        let sidecars: Vec<String> = self
            .spec
            .init_containers
            .iter()
            .flatten()
            .filter(|c| rules::is_sidecar(c))
            .map(|c| c.name.clone())
            .collect();
        let alive: Vec<Seen> = self
            .v
            .seen
            .containers
            .iter()
            .filter(|c| matches!(c.state, State::Running | State::Unknown))
            .cloned()
            .collect();
        let (aside, mains): (Vec<&Seen>, Vec<&Seen>) = alive.iter().partition(|c| sidecars.contains(&c.name));
        let turn: Vec<&Seen> = if !mains.is_empty() && left > 0 {
            mains
        } else if left > 0 {
            sidecars
                .iter()
                .rev()
                .find_map(|n| aside.iter().find(|c| c.name == *n))
                .into_iter()
                .copied()
                .collect()
        } else {
            alive.iter().collect()
        };
        for c in &turn {
            if self.busy(&Op::Stop(c.id.clone())) {
                if self.v.memory.stop_grace.is_some_and(|used| grace < used) {
                    self.actions.push(Action::Stop {
                        id: c.id.clone(),
                        name: c.name.clone(),
                        grace: left,
                        message: String::new(),
                        hasten: true,
                    });
                }
                continue;
            }
            self.stop(c, left, message.to_owned());
        }
        if !alive.is_empty() {
            if left > 0
                && let Ok(at) = since.checked_add(SignedDuration::from_secs(grace + 1))
            {
                self.wake_by(at);
            }
            return false;
        }
        // A start under way may still make a container appear: wait for it to end.
        if self.v.memory.in_flight.iter().any(|o| matches!(o, Op::Start(_) | Op::Sandbox | Op::Stop(_))) {
            return false;
        }
        if sandbox_too {
            for s in self.v.seen.sandboxes.iter().filter(|s| s.ready) {
                self.stop_sandbox(&s.id);
            }
        }
        !self.v.seen.any_sandbox_ready()
    }

    /// The pod that ends. Says whether nothing is left.
    fn end(&mut self) -> bool {
        if !self.end_containers("", true) {
            return false;
        }
        if !self.v.memory.finished {
            if !self.busy(&Op::Finish) {
                self.actions.push(Action::Finish);
            }
            return false;
        }
        if self.v.memory.orphaned {
            let containers: Vec<String> = self.v.seen.containers.iter().map(|c| c.id.clone()).collect();
            let sandboxes: Vec<String> = self.v.seen.sandboxes.iter().map(|c| c.id.clone()).collect();
            if containers.is_empty() && sandboxes.is_empty() {
                return true;
            }
            if !self.busy(&Op::Collect) {
                self.actions.push(Action::Collect { containers, sandboxes });
            }
            return false;
        }
        if self.v.pod.metadata.deletion_timestamp.is_some() {
            if !self.busy(&Op::Finish) {
                self.actions.push(Action::Delete);
            }
            return false;
        }
        self.collect_dead();
        false
    }

    /// One dead instance of each container is kept (for its logs and last state), and the newest sandbox.
    fn collect_dead(&mut self) {
        if self.busy(&Op::Collect) {
            return;
        }
        let mut kept: Vec<(&str, usize)> = Vec::new();
        let mut containers = Vec::new();
        for c in &self.v.seen.containers {
            if c.state != State::Exited {
                continue;
            }
            match kept.iter_mut().find(|(n, _)| *n == c.name) {
                Some((_, n)) if *n >= 1 => containers.push(c.id.clone()),
                Some((_, n)) => *n += 1,
                None => kept.push((&c.name, 1)),
            }
        }
        let mut sandboxes = Vec::new();
        for s in self.v.seen.sandboxes.iter().skip(1) {
            let used =
                self.v.seen.containers.iter().any(|c| c.sandbox_id == s.id && !containers.contains(&c.id));
            if !s.ready && !used {
                sandboxes.push(s.id.clone());
            }
        }
        if !containers.is_empty() || !sandboxes.is_empty() {
            self.actions.push(Action::Collect { containers, sandboxes });
        }
    }
}

/// Nanoseconds since the epoch as a time; `None` for 0.
fn stamp(ns: i64) -> Option<Timestamp> {
    if ns <= 0 { None } else { Timestamp::from_nanosecond(i128::from(ns)).ok() }
}
