//! Histories nobody would write down.

use super::*;

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
    let rounds = if std::env::var_os("SKEP_TEST_LONG").is_some() { 20_000 } else { 400 };
    for round in 0..rounds {
        let policy = ["Always", "OnFailure", "Never"][next(3) as usize];
        let mut w = World::new(json!({"restartPolicy": policy, "containers": [
            {"name": "a", "image": "i", "livenessProbe": {"tcpSocket": {"port": 1}}}, {"name": "b", "image": "i",
             "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}],
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
                            c.exit_code = if next(2) == 0 { 137 } else { 0 };
                            c.finished_at = ns(w.now);
                        }
                    }
                    Action::Resize => {
                        let spec = w.pod.spec.as_ref().unwrap();
                        for c in super::super::resize::changes(spec, &w.seen, &w.memory.told) {
                            assert!(!c.restart, "round {round}: what starts anew is stopped first");
                            w.memory.told.containers.insert(c.name, c.to);
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
                5 => {
                    let amount = json!({"cpu": format!("{}m", 100 + next(3))});
                    let at = next(2) as usize;
                    w.pod.spec.as_mut().unwrap().containers[at].resources =
                        serde_json::from_value(json!({"requests": amount})).unwrap();
                }
                4 if next(10) == 0 => w.delete(next(40) as i64),
                _ => {}
            }
        }
    }
}
