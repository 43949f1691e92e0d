//! Exponential backoff as the kubelet keeps it: an event (a container's end) starts the wait, and a long quiet time
//! forgets it. Source: client-go `flowcontrol.Backoff`, kubelet `MaxContainerBackOff` and `backOffPeriod`.

use jiff::{SignedDuration, Timestamp};

/// First wait.
pub const INITIAL: SignedDuration = SignedDuration::from_secs(10);
/// Longest wait.
pub const MAX: SignedDuration = SignedDuration::from_secs(300);

/// Backoff of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    delay: SignedDuration,
    updated: Timestamp,
}

impl Backoff {
    /// Whether an event at `event` still has to wait at `now`, and until when.
    pub fn waiting_until(this: Option<&Self>, event: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let b = this?;
        if expired(event, b.updated) {
            return None;
        }
        let until = event.checked_add(b.delay).unwrap_or(Timestamp::MAX);
        (now < until).then_some(until)
    }

    /// The entry after one more event at `event`, recorded at `now`.
    pub fn next(this: Option<&Self>, event: Timestamp, now: Timestamp) -> Self {
        let delay = match this {
            Some(b) if !expired(event, b.updated) => {
                b.delay.checked_mul(2).map_or(MAX, |d| if d > MAX { MAX } else { d })
            }
            _ => INITIAL,
        };
        Self { delay, updated: now }
    }

    /// The present wait.
    pub fn delay(&self) -> SignedDuration {
        self.delay
    }
}

/// Ten minutes without an event forget the entry (twice the longest wait).
fn expired(event: Timestamp, updated: Timestamp) -> bool {
    event.duration_since(updated) > SignedDuration::from_secs(2 * 300)
}

/// A wait the way Go prints durations, which messages carry (`10s`, `1m20s`, `5m0s`).
pub fn go_duration(d: SignedDuration) -> String {
    let s = d.as_secs();
    if s < 60 {
        format!("{s}s")
    } else if s < 3600 {
        format!("{}m{}s", s / 60, s % 60)
    } else {
        format!("{}h{}m{}s", s / 3600, s / 60 % 60, s % 60)
    }
}

impl Backoff {
    /// When the wait that began with the entry itself is over.
    pub fn until(&self) -> Option<Timestamp> {
        self.updated.checked_add(self.delay).ok()
    }
}
