//! Label and field selectors (`k8s.io/apimachinery/pkg/labels` and `…/fields`).

use serde_json::Value;
use std::collections::BTreeMap;

/// Why text is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse requirement: {0}")]
pub struct SelectorError(pub String);

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// `key in (a,b)`, `key=a`.
    In(String, Vec<String>),
    /// `key notin (a,b)`, `key!=a`; true also without the label.
    NotIn(String, Vec<String>),
    /// `key`.
    Exists(String),
    /// `!key`.
    DoesNotExist(String),
    /// `key>5`.
    GreaterThan(String, i64),
    /// `key<5`.
    LessThan(String, i64),
}

impl Requirement {
    /// Reads one row of `matchExpressions`, of a label selector or of a node selector (which has `Gt` and
    /// `Lt` too); none where it is broken.
    pub fn from_structure(row: &Value) -> Option<Self> {
        let key = row.get("key")?.as_str()?.to_owned();
        let values: Vec<String> = row
            .get("values")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect();
        let number = || values.first().and_then(|v| v.parse().ok());
        Some(match row.get("operator")?.as_str()? {
            "In" => Requirement::In(key, values),
            "NotIn" => Requirement::NotIn(key, values),
            "Exists" => Requirement::Exists(key),
            "DoesNotExist" => Requirement::DoesNotExist(key),
            "Gt" => Requirement::GreaterThan(key, number()?),
            "Lt" => Requirement::LessThan(key, number()?),
            _ => return None,
        })
    }

    /// Whether labels meet it.
    pub fn matches(&self, labels: &BTreeMap<Box<str>, Box<str>>) -> bool {
        let get = |key: &str| labels.get(key).map(|v| &**v);
        let number = |key: &str| get(key).and_then(|v| v.parse::<i64>().ok());
        match self {
            Requirement::In(key, values) => get(key).is_some_and(|v| values.iter().any(|x| x == v)),
            Requirement::NotIn(key, values) => get(key).is_none_or(|v| values.iter().all(|x| x != v)),
            Requirement::Exists(key) => get(key).is_some(),
            Requirement::DoesNotExist(key) => get(key).is_none(),
            Requirement::GreaterThan(key, than) => number(key).is_some_and(|n| n > *than),
            Requirement::LessThan(key, than) => number(key).is_some_and(|n| n < *than),
        }
    }
}

/// All requirements must hold; none is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(pub Vec<Requirement>);

impl LabelSelector {
    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels meet all requirements.
    pub fn matches(&self, labels: &BTreeMap<Box<str>, Box<str>>) -> bool {
        self.0.iter().all(|r| r.matches(labels))
    }

    /// Reads the structured form (`metav1.LabelSelector`). None where it is absent or broken, which selects
    /// nothing.
    pub fn from_structure(value: Option<&Value>) -> Option<Self> {
        let value = value?.as_object()?;
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let mut out = Vec::new();
        if let Some(labels) = value.get("matchLabels").and_then(Value::as_object) {
            for (key, want) in labels {
                out.push(Requirement::In(key.clone(), vec![text(want)?]));
            }
        }
        for row in value.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            out.push(Requirement::from_structure(row)?);
        }
        Some(LabelSelector(out))
    }

    /// Parses the text form: `a=b,c!=d,e in (f,g),h,!i,j>3`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut out = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    continue;
                }
                return Err(SelectorError(format!("found '', expected: identifier in {text:?}")));
            }
            out.push(requirement(part)?);
        }
        Ok(LabelSelector(out))
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0usize, 0usize);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(part: &str) -> Result<Requirement, SelectorError> {
    if let Some(key) = part.strip_prefix('!') {
        return Ok(Requirement::DoesNotExist(label_key(key)?));
    }
    for (symbol, negate) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = part.split_once(symbol) {
            let (key, values) = (label_key(key)?, vec![label_value(value)?]);
            return Ok(if negate { Requirement::NotIn(key, values) } else { Requirement::In(key, values) });
        }
    }
    for symbol in ['>', '<'] {
        if let Some((key, value)) = part.split_once(symbol) {
            let number = value.trim().parse().map_err(|_| {
                SelectorError(format!("for 'Gt', 'Lt' operators, the value must be an integer: {part:?}"))
            })?;
            let key = label_key(key)?;
            return Ok(match symbol {
                '>' => Requirement::GreaterThan(key, number),
                _ => Requirement::LessThan(key, number),
            });
        }
    }
    let Some((head, rest)) = part.split_once('(') else {
        return Ok(Requirement::Exists(label_key(part)?));
    };
    let list = rest
        .strip_suffix(')')
        .ok_or_else(|| SelectorError(format!("found '{part}', expected: ',' or ')'")))?;
    let values = list.split(',').map(label_value).collect::<Result<Vec<_>, _>>()?;
    let mut words = head.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(key), Some("in"), None) => Ok(Requirement::In(label_key(key)?, values)),
        (Some(key), Some("notin"), None) => Ok(Requirement::NotIn(label_key(key)?, values)),
        _ => Err(SelectorError(format!("found '{head}', expected: in, notin, =, ==, !=, gt, lt"))),
    }
}

/// Letters, digits, `-`, `_`, `.`, alphanumeric at both ends, at most 63.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_qualified_part(text)
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    text.len() <= 63
        && matches!((bytes.first(), bytes.last()), (Some(a), Some(b)) if a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// `name` or `prefix/name`, the prefix a DNS-1123 subdomain.
pub fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => {
            crate::names::dns1123_subdomain(prefix, false).is_empty() && is_qualified_part(name)
        }
        None => is_qualified_part(text),
    }
}

