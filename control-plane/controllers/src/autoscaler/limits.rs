//! How far and how fast replicas may change: bounds, stabilization windows and policies.

use super::model::{Behavior, Rules, Spec};
use jiff::{SignedDuration, Timestamp};

/// How long a lower recommendation waits where nothing is said (`downscaleStabilisationWindow`).
const DOWN_WINDOW: SignedDuration = SignedDuration::from_mins(5);

/// What was recommended and done before; kept while the controller runs.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// None until the first look.
    recommended: Option<Vec<(Timestamp, i64)>>,
    added: Vec<(Timestamp, i64)>,
    removed: Vec<(Timestamp, i64)>,
}

/// Replicas, and what two conditions say of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) replicas: i64,
    /// Reason and message of AbleToScale.
    pub(super) able: (&'static str, &'static str),
    /// Whether replicas were held back, with reason and message of ScalingLimited.
    pub(super) limited: (bool, &'static str, &'static str),
}

const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const DOWN_STABILIZED: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_STABILIZED: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FAST: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");

fn before(now: Timestamp, window: SignedDuration) -> Timestamp {
    now.checked_sub(window).unwrap_or(Timestamp::MIN)
}

impl History {
    /// Notes what there was at the first look.
    pub(super) fn begin(&mut self, replicas: i64, now: Timestamp) {
        self.recommended.get_or_insert_with(|| vec![(now, replicas)]);
    }

    /// Notes a change that was made.
    pub(super) fn scaled(&mut self, behavior: Option<&Behavior>, from: i64, to: i64, now: Timestamp) {
        let Some(behavior) = behavior else { return };
        let longest = |rules: &Option<Rules>| {
            let all = rules.iter().flat_map(|rules| &rules.policies);
            SignedDuration::from_secs(all.map(|policy| policy.period_seconds).max().unwrap_or(0))
        };
        let (changes, window) = match to > from {
            true => (&mut self.added, longest(&behavior.scale_up)),
            false => (&mut self.removed, longest(&behavior.scale_down)),
        };
        changes.retain(|(at, _)| *at >= before(now, window));
        changes.push((now, (to - from).abs()));
    }

    /// Notes a recommendation and answers those since an instant, the new one left out.
    fn recommend(&mut self, replicas: i64, now: Timestamp, oldest: Timestamp) -> Vec<(Timestamp, i64)> {
        let all = self.recommended.get_or_insert_with(Vec::new);
        all.retain(|(at, _)| *at >= oldest);
        let known = all.clone();
        all.push((now, replicas));
        known
    }

    /// Holds `desired` within what the autoscaler's bounds and behavior allow.
    pub(super) fn limit(&mut self, spec: &Spec, current: i64, desired: i64, now: Timestamp) -> Limited {
        let least = spec.min_replicas.unwrap_or(1);
        let Some(behavior) = &spec.behavior else {
            let known = self.recommend(desired, now, before(now, DOWN_WINDOW));
            let stable = known.into_iter().map(|(_, replicas)| replicas).fold(desired, i64::max);
            let able = if stable == desired { READY } else { DOWN_STABILIZED };
            // No faster than double, so that a wrong metric does not run away.
            let fast = (2 * current).max(4);
            let (most, why) =
                if spec.max_replicas > fast { (fast, TOO_FAST) } else { (spec.max_replicas, TOO_MANY) };
            let (replicas, why) = if stable < least {
                (least, TOO_FEW)
            } else if stable > most {
                (most, why)
            } else {
                (stable, WITHIN)
            };
            return Limited { replicas, able, limited: (replicas != stable, why.0, why.1) };
        };
        let none = Rules::default();
        let (up, down) =
            (behavior.scale_up.as_ref().unwrap_or(&none), behavior.scale_down.as_ref().unwrap_or(&none));
        let stable = self.stabilize(up, down, current, desired, now);
        let able = match (stable == desired, desired >= current) {
            (true, _) => READY,
            (false, true) => UP_STABILIZED,
            (false, false) => DOWN_STABILIZED,
        };
        let (replicas, why) = self.by_rate(spec, (up, down), current, stable, now);
        Limited { replicas, able, limited: (replicas != stable, why.0, why.1) }
    }

