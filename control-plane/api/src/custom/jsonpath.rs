//! JSON paths as kubectl reads them (`k8s.io/client-go/util/jsonpath`), as far as printer columns use them: fields,
//! quoted names, indices, slices, wildcards, descent and filters. What is missing leads nowhere.

use serde_json::Value;

/// A path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    All,
    Descend,
    Slice { from: Option<i64>, to: Option<i64>, step: i64 },
    Filter(Box<Filter>),
    Union(Vec<Step>),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: Operand,
    /// The operator and what stands on its right; none asks whether there is anything on the left.
    right: Option<(Order, Operand)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(JsonPath),
    Value(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Equal,
    NotEqual,
    AtMost,
    AtLeast,
    Less,
    More,
}

/// The longest are first, since one begins with another.
const ORDERS: &[(&str, Order)] = &[
    ("==", Order::Equal),
    ("!=", Order::NotEqual),
    ("<=", Order::AtMost),
    (">=", Order::AtLeast),
    ("<", Order::Less),
    (">", Order::More),
];

/// How deep filters may lie in filters.
const DEEPEST: usize = 8;

impl JsonPath {
    /// Reads a path: `.spec.containers[0].image`. None for what is no path.
    pub fn parse(text: &str) -> Option<Self> {
        parse(text.trim(), 0).map(JsonPath)
    }

    /// The values it leads to.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.take(value)).collect();
        }
        found
    }
}

fn parse(text: &str, depth: usize) -> Option<Vec<Step>> {
    if depth > DEEPEST {
        return None;
    }
    let mut steps = Vec::new();
    let mut rest = text.trim_start_matches(['$', '@']);
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix("..") {
            steps.push(Step::Descend);
            // What follows is a name without a point of its own.
            rest = if behind.starts_with(['[', '.']) { behind } else { name(behind, &mut steps) };
        } else if let Some(behind) = rest.strip_prefix('.') {
            rest =
                if behind.starts_with('[') || behind.is_empty() { behind } else { name(behind, &mut steps) };
        } else if let Some(behind) = rest.strip_prefix('[') {
            let end = closing(behind)?;
            steps.push(bracket(behind.get(..end)?.trim(), depth)?);
            rest = behind.get(end + 1..)?;
        } else if steps.is_empty() {
            rest = name(rest, &mut steps);
        } else {
            return None;
        }
    }
    Some(steps)
}

/// Reads a name and returns what stands behind it. A backslash makes the character behind it a part of the name.
fn name<'t>(text: &'t str, steps: &mut Vec<Step>) -> &'t str {
    let mut read = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => read.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' | ']' => {
                end = at;
                break;
            }
            c => read.push(c),
        }
    }
    steps.push(if read == "*" { Step::All } else { Step::Field(read) });
    text.get(end..).unwrap_or_default()
}

/// Where a bracket closes: quotes and inner brackets are stepped over.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut depth, mut escaped) = (None, 0, false);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            _ if escaped => escaped = false,
            ('\\', _) => escaped = true,
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) => quote = Some(c),
            ('[' | '(', None) => depth += 1,
            (')', None) => depth -= 1,
            (']', None) if depth == 0 => return Some(at),
            (']', None) => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(text: &str, depth: usize) -> Option<Step> {
    if let Some(inside) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return filter(inside, depth).map(|filter| Step::Filter(Box::new(filter)));
    }
    if let Some(name) = quoted(text) {
        return Some(Step::Field(name));
    }
    if text.contains(',') {
        return text
            .split(',')
            .map(|part| bracket(part.trim(), depth))
            .collect::<Option<_>>()
            .map(Step::Union);
    }
    if text == "*" {
        return Some(Step::Slice { from: None, to: None, step: 1 });
    }
    let parts: Vec<&str> = text.split(':').collect();
    let number = |part: Option<&&str>| match part {
        None | Some(&"") => Some(None),
        Some(part) => part.parse::<i64>().ok().map(Some),
    };
    let (from, to, step) = (number(parts.first())?, number(parts.get(1))?, number(parts.get(2))?);
    match parts.len() {
        1 => {
            let from = from?;
            let to = if from == -1 { None } else { Some(from + 1) };
            Some(Step::Slice { from: Some(from), to, step: 1 })
        }
        2 | 3 => Some(Step::Slice { from, to, step: step.unwrap_or(1) }),
        _ => None,
    }
}

fn quoted(text: &str) -> Option<String> {
    let inside = ['\'', '"'].iter().find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q).map(|t| (t, *q)));
    let (inside, quote) = inside?;
    let bare = inside.replace(&format!("\\{quote}"), "");
    (!bare.contains(quote)).then(|| inside.replace(&format!("\\{quote}"), &quote.to_string()))
}

