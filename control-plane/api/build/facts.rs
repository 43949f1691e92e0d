//! Reads the tables of facts.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

/// What is known of a field or type beyond k8s-openapi.
#[derive(Default)]
pub(crate) struct Fact {
    pub(crate) list: Option<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) map: Option<String>,
    pub(crate) patch: Vec<String>,
    pub(crate) merge_key: Option<String>,
    pub(crate) unions: Option<String>,
    pub(crate) value: bool,
    pub(crate) pointer: bool,
    pub(crate) optional: bool,
    pub(crate) required: bool,
    /// The name of its type in Go, where it has one of its own.
    pub(crate) go: Option<String>,
    /// The embedded structure that it is of in Go.
    pub(crate) inline: Option<String>,
    /// As the published schema shows it.
    pub(crate) shown: Option<String>,
    /// As defaulting fills it in.
    pub(crate) default: Option<String>,
}

pub(crate) struct Facts(pub(crate) BTreeMap<String, Fact>);

impl Facts {
    pub(crate) fn read(dir: &Path) -> Result<Self, Box<dyn Error>> {
        let mut rows: BTreeMap<String, Fact> = BTreeMap::new();
        let texts = ["fields.txt", "go.txt"].map(|name| std::fs::read_to_string(dir.join(name)));
        let [fields, go] = texts;
        let (fields, go) = (fields?, go?);
        for row in lines(&fields).chain(lines(&go)) {
            let mut words = row.split(' ');
            let name = words.next().unwrap_or_default();
            let fact = rows.entry(name.to_owned()).or_default();
            for word in words {
                match word.split_once('=').unwrap_or((word, "")) {
                    ("list", v) => fact.list = Some(v.to_owned()),
                    ("keys", v) => fact.keys = v.split(',').map(str::to_owned).collect(),
                    ("map", v) => fact.map = Some(v.to_owned()),
                    ("patch", v) => fact.patch = v.split(',').map(str::to_owned).collect(),
                    ("mergeKey", v) => fact.merge_key = Some(v.to_owned()),
                    ("unions", v) => fact.unions = Some(v.to_owned()),
                    ("value", "") => fact.value = true,
                    ("pointer", "") => fact.pointer = true,
                    ("optional", "") => fact.optional = true,
                    ("required", "") => fact.required = true,
                    ("go", v) => fact.go = Some(v.to_owned()),
                    ("inline", v) => fact.inline = Some(v.to_owned()),
                    ("default", v) => fact.shown = Some(v.to_owned()),
                    _ => return Err(format!("facts: {word:?} of {name} is no fact").into()),
                }
            }
        }
        for row in lines(&std::fs::read_to_string(dir.join("defaults.txt"))?) {
            let (name, default) =
                row.split_once(' ').ok_or_else(|| format!("facts/defaults.txt: {row:?}"))?;
            rows.entry(name.to_owned()).or_default().default = Some(default.to_owned());
        }
        Ok(Facts(rows))
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}
