//! Another size for a pod that runs.

use super::*;
use crate::core::allot::{Given, Record, Told};
use crate::core::resize::{self, Change, Notes, Now, Step};
use crate::core::resources::{Kernel, pod_kernel};
use std::sync::Arc;

fn resources(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

fn set(w: &mut World, at: usize, r: Value) {
    w.pod.spec.as_mut().unwrap().containers[at].resources = serde_json::from_value(r).unwrap();
}

fn resizes(p: &Plan) -> bool {
    p.actions.contains(&Action::Resize)
}

#[test]
fn a_pod_keeps_what_it_was_given_until_it_is_given_something_else() {
    let spec = |cpu: &str| {
        json!({"containers": [{"name": "c", "image": "i", "resources": resources(cpu, "1Mi")}],
        "initContainers": [{"name": "i", "image": "i"}]})
    };
    let first = Arc::new(pod(spec("100m")));
    let given = Given::of(first.spec.as_ref().unwrap());
    assert!(Arc::ptr_eq(&given.overlay(&first), &first));
    let equal = Arc::new(pod(spec("0.1")));
    assert!(given.is(equal.spec.as_ref().unwrap()), "amounts are compared, not words");
    let more = Arc::new(pod(spec("200m")));
    assert!(!given.is(more.spec.as_ref().unwrap()));
    assert_eq!(given.overlay(&more).spec, first.spec);
    let kept: Record =
        serde_json::from_slice(&serde_json::to_vec(&Record::adopt(first.spec.as_ref().unwrap())).unwrap())
            .unwrap();
    assert_eq!(kept.given, given);
    assert_eq!(kept.told.cgroup, Some(pod_kernel(first.spec.as_ref().unwrap())));
}

#[test]
fn running_containers_are_changed_without_a_stop_unless_they_ask_for_it() {
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let mut w = World::with_sandbox(json!({"restartPolicy": "OnFailure", "containers": [
        {"name": "a", "image": "i", "resources": resources("100m", "10Mi"), "resizePolicy": policy},
        {"name": "b", "image": "i", "resources": resources("100m", "10Mi")}]}));
    w.put("a", 0, State::Running, 0);
    w.put("b", 0, State::Running, 0);
    w.memory.told.cgroup = Some(pod_kernel(w.pod.spec.as_ref().unwrap()));
    assert!(w.plan().actions.is_empty());
    // Processor time without a stop.
    set(&mut w, 0, resources("200m", "10Mi"));
    assert_eq!(w.plan().actions, [Action::Resize]);
    w.memory.in_flight.insert(Op::Resize);
    assert!(w.plan().actions.is_empty(), "not twice");
    w.memory.in_flight.clear();
    w.memory.resize_retry_at = Some(at(10));
    let p = w.plan();
    assert!(p.actions.is_empty() && p.wake_at == Some(at(10)), "after a failure it waits");
    w.memory.resize_retry_at = None;
    // Memory with one, although it ends well and would not be started again for that.
    set(&mut w, 0, resources("200m", "20Mi"));
    let p = w.step();
    assert_eq!(stops(&p), [("a0".to_owned(), 30)]);
    let message = p.actions.iter().find_map(|a| match a {
        Action::Stop { message, .. } => Some(message.as_str()),
        _ => None,
    });
    assert_eq!(message, Some("Container a resize requires restart"));
    assert!(!resizes(&p), "what starts anew is stopped first");
    w.put("a", 0, State::Exited, 0);
    let p = w.step();
    assert_eq!(phase(&p), "Running");
    assert!(resizes(&p) && starts(&p).is_empty(), "the pod gets its room before the container");
    w.memory.told.cgroup = Some(pod_kernel(w.pod.spec.as_ref().unwrap()));
    assert_eq!(starts(&w.step()), ["a1"]);
    w.put("a", 1, State::Running, 0);
    assert!(w.step().actions.iter().all(|a| matches!(a, Action::Collect { .. })));
}

#[test]
fn a_single_container_that_is_stopped_for_its_size_does_not_end_its_pod() {
    let policy = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
    let mut w = World::with_sandbox(json!({"restartPolicy": "OnFailure", "containers": [
        {"name": "a", "image": "i", "resources": resources("100m", "10Mi"), "resizePolicy": policy}]}));
    w.put("a", 0, State::Running, 0);
    set(&mut w, 0, resources("200m", "10Mi"));
    assert_eq!(stops(&w.step()).len(), 1);
    w.put("a", 0, State::Exited, 0);
    let p = w.step();
    assert_eq!(phase(&p), "Running");
    assert_eq!(starts(&p), ["a1"]);
    // Without that it would have ended.
    w.memory.restarting.clear();
    assert_eq!(phase(&w.step()), "Succeeded");
}

fn change(name: &str, from: (i64, i64), to: (i64, i64)) -> Change {
    let size = |(cpu, memory): (i64, i64)| Size {
        cpu_request: cpu,
        cpu_limit: cpu,
        memory_request: memory << 20,
        memory_limit: memory << 20,
    };
    Change { id: format!("{name}0"), name: name.into(), from: Some(size(from)), to: size(to), restart: false }
}

/// Steps in few words: `m` memory, `q` quota, `s` shares of the pod, containers by name with cpu/memory.
fn words(steps: &[Step]) -> String {
    let one = |s: &Step| match s {
        Step::PodMemory(n) => format!("m{}", n >> 20),
        Step::PodQuota(n) => format!("q{n}"),
        Step::PodShares(n) => format!("s{n}"),
        Step::Container { name, size, .. } => {
            format!("{name}={}/{}", size.cpu_limit, size.memory_limit >> 20)
        }
    };
    steps.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn pods_grow_before_their_containers_and_shrink_after_them() {
    let kernel = |cpu: i64, memory: i64| {
        Size { cpu_limit: cpu, cpu_request: cpu, memory_limit: memory << 20, ..Size::default() }.kernel()
    };
    let now = |cpu: i64, memory: i64| {
        let k = kernel(cpu, memory);
        Now { memory: Some(k.memory), quota: Some(k.quota), shares: k.shares }
    };
    let two = [change("a", (100, 10), (200, 20)), change("b", (100, 10), (50, 5))];
    // In all more: the pod first, the one that shrinks before the one that grows.
    let grow = resize::steps(&kernel(250, 25), &now(200, 20), &two);
    assert_eq!(words(&grow), "m25 b=100/5 a=100/20 q25000 s256 b=50/5 a=200/20");
    let shrink = resize::steps(&kernel(150, 15), &now(200, 20), &[change("a", (150, 15), (100, 10))]);
    assert_eq!(words(&shrink), "a=150/10 m15 a=100/10 s153 q15000");
    // Both directions at once, by resource.
    let mixed = resize::steps(&kernel(300, 15), &now(200, 20), &[change("a", (100, 15), (200, 10))]);
    assert_eq!(words(&mixed), "a=100/10 m15 q30000 s307 a=200/10");
    // A pod that is not limited as a whole stays so, and one that had no limit is limited last.
    let none = Now { memory: None, quota: None, shares: 102 };
    assert_eq!(words(&resize::steps(&Kernel { shares: 204, ..Kernel::default() }, &none, &[])), "s204");
    assert_eq!(
        words(&resize::steps(&kernel(100, 10), &none, &[change("a", (100, 0), (100, 10))])),
        "a=100/10 m10 q10000"
    );
    // What was never told is told whole.
    let unknown = Change { from: None, ..change("a", (0, 0), (100, 10)) };
    assert_eq!(words(&resize::steps(&kernel(100, 10), &now(100, 10), &[unknown])), "a=100/10 a=100/10");
    let anew = Change { restart: true, ..change("a", (100, 10), (200, 10)) };
    assert_eq!(words(&resize::steps(&kernel(200, 10), &now(100, 10), &[anew])), "q20000 s204");
}

#[test]
fn memory_that_is_used_is_not_taken_away() {
    let want = Kernel { memory: 10 << 20, ..Kernel::default() };
    let now = Now { memory: Some(20 << 20), quota: None, shares: 2 };
    let c = [change("a", (1, 20), (1, 10))];
    let each = |used: i64| BTreeMap::from([("a".to_owned(), used)]);
    assert_eq!(resize::too_small(&want, &now, &c, Some(1 << 20), &each(1 << 20)), None);
    assert_eq!(
        resize::too_small(&want, &now, &c, Some(10 << 20), &each(1 << 20)).unwrap(),
        "cannot decrease memory limits: attempting to set pod memory limit (10485760) below current usage (10485760)"
    );
    assert_eq!(
        resize::too_small(&want, &now, &c, None, &each(11 << 20)).unwrap(),
        "cannot decrease memory limits: [missing pod memory usage, attempting to set container \"a\" memory limit \
         (10485760) below current usage (11534336)]"
    );
    let grows = [change("a", (1, 10), (1, 20))];
    assert_eq!(
        resize::too_small(&want, &Now { memory: Some(1), ..now }, &grows, None, &BTreeMap::new()),
        None
    );
    let added = [change("a", (1, 0), (1, 10))];
    assert!(resize::too_small(&Kernel::default(), &now, &added, None, &BTreeMap::new()).is_some());
}

#[test]
fn what_is_told_of_a_new_size() {
    let p = pod(json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}],
        "initContainers": [{"name": "i", "image": "i"}]}));
    let mut n = Notes::default();
    let why = "Node didn't have enough resource: cpu, requested: 3, used: 2, capacity: 1";
    let (warning, reason, message) = n.refuse(&p, "OutOfcpu", why, at(1)).unwrap();
    assert!(warning && reason == "ResizeDeferred");
    assert_eq!(
        message,
        format!(
            "Pod resize OutOfcpu: {{\"initContainers\":[{{\"name\":\"i\",\"resources\":{{}}}}],\"containers\":[{{\"name\":\"c\",\"resources\":{{\"requests\":{{\"cpu\":\"1\"}}}}}}],\"generation\":3,\"error\":\"{why}\"}}"
        )
    );
    assert_eq!(n.refuse(&p, "OutOfcpu", "still", at(2)), None, "said once a generation");
    let pending = n.conditions().next().unwrap();
    assert_eq!((pending.type_.as_str(), pending.reason.as_deref()), ("PodResizePending", Some("Deferred")));
    assert_eq!((pending.message.as_deref(), pending.observed_generation), (Some("still"), Some(3)));
    assert_eq!(pending.last_transition_time, Some(Time(at(1))));
    assert_eq!(n.agree(&p, at(3)).1, "ResizeStarted");
    assert_eq!(n.conditions().map(|c| c.type_).collect::<Vec<_>>(), ["PodResizeInProgress"]);
    assert_eq!(n.look(&p, true, at(4)), None);
    assert_eq!(n.fail(&p, "no", at(5)).unwrap().1, "ResizeError");
    assert_eq!(n.fail(&p, "no", at(6)), None);
    let failed = n.conditions().next().unwrap();
    assert_eq!((failed.reason.as_deref(), failed.last_transition_time), (Some("Error"), Some(Time(at(5)))));
    // Another life of the agent goes on where this one stood.
    let mut told = p.clone();
    told.status = Some(PodStatus { conditions: Some(n.conditions().collect()), ..PodStatus::default() });
    assert_eq!(Notes::read(&told), n);
    assert_eq!(n.look(&p, false, at(7)).unwrap().1, "ResizeCompleted");
    assert_eq!((n.conditions().count(), n.look(&p, false, at(8))), (0, None));
}

