//! Reading and writing the directory's files.

use super::{Identity, PkiError};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PkiError + use<> {
    let path = path.to_owned();
    move |source| PkiError::Io { action, path, source }
}

/// Makes a directory that its owner alone may enter, and its parents.
pub(super) fn make_dir(dir: &Path) -> Result<(), PkiError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create", dir))
}

/// The text of a file, none where it is not there.
pub(super) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// A certificate and its key, none where one of them is missing.
pub(super) fn read_pair(cert: &Path, key: &Path) -> Result<Option<Identity>, PkiError> {
    Ok(match (read(cert)?, read(key)?) {
        (Some(cert_pem), Some(key_pem)) => Some(Identity { cert_pem, key_pem }),
        _ => None,
    })
}

/// Replaces a file whole: a reader sees the old text or the new one, and after a crash one of them is there.
pub(super) fn write_file(path: &Path, text: &[u8], mode: u32) -> Result<(), PkiError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = dir.join(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&new)
        .map_err(failed("write", &new))?;
    // A leftover of a crash keeps the mode it was made with.
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed("write", &new))?;
    file.write_all(text).and_then(|()| file.sync_all()).map_err(failed("write", &new))?;
    fs::rename(&new, path).map_err(failed("write", path))?;
    File::open(dir).and_then(|d| d.sync_all()).map_err(failed("sync", dir))
}
