//! The default roles and bindings of Kubernetes, and the few of this project's own, read from the tables in `data/`.
//!
//! A line without indent begins an object: `clusterrole NAME [into X].. [from X]..` (it is aggregated into X; it collects what
//! is aggregated into X), `role NS/NAME`, `clusterrolebinding NAME ROLE`, `rolebinding NS/NAME ROLE`. Indented lines are its
//! rules (`VERBS on RESOURCES in GROUPS [named NAMES]`, `VERBS at PATHS`) or subjects (`user U`, `group G`, `sa NS/NAME`).

use super::rbac::Rule;
use serde_json::{Value, json};

const TABLES: [(&str, &str); 4] = [
    ("cluster-roles.txt", include_str!("data/cluster-roles.txt")),
    ("controller-roles.txt", include_str!("data/controller-roles.txt")),
    ("bindings.txt", include_str!("data/bindings.txt")),
    ("own.txt", include_str!("data/own.txt")),
];

/// API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";
/// Marks objects that the server made.
const BOOTSTRAPPING: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");
/// Objects so annotated are brought back to their defaults at every start.
pub const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// A default object: its resource's plural name and its tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Default {
    /// `clusterroles`, `roles`, `clusterrolebindings`, `rolebindings`.
    pub resource: &'static str,
    /// The object.
    pub object: Value,
}

/// All default objects, roles before the bindings that name them. A line that cannot be read is an error that names it.
pub fn all() -> Result<Vec<Default>, String> {
    let mut out: Vec<Default> = Vec::new();
    for (table, text) in TABLES {
        for (number, line) in text.lines().enumerate() {
            let fail = || format!("{table}:{}: cannot read {line:?}", number + 1);
            if line.starts_with('#') || line.is_empty() {
                continue;
            } else if let Some(entry) = line.strip_prefix("  ") {
                let last = out.last_mut().ok_or_else(fail)?;
                add_entry(last, entry).ok_or_else(fail)?;
            } else {
                out.push(begin(line).ok_or_else(fail)?);
            }
        }
    }
    Ok(out)
}

/// The rules of a default ClusterRole; none where there is no such role.
pub fn rules_of(name: &str) -> Vec<Rule> {
    let all = all().unwrap_or_default();
    let role = all.iter().find(|d| d.resource == "clusterroles" && d.object["metadata"]["name"] == name);
    let rules = role.and_then(|role| serde_json::from_value(role.object["rules"].clone()).ok());
    rules.unwrap_or_default()
}

fn begin(line: &str) -> Option<Default> {
    let mut words = line.split(' ');
    let (resource, kind) = match words.next()? {
        "clusterrole" => ("clusterroles", "ClusterRole"),
        "role" => ("roles", "Role"),
        "clusterrolebinding" => ("clusterrolebindings", "ClusterRoleBinding"),
        "rolebinding" => ("rolebindings", "RoleBinding"),
        _ => return None,
    };
    let full = words.next()?;
    let mut metadata =
        json!({"labels": {BOOTSTRAPPING.0: BOOTSTRAPPING.1}, "annotations": {AUTOUPDATE: "true"}});
    match full.split_once('/') {
        Some((namespace, name)) if !resource.starts_with("cluster") => {
            metadata["namespace"] = namespace.into();
            metadata["name"] = name.into();
        }
        None if resource.starts_with("cluster") => metadata["name"] = full.into(),
        _ => return None,
    }
    let mut object = json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind});
    if kind.ends_with("Binding") {
        let role_kind = kind.trim_end_matches("Binding");
        object["roleRef"] = json!({"apiGroup": GROUP, "kind": role_kind, "name": words.next()?});
    } else {
        let mut selectors = Vec::new();
        while let Some(word) = words.next() {
            let label = format!("{GROUP_LABEL}{}", words.next()?);
            match word {
                "into" => metadata["labels"][label] = "true".into(),
                "from" => selectors.push(json!({"matchLabels": {label: "true"}})),
                _ => return None,
            }
        }
        if !selectors.is_empty() {
            object["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
        }
        object["rules"] = json!([]);
    }
    object["metadata"] = metadata;
    words.next().is_none().then_some(Default { resource, object })
}

const GROUP_LABEL: &str = "rbac.authorization.k8s.io/aggregate-to-";

fn add_entry(target: &mut Default, entry: &str) -> Option<()> {
    let words: Vec<&str> = entry.split(' ').collect();
    let items = |text: &str| -> Vec<Box<str>> {
        text.split(',').map(|g| if g == "core" { "" } else { g }.into()).collect()
    };
    if target.resource.ends_with("bindings") {
        let subject = match *words.as_slice() {
            ["user", name] => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
            ["group", name] => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
            ["sa", full] => {
                let (namespace, name) = full.split_once('/')?;
                json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
            }
            _ => return None,
        };
        match target.object.get_mut("subjects").and_then(Value::as_array_mut) {
            Some(list) => list.push(subject),
            None => target.object["subjects"] = json!([subject]),
        }
        return Some(());
    }
    let rule = match *words.as_slice() {
        [verbs, "at", urls] => {
            Rule { verbs: items(verbs), non_resource_urls: items(urls), ..Rule::default() }
        }
        [verbs, "on", resources, "in", groups, ref rest @ ..] => Rule {
            verbs: items(verbs),
            resources: items(resources),
            api_groups: items(groups),
            resource_names: match *rest {
                [] => Vec::new(),
                ["named", names] => items(names),
                _ => return None,
            },
            ..Rule::default()
        },
        _ => return None,
    };
    target.object.get_mut("rules")?.as_array_mut()?.push(serde_json::to_value(rule).ok()?);
    Some(())
}
