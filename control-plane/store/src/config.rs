//! Where the store lives and how it is tuned.

use std::{path::PathBuf, time::Duration};

/// Settings of a store. [`Config::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory; created if missing. One process at a time may have it open.
    pub dir: PathBuf,
    /// A checkpoint is made when the log has grown by so many bytes since the last one. Default 32 MiB.
    pub checkpoint_bytes: u64,
    /// A checkpoint is made at least this often while there are changes. Default 5 minutes.
    pub checkpoint_interval: Duration,
    /// Size that a log segment is given when it is created, in bytes. Default 16 MiB.
    pub segment_bytes: u64,
    /// Upper bound of the memory that past versions and events take, in bytes; beyond it the oldest history is dropped as though
    /// compacted. Default 64 MiB.
    pub history_bytes: usize,
    /// Cache of the checkpoint database, in bytes. Default 8 MiB.
    pub checkpoint_cache_bytes: u64,
}

impl Config {
    /// Defaults for a store in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Config {
        Config {
            dir: dir.into(),
            checkpoint_bytes: 32 << 20,
            checkpoint_interval: Duration::from_secs(300),
            segment_bytes: 16 << 20,
            history_bytes: 64 << 20,
            checkpoint_cache_bytes: 8 << 20,
        }
    }
}
