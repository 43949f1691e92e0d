//! Operators.

use std::sync::Arc;

use super::{Native, room};
use crate::decl::ListKind;
use crate::value::{
    Failure, List, Map, Meter, Outcome, Text, Value, contains, equal, find_keyed, order, time,
};

pub(super) fn find(function: &str) -> Option<Native> {
    Some(match function {
        "!_" => |_, args| match args {
            [Value::Bool(value)] => Ok(Value::Bool(!value)),
            _ => Err(Failure::overload()),
        },
        "_==_" => |meter, args| pair(args, |a, b| equal(a, b, meter).map(Value::Bool)),
        "_!=_" => |meter, args| pair(args, |a, b| equal(a, b, meter).map(|same| Value::Bool(!same))),
        "_<_" => |_, args| pair(args, |a, b| order(a, b).map(|order| Value::Bool(order.is_lt()))),
        "_<=_" => |_, args| pair(args, |a, b| order(a, b).map(|order| Value::Bool(order.is_le()))),
        "_>_" => |_, args| pair(args, |a, b| order(a, b).map(|order| Value::Bool(order.is_gt()))),
        "_>=_" => |_, args| pair(args, |a, b| order(a, b).map(|order| Value::Bool(order.is_ge()))),
        "_+_" => |meter, args| match args {
            [a, b] => add(meter, a, b),
            _ => Err(Failure::overload()),
        },
        "_-_" => subtract,
        "_*_" => multiply,
        "_/_" => divide,
        "_%_" => modulo,
        "-_" => negate,
        "@in" => |meter, args| match args {
            [value, Value::List(list)] => contains(list, value, meter).map(Value::Bool),
            [key, Value::Map(map)] => match map.get(key) {
                Some(Err(why)) => Err(why),
                found => Ok(Value::Bool(found.is_some())),
            },
            _ => Err(Failure::overload()),
        },
        _ => return None,
    })
}

fn pair<'v>(
    args: &[Value<'v>],
    run: impl FnOnce(&Value<'v>, &Value<'v>) -> Outcome<Value<'v>>,
) -> Outcome<Value<'v>> {
    match args {
        [a, b] => run(a, b),
        _ => Err(Failure::overload()),
    }
}

const INT: &str = "integer overflow";
const UINT: &str = "unsigned integer overflow";
const DURATION: &str = "duration overflow";
const TIMESTAMP: &str = "timestamp overflow";

fn or<T>(found: Option<T>, why: &'static str) -> Outcome<T> {
    found.ok_or_else(|| Failure::new(why))
}

pub(super) fn add<'v>(meter: &Meter, a: &Value<'v>, b: &Value<'v>) -> Outcome<Value<'v>> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => or(a.checked_add(*b), INT).map(Value::Int),
        (Value::Uint(a), Value::Uint(b)) => or(a.checked_add(*b), UINT).map(Value::Uint),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => {
            room(meter, a.len() + b.len())?;
            Ok(Value::text([&**a, &**b].concat()))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            room(meter, a.len() + b.len())?;
            Ok(Value::Bytes([&**a, &**b].concat().into()))
        }
        (Value::Duration(a), Value::Duration(b)) => or(a.checked_add(*b), DURATION).map(Value::Duration),
        (Value::Timestamp(time), Value::Duration(nanos))
        | (Value::Duration(nanos), Value::Timestamp(time)) => {
            or(time::shifted(*time, *nanos), TIMESTAMP).map(Value::Timestamp)
        }
        (Value::List(a), Value::List(b)) => lists(meter, a, b),
        _ => Err(Failure::overload()),
    }
}

fn lists<'v>(meter: &Meter, a: &List<'v>, b: &List<'v>) -> Outcome<Value<'v>> {
    let mut sum = a.values(meter)?;
    let kind = a.kind();
    match kind {
        Some(ListKind::Set) => {
            for item in b.iter() {
                let item = item?;
                if !contains(a, &item, meter)? {
                    sum.push(item);
                }
            }
        }
        Some(ListKind::Map(keys)) => {
            for item in b.iter() {
                let item = item?;
                match find_keyed(a, &item, keys, meter)?.and_then(|(index, _)| sum.get_mut(index)) {
                    Some(slot) => *slot = item,
                    None => sum.push(item),
                }
            }
        }
        _ => sum.extend(b.values(meter)?),
    }
    Ok(Value::List(List::Made(Arc::new(sum), kind)))
}

