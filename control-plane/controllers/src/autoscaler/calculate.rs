//! How many replicas a metric asks for: upstream's documented algorithm, without a clock and without asking anybody.

use super::model::{Pod, Reading, Sample, Samples};
use jiff::{SignedDuration, Timestamp};
use skep_api::quantity::Quantity;
use std::collections::{BTreeMap, BTreeSet};

/// How long after its start a pod's processor time may be that of its start (`cpuInitializationPeriod`).
const STARTING: SignedDuration = SignedDuration::from_mins(5);
/// A pod that became unready this soon after its start was never ready (`delayOfInitialReadinessStatus`).
const FIRST_READY: SignedDuration = SignedDuration::from_secs(30);
const CPU: &str = "cpu";

/// How far from what is wanted a metric may be without anything being done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerances {
    pub(super) down: f64,
    pub(super) up: f64,
}

impl Tolerances {
    fn within(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// What is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present<'a> {
    /// The replicas that are wanted now.
    pub(super) wanted: i64,
    /// The replicas that the target says there are.
    pub(super) there: i64,
    pub(super) pods: &'a [Pod],
    pub(super) now: Timestamp,
    pub(super) tolerances: Tolerances,
}

/// What a metric asks for, and what it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) replicas: i64,
    /// The average of pods or the value, in thousandths.
    pub(super) usage: i64,
    /// Per cent of what pods asked for, where the target is such a share.
    pub(super) share: i64,
}

/// Replicas by a resource as a share of what pods ask for.
pub(super) fn by_share(
    present: Present<'_>,
    target: i64,
    resource: &str,
    container: &str,
    samples: Samples,
) -> Result<Answer, String> {
    let groups = Groups::of(present, samples, resource)?;
    let requests = requests(present.pods, container, resource)?;
    let ratio = |samples: &Samples| share_ratio(samples, &requests, target);
    let missing = |name: &str, down: bool| match down {
        // Going down, a pod without a metric counts as one that uses all it asked for, or what is wanted where that is more.
        true => requests.get(name).copied().unwrap_or(0) * target.max(100) / 100,
        false => 0,
    };
    groups.decide(present, ratio, missing)
}

/// Replicas by an average over pods. `resource` is empty where it is no resource.
pub(super) fn by_average(
    present: Present<'_>,
    target: i64,
    resource: &str,
    samples: Samples,
) -> Result<Answer, String> {
    let groups = Groups::of(present, samples, resource)?;
    let ratio = |samples: &Samples| {
        let total: i64 = samples.values().map(|sample| sample.value).sum();
        let usage = total / i64::try_from(samples.len().max(1)).unwrap_or(1);
        Ok((usage as f64 / target as f64, Answer { usage, ..Answer::default() }))
    };
    groups.decide(present, ratio, |_, down| if down { target } else { 0 })
}

/// Replicas by one value for all pods together.
pub(super) fn by_value(present: Present<'_>, target: i64, usage: i64) -> Result<Answer, String> {
    let ratio = usage as f64 / target as f64;
    let replicas = if present.wanted == 0 {
        ceil(ratio)
    } else if present.tolerances.within(ratio) {
        present.wanted
    } else {
        if present.pods.is_empty() {
            return Err("unable to calculate ready pods: no pods returned by selector while calculating replica count".into());
        }
        let ready = present.pods.iter().filter(|pod| pod.status.phase == "Running" && pod.is_ready()).count();
        ceil(ratio * ready as f64)
    };
    Ok(Answer { replicas, usage, share: 0 })
}

/// Replicas by a value of which each pod takes a part.
pub(super) fn by_part(present: Present<'_>, target: i64, usage: i64) -> Answer {
    let there = present.there as f64;
    let ratio = usage as f64 / (target as f64 * there);
    let replicas =
        if present.tolerances.within(ratio) { present.there } else { ceil(usage as f64 / target as f64) };
    Answer { replicas, usage: (usage as f64 / there).ceil() as i64, share: 0 }
}

/// The sum of values, held at the largest there is.
pub(super) fn sum(reading: &Reading) -> i64 {
    match reading {
        Reading::Values(values) => values.iter().fold(0, |sum: i64, value| sum.saturating_add(*value)),
        Reading::Pods(samples) => samples.values().fold(0, |sum: i64, s| sum.saturating_add(s.value)),
    }
}

/// Rounded up, and no more than the API can say.
fn ceil(number: f64) -> i64 {
    (number.ceil() as i64).clamp(0, i32::MAX.into())
}

/// Pods by what their metrics are worth.
struct Groups {
    /// Of pods that count.
    samples: Samples,
    ready: i64,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
}

