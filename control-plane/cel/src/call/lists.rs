//! Functions of lists and sets.

use std::cmp::Ordering;

use super::Native;
use super::arith::{add, text};
use super::strings::{index_of, last_index_of};
use crate::value::{Failure, List, Meter, Outcome, Value, contains, equal, order};

pub(super) fn find(function: &str) -> Option<Native> {
    Some(match function {
        "isSorted" => |meter, args| {
            let list = list(args)?.values(meter)?;
            for pair in list.windows(2) {
                if let [a, b] = pair
                    && order(a, b)? == Ordering::Greater
                {
                    return Ok(Value::Bool(false));
                }
            }
            Ok(Value::Bool(true))
        },
        "sum" => |meter, args| {
            let mut items = list(args)?.values(meter)?.into_iter();
            let Some(first) = items.next() else { return Ok(Value::Int(0)) };
            items.try_fold(first, |sum, item| add(meter, &sum, &item))
        },
        "max" => |meter, args| extreme(meter, args, "max", Ordering::Less),
        "min" => |meter, args| extreme(meter, args, "min", Ordering::Greater),
        "indexOf" => |meter, args| match args {
            [Value::List(list), item] => position(meter, list, item, false),
            [value, part] => Ok(Value::Int(index_of(text(value)?, text(part)?, 0)?)),
            [value, part, Value::Int(offset)] => {
                Ok(Value::Int(index_of(text(value)?, text(part)?, *offset)?))
            }
            _ => Err(Failure::overload()),
        },
        "lastIndexOf" => |meter, args| match args {
            [Value::List(list), item] => position(meter, list, item, true),
            [value, part] => Ok(Value::Int(last_index_of(text(value)?, text(part)?, None)?)),
            [value, part, Value::Int(offset)] => {
                Ok(Value::Int(last_index_of(text(value)?, text(part)?, Some(*offset))?))
            }
            _ => Err(Failure::overload()),
        },
        "first" => |_, args| Ok(Value::Optional(list(args)?.get(0).transpose()?.map(Into::into))),
        "last" => |_, args| {
            let list = list(args)?;
            let last = list.len().checked_sub(1).and_then(|last| list.get(last));
            Ok(Value::Optional(last.transpose()?.map(Into::into)))
        },
        "slice" => |meter, args| {
            let [Value::List(list), Value::Int(start), Value::Int(end)] = args else {
                return Err(Failure::overload());
            };
            let fail = |why: String| Err(Failure::new(format!("cannot slice({start}, {end}), {why}")));
            let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
                return fail("negative indexes not supported".to_owned());
            };
            if from > to {
                return fail("start index must be less than or equal to end index".to_owned());
            }
            if to > list.len() {
                return fail(format!("list is length {}", list.len()));
            }
            let values = list.values(meter)?;
            Ok(Value::list(values.into_iter().skip(from).take(to - from).collect()))
        },
        "flatten" => |meter, args| {
            let (list, depth) = match args {
                [Value::List(list)] => (list, 1),
                [Value::List(list), Value::Int(depth)] => (list, *depth),
                _ => return Err(Failure::overload()),
            };
            if depth < 0 {
                return Err(Failure::new("level must be non-negative"));
            }
            let mut flat = Vec::new();
            flatten(meter, list, depth, &mut flat)?;
            Ok(Value::list(flat))
        },
        "lists.range" => |meter, args| match args {
            [Value::Int(count)] => {
                meter.spend(u64::try_from(*count).unwrap_or(0))?;
                Ok(Value::list((0..*count).map(Value::Int).collect()))
            }
            _ => Err(Failure::overload()),
        },
        "reverse" => |meter, args| {
            let mut values = list(args)?.values(meter)?;
            values.reverse();
            Ok(Value::list(values))
        },
        "distinct" => |meter, args| {
            let mut unique: Vec<Value<'_>> = Vec::new();
            for item in list(args)?.values(meter)? {
                let mut seen = false;
                for one in &unique {
                    seen = seen || equal(one, &item, meter)?;
                }
                if !seen {
                    unique.push(item);
                }
            }
            Ok(Value::list(unique))
        },
        "sort" => |meter, args| {
            let values = list(args)?.values(meter)?;
            sorted(values.clone(), values)
        },
        "@sortByAssociatedKeys" => |meter, args| match args {
            [Value::List(list), Value::List(keys)] => sorted(list.values(meter)?, keys.values(meter)?),
            _ => Err(Failure::overload()),
        },
        "sets.contains" => |meter, args| {
            let (a, b) = lists(args)?;
            Ok(Value::Bool(all_in(meter, b, a)?))
        },
        "sets.equivalent" => |meter, args| {
            let (a, b) = lists(args)?;
            Ok(Value::Bool(all_in(meter, b, a)? && all_in(meter, a, b)?))
        },
        "sets.intersects" => |meter, args| {
            let (a, b) = lists(args)?;
            for item in a.iter() {
                if contains(b, &item?, meter)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        },
        _ => return None,
    })
}

fn list<'a, 'v>(args: &'a [Value<'v>]) -> Outcome<&'a List<'v>> {
    match args {
        [Value::List(list)] => Ok(list),
        _ => Err(Failure::overload()),
    }
}

fn lists<'a, 'v>(args: &'a [Value<'v>]) -> Outcome<(&'a List<'v>, &'a List<'v>)> {
    match args {
        [Value::List(a), Value::List(b)] => Ok((a, b)),
        _ => Err(Failure::overload()),
    }
}

fn all_in(meter: &Meter, items: &List<'_>, list: &List<'_>) -> Outcome<bool> {
    for item in items.iter() {
        if !contains(list, &item?, meter)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn extreme<'v>(meter: &Meter, args: &[Value<'v>], name: &str, replace: Ordering) -> Outcome<Value<'v>> {
    let mut items = list(args)?.values(meter)?.into_iter();
    let Some(mut found) = items.next() else {
        return Err(Failure::new(format!("{name} called on empty list")));
    };
    for item in items {
        if order(&found, &item)? == replace {
            found = item;
        }
    }
    Ok(found)
}

fn position<'v>(meter: &Meter, list: &List<'v>, item: &Value<'v>, last: bool) -> Outcome<Value<'v>> {
    let values = list.values(meter)?;
    let mut found = -1;
    for (index, value) in values.iter().enumerate() {
        if equal(value, item, meter)? {
            found = index as i64;
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

fn flatten<'v>(meter: &Meter, list: &List<'v>, depth: i64, flat: &mut Vec<Value<'v>>) -> Outcome<()> {
    for item in list.values(meter)? {
        match item {
            Value::List(inner) if depth > 0 => flatten(meter, &inner, depth - 1, flat)?,
            item => flat.push(item),
        }
    }
    Ok(())
}

fn sorted<'v>(values: Vec<Value<'v>>, keys: Vec<Value<'v>>) -> Outcome<Value<'v>> {
    if values.len() != keys.len() {
        return Err(Failure::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            values.len(),
            keys.len()
        )));
    }
    let kind = keys.first().map(Value::type_name);
    if keys.iter().any(|key| Some(key.type_name()) != kind) {
        return Err(Failure::new("list elements must have the same type"));
    }
    let mut failed = None;
    let mut pairs: Vec<_> = keys.into_iter().zip(values).collect();
    pairs.sort_by(|(a, _), (b, _)| {
        order(a, b).unwrap_or_else(|why| {
            failed = Some(why);
            Ordering::Equal
        })
    });
    match failed {
        Some(_) => Err(Failure::new("list elements must be comparable")),
        None => Ok(Value::list(pairs.into_iter().map(|(_, value)| value).collect())),
    }
}
