//! NodeRestriction: the agent of a node writes its own Node (neither taints nor owners, and only labels that are an agent's
//! to set), its lease and CSINode, pods that mirror its own, the status of pods that run on it, and asks for tokens for
//! those pods alone. What it may read is the node authorizer's to say.

use super::{forbidden, list, text};
use crate::authz::Rbac;
use crate::authz::node::{LEASES, name_of};
use crate::authz::rbac::Wish;
use crate::hooks::{Operation, WriteRequest};
use serde_json::Value;
use skep_api::kinds::certificates::{Request, signers};
use skep_api::kinds::pod::refs;
use skep_api::validation::same;
use skep_api::{GroupResource, Object, Status};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Finds an object by group, plural, namespace and name.
type Find<'a> = dyn Fn(&str, &str, &str, &str) -> Result<Option<Arc<Object>>, Status> + Sync + 'a;

/// Where a decision needs more than the write itself.
pub(super) struct Around<'a> {
    /// The objects there are.
    pub(super) find: &'a Find<'a>,
    /// Says what else a node may.
    pub(super) authorizer: &'a Rbac,
}

/// Labels under the project's own domains that an agent may set on its node, by name.
const LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
/// And by the domain before the slash.
const LABEL_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// Never an agent's to set.
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";

/// Refuses what a node may not do. `new` is none for a deletion.
pub(super) fn restrict(
    request: &WriteRequest<'_>,
    new: Option<&Value>,
    old: Option<&Object>,
    around: &Around<'_>,
) -> Result<(), Status> {
    let Some(node) = name_of(request.user) else { return Ok(()) };
    if node.is_empty() {
        return Err(forbidden(
            request,
            format!("could not determine node from user {:?}", request.user.name),
        ));
    }
    let case = Case { request, node, new: new.unwrap_or(&Value::Null), old, around };
    match (&*request.resource.gvk.group, &*request.resource.plural) {
        ("", "pods") => case.pod(),
        ("", "bindings") => Ok(()),
        ("", "nodes") => case.node(),
        ("", "persistentvolumeclaims") => case.claim(),
        ("", "serviceaccounts") => case.token(),
        ("coordination.k8s.io", "leases") if request.namespace != LEASES => {
            case.refuse(format!("can only access leases in the {LEASES:?} system namespace"))
        }
        ("coordination.k8s.io", "leases") if request.name != node => {
            case.refuse("can only access node lease with the same name as the requesting node")
        }
        ("storage.k8s.io", "csinodes") if request.name != node => {
            case.refuse("can only access CSINode with the same name as the requesting node")
        }
        ("resource.k8s.io", "resourceslices") => case.slice(),
        ("certificates.k8s.io", "certificatesigningrequests") => case.certificate(),
        _ => Ok(()),
    }
}

struct Case<'a> {
    request: &'a WriteRequest<'a>,
    node: &'a str,
    new: &'a Value,
    old: Option<&'a Object>,
    around: &'a Around<'a>,
}

