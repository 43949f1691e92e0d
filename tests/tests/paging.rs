//! A list in pages is one view of one instant, whatever is written between the pages.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use skep_tests::{TestCluster, sample};
use xtask::api::Api;

const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";
/// Writers that fill the collection side by side.
const WRITERS: usize = 8;
/// Objects a page.
const PAGE: usize = 500;

fn create(api: &Api, name: &str) -> Result<()> {
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}});
    api.create(COLLECTION, &object)?.success().map(drop)
}

/// Creates and deletes objects among those that are listed, until told to stop; gives how many writes that were.
fn disturb(api: &Api, count: usize, stop: &AtomicBool) -> Result<usize> {
    let mut writes = 0;
    while !stop.load(Ordering::Relaxed) {
        let name = format!("m-{:06}-between", writes * 7_919 % count);
        create(api, &name)?;
        api.delete(&format!("{COLLECTION}/m-{:06}", writes * 104_729 % count))?;
        writes += 1;
    }
    Ok(writes)
}

#[test]
fn pages_show_one_instant_while_others_write() -> Result<()> {
    let count = sample((6_000, 100_000));
    let cluster = TestCluster::start_control_plane()?;
    let kubeconfig = cluster.config.kubeconfig();
    std::thread::scope(|scope| -> Result<()> {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let api = Api::open(&kubeconfig);
                scope.spawn(move || -> Result<()> {
                    let api = api?;
                    (writer..count)
                        .step_by(WRITERS)
                        .try_for_each(|number| create(&api, &format!("m-{number:06}")))
                })
            })
            .collect();
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?)
    })?;
    let stop = AtomicBool::new(false);
    let api = Api::open(&kubeconfig)?;
    std::thread::scope(|scope| -> Result<()> {
        let (api, told) = (&api, &stop);
        let disturbing = scope.spawn(move || disturb(api, count, told));
        let walked = walk(&cluster, count);
        stop.store(true, Ordering::Relaxed);
        let writes = disturbing.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        ensure!(writes > 10, "only {writes} writes came between");
        walked
    })
}

/// Lists everything in pages and compares with the one list of that instant.
fn walk(cluster: &TestCluster, count: usize) -> Result<()> {
    let (mut names, mut versions, mut token) = (Vec::new(), BTreeSet::new(), String::new());
    let mut pages = 0;
    loop {
        let list = cluster.api.get(&format!("{COLLECTION}?limit={PAGE}&continue={token}"))?.success()?;
        let items = list["items"].as_array().context("items")?;
        let version = list["metadata"]["resourceVersion"].as_str().context("a version")?.to_owned();
        names.extend(items.iter().filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)));
        if let Some(left) = list["metadata"]["remainingItemCount"].as_u64() {
            assert!(left > 0);
        }
        versions.insert(version);
        pages += 1;
        match list["metadata"]["continue"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => break,
        }
    }
    assert_eq!(versions.len(), 1, "every page is of one instant");
    assert_eq!(pages, names.len().div_ceil(PAGE));
    assert!(names.is_sorted() && names.windows(2).all(|pair| pair[0] != pair[1]), "in order, each once");
    // What stood at that instant: a list at just that version says so, too.
    let version = versions.first().context("a version")?;
    let exact = format!("{COLLECTION}?resourceVersion={version}&resourceVersionMatch=Exact&limit=0");
    let list = cluster.api.get(&exact)?.success()?;
    let items = list["items"].as_array().context("items")?;
    let stood: Vec<&str> = items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect();
    assert_eq!(names, stood);
    assert!(names.len() + 1_000 > count, "{} of {count}", names.len());
    Ok(())
}