    fn stabilize(&mut self, up: &Rules, down: &Rules, current: i64, desired: i64, now: Timestamp) -> i64 {
        let window = |rules: &Rules, usual: SignedDuration| {
            rules.stabilization_window_seconds.map_or(usual, SignedDuration::from_secs)
        };
        let up_from = before(now, window(up, SignedDuration::ZERO));
        let down_from = before(now, window(down, DOWN_WINDOW));
        let known = self.recommend(desired, now, up_from.min(down_from));
        let since =
            |from: Timestamp| known.iter().filter(move |(at, _)| *at > from).map(|(_, replicas)| *replicas);
        let lowest = since(up_from).fold(desired, i64::min);
        let highest = since(down_from).fold(desired, i64::max);
        current.max(lowest).min(highest)
    }

    fn by_rate(
        &self,
        spec: &Spec,
        (up, down): (&Rules, &Rules),
        current: i64,
        desired: i64,
        now: Timestamp,
    ) -> (i64, (&'static str, &'static str)) {
        let least = spec.min_replicas.unwrap_or(1);
        if desired > current {
            let limit = self.up_limit(up, current, now).max(current);
            let (most, why) =
                if spec.max_replicas > limit { (limit, TOO_FAST) } else { (spec.max_replicas, TOO_MANY) };
            if desired > most {
                return (most, why);
            }
        } else if desired < current {
            let limit = self.down_limit(down, current, now).min(current);
            let (fewest, why) = if least < limit { (limit, TOO_FAST_DOWN) } else { (least, TOO_FEW) };
            if desired < fewest {
                return (fewest, why);
            }
        }
        (desired, WITHIN)
    }

    /// The replicas there were at the beginning of a policy's period.
    fn at_start(&self, current: i64, seconds: i64, now: Timestamp) -> i64 {
        let from = before(now, SignedDuration::from_secs(seconds));
        let changed = |changes: &[(Timestamp, i64)]| -> i64 {
            changes.iter().filter(|(at, _)| *at > from).map(|(_, number)| number).sum()
        };
        current - changed(&self.added) + changed(&self.removed)
    }

