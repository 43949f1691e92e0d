//! One task a pod: it looks, lets the state machine decide, and carries out. Long work runs in tasks of its own, so
//! that the pod is never deaf.

use crate::context::Context;
use crate::core::admit::Rejection;
use crate::core::backoff::Backoff;
use crate::core::observed::{Memory, Observed, Op, Outcome, State};
use crate::core::plan::{Action, Plan, View, plan};
use crate::core::probe::{Counter, Due, Kind, Timing};
use crate::core::sandbox::id;
use crate::core::{resize, rules, spec, status};
use crate::cri::Listed;
use crate::ops::{self, Done};
use crate::prober::{self, Handler};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Probe};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    /// The pod's object, newer or the same.
    Pod(Arc<Pod>),
    /// The node has decided on the size that this pod asks for.
    Sized(Arc<Pod>, Result<(), Rejection>),
    /// The pod asks for no other size any more.
    SizeKept,
    /// The node ends the pod by itself.
    End(End),
    /// The pod's object is gone from the API.
    Gone,
    /// The runtime's listing of the pod has changed.
    Listed(Listed),
    /// An operation has ended.
    Done(Op, Done),
    /// A probe has settled: container, which, result.
    Probed(String, Kind, Outcome),
    /// A status write has ended.
    Written(Result<Option<Arc<Pod>>, String>),
}

/// The end of a pod that its node decided.
#[derive(Debug, Clone)]
pub struct End {
    /// Reason of the failure.
    pub reason: String,
    /// Its message.
    pub message: String,
    /// Message of the condition that says what ended it.
    pub disruption: String,
    /// Seconds it gets; its own without.
    pub grace: Option<i64>,
}

/// What the rest of the node may know of a pod at any time.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// The pod with the status last decided.
    pub pod: Arc<Pod>,
    /// What the runtime says.
    pub seen: Arc<Observed>,
}

/// Gives way to a probe task.
struct ProbeTask {
    started: Arc<AtomicBool>,
    deleting: Arc<AtomicBool>,
    wake: Arc<Notify>,
    handles: Vec<AbortHandle>,
}

impl Drop for ProbeTask {
    fn drop(&mut self) {
        for h in &self.handles {
            h.abort();
        }
    }
}

/// A pod's worker.
pub struct Worker {
    cx: Context,
    tx: mpsc::UnboundedSender<Message>,
    rx: mpsc::UnboundedReceiver<Message>,
    /// As the API has it.
    raw: Arc<Pod>,
    /// As the node gives it room.
    pod: Arc<Pod>,
    seen: Arc<Observed>,
    memory: Memory,
    probes: BTreeMap<String, ProbeTask>,
    running: BTreeMap<Op, AbortHandle>,
    writing: bool,
    write_again_at: Option<Timestamp>,
    write_failures: u32,
    sent: Option<serde_json::Value>,
    refresh_at: Timestamp,
    finish_again_at: Option<Timestamp>,
    shown: Arc<parking_lot::RwLock<Shown>>,
}

/// How often volumes that follow the API are brought up to date.
const REFRESH: i64 = 45;

impl Worker {
    /// A worker for `pod`, with what the runtime says of it.
    pub fn new(
        cx: Context,
        pod: Arc<Pod>,
        tx: mpsc::UnboundedSender<Message>,
        rx: mpsc::UnboundedReceiver<Message>,
        shown: Arc<parking_lot::RwLock<Shown>>,
    ) -> Self {
        let refresh_at = Timestamp::now();
        let memory = Memory { notes: resize::Notes::read(&pod), ..Memory::default() };
        let mut out = Self {
            cx,
            tx,
            rx,
            raw: pod.clone(),
            pod,
            seen: Arc::new(Observed::default()),
            memory,
            probes: BTreeMap::new(),
            running: BTreeMap::new(),
            writing: false,
            write_again_at: None,
            write_failures: 0,
            sent: None,
            refresh_at,
            finish_again_at: None,
            shown,
        };
        out.fit();
        out
    }

    /// The pod is not taken: it only says so.
    pub fn reject(&mut self, r: &Rejection) {
        self.cx.api.event(&self.pod, None, true, &r.reason, &r.message);
        self.memory.forced_failure = Some((r.reason.clone(), format!("Pod was rejected: {}", r.message)));
        self.memory.rejected = true;
        self.memory.finished = true;
    }

