//! Several versions of one kind: renamed, or converted by a webhook.

use super::*;
use crate::registry::{Begin, Told, WatchQuery};
use crate::tests::names;

async fn watch(w: &World, group: &str, version: &str) -> crate::registry::Watch {
    let row = w.server.registry().caches().row(group, version, "crontabs").unwrap();
    let query = WatchQuery {
        namespace: String::new(),
        selection: Default::default(),
        begin: Begin::Latest,
        mark_initial_end: false,
        bookmarks: false,
        timeout: Duration::from_secs(60),
    };
    w.server.registry().watch(&row, query).await.unwrap()
}

/// What lies in the store.
fn stored(w: &World, group: &str, name: &str) -> Value {
    let resource = skep_api::GroupResource::new(group.to_owned(), "crontabs");
    let key = crate::cache::store_key(&resource, "d", name);
    serde_json::from_slice(&w.store.get(key.as_bytes()).unwrap().value).unwrap()
}

async fn set_versions(w: &World, group: &str, versions: Value) {
    let place = format!("{DEFINITIONS}/crontabs.{group}");
    let patch = json!({"spec": {"versions": versions}}).to_string();
    let changed = w.ask("PATCH", &place, MERGE, patch).await;
    assert_eq!(changed.code, 200, "{}", changed.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stored_version_may_change_and_defaults_come_on_read() {
    let w = served().await;
    let group = "store.example.com";
    let text = || json!({"cron": {"type": "string"}});
    define(&w, crontabs(group, json!([version("v1", true, text()), version("v2", false, text())]))).await;
    create(&w, group, "v2", crontab(group, "v2", "a", json!({"cron": "x"}))).await;
    assert_eq!(stored(&w, group, "a")["apiVersion"], "store.example.com/v1");

    // Now the other version is stored, the first has a default that it had not, and knows less.
    let mut first = version("v1", false, json!({"added": {"type": "string", "default": "yes"}}));
    first["schema"]["openAPIV3Schema"]["properties"]["status"] = json!({"type": "object"});
    let second = version("v2", true, json!({"cron": {"type": "string"}, "added": {"type": "string"}}));
    set_versions(&w, group, json!([first, second])).await;
    let read = until(&w, &path(group, "v1", "/a"), |a| a.body["spec"]["added"] == "yes").await.body;
    assert_eq!(read["spec"], json!({"added": "yes"}), "pruned and defaulted by the version it lies in");
    assert_eq!(w.get(&path(group, "v2", "/a")).await.body["spec"], json!({"added": "yes"}));
    assert_eq!(stored(&w, group, "a")["apiVersion"], "store.example.com/v1");
    let definition = w.get(&format!("{DEFINITIONS}/crontabs.{group}")).await.body;
    assert_eq!(definition["status"]["storedVersions"], json!(["v1", "v2"]));

    // Any write moves it; and lists show one version, whatever lies below.
    create(&w, group, "v1", crontab(group, "v1", "b", json!({}))).await;
    assert_eq!(stored(&w, group, "b")["apiVersion"], "store.example.com/v2");
    let list = w.get(&path(group, "v2", "")).await.body;
    assert_eq!(names(&list), ["a", "b"]);
    assert!(
        list["items"].as_array().unwrap().iter().all(|item| item["apiVersion"] == "store.example.com/v2")
    );
    let touched =
        w.ask("PATCH", &path(group, "v1", "/a"), MERGE, r#"{"metadata":{"labels":{"x":"y"}}}"#).await;
    assert_eq!((touched.code, &stored(&w, group, "a")["apiVersion"]), (200, &json!("store.example.com/v2")));

    // A version that is not served is not there; its watches end, those of the others do too, to begin anew.
    let mut watching = watch(&w, group, "v1").await;
    assert_eq!(watching.next().await.unwrap().unwrap().len(), 2);
    let mut first = version("v1", false, json!({}));
    first["served"] = false.into();
    set_versions(&w, group, json!([first, version("v2", true, text())])).await;
    until(&w, &path(group, "v1", ""), |a| a.code == 404).await;
    assert!(watching.next().await.is_none());
    assert_eq!(w.get(&path(group, "v2", "/a")).await.code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_while_the_definition_goes_and_is_told_of_the_end() {
    let w = served().await;
    let group = "watched.example.com";
    define(&w, crontabs(group, json!([version("v1", true, json!({}))]))).await;
    let mut watching = watch(&w, group, "v1").await;
    create(&w, group, "v1", crontab(group, "v1", "a", json!({}))).await;
    let told = watching.next().await.unwrap().unwrap();
    assert!(matches!(&told[..], [Told::Added(..)]), "{told:?}");
    // A status that is written changes nothing for those who watch.
    let place = format!("{DEFINITIONS}/crontabs.{group}");
    let labelled = w.ask("PATCH", &place, MERGE, r#"{"metadata":{"labels":{"x":"y"}}}"#).await;
    assert_eq!(labelled.code, 200);
    w.json("DELETE", &place, json!({})).await;
    let told = watching.next().await.unwrap().unwrap();
    assert!(matches!(&told[..], [Told::Deleted(..)]), "{told:?}");
    assert!(watching.next().await.is_none());
}

/// A webhook that converts `cron` of `v1` to `hours` of `v2` and back, and may be told to answer otherwise.
struct Hook {
    url: String,
    authority: String,
    asked: Arc<std::sync::atomic::AtomicUsize>,
    broken: Arc<std::sync::atomic::AtomicBool>,
}

fn converted(review: &Value, broken: bool) -> Value {
    let request = &review["request"];
    let desired = request["desiredAPIVersion"].as_str().unwrap();
    let objects: Vec<Value> = request["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| {
            let mut object = object.clone();
            object["apiVersion"] = desired.into();
            object["metadata"]["labels"] = json!({"converted": desired.rsplit('/').next()});
            object["metadata"]["generation"] = 99.into();
            let (from, to) = if desired.ends_with("v2") { ("cron", "hours") } else { ("hours", "cron") };
            if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
                && let Some(value) = spec.remove(from)
            {
                spec.insert(to.into(), value);
            }
            if broken {
                object["metadata"]["name"] = "another".into();
            }
            object
        })
        .collect();
    json!({
        "kind": review["kind"], "apiVersion": review["apiVersion"],
        "response": {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects},
    })
}

async fn hook() -> Hook {
    use http_body_util::BodyExt;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = rcgen::generate_simple_self_signed(names).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key.into())
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/convert", listener.local_addr().unwrap().port());
    let hook = Hook { url, authority: own.cert.pem(), asked: Arc::default(), broken: Arc::default() };
    let (asked, broken) = (hook.asked.clone(), hook.broken.clone());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let (asked, broken) = (asked.clone(), broken.clone());
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let broken = broken.load(std::sync::atomic::Ordering::SeqCst);
                async move {
                    let bytes = request.into_body().collect().await.unwrap().to_bytes();
                    let answer = converted(&serde_json::from_slice(&bytes).unwrap(), broken);
                    Ok::<_, std::convert::Infallible>(http::Response::new(crate::full(answer.to_string())))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
            );
        }
    });
    hook
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_converts_in_both_directions() {
    use base64::Engine;
    use std::sync::atomic::Ordering;
    let w = served().await;
    let hook = hook().await;
    let group = "hooked.example.com";
    let field = |name: &str| json!({name: {"type": "string"}});
    let mut definition =
        crontabs(group, json!([version("v1", true, field("cron")), version("v2", false, field("hours"))]));
    definition["spec"]["conversion"] = json!({
        "strategy": "Webhook",
        "webhook": {
            "conversionReviewVersions": ["v1"],
            "clientConfig": {
                "url": hook.url,
                "caBundle": base64::engine::general_purpose::STANDARD.encode(&hook.authority),
            },
        },
    });
    define(&w, definition).await;

    let made = create(&w, group, "v2", crontab(group, "v2", "a", json!({"hours": "3"}))).await;
    assert_eq!(made["spec"], json!({"hours": "3"}));
    assert_eq!(made["metadata"]["generation"], 1, "metadata is not the webhook's");
    let lies = stored(&w, group, "a");
    assert_eq!(
        (&lies["apiVersion"], &lies["spec"]),
        (&json!("hooked.example.com/v1"), &json!({"cron": "3"}))
    );
    assert_eq!(lies["metadata"]["labels"], json!({"converted": "v1"}));
    for n in 0..5 {
        create(&w, group, "v1", crontab(group, "v1", &format!("b{n}"), json!({"cron": n.to_string()}))).await;
    }

    // A list is converted in one call, and what has been converted once is kept.
    let before = hook.asked.load(Ordering::SeqCst);
    let list = w.get(&path(group, "v2", "")).await.body;
    assert_eq!(list["items"][5]["spec"], json!({"hours": "4"}));
    assert_eq!(hook.asked.load(Ordering::SeqCst), before + 1);
    let again = w.get(&path(group, "v2", "?labelSelector=converted%3Dv2")).await.body;
    assert_eq!((names(&again).len(), hook.asked.load(Ordering::SeqCst)), (6, before + 1));
    let mut watching = watch(&w, group, "v2").await;
    assert_eq!(watching.next().await.unwrap().unwrap().len(), 6);
    w.ask("PATCH", &path(group, "v1", "/a"), MERGE, r#"{"spec":{"cron":"7"}}"#).await;
    let told = watching.next().await.unwrap().unwrap();
    let [Told::Modified(object, _)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(object.value()["spec"], json!({"hours": "7"}));

    // The stored version needs no webhook; another one says what is wrong with it.
    hook.broken.store(true, Ordering::SeqCst);
    create(&w, group, "v1", crontab(group, "v1", "new", json!({"cron": "9"}))).await;
    let failed = w.get(&path(group, "v2", "/new")).await;
    assert_eq!(failed.code, 500);
    let why = failed.body["message"].as_str().unwrap();
    assert!(why.contains("conversion webhook for hooked.example.com/v1, Kind=CronTab"), "{why}");
    assert!(why.contains("must have the same name: new != another"), "{why}");
    assert_eq!(w.get(&path(group, "v1", "/new")).await.code, 200);
    hook.broken.store(false, Ordering::SeqCst);
    assert_eq!(w.get(&path(group, "v2", "/new")).await.body["spec"], json!({"hours": "9"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn ownership_goes_with_the_fields_from_version_to_version() {
    use base64::Engine;
    let w = served().await;
    let hook = hook().await;
    let group = "owned.example.com";
    let fields = |name: &str| json!({name: {"type": "string"}, "other": {"type": "string"}});
    let mut definition =
        crontabs(group, json!([version("v1", true, fields("cron")), version("v2", false, fields("hours"))]));
    definition["spec"]["conversion"] = json!({
        "strategy": "Webhook",
        "webhook": {
            "conversionReviewVersions": ["v1"],
            "clientConfig": {
                "url": hook.url,
                "caBundle": base64::engine::general_purpose::STANDARD.encode(&hook.authority),
            },
        },
    });
    define(&w, definition).await;
    let apply = |version: &'static str, who: &'static str, spec: Value| {
        let body = json!({"apiVersion": format!("{group}/{version}"), "kind": "CronTab", "spec": spec});
        let place = format!("{}?fieldManager={who}", path(group, version, "/a"));
        let w = &w;
        async move { w.ask("PATCH", &place, APPLY, body.to_string()).await }
    };
    let owner = |object: &Value, who: &str| {
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        entries.iter().find(|e| e["manager"] == who).map_or(Value::Null, |e| e["fieldsV1"]["f:spec"].clone())
    };
    let made = apply("v1", "one", json!({"cron": "3"})).await;
    assert_eq!(made.code, 201, "{}", made.body);

    // The same field by its other name: agreed upon it is shared, and fought for otherwise.
    let agreed = apply("v2", "two", json!({"hours": "3"})).await;
    assert_eq!(agreed.code, 200, "{}", agreed.body);
    assert_eq!(owner(&agreed.body, "one"), json!({"f:cron": {}}));
    assert_eq!(owner(&agreed.body, "two"), json!({"f:hours": {}}));
    let fought = apply("v2", "two", json!({"hours": "4"})).await;
    assert_eq!(fought.code, 409, "{}", fought.body);
    assert!(fought.body["message"].as_str().unwrap().contains("\"one\": .spec.cron"), "{}", fought.body);

    // An update in one version takes the field away from those who own it in the other.
    let patch = r#"{"spec":{"hours":"5"}}"#;
    let place = format!("{}?fieldManager=three", path(group, "v2", "/a"));
    let updated = w.ask("PATCH", &place, MERGE, patch).await.body;
    assert_eq!((owner(&updated, "one"), owner(&updated, "two")), (Value::Null, Value::Null));
    assert_eq!(owner(&updated, "three"), json!({"f:hours": {}}));

    // What an applier named in one version and names no more in another is taken away there.
    let both = apply("v1", "four", json!({"cron": "5", "other": "x"})).await;
    assert_eq!(both.code, 200, "{}", both.body);
    let less = apply("v2", "four", json!({"hours": "5"})).await;
    assert_eq!((less.code, &less.body["spec"]), (200, &json!({"hours": "5"})), "{}", less.body);
    assert_eq!(owner(&less.body, "four"), json!({"f:hours": {}}));

    // The owners of a version that is gone are forgotten with the next write.
    let mut old = version("v2", false, fields("hours"));
    old["served"] = false.into();
    set_versions(&w, group, json!([version("v1", true, fields("cron")), old])).await;
    until(&w, &path(group, "v2", "/a"), |a| a.code == 404).await;
    let last = apply("v1", "five", json!({"other": "y"})).await;
    assert_eq!((last.code, owner(&last.body, "three")), (200, Value::Null), "{}", last.body);
}