#[test]
fn the_status_says_what_the_runtime_has() {
    let mut w = World::with_sandbox(
        json!({"containers": [{"name": "c", "image": "i", "resources": resources("20m", "35Mi")}]}),
    );
    w.put("c", 0, State::Running, 0);
    let had =
        Size { cpu_request: 20, cpu_limit: 20, memory_request: 35 << 20, memory_limit: 35 << 20 }.kernel();
    w.seen.containers[0].resources = Some(had);
    let shown = |w: &mut World| json!(container(&w.step().status, "c").resources);
    assert_eq!(shown(&mut w), resources("20m", "35Mi"));
    set(&mut w, 0, resources("25m", "40Mi"));
    let between = shown(&mut w);
    // No runtime tells what memory was asked for: that is what it was told last.
    assert_eq!(
        between,
        json!({"requests": {"cpu": "20m", "memory": "35Mi"}, "limits": {"cpu": "20m", "memory": "35Mi"}})
    );
    assert_eq!(
        json!(container(&w.step().status, "c").allocated_resources),
        json!({"cpu": "25m", "memory": "40Mi"})
    );
    w.memory
        .told
        .containers
        .insert("c".into(), Size::of(w.pod.spec.as_ref().unwrap().containers[0].resources.as_ref()));
    assert_eq!(shown(&mut w)["requests"], json!({"cpu": "20m", "memory": "40Mi"}));
    // Below what the kernel can tell apart, what was given is what it has.
    set(&mut w, 0, json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "5m"}}));
    let least = Size { cpu_request: 1, cpu_limit: 5, ..Size::default() }.kernel();
    assert_eq!((least.shares, least.quota), (2, 1000));
    w.seen.containers[0].resources = Some(least);
    assert_eq!(shown(&mut w), json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "5m"}}));
    w.seen.containers[0].resources = Some(Kernel { shares: 1024, quota: 50_000, period: 100_000, memory: 0 });
    assert_eq!(shown(&mut w), json!({"requests": {"cpu": "1"}, "limits": {"cpu": "500m"}}));
}

