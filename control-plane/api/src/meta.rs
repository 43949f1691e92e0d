//! The slim part of an object's metadata that the server keeps decoded.

use serde::Deserialize;
use std::collections::BTreeMap;

/// What selectors, keys, watches and the garbage collector need of `metadata`; everything else stays in
/// the object's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    /// Namespace, empty for cluster-scoped objects.
    #[serde(deserialize_with = "nullable")]
    pub namespace: Box<str>,
    /// Name, unique in its namespace and resource.
    #[serde(deserialize_with = "nullable")]
    pub name: Box<str>,
    /// Unique over time and space.
    #[serde(deserialize_with = "nullable")]
    pub uid: Box<str>,
    /// Labels, for selectors.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// Set once deletion has been asked for (RFC 3339).
    pub deletion_timestamp: Option<Box<str>>,
    /// Incremented with each change of the desired state; 0 where the kind has none.
    #[serde(deserialize_with = "nullable")]
    pub generation: i64,
    /// Who owns this object.
    #[serde(deserialize_with = "nullable")]
    pub owner_references: Vec<OwnerReference>,
    /// Who must be done before the object may go.
    #[serde(deserialize_with = "nullable")]
    pub finalizers: Vec<Box<str>>,
}

/// `metav1.OwnerReference`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerReference {
    /// `group/version`, or `v1`.
    pub api_version: Box<str>,
    /// Kind of the owner.
    pub kind: Box<str>,
    /// Name of the owner, in the same namespace or cluster-scoped.
    pub name: Box<str>,
    /// Uid of the owner: a new object of the same name is another owner.
    pub uid: Box<str>,
    /// Whether this owner manages the object.
    pub controller: Option<bool>,
    /// Whether foreground deletion of the owner waits for this object.
    pub block_owner_deletion: Option<bool>,
}

impl Meta {
    /// Whether deletion has been asked for.
    pub fn deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// The owner that manages the object, if any.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|o| o.controller == Some(true))
    }

    /// `namespace/name`, or the name alone.
    pub fn key(&self) -> String {
        if self.namespace.is_empty() {
            self.name.to_string()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}

/// `null` reads as the default, as Kubernetes has it.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
