//! What kubectl sends, bytes made by hand, trees of every message, and bytes of no sense.

use super::table::{Card, Kind, Presence, Table};
use super::wire::{put_bytes, put_fixed64, put_int};
use super::{ListMeta, MAGIC, MAX_DEPTH, Message, ProtobufError, decode, encode, is_known};
use crate::object::Object;
use crate::resource::GroupVersionKind;
use crate::schema::{FieldValidation, Schemas, check};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Bodies of kubectl: API version, kind and bytes.
fn captured() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let rows = include_str!("captured.txt").lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        let words: Vec<&str> = row.split(' ').collect();
        let hex = words[2].as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        (words[0], words[1], hex.map(byte).collect())
    })
    .collect()
}

fn encode_kind(value: &Value, api_version: &str, kind: &str) -> Vec<u8> {
    let table = Table::get();
    let message = table.of_kind(api_version, kind).unwrap();
    let raw = super::encode::message(table, message, value.to_string().as_bytes()).unwrap();
    body(api_version, kind, &raw)
}

/// An object of a kind whose message is `raw`.
fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let (mut out, after) = super::envelope(api_version, kind, raw.len());
    out.extend_from_slice(raw);
    out.extend_from_slice(after);
    out
}

fn tree(api_version: &str, kind: &str, raw: &[u8]) -> Value {
    decode(&body(api_version, kind, raw)).unwrap().value
}

fn message(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

#[test]
fn every_row_of_the_table_is_read() {
    let (written, read) = Table::rows();
    assert_eq!(written, read);
    assert!(read > 2000, "{read}");
    let table = Table::get();
    assert!(table.json_schema.is_some());
    for message in table.all() {
        let mut numbers: Vec<u32> = table.fields(message).iter().map(|field| field.number).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), table.fields(message).len());
    }
}

#[test]
fn kinds_lead_to_messages() {
    for (api_version, kind, known) in [
        ("v1", "Pod", true),
        ("v1", "PodList", true),
        ("v1", "List", true),
        ("v1", "Binding", true),
        ("v1", "Status", true),
        ("v1", "DeleteOptions", true),
        ("apps/v1", "DeleteOptions", true),
        ("example.com/v7", "DeleteOptions", true),
        ("apps/v1", "Deployment", true),
        ("apps/v1", "Pod", false),
        ("apps/v1", "Status", false),
        ("v1", "Deployment", false),
        ("v1", "PodSpec", true),
        ("autoscaling/v1", "Scale", true),
        ("autoscaling/v2", "HorizontalPodAutoscaler", true),
        ("policy/v1", "Eviction", true),
        ("authentication.k8s.io/v1", "TokenRequest", true),
        ("rbac.authorization.k8s.io/v1", "RoleBinding", true),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", true),
        ("apiregistration.k8s.io/v1", "APIService", true),
        ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", true),
        ("coordination.k8s.io/v1", "Lease", true),
        ("meta.k8s.io/v1", "PartialObjectMetadata", true),
        ("example.com/v1", "Foo", false),
        ("", "", false),
    ] {
        assert_eq!(is_known(api_version, kind), known, "{api_version} {kind}");
    }
}

#[test]
fn what_kubectl_sends_is_read_and_written_alike() {
    let rows = captured();
    assert_eq!(rows.len(), 16);
    for (api_version, kind, bytes) in rows {
        let decoded = decode(&bytes).unwrap();
        assert_eq!((decoded.api_version.as_str(), decoded.kind.as_str()), (api_version, kind));
        assert_eq!(decoded.value["apiVersion"], api_version);
        assert_eq!(decoded.value["kind"], kind);
        let written = encode_kind(&decoded.value, api_version, kind);
        assert_eq!(decode(&written).unwrap(), decoded);
        assert_eq!(written, bytes, "{kind}: {}", decoded.value);
    }
}

/// What a kube-apiserver answered: request, JSON and protobuf.
fn recorded() -> Vec<(&'static str, Value, Vec<u8>)> {
    let rows = include_str!("recorded.txt").lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        let parts: Vec<&str> = row.split('\t').collect();
        (parts[0], serde_json::from_str(parts[1]).unwrap(), STANDARD.decode(parts[2]).unwrap())
    })
    .collect()
}

