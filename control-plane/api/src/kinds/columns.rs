//! Columns and cells that many kinds share.

use crate::resource::Column;
use crate::table::{column, wide};
use crate::validation::{At, selector};
use serde_json::Value;

/// The primary column.
pub(super) fn name() -> Column {
    column("Name", "string", "Name must be unique within a namespace.")
}

/// Time since the object was made.
pub(super) fn age() -> Column {
    column("Age", "string", "Time since the object was created.")
}

/// When the object was made, for kinds that upstream shows no age of.
pub(super) fn created_at() -> Column {
    column("Created At", "date", "When the object was created.")
}

/// The name of a class, with `(default)` behind it where one of these annotations says so.
pub(super) fn name_of_class(object: &Value, marks: &[&str]) -> Value {
    let name = crate::table::name(object);
    let annotations = object.pointer("/metadata/annotations");
    let marked = |mark: &&str| annotations.and_then(|a| a.get(mark)).and_then(Value::as_str) == Some("true");
    if marks.iter().any(marked) {
        format!("{} (default)", name.as_str().unwrap_or_default()).into()
    } else {
        name
    }
}

/// Containers and images of a template, wide.
pub(super) fn containers() -> [Column; 2] {
    [
        wide("Containers", "string", "Names of each container in the template."),
        wide("Images", "string", "Images referenced by each container in the template."),
    ]
}

/// The cells of [`containers`].
pub(super) fn container_cells(template: &At<'_, '_>) -> [Value; 2] {
    let spec = template.get("spec");
    let list = spec.get("containers");
    let join = |field: &'static str| -> Value {
        list.items().map(|c| c.get(field).text().to_owned()).collect::<Vec<_>>().join(",").into()
    };
    [join("name"), join("image")]
}

/// [`containers`], and the selector that finds the pods.
pub(super) fn selected() -> [Column; 3] {
    let [names, images] = containers();
    [names, images, wide("Selector", "string", "Labels of the pods.")]
}

/// The cells of [`selected`], of a `spec` with a template and a label selector.
pub(super) fn selected_cells(spec: &At<'_, '_>) -> [Value; 3] {
    let [names, images] = container_cells(&spec.get("template"));
    [names, images, selector::format(spec.get("selector").value()).into()]
}

/// Labels as `a=b,c=d`, keys sorted; `<none>` where there are none.
pub(super) fn label_text(labels: &At<'_, '_>) -> Value {
    let pairs: Vec<String> = labels.entries().map(|(key, value)| format!("{key}={}", value.text())).collect();
    if pairs.is_empty() { "<none>".into() } else { pairs.join(",").into() }
}

/// At most three of a list, then how many more; `<unset>` where there are none.
pub(super) fn some_of(list: &[String]) -> String {
    const SHOWN: usize = 3;
    match list.len() {
        0 => "<unset>".into(),
        n if n > SHOWN => format!("{} + {} more...", list[..SHOWN].join(","), n - SHOWN),
        _ => list.join(","),
    }
}

/// An integer cell, 0 where there is none.
pub(super) fn count(at: &At<'_, '_>) -> Value {
    at.int().unwrap_or(0).into()
}
