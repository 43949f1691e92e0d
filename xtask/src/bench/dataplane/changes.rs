//! When a Service led where, and when it should have: what is made of writes and of what a client saw. Pure.

/// An endpoint was put in the place of another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Write {
    /// When the request was sent, in milliseconds.
    pub(super) begun: f64,
    /// When its answer was there.
    pub(super) answered: f64,
    /// The new endpoint.
    pub(super) backend: u8,
}

/// What came of the writes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Judged {
    /// For each write that was seen: the time from its request to the first connection that met it or a later one.
    pub(super) delays: Vec<f64>,
    /// Writes that no connection met.
    pub(super) unseen: usize,
    /// The longest time that a connection was begun after the answer to the write that took its backend away.
    pub(super) latest_stale: f64,
    /// Connections to none of the backends that were ever written.
    pub(super) strange: usize,
}

/// Judges what a client saw: pairs of the time a connection was begun and the backend it reached, in their order. A backend
/// must not be written again before everybody has forgotten its last time.
pub(super) fn judge(writes: &[Write], seen: &[(f64, u8)]) -> Judged {
    let mut judged = Judged::default();
    // The first write whose effect was not seen yet.
    let mut next = 0;
    for &(at, backend) in seen {
        let before = writes.iter().rposition(|write| write.begun <= at && write.backend == backend);
        let Some(met) = before else {
            judged.strange += usize::from(writes.first().is_some_and(|first| first.answered <= at));
            continue;
        };
        for write in writes.iter().take(met + 1).skip(next) {
            judged.delays.push(at - write.begun);
        }
        next = next.max(met + 1);
        if let Some(end) = writes.get(met + 1) {
            judged.latest_stale = judged.latest_stale.max(at - end.answered);
        }
    }
    judged.unseen = writes.len() - next;
    judged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(begun: f64, backend: u8) -> Write {
        Write { begun, answered: begun + 2.0, backend }
    }

    #[test]
    fn a_delay_ends_with_the_first_connection_that_meets_it() {
        let writes = [write(10.0, 1), write(70.0, 2)];
        let judged = judge(&writes, &[(12.0, 1), (13.0, 1), (71.0, 1), (75.0, 2), (76.0, 2)]);
        assert_eq!(judged, Judged { delays: vec![2.0, 5.0], unseen: 0, latest_stale: 0.0, strange: 0 });
    }

    #[test]
    fn a_write_that_another_overtook_counts_until_that_one_is_met() {
        let writes = [write(10.0, 1), write(70.0, 2), write(130.0, 3)];
        let judged = judge(&writes, &[(12.0, 1), (140.0, 3)]);
        assert_eq!(judged.delays, [2.0, 70.0, 10.0]);
        assert_eq!(judge(&writes, &[(12.0, 1)]).unseen, 2);
    }

    #[test]
    fn a_connection_to_what_was_taken_away_is_late_by_the_time_since_the_answer() {
        let writes = [write(10.0, 1), write(70.0, 2)];
        assert_eq!(judge(&writes, &[(12.0, 1), (672.0, 1), (673.0, 2)]).latest_stale, 600.0);
        // The backend that is written last never goes.
        assert_eq!(judge(&writes, &[(5000.0, 2)]).latest_stale, 0.0);
    }

    #[test]
    fn a_backend_that_comes_back_is_judged_by_its_last_time() {
        let writes = [write(0.0, 1), write(60.0, 2), write(120.0, 1)];
        let judged = judge(&writes, &[(1.0, 1), (61.0, 2), (125.0, 1)]);
        assert_eq!((judged.delays, judged.latest_stale), (vec![1.0, 1.0, 5.0], 0.0));
    }

    #[test]
    fn what_was_there_before_the_first_write_is_no_fault_until_that_is_answered() {
        let judged = judge(&[write(10.0, 1)], &[(5.0, 9), (11.0, 9), (13.0, 9)]);
        assert_eq!((judged.strange, judged.unseen), (1, 1));
    }
}
