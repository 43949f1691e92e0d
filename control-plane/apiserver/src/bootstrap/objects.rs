//! The objects themselves.

use super::Config;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use skep_client::Collection;

/// Namespaces every cluster has.
pub(super) const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const SERVICE: &str = "kubernetes";
const PORT_NAME: &str = "https";

pub(super) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// `scheduling.k8s.io/v1` SystemPriorityClasses.
pub(super) fn priority_classes() -> Vec<Value> {
    const ROWS: [(&str, i64, &str); 2] = [
        ("system-node-critical", 2_000_001_000, "For pods that a node cannot do without."),
        (
            "system-cluster-critical",
            2_000_000_000,
            "For pods that the cluster cannot do without, on whichever node.",
        ),
    ];
    let class = |(name, value, description): &(&str, i64, &str)| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
            "description": description, "preemptionPolicy": "PreemptLowerPriority"})
    };
    ROWS.iter().map(class).collect()
}

/// The ranges that addresses of Services come from.
pub(super) fn service_range(cidrs: &[String]) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "spec": {"cidrs": cidrs},
        "metadata": {"name": SERVICE, "finalizers": ["networking.k8s.io/service-cidr-finalizer"]},
    })
}

/// The condition of a range that is in use.
pub(super) fn range_ready(now: &str) -> Value {
    json!([{
        "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": now,
    }])
}

/// The collection of a flow control object.
pub(super) fn flow_collection(object: &Value) -> Collection {
    let level = object["kind"] == "PriorityLevelConfiguration";
    let resource = if level { "prioritylevelconfigurations" } else { "flowschemas" };
    Collection::of("flowcontrol.apiserver.k8s.io", "v1", resource)
}

/// The Service by which pods reach the API server, its endpoints, and what servers behind it must know to trust it.
pub(super) fn kubernetes(config: &Config) -> Vec<(Collection, Value)> {
    let address = config.advertise.to_string();
    let family = if config.advertise.is_ipv4() { "IPv4" } else { "IPv6" };
    let port = json!({"name": PORT_NAME, "port": config.port, "protocol": "TCP"});
    let metadata = |labels: Value| json!({"name": SERVICE, "namespace": "default", "labels": labels});
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": metadata(json!({"component": "apiserver", "provider": SERVICE})),
        "spec": {
            "type": "ClusterIP", "clusterIP": config.service_ip.to_string(), "sessionAffinity": "None",
            "ports": [{"name": PORT_NAME, "port": 443, "protocol": "TCP", "targetPort": config.port}],
        },
    });
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": metadata(json!({"endpointslice.kubernetes.io/skip-mirror": "true"})),
        "subsets": [{"addresses": [{"ip": address}], "ports": [port]}],
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": metadata(json!({"kubernetes.io/service-name": SERVICE})),
        "addressType": family, "endpoints": [{"addresses": [address], "conditions": {"ready": true}}], "ports": [port],
    });
    let authentication = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {"client-ca-file": config.ca_pem},
    });
    let information = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": {"kubeconfig": cluster_info(config)},
    });
    let configuration = Collection::core("configmaps");
    let mut all = vec![
        (Collection::core("services"), service),
        (configuration.clone(), authentication),
        (configuration, information),
    ];
    // An address of the loopback interface is no endpoint: from a pod it leads nowhere, and validation refuses it.
    if !config.advertise.is_loopback() {
        all.push((Collection::core("endpoints"), endpoints));
        all.push((Collection::of("discovery.k8s.io", "v1", "endpointslices"), slice));
    }
    all
}

/// Where the cluster is and whom to trust, for a machine that knows nothing but a bootstrap token: by that it checks the
/// signature of this text.
fn cluster_info(config: &Config) -> String {
    let server = std::net::SocketAddr::new(config.advertise, config.port);
    let authority = STANDARD.encode(&config.ca_pem);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: \"\"\n  cluster:\n    certificate-authority-data: {authority}\n    \
         server: https://{server}\ncontexts: []\ncurrent-context: \"\"\nusers: []\n"
    )
}
