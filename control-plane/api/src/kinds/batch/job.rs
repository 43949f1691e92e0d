//! Jobs.

use super::{spec, status};
use crate::field::FieldError;
use crate::kinds::columns::{age, name, selected, selected_cells};
use crate::kinds::{keep, workload};
use crate::names::dns1123_label;
use crate::resource::{Column, Context, Strategy};
use crate::table::{self, column, human_duration};
use crate::validation::{At, Errors, same, selector};
use serde_json::{Map, Value, json};

const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

/// Jobs.
#[derive(Debug, Default)]
pub struct Job;

impl Strategy for Job {
    fn default(&self, object: &mut Value) {
        workload::default_template(object);
        let labels = object.pointer("/spec/template/metadata/labels").filter(|l| l.is_object()).cloned();
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            spec::default(spec);
        }
        let own = object.pointer("/metadata/labels").and_then(Value::as_object);
        let none = own.is_none_or(Map::is_empty);
        if let (Some(labels), Some(metadata)) = (labels.filter(|_| none), object.get_mut("metadata"))
            && metadata.is_object()
        {
            metadata["labels"] = labels;
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &Context<'_>) {
        if let Some(map) = object.as_object_mut() {
            map.remove("status");
        }
        if !object.pointer("/spec/manualSelector").is_some_and(|v| v == true) {
            generate_selector(object);
        }
        // As a Job is read that says nothing of its labels.
        let labels = object.pointer("/spec/template/metadata/labels").cloned();
        let own = object.pointer("/metadata/labels").and_then(Value::as_object);
        if let (Some(labels), true) = (labels, own.is_none_or(|own| own.is_empty()))
            && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.insert("labels".into(), labels);
        }
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, &["spec"]);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let (metadata, spec) = (root.get("metadata"), root.get("spec"));
        let wanted = spec.get("selector");
        if !spec.get("manualSelector").is_true() && wanted.present() {
            generated_selector(&mut errors, &root);
        }
        spec::validate(&mut errors, &spec);
        if wanted.present() {
            selector::validate(&mut errors, &wanted);
        } else {
            errors.required(&wanted, "");
        }
        let template = spec.get("template");
        let pod = template.get("metadata");
        if selector::misses(&wanted, &selector::labels_of(&pod)) {
            errors.invalid(&pod.get("labels"), "`selector` does not match template `labels`");
        }
        // The hostname of the last pod must be a label, or it could never be made.
        let completions = spec.get("completions").int().unwrap_or(0);
        let own = metadata.get("name");
        if spec.get("completionMode").text() == spec::INDEXED && completions > 0 {
            let host = format!("{}-{}", own.text(), completions - 1);
            if !dns1123_label(&host, false).is_empty() {
                errors.invalid(&own, format!("will not able to create pod with invalid DNS label: {host}"));
            }
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new_root, old_root) = (At::root(new), At::root(old));
        let (spec, before) = (new_root.get("spec"), old_root.get("spec"));
        let completions = spec.get("completions");
        if spec.get("completionMode").text() != spec::INDEXED {
            errors.immutable(&completions, &before.get("completions"));
        } else if completions.present()
            && !same(completions.value(), before.get("completions").value())
            && completions.int() != spec.get("parallelism").int()
        {
            errors.invalid(&completions, "can only be modified in tandem with spec.parallelism");
        }
        errors.immutable(&spec.get("selector"), &before.get("selector"));
        let template = spec.get("template");
        let (was, allowed) = (before.get("template"), allowed_template(new, old));
        let was = was.with_value(allowed.as_ref());
        if is_open(old) {
            // Its metadata may change as it likes.
            errors.immutable(&template.get("spec"), &was.get("spec"));
        } else {
            errors.immutable(&template, &was);
        }
        for field in
            ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
        {
            errors.immutable(&spec.get(field), &before.get(field));
        }
        errors.done()
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        status::validate_update(&mut errors, &At::root(new), &At::root(old));
        errors.done()
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        [workload::name_warnings(new, old), workload::template_warnings(new, old)].concat()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn orphans_dependents(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let [names, images, selector] = selected();
        vec![
            name(),
            column("Status", "string", "Status of the job."),
            column("Completions", "string", "Pods that succeeded, of those wanted."),
            column("Duration", "string", "Time required to complete the job."),
            age(),
            names,
            images,
            selector,
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let (spec, status) = (root.get("spec"), root.get("status"));
        let succeeded = status.get("succeeded").int().unwrap_or(0);
        let parallelism = spec.get("parallelism").int().unwrap_or(0);
        let completions = match spec.get("completions").int() {
            Some(wanted) => format!("{succeeded}/{wanted}"),
            None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
            None => format!("{succeeded}/1"),
        };
        let at = |field: &str| status.get(field).text().parse::<jiff::Timestamp>().ok();
        let duration = at("startTime").map_or(String::new(), |start| {
            human_duration(at("completionTime").unwrap_or(now).as_second() - start.as_second())
        });
        let [names, images, selector] = selected_cells(&spec);
        vec![
            table::name(object),
            state(&root).into(),
            completions.into(),
            duration.into(),
            table::age(object, now),
            names,
            images,
            selector,
        ]
    }
}

