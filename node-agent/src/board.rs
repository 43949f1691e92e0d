//! What the agent's tasks say of how they fare, for who asks: what could not be applied and why, and how the tables of Services
//! stand. Holds no clock: those who write say when it is.

use jiff::Timestamp;
use parking_lot::Mutex;
use skep_dataplane::SyncReport;
use skep_observe::{Problem, ProxyFigures};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A change that has waited for so long makes the tables count as late, as kube-proxy has it: twice its period of 30 s.
const LATE: Duration = Duration::from_secs(60);

/// What a problem is about. A subject has what it last was said to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// The tables of Services.
    Services,
    /// Front ends that two claim.
    Conflicts,
    /// The node's own addresses.
    Addresses,
    /// Sweeping the table of connections.
    Connections,
    /// Telling sockets of endpoints that are gone.
    Sockets,
    /// Ports for health checks of Services.
    HealthChecks,
    /// The port that tells of this proxy's own health.
    ProxyHealth,
    /// Routes to pods of other nodes.
    Routes,
}

impl Subject {
    const fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Conflicts => "conflicts",
            Self::Addresses => "addresses",
            Self::Connections => "connections",
            Self::Sockets => "sockets",
            Self::HealthChecks => "health checks",
            Self::ProxyHealth => "proxy health",
            Self::Routes => "routes",
        }
    }
}

/// A synchronization that succeeded.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// When it ended.
    pub(crate) at: Timestamp,
    /// How long it took.
    pub(crate) took: Duration,
    /// What it did.
    pub(crate) report: SyncReport,
}

#[derive(Default)]
struct Inner {
    problems: BTreeMap<Subject, Vec<String>>,
    /// Since when a change has waited.
    pending: Option<Instant>,
    last: Option<Done>,
    figures: ProxyFigures,
}

/// Where all of it is written down.
#[derive(Clone, Default)]
pub(crate) struct Board(Arc<Mutex<Inner>>);

/// Whether the tables follow the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// No change has waited for too long.
    pub(crate) healthy: bool,
    /// When they were last brought up to date; never yet when absent.
    pub(crate) last: Option<Timestamp>,
}

/// Which question about the health was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Healthz,
    Livez,
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

impl Board {
    /// Replaces what is known against a subject; nothing is good.
    pub(crate) fn note(&self, subject: Subject, messages: Vec<String>) {
        let problems = &mut self.0.lock().problems;
        if messages.is_empty() {
            problems.remove(&subject)
        } else {
            problems.insert(subject, messages)
        };
    }

    /// What is wrong.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let inner = self.0.lock();
        let one = |(subject, messages): (&Subject, &Vec<String>)| {
            let subject = subject.name().to_owned();
            messages
                .iter()
                .map(|m| Problem { subject: subject.clone(), message: m.clone() })
                .collect::<Vec<_>>()
        };
        inner.problems.iter().flat_map(one).collect()
    }

    /// The API has changed, and the tables are to follow.
    pub(crate) fn queued(&self, now: Instant, at: Timestamp) {
        let mut inner = self.0.lock();
        inner.pending.get_or_insert(now);
        inner.figures.last_queued = Some(seconds(at));
    }

    /// The tables have followed.
    pub(crate) fn synced(&self, done: Done) {
        let mut inner = self.0.lock();
        inner.pending = None;
        inner.figures.syncs.observe(done.took);
        inner.figures.last_sync = Some(seconds(done.at));
        inner.last = Some(done);
    }

    /// The last time they did.
    pub(crate) fn last(&self) -> Option<Done> {
        self.0.lock().last.clone()
    }

    /// Whether they do.
    pub(crate) fn health(&self, now: Instant) -> Health {
        let inner = self.0.lock();
        // Before the first time they count as on their way.
        let late = inner.last.is_some()
            && inner.pending.is_some_and(|since| now.saturating_duration_since(since) >= LATE);
        Health { healthy: !late, last: inner.last.as_ref().map(|done| done.at) }
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, asked: Asked, healthy: bool) {
        let figures = &mut self.0.lock().figures;
        let counts = match asked {
            Asked::Healthz => &mut figures.healthz,
            Asked::Livez => &mut figures.livez,
        };
        counts[usize::from(!healthy)] += 1;
    }

    /// The figures so far.
    pub(crate) fn figures(&self) -> ProxyFigures {
        self.0.lock().figures.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done() -> Done {
        Done { at: Timestamp::UNIX_EPOCH, took: Duration::from_millis(3), report: SyncReport::default() }
    }

    #[test]
    fn a_subject_has_what_it_last_had() {
        let board = Board::default();
        board.note(Subject::Conflicts, vec!["a".into(), "b".into()]);
        board.note(Subject::Services, vec!["the table is full".into()]);
        let told: Vec<String> = board.problems().into_iter().map(|p| p.subject + ": " + &p.message).collect();
        assert_eq!(told, ["services: the table is full", "conflicts: a", "conflicts: b"]);
        board.note(Subject::Conflicts, vec![]);
        assert_eq!(board.problems().len(), 1);
    }

    #[test]
    fn a_change_that_waits_too_long_is_unhealthy_until_it_is_done() {
        let (board, began) = (Board::default(), Instant::now());
        board.queued(began, Timestamp::UNIX_EPOCH);
        assert!(board.health(began + 2 * LATE).healthy, "it has only just started");
        board.synced(done());
        board.queued(began, Timestamp::UNIX_EPOCH);
        board.queued(began + LATE / 2, Timestamp::UNIX_EPOCH);
        assert!(board.health(began + LATE - Duration::from_millis(1)).healthy);
        let late = Health { healthy: false, last: Some(Timestamp::UNIX_EPOCH) };
        assert_eq!(board.health(began + LATE), late, "the first one counts");
        board.synced(done());
        assert!(board.health(began + 2 * LATE).healthy);
    }
}
