//! What an autoscaler does, and what it says about it.

use super::calculate::{Answer, Present, Tolerances, by_average, by_part, by_share, by_value, sum};
use super::limits::History;
use super::model::{Metric, Pod, Reading, Scale, Source, Spec, milli};
use super::status::Status;
use jiff::Timestamp;
use serde_json::{Value, json};
use skep_api::quantity::{Quantity, QuantityFormat};

/// A tenth more or less is nothing to act on (`horizontal-pod-autoscaler-tolerance`).
const TOLERANCE: f64 = 0.1;

/// What follows from the numbers alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Somebody has turned the target off.
    Disabled,
    /// It is out of its bounds.
    Bound(i64, &'static str),
    /// Metrics decide.
    Metrics,
}

/// Looks whether metrics are needed.
pub(super) fn first(spec: &Spec, scale: &Scale) -> First {
    let (current, least) = (scale.spec.replicas, spec.min_replicas.unwrap_or(1));
    if current == 0 {
        First::Disabled
    } else if current > spec.max_replicas {
        First::Bound(spec.max_replicas, "Current number of replicas above Spec.MaxReplicas")
    } else if current < least {
        First::Bound(least, "Current number of replicas below Spec.MinReplicas")
    } else {
        First::Metrics
    }
}

/// What metrics lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// How many replicas there shall be; none where that cannot be said.
    pub(super) replicas: Option<i64>,
    /// Why there shall be others than there are.
    pub(super) reason: String,
    /// What went wrong, also where some metrics were good.
    pub(super) error: Option<String>,
}

/// All that the decision depends on.
pub(super) struct Input<'a> {
    pub(super) namespace: &'a str,
    pub(super) spec: &'a Spec,
    pub(super) scale: &'a Scale,
    /// One for each metric of the spec.
    pub(super) readings: Vec<Result<Reading, String>>,
    pub(super) pods: &'a [Pod],
    pub(super) now: Timestamp,
}

struct Proposal {
    replicas: i64,
    name: String,
    status: Value,
}

/// Why a metric is of no use.
struct Useless {
    reason: &'static str,
    /// What the condition and the event say.
    message: String,
    /// What the error says.
    error: String,
}

/// Decides by metrics.
pub(super) fn decide(input: Input<'_>, history: &mut History, status: &mut Status) -> Decision {
    let spec = input.spec;
    let current = input.scale.spec.replicas;
    let present = Present {
        wanted: current,
        there: input.scale.status.replicas,
        pods: input.pods,
        now: input.now,
        tolerances: tolerances(spec),
    };
    let (mut best, mut metrics, mut bad) = (None::<Proposal>, Vec::new(), Vec::new());
    for (metric, reading) in spec.metrics.iter().zip(input.readings) {
        match propose(input.namespace, metric, reading, present) {
            Ok(proposal) => {
                metrics.push(proposal.status.clone());
                if best.as_ref().is_none_or(|b| b.replicas == 0 || proposal.replicas > b.replicas) {
                    best = Some(proposal);
                }
            }
            Err(useless) => {
                metrics.push(json!({"type": ""}));
                status.warn(useless.reason, &useless.message);
                bad.push(useless);
            }
        }
    }
    status.metrics(metrics);
    let error = bad.first().map(|first| {
        let all = spec.metrics.len();
        format!("invalid metrics ({} invalid out of {all}), first error is: {}", bad.len(), first.error)
    });
    let Some(best) = best.filter(|best| bad.is_empty() || best.replicas >= current) else {
        if let Some(first) = bad.first() {
            let message = format!("the HPA was unable to compute the replica count: {}", first.message);
            status.condition("ScalingActive", false, first.reason, &message);
        }
        return Decision { replicas: None, reason: String::new(), error };
    };
    let name = &best.name;
    let message = format!("the HPA was able to successfully calculate a replica count from {name}");
    status.condition("ScalingActive", true, "ValidMetricFound", &message);
    let reason = match best.replicas {
        more if more > current => format!("{name} above target"),
        less if less < current => "All metrics below target".to_owned(),
        _ => String::new(),
    };
    let limited = history.limit(spec, current, best.replicas, input.now);
    status.condition("AbleToScale", true, limited.able.0, limited.able.1);
    status.condition("ScalingLimited", limited.limited.0, limited.limited.1, limited.limited.2);
    Decision { replicas: Some(limited.replicas), reason, error }
}

