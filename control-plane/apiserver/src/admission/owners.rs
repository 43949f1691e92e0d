//! OwnerReferencesPermissionEnforcement: whoever changes the owners of an object may delete it, and whoever makes an owner
//! wait for its dependents may set the owner's finalizers.

use super::forbidden;
use crate::authz::{Rbac, rbac::Wish};
use crate::hooks::{Operation, WriteRequest};
use serde_json::Value;
use skep_api::kinds::ResourceTable;
use skep_api::meta::OwnerReference;
use skep_api::{GroupVersion, GroupVersionKind, Object, Status};

fn owners(tree: &Value) -> Vec<OwnerReference> {
    let list = tree.pointer("/metadata/ownerReferences").cloned().unwrap_or_default();
    serde_json::from_value::<Option<Vec<OwnerReference>>>(list).ok().flatten().unwrap_or_default()
}

fn blocks(owner: &OwnerReference) -> bool {
    owner.block_owner_deletion == Some(true)
}

/// Refuses owner references that the writer may not set.
pub(super) fn check(
    request: &WriteRequest<'_>,
    new: &Value,
    old: Option<&Object>,
    table: &ResourceTable,
    rbac: &Rbac,
) -> Result<(), Status> {
    let row = request.resource;
    // The status of a pod keeps its owners whatever is sent.
    if (row.gvk.group.is_empty() && row.plural == "pods" && request.subresource == "status")
        || request.operation == Operation::Delete
    {
        return Ok(());
    }
    let now = owners(new);
    let before = old.map_or(&[][..], |old| &old.meta().owner_references);
    if now == before {
        return Ok(());
    }
    if request.operation != Operation::Create {
        let wish = Wish::Resource {
            verb: "delete",
            group: &row.gvk.group,
            resource: &row.plural,
            subresource: request.subresource,
            namespace: request.namespace,
            name: request.name,
            fields: "",
        };
        rbac.decide(request.user, &wish).map_err(|why| {
            let why = format!("cannot set an ownerRef on a resource you can't delete: {why}, <nil>");
            forbidden(request, why)
        })?;
    }
    let waited = |owner: &OwnerReference| before.iter().any(|was| was.uid == owner.uid && blocks(was));
    let blocked: Vec<&OwnerReference> = now.iter().filter(|owner| blocks(owner) && !waited(owner)).collect();
    if blocked.is_empty() {
        return Ok(());
    }
    let finalize = |group: &str, resource: &str, namespace: &str, name: &str| {
        let wish = Wish::Resource {
            verb: "update",
            group,
            resource,
            subresource: "finalizers",
            namespace,
            name,
            fields: "",
        };
        rbac.decide(request.user, &wish)
    };
    if finalize("*", "*", "", "*").is_ok() {
        return Ok(());
    }
    for owner in blocked {
        let (api_version, kind) = (&*owner.api_version, &*owner.kind);
        let version = GroupVersion::parse(api_version);
        let gvk =
            GroupVersionKind { group: version.group, version: version.version, kind: kind.to_owned().into() };
        let Some(target) = table.by_kind(&gvk) else {
            let why = format!(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion \
                 {api_version} Kind {kind}: no matches for kind {kind:?} in version {api_version:?}"
            );
            return Err(forbidden(request, why));
        };
        let namespace = if target.namespaced() { request.namespace } else { "" };
        finalize(&target.gvk.group, &target.plural, namespace, &owner.name).map_err(|why| {
            let why = format!(
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers \
                 on: {why}, <nil>"
            );
            forbidden(request, why)
        })?;
    }
    Ok(())
}
