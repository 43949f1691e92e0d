use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use super::*;
use crate::testing::{Rng, random_command};

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn put(name: &str, value: &str) -> Op {
    Op::Put { key: key(name), value: key(value) }
}

fn delete(name: &str) -> Op {
    Op::Delete { key: key(name) }
}

fn commit(machine: &mut Machine, ops: Vec<Op>) -> Revision {
    match machine.apply(&Command::Txn(Txn { compare: vec![], ops })) {
        Reply::Txn(TxnOutcome::Committed { revision }) => revision,
        other => panic!("{other:?}"),
    }
}

fn compact(machine: &mut Machine, before: Revision) {
    assert_eq!(machine.apply(&Command::Compact { before }), Reply::Compacted);
}

fn names(result: &RangeResult) -> Vec<String> {
    result.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
}

#[test]
fn revisions_and_versions() {
    let mut m = Machine::new(1 << 20);
    assert_eq!(commit(&mut m, vec![put("a", "1"), put("b", "1")]), 1);
    assert_eq!(commit(&mut m, vec![put("a", "2")]), 2);
    assert_eq!(commit(&mut m, vec![delete("a")]), 3);
    assert_eq!(commit(&mut m, vec![put("a", "3")]), 4);
    let a = m.get(b"a").unwrap();
    assert_eq!((a.create_revision, a.mod_revision, &a.value[..]), (4, 4, &b"3"[..]));
    let a = m.get_at(b"a", 2).unwrap().unwrap();
    assert_eq!((a.create_revision, a.mod_revision, &a.value[..]), (1, 2, &b"2"[..]));
    assert_eq!(m.get_at(b"a", 3).unwrap(), None);
    assert_eq!(m.get_at(b"a", 0).unwrap(), None);
    assert_eq!(m.get(b"b").unwrap().mod_revision, 1);
}

#[test]
fn what_changes_nothing_takes_no_revision() {
    let mut m = Machine::new(1 << 20);
    commit(&mut m, vec![put("a", "1")]);
    assert_eq!(commit(&mut m, vec![]), 1);
    assert_eq!(commit(&mut m, vec![delete("none")]), 1);
    let conflict = Txn { compare: vec![Compare::Absent(key("a"))], ops: vec![put("b", "1")] };
    let answer = m.apply(&Command::Txn(conflict));
    assert_eq!(answer, Reply::Txn(TxnOutcome::Conflict { index: 0, current: m.get(b"a") }));
    assert_eq!((m.revision(), m.get(b"b")), (1, None));
}

#[test]
fn the_first_failing_condition_is_named() {
    let mut m = Machine::new(1 << 20);
    commit(&mut m, vec![put("a", "1")]);
    let txn = |compare| Command::Txn(Txn { compare, ops: vec![put("c", "1")] });
    let cases = [
        (vec![Compare::Exists(key("a")), Compare::Exists(key("b"))], 1, None),
        (vec![Compare::ModRevision(key("a"), 2), Compare::Exists(key("b"))], 0, m.get(b"a")),
        (vec![Compare::ModRevision(key("b"), 0)], 0, None),
    ];
    for (compare, index, current) in cases {
        assert_eq!(m.apply(&txn(compare)), Reply::Txn(TxnOutcome::Conflict { index, current }));
    }
    let holds = vec![Compare::ModRevision(key("a"), 1), Compare::Exists(key("a")), Compare::Absent(key("b"))];
    assert_eq!(m.apply(&txn(holds)), Reply::Txn(TxnOutcome::Committed { revision: 2 }));
}

#[test]
fn ranges() {
    let mut m = Machine::new(1 << 20);
    for name in ["a", "b/1", "b/2", "b/3", "c"] {
        commit(&mut m, vec![put(name, "x")]);
    }
    commit(&mut m, vec![delete("b/2")]);
    let all = m.range(b"", b"", 0, None).unwrap();
    assert_eq!(
        (names(&all), all.count, all.more),
        (vec!["a".into(), "b/1".into(), "b/3".into(), "c".into()], 4, false)
    );
    let end = crate::prefix_end(b"b/");
    let one = m.range(b"b/", &end, 1, None).unwrap();
    assert_eq!((names(&one), one.count, one.more, one.revision), (vec!["b/1".into()], 2, true, 6));
    let past = m.range(b"b/", &end, 0, Some(5)).unwrap();
    assert_eq!((names(&past), past.revision), (vec!["b/1".into(), "b/2".into(), "b/3".into()], 5));
    assert_eq!(m.range(b"c", b"a", 0, None).unwrap().count, 0);
    assert_eq!(m.range(b"a", b"a", 0, None).unwrap().count, 0);
    assert!(matches!(
        m.range(b"", b"", 0, Some(7)),
        Err(StoreError::FutureRevision { asked: 7, current: 6 })
    ));
    assert_eq!(crate::prefix_end(b"a\xff\xff"), b"b");
    assert_eq!(crate::prefix_end(b"\xff"), b"");
}

