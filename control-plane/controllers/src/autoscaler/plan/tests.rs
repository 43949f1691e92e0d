use super::*;

fn now() -> Timestamp {
    "2026-05-01T12:00:00Z".parse().unwrap()
}

fn pods(number: usize) -> Vec<Pod> {
    let pod = |n: usize| {
        serde_json::from_value(json!({
            "metadata": {"name": format!("p{n}")},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {"phase": "Running", "startTime": "2026-05-01T11:00:00Z", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-05-01T11:00:10Z"}]},
        }))
    };
    (0..number).map(|n| pod(n).unwrap()).collect()
}

fn spec(metrics: Value) -> Spec {
    serde_json::from_value(json!({"minReplicas": 1, "maxReplicas": 10, "metrics": metrics})).unwrap()
}

fn cpu() -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}})
}

fn queue() -> Value {
    json!({"type": "External", "external": {
        "metric": {"name": "queue", "selector": {"matchLabels": {"a": "b"}}},
        "target": {"type": "AverageValue", "averageValue": "30"}}})
}

fn used(values: &[i64]) -> Result<Reading, String> {
    let sample = |(n, value): (usize, &i64)| {
        let sample = super::super::model::Sample {
            value: *value,
            at: now(),
            window: jiff::SignedDuration::from_secs(30),
        };
        (format!("p{n}"), sample)
    };
    Ok(Reading::Pods(values.iter().enumerate().map(sample).collect()))
}

fn run(
    metrics: Value,
    replicas: i64,
    readings: Vec<Result<Reading, String>>,
) -> (Decision, Value, Vec<String>) {
    let scale: Scale = serde_json::from_value(
        json!({"spec": {"replicas": replicas}, "status": {"replicas": replicas, "selector": "a=b"}}),
    )
    .unwrap();
    let object = json!({});
    let mut status = Status::new(&object, now());
    let all = pods(usize::try_from(replicas).unwrap());
    let spec = spec(metrics);
    let input = Input { namespace: "d", spec: &spec, scale: &scale, readings, pods: &all, now: now() };
    let decision = decide(input, &mut History::default(), &mut status);
    let told = status.told.iter().map(|(_, reason, message)| format!("{reason}: {message}")).collect();
    (decision, status.written(&object).unwrap()["status"].clone(), told)
}

fn condition<'a>(status: &'a Value, kind: &str) -> (&'a str, &'a str, &'a str) {
    let found = status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).unwrap();
    let text = |key: &str| found[key].as_str().unwrap();
    (text("status"), text("reason"), text("message"))
}

#[test]
fn without_metrics_the_conditions_say_so_in_upstreams_words() {
    let absent = "unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)";
    let (decision, status, told) = run(json!([cpu()]), 2, vec![Err(absent.into())]);
    let why = format!("failed to get cpu utilization: unable to get metrics for resource cpu: {absent}");
    assert_eq!(decision.replicas, None);
    assert_eq!(
        decision.error,
        Some(format!(
            "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: {why}"
        ))
    );
    assert_eq!(
        condition(&status, "ScalingActive"),
        (
            "False",
            "FailedGetResourceMetric",
            &*format!("the HPA was unable to compute the replica count: {why}")
        )
    );
    assert_eq!(told, [format!("FailedGetResourceMetric: {why}")]);
    assert_eq!(status["currentMetrics"], json!([{"type": ""}]));
}

#[test]
fn a_metric_decides_and_is_shown() {
    let (decision, status, told) = run(json!([cpu()]), 2, vec![used(&[900, 1100])]);
    assert_eq!(decision.replicas, Some(4));
    assert_eq!(decision.reason, "cpu resource utilization (percentage of request) above target");
    assert_eq!(
        condition(&status, "ScalingActive"),
        (
            "True",
            "ValidMetricFound",
            "the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)"
        )
    );
    assert_eq!(condition(&status, "AbleToScale").1, "ReadyForNewScale");
    assert_eq!(condition(&status, "ScalingLimited").1, "DesiredWithinRange");
    assert_eq!(
        status["currentMetrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 100, "averageValue": "1"}}}])
    );
    assert!(told.is_empty());
    assert_eq!(run(json!([cpu()]), 4, vec![used(&[100; 4])]).0.reason, "All metrics below target");
}

#[test]
fn the_metric_that_asks_for_most_decides() {
    let readings = vec![used(&[500, 500]), Ok(Reading::Values(vec![100_000, 50_000]))];
    let (decision, status, _) = run(json!([cpu(), queue()]), 2, readings);
    assert_eq!(decision.replicas, Some(4), "five, but no more than double");
    let selector =
        "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{},}";
    assert_eq!(decision.reason, format!("external metric queue({selector}) above target"));
    assert_eq!(condition(&status, "ScalingLimited").1, "ScaleUpLimit");
    assert_eq!(status["currentMetrics"][1]["external"]["current"], json!({"averageValue": "75"}));
}

#[test]
fn a_metric_that_fails_keeps_it_from_going_down_but_not_up() {
    let readings = |share: i64| vec![used(&[share, share]), Err("unable to fetch metrics".to_owned())];
    let (up, _, _) = run(json!([cpu(), queue()]), 2, readings(1000));
    assert_eq!(up.replicas, Some(4));
    assert!(up.error.unwrap().starts_with("invalid metrics (1 invalid out of 2)"));
    let (down, status, _) = run(json!([cpu(), queue()]), 2, readings(100));
    assert_eq!(down.replicas, None);
    assert_eq!(condition(&status, "ScalingActive").1, "FailedGetExternalMetric");
}

#[test]
fn bounds_come_before_metrics() {
    let of = |replicas: i64| {
        first(&spec(json!([])), &serde_json::from_value(json!({"spec": {"replicas": replicas}})).unwrap())
    };
    assert_eq!(of(0), First::Disabled);
    assert_eq!(of(12), First::Bound(10, "Current number of replicas above Spec.MaxReplicas"));
    assert_eq!(of(3), First::Metrics);
}

#[test]
fn memory_is_written_in_powers_of_two() {
    assert_eq!(quantity("memory", 64 * 1024 * 1024 * 1000), "64Mi");
    assert_eq!(quantity("memory", 500_000), "500");
    assert_eq!(quantity("cpu", 1500), "1500m");
}
