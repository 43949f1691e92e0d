//! The cluster's certificates and keys, in one directory.
//!
//! | file | what | made again |
//! |---|---|---|
//! | `ca.key`, `ca.crt` | the cluster CA: signs every client and serving certificate | never |
//! | `apiserver.key`, `.crt` | serving certificate | at a start that finds other names, another CA, or near expiry |
//! | `apiserver-kubelet-client.key`, `.crt` | identity towards the node agents | at a start near expiry |
//! | `sa.key`, `sa.pub` | signs service-account tokens | never |
//!
//! Keys are ECDSA P-256, readable by their owner alone. Every file is written under another name, synced and renamed,
//! the key before its certificate, so that a crash leaves either nothing or something that the next start completes.

mod files;
mod issue;
mod kubeconfig;
mod sign;
#[cfg(test)]
mod tests;

pub use issue::{Identity, ServingNames};
pub use kubeconfig::{admin_kubeconfig, kubeconfig, node_credentials};

use files::{read, read_pair, write_file};
use issue::{Purpose, Request, ca_params, issue_leaf};
use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use std::path::{Path, PathBuf};

/// Name and group under which the API server calls the node agents.
pub const KUBELET_CLIENT: (&str, &str) = ("kube-apiserver-kubelet-client", "system:masters");

/// Why certificates could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// `read`, `write`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is there and is not what it should be.
    #[error("{path} is not usable: {why}")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// There is no CA in the directory.
    #[error("{0} holds no cluster CA; it is made when skep-server first starts with this data directory")]
    NoCa(PathBuf),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// A name cannot stand in a certificate.
    #[error("{what} {text:?} cannot stand in a certificate")]
    BadName {
        /// Which name.
        what: &'static str,
        /// The text given.
        text: String,
    },
}

/// The cluster CA and the directory it lives in.
pub struct Pki {
    dir: PathBuf,
    ca_pem: String,
    ca_key: KeyPair,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Pki {
    /// Opens the CA in `dir`, making directory and CA when they are not there yet.
    pub fn open_or_create(dir: &Path, now: Timestamp) -> Result<Pki, PkiError> {
        files::make_dir(dir)?;
        let key_path = dir.join("ca.key");
        let crt_path = dir.join("ca.crt");
        if read(&key_path)?.is_none() {
            if read(&crt_path)?.is_some() {
                let why = "ca.key, which belongs to it, is missing".to_owned();
                return Err(PkiError::Unusable { path: crt_path, why });
            }
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            write_file(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
        }
        if read(&crt_path)?.is_none() {
            let key = load_key(&key_path)?;
            let pem = ca_params(now)?.self_signed(&key)?.pem();
            write_file(&crt_path, pem.as_bytes(), 0o644)?;
        }
        Pki::open(dir)
    }

    /// Opens the CA in `dir`; it must be there.
    pub fn open(dir: &Path) -> Result<Pki, PkiError> {
        let crt_path = dir.join("ca.crt");
        let ca_pem = read(&crt_path)?.ok_or_else(|| PkiError::NoCa(dir.to_owned()))?;
        let key = load_key(&dir.join("ca.key"))?;
        if !issue::certifies(&ca_pem, &key) {
            let why = "it is not the certificate of ca.key".to_owned();
            return Err(PkiError::Unusable { path: crt_path, why });
        }
        Ok(Pki { dir: dir.to_owned(), ca_pem, ca_key: key })
    }

    /// The CA certificate, in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The serving certificate for `names`: the one on disk where it still serves, else a new one.
    pub fn serving(&self, names: &ServingNames, now: Timestamp) -> Result<Identity, PkiError> {
        self.kept("apiserver", &Request::serving("kube-apiserver", names)?, now)
    }

    /// The certificate by which the node agents know the API server.
    pub fn kubelet_client(&self, now: Timestamp) -> Result<Identity, PkiError> {
        let (user, group) = KUBELET_CLIENT;
        self.kept("apiserver-kubelet-client", &Request::client(user, &[group.to_owned()])?, now)
    }

    /// A new client certificate; nothing is kept of it.
    pub fn client(&self, user: &str, groups: &[String], now: Timestamp) -> Result<Identity, PkiError> {
        issue_leaf(&self.ca_pem, &self.ca_key, &Request::client(user, groups)?, now)
    }

    /// A new serving certificate for another process; nothing is kept of it.
    pub fn server(
        &self,
        common_name: &str,
        names: &ServingNames,
        now: Timestamp,
    ) -> Result<Identity, PkiError> {
        issue_leaf(&self.ca_pem, &self.ca_key, &Request::serving(common_name, names)?, now)
    }

    /// The key that signs service-account tokens, as PKCS#8 DER.
    pub fn service_account_key(&self) -> Result<Vec<u8>, PkiError> {
        let path = self.dir.join("sa.key");
        if read(&path)?.is_none() {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            write_file(&path, key.serialize_pem().as_bytes(), 0o600)?;
        }
        let key = load_key(&path)?;
        let public = self.dir.join("sa.pub");
        if read(&public)?.is_none() {
            write_file(&public, key.public_key_pem().as_bytes(), 0o644)?;
        }
        Ok(key.serialize_der())
    }

    fn kept(&self, stem: &str, request: &Request, now: Timestamp) -> Result<Identity, PkiError> {
        let (key_path, crt_path) =
            (self.dir.join(format!("{stem}.key")), self.dir.join(format!("{stem}.crt")));
        if let Some(found) = read_pair(&crt_path, &key_path)?
            && issue::still_serves(&found, request, &self.ca_pem, now)
        {
            return Ok(found);
        }
        let made = issue_leaf(&self.ca_pem, &self.ca_key, request, now)?;
        write_file(&key_path, made.key_pem.as_bytes(), 0o600)?;
        write_file(&crt_path, made.cert_pem.as_bytes(), 0o644)?;
        Ok(made)
    }
}

fn load_key(path: &Path) -> Result<KeyPair, PkiError> {
    let unusable = |why: String| PkiError::Unusable { path: path.to_owned(), why };
    let pem = read(path)?.ok_or_else(|| unusable("the file is missing".into()))?;
    KeyPair::from_pem(&pem).map_err(|e| unusable(e.to_string()))
}

/// What a leaf certificate is for.
impl Purpose {
    fn extended(self) -> rcgen::ExtendedKeyUsagePurpose {
        match self {
            Purpose::Client => rcgen::ExtendedKeyUsagePurpose::ClientAuth,
            Purpose::Server => rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        }
    }
}
