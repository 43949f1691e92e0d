//! What calls can cost.

use std::sync::Arc;

use super::estimate::Path;
use super::{LIST_BASE, REGEX_FACTOR, Range, STRING_FACTOR, scale};
use crate::types::{Kube, Type};

/// Longest text of a format, and longest pattern of one.
const FORMAT_MOST: u64 = 64;
const NAME_PATTERN_MOST: f64 = 128.0;
/// Bytes of addresses.
const ADDRESS: Range = Range { min: 4, max: 16 };

/// An argument as costs see it.
pub(crate) struct Arg {
    pub(crate) path: Path,
    pub(crate) ty: Type,
    pub(crate) size: Option<Range>,
    /// Its value, if it is an integer literal.
    pub(crate) literal: Option<i64>,
}

/// What a call costs, and the size of what comes out of it.
pub(crate) struct CallCost {
    pub(crate) cost: Range,
    pub(crate) size: Option<Range>,
}

type Declared<'d> = &'d dyn Fn(&[Arc<str>]) -> Option<Range>;

fn only(cost: Range) -> Option<CallCost> {
    Some(CallCost { cost, size: None })
}

fn sized(cost: Range, size: Range) -> Option<CallCost> {
    Some(CallCost { cost, size: Some(size) })
}

fn size_of(arg: &Arg, declared: Declared<'_>) -> Range {
    arg.size.or_else(|| declared(&arg.path)).unwrap_or(Range::UNKNOWN)
}

/// Functions of the set and list extensions.
pub(crate) fn listed(
    overload: &str,
    target: Option<&Arg>,
    args: &[Arg],
    declared: Declared<'_>,
) -> Option<CallCost> {
    let size = |arg: &Arg| size_of(arg, declared);
    let allocating =
        |factor: f64, size: Range| sized(size.scale(factor).add(Range::fixed(1 + LIST_BASE)), size);
    let literal = |arg: &Arg, otherwise: u64| arg.literal.map_or(otherwise, |number| number.max(0) as u64);
    let squared = |arg: &Arg, factor: f64| {
        let size = size(arg);
        allocating(factor, size.multiply(size))
    };
    match (overload, target, args) {
        ("list_sets_contains_list" | "list_sets_intersects_list", _, [a, b]) => {
            only(size(a).multiply(size(b)).scale(1.0).add(Range::fixed(1)))
        }
        ("list_sets_equivalent_list", _, [a, b]) => {
            only(size(a).multiply(size(b)).scale(2.0).add(Range::fixed(1)))
        }
        ("list_slice", Some(list), [start, end]) => {
            let end = literal(end, size(list).max);
            allocating(1.0, Range::fixed(end.saturating_sub(literal(start, 0))))
        }
        ("list_flatten", Some(list), []) => allocating(1.0, size(list)),
        ("list_flatten_int", Some(list), [depth]) => allocating(literal(depth, u64::MAX) as f64, size(list)),
        ("lists_range", None, [count]) => allocating(1.0, Range::fixed(literal(count, u64::MAX))),
        ("list_reverse", Some(list), []) => allocating(1.0, size(list)),
        ("list_distinct", Some(list), []) => squared(list, 2.0),
        ("list_string_sort" | "list_bytes_sort", Some(list), []) => squared(list, 2.0 + STRING_FACTOR),
        ("list_string_sortByAssociatedKeys" | "list_bytes_sortByAssociatedKeys", Some(_), [keys]) => {
            squared(keys, 2.0 + STRING_FACTOR)
        }
        (sort, Some(list), []) if sort.ends_with("_sort") => squared(list, 2.0),
        (sort, Some(_), [keys]) if sort.ends_with("_sortByAssociatedKeys") => squared(keys, 2.0),
        _ => None,
    }
}

