//! The store as its callers see it, on a real directory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

mod common;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;
use common::TempDir;
use skep_store::{
    Compare, Config, Event, EventKind, KeyValue, Op, Store, StoreError, Txn, TxnOutcome, WatchEnd, WatchItem,
    Watcher,
};

/// Small segments and frequent checkpoints, so that short tests meet rotation and purge.
fn config(dir: &Path) -> Config {
    Config { segment_bytes: 64 << 10, checkpoint_bytes: 128 << 10, ..Config::new(dir) }
}

fn put(key: &str, value: impl Into<Bytes>) -> Op {
    Op::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: value.into() }
}

async fn commit(store: &Store, ops: Vec<Op>) -> u64 {
    match store.txn(Txn { compare: vec![], ops }).await.unwrap() {
        TxnOutcome::Committed { revision } => revision,
        conflict => panic!("{conflict:?}"),
    }
}

fn all(store: &Store) -> Vec<KeyValue> {
    store.range(b"", b"", 0, None).unwrap().kvs
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_read_and_survives() {
    let dir = TempDir::new("it-basic");
    let store = Store::open(config(&dir.0)).await.unwrap();
    assert_eq!(store.revision(), 0);
    assert_eq!(commit(&store, vec![put("a", "1"), put("b", "2")]).await, 1);
    assert_eq!(store.barrier().await.unwrap(), 1);
    let kv = store.get(b"a").unwrap();
    assert_eq!((&kv.value[..], kv.create_revision, kv.mod_revision), (&b"1"[..], 1, 1));
    let stale = Txn { compare: vec![Compare::ModRevision("a".into(), 9)], ops: vec![put("a", "x")] };
    assert_eq!(store.txn(stale).await.unwrap(), TxnOutcome::Conflict { index: 0, current: Some(kv) });
    let twice = Txn { compare: vec![], ops: vec![put("a", "x"), put("a", "y")] };
    assert!(matches!(store.txn(twice).await, Err(StoreError::Invalid(_))));
    let (hash, kvs) = (store.state_hash(), all(&store));
    store.shutdown().await;

    let store = Store::open(config(&dir.0)).await.unwrap();
    assert_eq!((store.state_hash(), all(&store), store.revision()), (hash, kvs, 1));
    assert_eq!(commit(&store, vec![Op::Delete { key: "a".into() }]).await, 2);
    assert_eq!(store.get_at(b"a", 1).unwrap().unwrap().mod_revision, 1);
    assert_eq!(store.get(b"a"), None);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_serves_one_store_at_a_time() {
    let dir = TempDir::new("it-locked");
    let store = Store::open(config(&dir.0)).await.unwrap();
    assert!(matches!(Store::open(config(&dir.0)).await, Err(StoreError::Locked { .. })));
    let other = store.clone();
    store.shutdown().await;
    assert!(matches!(other.txn(Txn::default()).await, Err(StoreError::Closed)));
    assert!(matches!(other.barrier().await, Err(StoreError::Closed)));
    assert!(matches!(other.watch(b"", 0), Err(StoreError::Closed)));
    Store::open(config(&dir.0)).await.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_or_foreign_directory_is_refused() {
    let dir = TempDir::new("it-newer");
    Store::open(config(&dir.0)).await.unwrap().shutdown().await;
    let format = dir.0.join("format");
    std::fs::write(&format, "skep-store 2\n").unwrap();
    let error = Store::open(config(&dir.0)).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerFormat { found: 2, supported: 1, .. }), "{error}");
    std::fs::write(&format, "something else\n").unwrap();
    assert!(matches!(Store::open(config(&dir.0)).await, Err(StoreError::Corrupt { .. })));
    std::fs::remove_file(&format).unwrap();
    assert!(matches!(Store::open(config(&dir.0)).await, Err(StoreError::Corrupt { .. })));
    std::fs::write(&format, "skep-store 1\n").unwrap();
    Store::open(config(&dir.0)).await.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reopening_after_checkpoints_and_purges() {
    let dir = TempDir::new("it-purge");
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    let mut store = Store::open(config(&dir.0)).await.unwrap();
    for round in 0..4 {
        for n in 0..150_u64 {
            let key = format!("key/{}", (n * 7 + round) % 40);
            if n % 5 == 4 {
                commit(&store, vec![Op::Delete { key: key.clone().into() }]).await;
                expected.remove(&key);
            } else {
                let revision = commit(&store, vec![put(&key, vec![n as u8; 4000])]).await;
                expected.insert(key, revision);
            }
        }
        let hash = store.state_hash();
        store.shutdown().await;
        store = Store::open(config(&dir.0)).await.unwrap();
        assert_eq!(store.state_hash(), hash, "round {round}");
        let found: BTreeMap<String, u64> = all(&store)
            .iter()
            .map(|kv| (String::from_utf8(kv.key.to_vec()).unwrap(), kv.mod_revision))
            .collect();
        assert_eq!(found, expected);
    }
    store.shutdown().await;
    // 2.4 MB went through the log; checkpoints let it go.
    let first = dir.0.join("log").join(format!("{:016x}.log", 1));
    assert!(dir.0.join("checkpoint").join("current").exists());
    assert!(!first.exists(), "the first segment is still there");
}

/// Increments a counter by compare-and-set.
async fn increment(store: &Store, key: &'static str) -> u64 {
    loop {
        let current = store.get(key.as_bytes());
        let (compare, n) = match &current {
            None => (Compare::Absent(key.into()), 0_u64),
            Some(kv) => {
                let n = u64::from_le_bytes(kv.value[..].try_into().unwrap());
                (Compare::ModRevision(key.into(), kv.mod_revision), n)
            }
        };
        let ops = vec![put(key, (n + 1).to_le_bytes().to_vec())];
        match store.txn(Txn { compare: vec![compare], ops }).await.unwrap() {
            TxnOutcome::Committed { .. } => return n + 1,
            TxnOutcome::Conflict { index, current: actual } => {
                assert_eq!(index, 0);
                let newer = actual.unwrap().mod_revision;
                assert!(current.is_none_or(|kv| kv.mod_revision < newer), "a conflict shows something newer");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn compare_and_set_counts_every_increment_once() {
    let dir = TempDir::new("it-cas");
    let store = Store::open(config(&dir.0)).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                for _ in 0..40 {
                    seen.push(increment(&store, "counter").await);
                    assert!(store.revision() >= *seen.last().unwrap());
                }
                seen
            })
        })
        .collect();
    let mut seen = Vec::new();
    for task in tasks {
        let mine = task.await.unwrap();
        assert!(mine.is_sorted(), "a writer's own increments are in order");
        seen.extend(mine);
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=320).collect::<Vec<_>>());
    store.shutdown().await;
}

/// Reads events up to a revision; checks order, and that the batch is one transaction's.
async fn collect(watcher: &mut Watcher, upto: u64) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        match watcher.next().await.unwrap() {
            WatchItem::Events { revision, events: batch } => {
                assert!(!batch.is_empty() && batch.iter().all(|event| event.revision == revision));
                assert!(
                    events.last().is_none_or(|last| last.revision < revision),
                    "in order, together, once"
                );
                events.extend(batch.iter().cloned());
                if revision >= upto {
                    return events;
                }
            }
            WatchItem::Progress(revision) => {
                if revision >= upto {
                    return events;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watches_have_neither_gap_nor_duplicate_under_concurrent_writes() {
    let dir = TempDir::new("it-watch");
    let store = Store::open(config(&dir.0)).await.unwrap();
    let writers: Vec<_> = (0..6_u64)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..60_u64 {
                    let key = format!("p{}/{}", writer % 3, n % 7);
                    let ops = match n % 4 {
                        3 => vec![Op::Delete { key: key.into() }],
                        2 => vec![put(&key, format!("{writer}.{n}")), put(&format!("q/{writer}"), "x")],
                        _ => vec![put(&key, format!("{writer}.{n}"))],
                    };
                    commit(&store, ops).await;
                }
            })
        })
        .collect();
    // Watchers begin at all times, at the past and at the present.
    let mut watchers = Vec::new();
    for n in 0..12_u64 {
        store.wait_revision(n * 10).await.unwrap();
        let after = if n % 2 == 0 { n * 3 } else { store.revision() };
        let prefix = ["", "p1/", "q/"][n as usize % 3];
        let mut watcher = store.watch(prefix.as_bytes(), after).unwrap();
        let asks = watcher.progress_handle();
        let (done, finish) = tokio::sync::oneshot::channel::<u64>();
        let task = tokio::spawn(async move {
            let mut seen = Vec::new();
            let mut finish = finish;
            let upto = loop {
                tokio::select! {
                    item = watcher.next() => if let WatchItem::Events { events, .. } = item.unwrap() { seen.extend(events.iter().cloned()) },
                    upto = &mut finish => break upto.unwrap(),
                }
            };
            watcher.progress_handle().request();
            seen.extend(collect(&mut watcher, upto).await);
            seen
        });
        watchers.push((prefix, after, done, task));
        asks.request();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let last = store.revision();
    let everything = {
        let mut watcher = store.watch(b"", 0).unwrap();
        collect(&mut watcher, last).await
    };
    let revisions: Vec<u64> = everything.iter().map(|event| event.revision).collect();
    assert!((1..=last).all(|revision| revisions.binary_search(&revision).is_ok()), "every revision is there");
    for (prefix, after, done, task) in watchers {
        done.send(last).unwrap();
        let seen = task.await.unwrap();
        let expected: Vec<Event> = everything
            .iter()
            .filter(|event| event.revision > after && event.key.starts_with(prefix.as_bytes()))
            .cloned()
            .collect();
        assert_eq!(seen, expected, "prefix {prefix:?} after {after}");
    }
    // Played on nothing, the events give the state.
    let mut state = BTreeMap::new();
    for event in everything {
        let prev: Option<&(Bytes, u64)> = state.get(&event.key);
        assert_eq!(prev.map(|(_, revision)| *revision), event.prev.as_ref().map(|kv| kv.mod_revision));
        match event.kind {
            EventKind::Put => drop(state.insert(event.key.clone(), (event.value.clone(), event.revision))),
            EventKind::Delete => drop(state.remove(&event.key)),
        }
    }
    let now: BTreeMap<Bytes, (Bytes, u64)> =
        all(&store).into_iter().map(|kv| (kv.key, (kv.value, kv.mod_revision))).collect();
    assert_eq!(state, now);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_replays_the_log_after_a_restart() {
    let dir = TempDir::new("it-replay");
    let store = Store::open(Config::new(&dir.0)).await.unwrap();
    for n in 0..20 {
        commit(&store, vec![put(&format!("k/{}", n % 3), n.to_string())]).await;
    }
    let mut watcher = store.watch(b"k/", 5).unwrap();
    let before = collect(&mut watcher, 20).await;
    store.shutdown().await;
    assert!(matches!(watcher.next().await, Err(WatchEnd::Closed)));
    let store = Store::open(Config::new(&dir.0)).await.unwrap();
    let after = collect(&mut store.watch(b"k/", 5).unwrap(), 20).await;
    assert_eq!(before, after);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_without_events() {
    let dir = TempDir::new("it-progress");
    let store = Store::open(config(&dir.0)).await.unwrap();
    let mut watcher = store.watch(b"mine/", 0).unwrap();
    commit(&store, vec![put("other", "x")]).await;
    assert!(watcher.try_next().unwrap().is_none(), "nobody asked");
    watcher.progress_handle().request();
    assert!(matches!(watcher.next().await.unwrap(), WatchItem::Progress(1)));
    commit(&store, vec![put("mine/a", "x")]).await;
    commit(&store, vec![put("other", "y")]).await;
    watcher.progress_handle().request();
    assert!(matches!(watcher.next().await.unwrap(), WatchItem::Events { revision: 2, .. }));
    assert!(matches!(watcher.next().await.unwrap(), WatchItem::Progress(3)));
    assert!(watcher.try_next().unwrap().is_none());
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_ends_slow_watches_and_old_reads_openly() {
    let dir = TempDir::new("it-compact");
    let store = Store::open(config(&dir.0)).await.unwrap();
    for n in 0..10 {
        commit(&store, vec![put("k", n.to_string())]).await;
    }
    let mut slow = store.watch(b"", 2).unwrap();
    let mut quick = store.watch(b"", 7).unwrap();
    store.compact(7).await.unwrap();
    let end = slow.next().await.unwrap_err();
    assert!(matches!(end, WatchEnd::Lagged(c) if c.asked == 2 && c.oldest == 7), "{end}");
    assert_eq!(slow.next().await.unwrap_err(), end, "and it stays ended");
    assert_eq!(collect(&mut quick, 10).await.len(), 3);
    assert!(matches!(store.watch(b"", 6), Err(StoreError::Compacted(c)) if c.oldest == 7));
    assert!(matches!(store.range(b"", b"", 0, Some(6)), Err(StoreError::Compacted(_))));
    assert_eq!(store.get_at(b"k", 6).unwrap_err().oldest, 7);
    assert_eq!(&store.get_at(b"k", 7).unwrap().unwrap().value[..], b"6");
    assert_eq!((store.oldest_revision(), store.revision()), (7, 10));
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_watcher_shares_the_value() {
    let dir = TempDir::new("it-shared");
    let store = Store::open(config(&dir.0)).await.unwrap();
    let (mut one, mut two) = (store.watch(b"", 0).unwrap(), store.watch(b"k", 0).unwrap());
    let value = Bytes::from(vec![1; 1000]);
    commit(&store, vec![put("k", value.clone())]).await;
    let (WatchItem::Events { events: a, .. }, WatchItem::Events { events: b, .. }) =
        (one.next().await.unwrap(), two.next().await.unwrap())
    else {
        panic!("events were due")
    };
    assert!(Arc::ptr_eq(&a, &b));
    assert_eq!(a[0].value.as_ptr(), value.as_ptr());
    assert_eq!(store.get(b"k").unwrap().value.as_ptr(), value.as_ptr());
    store.shutdown().await;
}
