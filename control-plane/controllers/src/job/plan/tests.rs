use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

/// A Job and its pods in memory, with the shell's part done as it is done through the API.
struct World {
    job: Value,
    pods: Vec<Value>,
    now: i64,
    made: usize,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut job = json!({
            "metadata": {"name": "pi", "namespace": "d", "uid": "u"},
            "spec": {"parallelism": 1, "backoffLimit": 6, "template": {
                "metadata": {"labels": {"job": "pi"}}, "spec": {"containers": [{"name": "c"}]}}},
            "status": {},
        });
        for (field, value) in spec.as_object().unwrap() {
            job["spec"][field] = value.clone();
        }
        World { job, pods: Vec::new(), now: 0, made: 0 }
    }

    fn decide(&self) -> Plan {
        let job: Job = serde_json::from_value(self.job.clone()).unwrap();
        let pods: Vec<Pod> = self.pods.iter().map(|p| serde_json::from_value(p.clone()).unwrap()).collect();
        let selector = LabelSelector::parse("job=pi").unwrap();
        let status = &self.job["status"];
        plan(&Input { job: &job, status, selector: &selector, pods: &pods, now: at(self.now) })
    }

    fn pod(&mut self, name: &str) -> &mut Value {
        self.pods.iter_mut().find(|p| p["metadata"]["name"] == name).unwrap()
    }

    fn untrack(&mut self, name: &str) {
        self.pod(name)["metadata"].as_object_mut().unwrap().remove("finalizers");
    }

    /// Reconciles until nothing is left to do but to wait for pods; answers what the last plan waits for.
    fn settle(&mut self) -> Option<Duration> {
        for _ in 0..50 {
            let job: Job = serde_json::from_value(self.job.clone()).unwrap();
            if job.finished().is_some() {
                return None;
            }
            let plan = self.decide();
            for name in &plan.strip {
                self.untrack(name);
            }
            for name in &plan.delete {
                // Its containers have not ended yet.
                self.pod(name)["metadata"]["deletionTimestamp"] = at(self.now).to_string().into();
            }
            for mut pod in plan.create.iter().cloned() {
                self.made += 1;
                let name = format!("p{}", self.made);
                pod["metadata"]["name"] = name.clone().into();
                pod["metadata"]["uid"] = name.into();
                pod["metadata"]["creationTimestamp"] = at(self.now).to_string().into();
                pod["status"] = json!({"phase": "Running"});
                self.pods.push(pod);
            }
            for name in &plan.untrack {
                self.untrack(name);
            }
            let still = plan.create.is_empty() && plan.delete.is_empty() && self.job["status"] == plan.then;
            self.job["status"] = plan.then;
            if still {
                assert_eq!(plan.events, [], "what is told is told once");
                return plan.again;
            }
        }
        panic!("the Job does not come to rest");
    }

    fn end(&mut self, name: &str, phase: &str, code: i64) {
        let at = at(self.now).to_string();
        self.pod(name)["status"] = json!({"phase": phase, "containerStatuses": [
            {"name": "c", "state": {"terminated": {"exitCode": code, "finishedAt": at}}}]});
    }

    /// What was being deleted ends.
    fn ends(&mut self) {
        for pod in self.pods.iter_mut().filter(|p| !p["metadata"]["deletionTimestamp"].is_null()) {
            pod["status"]["phase"] = "Failed".into();
        }
    }

    fn running(&self) -> Vec<&str> {
        let running =
            |p: &&Value| p["status"]["phase"] == "Running" && p["metadata"]["deletionTimestamp"].is_null();
        self.pods.iter().filter(running).map(|p| p["metadata"]["name"].as_str().unwrap()).collect()
    }

    fn status(&self, field: &str) -> &Value {
        &self.job["status"][field]
    }

    fn conditions(&self) -> Vec<(&str, &str)> {
        let list = self.status("conditions").as_array().map_or(&[][..], Vec::as_slice);
        let true_ones = list.iter().filter(|c| c["status"] == "True");
        true_ones.map(|c| (c["type"].as_str().unwrap(), c["reason"].as_str().unwrap())).collect()
    }

    fn tracked(&self) -> usize {
        self.pods.iter().filter(|p| !p["metadata"]["finalizers"].is_null()).count()
    }
}

const COMPLETE: [(&str, &str); 2] =
    [("SuccessCriteriaMet", "CompletionsReached"), ("Complete", "CompletionsReached")];

