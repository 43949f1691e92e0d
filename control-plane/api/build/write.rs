//! Writes the schema set as static tables.

use crate::facts::{Fact, Facts};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::fmt::Write;

pub(crate) struct Written {
    pub(crate) code: String,
    pub(crate) docs: String,
}

const META: &str = "io.k8s.apimachinery.pkg";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg";

/// Types that are no structures, by the last part of their name.
const SPECIAL: &[(&str, &str)] = &[
    ("api.resource.Quantity", "Node::Quantity"),
    ("util.intstr.IntOrString", "Node::IntOrString"),
    ("apis.meta.v1.Time", "Node::Time"),
    ("apis.meta.v1.MicroTime", "Node::MicroTime"),
    ("apis.meta.v1.FieldsV1", "Node::Free"),
    ("runtime.RawExtension", "Node::Free"),
    ("apis.apiextensions.v1.JSON", "Node::Any"),
];

struct Writer<'a> {
    index: BTreeMap<&'a str, usize>,
    nodes: Vec<String>,
    /// Distinct lists of map keys.
    keys: Vec<Vec<String>>,
    docs: String,
    known_docs: HashMap<String, (usize, usize)>,
}

pub(crate) fn write(definitions: &Map<String, Value>, facts: &Facts) -> Result<Written, Box<dyn Error>> {
    let names: BTreeSet<&str> = definitions.keys().map(String::as_str).collect();
    let index = names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let mut writer = Writer {
        index,
        nodes: Vec::new(),
        keys: Vec::new(),
        docs: String::new(),
        known_docs: HashMap::new(),
    };
    // Tables that hold anything droppable must be statics of their own: field lists first, then types.
    let mut code = String::from("// Written by build.rs.\n");
    let mut types = String::from("\npub(super) static TYPES: &[Type] = &[\n");
    let mut used = BTreeSet::new();
    for name in names {
        let definition = definitions.get(name).ok_or("a name without its definition")?;
        writer.write_type(&mut code, &mut types, name, definition, facts, &mut used)?;
    }
    for (at, keys) in writer.keys.iter().enumerate() {
        let list: Vec<String> = keys.iter().map(|k| format!("Cow::Borrowed({k:?})")).collect();
        writeln!(code, "static K{at}: [Cow<'static, str>; {}] = [{}];", list.len(), list.join(", "))?;
    }
    code.push_str(&types);
    code.push_str("];\n\npub(super) static NODES: &[Node] = &[\n");
    for node in &writer.nodes {
        writeln!(code, "    {node},")?;
    }
    code.push_str("];\n");
    for row in facts.0.keys().filter(|row| !used.contains(*row)) {
        // Facts of types that k8s-openapi leaves out (lists, removed versions) do no harm; a misspelt
        // default would be lost in silence.
        if facts.0[row].default.is_some() {
            return Err(format!("facts/defaults.txt: there is no field {row}").into());
        }
    }
    Ok(Written { code, docs: writer.docs })
}

impl<'a> Writer<'a> {
    fn write_type(
        &mut self,
        code: &mut String,
        types: &mut String,
        name: &str,
        definition: &'a Value,
        facts: &Facts,
        used: &mut BTreeSet<String>,
    ) -> Result<(), Box<dyn Error>> {
        let at = self.index.get(name).copied().ok_or("unknown type")?;
        let empty = Fact::default();
        let fact = facts.0.get(name).unwrap_or(&empty);
        used.insert(name.to_owned());
        let special = name.strip_prefix(META).or_else(|| name.strip_prefix(EXTENSIONS));
        let special = special.map(|rest| rest.trim_start_matches('.'));
        let special = SPECIAL.iter().find(|s| Some(s.0) == special);
        let properties = definition.get("properties").and_then(Value::as_object);
        let shape = match (special, properties) {
            (Some((_, shape)), _) => (*shape).to_owned(),
            (None, Some(_)) => format!("Node::Struct({at})"),
            (None, None) if definition.get("type").and_then(Value::as_str) == Some("object") => {
                // `VolumeNodeResources` and its like: a structure without fields. JSON of any kind has no type.
                format!("Node::Struct({at})")
            }
            (None, None) => "Node::Any".to_owned(),
        };
        let doc = self.doc(definition);
        let atomic = fact.map.as_deref() == Some("atomic");
        writeln!(types, "    ty({name:?}, {doc}, {shape}, {atomic}, {:?}, &F{at}),", fact.unions)?;
        let required: BTreeSet<&str> = definition
            .get("required")
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let sorted: BTreeMap<&String, &'a Value> = properties.into_iter().flatten().collect();
        writeln!(code, "static F{at}: [Field; {}] = [", sorted.len())?;
        for (field, schema) in sorted {
            let row = format!("{name}.{field}");
            let fact = facts.0.get(&row).unwrap_or(&empty);
            let node = self.node(schema, fact)?;
            // k8s-openapi asks for the metadata of every kind; published schemas of a few alone do.
            let listed = required.contains(field.as_str()) && field != "metadata";
            let required = (listed && !fact.optional) || fact.required;
            let doc = self.doc(schema);
            let (default, zero) = defaults(fact, required, &node, schema);
            let merge = fact.patch.iter().any(|p| p == "merge");
            let retain = fact.patch.iter().any(|p| p == "retainKeys");
            let replace = fact.patch.iter().any(|p| p == "replace");
            writeln!(
                code,
                "        fd({field:?}, {doc}, {node}, {required}, {}, {default:?}, {zero:?}, {}, ({merge}, {:?}, {retain}, {replace}), {:?}, {:?}, {}),",
                fact.value,
                fact.shown.is_some() && fact.shown == default,
                fact.merge_key,
                fact.go,
                fact.inline,
                schema.get("$ref").is_some() && fact.map.as_deref() == Some("granular")
            )?;
            used.insert(row);
        }
        code.push_str("];\n");
        Ok(())
    }

