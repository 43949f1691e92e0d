//! What the first writer of an object owns: written straight from the object's tree, as nobody else can own any of it.

use super::managed::{UNOWNED_METADATA, UNOWNED_TOP};
use super::typed::{
    Index, Kind, Parts, always_there, blank, child, element, is_empty, is_map_or_none, parts,
};
use crate::schema::{ListType, Schema};
use serde_json::{Map, Value};

/// Stands for the value as a whole beside what is owned below it.
const WHOLE: &str = ".";

/// `fieldsV1` of whoever makes an object, without the fields below `reset`; none where nothing is owned.
pub(super) fn fields(schema: Schema<'_>, new: &Value, reset: &[&str]) -> Option<Value> {
    let mut owned = owned(Some(schema), Some(&blank(schema)), new).below;
    for path in reset {
        forget(&mut owned, path);
    }
    if let Some(Value::Object(metadata)) = owned.get_mut("f:metadata") {
        UNOWNED_METADATA.iter().for_each(|name| disown(metadata, name));
        // What is left of it without any field is nobody's.
        if metadata.keys().all(|key| key == WHOLE) {
            metadata.clear();
        }
    }
    UNOWNED_TOP.iter().for_each(|name| disown(&mut owned, name));
    (!owned.is_empty()).then_some(Value::Object(owned))
}

fn key(name: &str) -> String {
    format!("f:{name}")
}

/// Takes a field out, but not what is below it.
fn disown(fields: &mut Map<String, Value>, name: &str) {
    let key = key(name);
    match fields.get_mut(&key) {
        Some(Value::Object(below)) if !below.is_empty() => drop(below.remove(WHOLE)),
        _ => drop(fields.remove(&key)),
    }
}

/// Takes the field at a dotted path out, with all that is below.
fn forget(fields: &mut Map<String, Value>, path: &str) {
    let Some((first, rest)) = path.split_once('.') else {
        fields.remove(&key(path));
        return;
    };
    let key = key(first);
    let Some(Value::Object(below)) = fields.get_mut(&key).filter(|below| !is_empty(Some(below))) else {
        return;
    };
    forget(below, rest);
    if below.is_empty() {
        fields.remove(&key);
    } else if below.keys().all(|key| key == WHOLE) {
        below.clear();
    }
}

/// What is owned of a value.
#[derive(Default)]
struct Owned {
    /// The value as a whole.
    member: bool,
    /// Its parts, as `fieldsV1` names them.
    below: Map<String, Value>,
}

impl Owned {
    fn member() -> Self {
        Owned { member: true, below: Map::new() }
    }

    fn put(mut self, name: String, parts: &mut Map<String, Value>) {
        if self.below.is_empty() && !self.member {
            return;
        }
        if self.member && !self.below.is_empty() {
            self.below.insert(WHOLE.into(), Value::Object(Map::new()));
        }
        parts.insert(name, Value::Object(self.below));
    }
}

/// What is owned of a value by who put it where `before` was.
fn owned(kind: Kind<'_>, before: Option<&Value>, value: &Value) -> Owned {
    if before == Some(value) {
        return Owned::default();
    }
    let nothing = is_empty(before) && is_empty(Some(value));
    let below = match (parts(kind), value) {
        _ if nothing => return Owned::member(),
        (Parts::Fields, Value::Object(map)) if is_map_or_none(before) => named(kind, before, map),
        (Parts::Fields, Value::Null) if is_map_or_none(before) => Map::new(),
        (Parts::Items(list), _) => match identified(list, kind, before, value) {
            Some(below) => below,
            None => return Owned::member(),
        },
        _ => return Owned::member(),
    };
    Owned { member: before.is_none(), below }
}

fn named(kind: Kind<'_>, before: Option<&Value>, map: &Map<String, Value>) -> Map<String, Value> {
    let mut below = Map::new();
    for (name, value) in map {
        let was = before.and_then(|before| before.get(name).or_else(|| always_there(kind, name)));
        owned(child(kind, name), was, value).put(key(name), &mut below);
    }
    below
}