fn failed(reason: &str) -> [(&str, &str); 2] {
    [("FailureTarget", reason), ("Failed", reason)]
}

#[test]
fn as_many_pods_run_as_may_until_all_is_done() {
    let mut world = World::new(json!({"completions": 5, "parallelism": 2}));
    for done in 0..5 {
        world.settle();
        assert_eq!(world.running().len(), 2.min(5 - done), "{done}");
        assert_eq!(world.status("active"), world.running().len());
        let name = world.running()[0].to_owned();
        world.end(&name, "Succeeded", 0);
    }
    world.settle();
    assert_eq!((world.made, world.status("succeeded"), world.tracked()), (5, &json!(5), 0));
    assert_eq!(world.conditions(), COMPLETE);
    assert_eq!(world.status("completionTime"), "2026-01-01T00:00:00Z");
    assert_eq!(world.status("uncountedTerminatedPods"), &json!({}));
}

#[test]
fn the_uid_is_written_before_the_finalizer_goes() {
    let mut world = World::new(json!({"completions": 2}));
    world.settle();
    world.end("p1", "Succeeded", 0);
    let plan = world.decide();
    assert_eq!(plan.first.as_ref().unwrap()["uncountedTerminatedPods"], json!({"succeeded": ["p1"]}));
    assert_eq!(plan.untrack, ["p1"]);
    assert_eq!(plan.then["succeeded"], 1);
    // Stopped after the first write, and after the finalizer went: counted once all the same.
    world.job["status"] = plan.first.unwrap();
    assert_eq!(world.decide().then["succeeded"], 1);
    world.untrack("p1");
    assert_eq!(world.decide().then["succeeded"], 1);
    world.pods.retain(|p| p["metadata"]["name"] != "p1");
    world.settle();
    assert_eq!(world.status("succeeded"), 1);
}

#[test]
fn failures_are_tried_again_later_and_later_and_then_no_more() {
    let mut world = World::new(json!({"completions": 1, "backoffLimit": 2}));
    for wait in [10, 20] {
        world.settle();
        let name = world.running()[0].to_owned();
        world.end(&name, "Failed", 1);
        assert_eq!(world.settle(), Some(Duration::from_secs(wait)));
        assert!(world.running().is_empty());
        world.now += i64::try_from(wait).unwrap();
    }
    world.settle();
    assert_eq!(world.conditions(), []);
    world.end("p3", "Failed", 1);
    world.settle();
    assert_eq!(world.conditions(), failed("BackoffLimitExceeded"));
    assert_eq!((world.status("failed"), world.tracked()), (&json!(3), 0));
}

#[test]
fn a_failed_job_ends_when_its_last_pod_has() {
    let mut world = World::new(json!({"completions": 3, "parallelism": 3, "activeDeadlineSeconds": 60}));
    assert_eq!(world.settle(), Some(Duration::from_secs(60)));
    world.now = 60;
    world.settle();
    assert_eq!(world.conditions(), failed("DeadlineExceeded")[..1]);
    assert_eq!((world.status("active"), world.status("terminating")), (&Value::Null, &json!(3)));
    world.ends();
    world.settle();
    assert_eq!(world.conditions(), failed("DeadlineExceeded"));
    assert_eq!((world.status("failed"), world.status("terminating")), (&json!(3), &json!(0)));
}

#[test]
fn a_suspended_job_rests_and_starts_anew() {
    let mut world = World::new(json!({"completions": 2, "parallelism": 2}));
    world.settle();
    world.job["spec"]["suspend"] = true.into();
    world.settle();
    assert!(world.running().is_empty());
    assert_eq!(world.conditions(), [("Suspended", "JobSuspended")]);
    assert_eq!((world.status("active"), world.status("startTime")), (&Value::Null, &Value::Null));
    world.ends();
    world.settle();
    assert_eq!(world.status("failed"), &Value::Null, "what was suspended did not fail");
    world.now = 30;
    world.job["spec"]["suspend"] = false.into();
    world.settle();
    assert_eq!(world.running().len(), 2);
    assert_eq!(world.status("startTime"), "2026-01-01T00:00:30Z");
    assert_eq!(world.conditions(), []);
}