#[test]
fn what_kube_apiserver_answers_is_written_alike() {
    let rows = recorded();
    assert!(rows.len() > 45);
    for (request, json, bytes) in rows {
        let written = super::tree(&json).unwrap();
        assert_eq!(decode(&written), decode(&bytes), "{request}");
        assert_eq!(written, bytes, "{request}");
    }
}

#[test]
fn resource_versions_are_written_around_messages() {
    let mut seen = 0;
    for (request, json, bytes) in recorded() {
        let Some(version) = json.pointer("/metadata/resourceVersion").and_then(Value::as_str) else {
            continue;
        };
        if json["kind"].as_str().unwrap().ends_with("List") {
            continue;
        }
        let revision = version.parse().unwrap();
        let (api_version, kind) = (json["apiVersion"].as_str().unwrap(), json["kind"].as_str().unwrap());
        let object = Object::from_value(json.clone(), 7, &[]).unwrap();
        let message = Message::of(&object).unwrap();
        assert_eq!(super::object((api_version, kind), &message, revision), bytes, "{request}");
        let mut versionless = json.clone();
        versionless["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        assert_eq!(super::object((api_version, kind), &message, 0), super::tree(&versionless).unwrap());
        let partial = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": json["metadata"]});
        let slim = Message::partial(&object).unwrap();
        let slim = super::object(("meta.k8s.io/v1", "PartialObjectMetadata"), &slim, revision);
        assert_eq!(slim, super::tree(&partial).unwrap());
        seen += 1;
    }
    assert!(seen > 35);
}

#[test]
fn lists_and_events_are_written_around_messages() {
    let (_, list, bytes) = recorded().into_iter().find(|row| row.0.ends_with("/pods?limit=1")).unwrap();
    let version =
        |value: &Value| value["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    let token = list["metadata"]["continue"].as_str().unwrap();
    let items = list["items"].as_array().unwrap();
    let mut body = BytesMut::new();
    let mut event = BytesMut::new();
    for item in items {
        let mut item = item.clone();
        item["apiVersion"] = "v1".into();
        item["kind"] = "Pod".into();
        let revision = version(&item);
        let message = Message::of(&Object::from_value(item, revision, &[]).unwrap()).unwrap();
        body.extend_from_slice(&super::item_head(message.len(revision)));
        message.write(revision, &mut body);
        super::object_frame("ADDED", ("v1", "Pod"), &message, revision, &mut event);
        let raw = super::object(("v1", "Pod"), &message, revision);
        // A length, a message without envelope, and in it the object with its own.
        let (length, frame) = event.split_first_chunk().unwrap();
        assert_eq!(u32::from_be_bytes(*length) as usize, frame.len());
        let inner = self::message(|out| put_bytes(out, 1, &raw));
        let whole = self::message(|out| {
            put_bytes(out, 1, b"ADDED");
            put_bytes(out, 2, &inner);
        });
        assert_eq!(frame, whole);
    }
    let remaining = list["metadata"]["remainingItemCount"].as_i64();
    let meta = ListMeta { revision: version(&list), token, remaining };
    let (mut written, after) = super::list("v1", "PodList", &meta, body.len());
    written.extend_from_slice(&body);
    written.extend_from_slice(after);
    assert_eq!(written, bytes);
    assert!(remaining.is_some());
}

#[test]
fn trees_are_those_of_json() {
    let trees: Vec<Value> = captured().iter().map(|row| decode(&row.2).unwrap().value).collect();
    let of = |kind: &str| trees.iter().find(|tree| tree["kind"] == kind).unwrap();
    assert_eq!(
        of("Deployment"),
        &json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "nginx", "image": "nginx", "resources": {}}]},
                },
            },
            "status": {},
        })
    );
    assert_eq!(
        of("Service")["spec"],
        json!({
            "ports": [{"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080}],
            "selector": {"app": "s"},
            "type": "ClusterIP",
        })
    );
    assert_eq!(of("ConfigMap")["data"], json!({"a": "b"}));
    assert_eq!(of("Secret")["data"], json!({"a": "Yg=="}));
    assert_eq!(of("TokenRequest")["spec"]["expirationSeconds"], 3600);
    assert_eq!(of("ResourceQuota")["spec"]["hard"], json!({"cpu": "1", "pods": "3"}));
    assert_eq!(of("PodDisruptionBudget")["spec"]["minAvailable"], "50%");
    assert_eq!(of("PriorityClass")["value"], 5);
}

/// JSON names of a message, those of messages within that lie flat included.
fn names(table: &Table, message: u16) -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    for field in table.fields(message) {
        match (field.presence, field.kind) {
            (Presence::Inline, Kind::Message(inner)) => names.extend(super::tests::names(table, inner)),
            _ => assert!(names.insert(field.name), "{}", field.name),
        }
    }
    names
}

