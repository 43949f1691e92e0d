//! ResourceQuota: what a write uses is charged to the quotas of its namespace in the transaction that writes it, and what goes
//! is given back in the one that removes it. So no two writes ever use the same rest of a quota.

use super::forbidden;
use crate::cache::{Caches, local_key, prefix_of, store_status};
use crate::hooks::{Together, WriteRequest};
use bytes::Bytes;
use serde_json::Value;
use skep_api::kinds::quota::{self, Change};
use skep_api::{GroupResource, Object, Status};
use skep_store::{Compare, KeyValue, Op, prefix_end};

fn quotas() -> GroupResource {
    GroupResource::new("", "resourcequotas")
}

/// The quotas of a namespace as they are stored at this instant.
fn of_namespace(caches: &Caches, namespace: &str) -> Result<Vec<KeyValue>, Status> {
    let prefix = format!("{}{namespace}/", prefix_of(&quotas()));
    let (from, to) = (prefix.as_bytes(), prefix_end(prefix.as_bytes()));
    Ok(caches.store().range(from, &to, 0, None).map_err(store_status)?.kvs)
}

/// What is written together with the object; 403 where a quota does not allow it.
pub(super) fn charge(
    caches: &Caches,
    request: &WriteRequest<'_>,
    new: Option<&Value>,
    old: Option<&Object>,
) -> Result<Together, Status> {
    let mut together = Together::default();
    if !request.resource.namespaced() || request.namespace.is_empty() {
        return Ok(together);
    }
    let resource = request.resource.group_resource();
    // A quota does not count itself when it changes or goes.
    let itself = format!("{}{}", prefix_of(&quotas()), local_key(request.namespace, request.name));
    let own = |kv: &KeyValue| resource == quotas() && kv.key == itself.as_bytes();
    let mut stored = of_namespace(caches, request.namespace)?;
    stored.retain(|kv| !own(kv));
    if stored.is_empty() {
        return Ok(together);
    }
    let trees: Vec<Value> = stored
        .iter()
        .map(|kv| serde_json::from_slice(&kv.value))
        .collect::<Result<_, _>>()
        .map_err(Status::internal)?;
    let old = old.map(Object::value);
    let change = Change {
        resource: &resource,
        subresource: request.subresource,
        old: old.as_ref(),
        new,
        now: jiff::Timestamp::now(),
    };
    let charged = quota::charge(&trees, &change).map_err(|refusal| forbidden(request, refusal))?;
    for done in charged {
        let Some(kv) = stored.get(done.index) else { continue };
        let value: Bytes = Object::canonical(done.quota).map_err(Status::internal)?;
        together.compare.push(Compare::ModRevision(kv.key.clone(), kv.mod_revision));
        together.ops.push(Op::Put { key: kv.key.clone(), value });
    }
    Ok(together)
}
