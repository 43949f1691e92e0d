//! Whether values are what their schema says (`k8s.io/kube-openapi/pkg/validation/validate`).
//!
//! Messages are upstream's. Where a value must match one of several schemas, the errors of the one that it comes
//! closest to are shown, which is counted as upstream counts it.

use super::correlate::{Items, Pair};
use super::formats;
use super::numbers::{Num, is_whole, shown};
use super::prune::is_meta;
use super::structural::{Additional, Kind, Structural};
use crate::field::{FieldError, Path};
use serde_json::{Map, Value};

/// Errors of a value. `old` is the value it comes from: what is wrong with a part that is as it was is let through
/// (KEP-4008). Without a path, errors that belong to the whole value show `<nil>`, as upstream's do.
pub fn validate_value(
    schema: &Structural,
    value: &Value,
    path: Option<&Path>,
    old: Option<&Value>,
) -> Vec<FieldError> {
    let pair = old.map(|old| Pair { schema, new: value, old });
    let outcome = part(schema, value, "", pair);
    outcome.errors.into_iter().map(|problem| problem.error(path)).collect()
}

/// What was found, and how many checks a value passed.
#[derive(Default)]
struct Outcome {
    errors: Vec<Problem>,
    passed: u32,
}

struct Problem {
    /// Where, as upstream's validator writes it; none for what belongs to no field.
    name: Option<String>,
    what: What,
    message: String,
}

enum What {
    Required,
    Enum(Value, Vec<Value>),
    TooLong(i64),
    TooMany(usize, i64),
    Type(Value),
    Invalid(Value),
}

impl Problem {
    fn error(self, path: Option<&Path>) -> FieldError {
        let whole = || path.cloned().unwrap_or_else(|| Path::from("<nil>"));
        let place = match self.name.as_deref().map(|name| name.strip_prefix('.').unwrap_or(name)) {
            None | Some("") => whole(),
            Some(name) => path.map_or_else(|| Path::from(name), |path| path.child(name)),
        };
        match self.what {
            What::Required => FieldError::required(place, ""),
            What::Enum(value, known) => {
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let known: Vec<String> = known.iter().map(text).collect();
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                FieldError::not_supported(place, value, &known)
            }
            What::TooLong(max) => FieldError::too_long(place, usize::try_from(max).unwrap_or(0)),
            What::TooMany(actual, max) => {
                FieldError::too_many(place, actual, usize::try_from(max).unwrap_or(0))
            }
            What::Type(value) => FieldError::type_invalid(place, value, self.message),
            What::Invalid(value) => FieldError::invalid(place, value, self.message),
        }
    }
}

impl Outcome {
    fn push(&mut self, problem: Problem) {
        if self.errors.iter().all(|known| known.message != problem.message) {
            self.errors.push(problem);
        }
    }

    fn at(&mut self, path: &str, what: What, says: impl std::fmt::Display) {
        self.push(Problem { name: Some(path.to_owned()), what, message: format!("{path} in body {says}") });
    }

    /// What belongs to no field.
    fn whole(&mut self, message: String) {
        self.push(Problem { name: None, what: What::Invalid("".into()), message });
    }

    fn merge(&mut self, other: Outcome) {
        other.errors.into_iter().for_each(|problem| self.push(problem));
        self.passed += other.passed;
    }

    fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }
}

/// The types a schema allows, as messages name them.
fn types(schema: &Structural) -> &'static [&'static str] {
    match schema.kind {
        _ if schema.int_or_string => &["integer", "string"],
        Kind::Any => &[],
        Kind::Object => &["object"],
        Kind::Array => &["array"],
        Kind::String => &["string"],
        Kind::Integer => &["integer"],
        Kind::Number => &["number"],
        Kind::Boolean => &["boolean"],
    }
}

/// The format, where it is one that counts.
fn format(schema: &Structural) -> &str {
    let kind = if schema.int_or_string { Kind::Any } else { schema.kind };
    if formats::is_known(kind, &schema.limits.format) { &schema.limits.format } else { "" }
}

/// Checks a value that is let through where it is as it was.
fn part(schema: &Structural, value: &Value, path: &str, pair: Option<Pair<'_>>) -> Outcome {
    let mut outcome = within(schema, value, path, pair);
    if !outcome.is_valid() && pair.is_some_and(|pair| pair.equal()) {
        outcome.errors.clear();
    }
    outcome
}

