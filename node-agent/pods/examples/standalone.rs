//! Pods of one node without a control plane, to try the node's side out: the API is a table in memory (named as such
//! here, and used nowhere else), everything below it is real. Commands come on standard input:
//! `apply FILE`, `delete NAMESPACE/NAME [GRACE]`, `get RESOURCE NAMESPACE/NAME`, `list RESOURCE`.
//!
//! Usage: `standalone DATA_DIR RUNTIME_ENDPOINT CNI_SOCKET CNI_CONF_DIR CNI_BIN_DIR SKEP_CNI CGROUP PORT`

#![allow(missing_docs, clippy::expect_used)] // a tool for trying things out may end at once

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use skep_api::{Object, Status};
use skep_client::{
    Client, Collection, DeleteOptions, Informer, ListOptions, ObjectList, Patch, Target, WatchEvent,
    WatchOptions, WatchStream, WriteOptions,
};
use skep_pods::network::{Attachment, Config, Dataplane, Network, ipam::Ranges, veth::Sources};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::AsyncBufReadExt;
use tokio::sync::broadcast;

type Key = (String, String, String);

/// The API as a table in memory.
struct MemoryApi {
    table: Mutex<(u64, BTreeMap<Key, Value>)>,
    events: broadcast::Sender<(String, WatchEvent)>,
}

fn object(v: &Value) -> Arc<Object> {
    Arc::new(Object::from_wire(v.clone()).expect("an object"))
}

fn missing(t: &Target) -> Status {
    let group = skep_api::GroupResource::new("", t.collection.resource.to_string());
    Status::not_found(&group, &t.name)
}

fn key(c: &Collection, name: &str) -> Key {
    (c.resource.to_string(), c.namespace.clone().unwrap_or_default(), name.to_owned())
}

/// Merge patch, and of strategic merge the lists that statuses have.
fn merge(to: &mut Value, change: &Value) {
    let (Some(have), Some(want)) = (to.as_object_mut(), change.as_object()) else {
        *to = change.clone();
        return;
    };
    for (k, v) in want {
        let id = match k.as_str() {
            "conditions" => "type",
            "podIPs" | "hostIPs" => "ip",
            _ => "",
        };
        if v.is_null() {
            have.remove(k);
        } else if let (false, Some(list)) = (id.is_empty(), v.as_array()) {
            let at = have.entry(k.clone()).or_insert_with(|| json!([]));
            let Some(at) = at.as_array_mut() else { continue };
            for item in list {
                let found = at.iter().position(|h| h[id] == item[id]);
                match (found, item["$patch"] == "delete") {
                    (Some(i), true) => {
                        at.remove(i);
                    }
                    (Some(i), false) => merge(&mut at[i], item),
                    (None, false) => at.push(item.clone()),
                    (None, true) => {}
                }
            }
        } else {
            merge(have.entry(k.clone()).or_insert(Value::Null), v);
        }
    }
}

impl MemoryApi {
    fn put(&self, k: Key, mut v: Value, added: bool) -> Arc<Object> {
        let mut t = self.table.lock();
        t.0 += 1;
        v["metadata"]["resourceVersion"] = json!(t.0.to_string());
        if v["metadata"]["uid"].is_null() {
            v["metadata"]["uid"] = json!(format!("u{}-{}", t.0, std::process::id()));
        }
        let o = object(&v);
        t.1.insert(k.clone(), v);
        let e = if added { WatchEvent::Added(o.clone()) } else { WatchEvent::Modified(o.clone()) };
        let _ = self.events.send((k.0, e));
        o
    }

    fn drop_object(&self, k: &Key) {
        let mut t = self.table.lock();
        if let Some(mut v) = t.1.remove(k) {
            t.0 += 1;
            v["metadata"]["resourceVersion"] = json!(t.0.to_string());
            let _ = self.events.send((k.0.clone(), WatchEvent::Deleted(object(&v))));
        }
    }
}

#[async_trait]
impl Client for MemoryApi {
    async fn get(&self, t: &Target) -> Result<Arc<Object>, Status> {
        let table = self.table.lock();
        table.1.get(&key(&t.collection, &t.name)).map(object).ok_or_else(|| missing(t))
    }

    async fn list(&self, c: &Collection, _: &ListOptions) -> Result<ObjectList, Status> {
        let t = self.table.lock();
        let items = t.1.iter().filter(|(k, _)| k.0 == c.resource).map(|(_, v)| object(v)).collect();
        Ok(ObjectList { items, revision: t.0, continue_token: None })
    }

