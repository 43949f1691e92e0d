//! What holds of every schema and object, tried on many that are made up: pruning and defaulting once is enough, what was
//! read is read again as it is, and valid objects stay valid under what a client of the same object does.

use super::*;

/// A small generator of numbers (xorshift), so that a failure can be repeated by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn is(&mut self, one_in: u64) -> bool {
        self.roll(one_in) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len() as u64) as usize]
    }
}

const NAMES: &[&str] = &["a", "b", "c", "spec", "status", "kind", "apiVersion", "metadata", "x.y"];

fn any_schema(dice: &mut Dice, depth: u64, root: bool) -> Value {
    let mut tree = json!({});
    let kinds = ["object", "object", "array", "string", "integer", "number", "boolean", ""];
    let kind = if root { "object" } else { dice.pick(if depth == 0 { &kinds[3..] } else { &kinds }) };
    if !kind.is_empty() {
        tree["type"] = kind.into();
    }
    if kind.is_empty() || dice.is(6) {
        let flag = if kind.is_empty() && dice.is(2) {
            "x-kubernetes-int-or-string"
        } else {
            "x-kubernetes-preserve-unknown-fields"
        };
        tree[flag] = true.into();
    }
    if !root && dice.is(4) {
        tree["nullable"] = true.into();
    }
    match kind {
        "object" => {
            if !root && dice.is(6) {
                tree["x-kubernetes-embedded-resource"] = true.into();
                tree["x-kubernetes-preserve-unknown-fields"] = true.into();
            }
            if !root && dice.is(3) && tree.get("x-kubernetes-embedded-resource").is_none() {
                tree["additionalProperties"] = any_schema(dice, depth.saturating_sub(1), false);
            } else {
                for _ in 0..dice.roll(4) {
                    let name = dice.pick(if root { &NAMES[..5] } else { NAMES });
                    tree["properties"][name] = any_schema(dice, depth.saturating_sub(1), false);
                }
            }
        }
        "array" => tree["items"] = any_schema(dice, depth.saturating_sub(1), false),
        _ => {}
    }
    if !root && dice.is(3) {
        tree["default"] = any_value(dice, 2);
    }
    tree
}

fn any_value(dice: &mut Dice, depth: u64) -> Value {
    match dice.roll(if depth == 0 { 6 } else { 10 }) {
        0 => Value::Null,
        1 => dice.is(2).into(),
        2 => json!(dice.roll(100) as i64 - 50),
        3 => json!(dice.roll(8) as f64 / 4.0),
        4 | 5 => dice.pick(&["", "x", "v1", "Pod"]).into(),
        6 => Value::Array((0..dice.roll(3)).map(|_| any_value(dice, depth - 1)).collect()),
        _ => {
            let fields = (0..dice.roll(5)).map(|_| (dice.pick(NAMES).to_owned(), any_value(dice, depth - 1)));
            Value::Object(fields.collect())
        }
    }
}

fn any_object(dice: &mut Dice) -> Value {
    let mut object =
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a", "odd": 1}});
    for _ in 0..dice.roll(5) {
        object[dice.pick(&NAMES[..5])] = any_value(dice, 4);
    }
    object
}

#[test]
fn reading_twice_is_reading_once() {
    let mut dice = Dice(0x5eed_0001);
    let (mut read, mut dropped_something, mut applied) = (0, 0, 0);
    for round in 0..3000 {
        let tree = any_schema(&mut dice, 4, true);
        let custom = custom(tree.clone(), json!({}));
        let guide = custom.schemas.guide().unwrap();
        let mut once = any_object(&mut dice);
        let before = once.clone();
        let Ok(dropped) = guide.clean(&mut once) else { continue };
        dropped_something += usize::from(dropped.len() > 1);
        let mut cleaned = once.clone();
        assert_eq!(guide.clean(&mut cleaned).as_deref(), Ok([].as_slice()), "{round}: {tree}: {before}");
        assert_eq!(cleaned, once, "{round}: {tree}: {before}");
        guide.apply_defaults(&mut once);
        let mut twice = once.clone();
        guide.apply_defaults(&mut twice);
        assert_eq!(twice, once, "{round}: {tree}: {before}");
        read += 1;
        // What applies to nothing is all there is.
        let schema = custom.schema().unwrap();
        let writer = crate::apply::Writer {
            manager: "me",
            api_version: "example.com/v1",
            subresource: "",
            reset: &[],
            now: "2026-05-01T12:00:00Z",
        };
        let Ok(mut mine) =
            crate::apply::apply(schema, None, &cleaned, &writer, false, &crate::apply::OneVersion)
        else {
            continue;
        };
        mine["metadata"].as_object_mut().unwrap().remove("managedFields");
        assert_eq!(mine, cleaned, "{round}: {tree}");
        applied += 1;
    }
    // The cases are not all of one kind.
    assert!(read > 1500 && dropped_something > 500 && applied > 1000, "{read} {dropped_something} {applied}");
}

#[test]
fn what_stays_as_it_is_stays_valid() {
    let mut dice = Dice(0x5eed_0002);
    let (mut wrong, mut compared) = (0, 0);
    for round in 0..2000 {
        let tree = any_schema(&mut dice, 4, true);
        let schema = schema(tree.clone());
        let object = any_object(&mut dice);
        let errors = validate_value(&schema, &object, None, None);
        wrong += usize::from(!errors.is_empty());
        let kept = shown(&validate_value(&schema, &object, None, Some(&object)));
        let known = shown(&errors);
        assert!(kept.iter().all(|line| known.contains(line)), "{round}: {tree}: {object}");
        // What has no unknown fields is compared, and so let through.
        let mut pruned = object.clone();
        prune(&schema, &mut pruned, true);
        for (name, field) in
            schema.properties.iter().filter(|(name, _)| !["apiVersion", "kind"].contains(&name.as_str()))
        {
            let open = field.any(&|s| s.embedded || s.preserve_unknown || s.additional.is_some());
            if open || pruned.get(name) != object.get(name) {
                continue;
            }
            let of_field = |line: &&String| {
                line.starts_with(&format!("{name}:")) || line.starts_with(&format!("{name}."))
            };
            assert_eq!(kept.iter().find(of_field), None, "{round}: {tree}: {object}");
            compared += 1;
        }
    }
    assert!(wrong > 500 && compared > 500, "{wrong} {compared}");
}
