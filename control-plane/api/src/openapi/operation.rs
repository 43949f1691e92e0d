//! Paths and operations of a resource.

use super::component::{Version, gvk_value};
use crate::resource::{GroupVersion, GroupVersionKind, Resource};
use serde_json::{Map, Value, json};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Query parameters, one row each: name, type, what it does, and the operations that take it.
const PARAMETERS: &[(&str, &str, &str, &[Action])] = {
    use Action::*;
    const SELECT: &[Action] = &[List, DeleteCollection];
    const WRITE: &[Action] = &[Create, Update, Patch];
    const DRY: &[Action] = &[Create, Update, Patch, Delete, DeleteCollection];
    const DELETE: &[Action] = &[Delete, DeleteCollection];
    &[
        ("allowWatchBookmarks", "boolean", "Whether a watch may send events of type BOOKMARK.", &[List]),
        ("continue", "string", "Where an earlier, limited list left off.", SELECT),
        ("dryRun", "string", "All: take the request through every step but the last.", DRY),
        ("fieldManager", "string", "Who makes the change.", WRITE),
        ("fieldSelector", "string", "Only objects whose fields match.", SELECT),
        (
            "fieldValidation",
            "string",
            "Ignore, Warn (the default) or Strict: what unknown and duplicate fields mean.",
            WRITE,
        ),
        ("force", "boolean", "Apply only: take over fields that others manage.", &[Patch]),
        ("gracePeriodSeconds", "integer", "Seconds before the object goes; 0 at once.", DELETE),
        ("labelSelector", "string", "Only objects whose labels match.", SELECT),
        ("limit", "integer", "The most objects to answer with.", SELECT),
        ("orphanDependents", "boolean", "Deprecated, see propagationPolicy.", DELETE),
        (
            "propagationPolicy",
            "string",
            "Orphan, Background or Foreground: what happens to dependents.",
            DELETE,
        ),
        ("resourceVersion", "string", "How new the answer must be, or where a watch begins.", SELECT),
        ("resourceVersionMatch", "string", "How resourceVersion is meant.", SELECT),
        ("sendInitialEvents", "boolean", "Whether a watch begins with the objects there are.", SELECT),
        ("timeoutSeconds", "integer", "How long a list or watch may last.", SELECT),
        ("watch", "boolean", "Answer with changes as they happen.", &[List]),
    ]
};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    List,
    Create,
    DeleteCollection,
    Get,
    Update,
    Patch,
    Delete,
}

/// One row a verb of the resource table: the action, its HTTP method, `x-kubernetes-action`, the first word
/// of its operation id, and words for people.
const ACTIONS: &[(&str, Action, &str, &str, &str, &str)] = &[
    ("list", Action::List, "get", "list", "list", "list or watch objects of kind"),
    ("create", Action::Create, "post", "post", "create", "create one"),
    (
        "deletecollection",
        Action::DeleteCollection,
        "delete",
        "deletecollection",
        "delete",
        "delete all that match of",
    ),
    ("get", Action::Get, "get", "get", "read", "read one"),
    ("update", Action::Update, "put", "put", "replace", "replace one"),
    ("patch", Action::Patch, "patch", "patch", "patch", "change parts of one"),
    ("delete", Action::Delete, "delete", "delete", "delete", "delete one"),
];

/// What an operation is about.
struct About<'a> {
    gv: &'a GroupVersion,
    /// Kind of the body.
    gvk: &'a GroupVersionKind,
    /// Type of the body, where the schema set has it.
    body: Option<&'a str>,
    /// Kind of lists.
    list_kind: &'a str,
    /// Media types of patches.
    patches: &'static [&'static str],
    /// `NamespacedPodStatus`: the tail of the operation id.
    tail: String,
    namespaced: bool,
    named: bool,
    version: Version,
}

/// Names a type by its kind.
pub(super) type TypeOf<'a> = &'a dyn Fn(&GroupVersionKind) -> Option<String>;

/// `/api/v1` or `/apis/apps/v1`.
pub(super) fn root(gv: &GroupVersion) -> String {
    if gv.group.is_empty() { format!("/api/{}", gv.version) } else { format!("/apis/{gv}") }
}

