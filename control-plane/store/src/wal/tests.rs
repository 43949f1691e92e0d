use std::{fs, os::unix::fs::FileExt};

use bytes::Bytes;
use openraft::{CommittedLeaderId, EntryPayload, storage::RaftLogStorageExt};

use super::{format::*, *};
use crate::{
    command::{Batch, Command},
    testing::{Rng, TempDir},
    types::{Op, Txn},
};

const SEGMENT: u64 = 64 << 10;

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

fn entry(index: u64, size: usize) -> Entry {
    let op = Op::Put { key: Bytes::from(format!("key {index}")), value: vec![index as u8; size].into() };
    let batch = Batch(vec![Command::Txn(Txn { compare: vec![], ops: vec![op] })].into());
    Entry { log_id: id(index), payload: EntryPayload::Normal(batch) }
}

fn frame(sequence: u64, number: u64, index: u64) -> Vec<u8> {
    let mut buffer = begin_frame();
    put_entry(&mut buffer, &entry(index, 30), ValueCodec::Identity);
    put_vote(&mut buffer, &Vote::new(number, 1));
    end_frame(&mut buffer, sequence, number);
    buffer
}

/// A segment of frames 5, 6, 7 within zeros; answers where each begins.
fn segment() -> (Header, Vec<u8>, Vec<usize>) {
    let header = Header { codec: ValueCodec::Identity, sequence: 3, first_frame: 5, prev: Some(id(9)) };
    let mut data = header.encode().to_vec();
    let mut starts = Vec::new();
    for number in 5..8 {
        starts.push(data.len());
        data.extend(frame(3, number, number));
    }
    starts.push(data.len());
    data.resize(4096, 0);
    (header, data, starts)
}

#[test]
fn headers() {
    let (header, data, _) = segment();
    assert_eq!(Header::decode(&data), Ok(header));
    let first = Header { prev: None, ..header };
    assert_eq!(Header::decode(&first.encode()), Ok(first));
    for at in 0..HEADER {
        let mut bad = data.clone();
        bad[at] ^= 4;
        assert!(Header::decode(&bad).is_err(), "byte {at}");
        assert!(Header::decode(&data[..at]).is_err());
    }
    let mut newer = data.clone();
    newer[8] = 2;
    assert_eq!(Header::decode(&newer), Err(BadHeader::Newer(2)));
}

#[test]
fn a_torn_last_frame_is_cut_off_wherever_it_tore() {
    let (header, data, starts) = segment();
    assert_eq!(scan(&data, &header).unwrap().bodies.len(), 3);
    let (last, end) = (starts[2], starts[3]);
    for written in 0..end - last {
        // Pages go to disk in any order: a prefix, or a suffix, of the last write.
        let mut prefix = data.clone();
        prefix[last + written..end].fill(0);
        let mut suffix = data.clone();
        suffix[last..end - written].fill(0);
        for torn in [prefix, suffix] {
            let whole = torn == data;
            let found = scan(&torn, &header).unwrap();
            assert_eq!(found.bodies.len(), if whole { 3 } else { 2 }, "{written} bytes");
            assert!(whole || found.end == last);
        }
    }
}

#[test]
fn damage_before_the_last_frame_is_an_error() {
    let (header, data, starts) = segment();
    for at in starts[0]..starts[2] {
        let mut bad = data.clone();
        bad[at] ^= 1;
        let body_end = if at < starts[1] { starts[1] } else { starts[2] };
        let start = if at < starts[1] { starts[0] } else { starts[1] };
        match scan(&bad, &header) {
            // Only what is no part of a frame may differ: padding, and the word that is not used.
            Ok(found) => {
                assert_eq!(found.bodies.len(), 3, "byte {at}");
                assert!(at >= body_end - 8 || (start + 20..start + 24).contains(&at), "byte {at}");
            }
            Err(offset) => assert_eq!(offset, start, "byte {at}"),
        }
    }
    // A page of zeros in the middle.
    let mut hole = data.clone();
    hole[starts[1]..starts[2]].fill(0);
    assert_eq!(scan(&hole, &header), Err(starts[1]));
}