    /// The expression of what a schema's values are.
    fn node(&mut self, schema: &Value, fact: &Fact) -> Result<String, Box<dyn Error>> {
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let name = target.trim_start_matches("#/$defs/");
            let at = self.index.get(name).ok_or_else(|| format!("{name} is referred to and not defined"))?;
            return Ok(format!("Node::Struct({at})"));
        }
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        let node = match schema.get("type").and_then(Value::as_str) {
            Some("string") if format == "byte" => "Node::Bytes".to_owned(),
            Some("string") => "Node::String".to_owned(),
            Some("integer") if format == "int64" => "Node::Int64".to_owned(),
            Some("integer") => "Node::Int32".to_owned(),
            Some("number") => "Node::Number".to_owned(),
            Some("boolean") => "Node::Bool".to_owned(),
            Some("array") => {
                let item = self.element(schema.get("items"))?;
                let list = match fact.list.as_deref() {
                    Some("set") => "ListType::Set".to_owned(),
                    Some("map") => {
                        let at =
                            self.keys.iter().position(|known| *known == fact.keys).unwrap_or_else(|| {
                                self.keys.push(fact.keys.clone());
                                self.keys.len() - 1
                            });
                        format!("ListType::Map(Cow::Borrowed(&K{at}))")
                    }
                    _ => "ListType::Atomic".to_owned(),
                };
                format!("Node::List({item}, {list})")
            }
            Some("object") if schema.get("additionalProperties").is_some() => {
                let value = self.element(schema.get("additionalProperties"))?;
                format!("Node::Map({value}, {})", fact.map.as_deref() == Some("atomic"))
            }
            Some("object") => "Node::Free".to_owned(),
            _ => "Node::Any".to_owned(),
        };
        Ok(node)
    }

    fn element(&mut self, schema: Option<&Value>) -> Result<usize, Box<dyn Error>> {
        let node = match schema {
            Some(schema) => self.node(schema, &Fact::default())?,
            None => "Node::Any".to_owned(),
        };
        Ok(self.nodes.iter().position(|known| *known == node).unwrap_or_else(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        }))
    }

    fn doc(&mut self, schema: &Value) -> String {
        let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        let (start, len) = match self.known_docs.get(text) {
            Some(known) => *known,
            None => {
                let place = (self.docs.len(), text.len());
                self.docs.push_str(text);
                self.known_docs.insert(text.to_owned(), place);
                place
            }
        };
        format!("({start}, {len})")
    }
}

/// What defaulting fills in, and the zero value that Go writes where nothing else stands.
fn defaults(fact: &Fact, required: bool, node: &str, schema: &Value) -> (Option<String>, Option<String>) {
    let zero = match node {
        "Node::String" => "\"\"",
        "Node::Int32" | "Node::Int64" | "Node::Number" => "0",
        "Node::Bool" => "false",
        _ if schema.get("$ref").is_some() => "{}",
        _ => "",
    };
    let shown = fact.shown.as_deref();
    let default = fact.default.clone().or_else(|| shown.filter(|s| *s != zero).map(str::to_owned));
    // Optional scalars that are values are left out when they are zero; those with no `omitempty` are not.
    let written = match zero {
        "" => false,
        "{}" => fact.value,
        _ => (required && !fact.pointer) || (shown == Some(zero) && !fact.value),
    };
    (default, written.then(|| zero.to_owned()))
}