/// Checks a value, its parts included. Schemas of `allOf` and its like are checked with the pair of the value
/// around them, so that parts of it are let through and the value itself is not.
fn within(schema: &Structural, value: &Value, path: &str, pair: Option<Pair<'_>>) -> Outcome {
    let mut outcome = Outcome::default();
    if value.is_null() {
        outcome.merge(of_type(schema, value, path));
        outcome.merge(enumerated(schema, value, path));
        return outcome;
    }
    let mut step = |found: Outcome| {
        outcome.merge(found);
        outcome.passed += 1;
    };
    if !types(schema).is_empty() || !format(schema).is_empty() {
        step(of_type(schema, value, path));
    }
    step(combined(schema, value, path, pair));
    match value {
        Value::String(text) => {
            step(string(schema, text, path));
            if let Some(good) = formats::check(format(schema)) {
                let mut found = Outcome::default();
                if !good(text) {
                    let kind = format(schema);
                    found.at(
                        path,
                        What::Type(text.as_str().into()),
                        format_args!("must be of type {kind}: {text:?}"),
                    );
                }
                step(found);
            }
        }
        Value::Number(number) => step(numeric(schema, Num::of(number), path)),
        Value::Array(list) => step(array(schema, list, path, pair)),
        _ => {}
    }
    step(enumerated(schema, value, path));
    if let Value::Object(map) = value {
        step(object(schema, map, path, pair));
    }
    outcome.passed += 1;
    outcome
}

fn of_type(schema: &Structural, value: &Value, path: &str) -> Outcome {
    let (types, format) = (types(schema), format(schema));
    let mut outcome = Outcome::default();
    let wrong = |wanted: &str, found: &str| {
        let mut outcome = Outcome::default();
        outcome.at(path, What::Type(found.into()), format_args!("must be of type {wanted}: {found:?}"));
        outcome
    };
    let (found, width) = match value {
        Value::Null => {
            if !types.is_empty() && !schema.nullable {
                return wrong(&types.join(","), "null");
            }
            outcome.passed = 1;
            return outcome;
        }
        Value::Bool(_) => ("boolean", ""),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
        Value::Number(number) => match Num::of(number) {
            Num::Int(_) => ("integer", "int64"),
            Num::Float(_) => ("number", "float64"),
        },
    };
    let has = |name: &str| types.contains(&name);
    let whole = matches!(value, Value::Number(n) if matches!(Num::of(n), Num::Float(f) if is_whole(f)));
    let fits = has(found) || (whole && has("integer")) || (found == "integer" && has("number"));
    let textual = value.is_string() || value.is_array();
    if !(textual || format.is_empty() || fits || width == format) {
        return wrong(format, width);
    }
    if !has("number") && !has("integer") && !format.is_empty() && textual {
        outcome.passed = 1;
        return outcome;
    }
    if !fits && !types.is_empty() {
        return wrong(&types.join(","), found);
    }
    outcome.passed = 1;
    outcome
}

fn combined(schema: &Structural, value: &Value, path: &str, pair: Option<Pair<'_>>) -> Outcome {
    let limits = &schema.limits;
    let mut outcome = Outcome::default();
    let closest = |best: Option<Outcome>, found: Outcome| match best {
        Some(best) if best.passed >= found.passed => Some(best),
        _ => Some(found),
    };
    if !limits.any_of.is_empty() {
        let (mut best, mut good) = (None, None);
        for schema in &limits.any_of {
            let found = within(schema, value, path, pair);
            if found.is_valid() {
                good = Some(found);
                break;
            }
            best = closest(best, found);
        }
        if good.is_none() {
            outcome.whole(format!("{path:?} must validate at least one schema (anyOf)"));
        }
        if let Some(found) = good.or(best) {
            outcome.merge(found);
        }
    }
    if !limits.one_of.is_empty() {
        let (mut best, mut good, mut count) = (None, None, 0);
        for schema in &limits.one_of {
            let found = within(schema, value, path, pair);
            if found.is_valid() {
                count += 1;
                best = None;
                good = good.or(Some(found));
            } else if count == 0 {
                best = closest(best, found);
            }
        }
        if count == 1 {
            outcome.merge(good.unwrap_or_default());
        } else {
            let why = match count {
                0 => "Found none valid".to_owned(),
                count => format!("Found {count} valid alternatives"),
            };
            outcome.whole(format!("{path:?} must validate one and only one schema (oneOf). {why}"));
            if let Some(found) = best {
                outcome.merge(found);
            }
        }
    }
    if !limits.all_of.is_empty() {
        let mut good = 0;
        for schema in &limits.all_of {
            let found = within(schema, value, path, pair);
            good += usize::from(found.is_valid());
            outcome.merge(found);
        }
        if good != limits.all_of.len() {
            let none = if good == 0 { ". None validated" } else { "" };
            outcome.whole(format!("{path:?} must validate all the schemas (allOf){none}"));
        }
    }
    if let Some(not) = &limits.not
        && within(not, value, path, pair).is_valid()
    {
        outcome.whole(format!("{path:?} must not validate the schema (not)"));
    }
    outcome.passed += 1;
    outcome
}

