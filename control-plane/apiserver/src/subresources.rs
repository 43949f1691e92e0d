//! Posts below an object that change it: the shells around the pure functions of their kinds.

use crate::hooks::{Action, ActionRequest, Handlers};
use crate::registry::Call;
use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::kinds::pod;
use skep_api::{GroupVersionKind, Resource, Status};
use std::sync::Arc;

/// What a post answers that has no object to show.
pub(crate) fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The row of the pods that are meant, and their name: a binding may also be posted to a collection.
pub(crate) fn pods(request: &ActionRequest<'_>) -> Result<(Arc<Resource>, String), Status> {
    let table = request.registry.caches().table();
    let row = table.by_kind(&GroupVersionKind::new("", "v1", "Pod")).ok_or_else(Status::unknown_path)?;
    let body_name = text(&request.body, "/metadata/name");
    let name = if request.info.name.is_empty() { body_name } else { &request.info.name };
    if !body_name.is_empty() && body_name != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({body_name}) does not match the name on the URL ({name})"
        )));
    }
    let namespace = text(&request.body, "/metadata/namespace");
    if !namespace.is_empty() && namespace != request.info.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok((row.clone(), name.to_owned()))
}

/// `pods/binding`.
struct Bind;

#[async_trait]
impl Action for Bind {
    async fn perform(&self, request: ActionRequest<'_>) -> Result<Value, Status> {
        let (row, name) = pods(&request)?;
        let call = Call {
            user: request.user,
            row: &row,
            subresource: "binding",
            namespace: &request.info.namespace,
            name: &name,
            dry_run: request.dry_run,
            manager: request.manager,
        };
        let body = &request.body;
        let change = |old: &Value| pod::bind(old, body, jiff::Timestamp::now()).map(|new| (new, Vec::new()));
        request.registry.change(&call, &|_, old| change(old), &mut Vec::new()).await?;
        Ok(success())
    }
}

/// Registers the posts of this module.
pub fn register(handlers: &mut Handlers) {
    let bind = Arc::new(Bind);
    handlers.action("", "pods", "binding", bind.clone());
    handlers.action("", "bindings", "", bind);
    handlers.action("", "pods", "eviction", Arc::new(crate::eviction::Evict));
}