#[test]
fn compaction_forgets_the_past_and_only_that() {
    let mut m = Machine::new(1 << 20);
    commit(&mut m, vec![put("a", "1")]);
    commit(&mut m, vec![put("a", "2")]);
    commit(&mut m, vec![delete("a")]);
    commit(&mut m, vec![put("b", "1")]);
    compact(&mut m, 2);
    assert_eq!(m.get_at(b"a", 1), Err(Compacted { asked: 1, oldest: 2 }));
    assert_eq!(&m.get_at(b"a", 2).unwrap().unwrap().value[..], b"2");
    assert!(m.next_events(b"", 1, 10).is_err());
    assert!(matches!(m.next_events(b"", 2, 10).unwrap(), Step::Events(3, _)));
    compact(&mut m, 1);
    assert_eq!(m.oldest(), 2, "compaction never goes back");
    compact(&mut m, 100);
    assert_eq!((m.oldest(), m.fingerprint().compacted), (4, 4), "nor beyond the present");
    assert_eq!(m.keys.len(), 1, "a deleted key leaves nothing behind");
    assert_eq!((m.history_cost, m.history.len()), (0, 0));
}

#[test]
fn a_pinned_revision_stays_readable() {
    let mut m = Machine::new(1 << 20);
    commit(&mut m, vec![put("a", "1")]);
    let pinned = m.pin();
    commit(&mut m, vec![delete("a")]);
    commit(&mut m, vec![put("b", "1")]);
    compact(&mut m, 3);
    assert_eq!(m.walk(None, pinned, 1 << 20).unwrap().len(), 1);
    m.unpin(pinned);
    assert_eq!(m.oldest(), 3);
    assert!(m.walk(None, pinned, 1 << 20).is_err());
}

#[test]
fn history_is_bounded() {
    let mut m = Machine::new(100_000);
    for n in 0..1000 {
        commit(&mut m, vec![put("a", &"x".repeat(1000)), put("b", &n.to_string())]);
        assert!(m.history_cost <= 100_000);
    }
    assert!(m.oldest() > 900 && m.oldest() < 1000);
    assert!(m.keys.values().all(|slot| slot.past.len() < 100));
}

#[test]
fn events_of_a_transaction_come_together_and_are_shared() {
    let mut m = Machine::new(1 << 20);
    commit(&mut m, vec![put("p/a", "1"), put("p/b", "1")]);
    commit(&mut m, vec![put("q/a", "1")]);
    commit(&mut m, vec![put("p/a", "2"), delete("p/b"), put("q/b", "1")]);
    let Step::Events(1, first) = m.next_events(b"p/", 0, 10).unwrap() else { panic!() };
    let Step::Events(1, again) = m.next_events(b"", 0, 10).unwrap() else { panic!() };
    assert!(Arc::ptr_eq(&first, &again));
    let Step::Events(3, events) = m.next_events(b"p/", 1, 10).unwrap() else { panic!() };
    assert_eq!(events.len(), 2);
    assert_eq!((events[0].kind, &events[0].prev.as_ref().unwrap().value[..]), (EventKind::Put, &b"1"[..]));
    assert_eq!((events[1].kind, &events[1].value[..], events[1].revision), (EventKind::Delete, &b"1"[..], 3));
    assert!(matches!(m.next_events(b"p/", 1, 1).unwrap(), Step::Nothing(2)));
    assert!(matches!(m.next_events(b"p/", 3, 10).unwrap(), Step::UpToDate(3)));
    assert!(matches!(m.next_events(b"p/", 9, 10).unwrap(), Step::UpToDate(9)));
}

#[test]
fn a_value_exists_once() {
    let mut m = Machine::new(1 << 20);
    let value = Bytes::from(vec![7; 100]);
    let op = Op::Put { key: key("a"), value: value.clone() };
    commit(&mut m, vec![op]);
    let Step::Events(1, events) = m.next_events(b"", 0, 1).unwrap() else { panic!() };
    for shared in [&m.get(b"a").unwrap().value, &events[0].value] {
        assert_eq!(shared.as_ptr(), value.as_ptr());
    }
}