fn state(root: &At<'_, '_>) -> &'static str {
    let status = root.get("status");
    let is = |kind: &str| status::condition(&status, kind, "True");
    let deleting = root.get("metadata").get("deletionTimestamp").present();
    let states = [
        ("Complete", is("Complete")),
        ("Failed", is("Failed")),
        ("Terminating", deleting),
        ("Suspended", is("Suspended")),
        ("FailureTarget", is("FailureTarget")),
        ("SuccessCriteriaMet", is("SuccessCriteriaMet")),
    ];
    states.into_iter().find(|(_, is)| *is).map_or("Running", |(state, _)| state)
}

/// Labels that no other Job has, and the selector that finds them. Labels that are there are left to validation.
fn generate_selector(object: &mut Value) {
    let text = |key: &str| object.pointer(&format!("/metadata/{key}")).cloned().unwrap_or_else(|| "".into());
    let (name, uid) = (text("name"), text("uid"));
    let Some(spec) = object.get_mut("spec").filter(|s| s.is_object()) else { return };
    for (parents, labels) in [
        (
            ["template", "metadata", "labels"].as_slice(),
            vec![
                (NAME_LABELS[0], &name),
                (NAME_LABELS[1], &name),
                (UID_LABELS[0], &uid),
                (UID_LABELS[1], &uid),
            ],
        ),
        (&["selector", "matchLabels"], vec![(UID_LABELS[1], &uid)]),
    ] {
        let mut at = &mut *spec;
        for parent in parents {
            if !at[*parent].is_object() {
                at[*parent] = json!({});
            }
            at = &mut at[*parent];
        }
        for (key, value) in labels {
            if at[key].is_null() {
                at[key] = value.clone();
            }
        }
    }
}

fn generated_selector(errors: &mut Errors, root: &At<'_, '_>) {
    let (metadata, spec) = (root.get("metadata"), root.get("spec"));
    let (name, uid) = (metadata.get("name"), metadata.get("uid"));
    if uid.text().is_empty() {
        errors.required(&uid, "");
    }
    let template = spec.get("template");
    let pod = template.get("metadata");
    let labels = pod.get("labels");
    for (key, value) in [
        (UID_LABELS[0], uid.text()),
        (NAME_LABELS[0], name.text()),
        (UID_LABELS[1], uid.text()),
        (NAME_LABELS[1], name.text()),
    ] {
        // A key with a slash cannot be a pointer, so it is looked up as it is.
        let label = labels.key(key);
        if !label.present() {
            errors.required(&label, format!("must be '{value}'"));
        } else if label.text() != value {
            let why = format!("must be '{value}'");
            errors.push(FieldError::invalid(label.path(), labels.json(), why));
        }
    }
    let own =
        NAME_LABELS.iter().map(|k| (*k, name.text())).chain(UID_LABELS.iter().map(|k| (*k, uid.text())));
    let own = own.map(|(key, value)| (key.into(), value.into())).collect();
    let wanted = spec.get("selector");
    if selector::compile(wanted.value()).is_some_and(|s| !s.matches(&own)) {
        errors.invalid(&wanted, "`selector` not auto-generated");
    }
}

/// Whether a Job is suspended and none of its pods runs.
fn is_open(old: &Value) -> bool {
    let root = At::root(old);
    let status = root.get("status");
    root.get("spec").get("suspend").is_true()
        && (!status.get("startTime").present() || status::condition(&status, "Suspended", "True"))
        && status.get("active").int().unwrap_or(0) == 0
}

/// The old template with those changes of the new one that are allowed: where a suspended Job's pods may run, and what
/// they get, as long as none of them runs.
fn allowed_template(new: &Value, old: &Value) -> Option<Value> {
    let mut out = old.pointer("/spec/template")?.clone();
    let Some(new) = new.pointer("/spec/template").filter(|_| is_open(old)) else { return Some(out) };
    let empty = json!({});
    let wanted = new.get("spec").filter(|v| v.is_object()).unwrap_or(&empty);
    let spec = out.get_mut("spec")?;
    keep(spec, wanted, &["nodeSelector", "tolerations", "schedulingGates"]);
    let affinity = wanted.get("affinity").filter(|a| a.is_object());
    if affinity.is_some() && !spec["affinity"].is_object() {
        spec["affinity"] = json!({});
    }
    if spec.get("affinity").is_some_and(Value::is_object) {
        keep(&mut spec["affinity"], affinity.unwrap_or(&empty), &["nodeAffinity"]);
        let bare = spec["affinity"].as_object().is_some_and(Map::is_empty);
        if bare && affinity.is_none() {
            keep(spec, wanted, &["affinity"]);
        }
    }
    for list in ["containers", "initContainers"] {
        let after = wanted.get(list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let before = spec.get_mut(list).and_then(Value::as_array_mut).filter(|b| b.len() == after.len());
        for (before, after) in before.into_iter().flatten().zip(after) {
            if before["name"] == after["name"] {
                keep(before, after, &["resources"]);
            }
        }
    }
    Some(out)
}
