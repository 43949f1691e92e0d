//! FlowSchemas: which requests belong to which priority level.

use super::conditions;
use super::fixed::fixed_spec;
use crate::field::FieldError;
use crate::kinds::columns::{age, name};
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::resource::{Column, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, same};
use serde_json::Value;

/// FlowSchemas.
#[derive(Debug, Default)]
pub struct FlowSchema;

const PRECEDENCE_MAX: i64 = 10_000;
const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

impl Strategy for FlowSchema {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let (spec, metadata) = (root.get("spec"), root.get("metadata"));
        let name = metadata.get("name").text();
        precedence(&mut errors, &spec.get("matchingPrecedence"), name);
        let by = spec.get("distinguisherMethod");
        let by_type = by.get("type");
        if by.present() && !matches!(by_type.text(), "ByNamespace" | "ByUser") {
            let known = ["ByNamespace", "ByUser"];
            errors.push(FieldError::not_supported(by_type.path(), by.json(), &known));
        }
        let level = spec.get("priorityLevelConfiguration");
        let level = level.get("name");
        if level.text().is_empty() {
            errors.required(&level, "must reference a priority level");
        }
        errors.optional_text(&level, |name| dns1123_subdomain(name, false));
        spec.get("rules").items().for_each(|rule| check_rule(&mut errors, &rule));
        if let Some(fixed) = fixed_spec("FlowSchema", name)
            && !same(spec.value(), Some(&fixed))
        {
            errors.invalid(&spec, format!("spec of '{name}' must equal the fixed value"));
        }
        conditions(&mut errors, &root.get("status"));
        errors.done()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        conditions(&mut errors, &At::root(new).get("status"));
        errors.done()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("PriorityLevel", "string", "The priority level its requests are served at."),
            column("MatchingPrecedence", "string", "Lower numbers are looked at first."),
            column("DistinguisherMethod", "string", "What tells its flows apart."),
            age(),
            column("MissingPL", "string", "Whether the priority level is not there."),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let (spec, status) = (root.get("spec"), root.get("status"));
        let (level, by) = (spec.get("priorityLevelConfiguration"), spec.get("distinguisherMethod"));
        let conditions = status.get("conditions");
        let dangling = conditions.items().find(|c| c.get("type").text() == "Dangling");
        vec![
            table::name(object),
            level.get("name").text().into(),
            crate::kinds::columns::count(&spec.get("matchingPrecedence")),
            if by.present() { by.get("type").text().into() } else { "<none>".into() },
            table::age(object, now),
            dangling.map_or("?".into(), |c| c.get("status").text().into()),
        ]
    }
}

fn precedence(errors: &mut Errors, at: &At<'_, '_>, name: &str) {
    let number = at.int().unwrap_or(0);
    if number <= 0 {
        errors.invalid(at, "must be a positive value");
    }
    if number > PRECEDENCE_MAX {
        errors.invalid(at, format!("must not be greater than {PRECEDENCE_MAX}"));
    }
    if number == 1 && name != "exempt" {
        errors.invalid(at, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
}

fn check_rule(errors: &mut Errors, rule: &At<'_, '_>) {
    let (subjects, resources, paths) =
        (rule.get("subjects"), rule.get("resourceRules"), rule.get("nonResourceRules"));
    if subjects.is_empty() {
        errors.required(&subjects, "subjects must contain at least one value");
    }
    subjects.items().for_each(|subject| check_subject(errors, &subject));
    if resources.is_empty() && paths.is_empty() {
        errors.required(rule, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for rule in resources.items() {
        verbs(errors, &rule.get("verbs"));
        for (field, none, other) in
            [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")]
        {
            let list = rule.get(field);
            if list.is_empty() {
                errors.required(&list, format!("resource rules must supply at least one {none}"));
            }
            alone(errors, &list, other);
        }
        namespaces(errors, &rule);
    }
    for rule in paths.items() {
        verbs(errors, &rule.get("verbs"));
        let urls = rule.get("nonResourceURLs");
        if urls.is_empty() {
            errors.required(&urls, "nonResourceURLs must contain at least one value");
        } else if !alone(errors, &urls, "non-resource URLs") {
            urls.items().for_each(|url| check_path(errors, &url));
        }
    }
}

/// Whether `*` is in the list, where it must be alone.
fn alone(errors: &mut Errors, list: &At<'_, '_>, others: &str) -> bool {
    let any = list.texts().any(|text| text == "*");
    if any && list.len() > 1 {
        errors.invalid(list, format!("if '*' is present, must not specify other {others}"));
    }
    any
}

fn verbs(errors: &mut Errors, list: &At<'_, '_>) {
    if list.is_empty() {
        errors.required(list, "verbs must contain at least one value");
    } else if !alone(errors, list, "verbs") && !list.texts().all(|verb| VERBS.contains(&verb)) {
        errors.not_supported(list, VERBS);
    }
}

fn namespaces(errors: &mut Errors, rule: &At<'_, '_>) {
    let list = rule.get("namespaces");
    if list.is_empty() && !rule.get("clusterScope").is_true() {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&list, why);
    } else if !alone(errors, &list, "namespaces") {
        for namespace in list.items() {
            for message in dns1123_label(namespace.text(), false) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {message}");
                errors.invalid(&namespace, why);
            }
        }
    }
}

/// Kinds of subjects, and the field that goes with each.
const SUBJECTS: &[(&str, &str)] =
    &[("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];

fn check_subject(errors: &mut Errors, subject: &At<'_, '_>) {
    let kind = subject.get("kind");
    if !SUBJECTS.iter().any(|(known, _)| *known == kind.text()) {
        return errors.not_supported(&kind, &["Group", "ServiceAccount", "User"]);
    }
    for (known, field) in SUBJECTS {
        let at = subject.get(field);
        if *known != kind.text() {
            if at.present() {
                let why = format!("{field} is forbidden when subject kind is not '{known}'");
                errors.forbidden(&at, why);
            }
            continue;
        }
        if !at.present() {
            errors.required(&at, format!("{field} is required when subject kind is '{known}'"));
            continue;
        }
        let (name, namespace) = (at.get("name"), at.get("namespace"));
        if name.text().is_empty() {
            errors.required(&name, "");
        }
        if *known == "ServiceAccount" {
            if name.text() != "*" {
                errors.optional_text(&name, |name| dns1123_subdomain(name, false));
            }
            if namespace.text().is_empty() {
                errors.required(&namespace, "must specify namespace for service account");
            }
            errors.optional_text(&namespace, |name| dns1123_label(name, false));
        }
    }
}

fn check_path(errors: &mut Errors, at: &At<'_, '_>) {
    let path = at.text();
    let why = if path.is_empty() {
        "must not be empty"
    } else if path == "/" {
        return;
    } else if !path.starts_with('/') {
        "must start with slash"
    } else if path.contains(' ') {
        "must not contain white-space"
    } else if path.contains("//") {
        "must not contain double slash"
    } else if path.matches('*').count() > 1 || (path.contains('*') && !path.ends_with("/*")) {
        "wildcard can only do suffix matching"
    } else {
        return;
    };
    errors.invalid(at, why);
}
