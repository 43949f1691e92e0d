//! The counting side of a probe: thresholds, runs, and when to stop. Source: kubelet `prober/worker.go`.

use super::observed::Outcome;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Probe;

/// Which of a container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Decides whether the container takes traffic.
    Readiness,
    /// Decides whether it has to be restarted.
    Liveness,
    /// Holds the other two back until it succeeds.
    Startup,
}

impl Kind {
    /// The word events use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
            Self::Startup => "Startup",
        }
    }
}

/// Timing and thresholds of a probe, with the API's defaults where it left any out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Wait after the container's start.
    pub initial_delay: SignedDuration,
    /// Time between two probes.
    pub period: SignedDuration,
    /// A probe that takes longer has failed.
    pub timeout: SignedDuration,
    /// Successes in a row that settle success.
    pub success: u32,
    /// Failures in a row that settle failure.
    pub failure: u32,
}

impl Timing {
    /// Reads a probe's timing.
    pub fn of(p: &Probe) -> Self {
        let secs =
            |v: Option<i32>, d: i32| SignedDuration::from_secs(i64::from(v.filter(|v| *v > 0).unwrap_or(d)));
        let count =
            |v: Option<i32>, d: u32| v.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(d);
        Self {
            initial_delay: secs(p.initial_delay_seconds, 0),
            period: secs(p.period_seconds, 10),
            timeout: secs(p.timeout_seconds, 1),
            success: count(p.success_threshold, 1),
            failure: count(p.failure_threshold, 3),
        }
    }
}

/// Runs of equal results of one probe on one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counter {
    last: Option<Outcome>,
    run: u32,
    held: bool,
}

/// Whether a probe is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Probe now.
    Now,
    /// Not at this tick.
    NotYet,
    /// Not again for this container.
    Held,
}

impl Counter {
    /// Whether to probe at this tick. `started` says whether the startup probe has passed (or there is none).
    pub fn due(
        &self,
        kind: Kind,
        t: &Timing,
        started: bool,
        deleting: bool,
        container_started: Timestamp,
        now: Timestamp,
    ) -> Due {
        if self.held || (deleting && kind != Kind::Readiness) {
            return Due::Held;
        }
        if now.duration_since(container_started) < t.initial_delay {
            return Due::NotYet;
        }
        if started == (kind == Kind::Startup) {
            return Due::NotYet;
        }
        Due::Now
    }

    /// Counts one result; answers the settled one when its threshold is reached.
    pub fn count(&mut self, kind: Kind, t: &Timing, result: Outcome) -> Option<Outcome> {
        if self.last == Some(result) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(result);
            self.run = 1;
        }
        let needed = if result == Outcome::Success { t.success } else { t.failure };
        if self.run < needed {
            return None;
        }
        if kind == Kind::Startup || (kind == Kind::Liveness && result == Outcome::Failure) {
            self.held = true;
            self.run = 0;
        }
        Some(result)
    }
}
