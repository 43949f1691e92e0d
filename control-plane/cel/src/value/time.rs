//! Times and durations as text.

use std::cmp::Ordering;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Seconds of the years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A moment of the years 1 to 9999, and the zone it was written in.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanos: u32,
    /// Seconds that the zone it was written in is ahead of UTC; tells no moments apart.
    pub offset: i32,
}

impl Moment {
    fn new(seconds: i64, nanos: u32, offset: i32) -> Option<Self> {
        SECONDS.contains(&seconds).then_some(Moment { seconds, nanos, offset })
    }

    /// Nanoseconds since 1970.
    pub(crate) fn nanoseconds(&self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }

    /// The first moment there is.
    pub(crate) fn is_first(&self) -> bool {
        self.seconds == *SECONDS.start() && self.nanos == 0
    }

    /// On clocks that are so many seconds ahead of UTC.
    fn civil(&self, offset: i32) -> Result<DateTime, String> {
        let since = SignedDuration::new(self.seconds.saturating_add(offset.into()), self.nanos as i32);
        EPOCH.checked_add(since).map_err(|why| why.to_string())
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.nanoseconds() == other.nanoseconds()
    }
}

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanoseconds().cmp(&other.nanoseconds())
    }
}

/// The beginning of 1970.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

const UNITS: &[(&str, i128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A duration as Go writes it (`1h30m`, `-1.5s`), in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Some(0);
    }
    if unsigned.is_empty() {
        return None;
    }
    let (mut total, mut rest) = (0i128, unsigned);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let whole = &rest[..digits];
        rest = &rest[digits..];
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            (fraction, rest) = after.split_at(digits);
        }
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[..end])?.1;
        rest = &rest[end..];
        if whole.len() > 19 {
            return None;
        }
        total += whole.parse::<i128>().unwrap_or(0) * unit;
        let mut scale = unit;
        for digit in fraction.bytes().take(18) {
            scale /= 10;
            total += i128::from(digit - b'0') * scale;
        }
        if total > i128::from(i64::MAX) + 1 {
            return None;
        }
    }
    i64::try_from(if text.starts_with('-') { -total } else { total }).ok()
}

/// A duration in seconds, as `string()` writes it.
pub(crate) fn shown_duration(nanos: i64) -> String {
    let (seconds, rest) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let sign = if nanos < 0 { "-" } else { "" };
    let fraction = format!("{rest:09}");
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("{sign}{seconds}s") } else { format!("{sign}{seconds}.{fraction}s") }
}

/// A floating-point number, as `string()` writes it.
pub(crate) fn shown_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let exponent = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    if !(-4..21).contains(&exponent) {
        let text = format!("{value:e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
        return format!("{digits}e{sign}{power:0>2}");
    }
    format!("{value}")
}

/// Seconds since 1970 as a time.
pub(crate) fn from_seconds(seconds: i64) -> Option<Moment> {
    Moment::new(seconds, 0, 0)
}

/// A time moved by nanoseconds.
pub(crate) fn shifted(time: Moment, nanos: i64) -> Option<Moment> {
    let total = time.nanoseconds() + i128::from(nanos);
    let seconds = i64::try_from(total.div_euclid(1_000_000_000)).ok()?;
    Moment::new(seconds, total.rem_euclid(1_000_000_000) as u32, time.offset)
}

/// A time as RFC 3339 writes it.
pub(crate) fn parse_timestamp(text: &str) -> Option<Moment> {
    let (time, zone) = civil(text)?;
    zoned(time, zone)
}

/// A time of an object: as RFC 3339 writes it, or without a zone.
pub(crate) fn parse_date_time(text: &str) -> Option<Moment> {
    let (time, zone) = civil(text)?;
    zoned(time, if zone.is_empty() { "Z" } else { zone })
}

/// A date, as its midnight.
pub(crate) fn parse_date(text: &str) -> Option<Moment> {
    if text.len() != 10 {
        return None;
    }
    parse_timestamp(&format!("{text}T00:00:00Z"))
}

