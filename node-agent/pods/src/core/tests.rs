//! The pod state machine, driven by hand.

use super::backoff::{Backoff, go_duration};
use super::env::{self, Sources};
use super::observed::*;
use super::plan::{Action, Plan, View, plan};
use super::probe::{Counter, Due, Kind, Timing};
use super::resources::{self, Qos};
use super::sandbox::{self, Node, Resolver};
use super::{quantity, rules, spec};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus, Probe};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
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
        if let Some(f) = &p.force_failure {
            self.memory.forced_failure = Some(f.clone());
        }
        p
    }

    fn put(&mut self, name: &str, attempt: u32, state: State, code: i32) {
        let id = format!("{name}{attempt}");
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
    w.memory = Memory { adopted: ["c0".to_owned()].into(), ..Memory::default() };
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

/// Any sequence of ends, probe results and losses leads to a plan that asks for nothing twice and never moves a
/// pod out of a terminal phase.
#[test]
fn wild_histories() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    };
    for round in 0..400 {
        let policy = ["Always", "OnFailure", "Never"][next(3) as usize];
        let mut w = World::new(json!({"restartPolicy": policy, "containers": [
            {"name": "a", "image": "i", "livenessProbe": {"tcpSocket": {"port": 1}}}, {"name": "b", "image": "i"}],
            "initContainers": [{"name": "x", "image": "i"}, {"name": "s", "image": "i", "restartPolicy": "Always"}]}));
        let mut ended: Option<String> = None;
        for _ in 0..60 {
            w.now += next(30) as i64;
            let p = w.step();
            let now = phase(&p).to_owned();
            if let Some(e) = &ended {
                assert_eq!(e, &now, "round {round}");
            }
            if rules::terminal_phase(Some(&now)) {
                assert!(!w.seen.any_running(), "round {round}: ended while running: {:#?} {:#?}", w.seen, p);
                ended = Some(now);
            }
            let mut kinds: Vec<String> = p.actions.iter().map(|a| format!("{a:?}")).collect();
            let count = kinds.len();
            kinds.sort();
            kinds.dedup();
            assert_eq!(kinds.len(), count, "round {round}: asked twice");
            assert!(starts(&p).len() <= 1);
            for a in p.actions.clone() {
                match a {
                    Action::MakeSandbox { attempt, .. } => w.seen.sandboxes.insert(
                        0,
                        Sandbox {
                            id: format!("s{attempt}"),
                            attempt,
                            ready: true,
                            created_at: ns(w.now),
                            ips: vec!["10.244.0.9".into()],
                        },
                    ),
                    Action::Start { name, attempt, sandbox } => {
                        assert_eq!(Some(&sandbox), w.seen.sandboxes.first().map(|s| &s.id));
                        assert!(
                            !w.seen.containers.iter().any(|c| c.name == name && c.state == State::Running),
                            "round {round}: two of one name"
                        );
                        w.put(&name, attempt, State::Running, 0);
                    }
                    Action::Stop { id, .. } => {
                        for c in w.seen.containers.iter_mut().filter(|c| c.id == id) {
                            c.state = State::Exited;
                            c.exit_code = 137;
                            c.finished_at = ns(w.now);
                        }
                    }
                    Action::StopSandbox { id } => {
                        w.seen.sandboxes.iter_mut().filter(|s| s.id == id).for_each(|s| s.ready = false);
                    }
                    Action::Finish => w.memory.finished = true,
                    Action::Delete => w.memory.orphaned = true,
                    Action::Collect { containers, sandboxes } => {
                        w.seen.containers.retain(|c| !containers.contains(&c.id));
                        w.seen.sandboxes.retain(|s| !sandboxes.contains(&s.id));
                    }
                }
            }
            match next(8) {
                0 | 1 => {
                    let code = next(3) as i32;
                    let running: Vec<usize> = (0..w.seen.containers.len())
                        .filter(|i| w.seen.containers[*i].state == State::Running)
                        .collect();
                    if !running.is_empty() {
                        let c = &mut w.seen.containers[running[next(running.len() as u64) as usize]];
                        c.state = State::Exited;
                        c.exit_code = code;
                        c.finished_at = ns(w.now);
                    }
                }
                2 => w.seen.sandboxes.iter_mut().for_each(|s| s.ready = false),
                3 => {
                    let id = w.seen.container("a").map(|c| c.id.clone());
                    if let Some(id) = id {
                        w.probe(&id, Kind::Liveness, Outcome::Failure);
                    }
                }
                4 if next(10) == 0 => w.delete(next(40) as i64),
                _ => {}
            }
        }
    }
}

