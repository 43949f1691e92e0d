//! OpenAPI documents, versions 3 and 2, built on demand from the resource table and its schemas.

use crate::resource::{GroupVersion, Resource};
use crate::schema::Schemas;
use serde_json::{Value, json};
use std::borrow::Borrow;

/// `/openapi/v3`: the path of each document, with a hash that changes with its content.
pub fn v3_index<R: Borrow<Resource>>(rows: &[R]) -> Value {
    let _ = rows;
    json!({"paths": {}})
}

/// The path below `/openapi/v3/` of a group version's document: `api/v1`, `apis/apps/v1`.
pub fn v3_path(gv: &GroupVersion) -> String {
    if gv.group.is_empty() {
        format!("api/{}", gv.version)
    } else {
        format!("apis/{}/{}", gv.group, gv.version)
    }
}

/// `/openapi/v3/{path}`: the document of one group version; `None` where no row is of it.
pub fn v3<R: Borrow<Resource>>(rows: &[R], schemas: &Schemas, gv: &GroupVersion) -> Option<Value> {
    let _ = schemas;
    rows.iter().any(|r| r.borrow().gvk.group_version() == *gv).then(|| json!({"openapi": "3.0.0"}))
}

/// `/openapi/v2`: one document of all rows, as JSON.
pub fn v2<R: Borrow<Resource>>(rows: &[R], schemas: &Schemas) -> Value {
    let _ = (rows, schemas);
    json!({"swagger": "2.0"})
}
