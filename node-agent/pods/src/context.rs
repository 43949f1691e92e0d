//! What every pod's worker shares.

use crate::allotments::Allotments;
use crate::api::{Api, Referred};
use crate::cgroup::Cgroups;
use crate::core::admit::NodeView;
use crate::core::env::{ServiceView, Sources};
use crate::core::sandbox::Node;
use crate::cri::{MessageFiles, Runtime};
use crate::prober::Counts;
use crate::volumes::Volumes;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::sync::Arc;
use std::time::Instant;

/// Services as environments show them, at the moment of asking.
pub type Services = Arc<dyn Fn() -> Vec<ServiceView> + Send + Sync>;

/// The node's own object, as the API last showed it.
pub type Own = Arc<dyn Fn() -> NodeView + Send + Sync>;

/// The node's means. Clones share them.
#[derive(Clone)]
pub struct Context {
    /// The container runtime.
    pub rt: Runtime,
    /// The API.
    pub api: Api,
    /// Facts of the node.
    pub node: Arc<Node>,
    /// Volumes of its pods.
    pub volumes: Volumes,
    /// Cgroup hierarchies.
    pub cgroups: Arc<Cgroups>,
    /// Services.
    pub services: Services,
    /// The node's own object.
    pub own: Own,
    /// What its pods were given.
    pub allotments: Allotments,
    /// Major and minor number of the kernel.
    pub kernel: (u32, u32),
    /// How often probes ended how.
    pub probes: Arc<Counts>,
    /// When this process began.
    pub began: Instant,
}

impl Context {
    /// Where messages and logs of a pod's containers lie.
    pub fn message_files(&self, pod: &Pod) -> MessageFiles {
        let (ns, name, uid) = crate::core::sandbox::id(pod);
        MessageFiles {
            containers: self.node.pod_dir(uid).join("containers"),
            logs: self.node.pod_logs(ns, name, uid),
        }
    }

    /// Everything a container's environment refers to.
    pub async fn sources(&self, pod: &Pod, c: &Container, ips: &[String]) -> Result<Sources, String> {
        let ns = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut out = Sources {
            services: (self.services)(),
            pod_ips: ips.to_vec(),
            host_ips: self.node.ips.clone(),
            node_cpu_milli: self.node.cpu_milli,
            node_memory: self.node.memory,
            ..Sources::default()
        };
        let mut wanted: Vec<(Referred, &str)> = Vec::new();
        for f in c.env_from.iter().flatten() {
            wanted.extend(f.config_map_ref.as_ref().map(|r| (Referred::ConfigMap, r.name.as_str())));
            wanted.extend(f.secret_ref.as_ref().map(|r| (Referred::Secret, r.name.as_str())));
        }
        for f in c.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            wanted.extend(f.config_map_key_ref.as_ref().map(|r| (Referred::ConfigMap, r.name.as_str())));
            wanted.extend(f.secret_key_ref.as_ref().map(|r| (Referred::Secret, r.name.as_str())));
        }
        wanted.dedup();
        for (kind, name) in wanted {
            let data = self.api.data(kind, ns, name).await.map_err(|e| e.message.clone())?;
            if let Some(d) = data {
                let map = if kind == Referred::Secret { &mut out.secrets } else { &mut out.config_maps };
                map.insert(name.to_owned(), d);
            }
        }
        Ok(out)
    }
}
