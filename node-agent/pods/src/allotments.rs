//! What each pod of this node was given, on disk: a pod that was taken stays taken, and a change of size that was agreed
//! to goes on, whenever this process is killed.
//!
//! One file a pod, in its directory. A file is written whole, synced and renamed into place.

use crate::core::allot::{FORMAT, Record, Told};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE: &str = "given.json";

/// The records of all pods. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Allotments {
    dir: PathBuf,
    records: Arc<Mutex<HashMap<String, Record>>>,
}

fn read(path: &Path) -> io::Result<Option<Record>> {
    let bytes = match fs::read(path) {
        Ok(b) => b,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let r: Record = serde_json::from_slice(&bytes)?;
    if r.format != FORMAT {
        return Err(io::Error::other(format!("format {} is not known", r.format)));
    }
    Ok(Some(r))
}

fn write(path: &Path, r: &Record) -> io::Result<()> {
    let unfinished = path.with_extension("tmp");
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(&serde_json::to_vec(r)?)?;
    file.sync_data()?;
    fs::rename(unfinished, path)
}

impl Allotments {
    /// Reads what is kept in the directories of pods below `dir`. A record that cannot be read is as good as none: its pod
    /// is taken for one that runs already or is looked at anew.
    pub fn open(dir: &Path) -> Self {
        let mut records = HashMap::new();
        for e in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = e.path().join(FILE);
            match read(&path) {
                Ok(Some(r)) => {
                    records.insert(e.file_name().to_string_lossy().into_owned(), r);
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(path = %path.display(), %error, "record of a pod not read"),
            }
        }
        Self { dir: dir.to_path_buf(), records: Arc::new(Mutex::new(records)) }
    }

    /// The record of a pod.
    pub fn get(&self, uid: &str) -> Option<Record> {
        self.records.lock().get(uid).cloned()
    }

    /// What runtime and kernel were told of a pod.
    pub fn told(&self, uid: &str) -> Told {
        self.records.lock().get(uid).map(|r| r.told.clone()).unwrap_or_default()
    }

    /// Keeps the record of a pod.
    pub fn put(&self, uid: &str, r: Record) {
        let mut records = self.records.lock();
        self.save(uid, &r);
        records.insert(uid.to_owned(), r);
    }

    /// Changes the record of a pod, if there is one.
    pub fn change(&self, uid: &str, f: impl FnOnce(&mut Record)) {
        let mut records = self.records.lock();
        let Some(r) = records.get_mut(uid) else { return };
        let before = r.clone();
        f(r);
        if *r != before {
            self.save(uid, r);
        }
    }

    /// Forgets a pod; its file goes with its directory.
    pub fn forget(&self, uid: &str) {
        self.records.lock().remove(uid);
    }

    fn save(&self, uid: &str, r: &Record) {
        let path = self.dir.join(uid).join(FILE);
        if let Err(error) = write(&path, r) {
            // The pod lives on; only a restart of this process would see it as it was before.
            tracing::error!(path = %path.display(), %error, "record of a pod not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;
    use serde_json::json;

    #[test]
    fn records_outlive_the_process_and_broken_ones_are_none() {
        let dir = std::env::temp_dir().join(format!("skep-given-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let spec: PodSpec = serde_json::from_value(json!({"containers": [
            {"name": "c", "resources": {"requests": {"cpu": "100m"}}}]}))
        .unwrap();
        let kept = Allotments::open(&dir);
        assert_eq!(kept.get("a"), None);
        kept.put("a", Record::new(&spec));
        kept.change("a", |r| r.told = Record::adopt(&spec).told);
        kept.change("b", |r| r.format = 9);
        kept.put("c", Record::new(&spec));
        fs::write(dir.join("c").join(FILE), "{").unwrap();
        kept.put("d", Record { format: FORMAT + 1, ..Record::new(&spec) });
        let again = Allotments::open(&dir);
        assert_eq!(again.get("a"), Some(Record::adopt(&spec)));
        assert_eq!(again.told("a").containers["c"].cpu_request, 100);
        for none in ["b", "c", "d"] {
            assert_eq!(again.get(none), None, "{none}");
        }
        again.forget("a");
        assert_eq!(again.told("a"), Told::default());
        fs::remove_dir_all(&dir).unwrap();
    }
}
