//! What survives when the process dies at any instant, and when the disk gives out. The writers are processes of their own: this
//! binary again, told by its environment.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

mod common;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use common::TempDir;
use skep_store::{Config, Op, Store, StoreError, Txn, TxnOutcome};

const DIR: &str = "SKEP_STORE_TEST_DIR";
const ROLE: &str = "SKEP_STORE_TEST_ROLE";
/// How often the child is killed: in the gate, and with `cargo xtask test --long`.
const KILLS: (u64, u64) = (20, 200);
const WRITERS: u64 = 8;

const TESTS: [(&str, fn()); 2] = [
    ("no_acknowledged_write_is_lost_by_kill", no_acknowledged_write_is_lost_by_kill),
    ("a_failing_disk_stops_writes_openly", a_failing_disk_stops_writes_openly),
];

/// A harness as small as the two tests need, because a child must be no test.
fn main() {
    if let (Some(dir), Ok(role)) = (std::env::var_os(DIR), std::env::var(ROLE)) {
        let dir = PathBuf::from(dir);
        return match role.as_str() {
            "writer" => runtime().block_on(writer(&dir)),
            _ => runtime().block_on(limited(&dir)),
        };
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if has("--list") {
        if !has("--ignored") {
            TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return;
    }
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    for (name, test) in TESTS {
        let wanted =
            |filter: &&String| if has("--exact") { *filter == name } else { name.contains(filter.as_str()) };
        if filters.is_empty() || filters.iter().any(wanted) {
            test();
            println!("test {name} ... ok");
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Small enough that every life of the child meets rotation, checkpoints and purge.
fn config(dir: &Path) -> Config {
    Config { segment_bytes: 128 << 10, checkpoint_bytes: 256 << 10, ..Config::new(dir) }
}

fn put(key: String, value: Vec<u8>) -> Txn {
    Txn { compare: vec![], ops: vec![Op::Put { key: key.into(), value: value.into() }] }
}

/// Value of a writer's `n`th put: the number, then filling.
fn value(n: u64) -> Vec<u8> {
    let mut value = n.to_le_bytes().to_vec();
    value.resize(8 + (n % 1500) as usize, n as u8);
    value
}

fn number(bytes: &Bytes) -> u64 {
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes[..], value(n)[..], "a value came back damaged");
    n
}

/// Writes until killed. Says on its output, per writer, what was acknowledged.
async fn writer(dir: &Path) {
    let store = Store::open(config(dir)).await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel::<(u64, u64, u64)>();
    for writer in 0..WRITERS {
        let (store, tell) = (store.clone(), tell.clone());
        tokio::spawn(async move {
            let key = |n: u64| format!("w{writer}/{}", n % 10);
            let start =
                (0..10).filter_map(|n| store.get(key(n).as_bytes())).map(|kv| number(&kv.value) + 1).max();
            for n in start.unwrap_or(0).. {
                let TxnOutcome::Committed { revision } = store.txn(put(key(n), value(n))).await.unwrap()
                else {
                    panic!("a put without conditions cannot conflict")
                };
                tell.send((writer, n, revision)).unwrap();
            }
        });
    }
    let mut out = std::io::stdout().lock();
    while let Some((writer, n, revision)) = told.recv().await {
        writeln!(out, "{writer} {n} {revision}").unwrap();
        out.flush().unwrap();
    }
}

fn spawn(mut command: Command, dir: &Path, role: &str) -> Child {
    command.env(DIR, dir).env(ROLE, role).stdout(Stdio::piped()).spawn().unwrap()
}

fn no_acknowledged_write_is_lost_by_kill() {
    let dir = TempDir::new("crash-kill");
    let mut acknowledged: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let kills = if std::env::var_os("SKEP_TEST_LONG").is_some() { KILLS.1 } else { KILLS.0 };
    for life in 0..kills {
        let mut child = spawn(Command::new(std::env::current_exe().unwrap()), &dir.0, "writer");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut note = |line: String| {
            let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
            // The kill may cut the last line short.
            if let [writer, n, revision] = numbers[..] {
                let last = acknowledged.entry(writer).or_insert((n, revision));
                *last = (*last).max((n, revision));
            }
        };
        // Dies at any instant: in its first writes, in checkpoints, in rotation.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        for _ in 0..1 + (seed >> 33) % 1500 {
            note(lines.next().unwrap().unwrap());
        }
        std::thread::sleep(Duration::from_micros((seed >> 20) % 3000));
        child.kill().unwrap();
        // What it said before it died counts too, but for a line cut short.
        let mut rest: Vec<String> = lines.map_while(Result::ok).collect();
        rest.pop();
        rest.into_iter().for_each(&mut note);
        child.wait().unwrap();
        runtime().block_on(async {
            let store = Store::open(config(&dir.0)).await.unwrap();
            for (writer, (n, revision)) in &acknowledged {
                let kv = store.get(format!("w{writer}/{}", n % 10).as_bytes());
                let kv = kv.unwrap_or_else(|| panic!("life {life}: put {n} of writer {writer} is lost"));
                let found = number(&kv.value);
                // Later puts of that key may have been acknowledged without its being heard.
                let right = found >= *n && found % 10 == *n % 10;
                assert!(right, "life {life}: writer {writer} put {n}, found {found}");
                assert!(kv.mod_revision >= *revision && store.revision() >= *revision);
            }
            store.shutdown().await;
        });
    }
    assert_eq!(acknowledged.len() as u64, WRITERS, "every writer got a turn");
}

/// Runs under a limit on the size of files: the system refuses what goes beyond, as a full disk does.
async fn limited(dir: &Path) {
    let store = Store::open(config(dir)).await.unwrap();
    for n in 0..20 {
        store.txn(put(format!("small/{n}"), value(n))).await.unwrap();
        println!("{n}");
    }
    // Larger than any file may become.
    let refused = store.txn(put("large".into(), vec![1; 4 << 20])).await;
    assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    println!("refused");
    for n in 0..3 {
        let refused = store.txn(put(format!("late/{n}"), value(n))).await;
        assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    }
    assert!(store.barrier().await.is_err(), "no linearizable read either");
    assert_eq!(number(&store.get(b"small/19").unwrap().value), 19, "what is there can be read");
    println!("done");
    store.shutdown().await;
}

fn a_failing_disk_stops_writes_openly() {
    let dir = TempDir::new("crash-limit");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\""]).arg(std::env::current_exe().unwrap());
    let output = spawn(command, &dir.0, "limited").wait_with_output().unwrap();
    assert!(output.status.success(), "the child failed");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.ends_with("19\nrefused\ndone\n"), "{said}");
    runtime().block_on(async {
        let store = Store::open(config(&dir.0)).await.unwrap();
        for n in 0..20 {
            assert_eq!(number(&store.get(format!("small/{n}").as_bytes()).unwrap().value), n);
        }
        let others = store.range(b"", b"", 0, None).unwrap().count;
        assert_eq!(others, 20, "nothing that was refused came back");
        store.txn(put("after".into(), value(1))).await.unwrap();
        store.shutdown().await;
    });
}