#[test]
fn backoff_words() {
    let rows = [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3661, "1h1m1s")];
    for (s, word) in rows {
        assert_eq!(go_duration(SignedDuration::from_secs(s)), word);
    }
    assert_eq!(Backoff::waiting_until(None, at(0), at(0)), None);
}

#[test]
fn quantities() {
    let q = |s: &str| Quantity(s.into());
    let rows =
        [("100m", 100), ("1", 1000), ("1.5", 1500), ("0.0001", 1), ("1k", 1_000_000), ("1e2", 100_000)];
    for (s, m) in rows {
        assert_eq!(quantity::milli(&q(s)), Some(m), "{s}");
    }
    assert_eq!(quantity::units(&q("64Mi")), Some(64 << 20));
    assert_eq!(quantity::units(&q("1Gi")), Some(1 << 30));
    assert_eq!(quantity::units(&q("1500m")), Some(2));
    for bad in ["", "x", "1Qi", "--1", "1e99", "Mi"] {
        assert_eq!(quantity::units(&q(bad)), None, "{bad}");
    }
    assert_eq!(quantity::units(&q("99999999999999999999")), Some(i64::MAX));
}

#[test]
fn qos_and_kernel_figures() {
    let class = |r: Value| {
        resources::qos(pod(json!({"containers": [{"name": "c", "resources": r}]})).spec.as_ref().unwrap())
    };
    assert_eq!(class(json!({})), Qos::BestEffort);
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), Qos::Burstable);
    let full = json!({"cpu": "1", "memory": "1Gi"});
    assert_eq!(class(json!({"requests": full, "limits": full})), Qos::Guaranteed);
    assert_eq!(class(json!({"requests": {"cpu": "1", "memory": "512Mi"}, "limits": full})), Qos::Burstable);
    let p = pod(
        json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}}}]}),
    );
    let k = resources::kernel(p.spec.as_ref().unwrap().containers[0].resources.as_ref());
    assert_eq!((k.shares, k.quota, k.period, k.memory), (256, 25_000, 100_000, 64 << 20));
    assert_eq!(resources::kernel(None).shares, 2);
    assert_eq!((resources::weight(2), resources::weight(262_144)), (1, 10_000));
    let spec = p.spec.as_ref().unwrap();
    assert_eq!(resources::oom_score(spec, &spec.containers[0], 1 << 30), 938);
    let two = pod(json!({"containers": [
        {"name": "a", "resources": {"limits": {"cpu": "100m", "memory": "1Mi"}}}, {"name": "b"}]}));
    let k = resources::pod_kernel(two.spec.as_ref().unwrap());
    assert_eq!((k.quota, k.memory), (0, 0), "a limit counts only if all have one");
    assert_eq!(k.shares, 102);
}

#[test]
fn expansion_of_names() {
    let vars = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]);
    let rows = [
        ("$(A)-$(B)", "1-2"),
        ("$(C)", "$(C)"),
        ("$$(A)", "$(A)"),
        ("$A $", "$A $"),
        ("$(A", "$(A"),
        ("a$$b", "a$b"),
        ("$($(A))", "$($(A))"),
    ];
    for (from, to) in rows {
        assert_eq!(env::expand(from, &vars), to, "{from}");
    }
}

fn sources() -> Sources {
    Sources {
        config_maps: BTreeMap::from([("cm".into(), BTreeMap::from([("k".into(), b"v".to_vec())]))]),
        secrets: BTreeMap::from([("s".into(), BTreeMap::from([("bin".into(), vec![0xff])]))]),
        services: vec![
            env::ServiceView {
                namespace: "default".into(),
                name: "kubernetes".into(),
                ip: "10.96.0.1".into(),
                ports: vec![("https".into(), "TCP".into(), 443)],
            },
            env::ServiceView {
                namespace: "d".into(),
                name: "my-db".into(),
                ip: "10.96.0.7".into(),
                ports: vec![("sql".into(), "TCP".into(), 5432)],
            },
        ],
        pod_ips: vec!["10.244.0.5".into()],
        host_ips: vec!["10.0.0.1".into()],
        node_cpu_milli: 2000,
        node_memory: 1 << 30,
    }
}

fn environment(c: Value, links: bool) -> Result<BTreeMap<String, String>, env::EnvError> {
    let p = pod(json!({"enableServiceLinks": links, "containers": [c]}));
    env::build(&p, &p.spec.as_ref().unwrap().containers[0], &sources()).map(|v| v.into_iter().collect())
}

