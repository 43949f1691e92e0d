//! When a CronJob runs: the five fields of cron, or one of its names (`github.com/robfig/cron/v3`, standard form).

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Zoned};
use std::time::Duration;

/// Why text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// There is nothing.
    #[error("empty spec string")]
    Empty,
    /// Not five fields.
    #[error("expected exactly 5 fields, found {0}: [{1}]")]
    Fields(usize, String),
    /// No number where one must be.
    #[error("failed to parse int from {0}: strconv.Atoi: parsing \"{0}\": invalid syntax")]
    Number(String),
    /// A number below nothing.
    #[error("negative number ({0}) not allowed: {0}")]
    Negative(i64),
    /// `1-2-3`.
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    /// `1/2/3`.
    #[error("too many slashes: {0}")]
    Slashes(String),
    /// A range that begins too early.
    #[error("beginning of range ({0}) below minimum ({1}): {2}")]
    Below(u32, u32, String),
    /// A range that ends too late.
    #[error("end of range ({0}) above maximum ({1}): {2}")]
    Above(u32, u32, String),
    /// A range that ends before it begins.
    #[error("beginning of range ({0}) beyond end of range ({1}): {2}")]
    Reversed(u32, u32, String),
    /// A step that goes nowhere.
    #[error("step of range should be a positive number: {0}")]
    Step(String),
    /// `@` and no known name.
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    /// `@every` and no duration.
    #[error("failed to parse duration @every {0}: time: invalid duration \"{0}\"")]
    Every(String),
    /// A time zone that does not exist.
    #[error("provided bad location {0}: unknown time zone {0}")]
    Zone(String),
}

/// Least and greatest number of a field, and names for some of them.
struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOURS: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAYS: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds = Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// What the names stand for; `@every` has a duration of its own.
const NAMED: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A schedule that finds no time in so many years has none.
const YEARS: i16 = 5;

/// One field: the numbers that match, and whether all were asked for by a star.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Field {
    bits: u64,
    star: bool,
}

impl Field {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|n| n < 64 && self.bits & (1 << n) != 0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Fields { minute: Field, hour: Field, day: Field, month: Field, weekday: Field },
    Every(Duration),
}

/// When something runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    rule: Rule,
    zone: TimeZone,
}

/// The time zone of that name, if there is one.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}

impl Schedule {
    /// Reads a schedule in a time zone. A zone within the text (`TZ=…`, `CRON_TZ=…`) goes before it.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self, ScheduleError> {
        if text.is_empty() {
            return Err(ScheduleError::Empty);
        }
        let (mut text, mut zone) = (text, zone.clone());
        if let Some(rest) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
            let (name, rest) = rest.split_once(' ').ok_or_else(|| ScheduleError::Zone(rest.to_owned()))?;
            zone = time_zone(name).ok_or_else(|| ScheduleError::Zone(name.to_owned()))?;
            text = rest.trim();
        }
        let rule = match text.strip_prefix("@every ") {
            Some(every) => {
                let wait = duration(every).ok_or_else(|| ScheduleError::Every(every.to_owned()))?;
                Rule::Every(Duration::from_secs(wait.as_secs().max(1)))
            }
            None if text.starts_with('@') => {
                let named = NAMED.iter().find(|(name, _)| *name == text);
                fields(named.ok_or_else(|| ScheduleError::Descriptor(text.to_owned()))?.1)?
            }
            None => fields(text)?,
        };
        Ok(Schedule { rule, zone })
    }

    /// The first time after an instant; none where there is none for years.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let second = after.as_second();
        match &self.rule {
            Rule::Every(wait) => {
                Timestamp::from_second(second.checked_add(i64::try_from(wait.as_secs()).ok()?)?).ok()
            }
            Rule::Fields { minute, hour, day, month, weekday } => {
                let start = Timestamp::from_second(second.div_euclid(60).checked_add(1)?.checked_mul(60)?);
                let mut at = start.ok()?.to_zoned(self.zone.clone());
                let last = at.year().saturating_add(YEARS);
                while at.year() <= last {
                    at = if !month.has(at.month()) {
                        day_later(&at.first_of_month().ok()?, 1.month())?
                    } else if !on_day(*day, *weekday, &at) {
                        day_later(&at, 1.day())?
                    } else if !hour.has(at.hour()) {
                        // In time as it passes, not as clocks show it: an hour may come twice or not at all.
                        at.checked_add((60 - i64::from(at.minute())).minutes()).ok()?
                    } else if !minute.has(at.minute()) {
                        at.checked_add(1.minute()).ok()?
                    } else {
                        return Some(at.timestamp());
                    };
                }
                None
            }
        }
    }
}

