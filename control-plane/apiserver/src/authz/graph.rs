//! Which objects belong to which node: those that the pods bound to it name, the volumes behind their claims, the secrets of
//! those volumes, and whatever names the node itself.

use super::follow::Index;
use serde_json::Value;
use skep_api::Object;
use skep_api::kinds::pod::refs;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

type Name = Arc<str>;
/// Namespace and name.
type Place = (Name, Name);

/// What the graph is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    Pod,
    Volume,
    Attachment,
    Slice,
}

/// What pods name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Named {
    Secret,
    ConfigMap,
    Claim,
    ResourceClaim,
    ServiceAccount,
}

struct Pod {
    node: Name,
    refs: Vec<(Named, Name)>,
}

struct Volume {
    claim: Place,
    secrets: Vec<Place>,
}

/// The graph. Every edge is found by the object it comes from.
#[derive(Default)]
pub(super) struct Graph {
    pods: HashMap<Place, Pod>,
    /// How many pods of each node name an object.
    named: HashMap<(Named, Place), HashMap<Name, usize>>,
    volumes: HashMap<Name, Volume>,
    /// Volumes that name a secret.
    by_secret: HashMap<Place, HashSet<Name>>,
    attachments: HashMap<Name, Name>,
    slices: HashMap<Name, Name>,
}

fn place(namespace: &str, name: &str) -> Place {
    (namespace.into(), name.into())
}

fn place_of(object: &Object) -> Place {
    place(&object.meta().namespace, &object.meta().name)
}

fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Graph {
    /// Whether a pod is bound to the node.
    pub(super) fn has_pod(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.pods.get(&place(namespace, name)).is_some_and(|pod| *pod.node == *node)
    }

    /// Whether a pod on the node names the object, or (for secrets) a volume behind a claim of such a pod does.
    pub(super) fn has_named(&self, node: &str, kind: Named, namespace: &str, name: &str) -> bool {
        let at = place(namespace, name);
        let volumes = if kind == Named::Secret { self.by_secret.get(&at) } else { None };
        self.direct(node, kind, at)
            || volumes.into_iter().flatten().any(|volume| self.has_volume(node, volume))
    }

    fn direct(&self, node: &str, kind: Named, at: Place) -> bool {
        self.named.get(&(kind, at)).is_some_and(|nodes| nodes.contains_key(node))
    }

    /// Whether a pod on the node uses the claim of a volume.
    pub(super) fn has_volume(&self, node: &str, volume: &str) -> bool {
        self.volumes.get(volume).is_some_and(|v| self.direct(node, Named::Claim, v.claim.clone()))
    }

    /// Whether an attachment is to the node.
    pub(super) fn has_attachment(&self, node: &str, name: &str) -> bool {
        self.attachments.get(name).is_some_and(|on| **on == *node)
    }

    /// Whether a slice of devices is the node's.
    pub(super) fn has_slice(&self, node: &str, name: &str) -> bool {
        self.slices.get(name).is_some_and(|on| **on == *node)
    }

    fn drop_pod(&mut self, at: &Place) {
        let Some(pod) = self.pods.remove(at) else { return };
        for (kind, name) in pod.refs {
            let key = (kind, (at.0.clone(), name));
            let Some(nodes) = self.named.get_mut(&key) else { continue };
            if let Some(count) = nodes.get_mut(&pod.node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&pod.node);
                }
            }
            if nodes.is_empty() {
                self.named.remove(&key);
            }
        }
    }

    fn put_pod(&mut self, object: &Object) {
        let tree = object.value();
        let node = text(&tree, "/spec/nodeName");
        let at = place_of(object);
        self.drop_pod(&at);
        if node.is_empty() {
            return;
        }
        let mut all: HashSet<(Named, Name)> = HashSet::new();
        // A node makes its mirror pods itself: they must not open anything to it.
        if !refs::is_mirror(&tree) {
            let account = Some(text(&tree, "/spec/serviceAccountName")).filter(|name| !name.is_empty());
            all.extend(account.map(|name| (Named::ServiceAccount, name.into())));
            all.extend(refs::secrets(&tree).map(|name| (Named::Secret, name.into())));
            all.extend(refs::config_maps(&tree).map(|name| (Named::ConfigMap, name.into())));
            all.extend(refs::claims(&tree).map(|name| (Named::Claim, name.into())));
            all.extend(refs::resource_claims(&tree).map(|name| (Named::ResourceClaim, name.into())));
        }
        let node: Name = node.into();
        // Names that are there already are shared: most pods name the same few objects.
        let mut refs = Vec::with_capacity(all.len());
        for (kind, name) in all {
            let wanted = (kind, (at.0.clone(), name));
            let key = self.named.get_key_value(&wanted).map_or(wanted, |(key, _)| key.clone());
            refs.push((kind, key.1.1.clone()));
            let nodes = self.named.entry(key).or_default();
            let node = nodes.get_key_value(&node).map_or_else(|| node.clone(), |(node, _)| node.clone());
            *nodes.entry(node).or_default() += 1;
        }
        self.pods.insert(at, Pod { node, refs });
    }

    fn drop_volume(&mut self, name: &str) {
        let Some(volume) = self.volumes.remove(name) else { return };
        for secret in volume.secrets {
            if let Some(all) = self.by_secret.get_mut(&secret) {
                all.remove(name);
                if all.is_empty() {
                    self.by_secret.remove(&secret);
                }
            }
        }
    }

    fn put_volume(&mut self, object: &Object) {
        let tree = object.value();
        self.drop_volume(&object.meta().name);
        if tree.pointer("/spec/claimRef").is_none_or(Value::is_null) {
            return;
        }
        let name: Name = (&*object.meta().name).into();
        let secrets: Vec<Place> =
            refs::volume_secrets(&tree).iter().map(|(namespace, name)| place(namespace, name)).collect();
        for secret in &secrets {
            self.by_secret.entry(secret.clone()).or_default().insert(name.clone());
        }
        let claim = place(text(&tree, "/spec/claimRef/namespace"), text(&tree, "/spec/claimRef/name"));
        self.volumes.insert(name, Volume { claim, secrets });
    }
}

impl Index for Graph {
    type Kind = Made;

    const RESOURCES: &'static [(&'static str, &'static str, Made)] = &[
        ("", "pods", Made::Pod),
        ("", "persistentvolumes", Made::Volume),
        ("storage.k8s.io", "volumeattachments", Made::Attachment),
        ("resource.k8s.io", "resourceslices", Made::Slice),
    ];

    fn put(&mut self, kind: Made, object: &Object) {
        let nodes = match kind {
            Made::Pod => return self.put_pod(object),
            Made::Volume => return self.put_volume(object),
            Made::Attachment => &mut self.attachments,
            Made::Slice => &mut self.slices,
        };
        let (tree, name) = (object.value(), &*object.meta().name);
        match text(&tree, "/spec/nodeName") {
            "" => drop(nodes.remove(name)),
            node => drop(nodes.insert(name.into(), node.into())),
        }
    }

    fn remove(&mut self, kind: Made, object: &Object) {
        match kind {
            Made::Pod => self.drop_pod(&place_of(object)),
            Made::Volume => self.drop_volume(&object.meta().name),
            Made::Attachment => drop(self.attachments.remove(&*object.meta().name)),
            Made::Slice => drop(self.slices.remove(&*object.meta().name)),
        }
    }
}
