//! Where the server is and who the client is: a kubeconfig, as kubectl reads it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a kubeconfig cannot be used, with what to look at.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// Not YAML, or not a kubeconfig.
    #[error("{0} is not a kubeconfig: {1}")]
    Parse(PathBuf, String),
    /// A part is missing or malformed.
    #[error("the kubeconfig's {0}")]
    Part(String),
    /// Certificates or keys are not usable.
    #[error("the kubeconfig's certificates cannot be used: {0}")]
    Tls(String),
}

/// Who the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody.
    Anonymous,
    /// A client certificate (chain) and its key, both PEM.
    Certificate {
        /// The chain.
        certificate: Vec<u8>,
        /// The key.
        key: Vec<u8>,
    },
    /// A bearer token.
    Token(String),
}

/// One server and one identity.
#[derive(Clone, Debug)]
pub struct Config {
    /// `https://host:port`.
    pub server: String,
    /// The authorities that the server's certificate is checked against, PEM.
    pub certificate_authority: Vec<u8>,
    /// Who the client is.
    pub credentials: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    contexts: Vec<Named<ContextBody>>,
    #[serde(default)]
    clusters: Vec<Named<ClusterBody>>,
    #[serde(default)]
    users: Vec<Named<UserBody>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    body: T,
}

#[derive(Deserialize)]
struct ContextBody {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterBody {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct UserBody {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
}

fn by_name<T>(list: Vec<Named<T>>, what: &str, name: &str) -> Result<T, ConfigError> {
    let found = list.into_iter().find(|n| n.name == name).map(|n| n.body);
    found.ok_or_else(|| ConfigError::Part(format!("{what} {name:?} is not in the file")))
}

/// Inline base64 wins over a file, as in kubectl; relative files are beside the kubeconfig.
fn material(
    data: Option<String>,
    file: Option<PathBuf>,
    base: &Path,
    what: &str,
) -> Result<Option<Vec<u8>>, ConfigError> {
    if let Some(data) = data {
        let bytes = STANDARD.decode(data.trim());
        return bytes.map(Some).map_err(|e| ConfigError::Part(format!("{what}-data is not base64: {e}")));
    }
    file.map(|file| {
        let path = base.join(file);
        std::fs::read(&path).map_err(|e| ConfigError::Read(path, e))
    })
    .transpose()
}

impl Config {
    /// Reads the current context of a kubeconfig file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Read(path.to_owned(), e))?;
        let base = path.parent().unwrap_or(Path::new("."));
        Config::parse(&text, base).map_err(|e| match e {
            ConfigError::Parse(_, why) => ConfigError::Parse(path.to_owned(), why),
            other => other,
        })
    }

    fn parse(text: &str, base: &Path) -> Result<Self, ConfigError> {
        let file: File =
            serde_saphyr::from_str(text).map_err(|e| ConfigError::Parse(PathBuf::new(), e.to_string()))?;
        let context = by_name(file.contexts, "current-context", &file.current_context)?;
        let cluster = by_name(file.clusters, "cluster", &context.cluster)?;
        let user = by_name(file.users, "user", &context.user)?;
        let certificate_authority = material(
            cluster.certificate_authority_data,
            cluster.certificate_authority,
            base,
            "certificate-authority",
        )?
        .ok_or_else(|| ConfigError::Part("cluster has no certificate-authority".into()))?;
        let certificate =
            material(user.client_certificate_data, user.client_certificate, base, "client-certificate")?;
        let key = material(user.client_key_data, user.client_key, base, "client-key")?;
        let credentials = match (certificate, key, user.token) {
            (Some(certificate), Some(key), _) => Credentials::Certificate { certificate, key },
            (None, None, Some(token)) => Credentials::Token(token),
            (None, None, None) => Credentials::Anonymous,
            _ => return Err(ConfigError::Part("user needs both client-certificate and client-key".into())),
        };
        Ok(Config { server: cluster.server, certificate_authority, credentials })
    }

    pub(super) fn bearer(&self) -> Option<&str> {
        match &self.credentials {
            Credentials::Token(token) => Some(token),
            _ => None,
        }
    }

    /// The TLS side: the cluster's authorities, this identity, nothing of the machine's.
    pub fn tls(&self) -> Result<ClientConfig, ConfigError> {
        let tls = |e: &dyn std::fmt::Display| ConfigError::Tls(e.to_string());
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.certificate_authority) {
            roots.add(certificate.map_err(|e| tls(&e))?).map_err(|e| tls(&e))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| tls(&e))?
            .with_root_certificates(roots);
        match &self.credentials {
            Credentials::Certificate { certificate, key } => {
                let chain = CertificateDer::pem_slice_iter(certificate)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|e| tls(&e))?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| tls(&e))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| tls(&e))
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters:
- name: k
  cluster: {server: "https://127.0.0.1:6443", certificate-authority-data: aGk=}
users: [{name: u, user: {token: secret}}]
"#;

    #[test]
    fn the_current_context_decides() {
        let config = Config::parse(TEXT, Path::new(".")).unwrap();
        assert_eq!(config.server, "https://127.0.0.1:6443");
        assert_eq!(config.certificate_authority, b"hi");
        assert_eq!(config.credentials, Credentials::Token("secret".into()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = TEXT.replace("current-context: c", "current-context: other");
        let error = Config::parse(&missing, Path::new(".")).unwrap_err();
        assert_eq!(error.to_string(), "the kubeconfig's current-context \"other\" is not in the file");
        let broken = TEXT.replace("aGk=", "@@");
        assert!(Config::parse(&broken, Path::new(".")).is_err());
        assert!(matches!(Config::parse("{", Path::new(".")), Err(ConfigError::Parse(..))));
    }
}
