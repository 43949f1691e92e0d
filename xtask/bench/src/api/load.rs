//! The load: clients with a connection each, which send one request after another.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http::{Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use skep_client::{Config, HttpClient};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const NAMESPACE: &str = "bench";
/// Watchers that share a connection.
const STREAMS: u64 = 50;
/// Longest wait for a server to take writes, and for a watcher to be told.
const PATIENCE: Duration = Duration::from_secs(30);

/// The server under load.
pub(crate) struct Target {
    config: Config,
    /// Pods created so far; their names are numbers.
    made: AtomicU64,
}

fn pods() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

impl Target {
    /// Makes a namespace for the load.
    pub(crate) async fn open(kubeconfig: &Path) -> Result<Arc<Self>> {
        let config = Config::from_file(kubeconfig)?;
        let client = HttpClient::new(&config, "skep-bench")?;
        let create =
            async |path: &str, body: Value| match send(&client, Method::POST, path, Some(&body)).await {
                Err(error) if error.to_string().contains("already exists") => Ok(()),
                other => other.map(drop),
            };
        let begun = Instant::now();
        // A server that has just been started may not listen yet, or not know yet who may do what.
        while let Err(error) = create("/api/v1/namespaces", json!({"metadata": {"name": NAMESPACE}})).await {
            if begun.elapsed() > PATIENCE {
                return Err(error.context("the server does not take writes"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // No pod is admitted without it, and not every server under load has the controller that makes it.
        let accounts = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
        create(&accounts, json!({"metadata": {"name": "default"}})).await?;
        Ok(Arc::new(Target { config, made: AtomicU64::new(0) }))
    }

    fn client(&self) -> Result<HttpClient> {
        Ok(HttpClient::new(&self.config, "skep-bench")?)
    }
}

async fn send(client: &HttpClient, method: Method, path: &str, body: Option<&Value>) -> Result<u64> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let answer = client
        .send(method, path, "application/json", body.into())
        .await
        .map_err(|status| anyhow!("{path}: {status}"))?;
    drain(answer).await
}

/// Reads an answer to its end; gives its length.
async fn drain(answer: Response<Incoming>) -> Result<u64> {
    let mut body = answer.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(length)
}

/// Does `count` pieces of work with so many clients at a time.
async fn by_clients<F>(
    target: &Arc<Target>,
    clients: u64,
    count: u64,
    work: impl Fn(HttpClient, u64) -> F + Clone + Send + 'static,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let (client, next, work) = (target.client()?, next.clone(), work.clone());
        tasks.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, anyhow::Error>(());
                }
                work(client.clone(), number).await?;
            }
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// A pod as a Deployment would make it, for a scheduler that does not exist.
fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bench", "pod-template-hash": "5d8f7c9b6"}},
        "spec": {
            "schedulerName": "nobody",
            "containers": [{
                "name": "app", "image": "example.invalid/app:1", "ports": [{"containerPort": 8080, "name": "http"}],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "two"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
            }],
        },
    })
}

/// Creates pods.
pub(crate) async fn create(target: &Arc<Target>, clients: u64, count: u64) -> Result<()> {
    let first = target.made.fetch_add(count, Ordering::Relaxed);
    by_clients(target, clients, count, move |client, number| async move {
        let body = pod(&format!("pod-{}", first + number));
        send(&client, Method::POST, &pods(), Some(&body)).await.map(drop)
    })
    .await
}

/// Reads single pods.
pub(crate) async fn get(target: &Arc<Target>, clients: u64, count: u64) -> Result<()> {
    let made = target.made.load(Ordering::Relaxed);
    by_clients(target, clients, count, move |client, number| async move {
        // A step prime to the number of pods visits them all in no particular order.
        let path = format!("{}/pod-{}", pods(), number * 7_919 % made);
        send(&client, Method::GET, &path, None).await.map(drop)
    })
    .await
}

/// Lists all pods; gives how long each list took, in milliseconds.
pub(crate) async fn list(target: &Arc<Target>, count: u64, expected: u64) -> Result<Vec<f64>> {
    let client = target.client()?;
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        let length = send(&client, Method::GET, &pods(), None).await?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        if length < expected * 500 {
            bail!("{length} bytes are not {expected} pods");
        }
    }
    Ok(times)
}

/// Watches that run.
pub(crate) struct Watchers {
    count: u64,
    tasks: Vec<JoinHandle<()>>,
    /// The number of events in each piece that one of them was sent.
    hear: mpsc::UnboundedReceiver<usize>,
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Opens watches, and waits until they have been told what was there before.
pub(crate) async fn watch(target: &Arc<Target>, watchers: u64) -> Result<Watchers> {
    let (told, mut hear) = mpsc::unbounded_channel();
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps?watch=true&timeoutSeconds=600");
    let mut tasks = Vec::new();
    let mut client = target.client()?;
    for number in 0..watchers {
        if number % STREAMS == 0 {
            client = target.client()?;
        }
        let answer = client
            .send(Method::GET, &path, "application/json", Bytes::new())
            .await
            .map_err(|status| anyhow!("watch: {status}"))?;
        let told = told.clone();
        tasks.push(tokio::spawn(async move {
            let mut body = answer.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                // One event a frame or several: each ends with a line's end.
                let lines =
                    frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
                if lines > 0 && told.send(lines).is_err() {
                    return;
                }
            }
        }));
    }
    settle(&mut hear).await;
    Ok(Watchers { count: watchers, tasks, hear })
}

/// Writes one object after another, and waits each time until every watcher has been told; gives how long the last of them
/// waited, in milliseconds.
pub(crate) async fn tell(target: &Arc<Target>, watchers: &mut Watchers, events: u64) -> Result<Vec<f64>> {
    let writer = target.client()?;
    let collection = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let mut times = Vec::new();
    for number in 0..events {
        let body = json!({"metadata": {"name": format!("event-{number}")}, "data": {"key": "x".repeat(512)}});
        let begun = Instant::now();
        send(&writer, Method::POST, &collection, Some(&body)).await?;
        let mut heard = 0;
        while heard < watchers.count {
            let lines = timeout(PATIENCE, watchers.hear.recv()).await.context("a watcher was not told")?;
            heard += lines.context("all watches ended")? as u64;
        }
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(times)
}

/// Lets what watchers are told at first pass by.
async fn settle(hear: &mut mpsc::UnboundedReceiver<usize>) {
    while timeout(Duration::from_secs(1), hear.recv()).await.is_ok() {}
}

/// The middle of some times.
pub(crate) fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
