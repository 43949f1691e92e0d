//! What the node asks of the API, and events as the kubelet writes them.

use crate::core::resize::{IN_PROGRESS, PENDING};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use serde_json::{Value, json};
use skep_api::{Object, Status};
use skep_client::{Client, ClientExt, Collection, DeleteOptions, Patch, WriteOptions};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The API as the node uses it. Clones share one client and one event memory.
#[derive(Clone)]
pub struct Api {
    client: Arc<dyn Client>,
    node: Arc<str>,
    seen: Arc<Mutex<HashMap<EventKey, Told>>>,
    cache: Arc<Mutex<Cache>>,
}

/// What was read, by kind (Secret or not), namespace and name.
type Cache = HashMap<(bool, String, String), Cached>;
type EventKey = (String, String, String, String);

struct Told {
    name: String,
    count: u32,
    at: Instant,
}

#[derive(Clone)]
struct Cached {
    at: Instant,
    object: Option<Arc<Object>>,
}

/// How long a ConfigMap or Secret read for one pod serves the next.
const FRESH: Duration = Duration::from_secs(5);
/// Events of the same kind within this time are counted together.
const AGGREGATE: Duration = Duration::from_secs(600);
/// At most so many kinds of events are remembered.
const MEMORY: usize = 512;

/// A kind of object that pods refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Referred {
    /// ConfigMap.
    ConfigMap,
    /// Secret.
    Secret,
}

impl Api {
    /// The API through `client`, for the node of that name.
    pub fn new(client: Arc<dyn Client>, node: &str) -> Self {
        Self {
            client,
            node: node.into(),
            seen: Arc::new(Mutex::new(HashMap::new())),
            cache: Arc::new(Mutex::new(HashMap::new())),
        }
    }

    /// The client itself.
    pub fn client(&self) -> &Arc<dyn Client> {
        &self.client
    }

    /// Name of the node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Writes what changed of a pod's status; answers the new version. Only for the pod with this uid.
    pub async fn patch_status(&self, pod: &Pod, status: &PodStatus) -> Result<Option<Arc<Object>>, Status> {
        let old = serde_json::to_value(pod.status.clone().unwrap_or_default()).map_err(Status::internal)?;
        let new = serde_json::to_value(status).map_err(Status::internal)?;
        let Some(change) = difference(&old, &new) else { return Ok(None) };
        let body = json!({"metadata": {"uid": pod.metadata.uid}, "status": change});
        let target = self.pod(pod).sub("status");
        self.client.patch(&target, &Patch::Strategic(body), &WriteOptions::default()).await.map(Some)
    }

    fn pod(&self, pod: &Pod) -> skep_client::Target {
        Collection::core("pods").item(
            pod.metadata.namespace.as_deref().unwrap_or_default(),
            pod.metadata.name.as_deref().unwrap_or_default(),
        )
    }

