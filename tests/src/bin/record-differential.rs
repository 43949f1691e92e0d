//! Records how a running API server creates, patches, applies and refuses made-up objects: sends the requests of
//! `skep_tests::differential` and writes what it was told and what it answered, one line a case, one file a group,
//! each with the server's `/version`.
//!
//! `cargo run -p skep-tests --bin record-differential -- KUBECONFIG FOLDER`, with the kubeconfig of an administrator of a
//! server that is there for this alone: it is left with what the cases made, and controllers would change that between
//! two requests.

use anyhow::{Context, bail};
use serde_json::{Value, json};
use skep_tests::differential::{self, Step};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use xtask::api::{Answer, Api};

/// What the requests are made from.
const SEED: u64 = 1;
/// How long what is made first may take to be served.
const PATIENCE: Duration = Duration::from_secs(30);

fn send(api: &Api, step: &Step) -> anyhow::Result<Answer> {
    api.request(step.method.parse()?, &step.path, step.media, step.body.to_string().into_bytes())
}

/// A request as it is recorded.
fn request(step: &Step) -> Value {
    json!({"method": step.method, "path": step.path, "type": step.media, "body": step.body})
}

/// The request with the answer to it; nothing where the server broke off instead of answering.
fn record(api: &Api, step: &Step) -> anyhow::Result<Option<Value>> {
    let answer = match send(api, step) {
        Ok(answer) => answer,
        Err(error) => {
            // It must be there still: a server that is gone records nothing.
            api.get("/version")?.success()?;
            eprintln!("no answer: {error:#}: {}", step.body);
            return Ok(None);
        }
    };
    let mut line = request(step);
    line["code"] = answer.status.into();
    line["answer"] = answer.json().with_context(|| step.path.clone())?;
    if !answer.warnings.is_empty() {
        line["warnings"] = json!(answer.warnings);
    }
    Ok(Some(line))
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(kubeconfig), Some(folder)) = (arguments.next(), arguments.next()) else {
        bail!("usage: record-differential KUBECONFIG FOLDER");
    };
    let api = Api::open(Path::new(&kubeconfig))?;
    let version = api.get("/version")?.success()?;
    let prelude = differential::prelude()?;
    for step in &prelude {
        let answer = send(&api, step)?;
        if answer.status != 409 {
            answer.success().with_context(|| step.path.clone())?;
        }
    }
    let begun = Instant::now();
    while api.get(&differential::ready())?.status != 200 {
        if begun.elapsed() > PATIENCE {
            bail!("{} is not served", differential::ready());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let head = json!({"version": version, "seed": SEED, "ready": differential::ready(),
        "before": prelude.iter().map(request).collect::<Vec<_>>()});
    std::fs::create_dir_all(&folder)?;
    for group in differential::groups(SEED)? {
        let mut out = format!("{head}\n");
        let mut answers = 0;
        for case in &group.cases {
            let mut before = Vec::new();
            for step in &case.before {
                let answer = send(&api, step)?;
                if answer.status > 299 {
                    eprintln!("{}: {}", case.name, String::from_utf8_lossy(&answer.body));
                }
                let mut line = request(step);
                line["code"] = answer.status.into();
                before.push(line);
            }
            let mut steps = Vec::new();
            for step in &case.steps {
                steps.extend(record(&api, step)?);
            }
            answers += steps.len();
            let mut line = json!({"case": case.name, "steps": steps});
            if !before.is_empty() {
                line["before"] = before.into();
            }
            writeln!(out, "{line}")?;
        }
        let file = Path::new(&folder).join(format!("{}.jsonl", group.name));
        std::fs::write(&file, out)?;
        println!("{answers} answers of {} in {}", version["gitVersion"], file.display());
    }
    Ok(())
}