/// The paths of a resource and of what lies below it.
pub(super) fn paths(row: &Resource, version: Version, type_of: TypeOf<'_>) -> Vec<(String, Value)> {
    let gv = row.gvk.group_version();
    let root = root(&gv);
    let kind = &row.gvk.kind;
    let plural = &row.plural;
    let namespaced = row.namespaced();
    let prefix = if namespaced { "Namespaced" } else { "" };
    let place = if namespaced {
        format!("{root}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("{root}/{plural}")
    };
    let body = type_of(&row.gvk);
    let list_kind = row.list_kind();
    let about = |tail: String, namespaced: bool, named: bool| About {
        gv: &gv,
        gvk: &row.gvk,
        body: body.as_deref(),
        list_kind: &list_kind,
        patches: row.patches(),
        tail,
        namespaced,
        named,
        version,
    };
    let verbs = |wanted: &[Action]| -> Vec<&'static str> {
        let listed = ACTIONS.iter().filter(|a| wanted.contains(&a.1) && row.verbs.contains(&a.0));
        listed.map(|a| a.0).collect()
    };
    let mut out = Vec::new();
    let collection = verbs(&[Action::List, Action::Create, Action::DeleteCollection]);
    out.push((place.clone(), item(&about(format!("{prefix}{kind}"), namespaced, false), &collection)));
    if namespaced && row.verbs.contains(&"list") {
        let tail = format!("{kind}ForAllNamespaces");
        out.push((format!("{root}/{plural}"), item(&about(tail, false, false), &["list"])));
    }
    let single = verbs(&[Action::Get, Action::Update, Action::Patch, Action::Delete]);
    out.push((
        format!("{place}/{{name}}"),
        item(&about(format!("{prefix}{kind}"), namespaced, true), &single),
    ));
    for sub in &row.subresources {
        let body = type_of(&sub.kind);
        let about = About {
            gv: &gv,
            gvk: &sub.kind,
            body: body.as_deref(),
            list_kind: &list_kind,
            patches: row.patches(),
            tail: format!("{prefix}{kind}{}", camel(&sub.name)),
            namespaced,
            named: true,
            version,
        };
        out.push((format!("{place}/{{name}}/{}", sub.name), item(&about, sub.verbs)));
    }
    out.retain(|(_, item)| item.as_object().is_some_and(|map| map.len() > 1));
    out
}

fn item(about: &About<'_>, verbs: &[&str]) -> Value {
    let mut out = Map::new();
    for (verb, action, method, name, word, text) in ACTIONS {
        if verbs.contains(verb) {
            out.insert((*method).to_owned(), operation(about, *action, name, word, text));
        }
    }
    let mut parameters = Vec::new();
    if about.named {
        parameters.push(path_parameter(about.version, "name", &format!("name of the {}", about.gvk.kind)));
    }
    if about.namespaced {
        parameters.push(path_parameter(about.version, "namespace", "namespace of the object"));
    }
    parameters.push(query_parameter(
        about.version,
        "pretty",
        "string",
        "If 'true', then the output is pretty printed.",
    ));
    out.insert("parameters".into(), parameters.into());
    Value::Object(out)
}

