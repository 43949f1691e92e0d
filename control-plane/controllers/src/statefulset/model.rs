//! What the StatefulSet controller reads of sets, and the pods that it makes of their templates.

use crate::replicaset::pod_from;
use crate::views::{Pod, PodMeta, controller_reference, scaled};
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(super) const API_VERSION: &str = "apps/v1";
pub(super) const KIND: &str = "StatefulSet";
/// Labels that say who a pod is.
pub(super) const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
pub(super) const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";
/// The label of a pod with the name of the revision it was made of.
pub(super) const REVISION_LABEL: &str = "controller-revision-hash";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Set {
    pub(super) metadata: PodMeta,
    pub(super) spec: Spec,
    pub(super) status: SetStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) replicas: Option<i64>,
    pub(super) selector: Value,
    pub(super) template: Value,
    pub(super) service_name: String,
    pub(super) volume_claim_templates: Vec<Value>,
    pub(super) pod_management_policy: String,
    pub(super) update_strategy: Strategy,
    pub(super) min_ready_seconds: u64,
    pub(super) revision_history_limit: Option<i64>,
    pub(super) ordinals: Option<Ordinals>,
    pub(super) persistent_volume_claim_retention_policy: Option<Retention>,
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
    pub(super) partition: Option<i64>,
    pub(super) max_unavailable: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ordinals {
    pub(super) start: i64,
}

/// What becomes of claims (KEP-1847).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Retention {
    pub(super) when_deleted: String,
    pub(super) when_scaled: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SetStatus {
    pub(super) observed_generation: i64,
    pub(super) replicas: i64,
    pub(super) ready_replicas: i64,
    pub(super) available_replicas: i64,
    pub(super) current_replicas: i64,
    pub(super) updated_replicas: i64,
    pub(super) current_revision: String,
    pub(super) update_revision: String,
    pub(super) collision_count: i64,
}

impl SetStatus {
    /// As it is stored: what is zero is left out, but for two numbers.
    pub(super) fn value(&self) -> Value {
        let mut out = json!({
            "observedGeneration": self.observed_generation, "replicas": self.replicas,
            "availableReplicas": self.available_replicas, "collisionCount": self.collision_count,
            "currentRevision": self.current_revision, "updateRevision": self.update_revision,
        });
        for (field, number) in [
            ("readyReplicas", self.ready_replicas),
            ("currentReplicas", self.current_replicas),
            ("updatedReplicas", self.updated_replicas),
        ] {
            if number != 0 {
                out[field] = number.into();
            }
        }
        out
    }
}

impl Set {
    pub(super) fn name(&self) -> &str {
        &self.metadata.meta.name
    }

    pub(super) fn replicas(&self) -> i64 {
        self.spec.replicas.unwrap_or(1).max(0)
    }

    /// The first ordinal.
    pub(super) fn start(&self) -> i64 {
        self.spec.ordinals.as_ref().map_or(0, |o| o.start)
    }

    pub(super) fn in_range(&self, ordinal: i64) -> bool {
        (self.start()..self.start() + self.replicas()).contains(&ordinal)
    }

    /// Whether pods come and go one after the other.
    pub(super) fn ordered(&self) -> bool {
        self.spec.pod_management_policy != "Parallel"
    }

    pub(super) fn on_delete(&self) -> bool {
        self.spec.update_strategy.kind == "OnDelete"
    }

    /// Pods before this place keep the old template.
    pub(super) fn partition(&self) -> i64 {
        self.spec.update_strategy.rolling_update.as_ref().and_then(|r| r.partition).unwrap_or(0)
    }

    /// How many pods may be unavailable during an update, where that is said.
    pub(super) fn max_unavailable(&self) -> Option<i64> {
        let rolling = self.spec.update_strategy.rolling_update.as_ref()?;
        let said = rolling.max_unavailable.as_ref()?;
        Some(scaled(Some(said), self.replicas(), false).max(1))
    }

    pub(super) fn retention(&self) -> (bool, bool) {
        let policy = self.spec.persistent_volume_claim_retention_policy.as_ref();
        let deletes = |what: fn(&Retention) -> &String| policy.is_some_and(|p| what(p) == "Delete");
        (deletes(|p| &p.when_deleted), deletes(|p| &p.when_scaled))
    }