/// The start of the day that lies a while later.
fn day_later(at: &Zoned, span: Span) -> Option<Zoned> {
    at.date().checked_add(span).ok()?.to_zoned(at.time_zone().clone()).ok()?.start_of_day().ok()
}

/// Both the day of the month and that of the week must match, unless both are restricted: then one is enough.
fn on_day(day: Field, weekday: Field, at: &Zoned) -> bool {
    let (by_month, by_week) = (day.has(at.day()), weekday.has(at.weekday().to_sunday_zero_offset()));
    if day.star || weekday.star { by_month && by_week } else { by_month || by_week }
}

fn fields(text: &str) -> Result<Rule, ScheduleError> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = parts.as_slice() else {
        return Err(ScheduleError::Fields(parts.len(), parts.join(" ")));
    };
    Ok(Rule::Fields {
        minute: field(minute, &MINUTES)?,
        hour: field(hour, &HOURS)?,
        day: field(day, &DAYS)?,
        month: field(month, &MONTHS)?,
        weekday: field(weekday, &WEEKDAYS)?,
    })
}

fn field(text: &str, bounds: &Bounds) -> Result<Field, ScheduleError> {
    let mut out = Field::default();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let found = range(part, bounds)?;
        out = Field { bits: out.bits | found.bits, star: out.star || found.star };
    }
    Ok(out)
}

fn range(text: &str, bounds: &Bounds) -> Result<Field, ScheduleError> {
    let steps: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = steps[0].split('-').collect();
    let any = matches!(ends[0], "*" | "?");
    let (low, mut high) = match ends.as_slice() {
        _ if any => (bounds.min, bounds.max),
        [one] => {
            let one = number(one, bounds)?;
            (one, one)
        }
        [low, high] => (number(low, bounds)?, number(high, bounds)?),
        _ => return Err(ScheduleError::Hyphens(text.to_owned())),
    };
    let step = match steps.as_slice() {
        [_] => 1,
        [_, step] => {
            // `5/15` is `5-59/15`.
            if ends.len() == 1 {
                high = bounds.max;
            }
            plain_number(step)?
        }
        _ => return Err(ScheduleError::Slashes(text.to_owned())),
    };
    let text = || text.to_owned();
    if low < bounds.min {
        return Err(ScheduleError::Below(low, bounds.min, text()));
    }
    if high > bounds.max {
        return Err(ScheduleError::Above(high, bounds.max, text()));
    }
    if low > high {
        return Err(ScheduleError::Reversed(low, high, text()));
    }
    let by =
        usize::try_from(step).ok().filter(|step| *step > 0).ok_or_else(|| ScheduleError::Step(text()))?;
    let bits = (low..=high).step_by(by).fold(0, |bits, n| bits | 1 << n);
    Ok(Field { bits, star: any && step == 1 })
}

fn number(text: &str, bounds: &Bounds) -> Result<u32, ScheduleError> {
    let named = bounds.names.iter().position(|name| text.eq_ignore_ascii_case(name));
    match named.and_then(|at| u32::try_from(at).ok()) {
        Some(at) => Ok(at + bounds.min),
        None => plain_number(text),
    }
}

fn plain_number(text: &str) -> Result<u32, ScheduleError> {
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(ScheduleError::Negative(number)),
        Ok(number) => u32::try_from(number).map_err(|_| ScheduleError::Number(text.to_owned())),
        Err(_) => Err(ScheduleError::Number(text.to_owned())),
    }
}

