//! CronJobs.

use super::schedule::{Schedule, time_zone};
use super::spec;
use crate::field::FieldError;
use crate::kinds::columns::{age, name, selected, selected_cells};
use crate::kinds::{pod, workload};
use crate::resource::{Column, Strategy};
use crate::table::{self, column, human_duration};
use crate::validation::{At, Errors, same};
use jiff::tz::TimeZone;
use serde_json::Value;

/// A Job's name is the CronJob's with ten digits and a hyphen, and may be a label.
const NAME_MAX: usize = 63 - 11;
const POLICIES: &[&str] = &["Allow", "Forbid", "Replace"];
/// Longest part of a time zone's name.
const ZONE_PART_MAX: usize = 14;

/// CronJobs.
#[derive(Debug, Default)]
pub struct CronJob;

impl Strategy for CronJob {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = object.pointer_mut("/spec/jobTemplate/spec/template/spec") {
            pod::default_spec(spec);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        let schedule = spec.get("schedule");
        if schedule.text().is_empty() {
            errors.required(&schedule, "");
        } else if let Err(why) = Schedule::parse(schedule.text(), &TimeZone::UTC) {
            errors.invalid(&schedule, why.to_string());
        }
        for field in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
            errors.not_negative(&spec.get(field));
        }
        errors.one_of(&spec.get("concurrencyPolicy"), POLICIES);
        let template = spec.get("jobTemplate");
        let job = template.get("spec");
        spec::validate(&mut errors, &job);
        let selector = job.get("selector");
        if selector.present() {
            errors.invalid(&selector, "`selector` will be auto-generated");
        }
        let manual = job.get("manualSelector");
        if manual.is_true() {
            errors.not_supported(&manual, &["nil", "false"]);
        }
        errors.done()
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let (metadata, spec) = (root.get("metadata"), root.get("spec"));
        refuse_zone_in_schedule(&mut errors, &spec, false);
        validate_zone(&mut errors, &spec.get("timeZone"));
        let name = metadata.get("name");
        if name.text().len() > NAME_MAX {
            errors.invalid(&name, format!("must be no more than {NAME_MAX} characters"));
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (root, old) = (At::root(new), At::root(old));
        let (spec, before) = (root.get("spec"), old.get("spec"));
        refuse_zone_in_schedule(&mut errors, &spec, before.get("schedule").text().contains("TZ"));
        let zone = spec.get("timeZone");
        if !same(zone.value(), before.get("timeZone").value()) {
            validate_zone(&mut errors, &zone);
        }
        errors.done()
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = workload::name_warnings(new, old);
        let generation = |object: &Value| object.pointer("/metadata/generation").cloned();
        if old.is_none_or(|old| generation(old) != generation(new)) {
            let root = At::root(new);
            let spec = root.get("spec");
            let job = spec.get("jobTemplate");
            let job = job.get("spec");
            out.extend(pod::warnings_of(&job.get("template")));
        }
        let schedule = new.pointer("/spec/schedule").and_then(Value::as_str).unwrap_or_default();
        if old.is_some() && schedule.contains("TZ") {
            out.push(
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .into(),
            );
        }
        out
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let [names, images, selector] = selected();
        vec![
            name(),
            column("Schedule", "string", "When it runs, in cron's form."),
            column("Timezone", "string", "The time zone of the schedule."),
            column("Suspend", "boolean", "Whether it does not run for now."),
            column("Active", "integer", "Jobs that run."),
            column("Last Schedule", "string", "When it ran last."),
            age(),
            names,
            images,
            selector,
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let (spec, status) = (root.get("spec"), root.get("status"));
        let template = spec.get("jobTemplate");
        let job = template.get("spec");
        let last = status.get("lastScheduleTime").text().parse::<jiff::Timestamp>().ok();
        let last = last.map(|at| human_duration(now.as_second() - at.as_second()));
        let or_none = |text: &str| if text.is_empty() { "<none>".to_owned() } else { text.to_owned() };
        let suspend = match spec.get("suspend").value().and_then(Value::as_bool) {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        let [names, images, selector] = selected_cells(&job);
        vec![
            table::name(object),
            spec.get("schedule").text().into(),
            or_none(spec.get("timeZone").text()).into(),
            suspend.into(),
            status.get("active").len().into(),
            or_none(last.as_deref().unwrap_or_default()).into(),
            table::age(object, now),
            names,
            images,
            selector,
        ]
    }
}

/// A zone within the schedule is refused, but where it stood there before.
fn refuse_zone_in_schedule(errors: &mut Errors, spec: &At<'_, '_>, before: bool) {
    let schedule = spec.get("schedule");
    if !schedule.text().contains("TZ") {
        return;
    }
    if !before {
        let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.invalid(&schedule, why);
    } else if spec.get("timeZone").present() {
        errors.invalid(&schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
    }
}

fn validate_zone(errors: &mut Errors, at: &At<'_, '_>) {
    if !at.present() {
        return;
    }
    let name = at.text();
    if name.is_empty() {
        return errors.invalid(at, "timeZone must be nil or non-empty string");
    }
    let fine = |part: &str| {
        (1..=ZONE_PART_MAX).contains(&part.len())
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_+".contains(&b))
    };
    if !name.split('/').all(fine) {
        return errors.invalid(at, format!("unknown time zone {name}"));
    }
    if name.eq_ignore_ascii_case("Local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        return errors.invalid(at, why);
    }
    if time_zone(name).is_none() {
        errors.invalid(at, format!("unknown time zone {name}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{complete, now, shown};
    use serde_json::json;

    fn cron(spec: &Value) -> Value {
        let pod = json!({"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "web:1"}]});
        let mut object = json!({
            "apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": {"name": "nightly", "creationTimestamp": "2026-05-01T11:58:00Z"},
            "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": {"spec": pod}}}},
        });
        for (field, value) in spec.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        complete(object)
    }

    fn errors(object: &Value) -> String {
        let mut all = CronJob.validate(object);
        all.extend(CronJob.validate_create(object));
        shown(&all)
    }

    #[test]
    fn defaults() {
        let object = cron(&json!({}));
        let spec = &object["spec"];
        assert_eq!((&spec["concurrencyPolicy"], &spec["suspend"]), (&json!("Allow"), &json!(false)));
        assert_eq!(
            (&spec["successfulJobsHistoryLimit"], &spec["failedJobsHistoryLimit"]),
            (&json!(3), &json!(1))
        );
        assert_eq!(spec["jobTemplate"]["spec"]["template"]["spec"]["dnsPolicy"], "ClusterFirst");
        assert!(spec["jobTemplate"]["spec"].get("backoffLimit").is_none(), "the Job gets it");
        assert_eq!(errors(&object), "");
    }

    #[test]
    fn what_is_wrong() {
        let template = |field: &str, value: Value| {
            let mut template = cron(&json!({}))["spec"]["jobTemplate"].clone();
            template["spec"][field] = value;
            json!({"jobTemplate": template})
        };
        for (spec, wrong) in [
            (
                json!({"schedule": "99 * * * *"}),
                "spec.schedule: Invalid value: \"99 * * * *\": end of range (99) above maximum (59): 99",
            ),
            (
                json!({"schedule": "TZ=UTC 0 * * * *"}),
                "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ),
            (
                json!({"timeZone": "Europe/Atlantis"}),
                "spec.timeZone: Invalid value: \"Europe/Atlantis\": unknown time zone Europe/Atlantis",
            ),
            (
                json!({"timeZone": "../etc"}),
                "spec.timeZone: Invalid value: \"../etc\": unknown time zone ../etc",
            ),
            (
                json!({"concurrencyPolicy": "Maybe"}),
                "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ),
            (
                json!({"startingDeadlineSeconds": -1}),
                "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                template("selector", json!({"matchLabels": {"a": "b"}})),
                "spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be auto-generated",
            ),
            (
                template("manualSelector", json!(true)),
                "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
            ),
        ] {
            assert_eq!(errors(&cron(&spec)), wrong, "{spec}");
        }
        let mut long = cron(&json!({"timeZone": "America/Los_Angeles"}));
        long["metadata"]["name"] = "n".repeat(53).into();
        assert!(errors(&long).ends_with("must be no more than 52 characters"));
        let (old, new) = (cron(&json!({"schedule": "TZ=UTC 0 * * * *"})), "TZ=UTC 1 * * * *");
        assert_eq!(shown(&CronJob.validate_update(&cron(&json!({"schedule": new})), &old)), "");
        assert_eq!(CronJob.warnings(&old, Some(&old)).len(), 1);
        long["metadata"]["name"] = "a.b".into();
        assert!(CronJob.warnings(&long, None)[0].starts_with("metadata.name: this is used in Pod names"));
        assert_eq!(CronJob.warnings(&long, Some(&long)), [""; 0]);
        let both = cron(&json!({"schedule": new, "timeZone": "UTC"}));
        assert!(shown(&CronJob.validate_update(&both, &old)).contains("cannot use both"));
    }

    #[test]
    fn it_is_shown() {
        let mut object = cron(&json!({"timeZone": "UTC"}));
        object["status"] = json!({"active": [{}], "lastScheduleTime": "2026-05-01T11:55:00Z"});
        let cells = CronJob.cells(&object, now());
        let texts: Vec<String> =
            cells.iter().map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned)).collect();
        assert_eq!(texts.join("|"), "nightly|*/5 * * * *|UTC|False|1|5m|2m|c|web:1|<none>");
    }
}