#[test]
fn environments_have_services_references_and_expansion() {
    let e = environment(
        json!({"name": "c", "resources": {"limits": {"memory": "64Mi"}},
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "no", "optional": true}}],
            "env": [
                {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)/$(MY_DB_SERVICE_HOST)"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['x']"}}},
                {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
                {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "z", "optional": true}}}]}),
        true,
    )
    .unwrap();
    let get = |k: &str| e.get(k).map(String::as_str);
    assert_eq!(get("B"), Some("1/10.96.0.7"));
    assert_eq!(get("MY_DB_PORT_5432_TCP_ADDR"), Some("10.96.0.7"));
    assert_eq!(get("MY_DB_SERVICE_PORT_SQL"), Some("5432"));
    assert_eq!(get("KUBERNETES_SERVICE_HOST"), Some("10.96.0.1"));
    assert_eq!(get("KUBERNETES_PORT"), Some("tcp://10.96.0.1:443"));
    assert_eq!(
        (get("IP"), get("N"), get("M"), get("CPU")),
        (Some("10.244.0.5"), Some(""), Some("64"), Some("2"))
    );
    assert_eq!((get("K"), get("P_k"), get("O")), (Some("v"), Some("v"), None));
    let e = environment(json!({"name": "c"}), false).unwrap();
    assert!(e.contains_key("KUBERNETES_SERVICE_HOST") && !e.contains_key("MY_DB_SERVICE_HOST"));
}

#[test]
fn what_an_environment_lacks_is_named() {
    let of = |from: Value| {
        environment(json!({"name": "c", "env": [{"name": "A", "valueFrom": from}]}), true).unwrap_err()
    };
    assert_eq!(
        of(json!({"configMapKeyRef": {"name": "no", "key": "k"}})).to_string(),
        "configmap \"no\" not found"
    );
    assert_eq!(
        of(json!({"configMapKeyRef": {"name": "cm", "key": "z"}})).to_string(),
        "couldn't find key z in ConfigMap d/cm"
    );
    assert!(matches!(of(json!({"secretKeyRef": {"name": "s", "key": "bin"}})), env::EnvError::NotText(_)));
    assert!(matches!(of(json!({"fieldRef": {"fieldPath": "spec.x"}})), env::EnvError::Unsupported(_)));
}

#[test]
fn thresholds_of_probes() {
    let t = Timing::of(&Probe { failure_threshold: Some(2), success_threshold: Some(2), ..Probe::default() });
    assert_eq!((t.period.as_secs(), t.timeout.as_secs()), (10, 1));
    let mut c = Counter::default();
    let k = Kind::Readiness;
    assert_eq!(c.count(k, &t, Outcome::Failure), None);
    assert_eq!(c.count(k, &t, Outcome::Success), None);
    assert_eq!(c.count(k, &t, Outcome::Success), Some(Outcome::Success));
    assert_eq!(c.count(k, &t, Outcome::Failure), None);
    assert_eq!(c.count(k, &t, Outcome::Failure), Some(Outcome::Failure));
    assert_eq!(c.due(k, &t, true, true, at(0), at(9)), Due::Now, "readiness goes on while the pod ends");
    assert_eq!(c.due(Kind::Liveness, &t, true, true, at(0), at(9)), Due::Held);
    assert_eq!(c.due(k, &t, false, false, at(0), at(9)), Due::NotYet, "held back by startup");
    assert_eq!(c.due(Kind::Startup, &t, true, false, at(0), at(9)), Due::NotYet);
    let t = Timing { initial_delay: SignedDuration::from_secs(5), ..t };
    assert_eq!(c.due(k, &t, true, false, at(0), at(4)), Due::NotYet);
    let mut l = Counter::default();
    l.count(Kind::Liveness, &t, Outcome::Failure);
    assert_eq!(l.count(Kind::Liveness, &t, Outcome::Failure), Some(Outcome::Failure));
    assert_eq!(
        l.due(Kind::Liveness, &t, true, false, at(0), at(9)),
        Due::Held,
        "until there is a new container"
    );
}

fn node() -> Node {
    Node {
        name: "n1".into(),
        data_dir: "/data".into(),
        log_dir: "/data/logs".into(),
        cluster_dns: vec!["10.96.0.10".into()],
        cluster_domain: "cluster.local".into(),
        resolver: Resolver::parse("nameserver 1.1.1.1\nsearch corp.example\noptions edns0\n"),
        cgroup: "/n1".into(),
        memory: 1 << 30,
        ..Node::default()
    }
}

#[test]
fn resolvers_by_policy() {
    let r = |spec: Value| sandbox::resolver(&pod(spec), &node());
    let c = r(json!({}));
    assert_eq!(c.servers, ["10.96.0.10"]);
    assert_eq!(c.searches, ["d.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"]);
    assert_eq!(c.options, ["ndots:5"]);
    assert_eq!(r(json!({"hostNetwork": true})).servers, ["1.1.1.1"]);
    assert_eq!(
        r(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})).servers,
        ["10.96.0.10"]
    );
    assert_eq!(r(json!({"dnsPolicy": "Default"})).servers, ["1.1.1.1"]);
    let n = r(
        json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "options": [{"name": "ndots", "value": "2"}]}}),
    );
    assert_eq!((n.servers, n.options), (vec!["9.9.9.9".to_owned()], vec!["ndots:2".to_owned()]));
}