/// The part before the zone, and the zone.
fn civil(text: &str) -> Option<(DateTime, &str)> {
    let field = |from: usize, to: usize| -> Option<i32> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let is = |at: usize, wanted: &[u8]| text.as_bytes().get(at).is_some_and(|byte| wanted.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(after) = rest.strip_prefix('.') {
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        if digits == 0 {
            return None;
        }
        nanos = format!("{:0<9}", after.get(..digits.min(9))?).parse().ok()?;
        rest = after.get(digits..)?;
    }
    let small = |from: usize| field(from, from + 2).and_then(|value| i8::try_from(value).ok());
    let year = i16::try_from(field(0, 4)?).ok()?;
    let time = DateTime::new(year, small(5)?, small(8)?, small(11)?, small(14)?, small(17)?, nanos).ok()?;
    Some((time, rest))
}

fn zoned(time: DateTime, zone: &str) -> Option<Moment> {
    let offset = match zone {
        "Z" | "z" => 0,
        zone => {
            let (sign, rest) = match zone.as_bytes().first()? {
                b'+' => (1, &zone[1..]),
                b'-' => (-1, &zone[1..]),
                _ => return None,
            };
            let (hours, minutes) = rest.split_once(':').filter(|(h, m)| h.len() == 2 && m.len() == 2)?;
            let number =
                |text: &str, most: i32| text.parse::<u8>().ok().map(i32::from).filter(|one| *one <= most);
            sign * (number(hours, 23)? * 3600 + number(minutes, 59)? * 60)
        }
    };
    let since = time.duration_since(EPOCH);
    let (mut seconds, mut nanos) = (since.as_secs(), since.subsec_nanos());
    if nanos < 0 {
        (seconds, nanos) = (seconds - 1, nanos + 1_000_000_000);
    }
    Moment::new(seconds - i64::from(offset), nanos as u32, offset)
}

/// A time as RFC 3339 writes it, in the zone it was written in, with as many places as it has.
pub(crate) fn shown_timestamp(time: Moment) -> String {
    let nanos = format!("{:09}", time.nanos);
    let fraction = nanos.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    // A moment at either end of time may lie beyond it in its own zone.
    let (civil, offset) = match time.civil(time.offset) {
        Ok(civil) => (civil, time.offset),
        Err(_) => (time.civil(0).unwrap_or(EPOCH), 0),
    };
    let minutes = offset.abs() / 60;
    let zone = match offset {
        0 => "Z".to_owned(),
        offset => format!("{}{:02}:{:02}", if offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60),
    };
    let (year, month, day) = (civil.year(), civil.month(), civil.day());
    let (hour, minute, second) = (civil.hour(), civil.minute(), civil.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{dot}{fraction}{zone}")
}

/// A time on the clocks of a zone: a name of the IANA database or an offset like `-08:00`.
pub(crate) fn in_zone(time: Moment, zone: &str) -> Result<DateTime, String> {
    let Some((hours, minutes)) = zone.split_once(':') else {
        if zone.is_empty() || zone == "UTC" {
            return time.civil(0);
        }
        let found = TimeZone::get(zone).map_err(|_| format!("unknown time zone {zone}"))?;
        let (least, most) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        let at = Timestamp::from_second(time.seconds.clamp(least, most)).map_err(|why| why.to_string())?;
        return time.civil(found.to_offset(at).seconds());
    };
    let number = |text: &str| {
        text.parse::<i32>().map_err(|_| format!("strconv.Atoi: parsing \"{text}\": invalid syntax"))
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let minutes = if zone.starts_with('-') { minutes.saturating_neg() } else { minutes };
    time.civil(hours.saturating_mul(3600).saturating_add(minutes.saturating_mul(60)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [("1h30m", "5400s"), ("-1.5s", "-1.5s"), ("300ms", "0.3s"), ("0", "0s"), (".5s", "0.5s")];
        for (text, shown) in cases {
            assert_eq!(parse_duration(text).map(shown_duration).as_deref(), Some(shown), "{text}");
        }
        for text in ["", "1", "1x", "-", "s", "1h-1m", "99999999999h", "1.s.", "９s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn timestamps() {
        let cases = [
            ("2000-01-01T00:00:00.000Z", "2000-01-01T00:00:00Z"),
            ("2011-10-02T12:30:01.25+02:00", "2011-10-02T12:30:01.25+02:00"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ];
        for (text, shown) in cases {
            assert_eq!(parse_timestamp(text).map(shown_timestamp).as_deref(), Some(shown), "{text}");
        }
        for text in
            ["", "2000-01-01", "2000-13-01T00:00:00Z", "2000-01-01T00:00:00", "9999-12-31T23:59:59-01:00"]
        {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn zones() {
        let time = parse_timestamp("2024-07-01T12:00:00Z").expect("a time");
        for (zone, hour) in
            [("UTC", 12), ("+02:30", 14), ("-08:00", 4), ("Europe/Zurich", 14), ("US/Central", 7)]
        {
            assert_eq!(in_zone(time, zone).map(|civil| civil.hour()), Ok(hour), "{zone}");
        }
        assert!(in_zone(time, "Nowhere/At/All").is_err() && in_zone(time, "a:b").is_err());
    }

    #[test]
    fn doubles() {
        for (value, shown) in
            [(1.5, "1.5"), (1e21, "1e+21"), (1e-5, "1e-05"), (100.0, "100"), (-0.25, "-0.25")]
        {
            assert_eq!(shown_double(value), shown);
        }
    }
}
