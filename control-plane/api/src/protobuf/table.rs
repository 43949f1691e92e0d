//! The table of messages, read once from `facts/protobuf.txt`.

use super::plan::Plan;
use std::collections::HashMap;
use std::sync::OnceLock;

static FACTS: &str = include_str!("../../facts/protobuf.txt");

/// How often a field may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Card {
    One,
    List,
    /// Keyed by strings.
    Map,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Bool,
    Int,
    Double,
    Bytes,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// Bytes of JSON in a message of their own.
    Raw,
    /// A message of repeated strings, which JSON shows as a list.
    Strings,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
    /// By its index in the table.
    Message(u16),
}

/// What Go makes of a field that is absent or zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// A pointer: zero is not the same as absent.
    Pointer,
    /// A value that JSON leaves out when it is zero.
    Omit,
    /// A value that JSON always shows.
    Keep,
    /// A message whose fields lie flat in the JSON of the one around it.
    Inline,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) card: Card,
    pub(super) kind: Kind,
    pub(super) presence: Presence,
}

pub(super) struct Table {
    /// Fields of the messages, by number.
    messages: Vec<Vec<Field>>,
    /// How they are written.
    plans: Vec<Plan>,
    /// By package (its last two parts, as in `core.v1`) and name.
    names: HashMap<(&'static str, &'static str), u16>,
    /// Packages by their full names.
    #[cfg(test)]
    prefixes: HashMap<&'static str, &'static str>,
    /// Packages by API version.
    versions: HashMap<&'static str, &'static str>,
    /// The schema of a CustomResourceDefinition.
    pub(super) json_schema: Option<u16>,
}

/// Kinds that go with every group and version.
const EVERYWHERE: [&str; 7] = [
    "CreateOptions",
    "DeleteOptions",
    "GetOptions",
    "ListOptions",
    "PatchOptions",
    "UpdateOptions",
    "WatchEvent",
];

/// Kinds of the meta package that travel as `v1`.
const UNVERSIONED: [&str; 5] = ["APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "Status"];

const META: &str = "meta.v1";

impl Table {
    pub(super) fn get() -> &'static Self {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(|| Self::read(FACTS))
    }

    pub(super) fn fields(&self, message: u16) -> &[Field] {
        self.messages.get(usize::from(message)).map_or(&[], Vec::as_slice)
    }

    /// The fields of all messages.
    pub(super) fn messages(&self) -> &[Vec<Field>] {
        &self.messages
    }

    /// How a message is written.
    pub(super) fn plan(&self, message: u16) -> &Plan {
        static NONE: Plan = Plan::none();
        self.plans.get(usize::from(message)).unwrap_or(&NONE)
    }

    /// The message with a schema's name, as `io.k8s.api.core.v1.Pod`.
    #[cfg(test)]
    pub(super) fn named(&self, schema: &str) -> Option<u16> {
        let (prefix, name) = schema.rsplit_once('.')?;
        self.names.get(&(*self.prefixes.get(prefix)?, name)).copied()
    }

    /// The message of a kind.
    pub(super) fn of_kind(&self, api_version: &str, kind: &str) -> Option<u16> {
        let own = self.versions.get(api_version).and_then(|package| self.names.get(&(*package, kind)));
        let meta = || {
            // The answer of `/api` is of no version.
            let bare = matches!(api_version, "v1" | "");
            let known = EVERYWHERE.contains(&kind) || bare && UNVERSIONED.contains(&kind);
            known.then(|| self.names.get(&(META, kind))).flatten()
        };
        own.or_else(meta).copied()
    }

    fn read(facts: &'static str) -> Self {
        let mut table = Self {
            messages: Vec::new(),
            plans: Vec::new(),
            names: HashMap::new(),
            #[cfg(test)]
            prefixes: HashMap::new(),
            versions: HashMap::new(),
            json_schema: None,
        };
        let lines = || facts.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut package = "";
        for line in lines() {
            if let Some((prefix, version)) = line.strip_prefix("package ").and_then(|l| l.split_once(' ')) {
                package = tail(prefix);
                #[cfg(test)]
                table.prefixes.insert(prefix, package);
                table.versions.insert(version, package);
            } else if !line.starts_with(' ') {
                let at = table.names.len() as u16;
                table.names.insert((package, line), at);
            }
        }
        table.json_schema = table.names.get(&("apiextensions.v1", "JSONSchemaProps")).copied();
        for line in lines() {
            if let Some((prefix, _)) = line.strip_prefix("package ").and_then(|l| l.split_once(' ')) {
                package = tail(prefix);
            } else if let Some(row) = line.strip_prefix(' ') {
                // A row that cannot be read is a mistake in the file, which a test looks for.
                if let (Some(field), Some(fields)) = (table.field(package, row), table.messages.last_mut()) {
                    fields.push(field);
                }
            } else {
                table.messages.push(Vec::new());
            }
        }
        for fields in &mut table.messages {
            fields.sort_by_key(|field| field.number);
            fields.shrink_to_fit();
        }
        let plans = (0..table.messages.len() as u16).map(|message| Plan::new(&table.messages, message));
        table.plans = plans.collect();
        table
    }

    fn field(&self, package: &'static str, row: &'static str) -> Option<Field> {
        let mut words = row.split(' ');
        let mut word = || words.next();
        let (number, name, card, kind, presence) = (word()?, word()?, word()?, word()?, word()?);
        let card = match card {
            "one" => Card::One,
            "list" => Card::List,
            "map" => Card::Map,
            _ => return None,
        };
        let kind = match kind {
            "string" => Kind::String,
            "bool" => Kind::Bool,
            "int" => Kind::Int,
            "double" => Kind::Double,
            "bytes" => Kind::Bytes,
            "quantity" => Kind::Quantity,
            "intorstring" => Kind::IntOrString,
            "time" => Kind::Time,
            "microtime" => Kind::MicroTime,
            "raw" => Kind::Raw,
            "strings" => Kind::Strings,
            "schemaOrArray" => Kind::SchemaOrArray,
            "schemaOrBool" => Kind::SchemaOrBool,
            "schemaOrStrings" => Kind::SchemaOrStrings,
            message => Kind::Message(
                self.names.get(&message.rsplit_once('.').unwrap_or((package, message))).copied()?,
            ),
        };
        let presence = match presence {
            "ptr" => Presence::Pointer,
            "omit" => Presence::Omit,
            "keep" => Presence::Keep,
            "inline" => Presence::Inline,
            _ => return None,
        };
        Some(Field { name, number: number.parse().ok()?, card, kind, presence })
    }

    #[cfg(test)]
    pub(super) fn rows() -> (usize, usize) {
        let rows = FACTS.lines().filter(|line| line.starts_with(' ')).count();
        (rows, Self::get().messages.iter().map(Vec::len).sum())
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = u16> {
        0..self.messages.len() as u16
    }
}

/// The last two parts of a package's name.
fn tail(prefix: &'static str) -> &'static str {
    let mut dots = prefix.rmatch_indices('.').skip(1);
    dots.next().and_then(|(at, _)| prefix.get(at + 1..)).unwrap_or(prefix)
}
