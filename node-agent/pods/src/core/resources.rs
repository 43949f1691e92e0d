//! Quality of service, and what requests and limits mean to the kernel.
//! Sources: API rule `v1qos`, kubelet `cm` helpers and `qos/policy.go`.

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// An amount in thousandths, rounded up; `None` when it is no quantity.
pub fn milli(q: &Quantity) -> Option<i64> {
    skep_api::quantity::Quantity::parse(&q.0).ok().map(|q| q.milli_value())
}

/// An amount in whole units (bytes, counts), rounded up; `None` when it is no quantity.
pub fn units(q: &Quantity) -> Option<i64> {
    skep_api::quantity::Quantity::parse(&q.0).ok().map(|q| q.value())
}

/// Quality of service class of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// Every container limits cpu and memory and requests just that.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl Qos {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The class, by the API server's own rule.
pub fn qos(spec: &PodSpec) -> Qos {
    let of = |c: &Container| json!({"resources": c.resources});
    let list = |l: &[Container]| l.iter().map(of).collect::<Vec<_>>();
    let seen = json!({"spec": {
        "resources": spec.resources,
        "containers": list(&spec.containers),
        "initContainers": list(spec.init_containers.as_deref().unwrap_or_default()),
    }});
    match skep_api::kinds::pod::qos_class(&seen) {
        "Guaranteed" => Qos::Guaranteed,
        "BestEffort" => Qos::BestEffort,
        _ => Qos::Burstable,
    }
}

/// What the kernel is told for a container or a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kernel {
    /// `cpu.shares` (2 to 262144).
    pub shares: i64,
    /// `cpu.cfs_quota_us`, 0 for none.
    pub quota: i64,
    /// `cpu.cfs_period_us`.
    pub period: i64,
    /// Memory limit in bytes, 0 for none.
    pub memory: i64,
}

/// The period in which quotas count, in microseconds.
pub const PERIOD_US: i64 = 100_000;

/// Shares of a request of `milli` thousandths of a core.
pub fn shares(milli: i64) -> i64 {
    if milli <= 0 { 2 } else { (milli.saturating_mul(1024) / 1000).clamp(2, 262_144) }
}

/// Quota in microseconds a period of a limit of `milli` thousandths of a core; 0 without limit.
pub fn quota(milli: i64) -> i64 {
    if milli <= 0 { 0 } else { (milli.saturating_mul(PERIOD_US) / 1000).max(1000) }
}

/// Thousandths of a core that shares stand for; 0 for none.
pub fn shares_milli(shares: i64) -> i64 {
    if shares < 2 { 0 } else { shares.saturating_mul(1000).saturating_add(1023) / 1024 }
}

impl Kernel {
    /// Thousandths of a core that the quota stands for; 0 for none.
    pub fn quota_milli(&self) -> i64 {
        if self.quota <= 0 || self.period <= 0 { 0 } else { self.quota.saturating_mul(1000) / self.period }
    }
}

fn amount(list: Option<&BTreeMap<String, Quantity>>, name: &str, cpu: bool) -> Option<i64> {
    let q = list?.get(name)?;
    if cpu { milli(q) } else { units(q) }
}

/// The kernel's figures for one set of resources. A request left out takes the limit's value.
pub fn kernel(r: Option<&ResourceRequirements>) -> Kernel {
    let requests = r.and_then(|r| r.requests.as_ref());
    let limits = r.and_then(|r| r.limits.as_ref());
    let cpu_limit = amount(limits, "cpu", true).unwrap_or(0);
    let cpu_request = amount(requests, "cpu", true).unwrap_or(cpu_limit);
    Kernel {
        shares: shares(cpu_request),
        quota: quota(cpu_limit),
        period: PERIOD_US,
        memory: amount(limits, "memory", false).unwrap_or(0),
    }
}

/// A resource summed the scheduler's way: regular containers and sidecars together, or the largest init step.
/// `None` when one of the summed containers has no such limit and `all` is asked for.
fn total(spec: &PodSpec, name: &str, limits: bool, all: bool) -> Option<i64> {
    let pick = |c: &Container| {
        let r = c.resources.as_ref();
        let list =
            if limits { r.and_then(|r| r.limits.as_ref()) } else { r.and_then(|r| r.requests.as_ref()) };
        let fallback = r.and_then(|r| r.limits.as_ref());
        amount(list, name, name == "cpu")
            .or_else(|| if limits { None } else { amount(fallback, name, name == "cpu") })
    };
    let mut sum = 0i64;
    for c in &spec.containers {
        match pick(c) {
            Some(v) => sum = sum.saturating_add(v),
            None if all => return None,
            None => {}
        }
    }
    let (mut sidecars, mut peak) = (0i64, 0i64);
    for c in spec.init_containers.iter().flatten() {
        let v = match pick(c) {
            Some(v) => v,
            None if all => return None,
            None => 0,
        };
        if super::rules::is_sidecar(c) {
            sidecars = sidecars.saturating_add(v);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars.saturating_add(v));
        }
    }
    Some(sum.saturating_add(sidecars).max(peak))
}

/// The kernel's figures for the whole pod's cgroup. Limits count only when every container has one.
pub fn pod_kernel(spec: &PodSpec) -> Kernel {
    if let Some(r) = spec.resources.as_ref().filter(|r| r.limits.is_some() || r.requests.is_some()) {
        return kernel(Some(r));
    }
    Kernel {
        shares: shares(total(spec, "cpu", false, false).unwrap_or(0)),
        quota: quota(total(spec, "cpu", true, true).unwrap_or(0)),
        period: PERIOD_US,
        memory: total(spec, "memory", true, true).unwrap_or(0),
    }
}

/// `oom_score_adj` of a container (kubelet `qos.GetContainerOOMScoreAdjust`).
pub fn oom_score(spec: &PodSpec, c: &Container, node_memory: i64) -> i64 {
    if spec.priority.unwrap_or(0) >= 2_000_000_000 {
        return -997;
    }
    match qos(spec) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let r = c.resources.as_ref();
            let request = amount(r.and_then(|r| r.requests.as_ref()), "memory", false)
                .or_else(|| amount(r.and_then(|r| r.limits.as_ref()), "memory", false))
                .unwrap_or(0);
            let score = 1000 - 1000i64.saturating_mul(request) / node_memory.max(1);
            match score {
                s if s < 3 => 3,
                1000 => 999,
                s => s,
            }
        }
    }
}

/// `cpu.weight` of cgroup v2 for v1 shares.
pub fn weight(shares: i64) -> i64 {
    1 + ((shares.clamp(2, 262_144) - 2) * 9999) / 262_142
}
