//! The targets: one row each.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock};

use hickory_proto::op::Message;
use serde_json::{Value, json};
use skep_api::kinds::ResourceTable;
use skep_api::patch::{self, PatchType};
use skep_api::schema::{Format, decode};
use skep_api::{FieldSelector, LabelSelector, Quantity, Status, protobuf};
use skep_apiserver::RequestInfo;
use skep_apiserver::registry::Token;
use skep_cel::{Decl, Env, Program};
use skep_dns::access::Access;
use skep_dns::core::{Domain, Zone};
use skep_dns::forward::Forwarder;
use skep_dns::handler::{Decision, Handler, Transport};
use skep_dns::metrics::Metrics;
use skep_dns::upstream::{Named, Upstreams};
use skep_dns::view::View;

/// Something that reads bytes.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Inputs that mean something to it.
    pub seeds: &'static [&'static [u8]],
    /// Reads bytes; panics when what it reads does not hold together.
    pub run: fn(&[u8]),
}

/// All targets.
pub static TARGETS: &[Target] = &[
    Target {
        name: "json",
        seeds: &[
            br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"x":"y"}},"spec":{"containers":[{"name":"c"}]}}"#,
            br#"[1,-2.5e3,true,null,"\u00e9\ud83d\ude00",{"a":{},"a":[]}]"#,
        ],
        run: json,
    },
    Target {
        name: "yaml",
        seeds: &[
            b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels: {x: \"y\"}\nspec:\n  containers:\n  - name: c\n    args: [a, 'b', 1, 0x1f, ~]\n",
            b"a: &x [1, 2]\nb: *x\nc: |\n  text\n  more\nd: >-\n  folded\n  text\ne: !!str 5\n? k\n: v\n<<: {z: 1}\n---\nf: 2\n",
        ],
        run: yaml,
    },
    Target {
        name: "protobuf",
        seeds: &[
            b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\x18\n\x05\n\x01a\x1a\0\x12\x06\n\x01k\x12\x01v\x12\x07\n\x01l\x12\x02ww\x1a\0\"\0",
            b"k8s\0\n\t\n\x02v1\x12\x03Pod\x12\x12\n\x05\n\x01a\x1a\0\x12\x05\x12\x03\n\x01c\x1a\x02\n\0\x1a\0\"\0",
        ],
        run: protobuf,
    },
    Target {
        name: "selector",
        seeds: &[b"a=b,c!=d,e in (f, g),h notin (i),!j,k", b"metadata.name=a,spec.nodeName!=b", b"x>1,y<2, z == q"],
        run: selector,
    },
    Target {
        name: "quantity",
        seeds: &[b"100m", b"1.5Gi", b"-12e6", b"9223372036854775807Ei", b"0.000000001n", b"+.5k", b"1E"],
        run: quantity,
    },
    Target {
        name: "patch",
        seeds: &[
            br#"[{"op":"add","path":"/spec/containers/-","value":{"name":"d"}},{"op":"move","from":"/metadata/labels","path":"/x~1y"},{"op":"test","path":"/a","value":1}]"#,
            br#"{"metadata":{"labels":{"x":null,"y":"z"}},"spec":{"containers":[{"name":"c","image":"i"}]}}"#,
            br#"{"spec":{"$setElementOrder/containers":[{"name":"c"},{"name":"d"}],"containers":[{"name":"c","$patch":"delete"},{"name":"d","ports":[{"containerPort":1,"$patch":"replace"}]}],"$retainKeys":["containers"]}}"#,
        ],
        run: patch,
    },
    Target {
        name: "cel",
        seeds: &[
            b"self.a.all(x, x.startsWith('a') && size(x) < 3) || self.b > 1",
            b"has(self.c) ? self.?c.orValue('d') == 'd' : [1, 2u, 3.0].map(x, x).exists(i, y, y == i)",
            b"'%s %d'.format([self.c, self.b]).matches('^a*b{1,3}$') && quantity('1Gi').isGreaterThan(quantity('1M'))",
            b"{'a': [1, 2]}.transformMap(k, v, v.sum()).a == 3 && timestamp('2000-01-01T00:00:00Z').getHours('+01:00') == 1",
            b"url('https://a:1/b?c=d').getPort() == '1' && cidr('10.0.0.0/8').containsIP('10.1.1.1') && ip('::1').family() == 6",
            b"self.a.sortBy(e, e.size()).distinct().reverse().slice(0, 1).join('-').replace('a', 'bb', 1).split('b', 2).size() > 0",
        ],
        run: cel,
    },
    Target {
        name: "continue",
        seeds: &[b"eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiJkZWZhdWx0L2EifQ", b"eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiYVx1MDAwMCJ9"],
        run: token,
    },
    Target {
        name: "path",
        seeds: &[
            b"/api/v1/namespaces/default/pods/a/log?follow=true&tailLines=1",
            b"/apis/apps/v1/namespaces/x/deployments?labelSelector=a%3Db&limit=5&watch=1",
            b"/api/v1/nodes/n:10250/proxy/metrics/%2e%2e/x?%zz=%",
            b"/apis/apps/v1/watch/namespaces//a",
        ],
        run: path,
    },
    Target {
        name: "dns",
        seeds: &[
            b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01\x03web\x07default\x03svc\x07cluster\x05local\0\0\x01\0\x01\0\0\x29\x10\0\0\0\x80\0\0\0",
            b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x05_http\x04_tcp\x03web\x07default\x03svc\x07cluster\x05local\0\0\x21\0\x01",
            b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x017\x010\x0296\x0210\x07in-addr\x04arpa\0\0\x0c\0\x01",
            b"\0\x02\0\0\0\x01\0\0\0\0\0\0\x07cluster\x05local\0\0\x06\0\x01",
            b"\0\x03\x01\0\0\x01\0\0\0\0\0\x01\x01a\x07example\0\0\x41\0\x01\xc0\x0c\0\x10\0\x01\0\0\0\x05\0\x02\x01x",
        ],
        run: dns,
    },
];

