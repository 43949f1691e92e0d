//! Secrets of type `kubernetes.io/service-account-token`: filled with a token, and gone with their account.

use crate::Context;
use crate::authority::{AccountToken, Authority};
use crate::runtime::{Key, Outcome, Queue, feed, work};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use skep_api::{Object, Status};
use skep_client::{Client, Collection, DeleteOptions, Informer, WriteOptions};
use std::sync::Arc;

const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let secrets = context.informers.of(&Collection::core("secrets"));
    let accounts = context.informers.service_accounts.clone();
    let queue = Queue::default();
    feed(&secrets, &queue, |change| {
        change
            .latest()
            .filter(|secret| account_of(&secret.value()).is_some())
            .map(|s| Key::of(s))
            .into_iter()
            .collect()
    });
    // An account that goes takes its Secrets with it, and one that comes may be waited for.
    let all = secrets.clone();
    feed(&accounts, &queue, move |change| {
        let Some(account) = change.latest() else { return Vec::new() };
        let (namespace, name) = (&account.meta().namespace, &account.meta().name);
        let of = |secret: &Arc<Object>| account_of(&secret.value()).is_some_and(|(of, _)| *of == **name);
        all.namespace(namespace).iter().filter(|secret| of(secret)).map(|secret| Key::of(secret)).collect()
    });
    let worker = Arc::new(Worker {
        client: context.client("kube-controller-manager"),
        secrets,
        authority: context.config.authority.clone(),
        root_ca: context.config.root_ca.clone(),
    });
    work("serviceaccount-token", &queue, 1, move |key| {
        let worker = worker.clone();
        async move { worker.reconcile(&key).await }
    });
}

/// Name of the account that a Secret is for, and its uid where it is said; none where it is for none.
fn account_of(secret: &Value) -> Option<(String, String)> {
    let annotation = |key: &str| {
        let annotations = secret.pointer("/metadata/annotations");
        annotations.and_then(|all| all.get(key)).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let name = annotation(NAME);
    (secret["type"] == TYPE && !name.is_empty()).then(|| (name, annotation(UID)))
}

struct Worker {
    client: Arc<dyn Client>,
    secrets: Informer,
    authority: Arc<dyn Authority>,
    root_ca: String,
}

impl Worker {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(secret) = self.secrets.get(&key.namespace, &key.name) else { return Ok(None) };
        let tree = secret.value();
        let Some((name, uid)) = account_of(&tree) else { return Ok(None) };
        let target = Collection::core("secrets").item(&key.namespace, &key.name);
        // Whether the account is there decides what becomes of a secret: the view may be old.
        let account =
            match self.client.get(&Collection::core("serviceaccounts").item(&key.namespace, &name)).await {
                Ok(account) => Some(account),
                Err(status) if status.is_not_found() => None,
                Err(status) => return Err(status),
            };
        let account = account.filter(|account| uid.is_empty() || *account.meta().uid == *uid);
        let Some(account) = account else {
            let options =
                DeleteOptions { uid: Some(secret.meta().uid.to_string()), ..DeleteOptions::default() };
            return settle(self.client.delete(&target, &options).await.map(drop));
        };
        let account = AccountToken {
            namespace: &key.namespace,
            secret: &key.name,
            account: &name,
            uid: &account.meta().uid,
        };
        let token = || self.authority.token(&account).map_err(Status::internal);
        match filled(tree, &account, &self.root_ca, token)? {
            Some(tree) => settle(self.client.update(&target, tree, &WriteOptions::default()).await.map(drop)),
            None => Ok(None),
        }
    }
}

/// Whoever was quicker is looked at again by itself.
fn settle(done: Result<(), Status>) -> Outcome {
    match done {
        Err(status) if !status.is_conflict() && !status.is_not_found() => Err(status),
        _ => Ok(None),
    }
}

/// The Secret with all it should hold; none where it holds it.
fn filled(
    mut secret: Value,
    of: &AccountToken<'_>,
    root_ca: &str,
    token: impl FnOnce() -> Result<String, Status>,
) -> Result<Option<Value>, Status> {
    let has = |key: &str| secret["data"][key].as_str().unwrap_or_default().to_owned();
    let ca = STANDARD.encode(root_ca);
    let (needs_ca, needs_namespace, needs_token) =
        (has("ca.crt") != ca, has("namespace").is_empty(), has("token").is_empty());
    if !needs_ca && !needs_namespace && !needs_token {
        return Ok(None);
    }
    if needs_ca {
        secret["data"]["ca.crt"] = ca.into();
    }
    if needs_namespace {
        secret["data"]["namespace"] = STANDARD.encode(of.namespace).into();
    }
    if needs_token {
        secret["data"]["token"] = STANDARD.encode(token()?).into();
    }
    secret["metadata"]["annotations"][NAME] = of.account.into();
    secret["metadata"]["annotations"][UID] = of.uid.into();
    Ok(Some(secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_is_filled_once() {
        let of = AccountToken { namespace: "d", secret: "s", account: "bot", uid: "u" };
        let bare = json!({"metadata": {"name": "s", "annotations": {NAME: "bot"}}, "type": TYPE});
        assert_eq!(account_of(&bare), Some(("bot".into(), String::new())));
        let full = filled(bare, &of, "pem", || Ok("a.b.c".into())).unwrap().unwrap();
        let data = json!({"ca.crt": STANDARD.encode("pem"), "namespace": STANDARD.encode("d"),
            "token": STANDARD.encode("a.b.c")});
        assert_eq!(full["data"], data);
        assert_eq!(account_of(&full), Some(("bot".into(), "u".into())));
        let never = || -> Result<String, Status> { Err(Status::internal("asked for a token")) };
        assert_eq!(filled(full.clone(), &of, "pem", never).unwrap(), None);
        // A new authority is written, the token stays.
        let renewed = filled(full, &of, "other", never).unwrap().unwrap();
        assert_eq!(renewed["data"]["token"], data["token"]);
        assert_eq!(renewed["data"]["ca.crt"], STANDARD.encode("other"));
    }

    #[test]
    fn other_secrets_are_left_alone() {
        let annotated = |kind: &str| json!({"metadata": {"annotations": {NAME: "bot"}}, "type": kind});
        assert_eq!(account_of(&annotated("Opaque")), None);
        assert_eq!(account_of(&json!({"metadata": {}, "type": TYPE})), None);
    }
}
