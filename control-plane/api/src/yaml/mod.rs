//! Block YAML, as a kube-apiserver written in Go answers it: the JSON form of an object through `sigs.k8s.io/yaml`, which
//! writes with `go.yaml.in/yaml/v2`. What that chooses is kept to the byte: the order of keys, what is quoted and how, where
//! long texts are folded, and that lists in a mapping are not indented.

mod emitter;
mod number;
mod order;
mod resolve;
mod text;

use emitter::Emitter;
use serde_json::Value;

/// A tree as a document.
pub fn document(tree: &Value) -> Vec<u8> {
    let mut emitter = Emitter::default();
    emitter.root(tree);
    emitter.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trees, and what `sigs.k8s.io/yaml` 1.6.0 over `go.yaml.in/yaml/v2` 2.4.3 makes of them, one of each a line.
    const RECORDED: &str = include_str!("../../../../tests/fixtures/yaml.jsonl");

    #[test]
    fn trees_are_written_as_go_writes_them() {
        let mut count = 0;
        for line in RECORDED.lines() {
            let recorded: Value = serde_json::from_str(line).unwrap();
            let written = String::from_utf8(document(&recorded["tree"])).unwrap();
            assert_eq!(written, recorded["yaml"].as_str().unwrap(), "{line}");
            count += 1;
        }
        assert!(count > 150, "{count} examples");
    }

    #[test]
    fn numbers_that_are_whole_in_json_are_whole() {
        let tree = serde_json::json!([1e6, 1e20, 1e21, -2.0]);
        assert_eq!(String::from_utf8(document(&tree)).unwrap(), "- 1000000\n- 1e+20\n- 1e+21\n- -2\n");
    }
}
