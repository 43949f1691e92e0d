//! What the autoscaler reads: its own objects, their targets' scales, pods and metrics.

use crate::views::Condition;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use skep_api::Meta;
use skep_api::quantity::Quantity;
use std::collections::BTreeMap;

/// A metric of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// In thousandths.
    pub(super) value: i64,
    /// The end of the time over which it was taken …
    pub(super) at: Timestamp,
    /// … and how long that was.
    pub(super) window: SignedDuration,
}

/// Metrics by pod.
pub(super) type Samples = BTreeMap<String, Sample>;

/// What a metrics API answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// For each pod.
    Pods(Samples),
    /// Values, in thousandths.
    Values(Vec<i64>),
}

/// A pod, as far as it matters here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Pod {
    pub(super) metadata: Meta,
    pub(super) spec: PodSpec,
    pub(super) status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodSpec {
    pub(super) containers: Vec<Container>,
    pub(super) init_containers: Vec<Container>,
    pub(super) resources: Resources,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) resources: Resources,
    pub(super) restart_policy: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Resources {
    pub(super) requests: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodStatus {
    pub(super) phase: String,
    pub(super) start_time: Option<Timestamp>,
    pub(super) conditions: Vec<Condition>,
}

impl Pod {
    pub(super) fn ready_condition(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|c| c.kind == "Ready")
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready_condition().is_some_and(|c| c.status == "True")
    }

    /// Containers, and init containers that keep running beside them.
    pub(super) fn long_running(&self) -> impl Iterator<Item = &Container> {
        let sidecars = self.spec.init_containers.iter().filter(|c| c.restart_policy == "Always");
        self.spec.containers.iter().chain(sidecars)
    }
}

/// A HorizontalPodAutoscaler; what is written back is written as it was read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) scale_target_ref: Reference,
    pub(super) min_replicas: Option<i64>,
    pub(super) max_replicas: i64,
    pub(super) metrics: Vec<Metric>,
    pub(super) behavior: Option<Behavior>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Reference {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
}

/// One metric and what it should be; of its sources one is set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metric {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) resource: Option<Source>,
    pub(super) container_resource: Option<Source>,
    pub(super) pods: Option<Source>,
    pub(super) object: Option<Source>,
    pub(super) external: Option<Source>,
}

/// What all kinds of metrics may say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Source {
    /// The resource.
    pub(super) name: String,
    pub(super) container: String,
    pub(super) described_object: Value,
    pub(super) metric: Value,
    pub(super) target: Target,
}

impl Source {
    pub(super) fn metric_name(&self) -> &str {
        self.metric["name"].as_str().unwrap_or_default()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Target {
    pub(super) value: Option<String>,
    pub(super) average_value: Option<String>,
    pub(super) average_utilization: Option<i64>,
}

/// A quantity in thousandths.
pub(super) fn milli(text: &str) -> i64 {
    Quantity::parse(text).unwrap_or_default().milli_value()
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Behavior {
    pub(super) scale_up: Option<Rules>,
    pub(super) scale_down: Option<Rules>,
}

/// How fast replicas may change in one direction.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Rules {
    pub(super) stabilization_window_seconds: Option<i64>,
    pub(super) select_policy: String,
    pub(super) policies: Vec<Policy>,
    pub(super) tolerance: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Policy {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) value: i64,
    pub(super) period_seconds: i64,
}

/// The scale of a target.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Scale {
    pub(super) spec: ScaleSpec,
    pub(super) status: ScaleStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ScaleSpec {
    pub(super) replicas: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ScaleStatus {
    pub(super) replicas: i64,
    pub(super) selector: String,
}