#[test]
fn messages_have_the_fields_of_the_schemas() {
    let table = Table::get();
    let mut compared = 0;
    for schema in Schemas::builtin().types() {
        let Some(message) = table.named(&schema.name) else {
            // Special types, and versions that are not stable.
            let own =
                ["Time", "MicroTime", "FieldsV1", "JSON", "Or", "alpha", "beta", "Quantity", "IntOrString"];
            let other = schema.name.ends_with("RawExtension");
            assert!(other || own.iter().any(|part| schema.name.contains(part)), "{}", schema.name);
            continue;
        };
        let known: BTreeSet<&str> = schema.fields.iter().map(|field| field.name.as_ref()).collect();
        let typed = known.iter().filter(|name| !["apiVersion", "kind"].contains(name)).copied();
        let mut written = names(table, message);
        if !known.is_empty() {
            written.retain(|name| !["apiVersion", "kind"].contains(name));
            assert_eq!(typed.collect::<BTreeSet<_>>(), written, "{}", schema.name);
            compared += 1;
        }
    }
    assert!(compared > 400, "{compared}");
}

#[test]
fn what_kubectl_sends_passes_the_strict_check() {
    let table = Table::get();
    for (api_version, kind, bytes) in captured() {
        let message = table.of_kind(api_version, kind);
        let of_kind = |name: &str| name.ends_with(kind) && table.named(name) == message;
        let name = Schemas::builtin().types().iter().map(|t| &t.name).find(|name| of_kind(name)).unwrap();
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::new(group.to_owned(), version.to_owned(), kind.to_owned());
        let mut value = decode(&bytes).unwrap().value;
        let schema = Schemas::builtin().get(name).unwrap();
        assert_eq!(check(schema, &gvk, &mut value, &[], FieldValidation::Strict).unwrap(), [""; 0]);
    }
}

#[test]
fn options_and_status_from_bytes_made_by_hand() {
    let options = b"k8s\0\x0a\x13\x0a\x02v1\x12\x0dDeleteOptions\x12\x2a\
        \x08\x00\x12\x07\x0a\x05u-1-2\x18\x00\x22\x0aForeground\x2a\x03All\x2a\x00\x30\x00\x9a\x06\x04skip";
    let mut options = options.to_vec();
    // Unknown field 99 above lies within `raw`; its true length:
    let raw_at = options.iter().position(|byte| *byte == 0x2a).unwrap();
    options[raw_at] = (options.len() - raw_at - 1) as u8;
    assert_eq!(
        decode(&options).unwrap().value,
        json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": "u-1-2"}, "orphanDependents": false,
            "propagationPolicy": "Foreground", "dryRun": ["All", ""],
            "ignoreStoreReadErrorWithClusterBreakingPotential": false,
        })
    );
    let status = json!({"status": "Failure", "reason": "NotFound", "code": 404});
    let written = encode(&status, "v1", "Status").unwrap();
    assert_eq!(
        written,
        b"k8s\0\x0a\x0c\x0a\x02v1\x12\x06Status\x12\x20\
          \x0a\x06\x0a\x00\x12\x00\x1a\x00\x12\x07Failure\x1a\x00\x22\x08NotFound\x30\x94\x03\x1a\x00\x22\x00"
    );
}

