//! The metrics of an autoscaler in a cell.

use crate::validation::At;
use serde_json::Value;

/// So many are shown.
const SHOWN: usize = 2;

fn amount(at: &At<'_, '_>) -> Option<String> {
    match at.value()? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// What each metric is and should be; `<none>` without metrics.
pub(super) fn metrics(specs: &At<'_, '_>, statuses: &At<'_, '_>) -> String {
    let mut statuses = statuses.items();
    let told: Vec<String> = specs.items().map(|spec| metric(&spec, statuses.next().as_ref())).collect();
    match told.len() {
        0 => "<none>".to_owned(),
        count if count > SHOWN => {
            format!("{} + {} more...", told.get(..SHOWN).unwrap_or_default().join(", "), count - SHOWN)
        }
        _ => told.join(", "),
    }
}

fn metric(spec: &At<'_, '_>, status: Option<&At<'_, '_>>) -> String {
    let name = match spec.get("type").text() {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let source = spec.get(name);
    let target = source.get("target");
    let found = |key: &str| -> Option<String> {
        let status = status?.get(name);
        let current = status.get("current");
        amount(&current.get(key))
    };
    let unknown = |text: Option<String>| text.unwrap_or_else(|| "<unknown>".to_owned());
    let average = amount(&target.get("averageValue"));
    match (name, average) {
        ("resource" | "containerResource", average) => {
            let of = source.get("name").text();
            match average {
                Some(average) => format!("{of}: {}/{average}", unknown(found("averageValue"))),
                None => {
                    let share = amount(&target.get("averageUtilization")).map(|n| format!("{n}%"));
                    let now = found("averageUtilization").map(|n| format!("{n}%"));
                    format!("{of}: {}/{}", unknown(now), share.unwrap_or_else(|| "<auto>".to_owned()))
                }
            }
        }
        ("pods", average) => format!("{}/{}", unknown(found("averageValue")), average.unwrap_or_default()),
        (_, Some(average)) => format!("{}/{average} (avg)", unknown(found("averageValue"))),
        (_, None) => {
            format!("{}/{}", unknown(found("value")), amount(&target.get("value")).unwrap_or_default())
        }
    }
}
