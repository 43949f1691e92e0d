//! What a node agent may do, as plain functions: its own objects, and those that belong to it in the [`Graph`].

use super::graph::{Graph, Named};
use super::rbac::{Rule, Wish};
use crate::request::UserInfo;
use skep_api::FieldSelector;

/// Group of all node agents.
const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
/// Where nodes keep their leases.
pub(crate) const LEASES: &str = "kube-node-lease";

/// The node that a user is the agent of.
pub fn name_of(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix(PREFIX).filter(|_| user.in_group(GROUP))
}

/// Whether the agent of `node` may; why not, for people (may be empty). `rules` are those that hold for all nodes alike,
/// and `graph` is asked for only where it decides.
pub(super) fn decide<G: std::ops::Deref<Target = Graph>>(
    node: &str,
    wish: &Wish<'_>,
    rules: &[Rule],
    graph: impl Fn() -> G,
) -> Result<(), String> {
    if node.is_empty() {
        return Err(format!("unknown node for user {:?}", format!("{PREFIX}{node}")));
    }
    let by_rules = || if rules.iter().any(|rule| rule.allows(wish)) { Ok(()) } else { Err(String::new()) };
    let Wish::Resource { verb, group, resource, subresource, namespace, name, fields } = *wish else {
        return by_rules();
    };
    let related = |found: &dyn Fn(&Graph) -> bool| {
        if name.is_empty() {
            Err("No Object name found".to_owned())
        } else if found(&graph()) {
            Ok(())
        } else {
            Err(format!("no relationship found between node '{node}' and this object"))
        }
    };
    let get = |found: &dyn Fn(&Graph) -> bool| {
        if verb != "get" {
            Err("can only get individual resources of this type".to_owned())
        } else if !subresource.is_empty() {
            Err("cannot get subresource".to_owned())
        } else {
            related(found)
        }
    };
    let refuse = |why: &str| Err(why.to_owned());
    let own_by = |path: &str| FieldSelector::parse(fields).is_ok_and(|all| all.required(path) == Some(node));
    match (group, resource) {
        ("", "secrets" | "configmaps") => {
            let kind = if resource == "secrets" { Named::Secret } else { Named::ConfigMap };
            read(verb, subresource, namespace)?;
            related(&|graph| graph.has_named(node, kind, namespace, name))
        }
        ("", "serviceaccounts") if verb == "get" && subresource.is_empty() => {
            read(verb, subresource, namespace)?;
            related(&|graph| graph.has_named(node, Named::ServiceAccount, namespace, name))
        }
        ("", "serviceaccounts") if verb != "create" || name.is_empty() => {
            refuse("can only create tokens for individual service accounts")
        }
        ("", "serviceaccounts") if subresource != "token" => {
            refuse("can only create token subresource of serviceaccount")
        }
        ("", "serviceaccounts") => {
            related(&|graph| graph.has_named(node, Named::ServiceAccount, namespace, name))
        }
        ("", "persistentvolumeclaims") if subresource == "status" => match verb {
            "update" | "patch" => related(&|graph| graph.has_named(node, Named::Claim, namespace, name)),
            _ => refuse("can only get/update/patch this type"),
        },
        ("", "persistentvolumeclaims") => get(&|graph| graph.has_named(node, Named::Claim, namespace, name)),
        ("", "persistentvolumes") => get(&|graph| graph.has_volume(node, name)),
        ("resource.k8s.io", "resourceclaims") => {
            get(&|graph| graph.has_named(node, Named::ResourceClaim, namespace, name))
        }
        ("storage.k8s.io", "volumeattachments") => get(&|graph| graph.has_attachment(node, name)),
        ("coordination.k8s.io", "leases") => match verb {
            "get" | "create" | "update" | "patch" | "delete" if namespace != LEASES => {
                Err(format!("can only access leases in the {LEASES:?} system namespace"))
            }
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" if name == node => Ok(()),
            "get" | "update" | "patch" | "delete" => {
                refuse("can only access node lease with the same name as the requesting node")
            }
            _ => refuse("can only get, create, update, patch, or delete a node lease"),
        },
        ("storage.k8s.io", "csinodes") => match verb {
            "get" | "create" | "update" | "patch" | "delete" if !subresource.is_empty() => {
                refuse("cannot authorize CSINode subresources")
            }
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" if name == node => Ok(()),
            "get" | "update" | "patch" | "delete" => {
                refuse("can only access CSINode with the same name as the requesting node")
            }
            _ => refuse("can only get, create, update, patch, or delete a CSINode"),
        },
        ("resource.k8s.io", "resourceslices") => match verb {
            _ if !subresource.is_empty() => refuse("cannot authorize ResourceSlice subresources"),
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => related(&|graph| graph.has_slice(node, name)),
            "watch" | "list" | "deletecollection" if own_by("spec.nodeName") => Ok(()),
            "watch" | "list" | "deletecollection" => {
                refuse("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => refuse(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                 delete, deletecollection",
            ),
        },
        ("", "nodes") => match (subresource, verb) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
            ("", "get" | "list" | "watch") => match name {
                "" => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
                own if own == node => Ok(()),
                other => Err(format!("node '{node}' cannot read '{other}', only its own Node object")),
            },
            _ => Err(String::new()),
        },
        ("", "pods") => match (subresource, verb) {
            ("", "get") => related(&|graph| graph.has_pod(node, namespace, name)),
            ("", "list" | "watch") if own_by("spec.nodeName") => Ok(()),
            ("", "list" | "watch") if !name.is_empty() => {
                related(&|graph| graph.has_pod(node, namespace, name))
            }
            ("", "list" | "watch") => refuse("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        },
        _ => by_rules(),
    }
}

/// What of a kind that is read one object at a time may be read at all.
fn read(verb: &str, subresource: &str, namespace: &str) -> Result<(), String> {
    let why = if !matches!(verb, "get" | "list" | "watch") {
        "can only read resources of this type"
    } else if !subresource.is_empty() {
        "cannot read subresource"
    } else if namespace.is_empty() {
        "can only read namespaced object of this type"
    } else {
        return Ok(());
    };
    Err(why.into())
}