    fn up_limit(&self, rules: &Rules, current: i64, now: Timestamp) -> i64 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.at_start(current, policy.period_seconds, now);
            match policy.kind.as_str() {
                "Pods" => start + policy.value,
                // Rounded up, since a small number would otherwise never grow.
                _ => (start * (100 + policy.value) + 99).div_euclid(100),
            }
        });
        match rules.select_policy.as_str() {
            "Disabled" => current,
            "Min" => limits.min().unwrap_or(i32::MAX.into()),
            _ => limits.max().unwrap_or(i32::MIN.into()),
        }
    }

    fn down_limit(&self, rules: &Rules, current: i64, now: Timestamp) -> i64 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.at_start(current, policy.period_seconds, now);
            match policy.kind.as_str() {
                "Pods" => start - policy.value,
                _ => start * (100 - policy.value) / 100,
            }
        });
        match rules.select_policy.as_str() {
            "Disabled" => current,
            "Min" => limits.max().unwrap_or(i32::MIN.into()),
            _ => limits.min().unwrap_or(i32::MAX.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn spec(least: i64, most: i64, behavior: Value) -> Spec {
        serde_json::from_value(json!({"minReplicas": least, "maxReplicas": most, "behavior": behavior}))
            .unwrap()
    }

    fn rules(window: i64, select: &str, policies: &[(&str, i64, i64)]) -> Value {
        let policies: Vec<Value> =
            policies.iter().map(|(t, v, p)| json!({"type": t, "value": v, "periodSeconds": p})).collect();
        json!({"stabilizationWindowSeconds": window, "selectPolicy": select, "policies": policies})
    }

    #[test]
    fn bounds_hold_and_say_so() {
        let plain = spec(2, 10, Value::Null);
        let limit = |current, desired| History::default().limit(&plain, current, desired, at(0));
        assert_eq!((limit(4, 6).replicas, limit(4, 6).limited), (6, (false, WITHIN.0, WITHIN.1)));
        assert_eq!((limit(4, 1).replicas, limit(4, 1).limited.1), (2, "TooFewReplicas"));
        assert_eq!((limit(8, 12).replicas, limit(8, 12).limited.1), (10, "TooManyReplicas"));
        assert_eq!((limit(3, 9).replicas, limit(3, 9).limited.1), (6, "ScaleUpLimit"), "no more than double");
        assert_eq!(
            (limit(1, 9).replicas, limit(1, 9).limited.1),
            (4, "ScaleUpLimit"),
            "but four in any case"
        );
    }

    #[test]
    fn going_down_waits_five_minutes() {
        let plain = spec(1, 10, Value::Null);
        let mut history = History::default();
        history.begin(6, at(0));
        let held = history.limit(&plain, 6, 2, at(60));
        assert_eq!((held.replicas, held.able), (6, DOWN_STABILIZED));
        assert_eq!(history.limit(&plain, 6, 3, at(120)).replicas, 6);
        let after = history.limit(&plain, 6, 2, at(301));
        assert_eq!(
            (after.replicas, after.able),
            (3, DOWN_STABILIZED),
            "the highest of the last five minutes"
        );
        assert_eq!(history.limit(&plain, 3, 2, at(421)).replicas, 2);
    }

    #[test]
    fn windows_of_the_behavior_take_their_place() {
        let both = spec(
            1,
            100,
            json!({
                "scaleUp": rules(60, "Max", &[("Percent", 1000, 15)]),
                "scaleDown": rules(30, "Max", &[("Percent", 100, 15)]),
            }),
        );
        let mut history = History::default();
        history.begin(5, at(0));
        let up = history.limit(&both, 5, 9, at(10));
        assert_eq!((up.replicas, up.able), (5, UP_STABILIZED), "five was recommended within a minute");
        let later = history.limit(&both, 5, 8, at(65));
        assert_eq!((later.replicas, later.able), (8, READY), "the lowest of the last minute");
        let down = history.limit(&both, 8, 3, at(80));
        assert_eq!((down.replicas, down.able), (8, DOWN_STABILIZED));
        assert_eq!(history.limit(&both, 8, 4, at(100)).replicas, 4);
    }

    #[test]
    fn policies_limit_the_rate_by_what_happened_in_their_period() {
        let fast = json!({"scaleUp": rules(0, "Max", &[("Pods", 4, 60), ("Percent", 50, 60)])});
        let most = spec(1, 1000, fast.clone());
        let mut history = History::default();
        let first = history.limit(&most, 4, 100, at(0));
        assert_eq!(
            (first.replicas, first.limited.1),
            (8, "ScaleUpLimit"),
            "four pods are more than half of four"
        );
        history.scaled(most.behavior.as_ref(), 4, 8, at(0));
        assert_eq!(history.limit(&most, 8, 100, at(30)).replicas, 8, "the period has had its change");
        assert_eq!(history.limit(&most, 8, 100, at(61)).replicas, 12);
        assert_eq!(History::default().limit(&most, 20, 100, at(0)).replicas, 30, "half of twenty is more");
        let slow =
            spec(1, 1000, json!({"scaleUp": rules(0, "Min", &[("Pods", 4, 60), ("Percent", 50, 60)])}));
        assert_eq!(History::default().limit(&slow, 20, 100, at(0)).replicas, 24);
        let odd = spec(1, 1000, json!({"scaleUp": rules(0, "Max", &[("Percent", 10, 60)])}));
        assert_eq!(History::default().limit(&odd, 1, 100, at(0)).replicas, 2, "rounded up");
    }

    #[test]
    fn going_down_has_its_rate_too_and_may_be_forbidden() {
        let down = |select: &str| {
            let rules = rules(0, select, &[("Pods", 4, 60), ("Percent", 10, 60)]);
            let limited = History::default().limit(&spec(1, 1000, json!({"scaleDown": rules})), 80, 1, at(0));
            (limited.replicas, limited.limited.1)
        };
        assert_eq!(down("Max"), (72, "ScaleDownLimit"));
        assert_eq!(down("Min"), (76, "ScaleDownLimit"));
        assert_eq!(down("Disabled"), (80, "ScaleDownLimit"));
        let up = spec(1, 1000, json!({"scaleUp": rules(0, "Disabled", &[("Pods", 4, 60)])}));
        assert_eq!(History::default().limit(&up, 3, 9, at(0)).replicas, 3);
        // What was added in the period may go again.
        let rules = spec(1, 1000, json!({"scaleDown": rules(0, "Max", &[("Pods", 1, 60)])}));
        let mut history = History::default();
        history.scaled(rules.behavior.as_ref(), 8, 5, at(0));
        assert_eq!(history.limit(&rules, 5, 1, at(10)).replicas, 5, "three went already");
    }
}
