//! Bootstrap tokens: those that are over are removed, and `cluster-info` bears a signature of each that signs.

mod plan;

use crate::Context;
use crate::runtime::{Key, Outcome, Queue, feed, work};
use jiff::Timestamp;
use serde_json::Value;
use skep_api::Object;
use skep_client::{Change, Client, Collection, DeleteOptions, Informer, WriteOptions};
use std::sync::Arc;

/// Where the tokens are.
const TOKENS: &str = "kube-system";
/// Where the ConfigMap is that they sign, and its name.
const SIGNED: (&str, &str) = ("kube-public", "cluster-info");

/// Starts both controllers.
pub(crate) fn start(context: &Context) {
    let secrets = context.informers.of(&Collection::core("secrets"));
    let queue = Queue::default();
    feed(&secrets, &queue, |change| token(change).map(|secret| Key::of(secret)).into_iter().collect());
    let (client, all) = (context.client("token-cleaner"), secrets.clone());
    work("tokencleaner", &queue, 1, move |key| {
        let (client, secrets) = (client.clone(), all.clone());
        async move { clean(&client, &secrets, &key).await }
    });

    let (namespace, name) = SIGNED;
    let published = Informer::start(
        context.client("kube-controller-manager"),
        Collection::core("configmaps"),
        "",
        &format!("metadata.name={name},metadata.namespace={namespace}"),
    );
    let queue = Queue::default();
    let the_one = || vec![Key::new(namespace, name)];
    feed(&published, &queue, move |_| the_one());
    feed(&secrets, &queue, move |change| token(change).map_or_else(Vec::new, |_| the_one()));
    let client = context.client("bootstrap-signer");
    work("bootstrapsigner", &queue, 1, move |key| {
        let (client, secrets, published) = (client.clone(), secrets.clone(), published.clone());
        async move { sign(&client, &secrets, &published, &key).await }
    });
}

/// The token that a change is about.
fn token(change: &Change) -> Option<&Arc<Object>> {
    change.latest().filter(|secret| *secret.meta().namespace == *TOKENS && plan::is_token(&secret.value()))
}

async fn clean(client: &Arc<dyn Client>, secrets: &Informer, key: &Key) -> Outcome {
    let Some(secret) = secrets.get(&key.namespace, &key.name) else { return Ok(None) };
    match plan::left(&secret.value(), Timestamp::now()) {
        None => Ok(None),
        Some(left) if !left.is_zero() => Ok(Some(left)),
        Some(_) => {
            let options =
                DeleteOptions { uid: Some(secret.meta().uid.to_string()), ..DeleteOptions::default() };
            let target = Collection::core("secrets").item(&key.namespace, &key.name);
            match client.delete(&target, &options).await {
                Err(status) if !status.is_not_found() && !status.is_conflict() => Err(status),
                _ => Ok(None),
            }
        }
    }
}

async fn sign(client: &Arc<dyn Client>, secrets: &Informer, published: &Informer, key: &Key) -> Outcome {
    let Some(map) = published.get(&key.namespace, &key.name) else { return Ok(None) };
    let tokens: Vec<Value> = secrets.namespace(TOKENS).iter().map(|secret| secret.value()).collect();
    if let Some(map) = plan::signed(map.value(), &tokens, Timestamp::now()) {
        let target = Collection::core("configmaps").item(&key.namespace, &key.name);
        match client.update(&target, map, &WriteOptions::default()).await {
            Err(status) if !status.is_not_found() && !status.is_conflict() => return Err(status),
            _ => {}
        }
    }
    Ok(None)
}
