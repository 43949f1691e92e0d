//! Creations, patches, applies and refusals, held to the answers of a kube-apiserver: the same requests in the same order.
//!
//! `SKEP_DIFFERENCES=FOLDER` has every difference written there, the listed ones too.
//!
//! The requests and answers lie in `tests/fixtures/differential`, one line a case; the program `record-differential`
//! records them. What may differ between two servers that are alike (uids, times, addresses given out) is made equal
//! before answers are compared ([`normal`]); answers that differ still stand in a list ([`known`]).

mod known;
mod normal;

use super::Answer;
use super::recorded::is_of_a_kube_apiserver;
use super::secure::{Secure, secure};
use crate::hooks::full;
use crate::request::UserInfo;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use skep_cel::Rules;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Who asks, as in the recording.
const WHO: &str = "admin+system:masters";
/// Differences that are shown of one file.
const SHOWN: usize = 40;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/differential")
}

/// The lines of a file, of which the first says what is common to all cases.
fn read(name: &str) -> (Value, Vec<Value>) {
    let path = folder().join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let head = lines.next().unwrap();
    is_of_a_kube_apiserver(&head["version"]).unwrap();
    (head, lines.collect())
}

async fn ask(world: &Secure, step: &Value) -> (Answer, Vec<String>) {
    let text = |key: &str| step[key].as_str().unwrap();
    let request = Request::builder().method(text("method")).uri(text("path")).header("as", WHO);
    let request = request.header("content-type", text("type")).body(full(step["body"].to_string())).unwrap();
    let (parts, body) = world.server.clone().answer_to(request).await.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let warnings = parts.headers.get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned());
    let warnings = warnings.collect();
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    (Answer { code: parts.status.as_u16(), headers: parts.headers, body }, warnings)
}

/// A server with what all cases of a file need.
async fn prepared(head: &Value, name: &str) -> Secure {
    let world = secure().await;
    crate::custom::start(&world.server, Arc::new(Rules)).await.unwrap();
    // Patches were recorded when controllers had said what they say of the object; the rest before they could.
    if name.starts_with("patch") {
        let client = world.server.local_client(UserInfo::new("system:apiserver", &["system:masters"]));
        tokio::spawn(crate::flows::keep(client));
    }
    for step in head["before"].as_array().unwrap() {
        let (answer, _) = ask(&world, step).await;
        assert!([200, 201, 409].contains(&answer.code), "{}", answer.body);
    }
    let ready = json!({"method": "GET", "path": head["ready"], "type": "application/json", "body": ""});
    let served = async {
        while ask(&world, &ready).await.0.code != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), served).await.unwrap();
    world
}

/// A kind, the condition that controllers of the server write last of a new object, and what it may say then.
type Settles = (&'static str, &'static str, &'static [&'static str]);

/// What controllers say of new objects.
const SETTLED: &[Settles] =
    &[("CustomResourceDefinition", "Established", &["True"]), ("FlowSchema", "Dangling", &["True", "False"])];

/// Waits until the controller of a new object's kind has said what it says of it: the recorded answers to the steps that
/// follow have it.
async fn settled(world: &Secure, step: &Value, answer: &Answer, settles: &[Settles]) {
    let Some((_, last, words)) = settles.iter().find(|(kind, ..)| answer.body["kind"] == *kind) else {
        return;
    };
    if step["method"] != "POST" {
        return;
    }
    let place = step["path"].as_str().unwrap().split('?').next().unwrap();
    let path = format!("{place}/{}", answer.body["metadata"]["name"].as_str().unwrap());
    let read = json!({"method": "GET", "path": path, "type": "application/json", "body": ""});
    let said = async {
        loop {
            let conditions = ask(world, &read).await.0.body["status"]["conditions"].clone();
            let all = conditions.as_array().map(Vec::as_slice).unwrap_or_default();
            if all.iter().any(|condition| {
                condition["type"] == *last && words.iter().any(|word| condition["status"] == *word)
            }) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), said).await.unwrap();
}

/// Where two trees differ: place, ours, theirs.
fn differences(ours: &Value, theirs: &Value, at: &str, out: &mut Vec<(String, Value, Value)>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let (a, b) = (a.get(key), b.get(key));
                let place = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                match (a, b) {
                    (Some(a), Some(b)) => differences(a, b, &place, out),
                    (a, b) => out.push((place, json!(a), json!(b))),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{at}/{index}"), out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push((at.to_owned(), a.clone(), b.clone())),
    }
}