fn filter(text: &str, depth: usize) -> Option<Filter> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) => quote = Some(c),
            _ => {
                let rest = text.get(at..)?;
                if let Some((sign, order)) = ORDERS.iter().find(|(sign, _)| rest.starts_with(sign)) {
                    let left = operand(text.get(..at)?, depth)?;
                    let right = operand(rest.get(sign.len()..)?, depth)?;
                    return Some(Filter { left, right: Some((*order, right)) });
                }
            }
        }
    }
    Some(Filter { left: operand(text, depth)?, right: None })
}

fn operand(text: &str, depth: usize) -> Option<Operand> {
    let text = text.trim();
    if let Some(text) = quoted(text) {
        return Some(Operand::Value(text.into()));
    }
    if text.starts_with(['@', '.', '$']) {
        return parse(text, depth + 1).map(|steps| Operand::Path(JsonPath(steps)));
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => Some(Operand::Value(value)),
        _ => None,
    }
}

impl Step {
    fn take<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Step::All, Value::Object(map)) => map.values().collect(),
            (Step::All, Value::Array(list)) => list.iter().collect(),
            (Step::Descend, value) => {
                let mut found = Vec::new();
                descend(value, &mut found);
                found
            }
            (Step::Slice { from, to, step }, Value::Array(list)) => slice(list, *from, *to, *step),
            (Step::Filter(filter), Value::Array(list)) => list.iter().filter(|v| filter.holds(v)).collect(),
            (Step::Filter(filter), Value::Object(map)) => map.values().filter(|v| filter.holds(v)).collect(),
            (Step::Union(steps), value) => steps.iter().flat_map(|step| step.take(value)).collect(),
            _ => Vec::new(),
        }
    }
}

fn descend<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
    found.push(value);
    match value {
        Value::Object(map) => map.values().for_each(|value| descend(value, found)),
        Value::Array(list) => list.iter().for_each(|value| descend(value, found)),
        _ => {}
    }
}

fn slice(list: &[Value], from: Option<i64>, to: Option<i64>, step: i64) -> Vec<&Value> {
    let len = i64::try_from(list.len()).unwrap_or(i64::MAX);
    let place = |at: i64| if at < 0 { at + len } else { at };
    let from = place(from.unwrap_or(0));
    let to = place(to.unwrap_or(len)).min(len);
    let step = usize::try_from(step).unwrap_or(0);
    match (usize::try_from(from), usize::try_from(to)) {
        (Ok(from), Ok(to)) if step > 0 => {
            list.get(from..to).unwrap_or_default().iter().step_by(step).collect()
        }
        _ => Vec::new(),
    }
}

impl Filter {
    fn holds(&self, value: &Value) -> bool {
        let of = |operand: &Operand| match operand {
            Operand::Value(value) => Some(value.clone()),
            Operand::Path(path) => match path.find(value).as_slice() {
                [one] => Some((*one).clone()),
                _ => None,
            },
        };
        let left = of(&self.left);
        let Some((order, right)) = &self.right else { return left.is_some() };
        let (Some(left), Some(right)) = (left, of(right)) else { return false };
        let compared = match (&left, &right) {
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Number(a), Value::Number(b)) => {
                a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b))
            }
            _ => None,
        };
        compared.is_some_and(|found| match order {
            Order::Equal => found.is_eq(),
            Order::NotEqual => found.is_ne(),
            Order::AtMost => found.is_le(),
            Order::AtLeast => found.is_ge(),
            Order::Less => found.is_lt(),
            Order::More => found.is_gt(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_kubectl_finds() {
        let object = json!({
            "metadata": {"annotations": {"example.com/a": "x"}, "labels": {"a b": "y"}},
            "spec": {"n": 3, "list": [{"name": "a", "n": 1}, {"name": "b", "n": 2}, {"name": "c", "n": 3}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
        });
        for (path, expected) in [
            (".spec.n", json!([3])),
            (".spec.list[0].name", json!(["a"])),
            (".spec.list[-1].name", json!(["c"])),
            (".spec.list[1:].name", json!(["b", "c"])),
            (".spec.list[0:3:2].name", json!(["a", "c"])),
            (".spec.list[0,2].name", json!(["a", "c"])),
            (".spec.list[*].n", json!([1, 2, 3])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Other')].status", json!(["False"])),
            (".spec.list[?(@.n > 1)].name", json!(["b", "c"])),
            (".spec.list[?(@.none)].name", json!([])),
            (".metadata.annotations.example\\.com/a", json!(["x"])),
            (".metadata.annotations['example.com/a']", json!(["x"])),
            (".metadata.labels['a b']", json!(["y"])),
            ("..name", json!(["a", "b", "c"])),
            (".spec.none.more", json!([])),
            (".spec.list[7].name", json!([])),
            (".spec.n[0]", json!([])),
        ] {
            let parsed = JsonPath::parse(path).unwrap();
            assert_eq!(json!(parsed.find(&object)), expected, "{path}");
        }
        for path in [".spec[", ".spec[x]", ".spec[1:2:3:4]", ".a[?(]", ".a]"] {
            assert_eq!(JsonPath::parse(path), None, "{path}");
        }
    }
}
