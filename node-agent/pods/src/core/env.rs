//! Environment of a container: literals, references, Service variables, and `$(NAME)` expansion.

use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::BTreeMap;

/// Something an environment needs is missing; the container cannot be made yet (`CreateContainerConfigError`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// The ConfigMap or Secret does not exist.
    #[error("{kind} {name:?} not found")]
    Missing {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Name of the object.
        name: String,
    },
    /// The object has no such key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Namespace of the object.
        namespace: String,
        /// Name of the object.
        name: String,
        /// The missing key.
        key: String,
    },
    /// A Secret value in an environment must be text.
    #[error("invalid value for environment variable {0}: not UTF-8")]
    NotText(String),
    /// A field path or resource name that no environment can carry.
    #[error("{0}")]
    Unsupported(String),
}

/// A Service as far as environments show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Cluster address.
    pub ip: String,
    /// Ports: name (may be empty), protocol, number.
    pub ports: Vec<(String, String, i32)>,
}

/// Objects by name in the pod's namespace.
pub type Data = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// What references resolve against.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// ConfigMaps that exist.
    pub config_maps: Data,
    /// Secrets that exist.
    pub secrets: Data,
    /// Every Service with a cluster address.
    pub services: Vec<ServiceView>,
    /// Pod addresses, the primary first.
    pub pod_ips: Vec<String>,
    /// Node addresses, the primary first.
    pub host_ips: Vec<String>,
    /// Allocatable cpu in thousandths, for `resourceFieldRef` without limit.
    pub node_cpu_milli: i64,
    /// Allocatable memory in bytes, likewise.
    pub node_memory: i64,
}

