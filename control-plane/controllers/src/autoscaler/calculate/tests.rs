use super::*;
use serde_json::json;

fn now() -> Timestamp {
    "2026-05-01T12:00:00Z".parse().unwrap()
}

/// A pod that has run for long and is ready, with a request of 1000 thousandths.
fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1"}}}]},
        "status": {"phase": "Running", "startTime": "2026-05-01T11:00:00Z", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-05-01T11:00:10Z"}]},
    }))
    .unwrap()
}

fn pods(number: usize) -> Vec<Pod> {
    (0..number).map(|n| pod(&format!("p{n}"))).collect()
}

fn unready(name: &str, started: &str, changed: &str) -> Pod {
    let mut pod = pod(name);
    pod.status.start_time = Some(started.parse().unwrap());
    pod.status.conditions[0].status = "False".into();
    pod.status.conditions[0].last_transition_time = Some(changed.parse().unwrap());
    pod
}

fn samples(values: &[i64]) -> Samples {
    let sample = |value: &i64| Sample { value: *value, at: now(), window: SignedDuration::from_secs(60) };
    values.iter().enumerate().map(|(n, value)| (format!("p{n}"), sample(value))).collect()
}

fn present(pods: &[Pod], wanted: i64) -> Present<'_> {
    let tolerances = Tolerances { down: 0.1, up: 0.1 };
    Present { wanted, there: wanted, pods, now: now(), tolerances }
}

/// Replicas by a share of processor time.
fn share(pods: &[Pod], wanted: i64, target: i64, values: &[i64]) -> Result<i64, String> {
    by_share(present(pods, wanted), target, "cpu", "", samples(values)).map(|answer| answer.replicas)
}

fn average(pods: &[Pod], wanted: i64, target: i64, values: &[i64]) -> i64 {
    by_average(present(pods, wanted), target, "", samples(values)).unwrap().replicas
}

#[test]
fn replicas_follow_the_ratio_rounded_up() {
    assert_eq!(share(&pods(3), 3, 30, &[300, 500, 700]), Ok(5));
    assert_eq!(share(&pods(5), 5, 50, &[100, 300, 500, 250, 250]), Ok(3));
    assert_eq!(average(&pods(3), 3, 15_000, &[20_000, 10_000, 30_000]), 4);
    assert_eq!(average(&pods(5), 5, 20_000, &[12_000, 12_000, 12_000, 12_000, 12_000]), 3);
    let answer = by_share(present(&pods(3), 3), 30, "cpu", "", samples(&[300, 500, 700])).unwrap();
    assert_eq!((answer.share, answer.usage), (50, 500));
}

#[test]
fn a_tenth_is_nothing_to_act_on() {
    assert_eq!(share(&pods(3), 3, 100, &[1010, 1030, 1020]), Ok(3));
    assert_eq!(share(&pods(3), 3, 100, &[1100, 1100, 1100]), Ok(3));
    assert_eq!(share(&pods(3), 3, 100, &[1110, 1110, 1110]), Ok(4));
    assert_eq!(share(&pods(3), 3, 100, &[900, 900, 900]), Ok(3));
    assert_eq!(share(&pods(10), 10, 100, &[890; 10]), Ok(9));
    let wide = Present { tolerances: Tolerances { down: 0.5, up: 0.0 }, ..present(&[], 3) };
    let all = pods(3);
    let wide = Present { pods: &all, ..wide };
    assert_eq!(by_share(wide, 100, "cpu", "", samples(&[510; 3])).unwrap().replicas, 3);
    assert_eq!(by_share(wide, 100, "cpu", "", samples(&[1010; 3])).unwrap().replicas, 4);
}

#[test]
fn pods_without_a_metric_count_as_idle_going_up_and_as_full_going_down() {
    // 2 of 4 use 200 %: with the others idle it is 100 %, which is right.
    assert_eq!(share(&pods(4), 4, 100, &[2000, 2000]), Ok(4));
    assert_eq!(share(&pods(4), 4, 100, &[3000, 3000]), Ok(6));
    // One of two uses 10 % of a wanted 50 %: with the other full it is 55 %, which turns round.
    assert_eq!(share(&pods(2), 2, 50, &[100]), Ok(2));
    // 4 of 5 use 10 % of a wanted 70 %: with one at its request it is 28 %.
    assert_eq!(share(&pods(5), 5, 70, &[100, 100, 100, 100]), Ok(2));
    // Where more than all is wanted, that is what the missing one uses.
    assert_eq!(share(&pods(5), 5, 150, &[750, 750, 750, 750]), Ok(3));
    // Averages: going down the missing one uses what is wanted.
    assert_eq!(average(&pods(4), 4, 1000, &[400, 400, 400]), 3);
}

