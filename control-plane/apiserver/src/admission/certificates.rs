//! CertificateSigningRequests: who asked is filled in, and when conditions changed; CertificateApproval, CertificateSigning
//! and CertificateSubjectRestriction.

use super::{forbidden, list, text};
use crate::authz::Rbac;
use crate::authz::rbac::Wish;
use crate::hooks::{Operation, WriteRequest};
use jiff::Timestamp;
use serde_json::{Value, json};
use skep_api::kinds::certificates::{Request, signers};
use skep_api::kinds::rfc3339;
use skep_api::validation::same;
use skep_api::{Object, Status};

const GROUP: &str = "certificates.k8s.io";
/// Whose certificates this signer does not make.
const MASTERS: &str = "system:masters";

fn concerns(request: &WriteRequest<'_>) -> bool {
    request.resource.gvk.group == GROUP && request.resource.plural == "certificatesigningrequests"
}

/// Fills in what is not for the client to say.
pub(super) fn admit(request: &WriteRequest<'_>, new: &mut Value, old: Option<&Object>, now: Timestamp) {
    if !concerns(request) {
        return;
    }
    match (request.operation, request.subresource, old) {
        (Operation::Create, "", _) => {
            let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
            let user = request.user;
            spec.insert("username".into(), user.name.as_str().into());
            if !user.uid.is_empty() {
                spec.insert("uid".into(), user.uid.as_str().into());
            }
            if !user.groups.is_empty() {
                spec.insert("groups".into(), json!(user.groups));
            }
            if !user.extra.is_empty() {
                spec.insert("extra".into(), json!(user.extra));
            }
        }
        (Operation::Update, "approval" | "status", Some(old)) => date(new, &old.value(), &rfc3339(now)),
        _ => {}
    }
}

/// Says when each condition was written, and since when it holds.
fn date(new: &mut Value, old: &Value, now: &str) {
    let conditions = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
        let empty = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().is_empty();
        if empty(condition.get("lastUpdateTime")) {
            condition.insert("lastUpdateTime".into(), now.into());
        }
        if empty(condition.get("lastTransitionTime")) {
            let before = list(old, "/status/conditions").iter().find(|was| {
                was.get("type") == condition.get("type")
                    && was.get("status") == condition.get("status")
                    && !empty(was.get("lastTransitionTime"))
            });
            let since = before.map_or(now, |was| text(was, "/lastTransitionTime"));
            condition.insert("lastTransitionTime".into(), since.into());
        }
    }
}

/// Refuses what the writer may not ask for, approve or sign.
pub(super) fn check(
    request: &WriteRequest<'_>,
    new: &Value,
    old: Option<&Object>,
    rbac: &Rbac,
) -> Result<(), Status> {
    if !concerns(request) {
        return Ok(());
    }
    match (request.operation, request.subresource, old) {
        (Operation::Create, "", _) => subject(request, new),
        (Operation::Update, "approval", Some(old)) => {
            may(request, rbac, "approve", text(&old.value(), "/spec/signerName"))
        }
        (Operation::Update, "status", Some(old)) => {
            let old = old.value();
            let unchanged = |pointer: &str| same(new.pointer(pointer), old.pointer(pointer));
            if unchanged("/status/certificate") && unchanged("/status/conditions") {
                return Ok(());
            }
            may(request, rbac, "sign", text(&old, "/spec/signerName"))
        }
        _ => Ok(()),
    }
}

fn subject(request: &WriteRequest<'_>, new: &Value) -> Result<(), Status> {
    if text(new, "/spec/signerName") != signers::CLIENT {
        return Ok(());
    }
    let asked = Request::from_base64(text(new, "/spec/request"))
        .map_err(|why| forbidden(request, format!("failed to parse CSR: {why}")))?;
    if asked.organizations.iter().any(|group| group == MASTERS) {
        let why = format!("use of {} signer with {MASTERS} group is not allowed", signers::CLIENT);
        return Err(forbidden(request, why));
    }
    Ok(())
}

/// Whether the writer may approve for a signer, or sign in its name; also by right for all signers of its domain.
fn may(request: &WriteRequest<'_>, rbac: &Rbac, verb: &str, signer: &str) -> Result<(), Status> {
    let holds = |name: &str| {
        let wish = Wish::Resource {
            verb,
            group: GROUP,
            resource: "signers",
            subresource: "",
            namespace: "",
            name,
            fields: "",
        };
        rbac.decide(request.user, &wish).is_ok()
    };
    let domain = signer.split('/').next().unwrap_or_default();
    if holds(signer) || holds(&format!("{domain}/*")) {
        return Ok(());
    }
    Err(forbidden(request, format!("user not permitted to {verb} requests with signerName {signer:?}")))
}
