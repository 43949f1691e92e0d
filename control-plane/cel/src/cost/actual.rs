//! What calls did cost.

use super::{LIST_BASE, REGEX_FACTOR, STRING_FACTOR, calls, scale};
use crate::value::{Meter, Outcome, Value};

/// How a call is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// One unit.
    One,
    /// All parts of the first argument.
    Traverse,
    /// The length of the first argument.
    Text,
    /// Twice the length of the first argument.
    TextTwice,
    /// Twice the length of what comes out.
    ResultTwice,
    /// A regular expression over text.
    Find,
    /// A network and an address, which may be text.
    ContainsIp { text: bool },
    /// A network and another, which may be text.
    ContainsCidr { text: bool },
    /// A named format.
    Validate,
    /// Elements of the second argument.
    Elements,
    /// The shorter of two texts.
    Shorter,
    /// Both texts.
    Both,
    /// A text in another.
    Within,
    /// Two sets.
    Sets(u64),
    /// A list as long as what comes out.
    Made,
    /// A list flattened.
    Flatten,
    /// Elements of a list with each other: of the argument at that place.
    Squared(usize),
    /// Equality of values.
    Equals,
}

/// How a call of a function is charged; `overload` is empty where it is known only now.
pub(crate) fn rule(function: &str, overload: &str) -> Rule {
    match overload {
        "list_sets_contains_list" | "list_sets_intersects_list" => return Rule::Sets(1),
        "list_sets_equivalent_list" => return Rule::Sets(2),
        "list_slice" | "lists_range" | "list_reverse" => return Rule::Made,
        "list_flatten" | "list_flatten_int" => return Rule::Flatten,
        "list_distinct" => return Rule::Squared(0),
        sort if sort.ends_with("_sort") => return Rule::Squared(0),
        sort if sort.ends_with("_sortByAssociatedKeys") => return Rule::Squared(1),
        _ => {}
    }
    match function {
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => Rule::Traverse,
        "ip" if overload == "cidr_ip" => Rule::One,
        "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "cidr" | "isIP" | "isCIDR" | "ip"
        | "quantity" | "isQuantity" | "semver" | "isSemver" => Rule::Text,
        "replace" | "split" | "ip.isCanonical" => Rule::TextTwice,
        "join" => Rule::ResultTwice,
        "find" | "findAll" => Rule::Find,
        "containsIP" => Rule::ContainsIp { text: overload == "cidr_contains_ip_string" },
        "containsCIDR" => Rule::ContainsCidr { text: overload == "cidr_contains_cidr_string" },
        "validate" => Rule::Validate,
        "_==_" => Rule::Equals,
        "_!=_" => Rule::Shorter,
        _ => match overload {
            "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
            | "strings_quote" | "string_format" => Rule::Text,
            "in_list" => Rule::Elements,
            compare if calls::compares_length(compare) => Rule::Shorter,
            "add_string" | "add_bytes" => Rule::Both,
            "matches_string" => Rule::Find,
            "contains_string" => Rule::Within,
            _ => Rule::One,
        },
    }
}

/// What a call costs before it is made; for some only what comes out tells, which `result` is then.
pub(crate) fn cost(
    rule: Rule,
    args: &[Value<'_>],
    result: Option<&Value<'_>>,
    meter: &Meter,
) -> Outcome<u64> {
    let size = |index: usize| args.get(index).map_or(1, Value::size);
    let text = |size: u64| scale(size, STRING_FACTOR);
    let of_result = || result.map_or(0, Value::size);
    Ok(match rule {
        Rule::One => 1,
        Rule::Traverse => args.first().map_or(Ok(0), |value| traverse(value, meter))?,
        Rule::Text => text(size(0)),
        Rule::TextTwice => scale(size(0), 2.0 * STRING_FACTOR),
        Rule::ResultTwice => scale(of_result(), 2.0 * STRING_FACTOR),
        Rule::Find => text(size(0) + 1).saturating_mul(scale(size(1), REGEX_FACTOR)),
        Rule::ContainsIp { text: parses } => text(2 * size(0)) + if parses { text(size(1)) } else { 0 },
        Rule::ContainsCidr { text: parses } => {
            text(2 * size(0)) + text(size(0)) + 1 + if parses { text(size(1)) } else { 0 }
        }
        Rule::Validate => match args.first() {
            Some(Value::Format(format)) => {
                text(size(1) + 1).saturating_mul(scale(format.pattern, REGEX_FACTOR))
            }
            _ => 1,
        },
        Rule::Elements => size(1),
        Rule::Equals => match args.first() {
            Some(
                Value::Quantity(_)
                | Value::Ip(_)
                | Value::Cidr(_)
                | Value::Format(_)
                | Value::Url(_)
                | Value::Semver(_),
            ) => 1,
            _ => text(inner_size(args.first()).min(inner_size(args.get(1)))),
        },
        Rule::Shorter => text(inner_size(args.first()).min(inner_size(args.get(1)))),
        Rule::Both => text(size(0).saturating_add(size(1))),
        Rule::Within => text(size(0)).saturating_mul(text(size(1))),
        Rule::Sets(factor) => 1 + size(0).saturating_mul(size(1)).saturating_mul(factor),
        Rule::Made => of_result().saturating_add(1 + LIST_BASE),
        Rule::Flatten => {
            let depth = match args.get(1) {
                Some(Value::Int(depth)) => (*depth).max(0) as u64,
                _ => 1,
            };
            size(0).saturating_mul(depth).saturating_add(1 + LIST_BASE)
        }
        Rule::Squared(index) => {
            let size = size(index);
            let texts = match args.get(index) {
                Some(Value::List(list)) => {
                    matches!(list.get(0), Some(Ok(Value::String(_) | Value::Bytes(_))))
                }
                _ => false,
            };
            let factor = if texts { 2.0 + STRING_FACTOR } else { 2.0 };
            (size.saturating_mul(size) as f64 * factor) as u64 + 1 + LIST_BASE
        }
    })
}

/// Whether only what comes out tells the cost.
pub(crate) fn by_result(rule: Rule) -> bool {
    matches!(rule, Rule::ResultTwice | Rule::Made)
}

/// The size of a value, or of what an optional has.
fn inner_size(value: Option<&Value<'_>>) -> u64 {
    match value {
        Some(Value::Optional(Some(inner))) => inner_size(Some(inner)),
        Some(value) => value.size(),
        None => 1,
    }
}

/// What going through all parts of a value costs.
fn traverse(value: &Value<'_>, meter: &Meter) -> Outcome<u64> {
    meter.spend(1)?;
    let text = |length: usize| (length as f64 * STRING_FACTOR) as u64;
    Ok(match value {
        Value::String(value) => text(value.len()),
        Value::Bytes(bytes) => text(bytes.len()),
        Value::List(list) => {
            let mut cost = 0u64;
            for item in list.iter() {
                cost = cost.saturating_add(item.map_or(Ok(0), |item| traverse(&item, meter))?);
            }
            cost
        }
        Value::Map(map) => {
            let mut cost = 0u64;
            for key in map.keys() {
                cost = cost.saturating_add(traverse(&key, meter)?);
                if let Some(Ok(value)) = map.get(&key) {
                    cost = cost.saturating_add(traverse(&value, meter)?);
                }
            }
            cost
        }
        _ => 1,
    })
}
