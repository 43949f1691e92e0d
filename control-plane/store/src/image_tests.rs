use super::*;
use crate::{
    command::Command,
    shared::State,
    testing::{Rng, random_command},
    types::{Op, Txn},
};

fn filled(seed: u64, commands: u64) -> Arc<Shared> {
    let mut rng = Rng(seed);
    let mut machine = Machine::new(1 << 20);
    for _ in 0..commands {
        let command = random_command(&mut rng, machine.revision());
        machine.apply(&command);
    }
    let id = LogId::new(openraft::CommittedLeaderId::new(2, 1), commands);
    Shared::new(State { machine, applied: Some(id), membership: StoredMembership::default() })
}

fn put(shared: &Shared, key: &str, value: Vec<u8>) {
    let op = Op::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: value.into() };
    shared.state.write().machine.apply(&Command::Txn(Txn { compare: vec![], ops: vec![op] }));
}

fn chunks(view: &View, mut meanwhile: impl FnMut()) -> Vec<Vec<u8>> {
    let mut reader = Chunks::new(view);
    let mut all = Vec::new();
    while let Some(chunk) = reader.next().unwrap() {
        all.push(chunk);
        meanwhile();
    }
    all
}

fn assemble(chunks: &[Vec<u8>]) -> Result<Option<Received>, StoreError> {
    let mut assembly = Assembly::new(1 << 20);
    for chunk in chunks {
        if let Some(received) = assembly.push(chunk)? {
            return Ok(Some(received));
        }
    }
    Ok(None)
}

#[test]
fn a_snapshot_is_the_state_at_its_revision_whatever_is_written_meanwhile() {
    for seed in 1..=crate::testing::sample(10, 60) {
        let shared = filled(seed, 200);
        // More than a chunk.
        (0..40).for_each(|n| put(&shared, &format!("large/{n}"), vec![n as u8; 20_000]));
        let view = View::new(&shared);
        let expected = shared.state.read().machine.fingerprint();
        let mut n = 0;
        let all = chunks(&view, || {
            put(&shared, &format!("large/{}", 39 - n), vec![1]);
            put(&shared, &format!("new/{n}"), vec![2]);
            let before = shared.state.read().machine.revision();
            shared.state.write().machine.apply(&Command::Compact { before });
            n += 1;
        });
        assert!(all.len() > 4);
        let received = assemble(&all).unwrap().unwrap();
        assert_eq!(received.machine.fingerprint(), expected);
        assert_eq!((received.applied, &received.membership), (view.applied, &view.membership));
        // The reader gone, the compaction it held up happens.
        drop(view);
        let state = shared.state.read();
        assert_eq!(state.machine.oldest(), state.machine.fingerprint().compacted);
    }
}

#[test]
fn damaged_reordered_or_missing_chunks_are_errors() {
    let shared = filled(4, 200);
    (0..40).for_each(|n| put(&shared, &format!("large/{n}"), vec![n as u8; 20_000]));
    let all = chunks(&View::new(&shared), || ());
    for at in 0..all.len() {
        let mut missing = all.clone();
        missing.remove(at);
        assert!(!matches!(assemble(&missing), Ok(Some(_))), "without chunk {at}");
        for byte in [0, 5, 8, 9, all[at].len() - 1].into_iter().filter(|byte| *byte < all[at].len()) {
            let mut bad = all.clone();
            bad[at][byte] ^= 1;
            assert!(assemble(&bad).is_err(), "byte {byte} of chunk {at}");
        }
    }
    let mut twice = all.clone();
    twice.insert(1, all[1].clone());
    assert!(assemble(&twice).is_err());
}
