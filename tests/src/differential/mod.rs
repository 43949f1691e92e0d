//! Made-up requests for servers that should all answer alike: creations, objects with one thing wrong, patches, and
//! sequences of server-side apply by several managers.
//!
//! Pure: the same seed gives the same requests. They are sent to a server of any kind by the program
//! `record-differential`, and what one answered lies in `tests/fixtures/differential`.

mod apply;
mod catalog;
mod edits;
mod patches;
mod random;
#[cfg(test)]
mod tests;

use random::Random;
use serde_json::{Value, json};

pub use catalog::{Example, examples};

/// Namespace of all that lives in one, limits and quotas aside: those are in [`LIMITED`], where nothing else is.
pub const NAMESPACE: &str = "differential";
/// Namespace of limits and quotas.
pub const LIMITED: &str = "differential-limited";

/// JSON as it is.
pub const JSON: &str = "application/json";
/// JSON merge patch.
pub const MERGE: &str = "application/merge-patch+json";
/// Strategic merge patch.
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// JSON patch.
pub const JSON_PATCH: &str = "application/json-patch+json";
/// Server-side apply.
pub const APPLY: &str = "application/apply-patch+yaml";

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// HTTP method.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// Media type of the body.
    pub media: &'static str,
    /// The body.
    pub body: Value,
}

impl Step {
    /// A creation; what stands in `query` goes behind the path.
    fn post(path: &str, query: &str, body: Value) -> Self {
        Step { method: "POST", path: format!("{path}?{query}"), media: JSON, body }
    }

    /// A patch of that media type.
    fn patch(path: &str, query: &str, media: &'static str, body: Value) -> Self {
        Step { method: "PATCH", path: format!("{path}?{query}"), media, body }
    }
}

/// Requests that belong together, in their order. Cases do not see each other's objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// Brings about the state that the case starts from; only whether it was brought about is of interest.
    pub before: Vec<Step>,
    /// The requests whose answers are compared.
    pub steps: Vec<Step>,
}

/// The cases of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Name of the file.
    pub name: String,
    /// Its cases.
    pub cases: Vec<Case>,
}

/// Every case, by group.
///
/// # Errors
/// When the catalogue of examples cannot be read.
pub fn groups(seed: u64) -> anyhow::Result<Vec<Group>> {
    let examples = examples()?;
    let mut groups: Vec<Group> = Vec::new();
    let mut number = 0;
    let mut add = |verb: &str, example: &Example, cases: Vec<Case>| {
        let name = format!("{verb}-{}", example.file);
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.cases.extend(cases),
            None => groups.push(Group { name, cases }),
        }
    };
    for example in &examples {
        // One seed an example and verb: a new example does not change the cases of the others.
        let random = |verb: &str| Random::named(seed, &format!("{verb} {}", example.name));
        let mut creations = vec![Case {
            name: example.name.clone(),
            before: Vec::new(),
            steps: vec![Step::post(
                &example.collection(),
                "dryRun=All&fieldManager=maker",
                example.object.clone(),
            )],
        }];
        creations.extend(edits::creations(example, &mut random("create")));
        add("create", example, creations);
        number += 1;
        let mut changes = edits::changes(example, number, &mut random("change"));
        number += 1;
        changes.extend(patches::cases(example, number, &mut random("patch")));
        add("patch", example, changes);
        for round in 0..apply::rounds(example) {
            number += 1;
            let mut random = random(&format!("apply {round}"));
            add("apply", example, vec![apply::case(example, number, round, &mut random)]);
        }
    }
    Ok(groups)
}

/// What must be there before any case: requests that may be answered with 409, since it is there already.
///
/// # Errors
/// When the definition of the custom resource cannot be read.
pub fn prelude() -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    for namespace in [NAMESPACE, LIMITED] {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        steps.push(Step::post("/api/v1/namespaces", "", json!({"metadata": {"name": namespace}})));
        // Without this, every pod would get a volume with a token.
        let account = json!({"metadata": {"name": "default"}, "automountServiceAccountToken": false});
        steps.push(Step::post(&path, "", account));
    }
    let class = json!({"metadata": {"name": "differential-high"}, "value": 1000});
    steps.push(Step::post("/apis/scheduling.k8s.io/v1/priorityclasses", "", class));
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    steps.push(Step::post(definitions, "", catalog::thing()?));
    Ok(steps)
}

/// The path that answers once all of the prelude is served.
pub fn ready() -> String {
    format!("/apis/{}/v1/namespaces/{NAMESPACE}/things", catalog::GROUP)
}