#[test]
fn proto2_semantics() {
    let string = |number, text: &str| message(|out| put_bytes(out, number, text.as_bytes()));
    // Nested messages merge, scalars are overwritten, a value that is zero at last is dropped.
    let metadata = |fields: &[(u32, &str)]| {
        let inner = message(|out| fields.iter().for_each(|(n, text)| put_bytes(out, *n, text.as_bytes())));
        message(|out| put_bytes(out, 1, &inner))
    };
    let raw = [metadata(&[(1, "a"), (3, "n"), (5, "u")]), metadata(&[(1, "b"), (5, "")])].concat();
    assert_eq!(tree("v1", "ConfigMap", &raw)["metadata"], json!({"name": "b", "namespace": "n"}));
    // A key of a map that stands twice; an entry without a value; one without a key.
    let entries = [
        [string(1, "k"), string(2, "1")].concat(),
        [string(2, "2"), string(1, "k")].concat(),
        string(1, "bare"),
        string(2, "nameless"),
    ];
    let raw = message(|out| entries.iter().for_each(|entry| put_bytes(out, 2, entry)));
    assert_eq!(tree("v1", "ConfigMap", &raw)["data"], json!({"k": "2", "bare": "", "": "nameless"}));
    // Repeated numbers, packed and not: supplementalGroups of a pod's securityContext.
    let groups = message(|out| {
        put_int(out, 4, 7);
        put_bytes(out, 4, &[8, 0x96, 1]);
    });
    let spec = message(|out| put_bytes(out, 14, &groups));
    let raw = message(|out| put_bytes(out, 2, &spec));
    assert_eq!(tree("v1", "Pod", &raw)["spec"]["securityContext"]["supplementalGroups"], json!([7, 8, 150]));
    // Unknown fields of every wire type, a group within a group among them.
    let mut raw = message(|out| {
        put_int(out, 200, 1);
        put_fixed64(out, 201, 1);
        put_bytes(out, 202, b"x");
    });
    raw.extend([0xed, 0x0c, 1, 2, 3, 4]); // 205, fixed32
    raw.extend([0xf3, 0x0c, 0xfb, 0x0c, 0x08, 1, 0xfc, 0x0c, 0xf4, 0x0c]); // groups 206 and 207
    put_int(&mut raw, 4, 1);
    assert_eq!(
        tree("v1", "ConfigMap", &raw),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "immutable": true})
    );
}

#[test]
fn special_types_both_ways() {
    let crd = json!({
        "metadata": {
            "name": "x", "creationTimestamp": "2024-02-29T23:59:59Z",
            "managedFields": [{"manager": "m", "time": "1969-12-31T23:59:59Z", "fieldsV1": {"f:a": {}}}],
        },
        "spec": {
            "group": "g", "names": {"plural": "p", "kind": "K"}, "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": false, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {
                    "type": "object", "minimum": -0.5, "default": {"a": [1, null]}, "enum": ["a", 2],
                    "$ref": "", "x-kubernetes-preserve-unknown-fields": false,
                    "items": {"type": "string"}, "additionalProperties": {"type": "integer"},
                    "additionalItems": false, "not": {"items": [{"type": "a"}, {"type": "b"}]},
                    "dependencies": {"a": ["b", "c"], "b": {"type": "d"}},
                    "properties": {"q": {"additionalProperties": true}},
                }},
            }],
        },
    });
    let written = encode_kind(&crd, "apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let read = decode(&written).unwrap().value;
    assert_eq!(read["metadata"], crd["metadata"]);
    assert_eq!(read["spec"]["versions"], crd["spec"]["versions"]);
    let lease = json!({"spec": {"renewTime": "2024-01-02T03:04:05.600007Z", "acquireTime": "2024-01-02T03:04:05.000000Z"}});
    let read = decode(&encode_kind(&lease, "coordination.k8s.io/v1", "Lease")).unwrap().value;
    assert_eq!(read["spec"], lease["spec"]);
    let review = json!({"metadata": {}, "spec": {"token": "t"}, "status": {
        "user": {"username": "u", "extra": {"a": ["b", ""], "c": []}}}});
    let read = decode(&encode_kind(&review, "authentication.k8s.io/v1", "TokenReview")).unwrap().value;
    assert_eq!(read["status"], review["status"]);
    // Volumes lie flat in JSON; a list of anything holds JSON or envelopes.
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [], "volumes": [{"name": "v", "emptyDir": {}}]}});
    let inner = encode(&pod, "v1", "Pod").unwrap();
    let read = decode(&inner).unwrap().value;
    assert_eq!(read["spec"]["volumes"], pod["spec"]["volumes"]);
    let raw = message(|out| {
        put_bytes(out, 2, &message(|out| put_bytes(out, 1, &inner)));
        put_bytes(out, 2, &message(|out| put_bytes(out, 1, b"{\"a\":1}")));
    });
    assert_eq!(tree("v1", "List", &raw)["items"], json!([read, {"a": 1}]));
}