impl Case<'_> {
    fn refuse<T>(&self, why: impl std::fmt::Display) -> Result<T, Status> {
        Err(forbidden(self.request, why))
    }

    fn existing(&self, resource: &'static str, namespace: &str, name: &str) -> Result<Arc<Object>, Status> {
        (self.around.find)("", resource, namespace, name)?
            .ok_or_else(|| Status::not_found(&GroupResource::new("", resource), name))
    }

    fn pod(&self) -> Result<(), Status> {
        let (node, name) = (self.node, self.request.name);
        let runs_here = |pod: &Value| text(pod, "/spec/nodeName") == node;
        match (self.request.subresource, self.request.operation) {
            ("", Operation::Create) => self.mirror(),
            ("", Operation::Delete) if self.old.is_some_and(|pod| runs_here(&pod.value())) => Ok(()),
            ("", Operation::Delete) => {
                self.refuse(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
            }
            ("", Operation::Update) => self.refuse(format!(
                "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
            )),
            ("status", Operation::Update) => self.pod_status(),
            ("eviction", Operation::Create) => {
                let name = if name.is_empty() { text(self.new, "/metadata/name") } else { name };
                let pod = self.existing("pods", self.request.namespace, name)?;
                if runs_here(&pod.value()) {
                    return Ok(());
                }
                self.refuse(format!("node {node} can only evict pods with spec.nodeName set to itself"))
            }
            ("status" | "eviction", _) => self.refuse("unexpected operation"),
            (other, _) => self.refuse(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
        }
    }

    fn mirror(&self) -> Result<(), Status> {
        let (node, pod) = (self.node, self.new);
        if !refs::is_mirror(pod) {
            return self.refuse(format!(
                "pod does not have {:?} annotation, node {node:?} can only create mirror pods",
                refs::MIRROR
            ));
        }
        if text(pod, "/spec/nodeName") != node {
            return self
                .refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
        }
        let itself = |which: &str| {
            self.refuse(format!(
                "node {node:?} can only create pods with {which} owner reference set to itself"
            ))
        };
        let owner = match list(pod, "/metadata/ownerReferences") {
            [] => return itself("an"),
            [owner] => owner,
            _ => return itself("a single"),
        };
        let flag = |key: &str| owner.get(key).and_then(Value::as_bool) == Some(true);
        if text(owner, "/apiVersion") != "v1"
            || text(owner, "/kind") != "Node"
            || text(owner, "/name") != node
        {
            return itself("an");
        }
        if !flag("controller") {
            return itself("a controller");
        }
        if flag("blockOwnerDeletion") {
            return self
                .refuse(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
        }
        let (found, said) = (self.existing("nodes", "", node)?, text(owner, "/uid"));
        let uid = &found.meta().uid;
        if **uid != *said {
            return self.refuse(format!("node {node} UID mismatch: expected {said} got {uid}"));
        }
        match refs::needs(pod) {
            Ok(None) => Ok(()),
            Ok(Some(what)) => self.refuse(format!("node {node:?} can not create pods that reference {what}")),
            Err(why) => self.refuse(format!("error checking mirror pod for API references: {why}")),
        }
    }

    fn pod_status(&self) -> Result<(), Status> {
        let node = self.node;
        let old = &self.old.map(Object::value).unwrap_or_default();
        if text(old, "/spec/nodeName") != node {
            return self.refuse(format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            ));
        }
        for (pointer, what) in [
            ("/metadata/labels", "cannot update labels through pod status"),
            ("/status/resourceClaimStatuses", "cannot update resource claim statues"),
            ("/status/extendedResourceClaimStatus", "cannot update extended resource claim status"),
        ] {
            if !same(self.new.pointer(pointer), old.pointer(pointer)) {
                return self.refuse(format!("node {node:?} {what}"));
            }
        }
        Ok(())
    }

    fn node(&self) -> Result<(), Status> {
        let (node, name) = (self.node, self.request.name);
        if name != node {
            return self.refuse(format!("node {node:?} is not allowed to modify node {name:?}"));
        }
        let source = "/spec/configSource";
        let sourced = self.new.pointer(source).is_some_and(|s| !s.is_null());
        match (self.request.operation, self.old) {
            (Operation::Create, _) => {
                if sourced {
                    return self.refuse(format!(
                        "node {node:?} is not allowed to create pods with a non-nil configSource"
                    ));
                }
                match forbidden_labels(self.new, &Value::Null).as_str() {
                    "" => Ok(()),
                    labels => self.refuse(format!(
                        "node {node:?} is not allowed to set the following labels: {labels}"
                    )),
                }
            }
            (Operation::Update, Some(old)) => {
                let old = &old.value();
                let changed = |pointer: &str| !same(self.new.pointer(pointer), old.pointer(pointer));
                if sourced && changed(source) {
                    return self.refuse(format!(
                        "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                    ));
                }
                for (pointer, what) in
                    [("/spec/taints", "taints"), ("/metadata/ownerReferences", "ownerReferences")]
                {
                    if changed(pointer) {
                        return self.refuse(format!("node {node:?} is not allowed to modify {what}"));
                    }
                }
                match forbidden_labels(self.new, old).as_str() {
                    "" => Ok(()),
                    labels => self.refuse(format!("is not allowed to modify labels: {labels}")),
                }
            }
            _ => Ok(()),
        }
    }

    fn claim(&self) -> Result<(), Status> {
        let (Operation::Update, "status", Some(old)) =
            (self.request.operation, self.request.subresource, self.old)
        else {
            return self.refuse("may only update PVC status");
        };
        let bare = |tree: &Value| {
            let mut tree = tree.clone();
            for (parent, keys) in [
                ("/metadata", &["resourceVersion", "managedFields"][..]),
                ("/status", &["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"]),
            ] {
                let map = tree.pointer_mut(parent).and_then(Value::as_object_mut);
                map.into_iter().for_each(|map| map.retain(|key, _| !keys.contains(&key.as_str())));
            }
            tree
        };
        if same(Some(&bare(self.new)), Some(&bare(&old.value()))) {
            return Ok(());
        }
        self.refuse(format!(
            "node {:?} is not allowed to update fields other than status.quantity and status.conditions",
            self.node
        ))
    }

    fn slice(&self) -> Result<(), Status> {
        let (of, verb) = match (self.request.operation, self.old) {
            (Operation::Create, _) => (self.new.clone(), "create"),
            (Operation::Delete, Some(old)) => (old.value(), "delete"),
            _ => return Ok(()),
        };
        if text(&of, "/spec/nodeName") == self.node {
            return Ok(());
        }
        self.refuse(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
    }

    /// A node asks for certificates in its own name.
    fn certificate(&self) -> Result<(), Status> {
        let signer = text(self.new, "/spec/signerName");
        let of_nodes = [signers::KUBELET_CLIENT, signers::KUBELET_SERVING].contains(&signer);
        if self.request.operation != Operation::Create || !of_nodes {
            return Ok(());
        }
        let node = self.node;
        match Request::from_base64(text(self.new, "/spec/request")) {
            Err(why) => self.refuse(format!("unable to parse csr: {why}")),
            Ok(asked) if asked.common_name == self.request.user.name => Ok(()),
            Ok(_) => self.refuse(format!("can only create a node CSR with CN=system:node:{node}")),
        }
    }

    fn token(&self) -> Result<(), Status> {
        let request = self.request;
        if request.operation != Operation::Create || request.subresource != "token" {
            return Ok(());
        }
        let bound = self.new.pointer("/spec/boundObjectRef").unwrap_or(&Value::Null);
        let field = |key: &str| bound.get(key).and_then(Value::as_str).unwrap_or_default();
        if field("apiVersion") != "v1" || field("kind") != "Pod" || field("name").is_empty() {
            return self.refuse("node requested token not bound to a pod");
        }
        let uid = field("uid");
        if uid.is_empty() {
            return self.refuse("node requested token with a pod binding without a uid");
        }
        let pod = self.existing("pods", request.namespace, field("name"))?;
        if *pod.meta().uid != *uid {
            return self.refuse(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            ));
        }
        let pod = pod.value();
        if text(&pod, "/spec/nodeName") != self.node {
            return self.refuse("node requested token bound to a pod scheduled on a different node");
        }
        self.audience(&pod)
    }

    /// A node asks for tokens for the audiences that the pod's volumes name.
    fn audience(&self, pod: &Value) -> Result<(), Status> {
        let audience = match list(self.new, "/spec/audiences") {
            [] => "",
            [one] => one.as_str().unwrap_or_default(),
            _ => return self.refuse("node may only request 0 or 1 audiences"),
        };
        let named = |source: &Value| {
            let token = source.get("serviceAccountToken").filter(|token| !token.is_null());
            token.is_some_and(|token| text(token, "/audience") == audience)
        };
        for volume in list(pod, "/spec/volumes") {
            if list(volume, "/projected/sources").iter().any(named) {
                return Ok(());
            }
            let Some(driver) = self.driver(volume, text(pod, "/metadata/name"))? else { continue };
            let Some(driver) = (self.around.find)("storage.k8s.io", "csidrivers", "", &driver)? else {
                continue;
            };
            let driver = driver.value();
            if list(&driver, "/spec/tokenRequests").iter().any(|t| text(t, "/audience") == audience) {
                return Ok(());
            }
        }
        let wish = Wish::Resource {
            verb: "request-serviceaccounts-token-audience",
            group: "",
            resource: audience,
            subresource: "",
            namespace: self.request.namespace,
            name: self.request.name,
            fields: "",
        };
        let user = self.request.user;
        if self.around.authorizer.decide(user, &wish).is_ok() {
            return Ok(());
        }
        self.refuse(format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this \
             audience",
            user.name
        ))
    }

    /// The CSI driver behind a volume, whether named in the pod or found by its claim.
    fn driver(&self, volume: &Value, pod: &str) -> Result<Option<String>, Status> {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        if let Some(driver) = some(text(volume, "/csi/driver")) {
            return Ok(Some(driver));
        }
        let made = volume.get("ephemeral").filter(|source| !source.is_null());
        let claim = some(text(volume, "/persistentVolumeClaim/claimName"))
            .or_else(|| made.map(|_| format!("{pod}-{}", text(volume, "/name"))));
        let Some(claim) = claim else { return Ok(None) };
        let find = self.around.find;
        let Some(claim) = find("", "persistentvolumeclaims", self.request.namespace, &claim)? else {
            return Ok(None);
        };
        let claim = claim.value();
        let Some(volume) = find("", "persistentvolumes", "", text(&claim, "/spec/volumeName"))? else {
            return Ok(None);
        };
        Ok(some(text(&volume.value(), "/spec/csi/driver")))
    }
}

/// The labels that differ and are not an agent's to set, as one line.
fn forbidden_labels(new: &Value, old: &Value) -> String {
    let labels = |tree: &Value| tree.pointer("/metadata/labels").and_then(Value::as_object).cloned();
    let (new, old) = (labels(new).unwrap_or_default(), labels(old).unwrap_or_default());
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let changed = keys.into_iter().filter(|key| new.get(*key) != old.get(*key));
    changed.filter(|key| !may_label(key)).cloned().collect::<Vec<_>>().join(", ")
}

fn may_label(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within =
        |of: &str| domain.strip_suffix(of).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let ours = within("kubernetes.io") || within("k8s.io");
    !within(RESTRICTED_DOMAIN)
        && (!ours || LABELS.contains(&key) || LABEL_DOMAINS.iter().any(|allowed| within(allowed)))
}