    /// The pod as the node gives it room now.
    fn fit(&mut self) {
        let given = self.cx.allotments.get(id(&self.raw).2).map(|r| r.given);
        self.pod = given.map_or_else(|| self.raw.clone(), |g| g.overlay(&self.raw));
    }

    fn say(&self, word: Option<resize::Word>) {
        if let Some((warning, reason, message)) = word {
            self.cx.api.event(&self.pod, None, warning, reason, &message);
        }
    }

    /// Works until nothing is left of the pod.
    pub async fn run(mut self) {
        // What runs already was started by an earlier life of this process: its readiness stands until probed.
        self.look().await;
        self.memory.adopted =
            self.seen.containers.iter().filter(|c| c.state == State::Running).map(|c| c.id.clone()).collect();
        loop {
            let wake = self.step().await;
            let Some(wake) = wake else { return };
            let pause = Duration::try_from(wake.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
            tokio::select! {
                m = self.rx.recv() => match m {
                    Some(m) => self.hear(m).await,
                    None => return,
                },
                () = tokio::time::sleep(pause) => {}
            }
            while let Ok(m) = self.rx.try_recv() {
                self.hear(m).await;
            }
        }
    }

    async fn look(&mut self) {
        let uid = id(&self.pod).2.to_owned();
        match self.cx.rt.list_pod(&uid).await {
            Ok(l) => self.take(&l, false).await,
            Err(e) => tracing::warn!(%uid, error = %e, "runtime does not answer"),
        }
    }

    /// Asks for all details again, as the runtime does not tell which of them have changed.
    async fn look_again(&mut self) {
        match self.cx.rt.list_pod(id(&self.pod).2).await {
            Ok(l) => self.take(&l, true).await,
            Err(e) => tracing::warn!(error = %e, "runtime does not answer"),
        }
    }

    async fn take(&mut self, l: &Listed, all: bool) {
        let nothing = Observed::default();
        let before = if all { &nothing } else { &*self.seen };
        match self.cx.rt.observe(l, before, &self.cx.message_files(&self.pod)).await {
            Ok(o) => self.seen = Arc::new(o),
            Err(e) => tracing::warn!(error = %e, "runtime does not answer"),
        }
    }

    async fn hear(&mut self, m: Message) {
        match m {
            Message::Pod(p) => self.newer(p),
            Message::Sized(pod, verdict) => {
                let now = Timestamp::now();
                let word = match verdict {
                    Ok(()) => {
                        self.memory.resize_retry_at = None;
                        Some(self.memory.notes.agree(&pod, now))
                    }
                    Err(r) => self.memory.notes.refuse(&pod, &r.reason, &r.message, now),
                };
                self.fit();
                self.say(word);
            }
            Message::SizeKept => self.memory.notes.pending = None,
            Message::End(e) => {
                if self.memory.forced_failure.is_none() {
                    self.memory.forced_failure = Some((e.reason, e.message));
                    self.memory.disruption = Some(e.disruption);
                    self.memory.grace = e.grace;
                }
            }
            Message::Gone => self.memory.orphaned = true,
            Message::Listed(l) => self.take(&l, false).await,
            Message::Probed(container, kind, outcome) => {
                let r = self.memory.probes.entry(container).or_default();
                match kind {
                    Kind::Readiness => r.readiness = Some(outcome),
                    Kind::Liveness => r.liveness = Some(outcome),
                    Kind::Startup => r.startup = Some(outcome),
                }
            }
            Message::Done(op, done) => self.done(op, done).await,
            Message::Written(r) => {
                self.writing = false;
                match r {
                    Ok(p) => {
                        self.write_failures = 0;
                        // Another generation comes by the watch, when it is decided what it may have.
                        if let Some(p) = p.filter(|p| p.metadata.generation == self.raw.metadata.generation) {
                            self.newer(p);
                        }
                    }
                    Err(message) => {
                        tracing::debug!(pod = %rules::describe(&self.pod), %message, "status not written");
                        self.sent = None;
                        self.write_again_at = Some(
                            Timestamp::now() + SignedDuration::from_millis(250 << self.write_failures.min(6)),
                        );
                        self.write_failures = self.write_failures.saturating_add(1);
                    }
                }
            }
        }
    }

    fn newer(&mut self, p: Arc<Pod>) {
        let rev = |p: &Pod| p.metadata.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok());
        if rev(&p) >= rev(&self.raw) {
            self.raw = p;
            self.fit();
        }
    }

