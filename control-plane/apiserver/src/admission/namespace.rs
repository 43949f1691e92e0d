//! NamespaceLifecycle: nothing is created in a namespace that is not there or is going, and some namespaces stay for ever.

use super::forbidden;
use crate::hooks::{Operation, WriteRequest};
use serde::Deserialize;
use skep_api::{GroupResource, Object, Status, StatusCause};
use std::borrow::Cow;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Whether the namespace of a write must be looked at.
pub(super) fn concerns(request: &WriteRequest<'_>) -> bool {
    let row = request.resource;
    row.namespaced()
        && request.operation != Operation::Delete
        && !(row.gvk.group == "authorization.k8s.io" && row.plural == "localsubjectaccessreviews")
}

/// What every write reads of its namespace.
#[derive(Deserialize)]
struct Namespace<'a> {
    #[serde(borrow)]
    status: Phase<'a>,
}

#[derive(Deserialize)]
struct Phase<'a> {
    #[serde(borrow)]
    phase: Cow<'a, str>,
}

fn is_terminating(namespace: &Object) -> bool {
    namespace.read::<Namespace<'_>>().is_ok_and(|namespace| namespace.status.phase == "Terminating")
}

pub(super) fn admit(request: &WriteRequest<'_>, namespace: Option<&Object>) -> Result<(), Status> {
    let Some(found) = namespace else {
        return Err(Status::not_found(&GroupResource::new("", "namespaces"), request.namespace));
    };
    if request.operation != Operation::Create {
        return Ok(());
    }
    let going = found.meta().deleting() || is_terminating(found);
    if !going {
        return Ok(());
    }
    let name = request.namespace;
    let mut status = forbidden(
        request,
        format!("unable to create new content in namespace {name} because it is being terminated"),
    );
    if let Some(details) = &mut status.details {
        details.causes.push(StatusCause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".into(),
        });
    }
    Err(status)
}

pub(super) fn validate_delete(request: &WriteRequest<'_>) -> Result<(), Status> {
    let deleted = request.operation == Operation::Delete && super::is(request, "", "namespaces");
    if deleted && IMMORTAL.contains(&request.name) {
        return Err(forbidden(request, "this namespace may not be deleted"));
    }
    Ok(())
}
