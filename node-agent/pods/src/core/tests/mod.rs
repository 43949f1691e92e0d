//! The pod state machine, driven by hand.

mod admission;
mod parts;
mod resizing;
mod wild;

use super::allot::Size;
use super::backoff::{Backoff, go_duration};
use super::observed::*;
use super::plan::{Action, Plan, View, plan};
use super::probe::Kind;
use super::rules;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const T0: i64 = 1_800_000_000;

fn at(s: i64) -> Timestamp {
    Timestamp::from_second(T0 + s).unwrap()
}

fn ns(s: i64) -> i64 {
    (T0 + s) * 1_000_000_000
}

fn pod(mut spec: Value) -> Pod {
    if spec["containers"].is_null() {
        spec["containers"] = json!([{"name": "c", "image": "i"}]);
    }
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "u", "generation": 3}, "spec": spec,
    }))
    .unwrap()
}

struct World {
    pod: Pod,
    seen: Observed,
    memory: Memory,
    now: i64,
    host: Vec<String>,
}

impl World {
    fn new(spec: Value) -> Self {
        Self {
            pod: pod(spec),
            seen: Observed::default(),
            memory: Memory::default(),
            now: 0,
            host: vec!["10.0.0.1".into()],
        }
    }

    fn with_sandbox(spec: Value) -> Self {
        let mut w = Self::new(spec);
        w.seen.sandboxes.push(Sandbox {
            id: "s0".into(),
            attempt: 0,
            ready: true,
            created_at: ns(0),
            ips: vec!["10.244.0.5".into()],
        });
        w
    }

    fn plan(&self) -> Plan {
        plan(&View {
            pod: &self.pod,
            seen: &self.seen,
            memory: &self.memory,
            now: at(self.now),
            host_ips: &self.host,
        })
    }

    /// Decides, and keeps what a worker keeps: status and backoff.
    fn step(&mut self) -> Plan {
        let p = self.plan();
        self.pod.status = Some(p.status.clone());
        for (n, b) in &p.backoff {
            self.memory.backoff.insert(n.clone(), *b);
        }
        self.memory.restarting.extend(p.restarting.iter().cloned());
        if let Some(f) = &p.force_failure {
            self.memory.forced_failure = Some(f.clone());
        }
        p
    }

    fn put(&mut self, name: &str, attempt: u32, state: State, code: i32) {
        let id = format!("{name}{attempt}");
        let made = super::spec::find(self.pod.spec.as_ref().unwrap(), name);
        if !self.seen.containers.iter().any(|c| c.id == id)
            && let Some(c) = made
        {
            self.memory.told.containers.insert(name.into(), Size::of(c.resources.as_ref()));
        }
        self.seen.containers.retain(|c| c.id != id);
        self.seen.containers.insert(
            0,
            Container {
                id,
                name: name.into(),
                attempt,
                sandbox_id: self.seen.sandboxes.first().map(|s| s.id.clone()).unwrap_or_default(),
                state,
                created_at: ns(self.now),
                started_at: ns(self.now),
                finished_at: if state == State::Exited { ns(self.now) } else { 0 },
                exit_code: code,
                image: "i".into(),
                ..Container::default()
            },
        );
    }

    fn probe(&mut self, id: &str, kind: Kind, o: Outcome) {
        let r = self.memory.probes.entry(id.into()).or_default();
        match kind {
            Kind::Readiness => r.readiness = Some(o),
            Kind::Liveness => r.liveness = Some(o),
            Kind::Startup => r.startup = Some(o),
        }
    }

    fn delete(&mut self, grace: i64) {
        self.pod.metadata.deletion_timestamp = Some(Time(at(self.now)));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.memory.stopping_since.get_or_insert(at(self.now));
    }
}

fn starts(p: &Plan) -> Vec<String> {
    p.actions
        .iter()
        .filter_map(|a| match a {
            Action::Start { name, attempt, .. } => Some(format!("{name}{attempt}")),
            _ => None,
        })
        .collect()
}

fn stops(p: &Plan) -> Vec<(String, i64)> {
    p.actions
        .iter()
        .filter_map(|a| match a {
            Action::Stop { id, grace, .. } => Some((id.clone(), *grace)),
            _ => None,
        })
        .collect()
}

fn phase(p: &Plan) -> &str {
    p.status.phase.as_deref().unwrap_or_default()
}

