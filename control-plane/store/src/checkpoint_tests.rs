use super::*;
use crate::{
    command::{Batch, Command},
    machine::apply_entry,
    raft::Entry,
    testing::{Rng, TempDir, random_command},
};

fn open(dir: &Path) -> (Checkpoints, Arc<Shared>) {
    let (checkpoints, state) = Checkpoints::open(dir, 1 << 20, 1 << 20).unwrap();
    (checkpoints, Shared::new(state))
}

fn entry(index: u64, command: Command) -> Entry {
    let id = LogId::new(openraft::CommittedLeaderId::new(1, 1), index);
    Entry { log_id: id, payload: openraft::EntryPayload::Normal(Batch(vec![command].into())) }
}

fn fingerprint(shared: &Shared) -> Fingerprint {
    shared.state.read().machine.fingerprint()
}

fn random_entries(rng: &mut Rng, shared: &Shared, log: &mut Vec<Entry>, count: u64) {
    for _ in 0..count {
        let mut state = shared.state.write();
        let command = random_command(rng, state.machine.revision());
        let entry = entry(log.len() as u64, command);
        apply_entry(&mut state, &entry);
        log.push(entry);
    }
}

/// Opens the directory as after a crash, replays the rest of the log, and compares.
fn reopen_and_compare(dir: &Path, log: &[Entry], expected: Fingerprint) -> (Checkpoints, Arc<Shared>) {
    let (checkpoints, shared) = open(dir);
    let start = shared.state.read().applied.map_or(0, |id| id.index + 1);
    for entry in &log[start as usize..] {
        apply_entry(&mut shared.state.write(), entry);
    }
    assert_eq!(fingerprint(&shared), expected);
    (checkpoints, shared)
}

#[test]
fn checkpoint_and_log_give_the_state_again() {
    for seed in 1..=crate::testing::sample(12, 100) {
        let dir = TempDir::new(&format!("checkpoint-{seed}"));
        let mut rng = Rng(seed);
        let mut log = Vec::new();
        let (mut checkpoints, mut shared) = open(dir.path());
        for round in 0..12 {
            let count = rng.below(60);
            random_entries(&mut rng, &shared, &mut log, count);
            if rng.below(4) > 0 {
                checkpoints.write(&shared).unwrap();
                assert_eq!(checkpoints.current().unwrap().fingerprint, fingerprint(&shared));
                if rng.below(2) == 0 {
                    checkpoints.rest();
                }
            }
            let count = rng.below(20);
            random_entries(&mut rng, &shared, &mut log, count);
            if rng.below(3) == 0 {
                let expected = fingerprint(&shared);
                drop((checkpoints, shared));
                (checkpoints, shared) = reopen_and_compare(dir.path(), &log, expected);
                assert_eq!(fingerprint(&shared), expected, "seed {seed} round {round}");
            }
        }
    }
}

#[test]
fn what_an_interrupted_checkpoint_left_does_not_count() {
    let dir = TempDir::new("checkpoint-interrupted");
    let mut rng = Rng(77);
    let mut log = Vec::new();
    let (mut checkpoints, shared) = open(dir.path());
    random_entries(&mut rng, &shared, &mut log, 50);
    checkpoints.write(&shared).unwrap();
    let durable = fs::read(dir.path().join("current")).unwrap();
    random_entries(&mut rng, &shared, &mut log, 50);
    // The next one writes its data, and the process dies before `current` is replaced: the old one stands. What was removed after
    // the replacement in this run is put back, as though it had not come to that.
    let generation = checkpoints.current().unwrap().generation;
    let before: Vec<_> = {
        let db = checkpoints.database(generation).unwrap();
        db.iter().map(|item| item.unwrap()).collect()
    };
    checkpoints.write(&shared).unwrap();
    let db = checkpoints.database(generation).unwrap();
    before.into_iter().for_each(|(key, value)| drop(db.insert(key, value).unwrap()));
    fs::write(dir.path().join("current"), durable).unwrap();
    let expected = fingerprint(&shared);
    drop((db, checkpoints, shared));
    let (mut checkpoints, shared) = reopen_and_compare(dir.path(), &log, expected);
    assert!(checkpoints.unfinished);
    checkpoints.write(&shared).unwrap();
    assert!(!checkpoints.unfinished);
    drop((checkpoints, shared));
    drop(reopen_and_compare(dir.path(), &log, expected));
}