/// Functions to which Kubernetes gives costs of its own.
pub(crate) fn kubernetes(
    function: &str,
    overload: &str,
    target: Option<&Arg>,
    args: &[Arg],
    declared: Declared<'_>,
) -> Option<CallCost> {
    let size = |arg: &Arg| size_of(arg, declared);
    let element = |list: &Arg| {
        let (Type::List(ty) | Type::Optional(ty)) = &list.ty else {
            let Type::Map(both) = &list.ty else { return None };
            return Some((both.0.clone(), items(list, declared)));
        };
        Some(((**ty).clone(), items(list, declared)))
    };
    let one = || only(Range::fixed(1));
    match (function, target, args) {
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(list), _) => {
            let Some((ty, inner)) = element(list) else { return only(size(list).scale(STRING_FACTOR)) };
            let mut each = Range::fixed(1);
            if matches!(ty, Type::String | Type::Bytes) {
                each = each.add(inner.scale(STRING_FACTOR));
            }
            only(size(list).multiply(each))
        }
        ("url", _, [arg]) => sized(size(arg).scale(STRING_FACTOR), size(arg)),
        ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(text), _) => {
            sized(size(text).scale(STRING_FACTOR), size(text))
        }
        ("replace", Some(text), [old, new, ..]) => {
            let text = size(text);
            sized(text.scale(2.0 * STRING_FACTOR), replaced(text, size(old), size(new)))
        }
        ("split", Some(text), args) => {
            let text = size(text);
            let most = args.get(1).and_then(|count| count.literal).map_or(text.max, |count| count as u64);
            sized(text.scale(2.0 * STRING_FACTOR), Range { min: 0, max: most })
        }
        ("join", Some(list), args) => {
            let count = size(list);
            let mut result = element(list).map_or(Range::ZERO, |(_, inner)| count.multiply(inner));
            if let Some(separator) = args.first() {
                let gaps = Range { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
                result = result.add(size(separator).multiply(gaps));
            }
            sized(result.scale(STRING_FACTOR), result)
        }
        ("find" | "findAll", Some(text), [pattern, ..]) => {
            let text = size(text);
            let cost =
                text.add(Range::fixed(1)).scale(STRING_FACTOR).multiply(size(pattern).scale(REGEX_FACTOR));
            sized(cost, Range { min: 0, max: text.max })
        }
        ("ip", _, _) if overload == "cidr_ip" => one(),
        (
            "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver",
            _,
            [arg, ..],
        ) => only(size(arg).scale(STRING_FACTOR)),
        ("ip.isCanonical", _, [arg]) => only(size(arg).scale(2.0 * STRING_FACTOR)),
        ("containsIP" | "containsCIDR", _, [arg]) => {
            let mut cost = ADDRESS.add(ADDRESS).scale(STRING_FACTOR);
            if function == "containsCIDR" {
                cost = cost.add(ADDRESS.scale(STRING_FACTOR)).add(Range::fixed(1));
            }
            if matches!(overload, "cidr_contains_ip_string" | "cidr_contains_cidr_string") {
                cost = cost.add(size(arg).scale(STRING_FACTOR));
            }
            only(cost)
        }
        ("validate", _, [arg]) => {
            only(size(arg).scale(STRING_FACTOR).scale(NAME_PATTERN_MOST * REGEX_FACTOR))
        }
        (
            "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "format.named"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery",
            _,
            _,
        ) => one(),
        ("_==_", _, [left, right]) if left.ty == right.ty => match left.ty {
            Type::Kube(Kube::Ip | Kube::Cidr | Kube::Quantity | Kube::Semver) => one(),
            Type::Kube(Kube::Format) => only(Range { min: 1, max: FORMAT_MOST }.scale(STRING_FACTOR)),
            Type::Kube(Kube::Url) => {
                let most = right.size.map_or(1, |size| size.max);
                only(Range { min: 1, max: most }.scale(STRING_FACTOR))
            }
            _ => None,
        },
        _ => None,
    }
}

/// The size of a list's elements.
fn items(list: &Arg, declared: Declared<'_>) -> Range {
    if list.path.is_empty() {
        return Range::UNKNOWN;
    }
    let mut path = list.path.clone();
    path.push("@items".into());
    declared(&path).unwrap_or(Range::UNKNOWN)
}

fn replaced(text: Range, old: Range, new: Range) -> Range {
    let times = |length: u64, part: u64| (length as f64 / part as f64).ceil() as u64;
    let (most, kept_most) = if old.min == 0 {
        (text.max.saturating_add(1), text.max)
    } else if new.max <= old.min {
        (0, text.max)
    } else {
        (times(text.max, old.min), 0)
    };
    let (least, kept_least) = if old.max == 0 {
        (text.min.saturating_add(1), text.min)
    } else if old.max <= new.min {
        (0, text.min)
    } else {
        (times(text.min, old.max), 0)
    };
    Range { min: least, max: most }.multiply(new).add(Range { min: kept_least, max: kept_most })
}

/// Functions of the language itself.
pub(crate) fn standard(overload: &str, target: Option<&Arg>, args: &[Arg]) -> CallCost {
    let size = |arg: &Arg| arg.size.unwrap_or(Range::UNKNOWN);
    let cost = match (overload, target, args) {
        ("string_format", Some(format), _) => size(format).scale(STRING_FACTOR),
        ("string_to_bytes", _, [text]) => {
            let text = size(text);
            let result = Range { min: text.min, max: text.max.saturating_mul(4) };
            return CallCost { cost: text.scale(STRING_FACTOR), size: Some(result) };
        }
        ("bytes_to_string", _, [bytes]) => {
            let bytes = size(bytes);
            let result = Range { min: bytes.min / 4, max: bytes.max };
            return CallCost { cost: bytes.scale(STRING_FACTOR), size: Some(result) };
        }
        ("strings_quote", _, [text]) => {
            let text = size(text);
            let result =
                Range { min: text.min.saturating_add(2), max: text.max.saturating_mul(2).saturating_add(2) };
            return CallCost { cost: text.scale(STRING_FACTOR), size: Some(result) };
        }
        ("starts_with_string" | "ends_with_string", _, [part]) => size(part).scale(STRING_FACTOR),
        ("in_list", _, [_, list]) => size(list),
        ("matches_string", Some(text), [pattern]) => {
            let text = size(text).add(Range::fixed(1)).scale(STRING_FACTOR);
            text.multiply(size(pattern).scale(REGEX_FACTOR))
        }
        ("contains_string", Some(text), [part]) => {
            size(text).scale(STRING_FACTOR).multiply(size(part).scale(STRING_FACTOR))
        }
        (compare, _, [left, right]) if compares_length(compare) => {
            let most = size(left).max.min(size(right).max);
            Range { min: scale(u64::from(most > 0), STRING_FACTOR), max: scale(most, STRING_FACTOR) }
        }
        _ => Range::fixed(1),
    };
    CallCost { cost, size: None }
}

/// Whether a comparison reads as much as the shorter of both has.
pub(crate) fn compares_length(overload: &str) -> bool {
    matches!(
        overload,
        "equals"
            | "not_equals"
            | "less_string"
            | "less_bytes"
            | "less_equals_string"
            | "less_equals_bytes"
            | "greater_string"
            | "greater_bytes"
            | "greater_equals_string"
            | "greater_equals_bytes"
    )
}
