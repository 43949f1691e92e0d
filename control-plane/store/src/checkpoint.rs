//! Checkpoints: the live keys at one revision, on disk in sled, brought up to date by writing what changed.
//!
//! A version is stored under `key ++ revision` (8 bytes, big-endian), so that writing a checkpoint overwrites nothing that the last
//! one needs. The file `current` says which revision counts; versions beyond it are remains of an unfinished checkpoint, and of a
//! key's versions up to it the last one holds. What it superseded is removed only after `current` is durable.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    codec::{self, Malformed, Reader, ValueCodec},
    error::StoreError,
    files::{io_error, replace_file, sync_dir},
    image::View,
    mvcc::{Dirty, Fingerprint, Machine},
    raft::{LogId, StoredMembership},
    shared::{Shared, State},
    types::{KeyValue, Revision},
};

const MAGIC: &[u8] = b"SKEPCKPT";
const VERSION: u32 = 1;
const TOMBSTONE: u8 = 0;
const VALUE: u8 = 1;
/// A database larger than this and than [`SLACK`] times what lives in it is written anew.
const SMALL: u64 = 32 << 20;
const SLACK: u64 = 4;
/// How often and how far apart opening a database is tried that is still being closed: ten seconds in all.
const LOCK_TRIES: u32 = 1000;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What the file `current` says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Current {
    /// Which database holds it: `db-<generation>`.
    generation: u64,
    codec: ValueCodec,
    fingerprint: Fingerprint,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl Current {
    /// Reads it from the checkpoint directory.
    pub(crate) fn read(dir: &Path) -> Result<Option<Current>, StoreError> {
        let path = dir.join("current");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error("read", &path, &e)),
        };
        Current::decode(&bytes).map(Some).map_err(|e| match e {
            Ok(found) => StoreError::NewerFormat { path: path.clone(), found, supported: VERSION },
            Err(malformed) => {
                StoreError::Corrupt { path: path.clone(), offset: 0, what: malformed.to_string() }
            }
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        codec::put_u32(&mut out, VERSION);
        codec::put_u32(&mut out, self.codec.id());
        let Fingerprint { revision, compacted, live, digest } = self.fingerprint;
        for n in [self.generation, revision, compacted, live, digest] {
            codec::put_u64(&mut out, n);
        }
        codec::put_opt_log_id(&mut out, self.applied.as_ref());
        codec::put_stored_membership(&mut out, &self.membership);
        let crc = crc32fast::hash(&out);
        codec::put_u32(&mut out, crc);
        out
    }

    /// `Err(Ok(version))` if it is of a newer version.
    fn decode(bytes: &[u8]) -> Result<Current, Result<u32, Malformed>> {
        let mut r = Reader(bytes);
        if r.take(MAGIC.len()).map_err(Err)? != MAGIC {
            return Err(Err(Malformed("checkpoint file")));
        }
        let version = r.u32().map_err(Err)?;
        if version > VERSION {
            return Err(Ok(version));
        }
        let (content, crc) = bytes.split_at(bytes.len().saturating_sub(4));
        if crc != crc32fast::hash(content).to_le_bytes() {
            return Err(Err(Malformed("checksum")));
        }
        let mut read = || {
            let codec = ValueCodec::from_id(r.u32()?).ok_or(Malformed("value codec"))?;
            let generation = r.u64()?;
            let fingerprint =
                Fingerprint { revision: r.u64()?, compacted: r.u64()?, live: r.u64()?, digest: r.u64()? };
            let applied = codec::opt_log_id(&mut r)?;
            let membership = codec::stored_membership(&mut r)?;
            Ok(Current { generation, codec, fingerprint, applied, membership })
        };
        read().map_err(Err)
    }
}

fn stored_key(key: &[u8], revision: Revision) -> Vec<u8> {
    [key, &revision.to_be_bytes()].concat()
}

fn split_key(stored: &[u8]) -> Option<(&[u8], Revision)> {
    let (key, revision) = stored.split_last_chunk::<8>()?;
    Some((key, Revision::from_be_bytes(*revision)))
}

fn stored_value(kv: &KeyValue, codec: ValueCodec) -> Vec<u8> {
    let value = codec.encode(&kv.value);
    let mut out = Vec::with_capacity(9 + value.len());
    out.push(VALUE);
    codec::put_u64(&mut out, kv.create_revision);
    out.extend_from_slice(&value);
    out
}

/// The checkpoint directory. Every method blocks on the disk.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    dir: PathBuf,
    cache_bytes: u64,
    current: Option<Current>,
    db: Option<sled::Db>,
    /// Superseded versions, to be removed with the next checkpoint.
    stale: Vec<Vec<u8>>,
    /// Deletions whose superseded versions are gone, to be removed with the next checkpoint; until those removals are durable the
    /// deletion must stay, or the key would come back.
    tombstones: Vec<Vec<u8>>,
    /// The database holds versions beyond `current`, from a checkpoint that was interrupted.
    unfinished: bool,
    /// The last attempt did not succeed. What it left behind is not known, so the next one begins a database of its own.
    failed: bool,
    /// Generation of the next database; never used twice, not even after a failure.
    next_generation: u64,
}

