//! What every namespace has: the `default` service account, and the cluster's authorities as a ConfigMap.

use crate::Context;
use crate::runtime::{Key, Outcome, Queue, feed, feed_self, work};
use serde_json::{Value, json};
use skep_api::Status;
use skep_client::{Client, Collection, Informer, WriteOptions};
use std::sync::Arc;

const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";

/// Starts both controllers.
pub(crate) fn start(context: &Context) {
    let accounts = Keeper {
        client: context.client("service-account-controller"),
        namespaces: context.informers.namespaces.clone(),
        collection: Collection::core("serviceaccounts"),
        name: ACCOUNT,
        body: json!({"apiVersion": "v1", "kind": "ServiceAccount"}),
        keep: None,
    };
    accounts.start("serviceaccount", &context.informers.service_accounts);
    let data = json!({"ca.crt": context.config.root_ca});
    let about = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
                 such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
                 distributions of Kubernetes clusters.";
    let publisher = Keeper {
        client: context.client("root-ca-cert-publisher"),
        namespaces: context.informers.namespaces.clone(),
        collection: Collection::core("configmaps"),
        name: ROOT_CA,
        body: json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"annotations": {"kubernetes.io/description": about}},
        }),
        keep: Some("data"),
    };
    // The publisher's own role allows it to write, not to look.
    let published = Informer::start(
        context.client("kube-controller-manager"),
        Collection::core("configmaps"),
        "",
        &format!("metadata.name={ROOT_CA}"),
    );
    publisher.start("root-ca-cert-publisher", &published);
}

/// Keeps one object of a fixed name in every namespace that is not being deleted.
struct Keeper {
    client: Arc<dyn Client>,
    namespaces: Informer,
    collection: Collection,
    name: &'static str,
    body: Value,
    /// A field that is put back when somebody changes it.
    keep: Option<&'static str>,
}

impl Keeper {
    fn start(self, controller: &'static str, present: &Informer) {
        let queue = Queue::default();
        feed_self(&self.namespaces, &queue);
        let name = self.name;
        feed(present, &queue, move |change| {
            let ours = change.latest().filter(|o| *o.meta().name == *name);
            ours.map(|o| Key::new("", &o.meta().namespace)).into_iter().collect()
        });
        let keeper = Arc::new((self, present.clone()));
        work(controller, &queue, 1, move |key| {
            let keeper = keeper.clone();
            async move { keeper.0.reconcile(&key.name, &keeper.1).await }
        });
    }

    async fn reconcile(&self, namespace: &str, present: &Informer) -> Outcome {
        let live = self.namespaces.get("", namespace).filter(|n| !n.meta().deleting());
        if live.is_none() {
            return Ok(None);
        }
        let options = WriteOptions::default();
        let collection = self.collection.within(namespace);
        let Some(object) = present.get(namespace, self.name) else {
            let mut body = self.body.clone();
            body["metadata"]["name"] = self.name.into();
            return match self.client.create(&collection, body, &options).await {
                Err(status) if !settled(&status) => Err(status),
                _ => Ok(None),
            };
        };
        if let Some(field) = self.keep {
            let mut tree = object.value();
            if tree[field] != self.body[field] {
                tree[field] = self.body[field].clone();
                self.client.update(&collection.object(self.name), tree, &options).await?;
            }
        }
        Ok(None)
    }
}

/// It is there, or its namespace is going: nothing is left to do.
fn settled(status: &Status) -> bool {
    status.is_already_exists() || status.is_not_found() || status.reason == skep_api::Reason::Forbidden
}
