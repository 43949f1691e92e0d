use super::*;
use serde_json::json;

const MIDDAY: &str = "2026-01-05T12:00:00Z";

fn cron(spec: &Value, status: &Value) -> CronJob {
    let mut value = json!({
        "metadata": {"name": "tick", "namespace": "d", "uid": "c", "creationTimestamp": "2026-01-05T11:50:30Z"},
        "spec": {"schedule": "*/10 * * * *", "concurrencyPolicy": "Allow",
            "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1,
            "jobTemplate": {"metadata": {"labels": {"app": "t"}}, "spec": {"parallelism": 2}}},
        "status": status,
    });
    for (field, with) in spec.as_object().unwrap() {
        value["spec"][field] = with.clone();
    }
    serde_json::from_value(value).unwrap()
}

/// A Job by its number and how it ended, if it did.
fn job(number: u32, end: &str) -> Job {
    let conditions = if end.is_empty() { json!([]) } else { json!([{"type": end, "status": "True"}]) };
    serde_json::from_value(json!({
        "metadata": {"name": format!("tick-{number}"), "uid": format!("j{number}")},
        "status": {"conditions": conditions, "startTime": format!("2026-01-05T11:0{number}:00Z"),
            "completionTime": format!("2026-01-05T11:1{number}:00Z")},
    }))
    .unwrap()
}

fn running(number: u32) -> Value {
    json!({"name": format!("tick-{number}"), "namespace": "d", "uid": format!("j{number}")})
}

fn decide(cron: &CronJob, jobs: &[Job], now: &str) -> Plan {
    plan(&Input { cron, jobs, gone: &HashSet::new(), now: now.parse().unwrap() })
}

fn reasons(plan: &Plan) -> Vec<&str> {
    plan.events.iter().map(|(_, reason, _)| *reason).collect()
}

#[test]
fn a_job_is_started_when_it_is_due() {
    let cron = cron(&json!({}), &json!({}));
    let early = decide(&cron, &[], "2026-01-05T11:59:59Z");
    assert_eq!((early.start.is_none(), early.again), (true, Some(Duration::from_millis(1100))));
    let plan = decide(&cron, &[], "2026-01-05T12:00:02Z");
    let start = plan.start.unwrap();
    assert_eq!(start.at.to_string(), MIDDAY);
    let minutes = start.at.as_second() / 60;
    assert_eq!(start.body["metadata"]["name"], format!("tick-{minutes}"));
    assert_eq!(
        start.body["metadata"]["annotations"],
        json!({"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-05T12:00:00Z"})
    );
    assert_eq!(start.body["metadata"]["labels"], json!({"app": "t"}));
    assert_eq!(start.body["metadata"]["ownerReferences"][0]["kind"], "CronJob");
    assert_eq!(start.body["spec"], json!({"parallelism": 2}));
    assert_eq!(plan.again, Some(Duration::from_millis(598_100)));
    // The same time is not started twice.
    let after = super::tests::cron(&json!({}), &json!({"lastScheduleTime": MIDDAY}));
    assert!(decide(&after, &[], "2026-01-05T12:00:03Z").start.is_none());
}

#[test]
fn a_time_zone_decides_and_is_written_down() {
    let cron = cron(&json!({"schedule": "0 7 * * *", "timeZone": "America/New_York"}), &json!({}));
    let plan = decide(&cron, &[], "2026-01-05T12:00:02Z");
    let annotations = &plan.start.unwrap().body["metadata"]["annotations"];
    assert_eq!(annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"], "2026-01-05T07:00:00-05:00");
    let nowhere = super::tests::cron(&json!({"timeZone": "Nowhere/Town"}), &json!({}));
    let plan = decide(&nowhere, &[], MIDDAY);
    assert_eq!((reasons(&plan), plan.again), (vec!["UnknownTimeZone"], None));
}

#[test]
fn policies_decide_what_runs_beside() {
    let with = |policy: &str| {
        cron(&json!({"concurrencyPolicy": policy}), &json!({"active": [running(1), running(2)]}))
    };
    let jobs = [job(1, ""), job(2, "")];
    let allow = decide(&with("Allow"), &jobs, MIDDAY);
    assert!(allow.start.is_some() && allow.replace.is_empty());
    let forbid = decide(&with("Forbid"), &jobs, MIDDAY);
    assert_eq!((forbid.start, reasons(&Plan { start: None, ..forbid })), (None, vec!["JobAlreadyActive"]));
    let replace = decide(&with("Replace"), &jobs, MIDDAY);
    assert!(replace.start.is_some());
    assert_eq!(replace.replace[1], ("tick-2".to_owned(), "j2".to_owned()));
}

#[test]
fn nothing_is_started_that_must_not() {
    let suspended = decide(&cron(&json!({"suspend": true}), &json!({})), &[], MIDDAY);
    assert_eq!((suspended.start, suspended.again), (None, None));
    let late = cron(&json!({"startingDeadlineSeconds": 30}), &json!({}));
    assert!(decide(&late, &[], "2026-01-05T12:00:20Z").start.is_some());
    assert!(decide(&late, &[], "2026-01-05T12:00:31Z").start.is_none());
    let never = decide(&cron(&json!({"schedule": "0 0 31 2 *"}), &json!({})), &[], MIDDAY);
    assert_eq!(reasons(&never), ["InvalidSchedule"]);
    let broken = decide(&cron(&json!({"schedule": "what"}), &json!({})), &[], MIDDAY);
    assert_eq!(reasons(&broken), ["UnparseableSchedule"]);
    let mut going = cron(&json!({}), &json!({}));
    going.metadata.meta.deletion_timestamp = Some(MIDDAY.into());
    assert!(decide(&going, &[], MIDDAY).start.is_none());
}

#[test]
fn long_ago_is_told_and_started_once() {
    let mut old = cron(&json!({"schedule": "* * * * *"}), &json!({}));
    old.metadata.creation_timestamp = "2026-01-05T01:00:00Z".parse().ok();
    let plan = decide(&old, &[], "2026-01-05T12:00:20Z");
    assert_eq!(reasons(&plan), ["TooManyMissedTimes"]);
    assert_eq!(plan.start.unwrap().at.to_string(), MIDDAY);
}

#[test]
fn ends_are_noted_and_old_jobs_go() {
    let cron = cron(
        &json!({"suspend": true, "successfulJobsHistoryLimit": 1}),
        &json!({"active": [running(1), running(2), running(9)], "lastSuccessfulTime": "2026-01-05T11:00:00Z"}),
    );
    let jobs = [job(1, "Complete"), job(2, ""), job(3, "Complete"), job(4, "Failed"), job(5, "")];
    let gone = HashSet::from(["j9".to_owned()]);
    let plan = plan(&Input { cron: &cron, jobs: &jobs, gone: &gone, now: MIDDAY.parse().unwrap() });
    assert_eq!(plan.status.active, [running(2)]);
    assert_eq!(plan.status.last_successful_time.unwrap().to_string(), "2026-01-05T11:13:00Z");
    assert_eq!(plan.expire, [("tick-1".to_owned(), "j1".to_owned())]);
    assert_eq!(reasons(&plan), ["SawCompletedJob", "UnexpectedJob", "MissingJob"]);
    assert_eq!(plan.events[0].2, "Saw completed job: tick-1, condition: Complete");
    assert_eq!(plan.status.value()["lastSuccessfulTime"], "2026-01-05T11:13:00Z");
}