#[test]
fn malformed_bytes_are_refused() {
    let deep = (0..MAX_DEPTH + 5).fold(Vec::new(), |inner, _| message(|out| put_bytes(out, 28, &inner)));
    let deep = message(|out| put_bytes(out, 1, &deep));
    let version = message(|out| put_bytes(out, 4, &deep));
    let spec = message(|out| put_bytes(out, 7, &version));
    let deep = message(|out| put_bytes(out, 2, &spec));
    let many = [0x12, 0].repeat(super::MAX_VALUES + 1);
    let groups = [0x0b].repeat(100_000);
    for (bytes, expected) in [
        (b"{}".to_vec(), ProtobufError::Magic),
        (Vec::new(), ProtobufError::Magic),
        (MAGIC.to_vec(), ProtobufError::UnknownKind { api_version: String::new(), kind: String::new() }),
        (body("v1", "ConfigMap", &[0x0a, 5, 1]), ProtobufError::Truncated),
        (body("v1", "ConfigMap", &[0x20]), ProtobufError::Truncated),
        (body("v1", "ConfigMap", &[0xff; 11]), ProtobufError::Overflow),
        (body("v1", "ConfigMap", &[0x02, 0]), ProtobufError::Tag { number: 0, wire: 2 }),
        (body("v1", "ConfigMap", &[0x0f]), ProtobufError::Tag { number: 1, wire: 7 }),
        (body("v1", "ConfigMap", &[0x08, 1]), ProtobufError::WireType("metadata")),
        (body("v1", "ConfigMap", &[0x22, 0]), ProtobufError::WireType("immutable")),
        (body("v1", "ConfigMap", &[0x0a, 3, 0x0a, 1, 0xff]), ProtobufError::Utf8("name")),
        (body("v1", "ConfigMap", &groups), ProtobufError::TooDeep),
        (body("apiextensions.k8s.io/v1", "CustomResourceDefinition", &deep), ProtobufError::TooDeep),
        (body("v1", "ConfigMapList", &many), ProtobufError::TooLarge),
    ] {
        assert_eq!(decode(&bytes).err(), Some(expected), "{:?}", bytes.get(..40.min(bytes.len())));
    }
}