#[test]
fn hosts_and_names() {
    let p = pod(
        json!({"subdomain": "web", "hostname": "h1", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}),
    );
    let text = sandbox::hosts_file(&p, &node(), &["10.244.0.5".into()]);
    assert!(text.contains("10.244.0.5\th1.web.d.svc.cluster.local\th1\n"), "{text}");
    assert!(text.ends_with("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
    let mut long = pod(json!({}));
    long.metadata.name = Some(format!("{}-x", "a".repeat(62)));
    assert_eq!(sandbox::hostname(&long), "a".repeat(62), "cut at 63, without a trailing dash");
}

#[test]
fn sandbox_and_container_configuration() {
    let p = pod(json!({"shareProcessNamespace": true, "securityContext": {"runAsUser": 7, "fsGroup": 9,
            "sysctls": [{"name": "net/core/somaxconn", "value": "9"}]},
        "containers": [{"name": "c", "image": "i", "command": ["$(A)"], "resources": {"limits": {"memory": "64Mi"}},
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}}]}));
    let s = sandbox::config(&p, 2, &node());
    let linux = s.linux.unwrap();
    assert_eq!(linux.cgroup_parent, "/n1/kubepods/burstable/podu");
    assert_eq!(linux.sysctls.get("net.core.somaxconn").map(String::as_str), Some("9"));
    assert_eq!(linux.security_context.unwrap().namespace_options.unwrap().pid, 0);
    assert_eq!(s.log_directory, "/data/logs/d_p_u");
    let c = &p.spec.as_ref().unwrap().containers[0];
    let parts = spec::Parts {
        attempt: 3,
        image: "sha".into(),
        env: vec![("A".into(), "x".into())],
        ..spec::Parts::default()
    };
    let k = spec::config(&p, c, parts, &node()).unwrap();
    assert_eq!(k.command, ["x"]);
    assert_eq!(k.log_path, "c/3.log");
    let sc = k.linux.unwrap().security_context.unwrap();
    assert!(sc.no_new_privs && sc.readonly_rootfs && !sc.masked_paths.is_empty());
    assert_eq!(sc.run_as_user.unwrap().value, 7);
    assert_eq!(sc.supplemental_groups, [9]);
    assert_eq!(sc.seccomp.unwrap().profile_type, 0);
    assert_eq!(k.mounts.last().unwrap().container_path, "/dev/termination-log");
}

#[test]
fn non_root_is_checked() {
    let p = |sc: Value| pod(json!({"securityContext": sc}));
    let check =
        |p: &Pod, u: spec::ImageUser| spec::check_user(p, &p.spec.as_ref().unwrap().containers[0], &u);
    let root = spec::ImageUser { uid: Some(0), name: String::new() };
    let named = spec::ImageUser { uid: None, name: "app".into() };
    let five = spec::ImageUser { uid: Some(5), name: String::new() };
    let must = p(json!({"runAsNonRoot": true}));
    assert!(matches!(check(&must, root.clone()), Err(spec::ConfigError::RootByImage { .. })));
    assert!(matches!(check(&must, named), Err(spec::ConfigError::UserByName { .. })));
    assert!(check(&must, five).is_ok());
    assert!(check(&p(json!({})), root.clone()).is_ok());
    assert!(check(&p(json!({"runAsNonRoot": true, "runAsUser": 4})), root.clone()).is_ok());
    assert!(matches!(
        check(&p(json!({"runAsNonRoot": true, "runAsUser": 0})), root),
        Err(spec::ConfigError::RootBySpec { .. })
    ));
}

#[test]
fn patches_carry_what_changed_and_no_more() {
    let old = json!({"phase": "Pending", "podIPs": [{"ip": "1"}], "nominatedNodeName": "x",
        "conditions": [{"type": "A", "status": "True"}, {"type": "Ready", "status": "False", "reason": "r"}]});
    let new = json!({"phase": "Running", "podIPs": [{"ip": "2"}],
        "conditions": [{"type": "A", "status": "True"}, {"type": "Ready", "status": "True"}]});
    let d = crate::api::difference(&old, &new).unwrap();
    assert_eq!(
        d,
        json!({"phase": "Running", "podIPs": [{"ip": "2"}, {"$patch": "delete", "ip": "1"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": null}]})
    );
    assert!(crate::api::difference(&new, &new).is_none());
}