#[test]
fn each_index_succeeds_once() {
    let mut world = World::new(json!({"completions": 4, "parallelism": 2, "completionMode": "Indexed"}));
    world.settle();
    let pod = world.pod("p2").clone();
    assert_eq!(pod["metadata"]["annotations"][INDEX], "1");
    assert_eq!(pod["metadata"]["labels"][INDEX], "1");
    assert_eq!(
        (&pod["metadata"]["generateName"], &pod["spec"]["hostname"]),
        (&json!("pi-1-"), &json!("pi-1"))
    );
    assert_eq!(pod["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
    world.end("p2", "Succeeded", 0);
    world.settle();
    assert_eq!((world.status("completedIndexes"), world.status("succeeded")), (&json!("1"), &json!(1)));
    // A second pod of an index, as a client might make it, is one too many.
    let mut twin = world.pod("p1").clone();
    twin["metadata"]["name"] = "twin".into();
    twin["metadata"]["uid"] = "twin".into();
    world.pods.push(twin);
    world.settle();
    assert_eq!(world.running().len(), 2);
    for _ in 0..3 {
        let name = world.running()[0].to_owned();
        world.end(&name, "Succeeded", 0);
        world.ends();
        world.settle();
    }
    assert_eq!(world.status("completedIndexes"), "0-3");
    assert_eq!(world.conditions(), COMPLETE);
}

#[test]
fn an_index_may_fail_alone() {
    let mut world = World::new(json!({
        "completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1, "backoffLimit": 1000,
    }));
    world.settle();
    world.end("p1", "Failed", 1);
    assert_eq!(world.settle(), Some(Duration::from_secs(10)));
    assert_eq!(world.tracked(), 2, "the failed pod stays until its replacement carries its count on");
    world.now = 10;
    world.settle();
    assert_eq!(world.pod("p3")["metadata"]["annotations"][INDEX_FAILURES], "1");
    assert_eq!(world.status("failed"), 1);
    world.end("p3", "Failed", 1);
    world.settle();
    assert_eq!(world.status("failedIndexes"), "0");
    assert_eq!(world.conditions(), []);
    world.end("p2", "Succeeded", 0);
    world.settle();
    assert_eq!(world.conditions(), failed("FailedIndexes"));
}

#[test]
fn policies_end_a_job_early() {
    let policy = json!({"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    ]});
    let mut world = World::new(json!({"completions": 1, "backoffLimit": 0, "podFailurePolicy": policy}));
    world.settle();
    world.end("p1", "Failed", 1);
    world.pod("p1")["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True"}]);
    world.settle();
    world.now = 10;
    world.settle();
    assert_eq!((world.running(), world.status("failed")), (vec!["p2"], &Value::Null));
    world.end("p2", "Failed", 42);
    world.settle();
    assert_eq!(world.conditions(), failed("PodFailurePolicy"));
    let message = "Container c for pod /p2 failed with exit code 42 matching FailJob rule at index 1";
    assert_eq!(world.status("conditions")[1]["message"], message);

    let policy = json!({"rules": [{"succeededIndexes": "0,2", "succeededCount": 1}]});
    let mut world = World::new(
        json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "successPolicy": policy}),
    );
    world.settle();
    world.end("p2", "Succeeded", 0);
    world.settle();
    assert_eq!(world.conditions(), []);
    world.end("p3", "Succeeded", 0);
    world.settle();
    world.ends();
    world.settle();
    assert_eq!(world.conditions(), [("SuccessCriteriaMet", "SuccessPolicy"), ("Complete", "SuccessPolicy")]);
    assert_eq!((world.status("succeeded"), world.status("failed")), (&json!(2), &Value::Null));
}

#[test]
fn strangers_are_left_and_orphans_taken_over() {
    let mut world = World::new(json!({"completions": 1}));
    let pod = |name: &str, labels: Value, owners: Value| json!({"metadata": {"name": name, "uid": name, "labels": labels, "ownerReferences": owners}, "status": {"phase": "Running"}});
    let mine =
        json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "pi", "uid": "u", "controller": true}]);
    world.pods = vec![
        pod("orphan", json!({"job": "pi"}), json!([])),
        pod("misfit", json!({"job": "other"}), mine),
        pod(
            "stranger",
            json!({"job": "pi"}),
            json!([{"kind": "Job", "name": "x", "uid": "x", "controller": true}]),
        ),
    ];
    let plan = world.decide();
    assert_eq!((plan.adopt, plan.release), (vec!["orphan".to_owned()], vec!["misfit".to_owned()]));
    assert!(plan.create.is_empty() && plan.delete.is_empty());
}