#[test]
fn unready_pods_slow_down_what_goes_up_and_are_left_out_going_down() {
    let mut some = pods(3);
    some[2] = unready("p2", "2026-05-01T11:58:00Z", "2026-05-01T11:58:00Z");
    // Without it 2 pods at 150 % would be 3; with it idle it is 100 %.
    assert_eq!(share(&some, 3, 100, &[1500, 1500, 900]), Ok(3));
    assert_eq!(share(&some, 3, 100, &[2400, 2400, 900]), Ok(5));
    assert_eq!(share(&some, 3, 100, &[500, 500, 5000]), Ok(1), "its metric does not count");
    let mut pending = pods(2);
    pending[1].status.phase = "Pending".into();
    assert_eq!(average(&pending, 2, 1000, &[1800]), 2, "with the pending one idle it is nine tenths");
    let mut gone = pods(3);
    gone[0].status.phase = "Failed".into();
    gone[1].metadata.deletion_timestamp = Some("2026-05-01T12:00:00Z".into());
    assert_eq!(average(&gone, 3, 1000, &[9000, 9000, 2000]), 2);
}

#[test]
fn processor_time_of_a_start_does_not_count() {
    let sample =
        |at: &str| Sample { value: 1, at: at.parse().unwrap(), window: SignedDuration::from_secs(60) };
    let fresh = sample("2026-05-01T11:59:50Z");
    let ready_at = |start: &str, changed: &str| {
        let mut pod = pod("p");
        pod.status.start_time = Some(start.parse().unwrap());
        pod.status.conditions[0].last_transition_time = Some(changed.parse().unwrap());
        pod
    };
    assert!(
        starting(&ready_at("2026-05-01T11:58:00Z", "2026-05-01T11:59:30Z"), &fresh, now()),
        "not a window yet"
    );
    assert!(!starting(&ready_at("2026-05-01T11:58:00Z", "2026-05-01T11:58:30Z"), &fresh, now()));
    assert!(
        !starting(&ready_at("2026-05-01T11:00:00Z", "2026-05-01T11:59:55Z"), &fresh, now()),
        "an old pod"
    );
    let never = unready("p", "2026-05-01T11:00:00Z", "2026-05-01T11:00:20Z");
    assert!(starting(&never, &fresh, now()), "it was never ready");
    let later = unready("p", "2026-05-01T11:00:00Z", "2026-05-01T11:30:00Z");
    assert!(!starting(&later, &fresh, now()), "it was ready once");
    let mut unstarted = pod("p");
    unstarted.status.start_time = None;
    assert!(starting(&unstarted, &fresh, now()));
}

#[test]
fn what_cannot_be_calculated_is_said() {
    let error = |pods: &[Pod], values: &[i64]| share(pods, 1, 50, values).unwrap_err();
    assert_eq!(error(&[], &[1]), "no pods returned by selector while calculating replica count");
    assert_eq!(error(&pods(1), &[]), "did not receive metrics for targeted pods (pods might be unready)");
    let mut bare = pods(1);
    bare[0].spec.containers[0].resources.requests.clear();
    assert_eq!(error(&bare, &[1]), "missing request for cpu in container c of Pod p0");
    let one = |container: &str| by_share(present(&pods(1), 1), 50, "cpu", container, samples(&[500]));
    assert_eq!(one("c").unwrap().replicas, 1);
    assert_eq!(one("d").unwrap_err(), "container d not found in Pod p0");
    let mut whole = pods(1);
    whole[0].spec.resources.requests = [("memory".to_owned(), "1Gi".to_owned())].into();
    assert_eq!(error(&whole, &[1]), "missing pod-level request for cpu in Pod p0");
    whole[0].spec.resources.requests = [("cpu".to_owned(), "4".to_owned())].into();
    assert_eq!(by_share(present(&whole, 1), 50, "cpu", "", samples(&[4000])).unwrap().share, 100);
}

#[test]
fn one_value_is_for_all_or_for_each() {
    let all = pods(3);
    assert_eq!(by_value(present(&all, 3), 1000, 2000).unwrap().replicas, 6);
    assert_eq!(by_value(present(&all, 3), 1000, 1050).unwrap().replicas, 3);
    assert_eq!(
        by_value(present(&all, 0), 1000, 2500).unwrap().replicas,
        3,
        "from nothing by the ratio alone"
    );
    assert!(by_value(present(&[], 3), 1000, 2000).is_err());
    assert_eq!(by_value(present(&all, 3), 1, i64::MAX).unwrap().replicas, i64::from(i32::MAX));
    assert_eq!(by_part(present(&all, 3), 1000, 4500), Answer { replicas: 5, usage: 1500, share: 0 });
    assert_eq!(by_part(present(&all, 3), 1000, 3100).replicas, 3);
    assert_eq!(sum(&Reading::Values(vec![i64::MAX, 5])), i64::MAX);
}