    async fn done(&mut self, op: Op, done: Done) {
        if self.running.remove(&op).is_none() {
            return;
        }
        self.memory.in_flight.remove(&op);
        let now = Timestamp::now();
        match (&op, done) {
            (Op::Sandbox, Done::Fine) => {
                self.memory.sandbox_failures = 0;
                self.memory.sandbox_retry_at = None;
            }
            (Op::Sandbox, _) => {
                self.memory.sandbox_failures = self.memory.sandbox_failures.saturating_add(1);
                let wait = 1i64 << self.memory.sandbox_failures.min(6);
                self.memory.sandbox_retry_at = Some(now + SignedDuration::from_secs(wait.min(60)));
            }
            (Op::Start(name), Done::NotStarted(mut e, pull_failed)) => {
                if pull_failed {
                    let b = Backoff::next(self.memory.pull_backoff.get(name), now, now);
                    self.memory.pull_backoff.insert(name.clone(), b);
                    e.retry_at = now + SignedDuration::from_secs(2);
                }
                self.memory.start_errors.insert(name.clone(), e);
            }
            (Op::Start(name), _) => {
                self.memory.start_errors.remove(name);
                self.memory.pull_backoff.remove(name);
            }
            (Op::Finish, Done::Fine) => {
                if self.memory.finished {
                    // The object was deleted; its disappearance is told by the watch.
                    self.finish_again_at = Some(now + SignedDuration::from_secs(5));
                }
                self.memory.finished = true;
            }
            (Op::Finish, _) => self.finish_again_at = Some(now + SignedDuration::from_secs(1)),
            (Op::Resize, Done::NotResized(message)) => {
                let word = self.memory.notes.fail(&self.pod, &message, now);
                self.say(word);
                self.memory.resize_retry_at = Some(now + SignedDuration::from_secs(10));
            }
            (_, Done::Again) => self.finish_again_at = Some(now + SignedDuration::from_secs(1)),
            _ => {}
        }
        if op == Op::Resize {
            self.look_again().await;
        } else {
            self.look().await;
        }
    }

