//! Functions of strings. Places are counted in characters.

use super::arith::text;
use super::convert::texts;
use super::format;
use super::{Native, room};
use crate::value::{Failure, Meter, Outcome, Value, pattern};

pub(super) fn find(function: &str) -> Option<Native> {
    Some(match function {
        "contains" => |meter, args| test(meter, args, |text, part| text.contains(part)),
        "startsWith" => |meter, args| test(meter, args, |text, part| text.starts_with(part)),
        "endsWith" => |meter, args| test(meter, args, |text, part| text.ends_with(part)),
        "matches" => |meter, args| match args {
            [value, expression] => {
                let pattern = compiled(meter, text(expression)?)?;
                Ok(Value::Bool(pattern.matches(text(value)?)))
            }
            _ => Err(Failure::overload()),
        },
        "find" => |meter, args| match args {
            [value, expression] => {
                let pattern = compiled(meter, text(expression)?)?;
                Ok(Value::text(pattern.find(text(value)?).unwrap_or("")))
            }
            _ => Err(Failure::overload()),
        },
        "findAll" => |meter, args| {
            let (value, expression, most) = match args {
                [value, expression] => (value, expression, -1),
                [value, expression, Value::Int(most)] => (value, expression, *most),
                _ => return Err(Failure::overload()),
            };
            let pattern = compiled(meter, text(expression)?)?;
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let found = pattern.find_all(text(value)?, most);
            meter.spend(found.len() as u64)?;
            Ok(texts(found.into_iter().map(str::to_owned)))
        },
        "charAt" => |_, args| match args {
            [value, Value::Int(index)] => {
                let text = text(value)?;
                let found = usize::try_from(*index).ok().and_then(|index| text.chars().nth(index));
                if found.is_none() && *index != text.chars().count() as i64 {
                    return Err(out_of_range(*index));
                }
                Ok(Value::text(found.map(String::from).unwrap_or_default()))
            }
            _ => Err(Failure::overload()),
        },
        "lowerAscii" => |meter, args| map(meter, args, |text| text.to_ascii_lowercase()),
        "upperAscii" => |meter, args| map(meter, args, |text| text.to_ascii_uppercase()),
        "trim" => |meter, args| map(meter, args, |text| text.trim().to_owned()),
        "replace" => replace,
        "split" => split,
        "substring" => substring,
        "join" => join,
        "format" => |meter, args| match args {
            [value, Value::List(list)] => format::format(meter, text(value)?, &list.values(meter)?),
            _ => Err(Failure::overload()),
        },
        "strings.quote" => |meter, args| map(meter, args, format::quote),
        _ => return None,
    })
}

fn out_of_range(index: i64) -> Failure {
    Failure::new(format!("index out of range: {index}"))
}

fn test<'v>(meter: &Meter, args: &[Value<'v>], run: impl FnOnce(&str, &str) -> bool) -> Outcome<Value<'v>> {
    let [value, part] = args else { return Err(Failure::overload()) };
    let (value, part) = (text(value)?, text(part)?);
    meter.spend(value.len() as u64 / 16)?;
    Ok(Value::Bool(run(value, part)))
}

fn map<'v>(meter: &Meter, args: &[Value<'v>], run: impl FnOnce(&str) -> String) -> Outcome<Value<'v>> {
    let [value] = args else { return Err(Failure::overload()) };
    let text = text(value)?;
    room(meter, text.len() * 2)?;
    Ok(Value::text(run(text)))
}

/// Compiles a pattern that only this run knows. That can take long for a short one, so it is dear.
fn compiled(meter: &Meter, text: &str) -> Outcome<skep_api::custom::Pattern> {
    meter.spend(200_000 + text.len() as u64)?;
    pattern::compile(text).map_err(Failure::new)
}

fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn replace<'v>(meter: &Meter, args: &[Value<'v>]) -> Outcome<Value<'v>> {
    let (value, old, new, most) = match args {
        [value, old, new] => (value, old, new, usize::MAX),
        [value, old, new, Value::Int(most)] => (value, old, new, count(*most)),
        _ => return Err(Failure::overload()),
    };
    let (value, old, new) = (text(value)?, text(old)?, text(new)?);
    let times = (value.len() / old.len().max(1) + 1).min(most);
    let length = times.checked_mul(new.len()).and_then(|more| more.checked_add(value.len()));
    room(meter, length.ok_or(Failure::Limit)?)?;
    Ok(Value::text(value.replacen(old, new, most)))
}

fn split<'v>(meter: &Meter, args: &[Value<'v>]) -> Outcome<Value<'v>> {
    let (value, separator, most) = match args {
        [value, separator] => (value, separator, -1),
        [value, separator, Value::Int(most)] => (value, separator, *most),
        _ => return Err(Failure::overload()),
    };
    let (value, separator, most) = (text(value)?, text(separator)?, count(most));
    room(meter, value.len() * 32)?;
    if most == 0 {
        return Ok(Value::list(Vec::new()));
    }
    if !separator.is_empty() {
        return Ok(texts(value.splitn(most, separator).map(str::to_owned)));
    }
    // Into characters; the last of a given number has the rest.
    let mut parts: Vec<String> = value.chars().take(most - 1).map(String::from).collect();
    let used: usize = parts.iter().map(String::len).sum();
    let rest = &value[used..];
    if !rest.is_empty() {
        parts.push(rest.to_owned());
    }
    Ok(texts(parts))
}

fn substring<'v>(meter: &Meter, args: &[Value<'v>]) -> Outcome<Value<'v>> {
    let (value, start, end) = match args {
        [value, Value::Int(start)] => (text(value)?, *start, None),
        [value, Value::Int(start), Value::Int(end)] => (text(value)?, *start, Some(*end)),
        _ => return Err(Failure::overload()),
    };
    room(meter, value.len())?;
    let length = value.chars().count() as i64;
    let stop = end.unwrap_or(length);
    if end.is_some() && start > stop {
        return Err(Failure::new(format!("invalid substring range. start: {start}, end: {stop}")));
    }
    for index in [start, stop] {
        if !(0..=length).contains(&index) {
            return Err(out_of_range(index));
        }
    }
    Ok(Value::text(value.chars().skip(count(start)).take(count(stop - start)).collect::<String>()))
}

fn join<'v>(meter: &Meter, args: &[Value<'v>]) -> Outcome<Value<'v>> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), separator] => (list, text(separator)?),
        _ => return Err(Failure::overload()),
    };
    let mut joined = String::new();
    for (index, item) in list.iter().enumerate() {
        let item = item?;
        let Ok(part) = text(&item) else {
            return Err(Failure::new(format!("join: invalid input: {}", item.shown())));
        };
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(part);
        meter.spend((separator.len() + part.len()) as u64 / 16 + 1)?;
        room(meter, joined.len())?;
    }
    Ok(Value::text(joined))
}

/// `indexOf` of strings, from an offset.
pub(super) fn index_of(text: &str, part: &str, offset: i64) -> Outcome<i64> {
    if part.is_empty() {
        return Ok(offset);
    }
    if offset < 0 {
        return Err(out_of_range(offset));
    }
    let Some((start, _)) = text.char_indices().nth(count(offset)) else { return Ok(-1) };
    Ok(text[start..].find(part).map_or(-1, |at| offset + text[start..start + at].chars().count() as i64))
}

/// `lastIndexOf` of strings, up to an offset.
pub(super) fn last_index_of(text: &str, part: &str, offset: Option<i64>) -> Outcome<i64> {
    let length = text.chars().count() as i64;
    if part.is_empty() {
        return Ok(offset.unwrap_or(length));
    }
    let offset = offset.unwrap_or(length - 1);
    if offset < 0 {
        return if length == 0 { Ok(-1) } else { Err(out_of_range(offset)) };
    }
    if offset >= length {
        return Ok(-1);
    }
    // Matches may begin at the offset or before it.
    let end = text.char_indices().nth(count(offset)).map_or(text.len(), |(at, _)| at);
    let end = (end + part.len()).min(text.len());
    let end = (end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    Ok(text[..end].rfind(part).map_or(-1, |at| text[..at].chars().count() as i64))
}
