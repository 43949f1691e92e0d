//! The cluster's keys as controllers may use them.

use skep_api::kinds::certificates::Request;
use skep_apiserver::auth::jwt::{Keys, LEGACY_ISSUER, LegacyClaims};
use skep_apiserver::pki::Pki;
use skep_controllers::{AccountToken, Authority};
use std::sync::Arc;

/// The CA and the key of tokens.
#[derive(Debug)]
pub(crate) struct Keyring {
    /// Signs certificates.
    pub(crate) pki: Arc<Pki>,
    /// Signs tokens.
    pub(crate) keys: Arc<Keys>,
}

impl Authority for Keyring {
    fn token(&self, of: &AccountToken<'_>) -> Result<String, String> {
        let claims = LegacyClaims {
            iss: LEGACY_ISSUER.into(),
            namespace: of.namespace.into(),
            secret: of.secret.into(),
            account: of.account.into(),
            uid: of.uid.into(),
            sub: format!("system:serviceaccount:{}:{}", of.namespace, of.account),
        };
        self.keys.sign(&claims).map_err(|why| why.to_string())
    }

    fn certificate(
        &self,
        request: &Request,
        usages: &[&str],
        seconds: Option<i64>,
    ) -> Result<String, String> {
        self.pki.certify(request, usages, seconds, jiff::Timestamp::now()).map_err(|why| why.to_string())
    }
}