/// What differs between an answer and the recorded one, for people; nothing where they agree.
fn compared(step: &Value, answer: &Answer, warnings: &[String]) -> Option<String> {
    let ours = normal::answer(step, answer.code, &answer.body, &json!(warnings));
    let recorded = step.get("warnings").cloned().unwrap_or_else(|| json!([]));
    let code = u16::try_from(step["code"].as_u64().unwrap()).unwrap();
    let theirs = normal::answer(step, code, &step["answer"], &recorded);
    let mut found = Vec::new();
    differences(&ours, &theirs, "", &mut found);
    let found = found
        .iter()
        .map(|(at, ours, theirs)| format!("  {at}\n    ours:   {ours}\n    theirs: {theirs}"))
        .collect::<Vec<_>>();
    (!found.is_empty()).then(|| found.join("\n"))
}

async fn replay(name: &str) {
    let (head, cases) = read(name);
    let world = prepared(&head, name).await;
    let mut open = known::open(name);
    let settles =
        SETTLED.iter().filter(|(kind, ..)| *kind == "CustomResourceDefinition" || name.starts_with("patch"));
    let settles: Vec<_> = settles.copied().collect();
    let (mut wrong, mut differ, mut answers) = (Vec::new(), Vec::new(), 0);
    for case in &cases {
        let title = case["case"].as_str().unwrap();
        for step in case["before"].as_array().into_iter().flatten() {
            let (answer, _) = ask(&world, step).await;
            assert_eq!(json!(answer.code), step["code"], "{title}, before: {}", answer.body);
            settled(&world, step, &answer, &settles).await;
        }
        for (index, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            answers += 1;
            let (answer, warnings) = ask(&world, step).await;
            let found = compared(step, &answer, &warnings);
            let known = open.remove(&(title.to_owned(), index));
            let (method, path, body) = (&step["method"], &step["path"], &step["body"]);
            let shown =
                |found: String| format!("{title} [{index}] {method} {path}\n  request: {body}\n{found}");
            match (found, known) {
                (None, false) => {}
                (None, true) => wrong.push(format!("{title} [{index}] agrees: take its row out of open.txt")),
                (Some(found), known) => {
                    let text = shown(found);
                    differ.push((format!("{name}\t{title}\t{index}"), text.clone()));
                    if !known {
                        wrong.push(text);
                    }
                }
            }
        }
    }
    wrong.extend(open.iter().map(|(title, index)| format!("{title} [{index}] in open.txt is no answer")));
    if let Some(folder) = std::env::var_os("SKEP_DIFFERENCES") {
        let write = |kind: &str, lines: Vec<&str>| {
            std::fs::write(Path::new(&folder).join(format!("{name}.{kind}")), lines.join("\n")).unwrap();
        };
        write("txt", differ.iter().map(|(_, text)| text.as_str()).collect());
        write("open", differ.iter().map(|(row, _)| row.as_str()).collect());
    }
    let shown = wrong.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {answers} answers in {name}:\n{shown}", wrong.len());
}

/// One test a file.
macro_rules! files {
    ($($test:ident $name:literal)*) => {
        const FILES: &[&str] = &[$($name),*];
        $(
            #[tokio::test]
            async fn $test() {
                replay($name).await;
            }
        )*
    };
}

files! {
    created_pods "create-pods"
    created_workloads "create-workloads"
    created_network "create-network"
    created_storage "create-storage"
    created_small "create-small"
    created_custom "create-custom"
    patched_pods "patch-pods"
    patched_workloads "patch-workloads"
    patched_network "patch-network"
    patched_storage "patch-storage"
    patched_small "patch-small"
    patched_custom "patch-custom"
    applied_pods "apply-pods"
    applied_workloads "apply-workloads"
    applied_network "apply-network"
    applied_storage "apply-storage"
    applied_small "apply-small"
    applied_custom "apply-custom"
}

#[test]
fn every_file_is_read() {
    let there: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(there, FILES.iter().map(|name| (*name).to_owned()).collect());
    let answers: usize =
        FILES.iter().flat_map(|name| read(name).1).map(|case| case["steps"].as_array().unwrap().len()).sum();
    assert!(answers >= 3_000, "{answers} answers");
}