/// Replaces `$(NAME)` by its value; `$$` stands for `$`; an unknown name is left as written.
pub fn expand(input: &str, vars: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('(') {
            if let Some(end) = tail.find(')') {
                let name = &tail[..end];
                match vars.get(name) {
                    Some(v) => out.push_str(v),
                    None => {
                        out.push_str("$(");
                        out.push_str(name);
                        out.push(')');
                    }
                }
                rest = &tail[end + 1..];
            } else {
                out.push_str("$(");
                rest = tail;
            }
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

fn upper(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

fn service_vars(s: &ServiceView, out: &mut BTreeMap<String, String>) {
    let Some((_, _, first)) = s.ports.first() else { return };
    let n = upper(&s.name);
    let host = if s.ip.contains(':') { format!("[{}]", s.ip) } else { s.ip.clone() };
    out.insert(format!("{n}_SERVICE_HOST"), s.ip.clone());
    out.insert(format!("{n}_SERVICE_PORT"), first.to_string());
    for (name, _, port) in &s.ports {
        if !name.is_empty() {
            out.insert(format!("{n}_SERVICE_PORT_{}", upper(name)), port.to_string());
        }
    }
    for (i, (_, protocol, port)) in s.ports.iter().enumerate() {
        let lower = protocol.to_ascii_lowercase();
        let url = format!("{lower}://{host}:{port}");
        if i == 0 {
            out.insert(format!("{n}_PORT"), url.clone());
        }
        let prefix = format!("{n}_PORT_{port}_{}", protocol.to_ascii_uppercase());
        out.insert(prefix.clone(), url);
        out.insert(format!("{prefix}_PROTO"), lower);
        out.insert(format!("{prefix}_PORT"), port.to_string());
        out.insert(format!("{prefix}_ADDR"), s.ip.clone());
    }
}

/// Variables of the Services a pod in `namespace` sees: its own namespace's if `links`, the API server's always.
pub fn service_env(services: &[ServiceView], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for s in services {
        if s.name == "kubernetes" && s.namespace == "default" {
            service_vars(s, &mut out);
        }
    }
    for s in services {
        if links && s.namespace == namespace {
            service_vars(s, &mut out);
        }
    }
    out
}

/// The value of a downward API field path for environments and files; `None` for paths that do not exist.
pub fn field(pod: &Pod, path: &str, src: &Sources) -> Option<String> {
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let m = &pod.metadata;
    let own = |s: Option<&String>| Some(s.cloned().unwrap_or_default());
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let map = match map {
            "metadata.labels" => m.labels.as_ref(),
            "metadata.annotations" => m.annotations.as_ref(),
            _ => return None,
        };
        return Some(map.and_then(|x| x.get(key)).cloned().unwrap_or_default());
    }
    let listed = |map: Option<&BTreeMap<String, String>>| {
        let lines: Vec<String> = map.into_iter().flatten().map(|(k, v)| format!("{k}={v:?}")).collect();
        Some(lines.join("\n"))
    };
    match path {
        "metadata.name" => own(m.name.as_ref()),
        "metadata.namespace" => own(m.namespace.as_ref()),
        "metadata.uid" => own(m.uid.as_ref()),
        "metadata.labels" => listed(m.labels.as_ref()),
        "metadata.annotations" => listed(m.annotations.as_ref()),
        "spec.nodeName" => own(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => own(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.phase" => own(status.and_then(|s| s.phase.as_ref())),
        "status.hostIP" => Some(src.host_ips.first().cloned().unwrap_or_default()),
        "status.hostIPs" => Some(src.host_ips.join(",")),
        "status.podIP" => Some(src.pod_ips.first().cloned().unwrap_or_default()),
        "status.podIPs" => Some(src.pod_ips.join(",")),
        _ => None,
    }
}

/// The value of a `resourceFieldRef` for a container of the pod.
pub fn resource(
    pod: &Pod,
    own: &str,
    name: Option<&str>,
    resource: &str,
    divisor: i64,
    src: &Sources,
) -> Option<String> {
    use super::resources::{milli, units};
    let spec = pod.spec.as_ref()?;
    let wanted = name.filter(|n| !n.is_empty()).unwrap_or(own);
    let c = spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == wanted)?;
    let (kind, what) = resource.split_once('.')?;
    let r = c.resources.as_ref();
    let list = match kind {
        "limits" => r.and_then(|r| r.limits.as_ref()),
        "requests" => r.and_then(|r| r.requests.as_ref()),
        _ => return None,
    };
    let found = list.and_then(|l| l.get(what));
    // Divisor is in thousandths; amounts are brought to thousandths too and the quotient rounded up.
    let value = match (what, found) {
        ("cpu", Some(q)) => i128::from(milli(q)?),
        ("cpu", None) if kind == "limits" => i128::from(src.node_cpu_milli),
        (_, Some(q)) => i128::from(units(q)?) * 1000,
        ("memory", None) if kind == "limits" => i128::from(src.node_memory) * 1000,
        (_, None) => 0,
    };
    let d = i128::from(if divisor <= 0 { 1000 } else { divisor });
    Some((value / d + i128::from(value % d != 0)).to_string())
}

fn text(name: &str, raw: &[u8]) -> Result<String, EnvError> {
    String::from_utf8(raw.to_vec()).map_err(|_| EnvError::NotText(name.to_owned()))
}

/// The whole environment of a container, in order: Service variables, `envFrom`, `env`.
pub fn build(pod: &Pod, c: &Container, src: &Sources) -> Result<Vec<(String, String)>, EnvError> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let mut service = service_env(&src.services, &namespace, links);
    let mut order: Vec<String> = Vec::new();
    let mut vars: BTreeMap<String, String> = BTreeMap::new();
    let put = |order: &mut Vec<String>, vars: &mut BTreeMap<String, String>, k: String, v: String| {
        if vars.insert(k.clone(), v).is_none() {
            order.push(k);
        }
    };
    for from in c.env_from.iter().flatten() {
        let prefix = from.prefix.clone().unwrap_or_default();
        let picked = if let Some(r) = &from.config_map_ref {
            Some(("configmap", r.name.clone(), r.optional, &src.config_maps))
        } else {
            from.secret_ref.as_ref().map(|r| ("secret", r.name.clone(), r.optional, &src.secrets))
        };
        let Some((kind, name, optional, data)) = picked else { continue };
        match data.get(&name) {
            None if optional == Some(true) => {}
            None => return Err(EnvError::Missing { kind, name }),
            Some(map) => {
                for (k, v) in map {
                    put(&mut order, &mut vars, format!("{prefix}{k}"), text(k, v)?);
                }
            }
        }
    }
    for e in c.env.iter().flatten() {
        let value = match (&e.value_from, &e.value) {
            (Some(from), _) => {
                if let Some(f) = &from.field_ref {
                    field(pod, &f.field_path, src).ok_or_else(|| {
                        EnvError::Unsupported(format!("unsupported pod field path: {}", f.field_path))
                    })?
                } else if let Some(r) = &from.resource_field_ref {
                    let d = r.divisor.as_ref().and_then(super::resources::milli).unwrap_or(0);
                    resource(pod, &c.name, r.container_name.as_deref(), &r.resource, d, src).ok_or_else(
                        || EnvError::Unsupported(format!("unsupported container resource: {}", r.resource)),
                    )?
                } else {
                    let (low, kind, name, key, optional, data) = if let Some(r) = &from.config_map_key_ref {
                        ("configmap", "ConfigMap", &r.name, &r.key, r.optional, &src.config_maps)
                    } else if let Some(r) = &from.secret_key_ref {
                        ("secret", "Secret", &r.name, &r.key, r.optional, &src.secrets)
                    } else {
                        continue;
                    };
                    let optional = optional == Some(true);
                    match data.get(name).map(|m| m.get(key)) {
                        Some(Some(v)) => text(&e.name, v)?,
                        _ if optional => continue,
                        None => return Err(EnvError::Missing { kind: low, name: name.clone() }),
                        Some(None) => {
                            return Err(EnvError::NoKey {
                                kind,
                                namespace,
                                name: name.clone(),
                                key: key.clone(),
                            });
                        }
                    }
                }
            }
            (None, Some(v)) => {
                let mut known = service.clone();
                known.extend(vars.clone());
                expand(v, &known)
            }
            (None, None) => String::new(),
        };
        put(&mut order, &mut vars, e.name.clone(), value);
    }
    service.retain(|k, _| !vars.contains_key(k));
    let mut out: Vec<(String, String)> = service.into_iter().collect();
    out.extend(order.into_iter().map(|k| {
        let v = vars.get(&k).cloned().unwrap_or_default();
        (k, v)
    }));
    Ok(out)
}