fn tolerances(spec: &Spec) -> Tolerances {
    let of = |rules: Option<&super::model::Rules>| {
        let said = rules.and_then(|rules| rules.tolerance.as_deref());
        said.and_then(|text| Quantity::parse(text).ok()).map_or(TOLERANCE, |quantity| quantity.as_f64())
    };
    let behavior = spec.behavior.as_ref();
    Tolerances {
        down: of(behavior.and_then(|b| b.scale_down.as_ref())),
        up: of(behavior.and_then(|b| b.scale_up.as_ref())),
    }
}

fn propose(
    namespace: &str,
    metric: &Metric,
    reading: Result<Reading, String>,
    present: Present<'_>,
) -> Result<Proposal, Useless> {
    let source = |source: &Option<Source>| source.clone().unwrap_or_default();
    match metric.kind.as_str() {
        "Resource" => resource(source(&metric.resource), reading, present, false),
        "ContainerResource" => resource(source(&metric.container_resource), reading, present, true),
        "Pods" => pods(&source(&metric.pods), reading, present),
        "Object" => object(namespace, &source(&metric.object), reading, present),
        "External" => external(namespace, &source(&metric.external), reading, present),
        other => {
            let error = format!("unknown metric source type {other:?}");
            Err(Useless { reason: "InvalidMetricSourceType", message: error.clone(), error })
        }
    }
}

fn samples(reading: Reading) -> super::model::Samples {
    match reading {
        Reading::Pods(samples) => samples,
        Reading::Values(_) => super::model::Samples::new(),
    }
}

fn resource(
    source: Source,
    reading: Result<Reading, String>,
    present: Present<'_>,
    container: bool,
) -> Result<Proposal, Useless> {
    let name = &source.name;
    let (reason, kind, key) = match container {
        false => ("FailedGetResourceMetric", "Resource", "resource"),
        true => ("FailedGetContainerResourceMetric", "ContainerResource", "containerResource"),
    };
    let useless = |message: String| {
        let error = match container {
            false => format!("failed to get {name} resource metric value: {message}"),
            true => format!("failed to get {} container metric value: {message}", source.container),
        };
        Useless { reason, message, error }
    };
    let (answer, told, current) = if let Some(target) = &source.target.average_value {
        let answer = reading
            .and_then(|reading| by_average(present, milli(target), name, samples(reading)))
            .map_err(|error| useless(format!("failed to get {name} usage: {error}")))?;
        (answer, format!("{name} resource"), json!({"averageValue": quantity(name, answer.usage)}))
    } else if let Some(target) = source.target.average_utilization {
        let answer = reading
            .map_err(|error| format!("unable to get metrics for resource {name}: {error}"))
            .and_then(|reading| by_share(present, target, name, &source.container, samples(reading)))
            .map_err(|error| useless(format!("failed to get {name} utilization: {error}")))?;
        let of = if container { "container resource" } else { "resource" };
        let current =
            json!({"averageUtilization": answer.share, "averageValue": quantity(name, answer.usage)});
        (answer, format!("{name} {of} utilization (percentage of request)"), current)
    } else {
        return Err(useless(
            "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set"
                .into(),
        ));
    };
    let mut status = json!({"name": name, "current": current});
    if container {
        status["container"] = source.container.as_str().into();
    }
    Ok(Proposal { replicas: answer.replicas, name: told, status: json!({"type": kind, key: status}) })
}

fn pods(
    source: &Source,
    reading: Result<Reading, String>,
    present: Present<'_>,
) -> Result<Proposal, Useless> {
    let name = source.metric_name();
    let target = milli(source.target.average_value.as_deref().unwrap_or_default());
    let answer = reading
        .map_err(|error| format!("unable to get metric {name}: {error}"))
        .and_then(|reading| by_average(present, target, "", samples(reading)))
        .map_err(|message| {
            let error = format!("failed to get pods metric value: {message}");
            Useless { reason: "FailedGetPodsMetric", message, error }
        })?;
    Ok(value_proposal("Pods", "pods", source, answer, "averageValue", format!("pods metric {name}")))
}

