//! Asks for metrics: of pods, of other objects, and of things outside of the cluster.

use super::model::{Metric, Reading, Sample, Samples, Source, milli};
use crate::ManagedResource;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use skep_api::selector::Requirement;
use skep_api::{GroupVersion, GroupVersionKind, LabelSelector, Status};
use skep_client::{Client, Collection, ListOptions};
use std::sync::Arc;

/// The time over which a metric was taken that does not say it.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// The metrics APIs, as one look at an autoscaler sees them.
pub(super) struct Metrics<'a> {
    pub(super) client: &'a dyn Client,
    pub(super) resources: &'a [ManagedResource],
    pub(super) namespace: &'a str,
    /// Which pods the target has, as text.
    pub(super) selector: &'a str,
    /// What the resource metrics API answered, once it was asked.
    pub(super) of_pods: Option<Result<Vec<Value>, String>>,
}

impl Metrics<'_> {
    /// Reads a metric; the error is in upstream's words.
    pub(super) async fn read(&mut self, metric: &Metric) -> Result<Reading, String> {
        let none = Source::default();
        match metric.kind.as_str() {
            "Resource" => {
                let source = metric.resource.as_ref().unwrap_or(&none);
                Ok(Reading::Pods(usage(&self.resource().await?, &source.name, "")))
            }
            "ContainerResource" => {
                let source = metric.container_resource.as_ref().unwrap_or(&none);
                Ok(Reading::Pods(usage(&self.resource().await?, &source.name, &source.container)))
            }
            "Pods" => self.custom(metric.pods.as_ref().unwrap_or(&none), None).await,
            "Object" => {
                let source = metric.object.as_ref().unwrap_or(&none);
                self.custom(source, Some(&source.described_object)).await
            }
            "External" => self.external(metric.external.as_ref().unwrap_or(&none)).await,
            _ => Ok(Reading::Values(Vec::new())),
        }
    }

    async fn resource(&mut self) -> Result<Vec<Value>, String> {
        if self.of_pods.is_none() {
            let pods = Collection::of("metrics.k8s.io", "v1beta1", "pods").within(self.namespace);
            let answer = self.list(pods, self.selector).await;
            let told = |status| {
                format!(
                    "unable to fetch metrics from resource metrics API: {}",
                    absent(&status, "pods.metrics.k8s.io")
                )
            };
            self.of_pods = Some(answer.map_err(told));
        }
        let items = self.of_pods.clone().unwrap_or_else(|| Ok(Vec::new()))?;
        if items.is_empty() { Err("no metrics returned from resource metrics API".into()) } else { Ok(items) }
    }

    /// A metric of the target's pods, or of the object that is described.
    async fn custom(&self, source: &Source, described: Option<&Value>) -> Result<Reading, String> {
        let metric = source.metric_name();
        if source.metric["selector"].is_object() {
            return Err(
                "metrics of objects cannot be chosen by their own labels: leave out metric.selector".into()
            );
        }
        let (resource, selector) = match described {
            None => (format!("pods/*/{metric}"), self.selector),
            Some(object) => {
                let name = object["name"].as_str().unwrap_or_default();
                (format!("{}/{name}/{metric}", self.plural(object)), "")
            }
        };
        let mut metrics = Collection::of("custom.metrics.k8s.io", "v1beta2", "").within(self.namespace);
        metrics.resource = resource.into();
        let items = self.list(metrics, selector).await.map_err(|status| {
            let why = match status.is_not_found() && status.details.as_ref().is_none_or(|d| d.name.is_empty())
            {
                true => "no custom metrics API (custom.metrics.k8s.io) registered".to_owned(),
                false => status.message,
            };
            format!("unable to fetch metrics from custom metrics API: {why}")
        })?;
        match (items.is_empty(), described) {
            (true, _) => Err("no metrics returned from custom metrics API".into()),
            (false, None) => Ok(Reading::Pods(described_samples(&items))),
            (false, Some(_)) => Ok(Reading::Values(values(&items[..1]))),
        }
    }

    async fn external(&self, source: &Source) -> Result<Reading, String> {
        let metric = source.metric_name().to_owned();
        let what = format!("{metric}.external.metrics.k8s.io");
        let mut metrics = Collection::of("external.metrics.k8s.io", "v1beta1", "").within(self.namespace);
        metrics.resource = metric.into();
        let selector = LabelSelector::from_structure(source.metric.get("selector")).unwrap_or_default();
        let items = self.list(metrics, &text(&selector)).await.map_err(|status| {
            format!("unable to fetch metrics from external metrics API: {}", absent(&status, &what))
        })?;
        if items.is_empty() {
            return Err("no metrics returned from external metrics API".into());
        }
        Ok(Reading::Values(values(&items)))
    }

    async fn list(&self, collection: Collection, selector: &str) -> Result<Vec<Value>, Status> {
        let list = self.client.list(&collection, &ListOptions::labels(selector)).await?;
        Ok(list.items.iter().map(|item: &Arc<_>| item.value()).collect())
    }

    /// `services`, `deployments.apps`.
    fn plural(&self, object: &Value) -> String {
        let field = |key: &str| object[key].as_str().unwrap_or_default();
        let version = GroupVersion::parse(field("apiVersion"));
        let gvk = GroupVersionKind::new(version.group.clone(), version.version, field("kind").to_owned());
        let row = self.resources.iter().find(|row| row.kind == gvk);
        let plural = match row {
            Some(row) => row.collection.resource.to_string(),
            None => format!("{}s", field("kind").to_lowercase()),
        };
        if version.group.is_empty() { plural } else { format!("{plural}.{}", version.group) }
    }
}