impl Groups {
    fn of(present: Present<'_>, mut samples: Samples, resource: &str) -> Result<Self, String> {
        if present.pods.is_empty() {
            return Err("no pods returned by selector while calculating replica count".into());
        }
        let (mut ready, mut unready, mut missing) = (0, BTreeSet::new(), BTreeSet::new());
        for pod in present.pods {
            let name = pod.metadata.name.to_string();
            if pod.metadata.deleting() || pod.status.phase == "Failed" {
                samples.remove(&name);
            } else if pod.status.phase == "Pending" {
                unready.insert(name);
            } else {
                match samples.get(&name) {
                    None => {
                        missing.insert(name);
                    }
                    Some(sample) if resource == CPU && starting(pod, sample, present.now) => {
                        unready.insert(name);
                    }
                    Some(_) => ready += 1,
                }
            }
        }
        samples.retain(|name, _| !unready.contains(name));
        if samples.is_empty() {
            return Err("did not receive metrics for targeted pods (pods might be unready)".into());
        }
        Ok(Groups { samples, ready, unready, missing })
    }

    /// `ratio` says how far samples are from what is wanted; `missing` what a pod without one counts as, going down or not.
    fn decide(
        mut self,
        present: Present<'_>,
        ratio: impl Fn(&Samples) -> Result<(f64, Answer), String>,
        missing: impl Fn(&str, bool) -> i64,
    ) -> Result<Answer, String> {
        let (first, answer) = ratio(&self.samples)?;
        let stays = Answer { replicas: present.wanted, ..answer };
        let up_with_unready = !self.unready.is_empty() && first > 1.0;
        if !up_with_unready && self.missing.is_empty() {
            let replicas = if present.tolerances.within(first) {
                present.wanted
            } else {
                ceil(first * self.ready as f64)
            };
            return Ok(Answer { replicas, ..answer });
        }
        let sample = |value: i64| Sample { value, at: present.now, window: SignedDuration::ZERO };
        // Of pods that nothing is known of, the best is assumed: they would end the change, not further it.
        let down = first < 1.0;
        if down || first > 1.0 {
            for name in &self.missing {
                self.samples.insert(name.clone(), sample(missing(name, down)));
            }
        }
        if up_with_unready {
            for name in &self.unready {
                self.samples.insert(name.clone(), sample(0));
            }
        }
        let (second, _) = ratio(&self.samples)?;
        let turned = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
        if present.tolerances.within(second) || turned {
            return Ok(stays);
        }
        let replicas = ceil(second * self.samples.len() as f64);
        let against =
            (second < 1.0 && replicas > present.wanted) || (second > 1.0 && replicas < present.wanted);
        Ok(if against { stays } else { Answer { replicas, ..answer } })
    }
}

/// Whether the processor time of a pod may still be that of its start.
fn starting(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let Some((condition, start)) = pod.ready_condition().zip(pod.status.start_time) else { return true };
    let unready = condition.status == "False";
    let changed = condition.last_transition_time.unwrap_or(Timestamp::UNIX_EPOCH);
    if start.saturating_add(STARTING).is_ok_and(|until| until > now) {
        unready || changed.saturating_add(sample.window).is_ok_and(|from| sample.at < from)
    } else {
        unready && start.saturating_add(FIRST_READY).is_ok_and(|until| until > changed)
    }
}

fn share_ratio(
    samples: &Samples,
    requests: &BTreeMap<String, i64>,
    target: i64,
) -> Result<(f64, Answer), String> {
    let known = samples.iter().filter_map(|(name, sample)| Some((sample.value, *requests.get(name)?)));
    let (mut used, mut asked, mut number) = (0i64, 0i64, 0i64);
    for (value, request) in known {
        used = used.saturating_add(value);
        asked = asked.saturating_add(request);
        number += 1;
    }
    if asked == 0 {
        return Err("no metrics returned matched known pods".into());
    }
    let share = used.saturating_mul(100) / asked;
    Ok((share as f64 / target as f64, Answer { replicas: 0, usage: used / number.max(1), share }))
}

/// What each pod asks for, in thousandths.
fn requests(pods: &[Pod], container: &str, resource: &str) -> Result<BTreeMap<String, i64>, String> {
    let amount = |map: &BTreeMap<String, String>| {
        map.get(resource).map(|text| Quantity::parse(text).unwrap_or_default().milli_value())
    };
    let of = |pod: &Pod| -> Result<i64, String> {
        let name = &pod.metadata.name;
        let whole = &pod.spec.resources.requests;
        if container.is_empty() && !whole.is_empty() {
            // A pod that asks as a whole asks for nothing that only its containers name.
            return amount(whole)
                .ok_or_else(|| format!("missing pod-level request for {resource} in Pod {name}"));
        }
        let mut sum = 0i64;
        for one in pod.long_running().filter(|one| container.is_empty() || one.name == container) {
            let asked = amount(&one.resources.requests).ok_or_else(|| {
                format!("missing request for {resource} in container {} of Pod {name}", one.name)
            })?;
            if !container.is_empty() {
                return Ok(asked);
            }
            sum = sum.saturating_add(asked);
        }
        if container.is_empty() {
            Ok(sum)
        } else {
            Err(format!("container {container} not found in Pod {name}"))
        }
    };
    pods.iter().map(|pod| Ok((pod.metadata.name.to_string(), of(pod)?))).collect()
}

#[cfg(test)]
mod tests;
