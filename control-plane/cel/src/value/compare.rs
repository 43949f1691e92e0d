//! Equality and order of values.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::{Failure, List, Map, Meter, Outcome, Value, json};
use crate::decl::ListKind;

/// Whether two values are equal. Numbers are by amount, whatever their type; values of other types never are.
pub(crate) fn equal(a: &Value<'_>, b: &Value<'_>, meter: &Meter) -> Outcome<bool> {
    meter.spend(1)?;
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => {
            meter.spend(a.len().min(b.len()) as u64 / 64)?;
            **a == **b
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            meter.spend(a.len().min(b.len()) as u64 / 64)?;
            a == b
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::List(a), Value::List(b)) => lists(a, b, meter)?,
        (Value::Map(a), Value::Map(b)) => maps(a, b, meter)?,
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b, meter)?,
            (a, b) => a.is_none() && b.is_none(),
        },
        (Value::Quantity(a), Value::Quantity(b)) => a == b,
        (Value::Url(a), Value::Url(b)) => a.text == b.text,
        (Value::Ip(a), Value::Ip(b)) => a == b,
        (Value::Cidr(a), Value::Cidr(b)) => a == b,
        (Value::Format(a), Value::Format(b)) => a.name == b.name,
        (Value::Semver(a), Value::Semver(b)) => a.order(b).is_eq(),
        (a, b) => numbers(a, b) == Some(Ordering::Equal),
    })
}

fn lists(a: &List<'_>, b: &List<'_>, meter: &Meter) -> Outcome<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    let sorted = |keys: &[std::sync::Arc<str>]| keyed(a, b, keys, meter);
    match a.kind().or(b.kind()) {
        Some(ListKind::Set) => {
            for item in b.iter() {
                if !contains(a, &item?, meter)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Some(ListKind::Map(keys)) => sorted(keys),
        _ => {
            for (a, b) in a.iter().zip(b.iter()) {
                if !equal(&a?, &b?, meter)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// Lists that are maps: each element has its like by the keys, wherever it stands.
fn keyed(a: &List<'_>, b: &List<'_>, keys: &[std::sync::Arc<str>], meter: &Meter) -> Outcome<bool> {
    for item in b.iter() {
        let item = item?;
        match find_keyed(a, &item, keys, meter)? {
            Some((_, like)) if equal(&like, &item, meter)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// The element of a list whose keys are those of a value, with its index.
pub(crate) fn find_keyed<'v>(
    list: &List<'v>,
    wanted: &Value<'_>,
    keys: &[std::sync::Arc<str>],
    meter: &Meter,
) -> Outcome<Option<(usize, Value<'v>)>> {
    // Two elements of one object are told apart without reading all of either.
    let raw = match (list, wanted) {
        (List::Json { items, .. }, Value::Map(Map::Json(map, _))) => {
            let wanted: Vec<&Json> = keys.iter().map(|key| map.get(&**key).unwrap_or(&Json::Null)).collect();
            meter.spend(items.len() as u64)?;
            Some(items.iter().position(|item| json::map_key(item, keys) == wanted))
        }
        _ => None,
    };
    if let Some(found) = raw {
        return found
            .and_then(|index| Some((index, list.get(index)?)))
            .map(|(at, value)| Ok((at, value?)))
            .transpose();
    }
    let wanted = json::value_key(wanted, keys);
    for (index, item) in list.iter().enumerate() {
        let item = item?;
        let mut same = true;
        for (a, b) in json::value_key(&item, keys).iter().zip(&wanted) {
            same = same
                && match (a, b) {
                    (Some(a), Some(b)) => equal(a, b, meter)?,
                    (a, b) => a.is_none() && b.is_none(),
                };
        }
        if same {
            return Ok(Some((index, item)));
        }
    }
    Ok(None)
}

/// Whether a list has an element that is equal to a value.
pub(crate) fn contains(list: &List<'_>, value: &Value<'_>, meter: &Meter) -> Outcome<bool> {
    let mut failed = None;
    for item in list.iter() {
        match item.and_then(|item| equal(&item, value, meter)) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(Failure::Limit) => return Err(Failure::Limit),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(false), Err)
}

fn maps(a: &Map<'_>, b: &Map<'_>, meter: &Meter) -> Outcome<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    if let (Map::Json(left, decl), Map::Json(right, _)) = (a, b) {
        for (name, value) in *left {
            let Some(other) = right.get(name) else { return Ok(false) };
            let same = match json::declared(decl, name) {
                Some(decl) if !value.is_null() && !other.is_null() => {
                    equal(&Value::of_json(value, decl)?, &Value::of_json(other, decl)?, meter)?
                }
                // What no type is known of is compared as it is.
                _ => {
                    meter.spend(1)?;
                    value == other
                }
            };
            if !same {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    for key in a.keys() {
        let (Some(a), Some(b)) = (a.get(&key), b.get(&key)) else { return Ok(false) };
        if !equal(&a?, &b?, meter)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The order of two numbers by amount; none where one is no number.
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    let whole = |value: &Value<'_>| match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => double_to_whole(*a, whole(b)?),
        (a, Value::Double(b)) => double_to_whole(*b, whole(a)?).map(Ordering::reverse),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

fn double_to_whole(a: f64, b: i128) -> Option<Ordering> {
    if a.is_nan() {
        return None;
    }
    if a.abs() >= 1e20 {
        return Some(if a > 0.0 { Ordering::Greater } else { Ordering::Less });
    }
    let floor = a.floor();
    Some((floor as i128).cmp(&b).then(if a > floor { Ordering::Greater } else { Ordering::Equal }))
}

/// The order of two values.
pub(crate) fn order(a: &Value<'_>, b: &Value<'_>) -> Outcome<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Ok((**a).cmp(&**b)),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Ok(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Ok(a.cmp(b)),
        (Value::Double(a), _) if a.is_nan() => Err(Failure::new("NaN values cannot be ordered")),
        (_, Value::Double(b)) if b.is_nan() => Err(Failure::new("NaN values cannot be ordered")),
        (a, b) => numbers(a, b).ok_or_else(Failure::overload),
    }
}
