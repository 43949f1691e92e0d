//! What is filled in, changed or refused before a write is stored, in upstream's order: NamespaceLifecycle, LimitRanger,
//! ServiceAccount, NodeRestriction, TaintNodesByCondition, PodSecurity, Priority,
//! DefaultTolerationSeconds, DefaultStorageClass, StorageObjectInUseProtection, PersistentVolumeClaimResize, RuntimeClass,
//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction, DefaultIngressClass,
//! OwnerReferencesPermissionEnforcement, ResourceQuota; and, where upstream has it in the storage of roles, that nobody
//! gives rights they do not hold.

mod certificates;
mod classes;
mod escalation;
mod limits;
mod namespace;
mod node;
mod noderestriction;
mod owners;
mod podsecurity;
mod priority;
mod quota;
mod runtime;
mod service_account;
mod storage;
#[cfg(test)]
mod tests;
mod tolerations;

use crate::authz::Rbac;
use crate::cache::Caches;
use crate::hooks::{Admission, Together, WriteRequest};
use async_trait::async_trait;
use serde_json::Value;
use skep_api::{Object, Status};
use std::sync::Arc;
use std::time::Duration;

/// The built-in admission.
pub struct BuiltIn {
    caches: Arc<Caches>,
    authorizer: Arc<Rbac>,
}

/// A pod may come before the controller has made its namespace's `default` account: looked for so often, so far apart.
const ACCOUNT_TRIES: (u32, Duration) = (10, Duration::from_millis(150));

impl BuiltIn {
    /// Admission that looks up namespaces, service accounts and priority classes in `caches`, and asks `authorizer` where a
    /// write takes more rights than its own.
    pub fn new(caches: Arc<Caches>, authorizer: Arc<Rbac>) -> Self {
        BuiltIn { caches, authorizer }
    }

    /// The latest version of an object of a built-in kind.
    fn find(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        match self.caches.row(group, "v1", resource) {
            Some(row) => self.caches.latest(&row, namespace, name),
            None => Ok(None),
        }
    }

    /// All objects of a resource, of one namespace or of all.
    fn all(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let resource = skep_api::GroupResource::new(group.to_owned(), resource.to_owned());
        self.caches.peek_all(&resource, namespace)
    }

    /// The runtime class a pod names.
    fn runtime_class(&self, pod: &Value) -> Result<Option<Arc<Object>>, Status> {
        match runtime::wanted(pod) {
            Some(name) => self.find(runtime::GROUP, "runtimeclasses", "", name),
            None => Ok(None),
        }
    }

    fn restrict(
        &self,
        request: &WriteRequest<'_>,
        new: Option<&Value>,
        old: Option<&Object>,
    ) -> Result<(), Status> {
        let find = |group: &str, resource: &str, namespace: &str, name: &str| {
            self.find(group, resource, namespace, name)
        };
        let around = noderestriction::Around { find: &find, authorizer: &self.authorizer };
        noderestriction::restrict(request, new, old, &around)
    }

    async fn account(&self, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
        let tries = if name == service_account::DEFAULT { ACCOUNT_TRIES.0 } else { 1 };
        for attempt in 0..tries {
            if attempt > 0 {
                tokio::time::sleep(ACCOUNT_TRIES.1).await;
            }
            if let Some(found) = self.find("", "serviceaccounts", namespace, name)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Admission for BuiltIn {
    async fn admit(
        &self,
        request: &WriteRequest<'_>,
        new: &mut Value,
        old: Option<&Object>,
    ) -> Result<(), Status> {
        if namespace::concerns(request) {
            let found = self.find("", "namespaces", "", request.namespace)?;
            namespace::admit(request, found.as_deref())?;
        }
        if limits::concerns(request) && !limits::going(old) {
            limits::fill(new, &self.all("", "limitranges", Some(request.namespace)));
        }
        if service_account::concerns(request) {
            let account = match service_account::wanted(new) {
                Some(name) => self.account(request.namespace, &name).await?,
                None => None,
            };
            service_account::admit(request, new, account.as_deref(), &uuid::Uuid::new_v4().to_string())?;
        }
        self.restrict(request, Some(new), old)?;
        node::taint(request, new);
        if priority::concerns(request) {
            let class = match priority::wanted(new) {
                Some(name) => self.find(priority::GROUP, "priorityclasses", "", &name)?,
                None => priority::default_class(&self.all(priority::GROUP, "priorityclasses", None)),
            };
            priority::admit(request, new, class.as_deref())?;
        }
        tolerations::admit(request, new);
        if runtime::concerns(request) {
            let class = self.runtime_class(new)?;
            runtime::admit(request, new, class.as_deref())?;
        }
        if classes::wanted(request, new) {
            classes::admit(new, &self.all(classes::GROUP, "ingressclasses", None));
        }
        if storage::wants_class(request, new) {
            storage::default_class(new, &self.all(storage::GROUP, "storageclasses", None));
        }
        storage::protect(request, new);
        certificates::admit(request, new, old, jiff::Timestamp::now());
        escalation::admit(request, new, old, &self.authorizer)
    }

    async fn validate(
        &self,
        request: &WriteRequest<'_>,
        new: Option<&Value>,
        old: Option<&Object>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let Some(new) = new else {
            namespace::validate_delete(request)?;
            return self.restrict(request, None, old);
        };
        if limits::concerns(request) && !limits::going(old) {
            limits::check(request, new, &self.all("", "limitranges", Some(request.namespace)))?;
        }
        if let Some(at) = podsecurity::concerns(request) {
            let namespace = self.find("", "namespaces", "", request.namespace)?;
            podsecurity::check(request, at, new, old, namespace.as_deref(), warnings)?;
        }
        let pods = || self.all("", "pods", Some(request.name));
        podsecurity::check_namespace(request, new, old, pods, warnings)?;
        if runtime::concerns(request) {
            runtime::check(request, new, self.runtime_class(new)?.as_deref())?;
        }
        if let Some(class) = storage::grows(request, new, old) {
            let class = self.find(storage::GROUP, "storageclasses", "", class)?;
            storage::may_grow(request, old, class.as_deref())?;
        }
        certificates::check(request, new, old, &self.authorizer)?;
        owners::check(request, new, old, &self.caches.table(), &self.authorizer)
    }

    async fn charge(
        &self,
        request: &WriteRequest<'_>,
        new: Option<&Value>,
        old: Option<&Object>,
    ) -> Result<Together, Status> {
        quota::charge(&self.caches, request, new, old)
    }
}

/// Whether a write is about the main part of `group`/`resource`.
fn is(request: &WriteRequest<'_>, group: &str, resource: &str) -> bool {
    request.subresource.is_empty()
        && request.resource.gvk.group == group
        && request.resource.plural == resource
}

/// 403 about the object of a write.
fn forbidden(request: &WriteRequest<'_>, why: impl std::fmt::Display) -> Status {
    Status::forbidden(&request.resource.group_resource(), request.name, why)
}

fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a pointer; none where there is none.
fn list<'a>(tree: &'a Value, pointer: &str) -> &'a [Value] {
    tree.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The list `key` of an object, made when it is not there; none where `tree` is no object or `key` something else.
fn list_mut<'a>(tree: &'a mut Value, key: &str) -> Option<&'a mut Vec<Value>> {
    let entry = tree.as_object_mut()?.entry(key).or_insert(Value::Null);
    if entry.is_null() {
        *entry = Value::Array(Vec::new());
    }
    entry.as_array_mut()
}
