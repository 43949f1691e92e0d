//! Which of the times of a schedule is due (`mostRecentScheduleTime`).

use jiff::{SignedDuration, Timestamp};
use skep_api::kinds::batch::schedule::Schedule;
use std::time::Duration;

/// More missed times than this are told of: a clock may be wrong.
const MANY: i64 = 100;
/// Time that clocks may differ by.
const SLACK: SignedDuration = SignedDuration::from_millis(100);

/// A schedule that is well-formed but has no times.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("time difference between two schedules is less than 1 second")]
pub(super) struct Never;

/// When something was to run since it ran last.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missed {
    /// From when on times count.
    pub(super) since: Timestamp,
    /// The latest of them, if any is due.
    pub(super) latest: Option<Timestamp>,
    /// About how many there were.
    pub(super) count: i64,
}

impl Missed {
    /// Whether there were so many that something may be wrong.
    pub(super) fn too_many(&self) -> bool {
        self.count > MANY
    }
}

/// Finds the latest time that is due: after `last`, and no longer ago than `deadline`.
pub(super) fn missed(
    schedule: &Schedule,
    last: Timestamp,
    deadline: Option<i64>,
    now: Timestamp,
) -> Result<Missed, Never> {
    let earliest = deadline.and_then(|s| now.checked_sub(SignedDuration::from_secs(s)).ok());
    let since = earliest.map_or(last, |earliest| earliest.max(last));
    let first = schedule.next(since).ok_or(Never)?;
    let second = schedule.next(first).ok_or(Never)?;
    if now < first {
        return Ok(Missed { since, latest: None, count: 0 });
    }
    if now < second {
        return Ok(Missed { since, latest: Some(first), count: 0 });
    }
    let apart = second.as_second() - first.as_second();
    if apart < 1 {
        return Err(Never);
    }
    // Not every schedule is even, so this is an estimate. Going back one more keeps it from being too late.
    let count = (now.as_second() - first.as_second()) / apart + 1;
    let near = first.checked_add(SignedDuration::from_secs((count - 2).saturating_mul(apart)));
    let mut latest = None;
    let mut next = near.ok().and_then(|near| schedule.next(near));
    while let Some(time) = next.filter(|time| *time <= now) {
        latest = Some(time);
        next = schedule.next(time);
    }
    Ok(Missed { since, latest, count })
}

/// How long until the schedule is due again (`nextScheduleTimeDuration`).
pub(super) fn until_next(schedule: &Schedule, last: Timestamp, now: Timestamp) -> Option<Duration> {
    let from = match missed(schedule, last, None, now) {
        Ok(Missed { latest: Some(latest), .. }) => latest,
        Ok(Missed { since, count: 0, .. }) => since,
        _ => now,
    };
    let wait = schedule.next(from)?.duration_since(now).checked_add(SLACK)?;
    Some(Duration::try_from(wait).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    fn at(text: &str) -> Timestamp {
        format!("2026-01-05T{text}Z").parse().unwrap()
    }

    fn find(schedule: &str, last: &str, deadline: Option<i64>, now: &str) -> Missed {
        let schedule = Schedule::parse(schedule, &TimeZone::UTC).unwrap();
        missed(&schedule, at(last), deadline, at(now)).unwrap()
    }

    #[test]
    fn the_latest_time_is_due() {
        let none = find("0 * * * *", "10:00:00", None, "10:59:59");
        assert_eq!((none.latest, none.count), (None, 0));
        let one = find("0 * * * *", "10:00:00", None, "11:30:00");
        assert_eq!(one.latest, Some(at("11:00:00")));
        let some = find("*/10 * * * *", "10:00:00", None, "10:35:00");
        assert_eq!((some.latest, some.count, some.too_many()), (Some(at("10:30:00")), 3, false));
        let many = find("* * * * *", "10:00:00", None, "11:45:30");
        assert_eq!((many.latest, many.too_many()), (Some(at("11:45:00")), true));
        // An uneven schedule: the first two times are four hours apart, the last two were before.
        let uneven = find("30 6-16/4 * * 1-5", "00:00:00", None, "15:00:00");
        assert_eq!(uneven.latest, Some(at("14:30:00")));
    }

    #[test]
    fn what_is_too_old_does_not_count() {
        let old = find("0 * * * *", "08:00:00", Some(60), "10:30:00");
        assert_eq!(old.latest, None);
        let fresh = find("0 * * * *", "08:00:00", Some(3600), "10:30:00");
        assert_eq!(fresh.latest, Some(at("10:00:00")));
        let never = Schedule::parse("0 0 31 2 *", &TimeZone::UTC).unwrap();
        assert_eq!(missed(&never, at("00:00:00"), None, at("01:00:00")), Err(Never));
    }

    #[test]
    fn the_next_time_is_waited_for() {
        let schedule = Schedule::parse("0 * * * *", &TimeZone::UTC).unwrap();
        let wait = |last: &str, now: &str| until_next(&schedule, at(last), at(now));
        let slack = Duration::from_millis(100);
        assert_eq!(wait("10:00:00", "10:59:00"), Some(Duration::from_secs(60) + slack));
        // What is due now is started now; this is the time after that.
        assert_eq!(wait("10:00:00", "11:15:00"), Some(Duration::from_secs(45 * 60) + slack));
    }
}
