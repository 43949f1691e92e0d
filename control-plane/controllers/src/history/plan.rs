//! What a history needs, decided from its revisions and the present template.

use super::Owner;
use crate::deployment::template_hash;
use crate::views::{PodMeta, controller_reference};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A name is `prefix-hash`, the prefix no longer than this.
const PREFIX_MAX: usize = 223;

/// A ControllerRevision.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Revision {
    pub(crate) metadata: PodMeta,
    /// The patch that brings its template back.
    pub(crate) data: Value,
    /// Its number: the highest is the present one.
    pub(crate) revision: i64,
}

impl Revision {
    pub(crate) fn name(&self) -> &str {
        &self.metadata.meta.name
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.metadata.meta.labels.get(key).map(|label| &**label)
    }

    /// The template it keeps.
    pub(crate) fn template(&self) -> Value {
        let mut template = self.data.pointer("/spec/template").cloned().unwrap_or_default();
        if let Some(map) = template.as_object_mut() {
            map.remove("$patch");
        }
        template
    }
}

/// What a revision keeps of a controller: a strategic merge patch that replaces the template.
pub(crate) fn data(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(map) = template.as_object_mut() {
        map.insert("$patch".into(), "replace".into());
    }
    json!({"spec": {"template": template}})
}

/// By number, then age, then name.
pub(super) fn sort(revisions: &mut [Revision]) {
    let rank = |r: &Revision| (r.revision, r.metadata.creation_timestamp, r.name().to_owned());
    revisions.sort_by_cached_key(rank);
}

/// Where the present template is in a history.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Latest {
    /// It has the highest number.
    Known(usize),
    /// It was there before; now it gets this number.
    Renumber(usize, i64),
    /// It is to be created with this number.
    Missing(i64),
}

/// Finds the present template in a history sorted by number.
pub(super) fn latest(revisions: &[Revision], data: &Value) -> Latest {
    let next = revisions.last().map_or(1, |last| last.revision + 1);
    match revisions.iter().rposition(|r| skep_api::validation::same(Some(&r.data), Some(data))) {
        Some(at) if at + 1 == revisions.len() => Latest::Known(at),
        Some(at) => Latest::Renumber(at, next),
        None => Latest::Missing(next),
    }
}

/// The revision to create.
pub(super) fn new_revision(owner: &Owner<'_>, number: i64, collisions: i64) -> Value {
    let meta = owner.object.meta();
    let hash = template_hash(owner.template, collisions);
    let labels = owner.template.pointer("/metadata/labels").and_then(Value::as_object);
    let mut labels: Map<String, Value> = labels.cloned().unwrap_or_default();
    labels.insert(owner.hash_label.into(), hash.as_str().into());
    let mut end = meta.name.len().min(PREFIX_MAX);
    while !meta.name.is_char_boundary(end) {
        end -= 1;
    }
    let reference = controller_reference(owner.api_version, owner.kind, &meta.name, &meta.uid);
    let mut metadata = json!({
        "name": format!("{}-{hash}", &meta.name[..end]), "labels": labels, "ownerReferences": [reference],
    });
    let tree = owner.object.value();
    if let Some(annotations) = tree.pointer("/metadata/annotations") {
        metadata["annotations"] = annotations.clone();
    }
    json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata,
        "data": data(owner.template), "revision": number,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_api::{LabelSelector, Object};

    fn template(image: &str) -> Value {
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
    }

    fn revision(name: &str, number: i64, image: &str) -> Revision {
        let metadata = json!({"name": name, "creationTimestamp": format!("2026-01-01T00:00:0{number}Z")});
        let value = json!({"metadata": metadata, "data": data(&template(image)), "revision": number});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_present_template_has_the_highest_number() {
        assert_eq!(latest(&[], &data(&template("web:1"))), Latest::Missing(1));
        let mut all = vec![revision("b", 2, "web:2"), revision("a", 1, "web:1")];
        sort(&mut all);
        assert_eq!(all[0].name(), "a");
        assert_eq!(latest(&all, &data(&template("web:2"))), Latest::Known(1));
        assert_eq!(latest(&all, &data(&template("web:1"))), Latest::Renumber(0, 3));
        assert_eq!(latest(&all, &data(&template("web:3"))), Latest::Missing(3));
        assert_eq!(all[0].template(), template("web:1"));
    }

    #[test]
    fn a_revision_says_whose_it_is() {
        let object = Object::from_value(
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata":
                {"name": "web", "namespace": "d", "uid": "u", "annotations": {"note": "x"}}}),
            7,
            &[],
        )
        .unwrap();
        let selector = LabelSelector::parse("app=web").unwrap();
        let owner = Owner {
            api_version: "apps/v1",
            kind: "StatefulSet",
            object: &object,
            hash_label: "controller.kubernetes.io/hash",
            selector: &selector,
            template: &template("web:1"),
            collisions: 0,
        };
        let first = new_revision(&owner, 4, 0);
        let hash = first["metadata"]["labels"]["controller.kubernetes.io/hash"].as_str().unwrap();
        assert_eq!(first["metadata"]["name"], format!("web-{hash}"));
        assert_eq!(first["metadata"]["labels"]["app"], "web");
        assert_eq!(first["metadata"]["annotations"]["note"], "x");
        assert_eq!(first["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(first["revision"], 4);
        assert_ne!(new_revision(&owner, 4, 1)["metadata"]["name"], first["metadata"]["name"]);
    }
}