fn label_key(text: &str) -> Result<String, SelectorError> {
    let text = text.trim();
    if is_qualified_name(text) {
        Ok(text.to_owned())
    } else {
        Err(SelectorError(format!("key: Invalid value: {text:?}: not a qualified name")))
    }
}

fn label_value(text: &str) -> Result<String, SelectorError> {
    let text = text.trim();
    if is_label_value(text) {
        Ok(text.to_owned())
    } else {
        Err(SelectorError(format!("values: Invalid value: {text:?}: not a label value")))
    }
}

/// A node selector term: all of its rows must hold; one without rows matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTerm {
    /// On labels.
    pub labels: Vec<Requirement>,
    /// On `metadata.name`.
    pub names: Vec<Requirement>,
    /// A row could not be read; such a term matches nothing.
    pub broken: bool,
}

impl NodeTerm {
    /// Reads a `v1.NodeSelectorTerm`.
    pub fn from_structure(term: &Value) -> Self {
        let rows = |key: &str| -> Vec<Option<Requirement>> {
            let list = term.get(key).and_then(Value::as_array);
            list.into_iter().flatten().map(Requirement::from_structure).collect()
        };
        let (labels, names) = (rows("matchExpressions"), rows("matchFields"));
        let broken = labels.iter().chain(&names).any(Option::is_none);
        NodeTerm {
            labels: labels.into_iter().flatten().collect(),
            names: names.into_iter().flatten().collect(),
            broken,
        }
    }

    /// Whether a node of that name and those labels matches.
    pub fn matches(&self, name: &str, labels: &BTreeMap<Box<str>, Box<str>>) -> bool {
        if self.broken || (self.labels.is_empty() && self.names.is_empty()) {
            return false;
        }
        let name = [("metadata.name".into(), name.into())].into();
        self.labels.iter().all(|r| r.matches(labels)) && self.names.iter().all(|r| r.matches(&name))
    }
}

/// A field selector: `path=value` and `path!=value`, joined by commas. A backslash quotes `,`, `=` and itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(pub Vec<FieldRequirement>);

/// One requirement on a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// `spec.nodeName`.
    pub path: String,
    /// What it must (or must not) be.
    pub value: String,
    /// Whether `!=` was written.
    pub negate: bool,
}

impl FieldSelector {
    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Parses the text form.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut out = Vec::new();
        for part in split_unescaped(text) {
            if part.is_empty() {
                continue;
            }
            let (path, value, negate) = ["!=", "==", "="]
                .iter()
                .find_map(|s| part.split_once(s).map(|(path, value)| (path, value, *s == "!=")))
                .ok_or_else(|| {
                    SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'"))
                })?;
            out.push(FieldRequirement { path: path.to_owned(), value: unescape(value)?, negate });
        }
        Ok(FieldSelector(out))
    }

    /// Whether all requirements hold, given a way to read a field's text.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> &'a str) -> bool {
        self.0.iter().all(|r| (field(&r.path) == r.value) != r.negate)
    }

    /// The value a path must have, where the selector says so.
    pub fn required(&self, path: &str) -> Option<&str> {
        self.0.iter().find(|r| !r.negate && r.path == path).map(|r| r.value.as_str())
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut escaped, mut start) = (Vec::new(), false, 0usize);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                _ => {
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence in {text:?}"
                    )));
                }
            },
            '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {text:?}"
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<Box<str>, Box<str>> {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    #[test]
    fn label_selectors() {
        let web = labels(&[("app", "web"), ("tier", "front"), ("n", "5")]);
        for (text, matches) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app!=web", false),
            ("zone!=a", true),
            ("app in (api, web)", true),
            ("app notin (api,web)", false),
            ("zone notin (a)", true),
            ("app", true),
            ("!app", false),
            ("!zone", true),
            ("n>4", true),
            ("n<5", false),
            ("app=web,tier=front", true),
            ("app=web,tier=back", false),
            ("example.com/x", false),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&web), matches, "{text}");
        }
        for bad in ["a b", "a in b", "a in (b", "=x", ",", "a=b,", "a>b", "-a", "a=b c"] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn structured_selectors() {
        use serde_json::json;
        let web = labels(&[("app", "web")]);
        let select = |v: Value| LabelSelector::from_structure(Some(&v)).map(|s| s.matches(&web));
        assert_eq!(select(json!({"matchLabels": {"app": "web"}})), Some(true));
        let not_in = json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]});
        assert_eq!(select(not_in), Some(false));
        assert_eq!(
            select(json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]})),
            Some(true)
        );
        assert_eq!(select(json!({"matchExpressions": [{"key": "x", "operator": "Near"}]})), None);
        assert!(LabelSelector::from_structure(None).is_none());
    }

    #[test]
    fn field_selectors() {
        let field = |path: &str| if path == "spec.nodeName" { "n1" } else { "" };
        for (text, matches) in [
            ("", true),
            ("spec.nodeName=n1", true),
            ("spec.nodeName!=n1", false),
            ("status.phase!=Failed", true),
            ("spec.nodeName=n1,status.phase=x", false),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(field), matches, "{text}");
        }
        assert_eq!(FieldSelector::parse(r"a=b\,c\=d").unwrap().0[0].value, "b,c=d");
        assert!(FieldSelector::parse("a").is_err());
        assert!(FieldSelector::parse(r"a=b\x").is_err());
    }
}