    async fn watch(&self, c: &Collection, o: &WatchOptions) -> Result<WatchStream, Status> {
        let t = self.table.lock();
        let rx = self.events.subscribe();
        let mut first = Vec::new();
        if o.send_initial_events || o.revision.is_none() {
            first.extend(
                t.1.iter().filter(|(k, _)| k.0 == c.resource).map(|(_, v)| Ok(WatchEvent::Added(object(v)))),
            );
            first.push(Ok(WatchEvent::Bookmark { revision: t.0, initial_events_end: true }));
        }
        let wanted = c.resource.to_string();
        let live = futures::stream::unfold(rx, move |mut rx| {
            let wanted = wanted.clone();
            async move {
                loop {
                    match rx.recv().await {
                        Ok((r, e)) if r == wanted => return Some((Ok(e), rx)),
                        Ok(_) => {}
                        Err(_) => return None,
                    }
                }
            }
        });
        Ok(futures::stream::iter(first).chain(live).boxed())
    }

    async fn create(&self, c: &Collection, mut body: Value, _: &WriteOptions) -> Result<Arc<Object>, Status> {
        let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if c.resource == "events" {
            eprintln!("EVENT {} {} {}", body["involvedObject"]["name"], body["reason"], body["message"]);
        }
        if let Some(ns) = &c.namespace {
            body["metadata"]["namespace"] = json!(ns);
        }
        Ok(self.put(key(c, &name), body, true))
    }

    async fn create_subresource(
        &self,
        _: &Target,
        _: Value,
        _: &WriteOptions,
    ) -> Result<Arc<Object>, Status> {
        Ok(object(&json!({"apiVersion": "v1", "kind": "TokenRequest", "metadata": {"name": "t"},
            "status": {"token": "token", "expirationTimestamp": "2100-01-01T00:00:00Z"}})))
    }

    async fn update(&self, t: &Target, body: Value, _: &WriteOptions) -> Result<Arc<Object>, Status> {
        Ok(self.put(key(&t.collection, &t.name), body, false))
    }

    async fn patch(&self, t: &Target, p: &Patch, _: &WriteOptions) -> Result<Arc<Object>, Status> {
        let k = key(&t.collection, &t.name);
        let mut v = self.table.lock().1.get(&k).cloned().ok_or_else(|| missing(t))?;
        merge(&mut v, p.body());
        Ok(self.put(k, v, false))
    }

    async fn delete(&self, t: &Target, o: &DeleteOptions) -> Result<Option<Arc<Object>>, Status> {
        let k = key(&t.collection, &t.name);
        let mut v = self.table.lock().1.get(&k).cloned().ok_or_else(|| missing(t))?;
        let grace = o.grace_period_seconds.unwrap_or(30);
        if grace == 0 {
            self.drop_object(&k);
            return Ok(None);
        }
        v["metadata"]["deletionTimestamp"] = json!(jiff::Timestamp::now().to_string());
        v["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        Ok(Some(self.put(k, v, false)))
    }

    async fn delete_collection(
        &self,
        _: &Collection,
        _: &ListOptions,
        _: &DeleteOptions,
    ) -> Result<(), Status> {
        Ok(())
    }
}

/// No programs: wires alone.
struct NoPrograms;

impl Dataplane for NoPrograms {
    fn attach(&self, a: &Attachment) -> Result<(), String> {
        eprintln!("ATTACH {a:?}");
        Ok(())
    }
    fn detach(&self, i: u32) -> Result<(), String> {
        eprintln!("DETACH {i}");
        Ok(())
    }
}

impl skep_pods::server::Extra for NoPrograms {
    fn metrics(&self) -> String {
        String::new()
    }