fn object(
    namespace: &str,
    source: &Source,
    reading: Result<Reading, String>,
    present: Present<'_>,
) -> Result<Proposal, Useless> {
    let name = source.metric_name();
    let described = |key: &str| source.described_object[key].as_str().unwrap_or_default();
    let useless = |message: String, error: String| Useless {
        reason: "FailedGetObjectMetric",
        error: format!("failed to get object metric value: {error}"),
        message,
    };
    let usage = reading.map(|reading| sum(&reading)).map_err(|error| {
        let at = format!("{} {namespace}/{}", described("kind"), described("name"));
        format!("unable to get metric {name}: {error} on {at}")
    });
    if let Some(target) = &source.target.value {
        let answer = usage
            .and_then(|usage| by_value(present, milli(target), usage))
            .map_err(|error| useless(error.clone(), error))?;
        let told = format!("{} metric {name}", described("kind"));
        return Ok(value_proposal("Object", "object", source, answer, "value", told));
    }
    if let Some(target) = &source.target.average_value {
        let usage = usage.map_err(|error| {
            useless(error.clone(), format!("failed to get {name} object metric: {error}"))
        })?;
        let answer = by_part(present, milli(target), usage);
        let told = format!("external metric {name}({})", selector(&source.metric["selector"]));
        return Ok(value_proposal("Object", "object", source, answer, "averageValue", told));
    }
    let error = "invalid object metric source: neither a value target nor an average value target was set";
    Err(useless(error.into(), error.into()))
}

fn external(
    namespace: &str,
    source: &Source,
    reading: Result<Reading, String>,
    present: Present<'_>,
) -> Result<Proposal, Useless> {
    let name = source.metric_name();
    let selector = selector(&source.metric["selector"]);
    let useless = |message: String, error: String| Useless {
        reason: "FailedGetExternalMetric",
        error: format!("failed to get {name} external metric value: {error}"),
        message,
    };
    let usage = reading
        .map(|reading| sum(&reading))
        .map_err(|error| format!("unable to get external metric {namespace}/{name}/{selector}: {error}"));
    let told = format!("external metric {name}({selector})");
    if let Some(target) = &source.target.average_value {
        let usage = usage.map_err(|error| {
            useless(error.clone(), format!("failed to get {name} external metric: {error}"))
        })?;
        let answer = by_part(present, milli(target), usage);
        return Ok(value_proposal("External", "external", source, answer, "averageValue", told));
    }
    if let Some(target) = &source.target.value {
        let answer = usage.and_then(|usage| by_value(present, milli(target), usage)).map_err(|error| {
            useless(error.clone(), format!("failed to get external metric {name}: {error}"))
        })?;
        return Ok(value_proposal("External", "external", source, answer, "value", told));
    }
    let error = "invalid external metric source: neither a value target nor an average value target was set";
    Err(useless(error.into(), error.into()))
}

fn value_proposal(
    kind: &str,
    key: &str,
    source: &Source,
    answer: Answer,
    form: &str,
    name: String,
) -> Proposal {
    let mut status =
        json!({"metric": source.metric, "current": {form: Quantity::from_milli(answer.usage).to_string()}});
    if !source.described_object.is_null() {
        status["describedObject"] = source.described_object.clone();
    }
    Proposal { replicas: answer.replicas, name, status: json!({"type": kind, key: status}) }
}

/// An amount of a resource as metrics servers write it: memory in powers of two.
fn quantity(resource: &str, milli: i64) -> String {
    let whole = milli / 1000 + i64::from(milli % 1000 > 0);
    if resource == "memory" && whole >= 1024 {
        Quantity::new(whole, QuantityFormat::BinarySi).to_string()
    } else {
        Quantity::from_milli(milli).to_string()
    }
}

/// A selector as upstream prints it in messages.
fn selector(value: &Value) -> String {
    let Some(value) = value.as_object() else { return "nil".into() };
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let labels = value.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    let labels: String = labels.map(|(key, value)| format!("{key}: {},", text(value))).collect();
    let rows = value.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
    let rows: String = rows
        .map(|row| {
            let values =
                row["values"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(" ");
            let (key, operator) = (text(&row["key"]), text(&row["operator"]));
            format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{rows}}},}}"
    )
}

#[cfg(test)]
mod tests;