#[test]
fn remains_of_an_earlier_use_are_no_frames() {
    let (header, mut data, starts) = segment();
    let mut at = starts[3] + 16;
    for (sequence, number) in [(2, 8), (2, 9), (2, 3), (3, 4)] {
        let old = frame(sequence, number, number);
        data[at..at + old.len()].copy_from_slice(&old);
        at += old.len();
    }
    let found = scan(&data, &header).unwrap();
    assert_eq!((found.bodies.len(), found.end, found.torn), (3, starts[3], false));
}

#[test]
fn arbitrary_bytes_do_no_harm() {
    let (header, data, _) = segment();
    let mut rng = Rng(42);
    for _ in 0..3000 {
        let mut bad = data.clone();
        for _ in 0..1 + rng.below(8) {
            let at = rng.below(700) as usize;
            bad[at] = rng.next() as u8;
        }
        if let (Ok(found), Ok(_)) = (scan(&bad, &header), Header::decode(&bad)) {
            for body in found.bodies {
                assert!(record(&bad[body], ValueCodec::Identity).is_ok());
            }
        }
        let start = rng.below(700) as usize;
        let _ = record(&bad[start..], ValueCodec::Identity);
    }
}

fn log_files(dir: &TempDir) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|item| item.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "log"))
        .collect();
    files.sort();
    files
}

async fn append(log: &mut Log, range: std::ops::Range<u64>) {
    for index in range {
        log.blocking_append([entry(index, 1000)]).await.unwrap();
    }
}

async fn indexes(log: &mut Log) -> Vec<u64> {
    let entries = log.try_get_log_entries(0..).await.unwrap();
    for read in &entries {
        assert_eq!(*read, entry(read.log_id.index, 1000));
    }
    entries.iter().map(|entry| entry.log_id.index).collect()
}

fn reopen(log: Log, dir: &TempDir) -> Log {
    log.close();
    Log::open(dir.path(), SEGMENT, None).unwrap()
}

#[tokio::test]
async fn the_log_survives_reopening_rotation_truncation_and_purge() {
    let dir = TempDir::new("wal-reopen");
    let mut log = Log::open(dir.path(), SEGMENT, None).unwrap();
    log.save_vote(&Vote::new_committed(4, 1)).await.unwrap();
    append(&mut log, 0..200).await;
    assert!(log_files(&dir).len() >= 3);
    log.applied(150);
    assert_eq!(indexes(&mut log).await, (0..200).collect::<Vec<_>>(), "from memory and from files");
    let mut log = reopen(log, &dir);
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(4, 1)));
    assert_eq!(indexes(&mut log).await, (0..200).collect::<Vec<_>>());

    log.truncate(id(180)).await.unwrap();
    append(&mut log, 180..190).await;
    assert_eq!(indexes(&mut log).await, (0..190).collect::<Vec<_>>());
    let mut log = reopen(log, &dir);
    assert_eq!(indexes(&mut log).await, (0..190).collect::<Vec<_>>());

    // Purged, but not in a checkpoint: gone for raft, yet there after a restart.
    log.purge(id(120)).await.unwrap();
    assert_eq!(indexes(&mut log).await, (121..190).collect::<Vec<_>>());
    let mut log = reopen(log, &dir);
    assert_eq!(indexes(&mut log).await, (0..190).collect::<Vec<_>>());

    log.checkpointed(120);
    let before = log_files(&dir).len();
    log.purge(id(150)).await.unwrap();
    let mut log = reopen(log, &dir);
    assert!(log_files(&dir).len() < before);
    let left = indexes(&mut log).await;
    assert!(left[0] > 0 && left[0] <= 121 && *left.last().unwrap() == 189, "{left:?}");
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(id(left[0] - 1)));
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(4, 1)));
    append(&mut log, 190..400).await;
    // Opened with a checkpoint, whole segments that it covers are not even read.
    log.close();
    fs::write(&log_files(&dir)[0], b"unreadable").unwrap();
    let mut log = Log::open(dir.path(), SEGMENT, Some(300)).unwrap();
    let left = indexes(&mut log).await;
    assert!(left[0] > 190 && left[0] <= 301 && *left.last().unwrap() == 399, "{left:?}");
    log.checkpointed(399);
    log.purge(id(399)).await.unwrap();
    let mut log = reopen(log, &dir);
    assert_eq!(log_files(&dir).len(), 1);
    append(&mut log, 400..401).await;
    log.close();
}