fn operation(about: &About<'_>, action: Action, name: &str, word: &str, text: &str) -> Value {
    let collection = if action == Action::DeleteCollection { "Collection" } else { "" };
    let id = format!(
        "{word}{}{}{collection}{}",
        group_name(&about.gv.group),
        camel(&about.gv.version),
        about.tail
    );
    let tag = format!("{}_{}", lower_first(&group_name(&about.gv.group)), about.gv.version);
    let parameters: Vec<Value> = PARAMETERS
        .iter()
        .filter(|row| row.3.contains(&action))
        .map(|row| query_parameter(about.version, row.0, row.1, row.2))
        .collect();
    let mut out = json!({
        "description": format!("{text} {}", about.gvk.kind),
        "operationId": id,
        "tags": [tag],
        "x-kubernetes-action": name,
        "x-kubernetes-group-version-kind": gvk_value(about.gvk),
    });
    let answer = match action {
        Action::List => about.body.map(|body| {
            let package = body.strip_suffix(about.gvk.kind.as_ref()).unwrap_or_default();
            format!("{package}{}", about.list_kind)
        }),
        Action::DeleteCollection => Some(format!("{META}.Status")),
        // Deleting answers with a Status, or with the object where it is still there.
        _ => about.body.map(str::to_owned),
    };
    let codes: &[(&str, &str)] = match action {
        Action::List | Action::Get | Action::DeleteCollection => &[("200", "OK")],
        Action::Create => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
        Action::Update | Action::Patch => &[("200", "OK"), ("201", "Created")],
        Action::Delete => &[("200", "OK"), ("202", "Accepted")],
    };
    let mut responses = Map::new();
    for (code, description) in codes {
        responses.insert((*code).to_owned(), response(about.version, description, answer.as_deref()));
    }
    responses.insert("401".into(), json!({"description": "Unauthorized"}));
    out["responses"] = Value::Object(responses);
    let body = match action {
        Action::Create | Action::Update => about.body.map(str::to_owned),
        Action::Patch => Some(format!("{META}.Patch")),
        Action::Delete | Action::DeleteCollection => Some(format!("{META}.DeleteOptions")),
        Action::List | Action::Get => None,
    };
    let media: &[&str] = if action == Action::Patch { about.patches } else { &["*/*"] };
    let mut parameters = parameters;
    match (about.version, body) {
        (_, None) => {}
        (Version::V3, Some(body)) => {
            let schema = json!({"schema": about.version.reference(&body)});
            let content: Map<String, Value> =
                media.iter().map(|m| ((*m).to_owned(), schema.clone())).collect();
            out["requestBody"] = json!({"content": content});
            if matches!(action, Action::Create | Action::Update | Action::Patch) {
                out["requestBody"]["required"] = true.into();
            }
        }
        (Version::V2, Some(body)) => {
            let required = !matches!(action, Action::Delete | Action::DeleteCollection);
            let mut parameter =
                json!({"in": "body", "name": "body", "schema": about.version.reference(&body)});
            if required {
                parameter["required"] = true.into();
            }
            parameters.push(parameter);
        }
    }
    if about.version == Version::V2 {
        out["consumes"] = json!(media);
        out["produces"] = json!(["application/json", "application/yaml"]);
        out["schemes"] = json!(["https"]);
    }
    if !parameters.is_empty() {
        out["parameters"] = parameters.into();
    }
    out
}

fn response(version: Version, description: &str, body: Option<&str>) -> Value {
    match (version, body) {
        (_, None) => json!({"description": description}),
        (Version::V2, Some(body)) => json!({"description": description, "schema": version.reference(body)}),
        (Version::V3, Some(body)) => {
            let schema = json!({"schema": version.reference(body)});
            let content = json!({"application/json": schema, "application/yaml": schema});
            json!({"description": description, "content": content})
        }
    }
}

fn path_parameter(version: Version, name: &str, description: &str) -> Value {
    let mut out = query_parameter(version, name, "string", description);
    out["in"] = "path".into();
    out["required"] = true.into();
    out
}

fn query_parameter(version: Version, name: &str, kind: &str, description: &str) -> Value {
    let mut out = json!({"name": name, "in": "query", "description": description});
    match version {
        Version::V2 => {
            out["type"] = kind.into();
            out["uniqueItems"] = true.into();
        }
        Version::V3 => out["schema"] = json!({"type": kind, "uniqueItems": true}),
    }
    out
}

/// `Core`, `Apps`, `RbacAuthorization`.
fn group_name(group: &str) -> String {
    if group.is_empty() { "Core".into() } else { camel(group.trim_end_matches(".k8s.io")) }
}

fn camel(text: &str) -> String {
    text.split(['.', '-'])
        .map(|part| {
            let mut chars = part.chars();
            chars
                .next()
                .map(|first| first.to_ascii_uppercase().to_string() + chars.as_str())
                .unwrap_or_default()
        })
        .collect()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}
