//! What the CronJob controller reads of CronJobs and their Jobs.

use crate::views::{Condition, PodMeta, controller_reference};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_api::kinds::batch::schedule::{Schedule, ScheduleError, time_zone};

pub(super) const API_VERSION: &str = "batch/v1";
pub(super) const KIND: &str = "CronJob";
/// When a Job was to run, in the time zone of its CronJob.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct CronJob {
    pub(super) metadata: PodMeta,
    pub(super) spec: Spec,
    pub(super) status: CronStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) schedule: String,
    pub(super) time_zone: Option<String>,
    pub(super) starting_deadline_seconds: Option<i64>,
    pub(super) concurrency_policy: String,
    pub(super) suspend: bool,
    pub(super) job_template: Value,
    pub(super) successful_jobs_history_limit: Option<usize>,
    pub(super) failed_jobs_history_limit: Option<usize>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct CronStatus {
    /// References to Jobs that run.
    pub(super) active: Vec<Value>,
    pub(super) last_schedule_time: Option<Timestamp>,
    pub(super) last_successful_time: Option<Timestamp>,
}

impl CronStatus {
    pub(super) fn value(&self) -> Value {
        let mut out = json!({});
        if !self.active.is_empty() {
            out["active"] = self.active.clone().into();
        }
        for (field, at) in
            [("lastScheduleTime", self.last_schedule_time), ("lastSuccessfulTime", self.last_successful_time)]
        {
            if let Some(at) = at {
                out[field] = crate::views::time(at);
            }
        }
        out
    }

    pub(super) fn has(&self, uid: &str) -> bool {
        self.active.iter().any(|known| known["uid"] == uid)
    }

    pub(super) fn forget(&mut self, uid: &str) {
        self.active.retain(|known| known["uid"] != uid);
    }
}

/// A Job.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Job {
    pub(super) metadata: PodMeta,
    pub(super) status: JobStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct JobStatus {
    pub(super) conditions: Vec<Condition>,
    pub(super) start_time: Option<Timestamp>,
    pub(super) completion_time: Option<Timestamp>,
}

impl Job {
    pub(super) fn name(&self) -> &str {
        &self.metadata.meta.name
    }

    pub(super) fn uid(&self) -> &str {
        &self.metadata.meta.uid
    }

    /// `Complete` or `Failed`, once it is over.
    pub(super) fn end(&self) -> Option<&str> {
        let ends = |c: &&Condition| matches!(c.kind.as_str(), "Complete" | "Failed") && c.status == "True";
        self.status.conditions.iter().find(ends).map(|c| c.kind.as_str())
    }
}

/// Why a schedule cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// There is no such time zone.
    #[error("unknown time zone {0}")]
    Zone(String),
    /// It cannot be read.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

impl CronJob {
    fn zone(&self) -> Result<TimeZone, Unusable> {
        match self.spec.time_zone.as_deref() {
            None => Ok(TimeZone::UTC),
            Some(name) => time_zone(name).ok_or_else(|| Unusable::Zone(name.to_owned())),
        }
    }

    pub(super) fn schedule(&self) -> Result<Schedule, Unusable> {
        Ok(Schedule::parse(&self.spec.schedule, &self.zone()?)?)
    }

    /// From when on times count: the last that was started, or else when the CronJob was made.
    pub(super) fn last(&self) -> Timestamp {
        self.status.last_schedule_time.or(self.metadata.creation_timestamp).unwrap_or_default()
    }

    /// The name of the Job of a time: no second one can be made.
    pub(super) fn job_name(&self, at: Timestamp) -> String {
        format!("{}-{}", self.metadata.meta.name, at.as_second().div_euclid(60))
    }

    /// The Job of a time.
    pub(super) fn job(&self, at: Timestamp) -> Result<Value, Unusable> {
        let meta = &self.metadata.meta;
        let template = &self.spec.job_template;
        let mut metadata = json!({
            "name": self.job_name(at),
            "namespace": meta.namespace,
            "ownerReferences": [controller_reference(API_VERSION, KIND, &meta.name, &meta.uid)],
        });
        if let Some(labels) = template.pointer("/metadata/labels") {
            metadata["labels"] = labels.clone();
        }
        let annotations = template.pointer("/metadata/annotations").filter(|a| a.is_object());
        metadata["annotations"] = annotations.cloned().unwrap_or_else(|| json!({}));
        metadata["annotations"][SCHEDULED] = local(at, self.zone()?).into();
        let spec = template.get("spec").cloned().unwrap_or_default();
        Ok(json!({"apiVersion": API_VERSION, "kind": "Job", "metadata": metadata, "spec": spec}))
    }
}

/// An instant as RFC 3339 has it in a time zone.
fn local(at: Timestamp, zone: TimeZone) -> String {
    let at = at.to_zoned(zone);
    if at.offset().is_zero() {
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

/// A reference to a Job that runs.
pub(super) fn job_reference(meta: &skep_api::Meta, revision: u64) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "Job", "name": meta.name, "namespace": meta.namespace,
        "uid": meta.uid, "resourceVersion": revision.to_string(),
    })
}
