//! Parts of times and durations.

use jiff::civil::DateTime;

use super::Native;
use super::arith::text;
use crate::value::{Failure, Outcome, Value, time};

pub(super) fn find(function: &str) -> Option<Native> {
    Some(match function {
        "getFullYear" => |_, args| part(args, |time| time.year().into()),
        "getMonth" => |_, args| part(args, |time| i64::from(time.month()) - 1),
        "getDayOfYear" => |_, args| part(args, |time| i64::from(time.day_of_year()) - 1),
        "getDayOfMonth" => |_, args| part(args, |time| i64::from(time.day()) - 1),
        "getDate" => |_, args| part(args, |time| time.day().into()),
        "getDayOfWeek" => |_, args| part(args, |time| time.weekday().to_sunday_zero_offset().into()),
        "getHours" => |_, args| part_or(args, 3_600_000_000_000, |time| time.hour().into()),
        "getMinutes" => |_, args| part_or(args, 60_000_000_000, |time| time.minute().into()),
        "getSeconds" => |_, args| part_or(args, 1_000_000_000, |time| time.second().into()),
        "getMilliseconds" => {
            |_, args| part_or(args, 1_000_000, |time| i64::from(time.subsec_nanosecond() / 1_000_000))
        }
        _ => return None,
    })
}

fn part<'v>(args: &[Value<'v>], read: impl FnOnce(DateTime) -> i64) -> Outcome<Value<'v>> {
    let (at, zone) = match args {
        [Value::Timestamp(at)] => (at, "UTC"),
        [Value::Timestamp(at), zone] => (at, text(zone)?),
        _ => return Err(Failure::overload()),
    };
    time::in_zone(*at, zone).map(|time| Value::Int(read(time))).map_err(Failure::new)
}

/// The part of a time, or all of a duration in that unit.
fn part_or<'v>(args: &[Value<'v>], unit: i64, read: impl FnOnce(DateTime) -> i64) -> Outcome<Value<'v>> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / unit)),
        args => part(args, read),
    }
}
