//! What a pod was given of its node: it stays given, whatever its spec says, until the node agrees to something else.
//! Source: kubelet `allocation`, KEP-1287.

use super::resources::{Kernel, PERIOD_US, milli, pod_kernel, quota, shares, units};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What can change of a running container: thousandths of a core and bytes; 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Size {
    /// Requested thousandths of a core.
    pub cpu_request: i64,
    /// Thousandths of a core it may use.
    pub cpu_limit: i64,
    /// Requested bytes.
    pub memory_request: i64,
    /// Bytes it may use.
    pub memory_limit: i64,
}

type List = BTreeMap<String, Quantity>;

impl Size {
    /// Reads a container's resources.
    pub fn of(r: Option<&ResourceRequirements>) -> Self {
        let (requests, limits) = (r.and_then(|r| r.requests.as_ref()), r.and_then(|r| r.limits.as_ref()));
        let cpu = |l: Option<&List>| l?.get("cpu").and_then(milli);
        let memory = |l: Option<&List>| l?.get("memory").and_then(units);
        Self {
            cpu_request: cpu(requests).unwrap_or(0),
            cpu_limit: cpu(limits).unwrap_or(0),
            memory_request: memory(requests).unwrap_or(0),
            memory_limit: memory(limits).unwrap_or(0),
        }
    }

    /// What the kernel is told.
    pub fn kernel(self) -> Kernel {
        let request = if self.cpu_request > 0 { self.cpu_request } else { self.cpu_limit };
        Kernel {
            shares: shares(request),
            quota: quota(self.cpu_limit),
            period: PERIOD_US,
            memory: self.memory_limit,
        }
    }
}

/// What is given to a pod: the resources of its containers by name, and its own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Given {
    /// Of containers and init containers, by name.
    pub containers: BTreeMap<String, ResourceRequirements>,
    /// Of the pod as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<ResourceRequirements>,
}

/// Containers that can be given something else while the pod lives.
pub fn resizable(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn same_list(a: Option<&List>, b: Option<&List>) -> bool {
    let empty = List::new();
    let (a, b) = (a.unwrap_or(&empty), b.unwrap_or(&empty));
    let read = |q: &Quantity| skep_api::quantity::Quantity::parse(&q.0).ok();
    a.len() == b.len()
        && a.iter()
            .all(|(k, x)| b.get(k).is_some_and(|y| x == y || (read(x).is_some() && read(x) == read(y))))
}

fn same(a: Option<&ResourceRequirements>, b: Option<&ResourceRequirements>) -> bool {
    same_list(a.and_then(|r| r.requests.as_ref()), b.and_then(|r| r.requests.as_ref()))
        && same_list(a.and_then(|r| r.limits.as_ref()), b.and_then(|r| r.limits.as_ref()))
}

impl Given {
    /// Just what a spec asks for.
    pub fn of(spec: &PodSpec) -> Self {
        let all = resizable(spec).map(|c| (c.name.clone(), c.resources.clone().unwrap_or_default()));
        Self { containers: all.collect(), pod: spec.resources.clone() }
    }

    /// Whether a spec asks for just this.
    pub fn is(&self, spec: &PodSpec) -> bool {
        same(self.pod.as_ref(), spec.resources.as_ref())
            && resizable(spec)
                .all(|c| self.containers.get(&c.name).is_none_or(|g| same(Some(g), c.resources.as_ref())))
    }

    /// The pod as it is given; the same one where it asks for just this.
    pub fn overlay(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        let Some(spec) = pod.spec.as_ref().filter(|s| !self.is(s)) else { return pod.clone() };
        let mut spec = spec.clone();
        if !same(self.pod.as_ref(), spec.resources.as_ref()) {
            spec.resources.clone_from(&self.pod);
        }
        for c in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            if let Some(g) = self.containers.get(&c.name).filter(|g| !same(Some(g), c.resources.as_ref())) {
                c.resources = Some(g.clone());
            }
        }
        Arc::new(Pod { metadata: pod.metadata.clone(), spec: Some(spec), status: pod.status.clone() })
    }
}

/// What the runtime and the kernel have been told last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Told {
    /// The runtime, of each container it was asked to make.
    pub containers: BTreeMap<String, Size>,
    /// The kernel, of the pod's cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Kernel>,
}

/// What is kept on disk of a pod that was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Format of this record.
    pub format: u32,
    /// What it was given.
    pub given: Given,
    /// What has been made of that.
    pub told: Told,
}

/// The format written now.
pub const FORMAT: u32 = 1;

impl Record {
    /// Of a pod just taken.
    pub fn new(spec: &PodSpec) -> Self {
        Self { format: FORMAT, given: Given::of(spec), told: Told::default() }
    }

    /// Of a pod that runs already and of which nothing was kept: it has what its spec says.
    pub fn adopt(spec: &PodSpec) -> Self {
        let sizes = resizable(spec).map(|c| (c.name.clone(), Size::of(c.resources.as_ref())));
        let told = Told { containers: sizes.collect(), cgroup: Some(pod_kernel(spec)) };
        Self { told, ..Self::new(spec) }
    }
}
