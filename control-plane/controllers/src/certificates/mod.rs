//! CertificateSigningRequests: those of node agents are approved, those of Kubernetes' own signers signed, old ones removed.

mod plan;

use crate::Context;
use crate::authority::{Authority, texts};
use crate::runtime::{Key, Outcome, Queue, feed_self, work};
use jiff::Timestamp;
use plan::Review;
use serde_json::{Value, json};
use skep_api::Status;
use skep_api::kinds::certificates::{Request, signers};
use skep_client::{Client, Collection, DeleteOptions, Informer, WriteOptions};
use std::sync::Arc;
use std::time::Duration;

/// How often old requests are looked for.
const CLEANING: Duration = Duration::from_secs(3600);
const GROUP: &str = "certificates.k8s.io";

fn requests() -> Collection {
    Collection::of(GROUP, "v1", "certificatesigningrequests")
}

/// Starts all of them.
pub(crate) fn start(context: &Context) {
    let informer = context.informers.of(&requests());
    let worker = Arc::new(Worker {
        client: context.client("certificate-controller"),
        informer: informer.clone(),
        authority: context.config.authority.clone(),
    });
    let queue = Queue::default();
    feed_self(&informer, &queue);
    let approver = worker.clone();
    work("csrapproving", &queue, 1, move |key| {
        let worker = approver.clone();
        async move { worker.approve(&key).await }
    });
    let queue = Queue::default();
    feed_self(&informer, &queue);
    let signer = worker.clone();
    work("csrsigning", &queue, 1, move |key| {
        let worker = signer.clone();
        async move { worker.sign(&key).await }
    });
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(CLEANING).await;
            worker.clean().await;
        }
    });
}

struct Worker {
    client: Arc<dyn Client>,
    informer: Informer,
    authority: Arc<dyn Authority>,
}

impl Worker {
    async fn approve(&self, key: &Key) -> Outcome {
        let Some(object) = self.informer.get("", &key.name) else { return Ok(None) };
        let mut tree = object.value();
        let Some(asked) = plan::undecided(&tree) else { return Ok(None) };
        for review in plan::reviews(&tree, &asked) {
            if self.allowed(&tree, &review).await? {
                plan::add_condition(&mut tree, "Approved", "AutoApproved", review.message);
                return self.write(key, "approval", tree).await;
            }
        }
        Ok(None)
    }

    /// Whether the one who asked may have such a certificate.
    async fn allowed(&self, tree: &Value, review: &Review) -> Result<bool, Status> {
        let mut spec = json!({"resourceAttributes": {
            "group": GROUP, "resource": "certificatesigningrequests", "verb": "create", "version": "*",
            "subresource": review.subresource,
        }});
        for (from, to) in [("username", "user"), ("uid", "uid"), ("groups", "groups"), ("extra", "extra")] {
            if let Some(value) = tree["spec"].get(from) {
                spec[to] = value.clone();
            }
        }
        let reviews = Collection::of("authorization.k8s.io", "v1", "subjectaccessreviews");
        let body =
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let answer = self.client.create(&reviews, body, &WriteOptions::default()).await?;
        Ok(answer.value()["status"]["allowed"] == true)
    }

    async fn sign(&self, key: &Key) -> Outcome {
        let Some(object) = self.informer.get("", &key.name) else { return Ok(None) };
        let mut tree = object.value();
        let Some(asked) = plan::unsigned(&tree) else { return Ok(None) };
        let usages = texts(&tree, "/spec/usages");
        let signer = tree["spec"]["signerName"].as_str().unwrap_or_default();
        match signers::judge(signer, &asked, &usages) {
            None => return Ok(None),
            Some(Err(why)) => plan::add_condition(&mut tree, "Failed", "SignerValidationFailure", &why),
            Some(Ok(())) => {
                let seconds = tree["spec"]["expirationSeconds"].as_i64();
                let pem = self.authority.certificate(&asked, &usages, seconds).map_err(Status::internal)?;
                plan::put_certificate(&mut tree, &pem);
            }
        }
        self.write(key, "status", tree).await
    }

    async fn write(&self, key: &Key, subresource: &'static str, tree: Value) -> Outcome {
        let target = requests().object(key.name.clone()).sub(subresource);
        match self.client.update(&target, tree, &WriteOptions::default()).await {
            // Whoever was quicker is looked at again by itself.
            Err(status) if !status.is_conflict() && !status.is_not_found() => Err(status),
            _ => Ok(None),
        }
    }

    async fn clean(&self) {
        for object in self.informer.list() {
            if !plan::is_over(&object.value(), Timestamp::now()) {
                continue;
            }
            let name = object.meta().name.to_string();
            let options =
                DeleteOptions { uid: Some(object.meta().uid.to_string()), ..DeleteOptions::default() };
            if let Err(status) = self.client.delete(&requests().object(name.clone()), &options).await
                && !status.is_not_found()
                && !status.is_conflict()
            {
                tracing::debug!(name, %status, "an old certificate request stays");
            }
        }
    }
}

/// What is read of a request that is asked for.
fn read(tree: &Value) -> Option<Request> {
    Request::from_base64(tree["spec"]["request"].as_str()?).ok()
}
