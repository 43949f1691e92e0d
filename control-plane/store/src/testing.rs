//! What the tests of several modules need.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::{
    command::Command,
    types::{Compare, Op, Revision, Txn},
};

/// xorshift64*: the same numbers for the same seed, everywhere.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }
}

fn random_key(rng: &mut Rng) -> Bytes {
    // Some keys are prefixes of others, and some end in what looks like a revision.
    let n = rng.below(12);
    let mut key = format!("k{}", n % 6).into_bytes();
    if n >= 6 {
        key.extend_from_slice(&n.to_be_bytes());
    }
    key.into()
}

/// A command over few keys, so that they meet.
pub(crate) fn random_command(rng: &mut Rng, revision: Revision) -> Command {
    if rng.below(30) == 0 {
        return Command::Compact { before: rng.below(revision + 2) };
    }
    let mut txn = Txn::default();
    if rng.below(3) == 0 {
        let key = random_key(rng);
        txn.compare.push(match rng.below(3) {
            0 => Compare::Absent(key),
            1 => Compare::Exists(key),
            _ => Compare::ModRevision(key, revision.saturating_sub(rng.below(4))),
        });
    }
    for _ in 0..rng.below(4) {
        let key = random_key(rng);
        if txn.ops.iter().any(|op| *op.key() == key) {
            continue;
        }
        txn.ops.push(if rng.below(3) == 0 {
            Op::Delete { key }
        } else {
            let len = if rng.below(20) == 0 { 5000 } else { rng.below(20) } as usize;
            Op::Put { key, value: vec![rng.next() as u8; len].into() }
        });
    }
    Command::Txn(txn)
}

/// A directory that is removed with this.
pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    pub(crate) fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("skep-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How large a sample is: `gate` in the gate, `long` with `cargo xtask test --long`.
pub(crate) fn sample(gate: u64, long: u64) -> u64 {
    if std::env::var_os("SKEP_TEST_LONG").is_some() { long } else { gate }
}
