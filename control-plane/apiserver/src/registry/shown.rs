//! Objects in the version that is asked for, where that is not the form they are stored in.

use serde_json::Value;
use skep_api::object::View;
use skep_api::{Object, Resource, Status};
use std::sync::Arc;

/// A stored object as its row serves it.
pub(super) async fn shown(row: &Resource, stored: Arc<Object>) -> Result<Arc<Object>, Status> {
    if row.stored.is_none() {
        return Ok(stored);
    }
    shown_all(row, vec![stored])
        .await?
        .pop()
        .ok_or_else(|| Status::internal("a conversion answered fewer objects than it was given"))
}

/// Stored objects as their row serves them, in the same order. Each object keeps what was made of it, so that it is
/// converted once.
pub(super) async fn shown_all(row: &Resource, stored: Vec<Arc<Object>>) -> Result<Vec<Arc<Object>>, Status> {
    let Some(form) = &row.stored else { return Ok(stored) };
    let mut out = stored;
    let mut missing = Vec::new();
    for (at, object) in out.iter_mut().enumerate() {
        match object.view(form.id()) {
            Some(View::Same) => {}
            Some(View::Other(view)) => *object = view,
            None => missing.push(at),
        }
    }
    if missing.is_empty() {
        return Ok(out);
    }
    let trees: Vec<Value> =
        missing.iter().filter_map(|at| out.get(*at)).map(|object| object.value()).collect();
    let converted = form.convert.to_served(trees).await?;
    if converted.len() != missing.len() {
        return Err(Status::internal("a conversion answered another number of objects than it was given"));
    }
    let fields: Vec<&str> = row.selectable_fields.iter().map(AsRef::as_ref).collect();
    for (at, tree) in missing.into_iter().zip(converted) {
        let Some(object) = out.get_mut(at) else { continue };
        let view = view(object, tree, &fields)?;
        object.keep_view(form.id(), view.clone());
        if let View::Other(view) = view {
            *object = view;
        }
    }
    Ok(out)
}

/// What a conversion made of an object: shares its bytes where they are the same.
fn view(object: &Arc<Object>, tree: Value, fields: &[&str]) -> Result<View, Status> {
    let body = Object::canonical(tree).map_err(Status::internal)?;
    let same = body == object.body();
    if same && fields.is_empty() && object.fields().is_empty() {
        return Ok(View::Same);
    }
    let body = if same { object.body().clone() } else { body };
    let other = Object::from_stored(body, object.revision(), fields).map_err(Status::internal)?;
    Ok(View::Other(Arc::new(other)))
}

/// A tree of the row's version as it is to be stored.
pub(super) async fn to_stored(row: &Resource, tree: Value) -> Result<Value, Status> {
    match &row.stored {
        None => Ok(tree),
        Some(form) => form
            .convert
            .to_stored(vec![tree])
            .await?
            .pop()
            .ok_or_else(|| Status::internal("a conversion answered fewer objects than it was given")),
    }
}
