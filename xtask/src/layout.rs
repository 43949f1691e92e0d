//! Where things lie in the checkout.

use std::path::{Path, PathBuf};

/// The checkout and what is built in it.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Root of the repository.
    pub root: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
}

impl Layout {
    /// The checkout this program was built from.
    #[must_use]
    pub fn find() -> Self {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().unwrap_or(manifest).to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => root.join("target"),
        };
        Layout { root, target }
    }

    /// Finished binaries: `skep-server`, `skep-agent`, `skep-cni`, `skep-dns`, `skep-pause`, `skep-demo`, `skep-ebpf.o`.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.target.join("skep/bin")
    }

    /// Tools fetched or built for this checkout alone.
    #[must_use]
    pub fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// The directory of the cluster `up` brings up unless told otherwise.
    #[must_use]
    pub fn cluster(&self) -> PathBuf {
        self.target.join("cluster")
    }
}