fn subtract<'v>(_: &Meter, args: &[Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::Int(a), Value::Int(b)] => or(a.checked_sub(*b), INT).map(Value::Int),
        [Value::Uint(a), Value::Uint(b)] => or(a.checked_sub(*b), UINT).map(Value::Uint),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)),
        [Value::Duration(a), Value::Duration(b)] => or(a.checked_sub(*b), DURATION).map(Value::Duration),
        [Value::Timestamp(time), Value::Duration(nanos)] => {
            let shifted = nanos.checked_neg().and_then(|nanos| time::shifted(*time, nanos));
            or(shifted, TIMESTAMP).map(Value::Timestamp)
        }
        [Value::Timestamp(a), Value::Timestamp(b)] => {
            or(i64::try_from(a.nanoseconds() - b.nanoseconds()).ok(), DURATION).map(Value::Duration)
        }
        _ => Err(Failure::overload()),
    }
}

fn multiply<'v>(_: &Meter, args: &[Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::Int(a), Value::Int(b)] => or(a.checked_mul(*b), INT).map(Value::Int),
        [Value::Uint(a), Value::Uint(b)] => or(a.checked_mul(*b), UINT).map(Value::Uint),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        _ => Err(Failure::overload()),
    }
}

fn divide<'v>(_: &Meter, args: &[Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(Failure::new("division by zero"))
        }
        [Value::Int(a), Value::Int(b)] => or(a.checked_div(*b), INT).map(Value::Int),
        [Value::Uint(a), Value::Uint(b)] => or(a.checked_div(*b), UINT).map(Value::Uint),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        _ => Err(Failure::overload()),
    }
}

fn modulo<'v>(_: &Meter, args: &[Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(Failure::new("modulus by zero"))
        }
        [Value::Int(a), Value::Int(b)] => or(a.checked_rem(*b), INT).map(Value::Int),
        [Value::Uint(a), Value::Uint(b)] => or(a.checked_rem(*b), UINT).map(Value::Uint),
        _ => Err(Failure::overload()),
    }
}

fn negate<'v>(_: &Meter, args: &[Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::Int(value)] => or(value.checked_neg(), INT).map(Value::Int),
        [Value::Double(value)] => Ok(Value::Double(-value)),
        _ => Err(Failure::overload()),
    }
}

/// `container[key]`
pub(crate) fn index<'v>(container: &Value<'v>, key: &Value<'v>) -> Outcome<Value<'v>> {
    match (container, key) {
        (Value::List(list), key) => {
            let index = whole(key)?;
            let found = usize::try_from(index).ok().and_then(|index| list.get(index));
            found.unwrap_or_else(|| Err(Failure::new(format!("index out of bounds: {index}"))))
        }
        (Value::Map(map), key) => entry(map, key),
        _ => Err(Failure::overload()),
    }
}

/// `container[?key]`
pub(crate) fn maybe<'v>(container: &Value<'v>, key: &Value<'v>) -> Outcome<Option<Value<'v>>> {
    match (container, key) {
        (Value::List(list), key) => {
            usize::try_from(whole(key)?).ok().and_then(|index| list.get(index)).transpose()
        }
        (Value::Map(map), key) => map.get(key).transpose(),
        _ => Err(Failure::overload()),
    }
}

fn whole(key: &Value<'_>) -> Outcome<i64> {
    match key {
        Value::Int(index) => Ok(*index),
        Value::Uint(index) => Ok(i64::try_from(*index).unwrap_or(i64::MAX)),
        Value::Double(index) if index.fract() == 0.0 => Ok(*index as i64),
        other => Err(Failure::new(format!("unsupported index type '{}' in list", other.type_name()))),
    }
}

fn entry<'v>(map: &Map<'v>, key: &Value<'v>) -> Outcome<Value<'v>> {
    map.get(key).unwrap_or_else(|| Err(Failure::new(format!("no such key: {}", key.shown()))))
}

/// `container.field`
pub(crate) fn field<'v>(container: &Value<'v>, name: &Arc<str>) -> Option<Outcome<Value<'v>>> {
    match container {
        Value::Map(map) => map.field(name),
        _ => Some(Err(Failure::overload())),
    }
}

/// Text as the value it is.
pub(super) fn text<'a>(value: &'a Value<'_>) -> Outcome<&'a str> {
    match value {
        Value::String(Text::Borrowed(text)) => Ok(text),
        Value::String(Text::Shared(text)) => Ok(text),
        _ => Err(Failure::overload()),
    }
}
