//! Writes and the quotas of their namespace.

use super::secure::{ROOT, Secure, secure};
use futures::future::join_all;
use serde_json::{Value, json};

const QUOTAS: &str = "/api/v1/namespaces/d/resourcequotas";
const PODS: &str = "/api/v1/namespaces/d/pods";

/// A quota that somebody has counted.
async fn quota(world: &Secure, hard: Value, used: Value) {
    let mut made = world.make(QUOTAS, json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await;
    made["status"] = json!({"hard": hard, "used": used});
    let told = world.ask(ROOT, "PUT", &format!("{QUOTAS}/q/status"), &made).await;
    assert_eq!(told.code, 200, "{}", told.body);
}

async fn used(world: &Secure, name: &str) -> Value {
    world.ask(ROOT, "GET", &format!("{QUOTAS}/q"), &Value::Null).await.body["status"]["used"][name].clone()
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn a_write_is_charged_with_it_and_given_back_with_it() {
    let world = secure().await;
    quota(
        &world,
        json!({"pods": "1", "count/configmaps": "5"}),
        json!({"pods": "0", "count/configmaps": "0"}),
    )
    .await;
    let first = world.ask(ROOT, "POST", &format!("{PODS}?dryRun=All"), &pod("a")).await;
    assert_eq!((first.code, used(&world, "pods").await), (201, json!("0")));
    world.make(PODS, pod("a")).await;
    assert_eq!(used(&world, "pods").await, "1");
    let (code, message) = world.write(ROOT, "POST", PODS, pod("b")).await;
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"
    );
    let now = format!("{PODS}/a?gracePeriodSeconds=0");
    assert_eq!(world.ask(ROOT, "DELETE", &now, &Value::Null).await.code, 200);
    assert_eq!(used(&world, "pods").await, "0");
    world.make("/api/v1/namespaces/d/configmaps", json!({"metadata": {"name": "m"}})).await;
    assert_eq!(used(&world, "count/configmaps").await, "1");
}

#[tokio::test]
async fn a_pod_that_ends_gives_back_what_it_used() {
    let world = secure().await;
    quota(&world, json!({"pods": "1", "count/pods": "2"}), json!({"pods": "0", "count/pods": "0"})).await;
    let mut pod = world.make(PODS, pod("a")).await;
    pod["status"]["phase"] = "Succeeded".into();
    assert_eq!(world.ask(ROOT, "PUT", &format!("{PODS}/a/status"), &pod).await.code, 200);
    assert_eq!((used(&world, "pods").await, used(&world, "count/pods").await), (json!("0"), json!("1")));
}

#[tokio::test]
async fn what_waits_for_a_finalizer_is_given_back_when_it_goes() {
    let world = secure().await;
    quota(&world, json!({"count/secrets": "9"}), json!({"count/secrets": "0"})).await;
    let secrets = "/api/v1/namespaces/d/secrets";
    world.make(secrets, json!({"metadata": {"name": "s", "finalizers": ["example.com/f"]}})).await;
    let one = format!("{secrets}/s");
    assert_eq!(world.ask(ROOT, "DELETE", &one, &Value::Null).await.code, 200);
    assert_eq!(used(&world, "count/secrets").await, "1");
    let free = json!({"metadata": {"finalizers": null}});
    assert_eq!(world.ask(ROOT, "PATCH", &one, &free).await.code, 200);
    assert_eq!(used(&world, "count/secrets").await, "0");
}

#[tokio::test]
async fn many_at_once_never_get_more_than_there_is() {
    let world = secure().await;
    quota(&world, json!({"pods": "7"}), json!({"pods": "0"})).await;
    let codes = |answers: Vec<(u16, String)>| {
        let count = |wanted: u16| answers.iter().filter(|(code, _)| *code == wanted).count();
        (count(201), count(403), count(200), answers.len())
    };
    let pods = (0..40).map(|i| world.write(ROOT, "POST", PODS, pod(&format!("p{i}"))));
    assert_eq!(codes(join_all(pods).await), (7, 33, 0, 40));
    assert_eq!(used(&world, "pods").await, "7");
    let list = world.ask(ROOT, "GET", PODS, &Value::Null).await.body;
    let gone = super::names(&list).into_iter().map(|name| {
        let (world, path) = (&world, format!("{PODS}/{name}?gracePeriodSeconds=0"));
        async move { world.write(ROOT, "DELETE", &path, Value::Null).await }
    });
    assert_eq!(codes(join_all(gone).await), (0, 0, 7, 7));
    assert_eq!(used(&world, "pods").await, "0");
}