#[test]
fn who_waits_for_room_gets_it_in_turn() {
    let p = |name: &str, cpu: &str, priority: i64| {
        let mut p = pod(
            json!({"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}),
        );
        p.metadata.name = Some(name.into());
        p
    };
    let sure = |name: &str, cpu: &str| {
        let mut p =
            pod(json!({"priority": 0, "containers": [{"name": "c", "resources": resources(cpu, "1Mi")}]}));
        p.metadata.name = Some(name.into());
        p
    };
    let pairs = [
        (p("late", "2", 0), p("late", "1", 0), 9),
        (p("early", "2", 0), p("early", "1", 0), 1),
        (sure("sure", "2"), sure("sure", "1"), 5),
        (p("high", "2", 7), p("high", "1", 7), 8),
        (p("less", "1", 0), p("less", "2", 0), 10),
    ];
    let mut list: Vec<resize::Waiting<'_>> =
        pairs.iter().map(|(wants, has, t)| resize::Waiting { wants, has, since: at(*t) }).collect();
    resize::order(&mut list);
    let names: Vec<&str> = list.iter().filter_map(|w| w.wants.metadata.name.as_deref()).collect();
    assert_eq!(names, ["less", "high", "sure", "early", "late"]);
}

#[test]
fn nothing_is_changed_where_nothing_differs() {
    let w = World::with_sandbox(json!({"containers": [{"name": "c", "image": "i"}]}));
    let spec = w.pod.spec.as_ref().unwrap();
    assert_eq!(resize::changes(spec, &w.seen, &Told::default()), []);
    assert!(!resize::pod_differs(spec, &Told::default()), "what was never made is not changed");
}