/// What a server said; where it does not serve the resource at all, which one that was.
fn absent(status: &Status, resource: &str) -> String {
    match status.is_not_found() && status.details.as_ref().is_none_or(|d| d.name.is_empty()) {
        true => format!("the server could not find the requested resource (get {resource})"),
        false => status.message.clone(),
    }
}

/// A selector as a query has it.
fn text(selector: &LabelSelector) -> String {
    let one = |requirement: &Requirement| match requirement {
        Requirement::In(key, values) => format!("{key} in ({})", values.join(",")),
        Requirement::NotIn(key, values) => format!("{key} notin ({})", values.join(",")),
        Requirement::Exists(key) => key.clone(),
        Requirement::DoesNotExist(key) => format!("!{key}"),
        Requirement::GreaterThan(key, than) => format!("{key}>{than}"),
        Requirement::LessThan(key, than) => format!("{key}<{than}"),
    };
    selector.0.iter().map(one).collect::<Vec<_>>().join(",")
}

fn field<'a>(item: &'a Value, key: &str) -> &'a str {
    item[key].as_str().unwrap_or_default()
}

fn values(items: &[Value]) -> Vec<i64> {
    items.iter().map(|item| milli(field(item, "value"))).collect()
}

fn described_samples(items: &[Value]) -> Samples {
    let sample = |item: &Value| {
        let window = item["windowSeconds"].as_i64().map_or(WINDOW, SignedDuration::from_secs);
        let at = field(item, "timestamp").parse().unwrap_or(Timestamp::UNIX_EPOCH);
        (
            field(&item["describedObject"], "name").to_owned(),
            Sample { value: milli(field(item, "value")), at, window },
        )
    };
    items.iter().map(sample).collect()
}

/// What pods use of a resource, or one container of each; pods of which that is not known are left out.
fn usage(items: &[Value], resource: &str, container: &str) -> Samples {
    let of = |item: &Value| {
        let all: Vec<&Value> = item["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|one| container.is_empty() || field(one, "name") == container)
            .collect();
        let used: Option<Vec<i64>> =
            all.iter().map(|one| Some(milli(one["usage"].get(resource)?.as_str()?))).collect();
        let used = used.filter(|used| !used.is_empty())?;
        let window = field(item, "window").parse::<SignedDuration>().unwrap_or(WINDOW);
        let at = field(item, "timestamp").parse().unwrap_or(Timestamp::UNIX_EPOCH);
        let sample = Sample { value: used.into_iter().fold(0, i64::saturating_add), at, window };
        Some((field(&item["metadata"], "name").to_owned(), sample))
    };
    items.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(name: &str, containers: Value) -> Value {
        json!({"metadata": {"name": name}, "timestamp": "2026-05-01T12:00:00Z", "window": "30s", "containers": containers})
    }

    #[test]
    fn usage_of_pods_adds_up_where_all_of_it_is_known() {
        let items = [
            item(
                "a",
                json!([{"name": "x", "usage": {"cpu": "100m"}}, {"name": "y", "usage": {"cpu": "5000u"}}]),
            ),
            item(
                "b",
                json!([{"name": "x", "usage": {"cpu": "1"}}, {"name": "y", "usage": {"memory": "1Mi"}}]),
            ),
            item("c", json!([])),
        ];
        let whole = usage(&items, "cpu", "");
        let sample = whole["a"];
        assert_eq!((whole.len(), sample.value, sample.window.as_secs()), (1, 105, 30));
        assert_eq!(sample.at, "2026-05-01T12:00:00Z".parse().unwrap());
        let one = usage(&items, "cpu", "x");
        assert_eq!((one["a"].value, one["b"].value, one.len()), (100, 1000, 2));
    }

    #[test]
    fn metrics_of_objects_are_read() {
        let items = [
            json!({"describedObject": {"kind": "Pod", "name": "a"}, "value": "12500m", "windowSeconds": 10}),
        ];
        let samples = described_samples(&items);
        assert_eq!((samples["a"].value, samples["a"].window.as_secs()), (12_500, 10));
        assert_eq!(values(&items), [12_500]);
    }

    #[test]
    fn an_api_that_is_not_there_is_named() {
        let status = Status::unknown_path();
        assert_eq!(
            absent(&status, "pods.metrics.k8s.io"),
            "the server could not find the requested resource (get pods.metrics.k8s.io)"
        );
    }
}
