//! Names, conditions, discovery and the end of definitions.

use super::*;
use crate::discovery;
use skep_api::openapi;
use skep_api::schema::Schemas;
use skep_api::{GroupVersion, Resource};

fn table(w: &World) -> skep_api::kinds::ResourceTable {
    w.server.registry().caches().table()
}

/// The rows that discovery and documents tell of.
fn announced(w: &World) -> Vec<Resource> {
    table(w).rows().filter(|row| row.announced()).map(|row| Resource::clone(row)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_served_from_its_names_to_its_end() {
    let w = served().await;
    let group = "life.example.com";
    assert_eq!(w.get(&path(group, "v1", "")).await.code, 404);
    let mut versions = json!([version("v1", true, json!({"cron": {"type": "string"}}))]);
    versions[0]["subresources"] = json!({"status": {}});
    let definition = define(&w, crontabs(group, versions)).await;
    assert_eq!(definition["status"]["acceptedNames"]["listKind"], "CronTabList");
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(condition(&definition, "NamesAccepted"), "True");

    // Discovery tells of it soon after.
    let told = async {
        while discovery::resource_list(&table(&w), group, "v1").is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
    let list = discovery::resource_list(&table(&w), group, "v1").unwrap();
    let main = &list["resources"][0];
    assert_eq!((&main["name"], &main["kind"]), (&json!("crontabs"), &json!("CronTab")));
    assert_eq!((&main["shortNames"], &main["categories"]), (&json!(["ct"]), &json!(["all"])));
    assert_eq!(list["resources"][1]["name"], "crontabs/status");
    assert!(discovery::aggregated(&table(&w), false, "v2").to_string().contains("life.example.com"));

    // Objects hold it until they are gone; meanwhile nothing new is made.
    let mut held = crontab(group, "v1", "held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/wait"]);
    create(&w, group, "v1", held).await;
    create(&w, group, "v1", crontab(group, "v1", "free", json!({}))).await;
    let place = format!("{DEFINITIONS}/crontabs.{group}");
    let deleted = w.json("DELETE", &place, json!({})).await;
    assert_eq!((deleted.code, condition(&deleted.body, "Terminating").as_str()), (200, "True"));
    until(&w, &path(group, "v1", "/free"), |a| a.code == 404).await;
    until(&w, &place, |a| a.body["status"]["conditions"].to_string().contains("InstanceDeletionInProgress"))
        .await;
    let refused = w.json("POST", &path(group, "v1", ""), crontab(group, "v1", "new", json!({}))).await;
    assert_eq!(refused.code, 403);
    let why = refused.body["message"].as_str().unwrap();
    assert!(why.ends_with("create not allowed while custom resource definition is terminating"), "{why}");
    let list = discovery::resource_list(&table(&w), group, "v1").unwrap();
    assert!(!list["resources"][0]["verbs"].to_string().contains("create"));
    let released =
        w.ask("PATCH", &path(group, "v1", "/held"), MERGE, r#"{"metadata":{"finalizers":null}}"#).await;
    assert_eq!(released.code, 200, "{}", released.body);
    until(&w, &place, |a| a.code == 404).await;
    until(&w, &path(group, "v1", ""), |a| a.code == 404).await;
    assert!(discovery::one_group(&table(&w), group).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_belongs_to_one_definition_of_a_group() {
    let w = served().await;
    let group = "names.example.com";
    let versions = || json!([version("v1", true, json!({}))]);
    define(&w, crontabs(group, versions())).await;
    let mut other = crontabs(group, versions());
    other["metadata"]["name"] = format!("others.{group}").into();
    other["spec"]["names"] =
        json!({"plural": "others", "singular": "other", "kind": "CronTab", "shortNames": ["ct"]});
    assert_eq!(w.json("POST", DEFINITIONS, other).await.code, 201);
    let place = format!("{DEFINITIONS}/others.{group}");
    let refused = until(&w, &place, |a| !condition(&a.body, "NamesAccepted").is_empty()).await.body;
    assert_eq!(
        (condition(&refused, "NamesAccepted"), condition(&refused, "Established")),
        ("False".into(), "False".into())
    );
    assert_eq!(w.get(&format!("/apis/{group}/v1/namespaces/d/others")).await.code, 404);

    // When the first goes the second gets what it asked for.
    w.json("DELETE", &format!("{DEFINITIONS}/crontabs.{group}"), json!({})).await;
    established(&w, &format!("others.{group}")).await;
    until(&w, &format!("/apis/{group}/v1/namespaces/d/others"), |a| a.code == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_built_in_cannot_be_taken_over() {
    let w = served().await;
    let group = "coordination.k8s.io";
    let mut definition = crontabs(group, json!([version("v1", true, json!({}))]));
    definition["metadata"] = json!({
        "name": "leases.coordination.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, to see what becomes of it"},
    });
    definition["spec"]["names"] = json!({"plural": "leases", "singular": "lease", "kind": "Lease"});
    let made = w.json("POST", DEFINITIONS, definition).await;
    assert_eq!(made.code, 201, "{}", made.body);
    let place = format!("{DEFINITIONS}/leases.coordination.k8s.io");
    until(&w, &place, |a| condition(&a.body, "NamesAccepted") == "True").await;
    let row = table(&w).get(group, "v1", "leases").cloned().unwrap();
    assert!(row.custom.is_none());
    // Its end is not that of the built-in objects.
    let key = crate::cache::store_key(&row.group_resource(), "d", "kept");
    let op = skep_store::Op::Put {
        key: key.clone().into(),
        value: b"{\"metadata\":{\"name\":\"kept\"}}".to_vec().into(),
    };
    w.store.txn(skep_store::Txn { compare: vec![], ops: vec![op] }).await.unwrap();
    w.json("DELETE", &place, json!({})).await;
    until(&w, &place, |a| a.code == 404).await;
    assert!(w.store.get(key.as_bytes()).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_have_the_schemas_that_were_given() {
    let w = served().await;
    let group = "docs.example.com";
    let spec = json!({"cron": {"type": "string", "pattern": "^a", "description": "When."}});
    let mut versions = json!([version("v1", true, spec)]);
    versions[0]["subresources"] =
        json!({"scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}});
    let definition = define(&w, crontabs(group, versions)).await;
    let gv = GroupVersion::new(group, "v1");
    let v3 = |w: &World| openapi::v3(&announced(w), Schemas::builtin(), &gv);
    let published = async {
        while v3(&w).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), published).await.unwrap();
    let document: Value = serde_json::from_slice(&v3(&w).unwrap()).unwrap();
    let schema = &document["components"]["schemas"]["com.example.docs.v1.CronTab"];
    assert_eq!(schema["properties"]["spec"]["properties"]["cron"]["pattern"], "^a");
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
    assert!(document["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"].is_object());
    assert!(document["components"]["schemas"]["io.k8s.api.autoscaling.v1.Scale"].is_object());
    let list = &document["paths"][format!("/apis/{group}/v1/namespaces/{{namespace}}/crontabs")]["get"];
    assert!(list["responses"]["200"].to_string().contains("com.example.docs.v1.CronTabList"));
    let v2: Value = serde_json::from_slice(&openapi::v2(&announced(&w), Schemas::builtin())).unwrap();
    let given = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    assert_eq!(&v2["definitions"]["com.example.docs.v1.CronTab"]["properties"]["spec"], given);

    // What is changed is published anew, what is gone is not.
    let hash = |w: &World| openapi::hash(&announced(w), Some(&gv));
    let before = hash(&w);
    let patch = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/description", "value": "New."}]);
    let place = format!("{DEFINITIONS}/crontabs.{group}");
    let patch = patch.to_string().replace("replace", "add");
    assert_eq!(w.ask("PATCH", &place, "application/json-patch+json", patch).await.code, 200);
    let renewed = async {
        while hash(&w) == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), renewed).await.unwrap();
    w.json("DELETE", &place, json!({})).await;
    until(&w, &place, |a| a.code == 404).await;
    until(&w, &path(group, "v1", ""), |a| a.code == 404).await;
    assert!(v3(&w).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_serves_what_is_defined() {
    let w = served().await;
    let group = "again.example.com";
    define(&w, crontabs(group, json!([version("v1", true, json!({"cron": {"type": "string"}}))]))).await;
    create(&w, group, "v1", crontab(group, "v1", "a", json!({"cron": "x"}))).await;
    // Another server over the same store.
    let caches = crate::cache::Caches::start(w.store.clone(), skep_api::kinds::ResourceTable::builtin())
        .await
        .unwrap();
    let other = crate::ApiServer::new(crate::Parts {
        caches,
        authenticator: w.server.authenticator.clone(),
        authorizer: w.server.authorizer.clone(),
        admission: w.server.registry().admission.clone(),
        handlers: Default::default(),
        limits: Default::default(),
    });
    super::super::start(&other, Arc::new(NoRules)).await.unwrap();
    let request = http::Request::get(path(group, "v1", "/a")).body(crate::full("")).unwrap();
    assert_eq!(other.clone().answer_to(request).await.status(), 200);
    assert!(discovery::one_group(&other.registry().caches().table(), group).is_some());
}