    pub(super) fn pod_name(&self, ordinal: i64) -> String {
        format!("{}-{ordinal}", self.name())
    }

    /// Names of the claims of a pod, one a template.
    pub(super) fn claim_names(&self, ordinal: i64) -> impl Iterator<Item = (String, &Value)> {
        let name = move |template: &Value| {
            let own = template.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            format!("{own}-{}-{ordinal}", self.name())
        };
        self.spec.volume_claim_templates.iter().map(move |template| (name(template), template))
    }

    /// A claim that a template makes, with the labels of the selector.
    pub(super) fn claim(&self, name: &str, template: &Value, owners: Vec<Value>) -> Value {
        let mut metadata = template.get("metadata").cloned().unwrap_or_else(|| json!({}));
        let mut labels: Map<String, Value> =
            metadata.get("labels").and_then(Value::as_object).cloned().unwrap_or_default();
        let wanted = self.spec.selector.get("matchLabels").and_then(Value::as_object);
        labels.extend(wanted.cloned().unwrap_or_default());
        metadata["name"] = name.into();
        metadata["namespace"] = (*self.metadata.meta.namespace).into();
        metadata["labels"] = labels.into();
        if !owners.is_empty() {
            metadata["ownerReferences"] = owners.into();
        }
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata,
            "spec": template.get("spec").cloned().unwrap_or_default(),
        })
    }

    /// The reference of what the set owns.
    pub(super) fn owner(&self) -> Value {
        controller_reference(API_VERSION, KIND, self.name(), &self.metadata.meta.uid)
    }

    /// The labels that say who a pod is.
    pub(super) fn identity(&self, ordinal: i64) -> Value {
        json!({NAME_LABEL: self.pod_name(ordinal), INDEX_LABEL: ordinal.to_string()})
    }

    /// The pod of an ordinal, of a revision's template.
    pub(super) fn pod(&self, ordinal: i64, template: &Value, revision: &str) -> Value {
        let name = self.pod_name(ordinal);
        let mut pod = pod_from(template, self.name(), self.owner());
        if let Some(metadata) = pod["metadata"].as_object_mut() {
            metadata.remove("generateName");
            metadata.insert("name".into(), name.as_str().into());
        }
        if !pod["metadata"]["labels"].is_object() {
            pod["metadata"]["labels"] = json!({});
        }
        if let (Some(labels), Value::Object(own)) =
            (pod["metadata"]["labels"].as_object_mut(), self.identity(ordinal))
        {
            labels.extend(own);
            labels.insert(REVISION_LABEL.into(), revision.into());
        }
        pod["spec"]["hostname"] = name.into();
        pod["spec"]["subdomain"] = self.spec.service_name.as_str().into();
        self.mount(&mut pod["spec"], ordinal);
        pod
    }

    /// Puts the claims of a pod among its volumes, in place of those of the same name.
    fn mount(&self, spec: &mut Value, ordinal: i64) {
        let own = |template: &Value| template.pointer("/metadata/name").cloned().unwrap_or_default();
        let mut volumes: Vec<Value> = self
            .claim_names(ordinal)
            .map(|(claim, template)| json!({"name": own(template), "persistentVolumeClaim": {"claimName": claim}}))
            .collect();
        if volumes.is_empty() {
            return;
        }
        let names: Vec<Value> = self.spec.volume_claim_templates.iter().map(own).collect();
        let others = spec.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        volumes.extend(others.into_iter().filter(|v| !names.contains(&v["name"])));
        spec["volumes"] = volumes.into();
    }
}

/// The set and the ordinal that a pod's name speaks of: `web-3`.
pub(super) fn parse_name(name: &str) -> Option<(&str, i64)> {
    let (set, ordinal) = name.rsplit_once('-')?;
    let digits = !ordinal.is_empty() && ordinal.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| ordinal.parse::<i32>().ok()).flatten().map(|n| (set, i64::from(n)))
}

/// The revision a pod was made of.
pub(super) fn revision_of(pod: &Pod) -> &str {
    pod.meta().labels.get(REVISION_LABEL).map_or("", |label| label)
}
