//! Small helpers around files, and the data directory itself.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use crate::error::StoreError;

/// Version of the directory's layout written here.
const VERSION: u32 = 1;

pub(crate) fn io_error(action: &'static str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io { action, path: path.to_path_buf(), reason: error.to_string() }
}

/// Replaces a file's content so that a crash leaves the old or the new, and the new once this returns.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let partial = path.with_extension("partial");
    let write = || -> io::Result<()> {
        let mut file = File::create(&partial)?;
        io::Write::write_all(&mut file, content)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(|e| io_error("write", path, &e))
}

/// Makes creations, renames and removals in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// An opened and locked data directory.
#[derive(Debug)]
pub(crate) struct DataDir {
    pub(crate) path: PathBuf,
    /// The lock lasts as long as this is open.
    _lock: File,
}

impl DataDir {
    /// Opens or makes the directory, takes its lock and checks its format.
    pub(crate) fn open(path: &Path) -> Result<DataDir, StoreError> {
        fs::create_dir_all(path).map_err(|e| io_error("create", path, &e))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(|e| io_error("open", &lock_path, &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: lock_path }),
            Err(TryLockError::Error(e)) => return Err(io_error("lock", &lock_path, &e)),
        }
        let format = path.join("format");
        match fs::read_to_string(&format) {
            Ok(text) => check_format(&format, &text)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                for name in ["log", "checkpoint"] {
                    if path.join(name).exists() {
                        let what = format!("missing, though {name} exists");
                        return Err(StoreError::Corrupt { path: format, offset: 0, what });
                    }
                }
                replace_file(&format, format!("skep-store {VERSION}\n").as_bytes())?;
            }
            Err(e) => return Err(io_error("read", &format, &e)),
        }
        for name in ["log", "checkpoint"] {
            let sub = path.join(name);
            fs::create_dir_all(&sub).map_err(|e| io_error("create", &sub, &e))?;
        }
        sync_dir(path).map_err(|e| io_error("sync", path, &e))?;
        Ok(DataDir { path: path.to_path_buf(), _lock: lock })
    }
}

fn check_format(path: &Path, text: &str) -> Result<(), StoreError> {
    let version = text.strip_prefix("skep-store ").and_then(|rest| rest.trim_end().parse::<u32>().ok());
    match version {
        Some(1..=VERSION) => Ok(()),
        Some(found) if found > VERSION => {
            Err(StoreError::NewerFormat { path: path.to_path_buf(), found, supported: VERSION })
        }
        _ => Err(StoreError::Corrupt {
            path: path.to_path_buf(),
            offset: 0,
            what: "not the format file of a store".into(),
        }),
    }
}
