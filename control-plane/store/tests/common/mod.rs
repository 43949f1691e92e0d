//! What the tests of the store on a real directory share.

use std::path::PathBuf;

/// A directory of this process that goes with the test.
pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    /// An empty one; `name` tells the tests of a process apart.
    pub(crate) fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("skep-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        TempDir(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
