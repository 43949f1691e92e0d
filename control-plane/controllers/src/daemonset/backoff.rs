//! How long a node whose daemon pod failed waits for another: twice as long after each failure.

use jiff::Timestamp;
use std::collections::HashMap;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// A set in one generation, on one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) node: String,
}

/// The waits of all places that had failures lately.
#[derive(Debug, Default)]
pub(super) struct Backoff(HashMap<Place, (Duration, Timestamp)>);

fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

impl Backoff {
    /// How long a place has to wait still, if it does.
    pub(super) fn left(&self, place: &Place, now: Timestamp) -> Option<Duration> {
        let (wait, at) = self.0.get(place)?;
        wait.checked_sub(since(*at, now)).filter(|left| !left.is_zero())
    }

    /// Notes a failure. Places without any for long are forgotten.
    pub(super) fn failed(&mut self, place: Place, now: Timestamp) {
        self.0.retain(|_, (_, at)| since(*at, now) <= LONGEST * 2);
        let known = self.0.get(&place).map(|(wait, _)| *wait);
        let wait = known.map_or(FIRST, |wait| (wait * 2).min(LONGEST));
        self.0.insert(place, (wait, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_wait_longer_and_are_forgotten() {
        let place = Place { uid: "u".into(), generation: 1, node: "n".into() };
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.left(&place, at(0)), None);
        backoff.failed(place.clone(), at(0));
        assert_eq!(backoff.left(&place, at(0)), Some(FIRST));
        assert_eq!(backoff.left(&place, at(1)), None);
        backoff.failed(place.clone(), at(1));
        assert_eq!(backoff.left(&place, at(2)), Some(Duration::from_secs(1)));
        for n in 0..20 {
            backoff.failed(place.clone(), at(n));
        }
        assert_eq!(backoff.left(&place, at(19)), Some(LONGEST));
        backoff.failed(place.clone(), at(19 + 2 * 15 * 60 + 1));
        assert_eq!(backoff.left(&place, at(19 + 2 * 15 * 60 + 1)), Some(FIRST));
    }
}