    /// Reads a pod.
    pub async fn get_pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, Status> {
        match self.client.find(&Collection::core("pods").item(namespace, name)).await? {
            Some(o) => skep_client::typed::decode(&o).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the node itself.
    pub async fn get_node(&self) -> Result<Option<Value>, Status> {
        let found = self.client.find(&Collection::core("nodes").object(&*self.node)).await?;
        Ok(found.map(|o| o.value()))
    }

    /// Removes the object of a pod that has ended on this node.
    pub async fn delete_pod(&self, pod: &Pod) -> Result<(), Status> {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: pod.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        match self.client.delete(&self.pod(pod), &options).await {
            Ok(_) => Ok(()),
            Err(s) if s.is_not_found() || s.is_conflict() => Ok(()),
            Err(s) => Err(s),
        }
    }

    /// A ConfigMap's or Secret's data; `None` when there is no such object. Recent answers are used again.
    pub async fn data(
        &self,
        kind: Referred,
        namespace: &str,
        name: &str,
    ) -> Result<Option<std::collections::BTreeMap<String, Vec<u8>>>, Status> {
        let key = (kind == Referred::Secret, namespace.to_owned(), name.to_owned());
        let cached = self.cache.lock().get(&key).filter(|c| c.at.elapsed() < FRESH).cloned();
        let object = match cached {
            Some(c) => c.object,
            None => {
                let resource = if kind == Referred::Secret { "secrets" } else { "configmaps" };
                let object = self.client.find(&Collection::core(resource).item(namespace, name)).await?;
                let mut cache = self.cache.lock();
                cache.retain(|_, c| c.at.elapsed() < FRESH);
                cache.insert(key, Cached { at: Instant::now(), object: object.clone() });
                object
            }
        };
        object.map(|o| decode_data(kind, &o.value())).transpose()
    }

    /// Forgets what was read of a ConfigMap or Secret.
    pub fn forget(&self, kind: Referred, namespace: &str, name: &str) {
        self.cache.lock().remove(&(kind == Referred::Secret, namespace.to_owned(), name.to_owned()));
    }

    /// Type and data of a Secret, for image pulls.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<(String, Value)>, Status> {
        let o = self.client.find(&Collection::core("secrets").item(namespace, name)).await?;
        Ok(o.map(|o| {
            let v = o.value();
            (v["type"].as_str().unwrap_or_default().to_owned(), v)
        }))
    }

    /// A token for a pod's service account: the token and when it expires.
    pub async fn token(
        &self,
        pod: &Pod,
        audience: Option<&str>,
        seconds: i64,
    ) -> Result<(String, Timestamp), Status> {
        let ns = pod.metadata.namespace.as_deref().unwrap_or_default();
        let account = pod
            .spec
            .as_ref()
            .and_then(|s| s.service_account_name.as_deref())
            .filter(|s| !s.is_empty())
            .unwrap_or("default");
        let mut spec = json!({
            "expirationSeconds": seconds,
            "audiences": [],
            "boundObjectRef": {
                "apiVersion": "v1", "kind": "Pod",
                "name": pod.metadata.name, "uid": pod.metadata.uid,
            },
        });
        if let Some(a) = audience.filter(|a| !a.is_empty()) {
            spec["audiences"] = json!([a]);
        }
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let target = Collection::core("serviceaccounts").item(ns, account).sub("token");
        let answer = self.client.create_subresource(&target, body, &WriteOptions::default()).await?.value();
        let token = answer["status"]["token"].as_str().unwrap_or_default().to_owned();
        let expires = answer["status"]["expirationTimestamp"]
            .as_str()
            .and_then(|t| t.parse().ok())
            .unwrap_or_else(|| Timestamp::now() + jiff::SignedDuration::from_secs(seconds));
        if token.is_empty() {
            return Err(Status::internal("the token request was answered without a token"));
        }
        Ok((token, expires))
    }

    /// Tells an event about a pod, or one of its containers. Never fails: events are for people.
    pub fn event(&self, pod: &Pod, container: Option<&str>, warning: bool, reason: &str, message: &str) {
        let spec = pod.spec.as_ref();
        let path = container.map(|c| {
            let list = if spec.is_some_and(|s| s.init_containers.iter().flatten().any(|i| i.name == c)) {
                "initContainers"
            } else if spec.is_some_and(|s| s.ephemeral_containers.iter().flatten().any(|i| i.name == c)) {
                "ephemeralContainers"
            } else {
                "containers"
            };
            format!("spec.{list}{{{c}}}")
        });
        let about = json!({
            "apiVersion": "v1", "kind": "Pod",
            "namespace": pod.metadata.namespace, "name": pod.metadata.name, "uid": pod.metadata.uid,
            "resourceVersion": pod.metadata.resource_version, "fieldPath": path,
        });
        self.tell(about, pod.metadata.namespace.as_deref().unwrap_or("default"), warning, reason, message);
    }

    /// Tells an event about the node.
    pub fn node_event(&self, warning: bool, reason: &str, message: &str) {
        let about = json!({"kind": "Node", "apiVersion": "v1", "name": &*self.node, "uid": &*self.node});
        self.tell(about, "default", warning, reason, message);
    }

    fn tell(&self, mut about: Value, namespace: &str, warning: bool, reason: &str, message: &str) {
        if let Some(m) = about.as_object_mut() {
            m.retain(|_, v| !v.is_null());
        }
        let mut message = message.to_owned();
        if message.len() > 1024 {
            let cut = (0..=1021).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
            message.truncate(cut);
            message.push_str("...");
        }
        let key: EventKey = (
            about["uid"].as_str().unwrap_or_default().to_owned(),
            about["fieldPath"].as_str().unwrap_or_default().to_owned(),
            reason.to_owned(),
            message.clone(),
        );
        let name = about["name"].as_str().unwrap_or_default();
        let (event, count) = {
            let mut seen = self.seen.lock();
            if seen.len() > MEMORY {
                seen.retain(|_, t| t.at.elapsed() < AGGREGATE);
            }
            if seen.len() > MEMORY {
                seen.clear();
            }
            let fresh = format!("{name}.{:x}", Timestamp::now().as_nanosecond());
            let told = seen.entry(key).or_insert(Told { name: fresh.clone(), count: 0, at: Instant::now() });
            if told.at.elapsed() > AGGREGATE {
                *told = Told { name: fresh, count: 0, at: Instant::now() };
            }
            told.count = told.count.saturating_add(1);
            told.at = Instant::now();
            (told.name.clone(), told.count)
        };
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string();
        let (client, ns) = (self.client.clone(), namespace.to_owned());
        let body = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": event, "namespace": ns},
            "involvedObject": about, "reason": reason, "message": message,
            "source": {"component": "kubelet", "host": &*self.node},
            "firstTimestamp": now, "lastTimestamp": now, "count": count,
            "type": if warning { "Warning" } else { "Normal" },
            "eventTime": null, "reportingComponent": "kubelet", "reportingInstance": &*self.node,
        });
        let node = self.node.clone();
        tokio::spawn(async move {
            let events = Collection::core("events").within(ns.clone());
            let options = WriteOptions::default();
            if count > 1 {
                let patch =
                    Patch::Merge(json!({"count": count, "lastTimestamp": now, "message": body["message"]}));
                match client.patch(&events.object(&event), &patch, &options).await {
                    Err(s) if s.is_not_found() => {}
                    _ => return,
                }
            }
            if let Err(e) = client.create(&events, body, &options).await {
                tracing::debug!(%node, error = %e.message, "event not written");
            }
        });
    }
}