#[test]
fn trees_of_wrong_types_are_refused() {
    for (value, field) in [
        (json!({"metadata": []}), "metadata"),
        (json!({"data": {"a": 1}}), "data"),
        (json!({"data": []}), "data"),
        (json!({"binaryData": {"a": "%"}}), "binaryData"),
        (json!({"immutable": 1}), "immutable"),
        (json!({"metadata": {"creationTimestamp": "today"}}), "creationTimestamp"),
        (json!({"metadata": {"finalizers": "a"}}), "finalizers"),
    ] {
        match encode(&value, "v1", "ConfigMap") {
            Err(ProtobufError::Value { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{value}: {other:?}"),
        }
    }
    assert!(encode(&json!({}), "v1", "Nothing").is_err());
    assert!(encode(&json!({}), "nothing/v1", "Pod").is_err());
}

/// A seeded generator (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A tree of a message in which about every second field is set.
    fn tree(&mut self, message: u16, depth: usize) -> Map<String, Value> {
        let mut map = Map::new();
        for field in Table::get().fields(message) {
            if let (Presence::Inline, Kind::Message(inner)) = (field.presence, field.kind) {
                map.append(&mut self.tree(inner, depth));
            } else if self.below(2) == 0 {
                let count = 1 + self.below(2);
                let value = match field.card {
                    Card::One => self.value(field.kind, depth),
                    Card::List => (0..count).map(|_| self.value(field.kind, depth)).collect(),
                    Card::Map => {
                        let entry = |at| (format!("k{at}"), self.value(field.kind, depth));
                        Value::Object((0..count).map(entry).collect())
                    }
                };
                map.insert(field.name.into(), value);
            }
        }
        map
    }

    fn value(&mut self, kind: Kind, depth: usize) -> Value {
        let schema = |random: &mut Self| match Table::get().json_schema {
            Some(message) => random.value(Kind::Message(message), depth.saturating_sub(2)),
            None => Value::Null,
        };
        match (kind, self.below(3)) {
            (Kind::String, n) => ["", "text", "snø"][n].into(),
            (Kind::Bool, n) => (n == 0).into(),
            (Kind::Int, n) => [0, -1, i64::MAX][n].into(),
            (Kind::Double, n) => [0.0, -1.5, 1e300][n].into(),
            (Kind::Bytes, n) => ["/w==", "AA==", "aGVsbG8="][n].into(),
            (Kind::Quantity, n) => ["0", "100m", "1Gi"][n].into(),
            (Kind::IntOrString, n) => [json!(0), json!("50%"), json!(-3)][n].clone(),
            (Kind::Time, n) => {
                ["1969-07-20T20:17:40Z", "2024-01-01T00:00:00Z", "9999-12-30T00:00:00Z"][n].into()
            }
            (Kind::MicroTime, n) => {
                ["1969-07-20T20:17:40.000001Z", "2024-01-01T00:00:00.500000Z", "2024-01-01T00:00:00.000000Z"]
                    [n]
                    .into()
            }
            (Kind::Raw, n) => [json!({}), json!([1, "a"]), json!({"a": {"b": null}})][n].clone(),
            (Kind::Strings, n) => [json!(["a"]), json!(["a", "b"]), json!([""])][n].clone(),
            (Kind::SchemaOrBool, n) if n < 2 => (n == 0).into(),
            (Kind::SchemaOrStrings, n) if n < 2 => json!(["a", "b"]),
            (Kind::SchemaOrArray, n) if n < 2 => (0..=n).map(|_| schema(self)).collect(),
            (Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings, _) => schema(self),
            (Kind::Message(message), _) if depth > 0 => Value::Object(self.tree(message, depth - 1)),
            (Kind::Message(_), _) => json!({}),
        }
    }
}

#[test]
fn every_message_survives_the_round_trip() {
    let table = Table::get();
    let mut random = Random(0x5eed);
    for message in table.all() {
        for _ in 0..5 {
            let value = Value::Object(random.tree(message, 3));
            let text = value.to_string();
            let written = super::encode::message(table, message, text.as_bytes()).unwrap();
            let read = super::decode::bare(table, message, &written).unwrap();
            let again = super::encode::message(table, message, read.to_string().as_bytes()).unwrap();
            // The bytes say all that Go knows of the value: equal bytes, nothing lost.
            assert_eq!(again, written, "{value}\n{read}");
            assert_eq!(super::decode::bare(table, message, &again).unwrap(), read);
        }
    }
}

#[test]
fn pods_come_back_as_they_were() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "annotations": {"a": "", "b": "c"}, "deletionGracePeriodSeconds": 0},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "hostNetwork": true,
            "containers": [{
                "name": "c", "image": "i", "command": ["sh", ""],
                "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 3},
                "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": false}}}],
                "securityContext": {"privileged": false, "runAsUser": 0},
            }],
        },
        "status": {"phase": "Running", "startTime": "2024-01-01T00:00:00Z"},
    });
    let written = encode(&pod, "v1", "Pod").unwrap();
    assert_eq!(decode(&written).unwrap().value, pod);
    let list = json!({
        "apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7"},
        "items": [{"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "resources": {}}]}, "status": {}}],
    });
    let written = encode(&list, "v1", "PodList").unwrap();
    assert_eq!(decode(&written).unwrap().value, list);
}

#[test]
fn no_bytes_make_it_panic() {
    let mut random = Random(42);
    let bodies = captured();
    let mut read = 0;
    for round in 0..20_000 {
        let mut bytes = if round % 4 == 0 {
            let (api_version, kind, _) = &bodies[random.below(bodies.len())];
            let length = random.below(64);
            let raw: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            body(api_version, kind, &raw)
        } else {
            bodies[random.below(bodies.len())].2.clone()
        };
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        if random.below(8) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        if let Ok(decoded) = decode(&bytes) {
            // What was read can be written, and says the same from then on.
            let written = encode_kind(&decoded.value, &decoded.api_version, &decoded.kind);
            let again = decode(&written).unwrap();
            assert_eq!(encode_kind(&again.value, &again.api_version, &again.kind), written);
            read += 1;
        }
    }
    assert!(read > 1000, "{read}");
}