fn condition<'a>(s: &'a PodStatus, kind: &str) -> (&'a str, &'a str) {
    let c = s.conditions.as_ref().unwrap().iter().find(|c| c.type_ == kind).unwrap();
    (c.status.as_str(), c.reason.as_deref().unwrap_or_default())
}

fn container<'a>(s: &'a PodStatus, name: &str) -> &'a ContainerStatus {
    s.container_statuses
        .iter()
        .chain(&s.init_container_statuses)
        .chain(&s.ephemeral_container_statuses)
        .flatten()
        .find(|c| c.name == name)
        .unwrap()
}

fn waiting(s: &PodStatus, name: &str) -> String {
    container(s, name)
        .state
        .as_ref()
        .and_then(|s| s.waiting.as_ref())
        .and_then(|w| w.reason.clone())
        .unwrap_or_default()
}

#[test]
fn a_new_pod_gets_a_sandbox_first() {
    let p = World::new(json!({})).plan();
    assert_eq!(p.actions, [Action::MakeSandbox { attempt: 0, changed: false }]);
    assert_eq!(phase(&p), "Pending");
    assert_eq!(waiting(&p.status, "c"), "ContainerCreating");
    assert_eq!(condition(&p.status, "PodReadyToStartContainers").0, "False");
    assert_eq!(condition(&p.status, "Ready"), ("False", "ContainersNotReady"));
    assert_eq!(condition(&p.status, "PodScheduled").0, "True");
    assert_eq!(p.status.qos_class.as_deref(), Some("BestEffort"));
    assert_eq!(p.status.host_ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(p.status.observed_generation, Some(3));
    assert_eq!(p.status.pod_ip, None);
}

#[test]
fn nothing_is_asked_for_twice() {
    let mut w = World::new(json!({}));
    w.memory.in_flight.insert(Op::Sandbox);
    assert!(w.plan().actions.is_empty());
    let mut w = World::with_sandbox(json!({}));
    assert_eq!(starts(&w.plan()), ["c0"]);
    w.memory.in_flight.insert(Op::Start("c".into()));
    assert!(w.plan().actions.is_empty());
}

#[test]
fn a_failed_sandbox_is_tried_again_later() {
    let mut w = World::new(json!({}));
    w.memory.sandbox_retry_at = Some(at(5));
    let p = w.plan();
    assert!(p.actions.is_empty());
    assert_eq!(p.wake_at, Some(at(5)));
    w.now = 5;
    assert_eq!(w.plan().actions.len(), 1);
}

#[test]
fn running_without_probes_is_ready() {
    let mut w = World::with_sandbox(json!({}));
    w.put("c", 0, State::Running, 0);
    let p = w.step();
    assert!(p.actions.is_empty());
    assert_eq!(phase(&p), "Running");
    for c in ["Ready", "ContainersReady", "Initialized", "PodReadyToStartContainers"] {
        assert_eq!(condition(&p.status, c).0, "True", "{c}");
    }
    let c = container(&p.status, "c");
    assert_eq!(c.container_id.as_deref(), Some("containerd://c0"));
    assert!(c.ready && c.started == Some(true));
    assert_eq!(p.status.pod_ip.as_deref(), Some("10.244.0.5"));
}

#[test]
fn transition_times_move_only_with_the_status() {
    let mut w = World::with_sandbox(json!({}));
    w.put("c", 0, State::Running, 0);
    let first = w.step();
    w.now = 100;
    let second = w.step();
    assert_eq!(first.status, second.status, "nothing to write when nothing changed");
}

#[test]
fn containers_start_one_after_the_other() {
    let mut w = World::with_sandbox(
        json!({"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}),
    );
    assert_eq!(starts(&w.plan()), ["a0"]);
    w.put("a", 0, State::Running, 0);
    assert_eq!(starts(&w.plan()), ["b0"]);
    w.memory.in_flight.insert(Op::Start("b".into()));
    let p = w.step();
    assert_eq!(phase(&p), "Pending", "a container that never ran keeps the pod pending");
}

#[test]
fn a_container_that_cannot_start_does_not_hold_the_others_back() {
    let mut w = World::with_sandbox(
        json!({"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}),
    );
    w.memory.start_errors.insert(
        "a".into(),
        StartError { reason: "ErrImagePull".into(), message: "no".into(), retry_at: at(10) },
    );
    let p = w.plan();
    assert_eq!(starts(&p), ["b0"]);
    assert_eq!(waiting(&p.status, "a"), "ErrImagePull");
    assert_eq!(p.wake_at, Some(at(10)));
    w.now = 10;
    assert_eq!(starts(&w.plan()), ["a0"]);
}

#[test]
fn crash_loop_backs_off_from_ten_seconds_to_five_minutes() {
    let mut w = World::with_sandbox(json!({}));
    let mut waits = Vec::new();
    for n in 0..8u32 {
        w.put("c", n, State::Exited, 1);
        let ended = w.now;
        // The first restart is at once; each later one waits twice as long.
        let mut p = w.step();
        while starts(&p).is_empty() {
            let wake = p.wake_at.expect("a time to wake").duration_since(at(w.now)).as_secs();
            assert_eq!(waiting(&p.status, "c"), "CrashLoopBackOff");
            assert_eq!(phase(&p), "Running");
            assert_eq!(p.backing_off, ["c"]);
            w.now += wake;
            p = w.step();
        }
        assert_eq!(starts(&p), [format!("c{}", n + 1)]);
        waits.push(w.now - ended);
    }
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn ten_quiet_minutes_forget_the_backoff() {
    let mut w = World::with_sandbox(json!({}));
    w.put("c", 0, State::Exited, 1);
    w.step();
    w.now = 601;
    w.put("c", 1, State::Exited, 1);
    assert_eq!(starts(&w.step()), ["c2"], "no wait after a long run");
    w.now = 602;
    w.put("c", 2, State::Exited, 1);
    let p = w.step();
    assert!(starts(&p).is_empty());
    assert_eq!(p.wake_at, Some(at(612)));
}

#[test]
fn crash_status_shows_the_last_end() {
    let mut w = World::with_sandbox(json!({}));
    w.put("c", 0, State::Exited, 3);
    w.step();
    w.put("c", 1, State::Exited, 4);
    let p = w.step();
    let c = container(&p.status, "c");
    assert_eq!(c.restart_count, 1);
    let last = c.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (4, Some("Error")));
    assert!(!c.ready);
}

#[test]
fn restart_policies() {
    // policy, exit code, restarted, phase
    let rows = [
        ("Always", 0, true, "Running"),
        ("Always", 1, true, "Running"),
        ("OnFailure", 0, false, "Succeeded"),
        ("OnFailure", 1, true, "Running"),
        ("Never", 0, false, "Succeeded"),
        ("Never", 1, false, "Failed"),
    ];
    for (policy, code, again, end) in rows {
        let mut w = World::with_sandbox(json!({"restartPolicy": policy}));
        w.put("c", 0, State::Exited, code);
        let p = w.step();
        assert_eq!(!starts(&p).is_empty(), again, "{policy} {code}");
        assert_eq!(phase(&p), end, "{policy} {code}");
    }
}

#[test]
fn a_container_may_have_its_own_policy_and_rules() {
    let mut w = World::with_sandbox(json!({"restartPolicy": "Never", "containers": [
        {"name": "c", "image": "i", "restartPolicy": "Never",
         "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}]}));
    w.put("c", 0, State::Exited, 42);
    assert_eq!(starts(&w.step()), ["c1"]);
    w.put("c", 1, State::Exited, 1);
    let p = w.step();
    assert!(starts(&p).is_empty());
    assert_eq!(phase(&p), "Failed");
}

#[test]
fn a_pod_that_has_ended_gives_everything_back_but_stays() {
    let mut w = World::with_sandbox(json!({"restartPolicy": "Never"}));
    w.put("c", 0, State::Exited, 0);
    let p = w.step();
    assert_eq!(phase(&p), "Succeeded");
    assert_eq!(condition(&p.status, "Ready"), ("False", "PodCompleted"));
    assert_eq!(condition(&p.status, "Initialized"), ("True", "PodCompleted"));
    assert_eq!(p.actions, [Action::StopSandbox { id: "s0".into() }]);
    w.seen.sandboxes[0].ready = false;
    assert_eq!(w.step().actions, [Action::Finish]);
    w.memory.finished = true;
    let p = w.step();
    assert!(p.actions.is_empty(), "{:?}", p.actions);
    assert_eq!(phase(&p), "Succeeded");
    assert_eq!(p.status.pod_ip.as_deref(), Some("10.244.0.5"), "addresses stay for the record");
}

#[test]
fn an_ended_pod_never_comes_back() {
    let mut w = World::with_sandbox(json!({"restartPolicy": "Never"}));
    w.put("c", 0, State::Exited, 1);
    w.step();
    w.seen = Observed::default();
    w.memory = Memory { finished: true, ..Memory::default() };
    let p = w.step();
    assert_eq!(phase(&p), "Failed");
    assert!(p.actions.is_empty());
    let t = container(&p.status, "c").state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!(t.exit_code, 1, "what is known of its end is kept");
}

#[test]
fn one_of_two_containers_done_keeps_the_pod_running() {
    let mut w = World::with_sandbox(json!({"restartPolicy": "Never", "containers": [
        {"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}));
    w.put("a", 0, State::Exited, 1);
    w.put("b", 0, State::Running, 0);
    let p = w.step();
    assert_eq!(phase(&p), "Running");
    assert!(p.actions.is_empty());
    w.put("b", 0, State::Exited, 0);
    assert_eq!(phase(&w.step()), "Failed");
}

#[test]
fn init_containers_run_in_order_before_the_others() {
    let mut w = World::with_sandbox(
        json!({"initContainers": [{"name": "x", "image": "i"}, {"name": "y", "image": "i"}]}),
    );
    let p = w.step();
    assert_eq!(starts(&p), ["x0"]);
    assert_eq!(waiting(&p.status, "c"), "PodInitializing");
    assert_eq!(condition(&p.status, "Initialized"), ("False", "ContainersNotInitialized"));
    w.put("x", 0, State::Running, 0);
    assert!(starts(&w.step()).is_empty());
    w.put("x", 0, State::Exited, 0);
    assert_eq!(starts(&w.step()), ["y0"]);
    w.put("y", 0, State::Exited, 0);
    let p = w.step();
    assert_eq!(starts(&p), ["c0"]);
    assert_eq!(condition(&p.status, "Initialized").0, "True");
    assert!(container(&p.status, "x").ready);
}

#[test]
fn a_failed_init_container_is_run_again_or_fails_the_pod() {
    let spec =
        |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "x", "image": "i"}]});
    let mut w = World::with_sandbox(spec("Always"));
    w.put("x", 0, State::Exited, 1);
    let p = w.step();
    assert_eq!(starts(&p), ["x1"]);
    assert_eq!(phase(&p), "Pending");
    let mut w = World::with_sandbox(spec("Never"));
    w.put("x", 0, State::Exited, 1);
    let p = w.step();
    assert!(starts(&p).is_empty());
    assert_eq!(phase(&p), "Failed");
}

#[test]
fn an_init_container_forgotten_by_the_runtime_is_not_run_again() {
    let mut w = World::with_sandbox(json!({"initContainers": [{"name": "x", "image": "i"}]}));
    w.put("c", 0, State::Running, 0);
    let p = w.step();
    assert!(p.actions.is_empty());
    assert!(container(&p.status, "x").ready);
    assert_eq!(phase(&p), "Running");
}

fn with_sidecar(policy: &str) -> World {
    World::with_sandbox(json!({"restartPolicy": policy, "initContainers": [
        {"name": "side", "image": "i", "restartPolicy": "Always"}, {"name": "x", "image": "i"}]}))
}

#[test]
fn a_sidecar_only_has_to_have_started() {
    let mut w = with_sidecar("Always");
    assert_eq!(starts(&w.step()), ["side0"]);
    w.put("side", 0, State::Running, 0);
    assert_eq!(starts(&w.step()), ["x0"]);
    w.put("x", 0, State::Exited, 0);
    assert_eq!(starts(&w.step()), ["c0"]);
    w.put("c", 0, State::Running, 0);
    let p = w.step();
    assert_eq!(phase(&p), "Running");
    assert!(p.actions.is_empty());
    w.put("side", 0, State::Exited, 0);
    let p = w.step();
    assert_eq!(starts(&p), ["side1"], "restarted whatever its exit code");
    assert_eq!(condition(&p.status, "Ready").0, "False", "a sidecar counts for readiness");
}

#[test]
fn a_sidecar_with_a_startup_probe_holds_the_next_one_back() {
    let mut w = World::with_sandbox(json!({"initContainers": [
        {"name": "side", "image": "i", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}}}]}));
    w.put("side", 0, State::Running, 0);
    assert!(starts(&w.step()).is_empty());
    w.probe("side0", Kind::Startup, Outcome::Success);
    assert_eq!(starts(&w.step()), ["c0"]);
}

#[test]
fn sidecars_do_not_keep_a_done_pod_alive() {
    let mut w = with_sidecar("Never");
    w.put("x", 0, State::Exited, 0);
    w.put("side", 0, State::Running, 0);
    w.put("c", 0, State::Exited, 0);
    let p = w.step();
    assert_eq!(stops(&p).iter().map(|s| s.0.as_str()).collect::<Vec<_>>(), ["side0"]);
    assert_eq!(phase(&p), "Running");
    w.put("side", 0, State::Exited, 143);
    assert_eq!(phase(&w.step()), "Succeeded");
}

#[test]
fn deletion_stops_containers_then_the_sandbox_then_deletes_the_object() {
    let mut w = World::with_sandbox(json!({}));
    w.put("c", 0, State::Running, 0);
    w.step();
    w.delete(30);
    w.now = 4;
    let p = w.step();
    assert_eq!(stops(&p), [("c0".to_owned(), 26)], "what is left of the grace");
    assert_eq!(phase(&p), "Running");
    w.memory.in_flight.insert(Op::Stop("c0".into()));
    w.memory.stop_grace = Some(30);
    assert!(w.step().actions.is_empty());
    w.put("c", 0, State::Exited, 143);
    assert!(w.step().actions.is_empty(), "the stop itself has not ended");
    w.memory.in_flight.clear();
    let p = w.step();
    assert_eq!(p.actions, [Action::StopSandbox { id: "s0".into() }]);
    assert_eq!(phase(&p), "Failed");
    w.seen.sandboxes[0].ready = false;
    assert_eq!(w.step().actions, [Action::Finish]);
    w.memory.finished = true;
    assert_eq!(w.step().actions, [Action::Delete]);
    w.memory.orphaned = true;
    let p = w.step();
    assert_eq!(p.actions, [Action::Collect { containers: vec!["c0".into()], sandboxes: vec!["s0".into()] }]);
    w.seen = Observed::default();
    assert!(w.step().gone);
}

#[test]
fn a_shorter_grace_hastens_a_stop_under_way() {
    let mut w = World::with_sandbox(json!({}));
    w.put("c", 0, State::Running, 0);
    w.delete(30);
    w.memory.in_flight.insert(Op::Stop("c0".into()));
    w.memory.stop_grace = Some(30);
    w.now = 1;
    w.delete(1);
    let p = w.step();
    assert!(matches!(p.actions.as_slice(), [Action::Stop { hasten: true, grace: 0, .. }]), "{:?}", p.actions);
}

#[test]
fn sidecars_end_after_the_others_and_from_the_last_to_the_first() {
    let mut w = World::with_sandbox(json!({"initContainers": [
        {"name": "s1", "image": "i", "restartPolicy": "Always"},
        {"name": "s2", "image": "i", "restartPolicy": "Always"}]}));
    for n in ["s1", "s2", "c"] {
        w.put(n, 0, State::Running, 0);
    }
    w.delete(30);
    let names = |p: &Plan| stops(p).into_iter().map(|s| s.0).collect::<Vec<_>>();
    assert_eq!(names(&w.step()), ["c0"]);
    w.put("c", 0, State::Exited, 0);
    assert_eq!(names(&w.step()), ["s20"]);
    w.put("s2", 0, State::Exited, 0);
    assert_eq!(names(&w.step()), ["s10"]);
    w.put("s2", 0, State::Running, 0);
    w.now = 31;
    let mut all = names(&w.step());
    all.sort();
    assert_eq!(all, ["s10", "s20"], "no order once the grace is over");
}

#[test]
fn a_pod_deleted_before_it_ran_just_goes() {
    let mut w = World::new(json!({}));
    w.delete(30);
    assert_eq!(w.step().actions, [Action::Finish]);
    w.memory.finished = true;
    assert_eq!(w.step().actions, [Action::Delete]);
}

#[test]
fn readiness_decides_and_liveness_restarts() {
    let probes = json!({"containers": [{"name": "c", "image": "i",
        "readinessProbe": {"tcpSocket": {"port": 1}},
        "livenessProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 7}}]});
    let mut w = World::with_sandbox(probes);
    w.put("c", 0, State::Running, 0);
    assert_eq!(condition(&w.step().status, "Ready"), ("False", "ContainersNotReady"));
    w.probe("c0", Kind::Readiness, Outcome::Success);
    assert_eq!(condition(&w.step().status, "Ready").0, "True");
    w.probe("c0", Kind::Readiness, Outcome::Failure);
    let p = w.step();
    assert_eq!(condition(&p.status, "ContainersReady"), ("False", "ContainersNotReady"));
    assert_eq!(phase(&p), "Running");
    w.probe("c0", Kind::Liveness, Outcome::Failure);
    let p = w.step();
    assert_eq!(stops(&p), [("c0".to_owned(), 7)]);
    let Some(Action::Stop { message, .. }) = p.actions.first() else { panic!("{:?}", p.actions) };
    assert_eq!(message, "Container c failed liveness probe, will be restarted");
    w.put("c", 0, State::Exited, 137);
    assert_eq!(starts(&w.step()), ["c1"]);
}

#[test]
fn a_startup_probe_holds_started_and_ready_back() {
    let mut w = World::with_sandbox(json!({"containers": [{"name": "c", "image": "i",
        "startupProbe": {"tcpSocket": {"port": 1}}}]}));
    w.put("c", 0, State::Running, 0);
    let p = w.step();
    assert_eq!(container(&p.status, "c").started, Some(false));
    assert_eq!(condition(&p.status, "Ready").0, "False");
    w.probe("c0", Kind::Startup, Outcome::Success);
    assert_eq!(condition(&w.step().status, "Ready").0, "True");
}

#[test]
fn a_restarted_agent_leaves_ready_pods_ready() {
    let mut w = World::with_sandbox(json!({"containers": [{"name": "c", "image": "i",
        "readinessProbe": {"tcpSocket": {"port": 1}}, "startupProbe": {"tcpSocket": {"port": 1}}}]}));
    w.put("c", 0, State::Running, 0);
    w.probe("c0", Kind::Startup, Outcome::Success);
    w.probe("c0", Kind::Readiness, Outcome::Success);
    let before = w.step();
    // What was told of its size lies on disk.
    let told = w.memory.told.clone();
    w.memory = Memory { adopted: ["c0".to_owned()].into(), told, ..Memory::default() };
    w.now = 9;
    let after = w.step();
    assert_eq!(after.status, before.status);
    assert!(after.actions.is_empty());
    w.probe("c0", Kind::Readiness, Outcome::Failure);
    assert_eq!(condition(&w.step().status, "Ready").0, "False");
}

#[test]
fn readiness_gates_wait_for_others() {
    let mut w = World::with_sandbox(json!({"readinessGates": [{"conditionType": "ex/gate"}]}));
    w.put("c", 0, State::Running, 0);
    let p = w.step();
    assert_eq!(condition(&p.status, "Ready"), ("False", "ReadinessGatesNotReady"));
    assert_eq!(condition(&p.status, "ContainersReady").0, "True");
    let gate = serde_json::from_value(json!({"type": "ex/gate", "status": "True"})).unwrap();
    w.pod.status.as_mut().unwrap().conditions.as_mut().unwrap().push(gate);
    let p = w.step();
    assert_eq!(condition(&p.status, "Ready").0, "True");
    assert_eq!(condition(&p.status, "ex/gate").0, "True", "conditions of others are kept");
}

#[test]
fn a_lost_sandbox_is_replaced_and_init_runs_again() {
    let mut w = World::with_sandbox(json!({"initContainers": [{"name": "x", "image": "i"}]}));
    w.put("x", 0, State::Exited, 0);
    w.put("c", 0, State::Running, 0);
    w.step();
    w.seen.sandboxes[0].ready = false;
    let p = w.step();
    assert_eq!(stops(&p).len(), 1, "what still runs in it goes first");
    w.put("c", 0, State::Exited, 137);
    assert_eq!(w.step().actions, [Action::MakeSandbox { attempt: 1, changed: true }]);
    w.seen.sandboxes.insert(
        0,
        Sandbox {
            id: "s1".into(),
            attempt: 1,
            ready: true,
            created_at: ns(5),
            ips: vec!["10.244.0.6".into()],
        },
    );
    w.now = 5;
    assert_eq!(starts(&w.step()), ["x1"]);
    w.put("x", 1, State::Exited, 0);
    let p = w.step();
    assert_eq!(starts(&p), ["c1"]);
    assert_eq!(p.status.pod_ip.as_deref(), Some("10.244.0.6"));
}

#[test]
fn a_done_pod_gets_no_new_sandbox() {
    let mut w = World::with_sandbox(json!({"restartPolicy": "OnFailure"}));
    w.put("c", 0, State::Exited, 0);
    w.seen.sandboxes[0].ready = false;
    let p = w.step();
    assert!(!p.actions.iter().any(|a| matches!(a, Action::MakeSandbox { .. })));
    assert_eq!(phase(&p), "Succeeded");
}

#[test]
fn the_deadline_ends_the_pod() {
    let mut w = World::with_sandbox(json!({"activeDeadlineSeconds": 60}));
    w.put("c", 0, State::Running, 0);
    w.step();
    let p = w.step();
    assert_eq!(p.wake_at, Some(at(60)), "counted from the start that the first status told");
    w.now = 60;
    w.memory.stopping_since = Some(at(60));
    let p = w.step();
    assert_eq!(p.force_failure.as_ref().map(|f| f.0.as_str()), Some("DeadlineExceeded"));
    assert_eq!(phase(&p), "Running", "not told before its containers have ended");
    assert_eq!(stops(&p).len(), 1);
    w.put("c", 0, State::Exited, 143);
    let p = w.step();
    assert_eq!((phase(&p), p.status.reason.as_deref()), ("Failed", Some("DeadlineExceeded")));
}

#[test]
fn a_changed_image_restarts_the_container() {
    let mut w = World::with_sandbox(json!({}));
    w.put("c", 0, State::Running, 0);
    w.seen.containers[0].spec_hash = Some("older".into());
    let p = w.step();
    let Some(Action::Stop { message, .. }) = p.actions.first() else { panic!("{:?}", p.actions) };
    assert_eq!(message, "Container c definition changed, will be restarted");
    w.seen.containers[0].spec_hash = Some("i".into());
    assert!(w.step().actions.is_empty());
}

#[test]
fn a_container_the_runtime_lost_counts_as_ended() {
    let mut w = World::with_sandbox(json!({"restartPolicy": "Never"}));
    w.put("c", 0, State::Running, 0);
    w.step();
    w.delete(30);
    w.seen = Observed::default();
    let p = w.step();
    let t = container(&p.status, "c").state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((t.exit_code, t.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
}

#[test]
fn ephemeral_containers_start_once() {
    let mut w = World::with_sandbox(json!({"ephemeralContainers": [{"name": "dbg", "image": "i"}]}));
    w.put("c", 0, State::Running, 0);
    assert_eq!(starts(&w.step()), ["dbg0"]);
    w.put("dbg", 0, State::Exited, 1);
    let p = w.step();
    assert!(starts(&p).is_empty());
    assert_eq!(phase(&p), "Running");
    assert!(container(&p.status, "dbg").state.as_ref().unwrap().terminated.is_some());
}

#[test]
fn pods_in_the_hosts_network_have_its_address() {
    let mut w = World::with_sandbox(json!({"hostNetwork": true}));
    w.seen.sandboxes[0].ips.clear();
    w.put("c", 0, State::Running, 0);
    let p = w.step();
    assert_eq!(p.status.pod_ip.as_deref(), Some("10.0.0.1"));
    assert!(p.actions.is_empty());
    let mut w = World::with_sandbox(json!({}));
    w.seen.sandboxes[0].ips.clear();
    w.step();
    assert!(
        matches!(w.plan().actions.as_slice(), [Action::StopSandbox { .. }]),
        "one without address is no good"
    );
}

#[test]
fn one_dead_container_of_each_name_is_kept() {
    let mut w = World::with_sandbox(json!({}));
    for n in 0..3 {
        w.put("c", n, State::Exited, 1);
    }
    w.put("c", 3, State::Running, 0);
    let p = w.step();
    assert_eq!(
        p.actions,
        [Action::Collect { containers: vec!["c1".into(), "c0".into()], sandboxes: vec![] }]
    );
    assert_eq!(container(&p.status, "c").restart_count, 3);
}

#[test]
fn restart_count_survives_a_runtime_that_forgot() {
    let mut w = World::with_sandbox(json!({}));
    w.put("c", 4, State::Exited, 1);
    w.step();
    w.seen.containers.clear();
    w.memory = Memory::default();
    assert_eq!(starts(&w.step()), ["c5"]);
}