    fn status(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [data, endpoint, socket, conf, bin, plugin, cgroup, port] = args.as_slice() else {
        eprintln!("see the head of this file");
        return;
    };
    let api = Arc::new(MemoryApi { table: Mutex::default(), events: broadcast::channel(4096).0 });
    let client: Arc<dyn Client> = api.clone();
    let rt = skep_pods::cri::Runtime::new(endpoint).expect("endpoint");
    let (memory, cores) = skep_pods::node::capacity();
    let node = Arc::new(skep_pods::core::sandbox::Node {
        name: "n1".into(),
        ips: vec!["127.0.0.1".into()],
        data_dir: data.into(),
        log_dir: PathBuf::from(data).join("logs"),
        memory,
        cpu_milli: cores * 1000,
        cgroup: cgroup.clone(),
        cluster_domain: "cluster.local".into(),
        ..Default::default()
    });
    let config = Config {
        data_dir: data.into(),
        socket: socket.into(),
        conf_dir: conf.into(),
        bin_dir: bin.into(),
        node: Sources::default(),
        uplink: None,
    };
    let network = Network::open(config, Arc::new(NoPrograms)).expect("network");
    network.set_ranges(Ranges::of(["10.231.0.0/24"]).expect("range")).await;
    network.install(plugin.as_ref()).expect("plugin");
    network.adopt().await;
    tokio::spawn(network.clone().serve());
    let a = skep_pods::api::Api::new(client.clone(), "n1");
    let cx = skep_pods::context::Context {
        rt: rt.clone(),
        api: a.clone(),
        volumes: skep_pods::volumes::Volumes::new(a.clone(), node.clone()),
        node: node.clone(),
        cgroups: Arc::new(skep_pods::cgroup::Cgroups::discover()),
        services: Arc::new(Vec::new),
        own: Arc::new(|| {
            let allocatable =
                json!({"cpu": "64", "memory": "64Gi", "ephemeral-storage": "1Ti", "pods": "110"});
            let node = json!({"metadata": {"name": "n1"}, "status": {"allocatable": allocatable}});
            skep_pods::core::admit::NodeView::read(&node)
        }),
        allotments: skep_pods::allotments::Allotments::open(&PathBuf::from(data).join("pods")),
        kernel: (6, 1),
        probes: Arc::default(),
        began: Instant::now(),
    };
    // What an API server would remember over a restart of the node's side: pods applied by file, kept in a file.
    let saved = PathBuf::from(data).join("memory-api.json");
    if let Ok(text) = std::fs::read(&saved) {
        let list: Vec<Value> = serde_json::from_slice(&text).expect("saved");
        for v in list {
            let c = Collection::core("pods").within(v["metadata"]["namespace"].as_str().unwrap_or("default"));
            let name = v["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            api.put(key(&c, &name), v, true);
        }
    }
    let pods = skep_pods::manager::Pods::new(cx);
    let listener =
        tokio::net::TcpListener::bind(("127.0.0.1", port.parse::<u16>().expect("port"))).await.expect("bind");
    if let Ok(dir) = std::env::var("TLS_DIR") {
        let d = PathBuf::from(dir);
        let tls =
            skep_pods::server::tls(&d.join("tls.crt"), &d.join("tls.key"), &d.join("ca.crt")).expect("tls");
        tokio::spawn(skep_pods::server::Server::new(pods.clone(), Arc::new(NoPrograms)).run(listener, tls));
    }
    let informer = Informer::all(client.clone(), Collection::core("pods"));
    tokio::spawn(pods.clone().run(informer));
    let mut lines = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let w: Vec<&str> = line.split_whitespace().collect();
        let split =
            |s: &str| s.split_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap_or_default();
        match w.as_slice() {
            ["apply", file] => {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                for doc in serde_json::Deserializer::from_str(&text).into_iter::<Value>().flatten() {
                    let plural = format!("{}s", doc["kind"].as_str().unwrap_or("Pod").to_lowercase());
                    let ns = doc["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
                    let c = Collection {
                        group_version: Collection::core("pods").group_version,
                        resource: plural.into(),
                        namespace: Some(ns),
                    };
                    let _ = client.create(&c, doc, &WriteOptions::default()).await;
                }
            }
            ["delete", at, rest @ ..] => {
                let (ns, name) = split(at);
                let grace = rest.first().and_then(|g| g.parse().ok());
                let o = DeleteOptions { grace_period_seconds: grace, ..DeleteOptions::default() };
                let r = client.delete(&Collection::core("pods").item(&ns, &name), &o).await;
                eprintln!("DELETE {}", r.is_ok());
            }
            ["get", resource, at] => {
                let (ns, name) = split(at);
                let v = api.table.lock().1.get(&((*resource).to_owned(), ns, name)).cloned();
                println!("{}", serde_json::to_string_pretty(&v).unwrap_or_default());
            }
            ["list"] => {
                for ((r, ns, n), v) in &api.table.lock().1 {
                    if r == "pods" {
                        let ready = v["status"]["conditions"]
                            .as_array()
                            .and_then(|c| c.iter().find(|c| c["type"] == "Ready"))
                            .map_or(json!(null), |c| c["status"].clone());
                        let states: Vec<String> = v["status"]["containerStatuses"]
                            .as_array()
                            .into_iter()
                            .flatten()
                            .map(|c| format!("{}:{}:{}", c["name"], c["restartCount"], c["state"]))
                            .collect();
                        println!(
                            "POD {ns}/{n} {} ready={ready} ip={} {states:?}",
                            v["status"]["phase"], v["status"]["podIP"]
                        );
                    }
                }
            }
            ["save"] => {
                let list: Vec<Value> = api
                    .table
                    .lock()
                    .1
                    .iter()
                    .filter(|(k, _)| k.0 == "pods")
                    .map(|(_, v)| v.clone())
                    .collect();
                std::fs::write(&saved, serde_json::to_vec(&list).unwrap_or_default()).expect("save");
            }
            _ => eprintln!("?"),
        }
    }
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
}