fn decode_data(kind: Referred, v: &Value) -> Result<std::collections::BTreeMap<String, Vec<u8>>, Status> {
    use base64::Engine;
    let mut out = std::collections::BTreeMap::new();
    let decode = |s: &str| base64::engine::general_purpose::STANDARD.decode(s).map_err(Status::internal);
    for (k, x) in v["data"].as_object().into_iter().flatten() {
        let s = x.as_str().unwrap_or_default();
        out.insert(k.clone(), if kind == Referred::Secret { decode(s)? } else { s.as_bytes().to_vec() });
    }
    for (k, x) in v["binaryData"].as_object().into_iter().flatten() {
        out.insert(k.clone(), decode(x.as_str().unwrap_or_default())?);
    }
    Ok(out)
}

/// Lists in a status that the API merges by key; all others are replaced whole.
const MERGED: [(&str, &str); 3] = [("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip")];

/// The strategic merge patch that leads from one status to another; `None` when they are alike.
/// Fields the node does not own are left out of both.
pub fn difference(old: &Value, new: &Value) -> Option<Value> {
    const FOREIGN: [&str; 7] = [
        "nominatedNodeName",
        "resourceClaimStatuses",
        "extendedResourceClaimStatus",
        "nodeAllocatableResourceClaimStatuses",
        "resize",
        "resources",
        "allocatedResources",
    ];
    let empty = serde_json::Map::new();
    let (o, n) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let mut out = serde_json::Map::new();
    for key in o.keys().chain(n.keys()) {
        if out.contains_key(key) || FOREIGN.contains(&key.as_str()) {
            continue;
        }
        let (a, b) = (o.get(key).unwrap_or(&Value::Null), n.get(key).unwrap_or(&Value::Null));
        if a == b {
            continue;
        }
        let merged = MERGED.iter().find(|(k, _)| k == key);
        let change = match (merged, b.as_array()) {
            (Some((_, id)), Some(want)) => {
                let have = a.as_array().map(Vec::as_slice).unwrap_or_default();
                let mut list: Vec<Value> = want.iter().filter(|w| !have.contains(w)).cloned().collect();
                for h in have.iter().filter(|h| !want.iter().any(|w| w[id] == h[id])) {
                    // Conditions of others are never taken away.
                    if *id == "ip" || [PENDING, IN_PROGRESS].iter().any(|own| h[id] == **own) {
                        list.push(json!({"$patch": "delete", *id: h[id]}));
                    }
                }
                // A field of a condition that is gone has to be said to be gone.
                for item in list.iter_mut().filter(|i| i.get("$patch").is_none()) {
                    if let Some(before) = have.iter().find(|h| h[id] == item[id]) {
                        for k in before.as_object().into_iter().flat_map(|m| m.keys()) {
                            if item.get(k).is_none() {
                                item[k] = Value::Null;
                            }
                        }
                    }
                }
                if list.is_empty() {
                    continue;
                }
                Value::Array(list)
            }
            _ => b.clone(),
        };
        out.insert(key.clone(), change);
    }
    (!out.is_empty()).then_some(Value::Object(out))
}