/// The whole history of a store, kept naively.
#[derive(Default)]
struct Model {
    /// State after each revision.
    states: Vec<BTreeMap<Bytes, KeyValue>>,
}

impl Model {
    fn apply(&mut self, txn: &Txn) -> TxnOutcome {
        let now = self.states.last().cloned().unwrap_or_default();
        for (index, compare) in txn.compare.iter().enumerate() {
            let current = now.get(compare.key()).cloned();
            let ok = match compare {
                Compare::Absent(_) => current.is_none(),
                Compare::Exists(_) => current.is_some(),
                Compare::ModRevision(_, r) => current.as_ref().map(|kv| kv.mod_revision) == Some(*r),
            };
            if !ok {
                return TxnOutcome::Conflict { index, current };
            }
        }
        let revision = self.states.len() as u64;
        let mut next = now.clone();
        for op in &txn.ops {
            match op {
                Op::Delete { key } => drop(next.remove(key)),
                Op::Put { key, value } => {
                    let create_revision = now.get(key).map_or(revision, |kv| kv.create_revision);
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision,
                        mod_revision: revision,
                    };
                    next.insert(key.clone(), kv);
                }
            }
        }
        let changed = next != now;
        if changed {
            self.states.push(next);
        }
        TxnOutcome::Committed { revision: self.states.len() as u64 - 1 }
    }
}

#[test]
fn agrees_with_a_naive_model() {
    for seed in 1..=crate::testing::sample(60, 3000) {
        let mut rng = Rng(seed);
        let mut machine = Machine::new(usize::MAX);
        let mut model = Model { states: vec![BTreeMap::new()] };
        for _ in 0..300 {
            let command = random_command(&mut rng, machine.revision());
            let reply = machine.apply(&command);
            match &command {
                Command::Txn(txn) => assert_eq!(reply, Reply::Txn(model.apply(txn)), "seed {seed}"),
                Command::Compact { .. } => assert_eq!(reply, Reply::Compacted),
            }
        }
        let latest = machine.revision();
        assert_eq!(latest, model.states.len() as u64 - 1);
        // Every readable revision, read in every way.
        for at in machine.oldest()..=latest {
            let state = &model.states[at as usize];
            let all: Vec<KeyValue> = state.values().cloned().collect();
            let read = machine.range(b"", b"", 0, Some(at)).unwrap();
            assert_eq!((&read.kvs, read.count), (&all, all.len()), "seed {seed} at {at}");
            let mut walked = Vec::new();
            while let step = machine.walk(walked.last().map(|kv: &KeyValue| &kv.key[..]), at, 1).unwrap()
                && !step.is_empty()
            {
                walked.extend(step);
            }
            assert_eq!(walked, all);
            for key in state.keys() {
                assert_eq!(machine.get_at(key, at).unwrap().as_ref(), state.get(key));
            }
        }
        // Replaying the events on an old state gives the present one.
        let mut state = model.states[machine.oldest() as usize].clone();
        let mut position = machine.oldest();
        while let Step::Events(revision, events) = machine.next_events(b"", position, 1000).unwrap() {
            assert_eq!(revision, position + 1, "everything has a revision of its own");
            position = revision;
            for event in events.iter() {
                assert_eq!(state.get(&event.key), event.prev.as_ref());
                match event.kind {
                    EventKind::Delete => drop(state.remove(&event.key)),
                    EventKind::Put => {
                        drop(state.insert(
                            event.key.clone(),
                            machine.get_at(&event.key, revision).unwrap().unwrap(),
                        ))
                    }
                }
            }
        }
        assert_eq!(state, model.states[latest as usize]);
        // What restoring the live keys gives is the same state.
        let kvs = state.values().cloned();
        let compacted = machine.fingerprint().compacted;
        let restored = Machine::restore(usize::MAX, latest, compacted, kvs);
        assert_eq!(restored.fingerprint(), machine.fingerprint());
        assert_eq!(restored.live_bytes(), machine.live_bytes());
    }
}

#[test]
fn the_digest_tells_states_apart() {
    let mut seen = HashSet::new();
    for value in ["1", "2", "3"] {
        for name in ["a", "b"] {
            let mut m = Machine::new(1 << 20);
            commit(&mut m, vec![put(name, value)]);
            assert!(seen.insert(m.fingerprint().digest));
        }
    }
}
