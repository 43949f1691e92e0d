//! What the Job controller reads of Jobs and of their pods.

use crate::views::{Condition, ContainerStatus, Pod};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use skep_api::Meta;

/// Keeps a pod until its end has been counted.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label of the pods of an Indexed Job.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the index failed before this pod, and how often that did not count.
pub(super) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const INDEX_IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// The controller that a Job without `managedBy` belongs to.
const OWN_NAME: &str = "kubernetes.io/job-controller";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Job {
    pub(super) metadata: Meta,
    pub(super) spec: Spec,
    pub(super) status: JobStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) parallelism: Option<i64>,
    pub(super) completions: Option<i64>,
    pub(super) completion_mode: String,
    pub(super) backoff_limit: Option<i64>,
    pub(super) backoff_limit_per_index: Option<i64>,
    pub(super) max_failed_indexes: Option<i64>,
    pub(super) active_deadline_seconds: Option<i64>,
    pub(super) suspend: bool,
    pub(super) pod_replacement_policy: String,
    pub(super) pod_failure_policy: Option<FailurePolicy>,
    pub(super) success_policy: Option<SuccessPolicy>,
    pub(super) managed_by: Option<String>,
    pub(super) selector: Value,
    pub(super) template: Value,
    pub(super) ttl_seconds_after_finished: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FailurePolicy {
    pub(super) rules: Vec<FailureRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct FailureRule {
    pub(super) action: String,
    pub(super) on_exit_codes: Option<ExitCodes>,
    pub(super) on_pod_conditions: Vec<Pattern>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ExitCodes {
    pub(super) container_name: Option<String>,
    pub(super) operator: String,
    pub(super) values: Vec<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pattern {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SuccessPolicy {
    pub(super) rules: Vec<SuccessRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SuccessRule {
    pub(super) succeeded_indexes: Option<String>,
    pub(super) succeeded_count: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct JobStatus {
    pub(super) start_time: Option<Timestamp>,
    pub(super) succeeded: i64,
    pub(super) failed: i64,
    pub(super) completed_indexes: String,
    pub(super) failed_indexes: Option<String>,
    pub(super) uncounted_terminated_pods: Uncounted,
    pub(super) conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Uncounted {
    pub(super) succeeded: Vec<String>,
    pub(super) failed: Vec<String>,
}

impl Job {
    pub(super) fn indexed(&self) -> bool {
        self.spec.completion_mode == "Indexed"
    }

    /// The condition, where it is true.
    pub(super) fn is(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|c| c.kind == kind && c.status == "True")
    }

    /// Since when it is over.
    pub(super) fn finished(&self) -> Option<&Condition> {
        self.is("Complete").or_else(|| self.is("Failed"))
    }

    /// Whether another controller looks after it.
    pub(super) fn foreign(&self) -> bool {
        self.spec.managed_by.as_deref().is_some_and(|name| name != OWN_NAME)
    }

    /// Whether a pod that is going away counts as running until it is gone.
    pub(super) fn waits_for_the_end(&self) -> bool {
        self.spec.pod_replacement_policy == "Failed" || self.spec.pod_failure_policy.is_some()
    }

    /// Whether a pod counts as failed. One that is going away may never get to say so.
    pub(super) fn lost(&self, pod: &Pod) -> bool {
        match pod.status.phase.as_str() {
            "Failed" => true,
            "Succeeded" => false,
            _ => pod.meta().deleting() && !self.waits_for_the_end(),
        }
    }
}

pub(super) fn tracked(pod: &Pod) -> bool {
    pod.meta().finalizers.iter().any(|f| &**f == FINALIZER)
}

/// The completion index of a pod, where it has one.
pub(super) fn index(pod: &Pod) -> Option<i64> {
    pod.metadata.annotation(INDEX)?.parse::<i32>().ok().filter(|i| *i >= 0).map(i64::from)
}

/// A number in an annotation; 0 where it is none.
pub(super) fn counted(pod: &Pod, annotation: &str) -> i64 {
    let number = pod.metadata.annotation(annotation).and_then(|text| text.parse::<i32>().ok());
    number.map_or(0, i64::from).max(0)
}

/// When a pod ended: when its last container did, or else what comes nearest.
pub(super) fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let end = |c: &ContainerStatus| c.state.terminated.as_ref().and_then(|t| t.finished_at);
    let ends: Option<Vec<Timestamp>> = pod.status.container_statuses.iter().map(end).collect();
    let unready = pod.status.conditions.iter().find(|c| c.kind == "Ready" && c.status == "False");
    ends.and_then(|ends| ends.into_iter().max())
        .or_else(|| unready.and_then(|c| c.last_transition_time))
        .or_else(|| pod.meta().deletion_timestamp.as_ref().and_then(|at| at.parse().ok()))
        .or(pod.metadata.creation_timestamp)
}
