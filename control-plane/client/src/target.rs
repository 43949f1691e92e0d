//! What a request is about: a collection, or an object in it.

use skep_api::GroupVersion;
use std::borrow::Cow;

/// A resource, in one namespace or in all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Collection {
    /// Group and version.
    pub group_version: GroupVersion,
    /// Plural lower-case name.
    pub resource: Cow<'static, str>,
    /// Namespace; none for cluster-scoped resources and for a view over all namespaces.
    pub namespace: Option<String>,
}

impl Collection {
    /// A resource of the core group: `v1` and the plural name, over all namespaces.
    pub fn core(resource: &'static str) -> Self {
        Collection::of("", "v1", resource)
    }

    /// A resource, over all namespaces.
    pub fn of(group: &'static str, version: &'static str, resource: &'static str) -> Self {
        Collection {
            group_version: GroupVersion::new(group, version),
            resource: resource.into(),
            namespace: None,
        }
    }

    /// The same resource in one namespace.
    pub fn within(&self, namespace: impl Into<String>) -> Self {
        Collection { namespace: Some(namespace.into()), ..self.clone() }
    }

    /// An object of the collection.
    pub fn object(&self, name: impl Into<String>) -> Target {
        Target { collection: self.clone(), name: name.into(), subresource: None }
    }

    /// The object of a namespace and name; an empty namespace is a cluster-scoped object.
    pub fn item(&self, namespace: &str, name: &str) -> Target {
        if namespace.is_empty() { self.object(name) } else { self.within(namespace).object(name) }
    }

    /// The URL path: `/api/v1/namespaces/default/pods`.
    pub fn path(&self) -> String {
        let root = if self.group_version.group.is_empty() { "api" } else { "apis" };
        match &self.namespace {
            Some(ns) => format!("/{root}/{}/namespaces/{ns}/{}", self.group_version, self.resource),
            None => format!("/{root}/{}/{}", self.group_version, self.resource),
        }
    }
}

/// An object, or a subresource of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Where it lives.
    pub collection: Collection,
    /// Its name.
    pub name: String,
    /// `status`, `scale`, `binding`, …
    pub subresource: Option<&'static str>,
}

impl Target {
    /// A subresource of the same object.
    pub fn sub(&self, subresource: &'static str) -> Self {
        Target { subresource: Some(subresource), ..self.clone() }
    }

    /// The URL path.
    pub fn path(&self) -> String {
        let base = format!("{}/{}", self.collection.path(), self.name);
        match self.subresource {
            Some(sub) => format!("{base}/{sub}"),
            None => base,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let pods = Collection::core("pods");
        assert_eq!(pods.path(), "/api/v1/pods");
        assert_eq!(pods.item("d", "a").sub("status").path(), "/api/v1/namespaces/d/pods/a/status");
        let sets = Collection::of("apps", "v1", "replicasets").within("d");
        assert_eq!(sets.path(), "/apis/apps/v1/namespaces/d/replicasets");
        assert_eq!(Collection::core("nodes").item("", "n1").path(), "/api/v1/nodes/n1");
    }
}
