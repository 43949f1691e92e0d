//! What the deployment controller reads of Deployments and ReplicaSets.

use crate::views::scaled;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use skep_api::Meta;
use std::collections::BTreeMap;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a Deployment that its ReplicaSets do not take over.
pub(super) const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
pub(super) const HASH_LABEL: &str = "pod-template-hash";

pub(super) type Annotations = BTreeMap<String, String>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ObjectMeta {
    #[serde(flatten)]
    pub(super) meta: Meta,
    pub(super) creation_timestamp: Option<Timestamp>,
    pub(super) annotations: Option<Annotations>,
}

impl ObjectMeta {
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Deployment {
    pub(super) metadata: ObjectMeta,
    pub(super) spec: DeploymentSpec,
    pub(super) status: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct DeploymentSpec {
    pub(super) replicas: Option<i64>,
    pub(super) selector: Value,
    pub(super) template: Value,
    pub(super) strategy: Strategy,
    pub(super) min_ready_seconds: i64,
    pub(super) revision_history_limit: Option<i64>,
    pub(super) paused: bool,
    pub(super) progress_deadline_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Strategy {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RollingUpdate {
    pub(super) max_surge: Option<Value>,
    pub(super) max_unavailable: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ReplicaSet {
    pub(super) metadata: ObjectMeta,
    pub(super) spec: ReplicaSetSpec,
    pub(super) status: ReplicaSetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ReplicaSetSpec {
    pub(super) replicas: Option<i64>,
    pub(super) min_ready_seconds: i64,
    pub(super) template: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ReplicaSetStatus {
    pub(super) replicas: i64,
    pub(super) ready_replicas: i64,
    pub(super) available_replicas: i64,
    pub(super) terminating_replicas: i64,
    pub(super) observed_generation: i64,
    pub(super) conditions: Vec<Value>,
}

impl ReplicaSet {
    pub(super) fn name(&self) -> &str {
        &self.metadata.meta.name
    }

    pub(super) fn replicas(&self) -> i64 {
        self.spec.replicas.unwrap_or(1)
    }

    pub(super) fn revision(&self) -> i64 {
        self.metadata.annotation(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
    }

    /// The template without the label that tells the sets apart.
    pub(super) fn bare_template(&self) -> Value {
        bare(&self.spec.template)
    }
}

/// A template without the label that tells the sets apart, as two of them are compared.
pub(super) fn bare(template: &Value) -> Value {
    let mut out = template.clone();
    if let Some(labels) = out.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH_LABEL);
    }
    out
}

impl Deployment {
    pub(super) fn replicas(&self) -> i64 {
        self.spec.replicas.unwrap_or(1)
    }

    pub(super) fn rolling(&self) -> bool {
        self.spec.strategy.kind != "Recreate"
    }

    /// How many pods may be above, and below, the number wanted (`ResolveFenceposts`).
    pub(super) fn fences(&self) -> (i64, i64) {
        if !self.rolling() {
            return (0, 0);
        }
        let update = self.spec.strategy.rolling_update.clone().unwrap_or_default();
        let surge = scaled(update.max_surge.as_ref(), self.replicas(), true);
        let unavailable = scaled(update.max_unavailable.as_ref(), self.replicas(), false);
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        (surge, unavailable.min(self.replicas()))
    }

    /// Whether progress is measured (`HasProgressDeadline`).
    pub(super) fn deadline(&self) -> Option<i64> {
        self.spec.progress_deadline_seconds.filter(|s| *s != i64::from(i32::MAX))
    }
}
