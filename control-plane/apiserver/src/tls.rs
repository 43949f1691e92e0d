//! TLS on both sides: towards clients, whose certificates say who they are, and towards node agents.

use crate::pki::Identity;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

/// A configuration cannot be made of these certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or not what it should hold.
    #[error("unusable PEM: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// TLS refuses it.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
    /// The CA cannot verify clients.
    #[error(transparent)]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(ca_pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn pair(identity: &Identity) -> Result<Pair, TlsError> {
    let chain = CertificateDer::pem_slice_iter(identity.cert_pem.as_bytes()).collect::<Result<_, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?))
}

/// The server's side: HTTP/2 and HTTP/1.1, client certificates of the cluster CA, which are asked for and not required.
pub fn server(identity: &Identity, ca_pem: &str) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca_pem)?), provider())
        .allow_unauthenticated()
        .build()?;
    let (chain, key) = pair(identity)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The client's side towards node agents: HTTP/1.1 alone, since connections are upgraded.
pub fn agent_client(identity: &Identity, ca_pem: &str) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let (chain, key) = pair(identity)?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca_pem)?)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Where a machine keeps the authorities it trusts; the first that is there counts.
const TRUSTED: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// The client's side towards webhooks: HTTP/1.1, verified by these authorities, or by those of the machine where there are
/// none.
pub fn verifying_client(authorities: &[u8]) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let mut known = RootCertStore::empty();
    if authorities.is_empty() {
        let machine = TRUSTED.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
        // Among so many there are some that rustls does not take.
        known.add_parsable_certificates(CertificateDer::pem_slice_iter(&machine).flatten());
    }
    for certificate in CertificateDer::pem_slice_iter(authorities) {
        known.add(certificate?)?;
    }
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(known)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
