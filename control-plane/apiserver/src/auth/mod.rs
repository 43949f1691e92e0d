//! Who asks: client certificates, service-account tokens, or nobody.
//!
//! A certificate's common name is the user and its organizations the groups. A request without credentials is
//! `system:anonymous`, whom the default bindings let see health and version alone. Wrong credentials are 401, never anonymous.

mod impersonate;
pub mod jwt;
#[cfg(test)]
mod tests;
pub mod token;

use crate::authz::Rbac;
use crate::cache::Caches;
use crate::hooks::Authenticator;
use crate::request::UserInfo;
use async_trait::async_trait;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use jwt::{Claims, Keys};
use rustls_pki_types::CertificateDer;
use skep_api::{Meta, Object, Status};
use std::sync::Arc;

/// Knows users by certificate or token.
pub struct Authn {
    keys: Arc<Keys>,
    caches: Arc<Caches>,
    authorizer: Arc<Rbac>,
}

impl Authn {
    /// An authenticator; bound objects are looked up in `caches`, and `authorizer` says who may impersonate.
    pub fn new(keys: Arc<Keys>, caches: Arc<Caches>, authorizer: Arc<Rbac>) -> Self {
        Authn { keys, caches, authorizer }
    }

    /// The user of a token and the audiences it is good for, among those given; why not, for people.
    pub fn token_user(&self, token: &str, audiences: &[String]) -> Result<(UserInfo, Vec<String>), String> {
        let now = Timestamp::now();
        let claims = self.keys.read(token).map_err(|e| e.to_string())?;
        let good_for = jwt::judge(&claims, audiences, now).map_err(|e| e.to_string())?;
        still_bound(&claims, now, |resource, namespace, name| {
            let row = self.caches.row("", "v1", resource)?;
            self.caches.latest(&row, namespace, name).ok().flatten()
        })?;
        Ok((account_user(&claims), good_for))
    }
}

#[async_trait]
impl Authenticator for Authn {
    async fn authenticate(
        &self,
        headers: &HeaderMap,
        certificates: &[CertificateDer<'static>],
    ) -> Result<UserInfo, Status> {
        let user = match (certificates.first(), bearer(headers)) {
            (Some(certificate), _) => certificate_user(certificate).ok_or_else(Status::unauthorized)?,
            (None, Some(token)) => {
                let audiences = [jwt::ISSUER.to_owned()];
                match self.token_user(token, &audiences) {
                    Ok((user, _)) => user,
                    Err(why) => {
                        tracing::debug!(why, "a bearer token is refused");
                        return Err(Status::unauthorized());
                    }
                }
            }
            (None, None) => anonymous(),
        };
        match impersonate::wanted(headers)? {
            None => Ok(user),
            Some(wanted) => wanted.become_by(&user, &self.authorizer),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = text.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}

/// The user without credentials.
pub fn anonymous() -> UserInfo {
    UserInfo {
        name: "system:anonymous".into(),
        groups: vec!["system:unauthenticated".into()],
        ..UserInfo::default()
    }
}

/// The user of a certificate, whose chain TLS has verified; none without a common name.
pub fn certificate_user(der: &CertificateDer<'_>) -> Option<UserInfo> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok().filter(|n| !n.is_empty())?;
    let groups: Vec<&str> = subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
    Some(UserInfo::new(name, &groups))
}

/// The user that valid claims speak of.
fn account_user(claims: &Claims) -> UserInfo {
    let bound = &claims.bound;
    let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{}", bound.namespace)];
    let mut user = UserInfo::new(claims.user(), &[&groups[0], &groups[1]]);
    user.uid.clone_from(&bound.serviceaccount.uid);
    let mut say = |key: &str, value: String| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    };
    say("credential-id", format!("JTI={}", claims.jti));
    for (kind, target) in [("pod", &bound.pod), ("node", &bound.node)] {
        if let Some(target) = target {
            say(&format!("{kind}-name"), target.name.clone());
            if !target.uid.is_empty() {
                say(&format!("{kind}-uid"), target.uid.clone());
            }
        }
    }
    user
}

/// Whether everything a token is bound to is still there, under the same uid. `find` gets resource, namespace and name.
fn still_bound(
    claims: &Claims,
    now: Timestamp,
    find: impl Fn(&str, &str, &str) -> Option<Arc<Object>>,
) -> Result<(), String> {
    const GONE: &str = "service account token has been invalidated";
    let bound = &claims.bound;
    let node = bound.node.as_ref().filter(|_| bound.pod.is_none());
    let all = [
        ("serviceaccounts", Some(&bound.serviceaccount)),
        ("secrets", bound.secret.as_ref()),
        ("pods", bound.pod.as_ref()),
        ("nodes", node),
    ];
    for (resource, target) in all {
        let Some(target) = target else { continue };
        let namespace = if resource == "nodes" { "" } else { &bound.namespace };
        let found = find(resource, namespace, &target.name).ok_or_else(|| match resource {
            "serviceaccounts" => format!("serviceaccounts {:?} not found", target.name),
            _ => GONE.to_owned(),
        })?;
        if *found.meta().uid != *target.uid {
            return Err(format!(
                "{resource} UID ({}) does not match claim ({})",
                found.meta().uid,
                target.uid
            ));
        }
        if long_deleted(found.meta(), now) {
            return Err(GONE.into());
        }
    }
    Ok(())
}

/// Whether an object's deletion was due longer ago than clocks may differ.
fn long_deleted(meta: &Meta, now: Timestamp) -> bool {
    let at = meta.deletion_timestamp.as_ref().and_then(|t| t.parse::<Timestamp>().ok());
    at.is_some_and(|at| at.as_second() < now.as_second() - jwt::LEEWAY)
}
