//! Tokens of service accounts that are kept in Secrets: they have no end, and are good for as long as the Secret holds them.

use super::jwt::LegacyClaims;
use crate::request::UserInfo;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use skep_api::Object;
use std::sync::Arc;

/// A Secret so labelled holds a token that is not good any more.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// Whether the Secret still holds the token and the account is still the same; why not, for people. `find` gets resource,
/// namespace and name.
pub(super) fn still_good(
    claims: &LegacyClaims,
    token: &str,
    find: impl Fn(&str, &str, &str) -> Option<Arc<Object>>,
) -> Result<(), String> {
    const GONE: &str = "Token has been invalidated";
    let (namespace, name) = (&claims.namespace, &claims.account);
    let secret = find("secrets", namespace, &claims.secret).ok_or(GONE)?;
    if secret.meta().deleting() {
        return Err(GONE.into());
    }
    let tree = secret.value();
    let kept = tree.pointer("/data/token").and_then(Value::as_str).unwrap_or_default();
    let kept = STANDARD.decode(kept).unwrap_or_default();
    if !super::same_secret(&kept, token.as_bytes()) {
        return Err("Token does not match server's copy".into());
    }
    let account = find("serviceaccounts", namespace, name)
        .ok_or_else(|| format!("serviceaccounts {name:?} not found"))?;
    if account.meta().deleting() {
        return Err(format!("ServiceAccount {namespace}/{name} has been deleted"));
    }
    let uid = &account.meta().uid;
    if **uid != *claims.uid {
        return Err(format!("ServiceAccount UID ({uid}) does not match claim ({})", claims.uid));
    }
    if secret.meta().labels.get(INVALID_SINCE).is_some_and(|since| !since.is_empty()) {
        return Err(format!(
            "the token in secret {namespace}/{} for service account {namespace}/{name} has been marked invalid. Use tokens \
             from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from \
             the secret to temporarily allow use of this token",
            claims.secret
        ));
    }
    Ok(())
}

/// The user that good claims speak of.
pub(super) fn user(claims: &LegacyClaims) -> UserInfo {
    let groups =
        ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{}", claims.namespace)];
    let mut user = UserInfo::new(claims.user(), &[&groups[0], &groups[1]]);
    user.uid.clone_from(&claims.uid);
    user
}