#[test]
fn what_no_checkpoint_needs_is_removed_from_the_database() {
    let dir = TempDir::new("checkpoint-garbage");
    let mut rng = Rng(5);
    let mut log = Vec::new();
    let (mut checkpoints, shared) = open(dir.path());
    for _ in 0..20 {
        random_entries(&mut rng, &shared, &mut log, 30);
        checkpoints.write(&shared).unwrap();
    }
    let live = fingerprint(&shared).live as usize;
    let tombstones = checkpoints.tombstones.len();
    let generation = checkpoints.current().unwrap().generation;
    assert_eq!(checkpoints.database(generation).unwrap().len(), live + tombstones);
}

#[test]
fn a_failed_checkpoint_leaves_the_last_one_and_forgets_nothing() {
    let dir = TempDir::new("checkpoint-failed");
    let mut rng = Rng(9);
    let mut log = Vec::new();
    let (mut checkpoints, shared) = open(dir.path());
    random_entries(&mut rng, &shared, &mut log, 50);
    checkpoints.write(&shared).unwrap();
    random_entries(&mut rng, &shared, &mut log, 50);
    // `current` cannot be replaced: where its draft would be is a directory.
    let blocker = dir.path().join("current.partial");
    fs::create_dir(&blocker).unwrap();
    assert!(matches!(checkpoints.write(&shared), Err(StoreError::Io { .. })));
    assert!(checkpoints.write(&shared).is_err());
    fs::remove_dir(&blocker).unwrap();
    drop(reopen_and_compare(dir.path(), &log, fingerprint(&shared)));
    random_entries(&mut rng, &shared, &mut log, 10);
    checkpoints.write(&shared).unwrap();
    let expected = fingerprint(&shared);
    drop((checkpoints, shared));
    let (checkpoints, _) = reopen_and_compare(dir.path(), &log, expected);
    assert_eq!(checkpoints.current().unwrap().applied, Some(log[log.len() - 1].log_id));
}

#[test]
fn a_replacement_has_nothing_of_what_was() {
    let dir = TempDir::new("checkpoint-replace");
    let mut rng = Rng(3);
    let mut log = Vec::new();
    let (mut checkpoints, shared) = open(dir.path());
    random_entries(&mut rng, &shared, &mut log, 80);
    checkpoints.write(&shared).unwrap();
    let kv = KeyValue {
        key: Bytes::from_static(b"only"),
        value: Bytes::from_static(b"one"),
        create_revision: 900,
        mod_revision: 901,
    };
    shared.state.write().machine = Machine::restore(1 << 20, 1000, 950, [kv]);
    checkpoints.replace(&shared).unwrap();
    let expected = fingerprint(&shared);
    drop((checkpoints, shared));
    let (_, shared) = open(dir.path());
    assert_eq!(fingerprint(&shared), expected);
    assert_eq!(&shared.state.read().machine.get(b"only").unwrap().value[..], b"one");
}

#[test]
fn damage_and_newer_formats_are_errors() {
    let dir = TempDir::new("checkpoint-damage");
    let mut log = Vec::new();
    let (mut checkpoints, shared) = open(dir.path());
    random_entries(&mut Rng(1), &shared, &mut log, 50);
    checkpoints.write(&shared).unwrap();
    drop((checkpoints, shared));
    let path = dir.path().join("current");
    let good = fs::read(&path).unwrap();
    let try_open = || Checkpoints::open(dir.path(), 1 << 20, 1 << 20).map(drop);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        let error = try_open().unwrap_err();
        assert!(
            matches!(error, StoreError::Corrupt { .. } | StoreError::NewerFormat { .. }),
            "byte {at}: {error}"
        );
    }
    let mut newer = good.clone();
    newer[8..12].copy_from_slice(&2_u32.to_le_bytes());
    fs::write(&path, &newer).unwrap();
    assert!(matches!(try_open(), Err(StoreError::NewerFormat { found: 2, supported: 1, .. })));
    // A database that is not the one `current` speaks of.
    fs::write(&path, &good).unwrap();
    let current = Current::decode(&good).unwrap();
    {
        let db = sled::open(dir.path().join(format!("db-{}", current.generation))).unwrap();
        let first = db.iter().next().unwrap().unwrap().0;
        db.remove(first).unwrap();
        db.flush().unwrap();
    }
    assert!(matches!(try_open(), Err(StoreError::Corrupt { .. })));
    fs::remove_dir_all(dir.path().join(format!("db-{}", current.generation))).unwrap();
    assert!(matches!(try_open(), Err(StoreError::Corrupt { .. })));
}