    fn view<'a>(&'a self, now: Timestamp) -> View<'a> {
        View { pod: &self.pod, seen: &self.seen, memory: &self.memory, now, host_ips: &self.cx.node.ips }
    }

    /// Decides and starts what was decided. Answers when to look again; `None` when the pod is gone.
    async fn step(&mut self) -> Option<Timestamp> {
        let now = Timestamp::now();
        let ending = self.memory.orphaned
            || self.pod.metadata.deletion_timestamp.is_some()
            || self.memory.forced_failure.is_some()
            || rules::terminal_phase(self.pod.status.as_ref().and_then(|s| s.phase.as_deref()));
        self.memory.told = self.cx.allotments.told(id(&self.pod).2);
        if !ending && let Some(spec) = &self.pod.spec {
            let going_on = !resize::changes(spec, &self.seen, &self.memory.told).is_empty()
                || resize::pod_differs(spec, &self.memory.told);
            let word = self.memory.notes.look(&self.pod, going_on, now);
            self.say(word);
        }
        if ending {
            if self.memory.stopping_since.is_none() {
                self.memory.stopping_since = Some(now);
            }
            let starts: Vec<Op> =
                self.running.keys().filter(|o| matches!(o, Op::Start(_))).cloned().collect();
            for op in starts {
                if let Some(h) = self.running.remove(&op) {
                    h.abort();
                }
                self.memory.in_flight.remove(&op);
            }
        }
        let p = plan(&self.view(now));
        if p.gone {
            self.clean();
            return None;
        }
        for (name, b) in &p.backoff {
            self.memory.backoff.insert(name.clone(), *b);
        }
        self.memory.restarting.extend(p.restarting.iter().cloned());
        if let Some(f) = p.force_failure.clone() {
            self.memory.forced_failure = Some(f.clone());
            self.cx.api.event(&self.pod, None, false, &f.0, &f.1);
        }
        for name in &p.backing_off {
            self.tell_backoff(name);
        }
        let actions = p.actions.clone();
        for a in actions {
            self.act(a, now);
        }
        self.probe();
        self.write(&p, now);
        let mut shown = (*self.raw).clone();
        shown.status = Some(p.status.clone());
        *self.shown.write() = Shown { pod: Arc::new(shown), seen: self.seen.clone() };
        self.forget();

        let mut wake = now + SignedDuration::from_secs(60);
        let mut by = |t: Option<Timestamp>| {
            if let Some(t) = t {
                wake = wake.min(t);
            }
        };
        by(p.wake_at);
        if let Some(t) = self.write_again_at {
            by(Some(t));
        }
        by(self.finish_again_at);
        if !ending
            && self.pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).any(crate::volumes::refreshed)
        {
            if now >= self.refresh_at {
                self.refresh_at = now + SignedDuration::from_secs(REFRESH);
                let (cx, pod, ips) = (self.cx.clone(), self.pod.clone(), self.ips());
                if self.seen.any_sandbox_ready() {
                    tokio::spawn(async move { cx.volumes.refresh(&pod, &ips).await });
                }
            }
            by(Some(self.refresh_at));
        }
        Some(wake.max(now + SignedDuration::from_millis(20)))
    }

    fn ips(&self) -> Vec<String> {
        if self.pod.spec.as_ref().is_some_and(rules::host_network) {
            return self.cx.node.ips.clone();
        }
        self.seen.sandboxes.first().map(|s| s.ips.clone()).unwrap_or_default()
    }

    /// A `BackOff` event for each container that waits, at most every ten seconds or so.
    fn tell_backoff(&mut self, name: &str) {
        let already = self
            .pod
            .status
            .iter()
            .flat_map(|s| s.container_statuses.iter().chain(&s.init_container_statuses).flatten())
            .any(|c| {
                c.name == name
                    && c.state.as_ref().and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref())
                        == Some("CrashLoopBackOff")
            });
        if !already {
            let m =
                format!("Back-off restarting failed container {name} in pod {}", rules::describe(&self.pod));
            self.cx.api.event(&self.pod, Some(name), true, "BackOff", &m);
        }
    }

    fn spawn(&mut self, op: Op, work: impl Future<Output = Done> + Send + 'static) {
        let tx = self.tx.clone();
        let told = op.clone();
        let h = tokio::spawn(async move {
            let done = work.await;
            let _ = tx.send(Message::Done(told, done));
        });
        self.memory.in_flight.insert(op.clone());
        self.running.insert(op, h.abort_handle());
    }

    fn act(&mut self, a: Action, now: Timestamp) {
        let (cx, pod) = (self.cx.clone(), self.pod.clone());
        match a {
            Action::MakeSandbox { attempt, changed } => {
                self.spawn(Op::Sandbox, ops::make_sandbox(cx, pod, attempt, changed));
            }
            Action::Start { name, attempt, sandbox } => {
                let number = self.seen.sandboxes.iter().find(|s| s.id == sandbox).map_or(0, |s| s.attempt);
                let s = ops::Start {
                    pod,
                    attempt,
                    sandbox: (sandbox, number),
                    ips: self.ips(),
                    pulls: self.memory.pull_backoff.get(&name).copied(),
                    ids: self.seen.containers.iter().rev().map(|c| (c.name.clone(), c.id.clone())).collect(),
                    name: name.clone(),
                };
                self.spawn(Op::Start(name), ops::start(cx, s));
            }
            Action::Stop { id, name, grace, message, hasten } => {
                let ip = self.ips().first().cloned().unwrap_or_default();
                let op = Op::Stop(id.clone());
                self.memory.stop_grace = Some(if hasten { rules::grace_seconds(&self.pod) } else { grace });
                let s = ops::Stop { pod, id, name, grace, message, hasten, ip };
                if hasten && let Some(h) = self.running.remove(&op) {
                    h.abort();
                }
                self.spawn(op, ops::stop(cx, s));
            }
            Action::Resize => self.spawn(Op::Resize, ops::resize(cx, pod, self.seen.clone())),
            Action::StopSandbox { id } => {
                let sandbox = id.clone();
                self.spawn(Op::StopSandbox(id), async move {
                    match cx.rt.stop_sandbox(&sandbox).await {
                        Ok(()) => Done::Fine,
                        Err(e) => {
                            let m = format!("error killing pod: {}", e.message);
                            cx.api.event(&pod, None, true, "FailedKillPod", &m);
                            Done::Again
                        }
                    }
                });
            }
            Action::Finish => {
                if self.finish_again_at.is_none_or(|t| now >= t) {
                    self.finish_again_at = None;
                    self.spawn(Op::Finish, ops::finish(cx, pod));
                }
            }
            Action::Delete => {
                // The last status is told before the object goes.
                let due = self.finish_again_at.is_none_or(|t| now >= t);
                if due && !self.writing && self.settled(now) {
                    self.finish_again_at = None;
                    self.spawn(Op::Finish, async move {
                        match cx.api.delete_pod(&pod).await {
                            Ok(()) => Done::Fine,
                            Err(_) => Done::Again,
                        }
                    });
                }
            }
            Action::Collect { containers, sandboxes } => {
                let list = self
                    .seen
                    .containers
                    .iter()
                    .filter(|c| containers.contains(&c.id))
                    .map(|c| (c.id.clone(), c.name.clone(), c.attempt))
                    .collect();
                self.spawn(Op::Collect, ops::collect(cx, pod, list, sandboxes));
            }
        }
    }

    /// Whether the API knows the pod's status as it is now decided.
    fn settled(&self, now: Timestamp) -> bool {
        let p = plan(&self.view(now));
        let value = |s| serde_json::to_value(s).unwrap_or_default();
        let old = value(self.pod.status.clone().unwrap_or_default());
        let change = crate::api::difference(&old, &value(p.status));
        change.is_none() || change == self.sent
    }

    /// Writes the status if it has changed, one write at a time.
    fn write(&mut self, p: &Plan, now: Timestamp) {
        if self.writing || self.memory.orphaned || self.write_again_at.is_some_and(|t| now < t) {
            return;
        }
        self.write_again_at = None;
        let value = |s| serde_json::to_value(s).unwrap_or_default();
        let old = value(self.pod.status.clone().unwrap_or_default());
        let change = crate::api::difference(&old, &value(p.status.clone()));
        if change.is_none() || change == self.sent {
            return;
        }
        self.sent = change;
        self.writing = true;
        let (api, pod, status, tx) =
            (self.cx.api.clone(), self.pod.clone(), p.status.clone(), self.tx.clone());
        tokio::spawn(async move {
            let r = match api.patch_status(&pod, &status).await {
                Ok(Some(o)) => match skep_client::typed::decode::<Pod>(&o) {
                    Ok(p) => Ok(Some(Arc::new(p))),
                    Err(e) => Err(e.message.clone()),
                },
                Ok(None) => Ok(None),
                Err(e) if e.is_not_found() => Ok(None),
                Err(e) => Err(e.message.clone()),
            };
            let _ = tx.send(Message::Written(r));
        });
    }

    /// Probe tasks for what runs, none for what does not.
    fn probe(&mut self) {
        let Some(pod_spec) = self.pod.spec.clone() else { return };
        let deleting = self.pod.metadata.deletion_timestamp.is_some() || self.memory.orphaned;
        let alive: Vec<_> =
            self.seen.containers.iter().filter(|c| c.state == State::Running).cloned().collect();
        self.probes.retain(|k, _| alive.iter().any(|c| c.id == *k));
        for seen in alive {
            let Some(c) = spec::find(&pod_spec, &seen.name) else { continue };
            let old = self
                .pod
                .status
                .iter()
                .flat_map(|s| s.container_statuses.iter().chain(&s.init_container_statuses).flatten())
                .find(|o| o.name == c.name);
            let started = status::started(&c, Some(&seen), old, &self.memory);
            if let Some(t) = self.probes.get(&seen.id) {
                t.deleting.store(deleting, Ordering::Relaxed);
                if t.started.swap(started, Ordering::Relaxed) != started {
                    t.wake.notify_waiters();
                }
                continue;
            }
            let list: Vec<(Kind, Probe)> = [
                (Kind::Readiness, &c.readiness_probe),
                (Kind::Liveness, &c.liveness_probe),
                (Kind::Startup, &c.startup_probe),
            ]
            .into_iter()
            .filter_map(|(k, p)| p.clone().map(|p| (k, p)))
            .collect();
            if list.is_empty() || deleting && list.iter().all(|(k, _)| *k != Kind::Readiness) {
                continue;
            }
            let mut task = ProbeTask {
                started: Arc::new(AtomicBool::new(started)),
                deleting: Arc::new(AtomicBool::new(deleting)),
                wake: Arc::new(Notify::new()),
                handles: Vec::new(),
            };
            let recent = self.cx.began.elapsed() < Duration::from_secs(10);
            for (kind, probe) in list {
                let one = One {
                    cx: self.cx.clone(),
                    pod: self.pod.clone(),
                    container: c.clone(),
                    id: seen.id.clone(),
                    began: Timestamp::from_nanosecond(i128::from(seen.started_at)).unwrap_or_default(),
                    ip: self.ips().first().cloned().unwrap_or_default(),
                    kind,
                    started: task.started.clone(),
                    deleting: task.deleting.clone(),
                    wake: task.wake.clone(),
                    tx: self.tx.clone(),
                    adopted: recent && self.memory.adopted.contains(&seen.id),
                };
                task.handles.push(tokio::spawn(one.run(probe)).abort_handle());
            }
            self.probes.insert(seen.id.clone(), task);
        }
    }

    /// Drops memories of containers that are no more.
    fn forget(&mut self) {
        let ids: Vec<&String> = self.seen.containers.iter().map(|c| &c.id).collect();
        self.memory.probes.retain(|k, _| ids.contains(&k));
        self.memory.adopted.retain(|k| ids.contains(&k));
        self.memory.restarting.retain(|k| ids.contains(&k));
    }

    /// Removes what is left on disk of a pod that is no more.
    fn clean(&self) {
        let (ns, name, uid) = id(&self.pod);
        if let Err(error) = self.cx.volumes.remove_dir(uid) {
            tracing::warn!(%uid, %error, "pod directory not removed");
        }
        let _ = std::fs::remove_dir_all(self.cx.node.pod_logs(ns, name, uid));
        let _ = self.cx.cgroups.remove(&crate::core::sandbox::cgroup(&self.pod, &self.cx.node));
    }
}

