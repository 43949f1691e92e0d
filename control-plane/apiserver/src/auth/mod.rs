//! Who asks: client certificates, tokens of service accounts and of machines that want to become nodes, or nobody.
//!
//! A certificate's common name is the user and its organizations the groups. A request without credentials is
//! `system:anonymous`, whom the default bindings let see health and version alone. Wrong credentials are 401, never anonymous.

mod bootstrap;
mod impersonate;
pub mod jwt;
mod legacy;
#[cfg(test)]
mod tests;
pub mod token;

use crate::authz::Rbac;
use crate::cache::Caches;
use crate::hooks::{Authenticator, Shown};
use crate::request::UserInfo;
use async_trait::async_trait;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use jwt::{Claims, Keys, Token};
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
        let find = |resource: &str, namespace: &str, name: &str| {
            let row = self.caches.row("", "v1", resource)?;
            self.caches.latest(&row, namespace, name).ok().flatten()
        };
        if let Some((id, secret)) = bootstrap::split(token) {
            let kept = find("secrets", bootstrap::NAMESPACE, &bootstrap::name(id));
            let user = kept.and_then(|kept| bootstrap::user(&kept.value(), id, secret, now));
            let user = user.ok_or_else(|| "the bootstrap token is not known".to_owned())?;
            return Ok((user, for_api(audiences)?));
        }
        match self.keys.read(token).map_err(|e| e.to_string())? {
            Token::Bound(claims) => {
                let good_for = jwt::judge(&claims, audiences, now).map_err(|e| e.to_string())?;
                still_bound(&claims, now, find)?;
                Ok((account_user(&claims), good_for))
            }
            Token::Legacy(claims) => {
                let good_for = for_api(audiences)?;
                legacy::still_good(&claims, token, find)?;
                Ok((legacy::user(&claims), good_for))
            }
        }
    }
}

#[async_trait]
impl Authenticator for Authn {
    fn shown(&self, certificates: &[CertificateDer<'_>]) -> Shown {
        match certificates.first() {
            None => Shown::Nothing,
            Some(certificate) => certificate_user(certificate).map_or(Shown::Nobody, Shown::User),
        }
    }

    async fn authenticate(&self, headers: &HeaderMap, shown: &Shown) -> Result<UserInfo, Status> {
        let user = match (shown, bearer(headers)) {
            (Shown::User(user), _) => user.clone(),
            (Shown::Nobody, _) => return Err(Status::unauthorized()),
            (Shown::Nothing, Some(token)) => {
                let audiences = [jwt::ISSUER.to_owned()];
                match self.token_user(token, &audiences) {
                    Ok((user, _)) => user,
                    Err(why) => {
                        tracing::debug!(why, "a bearer token is refused");
                        return Err(Status::unauthorized());
                    }
                }
            }
            (Shown::Nothing, None) => anonymous(),
        };
        match impersonate::wanted(headers)? {
            None => Ok(user),
            Some(wanted) => wanted.become_by(&user, &self.authorizer),
        }
    }
}

/// Whether two secrets are the same. Their digests are compared, so that how long it takes tells nothing of them.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    let digest = |bytes| ring::digest::digest(&ring::digest::SHA256, bytes);
    digest(a).as_ref() == digest(b).as_ref()
}

/// What a token that names no audience is good for: the API server.
fn for_api(audiences: &[String]) -> Result<Vec<String>, String> {
    jwt::common(&[jwt::ISSUER.to_owned()], audiences).map_err(|e| e.to_string())
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
    let (account, namespace) = (&bound.serviceaccount, &*bound.namespace);
    let found = find("serviceaccounts", namespace, &account.name)
        .ok_or_else(|| format!("serviceaccounts {:?} not found", account.name))?;
    if *found.meta().uid != *account.uid {
        let (uid, claimed) = (&found.meta().uid, &account.uid);
        return Err(format!("service account UID ({uid}) does not match claim ({claimed})"));
    }
    if long_deleted(found.meta(), now) {
        return Err(format!("service account {namespace}/{} has been deleted", account.name));
    }
    for (resource, what, target) in [
        ("secrets", "secret", bound.secret.as_ref()),
        ("pods", "pod", bound.pod.as_ref()),
        ("nodes", "node", node),
    ] {
        let Some(target) = target else { continue };
        let namespace = if resource == "nodes" { "" } else { namespace };
        let found = find(resource, namespace, &target.name).ok_or(GONE)?;
        if *found.meta().uid != *target.uid {
            let (uid, claimed) = (&found.meta().uid, &target.uid);
            return Err(format!(
                "{what} UID ({uid}) does not match service account {what} ref claim ({claimed})"
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