fn string(schema: &Structural, text: &str, path: &str) -> Outcome {
    let limits = &schema.limits;
    let mut outcome = Outcome::default();
    let length = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let value = || Value::from(text);
    if let Some(max) = limits.max_length.filter(|max| length() > *max) {
        outcome.at(path, What::TooLong(max), format_args!("should be at most {max} chars long"));
    } else if let Some(min) = limits.min_length.filter(|min| length() < *min) {
        outcome.at(path, What::Invalid(value()), format_args!("should be at least {min} chars long"));
    } else if let Some(pattern) = limits.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
        let shown = match pattern.error() {
            Some(why) => format!("{}, but pattern is invalid: {why}", pattern.as_str()),
            None => pattern.as_str().to_owned(),
        };
        outcome.at(path, What::Invalid(value()), format_args!("should match '{shown}'"));
    }
    outcome
}

fn numeric(schema: &Structural, value: Num, path: &str) -> Outcome {
    let limits = &schema.limits;
    let kind = if schema.int_or_string { Kind::Any } else { schema.kind };
    let format = format(schema);
    let mut outcome = Outcome { passed: 1, ..Outcome::default() };
    let in_range = |outcome: &mut Outcome, number: Num, what: &str| {
        if fits(kind, format, number) {
            return true;
        }
        let detail = match format {
            "" => format!("{what} value must be of type {kind} (default format) in {path}"),
            format => format!("{what} value must be of type {kind} with format {format} in {path}"),
        };
        outcome.whole(detail);
        false
    };
    in_range(&mut outcome, value, "Checked");
    let invalid = || What::Invalid(value.value());
    if let Some(factor) = limits.multiple_of {
        let good = in_range(&mut outcome, Num::Float(factor), "MultipleOf");
        let (multiple, positive, factor) = match (value, good) {
            (Num::Int(int), true) => {
                let whole = factor as i64;
                (whole > 0 && int % whole == 0, whole > 0, whole.to_string())
            }
            _ => {
                let float = value.float();
                let quotient = if factor < 1.0 { 1.0 / factor * float } else { float / factor };
                (is_whole(quotient), factor > 0.0, shown(factor))
            }
        };
        if !positive {
            let message = format!("factor MultipleOf declared for {path} must be positive: {factor}");
            outcome.push(Problem { name: Some(path.to_owned()), what: invalid(), message });
        } else if !multiple {
            outcome.at(path, invalid(), format_args!("should be a multiple of {factor}"));
        }
    }
    let bounds = [
        (limits.minimum, limits.exclusive_minimum, "Minimum boundary", "greater", true),
        (limits.maximum, limits.exclusive_maximum, "Maximum boundary", "less", false),
    ];
    for (bound, exclusive, name, word, least) in bounds {
        let Some(bound) = bound else { continue };
        let good = in_range(&mut outcome, Num::Float(bound), name);
        let (order, text) = match (value, good) {
            (Num::Int(int), true) => (Some(int.cmp(&(bound as i64))), (bound as i64).to_string()),
            _ => (value.float().partial_cmp(&bound), shown(bound)),
        };
        let beyond = order.is_some_and(|order| {
            let order = if least { order.reverse() } else { order };
            order.is_gt() || (exclusive && order.is_eq())
        });
        if beyond {
            let equal = if exclusive { "" } else { " or equal to" };
            outcome.at(path, invalid(), format_args!("should be {word} than{equal} {text}"));
        }
    }
    outcome
}

