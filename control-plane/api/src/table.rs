//! What `kubectl get` shows: columns and cells (`metav1.Table`), and ages as kubectl writes them.

use crate::resource::Column;
use serde_json::Value;

/// A column that always shows.
pub fn column(name: &'static str, kind: &'static str, description: &'static str) -> Column {
    let format = if name == "Name" { "name" } else { "" };
    Column {
        name: name.into(),
        kind: kind.into(),
        format: format.into(),
        description: description.into(),
        priority: 0,
    }
}

/// A column that shows with `-o wide` alone.
pub fn wide(name: &'static str, kind: &'static str, description: &'static str) -> Column {
    Column { priority: 1, ..column(name, kind, description) }
}

/// Name and age: what kinds without columns of their own show.
pub fn default_columns() -> Vec<Column> {
    vec![
        column("Name", "string", "Name must be unique within a namespace."),
        column("Age", "date", "Time since the object was created."),
    ]
}

/// The cells of [`default_columns`].
pub fn default_cells(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    vec![name(object), age(object, now)]
}

/// `metadata.name`.
pub fn name(object: &Value) -> Value {
    object.pointer("/metadata/name").cloned().unwrap_or_else(|| "".into())
}

/// Time since creation as kubectl writes it, `<unknown>` where there is none.
pub fn age(object: &Value, now: jiff::Timestamp) -> Value {
    since(object.pointer("/metadata/creationTimestamp").and_then(Value::as_str), now).into()
}

/// Time since an RFC 3339 instant.
pub fn since(at: Option<&str>, now: jiff::Timestamp) -> String {
    match at.and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
        Some(at) => human_duration(now.as_second() - at.as_second()),
        None => "<unknown>".into(),
    }
}

/// `k8s.io/apimachinery/pkg/util/duration.HumanDuration`: at most two units, the smaller ones as ages grow.
pub fn human_duration(seconds: i64) -> String {
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        i64::MIN..=-2 => "<invalid>".into(),
        -1 => "0s".into(),
        0..=119 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2920 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectls() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }
}