#[tokio::test]
async fn the_log_goes_on_after_the_hole_an_installed_snapshot_leaves() {
    let dir = TempDir::new("wal-hole");
    let mut log = Log::open(dir.path(), SEGMENT, None).unwrap();
    append(&mut log, 0..5).await;
    log.purge(id(1000)).await.unwrap();
    append(&mut log, 1001..1003).await;
    let mut log = reopen(log, &dir);
    assert_eq!(indexes(&mut log).await, [1001, 1002]);
    assert_eq!(log.get_log_state().await.unwrap().last_purged_log_id, Some(id(1000)));
    log.close();
}

#[tokio::test]
async fn an_entry_larger_than_a_segment_gets_one_of_its_own() {
    let dir = TempDir::new("wal-large");
    let mut log = Log::open(dir.path(), SEGMENT, None).unwrap();
    let sizes = [10, 3 * SEGMENT as usize, 10];
    for (index, size) in sizes.iter().enumerate() {
        log.blocking_append([entry(index as u64, *size)]).await.unwrap();
    }
    let mut log = reopen(log, &dir);
    let entries = log.try_get_log_entries(0..).await.unwrap();
    let expected: Vec<_> = sizes.iter().enumerate().map(|(i, size)| entry(i as u64, *size)).collect();
    assert_eq!(entries, expected);
    log.close();
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_written_over() {
    let dir = TempDir::new("wal-torn");
    let mut log = Log::open(dir.path(), SEGMENT, None).unwrap();
    append(&mut log, 0..10).await;
    log.close();
    let path = log_files(&dir).pop().unwrap();
    let data = fs::read(&path).unwrap();
    let header = Header::decode(&data).unwrap();
    let last = scan(&data, &header).unwrap().bodies.pop().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xee; 100], last.start as u64 + 500).unwrap();
    let mut log = Log::open(dir.path(), SEGMENT, None).unwrap();
    assert_eq!(indexes(&mut log).await, (0..9).collect::<Vec<_>>());
    append(&mut log, 9..12).await;
    let mut log = reopen(log, &dir);
    assert_eq!(indexes(&mut log).await, (0..12).collect::<Vec<_>>());
    log.close();
}

#[tokio::test]
async fn damaged_missing_and_newer_segments_are_errors() {
    let dir = TempDir::new("wal-damage");
    let mut log = Log::open(dir.path(), SEGMENT, None).unwrap();
    append(&mut log, 0..200).await;
    log.close();
    let files = log_files(&dir);
    assert!(files.len() >= 3);
    let damage = |path: &Path, offset: u64, bytes: &[u8]| {
        let original = fs::read(path).unwrap();
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(bytes, offset).unwrap();
        let error = Log::open(dir.path(), SEGMENT, None).map(drop).unwrap_err();
        fs::write(path, original).unwrap();
        error
    };
    // In the middle of the log, in the last frame of a segment that is not the last, and in headers.
    let middle = damage(&files[0], 5000, &[0xee; 64]);
    assert!(matches!(middle, StoreError::Corrupt { .. }), "{middle}");
    let data = fs::read(&files[0]).unwrap();
    let end = scan(&data, &Header::decode(&data).unwrap()).unwrap().bodies.pop().unwrap().end;
    let tail = damage(&files[0], end as u64 - 40, &[0xee; 8]);
    assert!(matches!(tail, StoreError::Corrupt { .. }), "{tail}");
    let head = damage(&files[1], 20, &[0xee; 8]);
    assert!(matches!(head, StoreError::Corrupt { .. }), "{head}");
    let newer = damage(files.last().unwrap(), 8, &[9]);
    assert!(matches!(newer, StoreError::NewerFormat { found: 9, supported: 1, .. }), "{newer}");
    let away = dir.path().join("away");
    fs::rename(&files[1], &away).unwrap();
    let missing = Log::open(dir.path(), SEGMENT, None).map(drop).unwrap_err();
    assert!(matches!(missing, StoreError::Corrupt { .. }), "{missing}");
    fs::rename(&away, &files[1]).unwrap();
    let mut log = Log::open(dir.path(), SEGMENT, None).unwrap();
    assert_eq!(indexes(&mut log).await.len(), 200);
    log.close();
}