/// Whether a number can be one of that type and format.
fn fits(kind: Kind, format: &str, number: Num) -> bool {
    match (kind, format, number) {
        (Kind::Integer, "int32", Num::Int(int)) => i32::try_from(int).is_ok(),
        (Kind::Integer, _, Num::Int(_)) => true,
        (Kind::Integer, format, Num::Float(float)) => {
            let whole = float == float.trunc() && float.abs() < 9.2e18;
            whole && (format != "int32" || float.abs() <= f64::from(i32::MAX))
        }
        (Kind::Number, "float", number) => number.float().abs() <= f64::from(f32::MAX),
        _ => true,
    }
}

fn array(schema: &Structural, list: &[Value], path: &str, pair: Option<Pair<'_>>) -> Outcome {
    let limits = &schema.limits;
    let mut outcome = Outcome::default();
    if let Some(items) = schema.items.as_deref() {
        let pairs: Option<Items<'_>> = pair.map(|pair| pair.items());
        for (at, value) in list.iter().enumerate() {
            let pair = pairs.as_ref().and_then(|pairs| pairs.get(at));
            outcome.merge(part(items, value, &format!("{path}[{at}]"), pair));
        }
    }
    let size = list.len();
    if let Some(min) = limits.min_items.filter(|min| (size as i64) < *min) {
        outcome.at(path, What::Invalid(size.into()), format_args!("should have at least {min} items"));
    }
    if let Some(max) = limits.max_items.filter(|max| (size as i64) > *max) {
        outcome.at(path, What::TooMany(size, max), format_args!("should have at most {max} items"));
    }
    if limits.unique_items && list.iter().enumerate().any(|(at, value)| list[..at].contains(value)) {
        outcome.at(path, What::Invalid("".into()), "shouldn't contain duplicates");
    }
    outcome.passed += 1;
    outcome
}

fn enumerated(schema: &Structural, value: &Value, path: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let known = &schema.limits.enumeration;
    let same = |one: &Value| match (one, value) {
        (Value::Null, _) => false,
        (Value::Number(a), Value::Number(b)) => Num::of(a).float() == Num::of(b).float(),
        (one, value) => one == value,
    };
    if !known.is_empty() && !known.iter().any(same) {
        let what = What::Enum(value.clone(), known.clone());
        outcome.at(path, what, "should be one of the known values");
    }
    outcome
}

fn object(schema: &Structural, map: &Map<String, Value>, path: &str, pair: Option<Pair<'_>>) -> Outcome {
    let limits = &schema.limits;
    let mut outcome = Outcome::default();
    let size = map.len();
    if let Some(min) = limits.min_properties.filter(|min| (size as i64) < *min) {
        outcome.at(path, What::Invalid(size.into()), format_args!("should have at least {min} properties"));
    }
    if let Some(max) = limits.max_properties.filter(|max| (size as i64) > *max) {
        outcome.at(path, What::TooMany(size, max), format_args!("should have at most {max} properties"));
    }
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for (name, value) in map {
        // Type and metadata of the whole are never what they were: both versions were brought to the same.
        let old = if path.is_empty() && is_meta(name) && name != "metadata" { None } else { pair };
        let old = old.and_then(|pair| pair.key(name));
        match (schema.properties.get(name), &schema.additional) {
            (Some(field), _) => outcome.merge(part(field, value, &below(name), old)),
            (None, Some(Additional::Schema(field))) => {
                outcome.merge(part(field, value, &format!("{path}.{name}"), old));
            }
            (None, Some(Additional::Allowed(false))) => {
                let message = format!("{path}.{name} in body is a forbidden property");
                let what = What::Invalid(name.as_str().into());
                outcome.push(Problem { name: Some(path.to_owned()), what, message });
            }
            (None, _) => {}
        }
    }
    for name in limits.required.iter().filter(|name| !map.contains_key(*name)) {
        outcome.at(&format!("{path}.{name}"), What::Required, "is required");
    }
    outcome
}
