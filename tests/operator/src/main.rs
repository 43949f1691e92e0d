//! An operator as its authors write one: with kube-rs and nothing of Skep's. The tests let it work against a server.
//!
//! It publishes the kind `Site` and keeps a ConfigMap with the page of each; when a Site goes, a finalizer notes so.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Client, CustomResource, CustomResourceExt, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What the operator calls itself as a writer.
const MANAGER: &str = "site-operator";
/// What keeps a Site until the operator has noted its end.
const FINALIZER: &str = "example.com/farewell";

/// What somebody wants published.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "example.com",
    version = "v1",
    kind = "Site",
    namespaced,
    status = "SiteStatus",
    shortname = "si",
    printcolumn = r#"{"name":"Title","type":"string","jsonPath":".spec.title"}"#,
    printcolumn = r#"{"name":"Published","type":"boolean","jsonPath":".status.published"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SiteSpec {
    /// Head of the page.
    #[schemars(length(min = 1, max = 20))]
    pub title: String,
    /// Its paragraphs.
    #[serde(default)]
    pub paragraphs: Vec<String>,
    /// How many visitors it is made for.
    #[serde(default = "visitors")]
    #[schemars(range(min = 1, max = 1000))]
    pub visitors: i32,
}

/// What has become of it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteStatus {
    /// Whether the page is there.
    pub published: bool,
    /// The generation that was published.
    pub observed_generation: Option<i64>,
}

fn visitors() -> i32 {
    10
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    #[error("a Site without a namespace")]
    Homeless,
    #[error("the finalizer: {0}")]
    Finalizer(#[source] Box<kube::runtime::finalizer::Error<Error>>),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let client = Client::try_default().await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = Site::crd_name();
    definitions.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(Site::crd())).await?;
    await_condition(definitions, name, conditions::is_crd_established()).await?;

    let sites: Api<Site> = Api::all(client.clone());
    let pages: Api<ConfigMap> = Api::all(client.clone());
    Controller::new(sites, watcher::Config::default())
        .owns(pages, watcher::Config::default())
        .shutdown_on_signal()
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(200)), Arc::new(client))
        .for_each(|result| async {
            if let Err(error) = result {
                eprintln!("{error}");
            }
        })
        .await;
    Ok(())
}

async fn reconcile(site: Arc<Site>, client: Arc<Client>) -> Result<Action, Error> {
    let namespace = site.namespace().ok_or(Error::Homeless)?;
    let sites: Api<Site> = Api::namespaced(Client::clone(&client), &namespace);
    finalizer(&sites, FINALIZER, site, |event| async {
        match event {
            Event::Apply(site) => publish(&site, &client, &namespace).await,
            Event::Cleanup(site) => say_farewell(&site, &client, &namespace).await,
        }
    })
    .await
    .map_err(|error| Error::Finalizer(Box::new(error)))
}

/// Writes the page, and into the status that it has been.
async fn publish(site: &Site, client: &Client, namespace: &str) -> Result<Action, Error> {
    let name = site.name_any();
    let page = format!("# {}\n{}\n", site.spec.title, site.spec.paragraphs.join("\n"));
    let pages: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let wanted = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": [site.controller_owner_ref(&())]},
        "data": {"page": page},
    });
    let apply = PatchParams::apply(MANAGER);
    pages.patch(&name, &apply, &Patch::Apply(wanted)).await?;
    let status = json!({
        "apiVersion": "example.com/v1", "kind": "Site",
        "status": SiteStatus { published: true, observed_generation: site.metadata.generation },
    });
    let sites: Api<Site> = Api::namespaced(client.clone(), namespace);
    sites.patch_status(&name, &apply, &Patch::Apply(status)).await?;
    Ok(Action::await_change())
}

/// Notes the end of a Site in a ConfigMap that outlives it.
async fn say_farewell(site: &Site, client: &Client, namespace: &str) -> Result<Action, Error> {
    let pages: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let wanted = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "farewells"},
        "data": {site.name_any(): site.spec.title},
    });
    let apply = PatchParams::apply(&format!("{MANAGER}-{}", site.name_any()));
    pages.patch("farewells", &apply, &Patch::Apply(wanted)).await?;
    Ok(Action::await_change())
}
