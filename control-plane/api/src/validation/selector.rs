//! `metav1.LabelSelector` as objects carry it.

use super::{At, Errors, labels, text};
use crate::selector::{LabelSelector, Requirement};
use serde_json::Value;
use std::collections::BTreeMap;

/// The rules of a label selector.
pub fn validate(errors: &mut Errors, at: &At<'_, '_>) {
    labels(errors, &at.get("matchLabels"));
    for expression in at.get("matchExpressions").items() {
        requirement(errors, &expression);
    }
}

fn requirement(errors: &mut Errors, at: &At<'_, '_>) {
    let (key, operator, values) = (at.get("key"), at.get("operator"), at.get("values"));
    match operator.text() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => errors.invalid(&operator, "not a valid selector operator"),
    }
    errors.text(&key, text::qualified_name(key.text()));
    for value in values.items() {
        errors.text(&value, text::label_value(value.text()));
    }
}

/// The selector to match with. Like upstream's, nothing at all (`None`) selects nothing, and an empty selector
/// everything; an expression that is not valid selects nothing.
pub fn compile(selector: Option<&Value>) -> Option<LabelSelector> {
    let selector = selector.filter(|s| !s.is_null())?;
    let mut out = Vec::new();
    let root = At::root(selector);
    for (key, value) in root.get("matchLabels").entries() {
        out.push(Requirement::In(key.to_owned(), vec![value.text().to_owned()]));
    }
    for expression in root.get("matchExpressions").items() {
        let key = expression.get("key").text().to_owned();
        let values = expression.get("values").texts().map(str::to_owned).collect();
        out.push(match expression.get("operator").text() {
            "In" => Requirement::In(key, values),
            "NotIn" => Requirement::NotIn(key, values),
            "Exists" => Requirement::Exists(key),
            "DoesNotExist" => Requirement::DoesNotExist(key),
            _ => return None,
        });
    }
    Some(LabelSelector(out))
}

/// Whether a selector is valid, or not there.
pub fn is_valid(selector: &At<'_, '_>) -> bool {
    let mut errors = Errors::new();
    validate(&mut errors, selector);
    errors.is_empty()
}

/// Whether a selector that is valid leaves out what has these labels; one that is not there leaves out everything. Of one
/// that is not valid nothing is said here.
pub fn misses(selector: &At<'_, '_>, labels: &BTreeMap<Box<str>, Box<str>>) -> bool {
    is_valid(selector) && compile(selector.value()).is_none_or(|selector| !selector.matches(labels))
}

/// The labels of an object or template, as selectors read them.
pub fn labels_of(metadata: &At<'_, '_>) -> BTreeMap<Box<str>, Box<str>> {
    metadata.get("labels").entries().map(|(key, value)| (key.into(), value.text().into())).collect()
}

/// A label selector as text, keys sorted, as `kubectl` and the scale subresource show it; `<none>` for an empty
/// one, `<error>` for one that is not valid.
pub fn format(selector: Option<&Value>) -> String {
    let Some(selector) = selector.filter(|s| !s.is_null()) else { return "<none>".into() };
    let root = At::root(selector);
    let mut parts: Vec<(&str, String)> = Vec::new();
    for (key, value) in root.get("matchLabels").entries() {
        parts.push((key, format!("{key}={}", value.text())));
    }
    let list = selector.get("matchExpressions").and_then(Value::as_array);
    for expression in list.into_iter().flatten() {
        let at = At::root(expression);
        let key = expression.get("key").and_then(Value::as_str).unwrap_or_default();
        let values = at.get("values");
        let mut values: Vec<&str> = values.texts().collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match at.get("operator").text() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".into(),
        };
        parts.push((key, text));
    }
    if parts.is_empty() {
        return "<none>".into();
    }
    parts.sort_by_key(|(key, _)| *key);
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_are_checked() {
        for (selector, wrong) in [
            (json!({"matchLabels": {"a": "b"}}), ""),
            (json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]}), ""),
            (json!({"matchLabels": {"a b": "c"}}), "matchLabels"),
            (json!({"matchExpressions": [{"key": "a", "operator": "In"}]}), "matchExpressions[0].values"),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
                "matchExpressions[0].values",
            ),
            (json!({"matchExpressions": [{"key": "a", "operator": "Is"}]}), "matchExpressions[0].operator"),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["-"]}]}),
                "matchExpressions[0].values[0]",
            ),
        ] {
            let mut errors = Errors::new();
            validate(&mut errors, &At::root(&selector));
            let paths: Vec<String> = errors.done().iter().map(|e| e.path.to_string()).collect();
            assert_eq!(paths.join(" "), wrong, "{selector}");
        }
    }

    #[test]
    fn selectors_are_compiled_and_shown() {
        let selector = json!({"matchLabels": {"b": "1"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "c", "operator": "DoesNotExist"}]});
        assert_eq!(format(Some(&selector)), "a in (x,y),b=1,!c");
        assert_eq!(format(None), "<none>");
        assert_eq!(format(Some(&json!({}))), "<none>");
        let compiled = compile(Some(&selector)).unwrap();
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        assert!(compiled.matches(&labels(&[("a", "x"), ("b", "1")])));
        assert!(!compiled.matches(&labels(&[("a", "x"), ("b", "1"), ("c", "")])));
        assert!(compile(None).is_none());
        assert!(compile(Some(&json!({}))).unwrap().is_everything());
    }
}
