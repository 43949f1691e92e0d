use super::*;
use crate::{DeleteOptions, ObjectList, Patch, Target, WatchStream, WriteOptions};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// A client that answers lists and watches from a script, in order.
struct Script {
    lists: Mutex<VecDeque<Result<ObjectList, Status>>>,
    watches: Mutex<VecDeque<Vec<Result<WatchEvent, Status>>>>,
    asked: Mutex<Vec<Option<u64>>>,
}

fn object(name: &str, revision: u64) -> Arc<Object> {
    let value = json!({"apiVersion": "v1", "kind": "X", "metadata": {"namespace": "d", "name": name}});
    Arc::new(Object::from_value(value, revision, &[]).unwrap())
}

fn refused<T>() -> Result<T, Status> {
    Err(Status::internal("not in this script"))
}

#[async_trait]
impl Client for Script {
    async fn list(&self, _: &Collection, _: &ListOptions) -> Result<ObjectList, Status> {
        self.lists.lock().pop_front().unwrap_or_else(refused)
    }
    async fn watch(&self, _: &Collection, options: &WatchOptions) -> Result<WatchStream, Status> {
        self.asked.lock().push(options.revision);
        match self.watches.lock().pop_front() {
            Some(events) => Ok(futures::stream::iter(events).boxed()),
            None => Ok(futures::stream::pending().boxed()),
        }
    }
    async fn get(&self, _: &Target) -> Result<Arc<Object>, Status> {
        refused()
    }
    async fn create(&self, _: &Collection, _: Value, _: &WriteOptions) -> Result<Arc<Object>, Status> {
        refused()
    }
    async fn create_subresource(
        &self,
        _: &Target,
        _: Value,
        _: &WriteOptions,
    ) -> Result<Arc<Object>, Status> {
        refused()
    }
    async fn update(&self, _: &Target, _: Value, _: &WriteOptions) -> Result<Arc<Object>, Status> {
        refused()
    }
    async fn patch(&self, _: &Target, _: &Patch, _: &WriteOptions) -> Result<Arc<Object>, Status> {
        refused()
    }
    async fn delete(&self, _: &Target, _: &DeleteOptions) -> Result<Option<Arc<Object>>, Status> {
        refused()
    }
    async fn delete_collection(
        &self,
        _: &Collection,
        _: &ListOptions,
        _: &DeleteOptions,
    ) -> Result<(), Status> {
        refused()
    }
}

fn list(items: &[(&str, u64)], revision: u64) -> Result<ObjectList, Status> {
    Ok(ObjectList {
        items: items.iter().map(|(n, r)| object(n, *r)).collect(),
        revision,
        continue_token: None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_view_survives_failures_and_expiry() {
    let script = Arc::new(Script {
        lists: Mutex::new([refused(), list(&[("a", 1), ("b", 2)], 2), list(&[("b", 9), ("c", 8)], 9)].into()),
        watches: Mutex::new(
            [
                vec![Ok(WatchEvent::Modified(object("a", 3))), Ok(WatchEvent::Deleted(object("b", 4)))],
                vec![
                    Ok(WatchEvent::Bookmark { revision: 6, initial_events_end: false }),
                    Err(Status::expired("too old")),
                ],
            ]
            .into(),
        ),
        asked: Mutex::default(),
    });
    let informer = Informer::all(script.clone(), Collection::core("xs"));
    let mut changes = informer.subscribe();
    let show = |change: &Change| {
        let side =
            |o: &Option<Arc<Object>>| o.as_ref().map(|o| format!("{}@{}", o.meta().name, o.revision()));
        (side(&change.old), side(&change.new))
    };
    // A reader that breaks harms neither the view nor the others.
    informer.each(|change| assert_ne!(change.new.as_ref().map_or(0, |o| o.revision()), 3));
    let read = Arc::new(Mutex::new(Vec::new()));
    let reading = read.clone();
    informer.each(move |change| reading.lock().push(show(change)));
    informer.synced().await;
    let mut told = Vec::new();
    for _ in 0..7 {
        told.push(show(&changes.recv().await.unwrap()));
    }
    let row = |old: Option<&str>, new: Option<&str>| (old.map(str::to_owned), new.map(str::to_owned));
    assert_eq!(
        told,
        [
            row(None, Some("a@1")),
            row(None, Some("b@2")),
            row(Some("a@1"), Some("a@3")),
            row(Some("b@2"), None),
            row(Some("a@3"), None), // gone while the watch had expired
            row(None, Some("b@9")),
            row(None, Some("c@8")),
        ]
    );
    tokio::task::yield_now().await;
    assert_eq!(*read.lock(), told);
    assert_eq!(informer.namespace("d").len(), 2);
    assert!(informer.get("d", "a").is_none());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*script.asked.lock(), [Some(2), Some(4), Some(9)]);
}

#[tokio::test(start_paused = true)]
async fn late_subscribers_see_what_is_there() {
    let script = Arc::new(Script {
        lists: Mutex::new([list(&[("a", 1)], 1)].into()),
        watches: Mutex::default(),
        asked: Mutex::default(),
    });
    let informer = Informer::all(script, Collection::core("xs"));
    informer.synced().await;
    let first = informer.subscribe().recv().await.unwrap();
    assert!(first.old.is_none() && first.new.is_some());
    let read = Arc::new(Mutex::new(Vec::new()));
    let reading = read.clone();
    informer.each(move |change| reading.lock().push((change.old.is_none(), change.new.is_some())));
    assert_eq!(*read.lock(), [(true, true)]);
}