/// A duration as Go writes it: `1h30m`, `1.5h`, `90s`. One below nothing counts as nothing.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: &[(&str, f64)] =
        &[("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, tail) = rest.split_at(end);
        let amount: f64 = digits.parse().ok()?;
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        seconds += amount * UNITS.iter().find(|(name, _)| *name == unit)?.1;
        rest = tail;
    }
    if negative { Some(Duration::ZERO) } else { Duration::try_from_secs_f64(seconds).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next times after an instant, in a zone, as its clocks show them.
    fn next(text: &str, zone: &str, after: &str, many: usize) -> String {
        let zone = time_zone(zone).unwrap();
        let schedule = Schedule::parse(text, &zone).unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        let mut out = Vec::new();
        for _ in 0..many {
            let Some(time) = schedule.next(at) else { break };
            at = time;
            out.push(at.to_zoned(zone.clone()).strftime("%m-%d %H:%M:%S").to_string());
        }
        out.join(", ")
    }

    #[test]
    fn fields_are_read_as_cron_has_them() {
        let start = "2026-07-08T14:45:30Z"; // a Wednesday
        for (text, times) in [
            ("* * * * *", "07-08 14:46:00, 07-08 14:47:00"),
            ("*/20 * * * ?", "07-08 15:00:00, 07-08 15:20:00"),
            ("5/15 * * * *", "07-08 14:50:00, 07-08 15:05:00"),
            ("30 6-16/4 * * 1-5", "07-09 06:30:00, 07-09 10:30:00"),
            ("0 0 * FEB mon,Fri", "02-01 00:00:00, 02-05 00:00:00"),
            ("0 0 29 2 *", "02-29 00:00:00, 02-29 00:00:00"),
            // Two restricted days: one of them is enough.
            ("0 0 10 * sat", "07-10 00:00:00, 07-11 00:00:00"),
            ("0 0 */2 * sat", "07-09 00:00:00, 07-11 00:00:00"),
            ("@hourly", "07-08 15:00:00, 07-08 16:00:00"),
            ("@weekly", "07-12 00:00:00, 07-19 00:00:00"),
            ("@yearly", "01-01 00:00:00, 01-01 00:00:00"),
            ("@every 1h30m", "07-08 16:15:30, 07-08 17:45:30"),
            ("@every 10ms", "07-08 14:45:31, 07-08 14:45:32"),
            ("0 0 31 2 *", ""),
        ] {
            assert_eq!(next(text, "UTC", start, 2), times, "{text}");
        }
        assert_eq!(next("TZ=Asia/Tokyo 0 9 * * *", "UTC", start, 1), "07-09 00:00:00");
    }

    #[test]
    fn clocks_that_are_changed() {
        let berlin = "Europe/Berlin";
        // In spring 02:30 does not come, in autumn it comes twice.
        assert_eq!(next("30 2 * * *", berlin, "2026-03-28T12:00:00Z", 1), "03-30 02:30:00");
        assert_eq!(next("30 2 * * *", berlin, "2026-10-24T12:00:00Z", 2), "10-25 02:30:00, 10-25 02:30:00");
        assert_eq!(next("0 12 * * *", berlin, "2026-03-28T12:00:00Z", 2), "03-29 12:00:00, 03-30 12:00:00");
        assert_eq!(next("15 * * * *", berlin, "2026-03-29T00:20:00Z", 1), "03-29 03:15:00");
        // In Cairo the night of the change has no midnight.
        assert_eq!(next("0 3 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", 1), "04-24 03:00:00");
    }

    #[test]
    fn what_is_wrong() {
        for (text, why) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("*/2/3 * * * *", "too many slashes: */2/3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("@sometimes", "unrecognized descriptor: @sometimes"),
            ("@every day", "failed to parse duration @every day: time: invalid duration \"day\""),
            (
                "TZ=Nowhere/Town 0 0 * * *",
                "provided bad location Nowhere/Town: unknown time zone Nowhere/Town",
            ),
        ] {
            let error = Schedule::parse(text, &TimeZone::UTC).unwrap_err();
            assert_eq!(error.to_string(), why, "{text}");
        }
        assert!(Schedule::parse("*/4294967295 * * * *", &TimeZone::UTC).is_ok());
    }
}
