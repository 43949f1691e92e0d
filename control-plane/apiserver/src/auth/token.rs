//! `serviceaccounts/token`: makes tokens bound to a pod, a secret, a node or the account alone.

use super::jwt::{Bound, Claims, ISSUER, Keys, Ref};
use crate::cache::Caches;
use crate::hooks::{Action, ActionRequest};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use skep_api::{FieldError, GroupResource, GroupVersionKind, Object, Status};
use std::sync::Arc;

/// A pod's projected token asks for this many seconds; it is then good for [`EXTENDED`], and its holder is expected to read it
/// anew after this time.
const PROJECTED: i64 = 3607;
/// A year, in seconds.
const EXTENDED: i64 = 365 * 24 * 3600;
/// Seconds of a token where none are asked for.
const DEFAULT: i64 = 3600;

/// Answers token requests.
pub struct TokenRequests {
    /// The key to sign with.
    pub keys: Arc<Keys>,
    /// Where bound objects are looked up.
    pub caches: Arc<Caches>,
}

fn gvk() -> GroupVersionKind {
    GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest")
}

#[async_trait]
impl Action for TokenRequests {
    async fn perform(&self, request: ActionRequest<'_>) -> Result<Value, Status> {
        let (namespace, name) = (request.info.namespace.as_str(), request.info.name.as_str());
        let find = |resource: &str, namespace: &str, name: &str| {
            let row = self.caches.row("", "v1", resource).ok_or_else(Status::unknown_path)?;
            self.caches
                .latest(&row, namespace, name)?
                .ok_or_else(|| Status::not_found(&row.group_resource(), name))
        };
        let account = find("serviceaccounts", namespace, name)?;
        let (body, claims) = prepare(request.body, &account, Timestamp::now(), find)?;
        if request.dry_run {
            return Ok(body);
        }
        let token = self
            .keys
            .sign(&claims)
            .map_err(|e| Status::internal(format!("failed to generate token: {e}")))?;
        let mut body = body;
        body["status"]["token"] = token.into();
        Ok(body)
    }
}

fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Checks a TokenRequest for `account`: the answer but for the token, and the claims to sign.
pub(super) fn prepare(
    mut body: Value,
    account: &Object,
    now: Timestamp,
    find: impl Fn(&str, &str, &str) -> Result<Arc<Object>, Status>,
) -> Result<(Value, Claims), Status> {
    let meta = account.meta();
    let kind = GroupResource::new("authentication.k8s.io", "TokenRequest");
    for (field, have) in [("name", &meta.name), ("namespace", &meta.namespace)] {
        let asked = text(&body, &format!("/metadata/{field}"));
        if !asked.is_empty() && asked != &**have {
            let what = if field == "name" { "name" } else { "namespace" };
            let detail = format!("must match the service account {what} if specified");
            let error = FieldError::invalid(format!("metadata.{field}").as_str(), asked.into(), detail);
            return Err(Status::invalid(&gvk(), &meta.name, &[error]));
        }
    }
    let uid = text(&body, "/metadata/uid");
    if !uid.is_empty() && *uid != *meta.uid {
        let why = format!(
            "the UID in the token request ({uid}) does not match the UID of the service account ({})",
            meta.uid
        );
        return Err(Status::conflict(&kind, &meta.name, why));
    }
    let seconds = body.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(DEFAULT);
    let limit = match seconds {
        ..600 => Some("may not specify a duration less than 10 minutes"),
        4_294_967_297.. => Some("may not specify a duration larger than 2^32 seconds"),
        _ => None,
    };
    if let Some(detail) = limit {
        let error = FieldError::invalid("spec.expirationSeconds", seconds.into(), detail);
        return Err(Status::invalid(&gvk(), "", &[error]));
    }
    let mut audiences: Vec<String> = body
        .pointer("/spec/audiences")
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    let mut bound = Bound {
        namespace: meta.namespace.to_string(),
        serviceaccount: reference(account),
        ..Bound::default()
    };
    if let Some(target) = body.pointer("/spec/boundObjectRef").filter(|r| !r.is_null()) {
        bind(&mut bound, target, account, find)?;
    }
    let mut good_for = seconds;
    if bound.pod.is_some() && seconds == PROJECTED && audiences == [ISSUER] {
        good_for = EXTENDED;
        bound.warnafter = Some(now.as_second() + seconds);
    }
    let claims = Claims {
        aud: audiences.clone(),
        exp: now.as_second() + good_for,
        iat: now.as_second(),
        nbf: now.as_second(),
        iss: ISSUER.into(),
        jti: uuid::Uuid::new_v4().to_string(),
        sub: format!("system:serviceaccount:{}:{}", meta.namespace, meta.name),
        bound,
    };
    let expires = now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
    body["apiVersion"] = "authentication.k8s.io/v1".into();
    body["kind"] = "TokenRequest".into();
    body["metadata"] = json!({
        "name": &*meta.name, "namespace": &*meta.namespace, "uid": &*meta.uid, "creationTimestamp": whole(now),
    });
    body["spec"]["audiences"] = json!(audiences);
    body["spec"]["expirationSeconds"] = seconds.into();
    body["status"] = json!({"expirationTimestamp": whole(expires), "token": ""});
    Ok((body, claims))
}

/// An instant as the API writes it: whole seconds.
fn whole(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn reference(object: &Object) -> Ref {
    Ref { name: object.meta().name.to_string(), uid: object.meta().uid.to_string() }
}

fn bind(
    bound: &mut Bound,
    target: &Value,
    account: &Object,
    find: impl Fn(&str, &str, &str) -> Result<Arc<Object>, Status>,
) -> Result<(), Status> {
    let (api, what, name, uid) =
        (text(target, "/apiVersion"), text(target, "/kind"), text(target, "/name"), text(target, "/uid"));
    let namespace = bound.namespace.clone();
    let found = match (api, what) {
        ("v1", "Pod") => {
            let pod = find("pods", &namespace, name)?;
            let tree = pod.value();
            if text(&tree, "/spec/serviceAccountName") != &*account.meta().name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    account.meta().name
                )));
            }
            let node = text(&tree, "/spec/nodeName");
            if !node.is_empty() {
                let unseen = Ref { name: node.to_owned(), uid: String::new() };
                bound.node = Some(find("nodes", "", node).map_or(unseen, |n| reference(&n)));
            }
            bound.pod = Some(reference(&pod));
            pod
        }
        ("v1", "Node") => {
            let node = find("nodes", "", name)?;
            bound.node = Some(reference(&node));
            node
        }
        ("v1", "Secret") => {
            let secret = find("secrets", &namespace, name)?;
            bound.secret = Some(reference(&secret));
            secret
        }
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {api}, Kind={what}"
            )));
        }
    };
    if !uid.is_empty() && *uid != *found.meta().uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        );
        let kind = GroupResource::new("", what.to_owned());
        return Err(Status::conflict(&kind, name, why));
    }
    Ok(())
}