fn tree(bytes: &[u8], format: Format) -> Option<Value> {
    decode(bytes, format).ok().map(|decoded| decoded.value)
}

/// What is read and written is read again as the same.
fn json(bytes: &[u8]) {
    let Some(value) = tree(bytes, Format::Json) else { return };
    let text = value.to_string();
    assert_eq!(tree(text.as_bytes(), Format::Json).as_ref(), Some(&value), "{text}");
}

fn yaml(bytes: &[u8]) {
    let Some(value) = tree(bytes, Format::Yaml) else { return };
    // A tree of YAML is one of JSON.
    let text = value.to_string();
    assert_eq!(tree(text.as_bytes(), Format::Json).as_ref(), Some(&value), "{text}");
}

fn protobuf(bytes: &[u8]) {
    let Ok(decoded) = protobuf::decode(bytes) else { return };
    let of = |name: &str| decoded.value.get(name).and_then(Value::as_str).unwrap_or_default();
    let _ = protobuf::encode(&decoded.value, of("apiVersion"), of("kind"));
}

fn selector(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let labels = BTreeMap::from([("a".into(), "b".into()), ("e".into(), "f".into())]);
    if let Ok(selector) = LabelSelector::parse(text) {
        let _ = selector.matches(&labels);
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        let _ = selector.matches(|field| if field == "metadata.name" { "a" } else { "" });
    }
}

/// A quantity is as much when it is written and read again.
fn quantity(bytes: &[u8]) {
    let Some(quantity) = std::str::from_utf8(bytes).ok().and_then(|text| Quantity::parse(text).ok()) else {
        return;
    };
    let text = quantity.to_string();
    assert_eq!(Quantity::parse(&text).ok(), Some(quantity), "{text}");
}

