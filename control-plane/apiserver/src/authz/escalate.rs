//! Whether somebody holds the rights they hand out, as plain functions.

use super::rbac::Rule;
use std::collections::{BTreeMap, BTreeSet};

/// Group, resource and, where the rule is limited to one, name.
type Of = (Box<str>, Box<str>, Option<Box<str>>);

/// What of `wanted` no rule of `own` covers, one line a resource (or path), in upstream's words and sorted; empty where
/// nothing is missing.
pub fn missing(own: &[Rule], wanted: &[Rule]) -> Vec<String> {
    let mut lines = BTreeSet::new();
    let mut resources: BTreeMap<Of, Rule> = BTreeMap::new();
    for atom in wanted.iter().flat_map(atoms) {
        if own.iter().any(|rule| covers(rule, &atom)) {
            continue;
        }
        match (atom.api_groups.first(), atom.resources.first()) {
            (Some(group), Some(resource)) => {
                let key = (group.clone(), resource.clone(), atom.resource_names.first().cloned());
                match resources.get_mut(&key) {
                    Some(rule) => rule.verbs.extend(atom.verbs),
                    None => drop(resources.insert(key, atom)),
                }
            }
            _ => drop(lines.insert(compact(&atom))),
        }
    }
    lines.extend(resources.values().map(compact));
    lines.into_iter().collect()
}

/// A rule taken apart: each with one verb, and one resource and name, or one path.
fn atoms(rule: &Rule) -> Vec<Rule> {
    let one = |text: &str| vec![Box::from(text)];
    let names: Vec<Option<&str>> = match rule.resource_names.as_slice() {
        [] => vec![None],
        all => all.iter().map(|name| Some(&**name)).collect(),
    };
    let mut out = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                out.extend(names.iter().map(|name| Rule {
                    api_groups: one(group),
                    resources: one(resource),
                    verbs: one(verb),
                    resource_names: name.map(Box::from).into_iter().collect(),
                    ..Rule::default()
                }));
            }
        }
    }
    for url in &rule.non_resource_urls {
        for verb in &rule.verbs {
            out.push(Rule { non_resource_urls: one(url), verbs: one(verb), ..Rule::default() });
        }
    }
    out
}

/// Whether a rule allows all that an atom does.
fn covers(own: &Rule, atom: &Rule) -> bool {
    let within = |have: &[Box<str>], wanted: &[Box<str>]| {
        have.iter().any(|h| **h == *"*") || wanted.iter().all(|w| have.contains(w))
    };
    let resource = |wanted: &str| {
        let star = |(_, sub): (&str, &str)| own.resources.iter().any(|r| r.strip_prefix("*/") == Some(sub));
        own.resources.iter().any(|r| **r == *"*" || **r == *wanted)
            || wanted.split_once('/').is_some_and(star)
    };
    let url = |wanted: &str| {
        own.non_resource_urls
            .iter()
            .any(|u| **u == *wanted || (u.ends_with('*') && wanted.starts_with(u.trim_end_matches('*'))))
    };
    let named = own.resource_names.is_empty()
        || (!atom.resource_names.is_empty()
            && atom.resource_names.iter().all(|name| own.resource_names.contains(name)));
    within(&own.verbs, &atom.verbs)
        && within(&own.api_groups, &atom.api_groups)
        && atom.resources.iter().all(|r| resource(r))
        && atom.non_resource_urls.iter().all(|u| url(u))
        && named
}

/// `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get" "list"]}`.
fn compact(rule: &Rule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let shown = parts.iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| {
        let list: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
        format!("{name}:[{}]", list.join(" "))
    });
    format!("{{{}}}", shown.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn rules(value: Value) -> Vec<Rule> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_held_may_be_given() {
        let own = rules(json!([
            {"apiGroups": ["", "apps"], "resources": ["pods", "deployments", "*/scale"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"], "verbs": ["*"]},
            {"nonResourceURLs": ["/logs/*"], "verbs": ["get"]},
        ]));
        for given in [
            json!([{"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "verbs": ["list"]}]),
            json!([{"apiGroups": [""], "resources": ["pods"], "resourceNames": ["x"], "verbs": ["get"]}]),
            json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["b"], "verbs": ["delete"]}]),
            json!([{"nonResourceURLs": ["/logs/a", "/logs/*"], "verbs": ["get"]}]),
            json!([]),
        ] {
            assert_eq!(missing(&own, &rules(given.clone())), Vec::<String>::new(), "{given}");
        }
        assert_eq!(missing(&Rule::everything(), &own), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_is_said_once_a_resource() {
        let own = rules(json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"], "verbs": ["get"]},
        ]));
        let wanted = rules(json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
            {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
            {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
        ]));
        assert_eq!(
            missing(&own, &wanted),
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}"#,
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#,
                r#"{APIGroups:["*"], Resources:["*"], Verbs:["*"]}"#,
                r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#,
            ]
        );
    }
}