impl Checkpoints {
    /// Reads the checkpoint in `dir`, if there is one, into a state.
    pub(crate) fn open(
        dir: &Path,
        cache_bytes: u64,
        history_limit: usize,
    ) -> Result<(Checkpoints, State), StoreError> {
        let mut checkpoints = Checkpoints {
            dir: dir.to_path_buf(),
            cache_bytes,
            current: None,
            db: None,
            stale: Vec::new(),
            tombstones: Vec::new(),
            unfinished: false,
            failed: false,
            next_generation: 1,
        };
        let path = dir.join("current");
        let corrupt = |what: String| StoreError::Corrupt { path: path.clone(), offset: 0, what };
        let current = Current::read(dir)?;
        checkpoints.next_generation = current.as_ref().map_or(1, |current| current.generation + 1);
        checkpoints.current = current;
        checkpoints.remove_other_generations()?;
        let Some(current) = checkpoints.current.clone() else {
            let (machine, membership) = (Machine::new(history_limit), StoredMembership::default());
            return Ok((checkpoints, State { machine, applied: None, membership }));
        };
        let db_path = checkpoints.db_path(current.generation);
        if !db_path.exists() {
            return Err(corrupt(format!("names {}, which is missing", db_path.display())));
        }
        let Fingerprint { revision, compacted, .. } = current.fingerprint;
        let kvs = checkpoints.load(&current)?;
        // Closed until it is needed: an idle store keeps neither its cache nor its threads.
        checkpoints.db = None;
        let machine = Machine::restore(history_limit, revision, compacted, kvs);
        if machine.fingerprint() != current.fingerprint {
            let what = format!(
                "its digest says {:?}, the database holds {:?}",
                current.fingerprint,
                machine.fingerprint()
            );
            return Err(StoreError::Corrupt { path: db_path, offset: 0, what });
        }
        Ok((checkpoints, State { machine, applied: current.applied, membership: current.membership }))
    }

    /// What the durable checkpoint covers.
    pub(crate) fn current(&self) -> Option<&Current> {
        self.current.as_ref()
    }