static OBJECT: LazyLock<Value> = LazyLock::new(|| {
    json!({"apiVersion": "v1", "kind": "Pod", "a": 1,
        "metadata": {"name": "p", "labels": {"x": "y"}, "finalizers": ["f/1", "f/2"]},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1, "protocol": "TCP"}]}, {"name": "d"}],
            "tolerations": [{"key": "k"}]}})
});

static TABLE: LazyLock<ResourceTable> = LazyLock::new(ResourceTable::builtin);

fn patch(bytes: &[u8]) {
    let Some(patch) = tree(bytes, Format::Json) else { return };
    let schema = TABLE.get("", "v1", "pods").ok_or_else(|| Status::internal("no row"));
    let Ok(schema) = schema.and_then(|row| row.schema()) else { return };
    for kind in [PatchType::Json, PatchType::Merge, PatchType::Strategic] {
        if let Ok(patched) = patch::apply(kind, schema, &OBJECT, &patch) {
            let _ = patched.to_string();
        }
    }
}

static ENV: LazyLock<Env> = LazyLock::new(|| {
    let schema = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}},
        "b": {"type": "integer"}, "c": {"type": "string"}, "d": {"x-kubernetes-int-or-string": true}}});
    let schema = skep_api::custom::Structural::parse(&schema).unwrap_or_default();
    let decl = Decl::of(&schema, true, "self").unwrap_or_else(Decl::any);
    Env::new().with("self", decl).with("any", Decl::any())
});

fn cel(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(program) = Program::compile(text, &ENV, None) else { return };
    let value = json!({"a": ["a", "ab", "é"], "b": 2, "c": "aab", "d": "5%"});
    let Some(Ok(this)) = ENV.variable("self").map(|one| skep_cel::Value::of_json(&value, &one.decl)) else {
        return;
    };
    let _ = program.run(&[("self", this), ("any", skep_cel::Value::dynamic(&value))], 100_000);
}

/// A token is the same when it is written and read again.
fn token(bytes: &[u8]) {
    let Some(token) = std::str::from_utf8(bytes).ok().and_then(|text| Token::decode(text).ok()) else {
        return;
    };
    assert_eq!(Token::decode(&token.encode()).ok(), Some(token));
}

fn path(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (path, query) = text.split_once('?').unwrap_or((&text, ""));
    for method in ["GET", "POST", "DELETE"] {
        let info = RequestInfo::parse(method, path, query);
        assert!(info.is_resource || info.resource.is_empty(), "{info:?}");
    }
}

static NAMES: LazyLock<Handler> = LazyLock::new(|| {
    let mut zone = Zone::default();
    zone.set_namespace("default", true);
    let service = br#"{"spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}}"#;
    zone.set_service("default", "web", skep_dns::core::objects::service(service).unwrap_or_default());
    let view = View::open(Path::new("/nonexistent"));
    view.publish(zone);
    let metrics = Arc::new(Metrics::default());
    let upstreams = Upstreams::new(Named::Here(Vec::new()), Vec::new());
    Handler {
        access: Access::new(Vec::new()),
        domain: Domain::default(),
        view: Arc::new(view),
        forwarder: Forwarder::new(upstreams, 0, metrics.clone()),
        metrics,
        turn: AtomicUsize::default(),
    }
});

/// An answer has the number of its question, says that it is one, and can be read.
fn dns(bytes: &[u8]) {
    for transport in [Transport::Udp, Transport::Tcp] {
        if let Decision::Send(answer) = NAMES.decide(bytes, ([127, 0, 0, 1], 1).into(), transport) {
            let fits = answer.len() <= if transport == Transport::Udp { 4096 } else { 65_535 };
            assert!(
                fits && answer.get(..2) == bytes.get(..2)
                    && answer.get(2).is_some_and(|flags| flags & 0x80 != 0)
            );
            assert!(Message::from_vec(&answer).is_ok(), "{answer:?}");
        }
    }
}