/// One probe of one container.
struct One {
    cx: Context,
    pod: Arc<Pod>,
    container: k8s_openapi::api::core::v1::Container,
    id: String,
    began: Timestamp,
    ip: String,
    kind: Kind,
    started: Arc<AtomicBool>,
    deleting: Arc<AtomicBool>,
    wake: Arc<Notify>,
    tx: mpsc::UnboundedSender<Message>,
    adopted: bool,
}

impl One {
    async fn run(self, probe: Probe) {
        let t = Timing::of(&probe);
        let period = Duration::try_from(t.period).unwrap_or(Duration::from_secs(10));
        if self.adopted {
            // After a restart of this process, probes of many containers must not all fall on one moment.
            let nanos = Timestamp::now().as_nanosecond().unsigned_abs();
            let part = (nanos % 1000) as u32;
            tokio::time::sleep(period.min(Duration::from_secs(10)) * part / 1000).await;
        }
        let mut count = Counter::default();
        loop {
            let now = Timestamp::now();
            let (started, deleting) =
                (self.started.load(Ordering::Relaxed), self.deleting.load(Ordering::Relaxed));
            match count.due(self.kind, &t, started, deleting, self.began, now) {
                Due::Held => return,
                Due::NotYet => {
                    let ready_at = self.began + t.initial_delay;
                    let pause = Duration::try_from(ready_at.duration_since(now))
                        .ok()
                        .filter(|d| !d.is_zero())
                        .unwrap_or(period);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.wake.notified() => {}
                    }
                }
                Due::Now => {
                    let began = tokio::time::Instant::now();
                    if let Some(settled) = self.ask(&probe, &t, &mut count).await {
                        let _ = self.tx.send(Message::Probed(self.id.clone(), self.kind, settled));
                    }
                    tokio::time::sleep_until(began + period).await;
                }
            }
        }
    }

    async fn ask(&self, p: &Probe, t: &Timing, count: &mut Counter) -> Option<Outcome> {
        let h = if let Some(e) = &p.exec {
            Handler::Exec(e.command.as_deref().unwrap_or_default())
        } else if let Some(a) = &p.http_get {
            Handler::Http(a)
        } else if let Some(s) = &p.tcp_socket {
            Handler::Tcp(&s.port, s.host.as_deref())
        } else {
            let g = p.grpc.as_ref()?;
            Handler::Grpc(g.port, g.service.as_deref().unwrap_or(""))
        };
        let timeout = Duration::try_from(t.timeout).unwrap_or(Duration::from_secs(1));
        let a = prober::run(&self.cx.rt, &self.pod, &self.container, &self.id, &self.ip, h, timeout).await;
        if a.outcome == Outcome::Failure {
            let m = format!("{} probe failed: {}", self.kind.as_str(), a.text);
            self.cx.api.event(&self.pod, Some(&self.container.name), true, "Unhealthy", &m);
        }
        self.cx.probes.count(&self.key(), a.outcome);
        count.count(self.kind, t, a.outcome)
    }

    /// As what the probe is counted.
    fn key(&self) -> prober::Key {
        let (namespace, pod, uid) = crate::core::sandbox::id(&self.pod);
        prober::Key {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            uid: uid.to_owned(),
            container: self.container.name.clone(),
            id: self.id.clone(),
            kind: self.kind,
        }
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.cx.probes.forget(&self.key());
    }
}