/// None where an item has no identity: the list is then one value.
fn identified(
    list: &ListType,
    kind: Kind<'_>,
    before: Option<&Value>,
    value: &Value,
) -> Option<Map<String, Value>> {
    let item = element(kind);
    let (before, after) = (Index::of(list, item, before)?, Index::of(list, item, Some(value))?);
    let mut below = Map::new();
    for identity in &after.order {
        let owned = match (before.group(identity), after.group(identity)) {
            (was, [is]) if was.len() < 2 => owned(item, was.first().copied(), is),
            (was, is) if was == is => Owned::default(),
            _ => Owned::member(),
        };
        owned.put(identity.wire(), &mut below);
    }
    Some(below)
}

#[cfg(test)]
mod tests {
    use super::super::managed::UNOWNED;
    use super::super::set::FieldSet;
    use super::super::typed::compare;
    use super::*;
    use crate::schema::Schemas;
    use serde_json::json;

    /// The same by sets of paths, as it is done where there was something before.
    fn by_sets(schema: Schema<'_>, new: &Value, reset: &[&str]) -> Option<Value> {
        let found = compare(schema, &blank(schema), new);
        let mut touched = found.added.union(&found.modified);
        reset.iter().for_each(|path| touched.forget(path));
        let owned: FieldSet = touched.difference(&UNOWNED);
        (!owned.is_empty()).then(|| owned.encode())
    }

    /// Numbers from a seed, the same every time.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 33) as usize) % bound
        }

        /// Some value of a kind, which now and then is of another.
        fn value(&mut self, kind: Kind<'_>, depth: usize) -> Value {
            let odd = self.below(24);
            if odd < 4 || depth == 0 {
                return [Value::Null, json!({}), json!([]), json!("x")][odd % 4].clone();
            }
            if let Some(structure) = kind.and_then(|kind| kind.structure()) {
                let fields =
                    structure.fields.iter().filter(|field| self.keeps(&field.name)).collect::<Vec<_>>();
                let named = fields.iter().map(|field| {
                    let name = field.name.to_string();
                    let value = self.value(child(kind, &name), depth - 1);
                    (name, value)
                });
                return Value::Object(named.collect());
            }
            match parts(kind) {
                Parts::Fields => {
                    let keys = (0..self.below(3)).map(|at| format!("k{at}")).collect::<Vec<_>>();
                    let named = keys.into_iter().map(|key| {
                        let value = self.value(child(kind, &key), depth - 1);
                        (key, value)
                    });
                    Value::Object(named.collect())
                }
                Parts::Items(_) => {
                    let items = 0..self.below(4);
                    Value::Array(items.map(|_| self.value(element(kind), depth - 1)).collect())
                }
                Parts::None => {
                    [json!("a"), json!("b"), json!(1), json!([1]), json!({"z": 1})][self.below(5)].clone()
                }
            }
        }

        /// A third of the fields, and most of those that identify an item.
        fn keeps(&mut self, name: &str) -> bool {
            let most = ["name", "metadata", "spec", "containers", "ports", "containerPort", "template"];
            let third = self.below(3) == 0;
            third || (most.contains(&name) && self.below(8) > 0)
        }
    }

    #[test]
    fn what_is_written_at_once_is_what_sets_of_paths_would_say() {
        let mut numbers = Numbers(7);
        let mut owned = 0;
        for name in
            ["core.v1.Pod", "apps.v1.Deployment", "core.v1.Service", "core.v1.ConfigMap", "core.v1.Node"]
        {
            let schema = Schemas::builtin().get(&format!("io.k8s.api.{name}")).unwrap();
            for _ in 0..400 {
                let new = numbers.value(Some(schema), 7);
                for reset in [
                    &["status"][..],
                    &["spec", "metadata.labels"],
                    &["metadata.finalizers", "spec.template.spec"],
                ] {
                    let told = fields(schema, &new, reset);
                    owned += usize::from(told.is_some());
                    assert_eq!(told, by_sets(schema, &new, reset), "{name} {new}");
                }
            }
        }
        assert!(owned > 4_000, "{owned} of 6,000 objects own anything");
    }
}