    fn db_path(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("db-{generation}"))
    }

    fn db_error(&self, action: &'static str, generation: u64, error: &sled::Error) -> StoreError {
        StoreError::Io { action, path: self.db_path(generation), reason: error.to_string() }
    }

    /// Databases that `current` does not name are remains of an interrupted rewrite.
    fn remove_other_generations(&self) -> Result<(), StoreError> {
        let keep = self.current.as_ref().map(|current| format!("db-{}", current.generation));
        for item in fs::read_dir(&self.dir).map_err(|e| io_error("list", &self.dir, &e))? {
            let item = item.map_err(|e| io_error("list", &self.dir, &e))?;
            let name = item.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("db-") && Some(name.as_ref()) != keep.as_deref() {
                fs::remove_dir_all(item.path()).map_err(|e| io_error("remove", &item.path(), &e))?;
            }
        }
        Ok(())
    }

    fn database(&mut self, generation: u64) -> Result<sled::Db, StoreError> {
        if let Some(db) = &self.db {
            return Ok(db.clone());
        }
        let config = sled::Config::new()
            .path(self.db_path(generation))
            .cache_capacity(self.cache_bytes)
            .flush_every_ms(None);
        let mut tries = 0;
        let db = loop {
            match config.open() {
                Ok(db) => break db,
                // Threads of sled's hold a database for a moment after it was closed here. Nobody else can: the data directory is
                // locked.
                Err(sled::Error::Io(e)) if tries < LOCK_TRIES && e.to_string().contains("acquire lock") => {
                    tries += 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(e) => return Err(self.db_error("open", generation, &e)),
            }
        };
        self.db = Some(db.clone());
        Ok(db)
    }

    /// Live keys of the checkpoint, in order. Notes what is to be removed.
    fn load(&mut self, current: &Current) -> Result<Vec<KeyValue>, StoreError> {
        let generation = current.generation;
        let path = self.db_path(generation);
        let corrupt = |what: &str| StoreError::Corrupt { path: path.clone(), offset: 0, what: what.into() };
        let db = self.database(generation)?;
        let mut found: BTreeMap<Bytes, (Revision, Option<KeyValue>)> = BTreeMap::new();
        for item in db.iter() {
            let (stored, value) = item.map_err(|e| self.db_error("read", generation, &e))?;
            let (key, revision) = split_key(&stored).ok_or_else(|| corrupt("a key without revision"))?;
            if revision > current.fingerprint.revision {
                self.unfinished = true;
                continue;
            }
            let key = Bytes::copy_from_slice(key);
            let mut r = Reader(&value);
            let read = match r.u8().map_err(|e| corrupt(&e.to_string()))? {
                TOMBSTONE => None,
                VALUE => {
                    let read = r.u64().and_then(|create| Ok((create, current.codec.decode(r.0)?)));
                    let (create_revision, value) = read.map_err(|e| corrupt(&e.to_string()))?;
                    Some(KeyValue { key: key.clone(), value, create_revision, mod_revision: revision })
                }
                _ => return Err(corrupt("a value of unknown kind")),
            };
            // Revisions of one key come in rising order.
            if let Some((old, was)) = found.insert(key.clone(), (revision, read)) {
                let list = if was.is_some() { &mut self.stale } else { &mut self.tombstones };
                list.push(stored_key(&key, old));
            }
        }
        let mut kvs = Vec::with_capacity(found.len());
        for (key, (revision, kv)) in found {
            match kv {
                Some(kv) => kvs.push(kv),
                None => self.tombstones.push(stored_key(&key, revision)),
            }
        }
        Ok(kvs)
    }

    /// Makes a checkpoint of the present state. Whatever fails, the last one stays good and nothing is forgotten.
    pub(crate) fn write(&mut self, shared: &Arc<Shared>) -> Result<(), StoreError> {
        let (view, (dirty, live_bytes)) =
            View::with(shared, |machine| (machine.take_dirty(), machine.live_bytes()));
        let rewrite = self.failed || self.wants_rewrite(live_bytes);
        // Until it has succeeded, also if it panics.
        self.failed = true;
        let result = if rewrite { self.write_anew(&view) } else { self.write_changes(&view, &dirty) };
        match &result {
            Ok(()) => self.failed = false,
            Err(_) => {
                self.db = None;
                shared.state.write().machine.return_dirty(dirty);
            }
        }
        result
    }

    /// Makes a checkpoint of a state that has nothing to do with the last one.
    pub(crate) fn replace(&mut self, shared: &Arc<Shared>) -> Result<(), StoreError> {
        let (view, _) = View::with(shared, Machine::take_dirty);
        self.failed = true;
        self.write_anew(&view)?;
        self.failed = false;
        Ok(())
    }

    /// Lets go of the database's cache and threads until the next checkpoint.
    pub(crate) fn rest(&mut self) {
        self.db = None;
    }

    fn wants_rewrite(&self, live_bytes: u64) -> bool {
        let Some(current) = &self.current else { return true };
        let size = dir_size(&self.db_path(current.generation));
        size > SMALL && size > live_bytes.saturating_mul(SLACK)
    }

    fn write_changes(&mut self, view: &View, dirty: &Dirty) -> Result<(), StoreError> {
        let Some(current) = self.current.clone() else { return self.write_anew(view) };
        let generation = current.generation;
        let db = self.database(generation)?;
        let path = self.db_path(generation);
        let error =
            |e: sled::Error| StoreError::Io { action: "write", path: path.clone(), reason: e.to_string() };
        if self.unfinished {
            remove_beyond(&db, current.fingerprint.revision).map_err(error)?;
        }
        let mut stale = Vec::new();
        let mut tombstones = Vec::new();
        for (key, on_disk) in dirty {
            match view.get(key)? {
                Some(kv) => {
                    let stored = stored_key(key, kv.mod_revision);
                    db.insert(stored, stored_value(&kv, current.codec)).map_err(error)?;
                }
                None if on_disk.is_some() => {
                    let stored = stored_key(key, view.revision());
                    db.insert(stored.as_slice(), &[TOMBSTONE]).map_err(error)?;
                    tombstones.push(stored);
                }
                None => {}
            }
            stale.extend(on_disk.map(|revision| stored_key(key, revision)));
        }
        db.flush().map_err(error)?;
        self.sync(generation)?;
        self.commit(view, generation)?;
        self.unfinished = false;
        // From here on the new checkpoint counts. Failing to clean up has the next one begin anew.
        if self.stale.is_empty() {
            stale.append(&mut self.tombstones);
            self.tombstones = tombstones;
        } else {
            // Found when opening: not known to be gone, so their tombstones stay one round more.
            stale.append(&mut self.stale);
            self.tombstones.append(&mut tombstones);
        }
        for stored in stale {
            db.remove(stored).map_err(error)?;
        }
        Ok(())
    }

    /// Writes everything into a database of its own.
    fn write_anew(&mut self, view: &View) -> Result<(), StoreError> {
        let generation = self.next_generation;
        self.next_generation += 1;
        self.db = None;
        if let Err(error) = self.fill(view, generation) {
            self.db = None;
            // It may be a full disk that stopped it; `current` does not name it.
            let _ = fs::remove_dir_all(self.db_path(generation));
            return Err(error);
        }
        self.commit(view, generation)?;
        self.unfinished = false;
        self.stale.clear();
        self.tombstones.clear();
        self.remove_other_generations()
    }

    fn fill(&mut self, view: &View, generation: u64) -> Result<(), StoreError> {
        let db = self.database(generation)?;
        let mut after: Option<Bytes> = None;
        loop {
            let kvs = view.walk(after.as_deref())?;
            let Some(last) = kvs.last() else { break };
            after = Some(last.key.clone());
            for kv in &kvs {
                let stored = stored_key(&kv.key, kv.mod_revision);
                db.insert(stored, stored_value(kv, ValueCodec::Identity))
                    .map_err(|e| self.db_error("write", generation, &e))?;
            }
        }
        db.flush().map_err(|e| self.db_error("flush", generation, &e))?;
        self.sync(generation)
    }

    /// sled's flush hands its data to the operating system and no further.
    fn sync(&self, generation: u64) -> Result<(), StoreError> {
        let path = self.db_path(generation);
        sync_tree(&path).and_then(|()| sync_dir(&self.dir)).map_err(|e| io_error("sync", &path, &e))
    }

    fn commit(&mut self, view: &View, generation: u64) -> Result<(), StoreError> {
        let current = Current {
            generation,
            codec: ValueCodec::Identity,
            fingerprint: view.fingerprint,
            applied: view.applied,
            membership: view.membership.clone(),
        };
        replace_file(&self.dir.join("current"), &current.encode())?;
        self.current = Some(current);
        Ok(())
    }
}

fn remove_beyond(db: &sled::Db, revision: Revision) -> Result<(), sled::Error> {
    for stored in db.iter().keys() {
        let stored = stored?;
        if split_key(&stored).is_some_and(|(_, found)| found > revision) {
            db.remove(stored)?;
        }
    }
    Ok(())
}

fn sync_tree(path: &Path) -> std::io::Result<()> {
    for item in fs::read_dir(path)? {
        let item = item?;
        if item.file_type()?.is_dir() {
            sync_tree(&item.path())?;
        } else {
            match File::open(item.path()) {
                Ok(file) => file.sync_data()?,
                // sled's own threads replace files of theirs.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }
    sync_dir(path)
}

fn dir_size(path: &Path) -> u64 {
    let Ok(items) = fs::read_dir(path) else { return 0 };
    let size = |item: fs::DirEntry| match item.metadata() {
        Ok(meta) if meta.is_dir() => dir_size(&item.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    items.flatten().map(size).sum()
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
