//! The objects that share the server among its users when nobody says otherwise
//! (`k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap`), as data.

use serde_json::{Value, json};

/// Says that the server keeps the object as it came; `false` where an administrator took it over.
pub const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": kind, "spec": spec,
        "metadata": {"name": name, "annotations": {AUTOUPDATE: "true"}},
    })
}

fn level(name: &str, spec: Value) -> Value {
    object("PriorityLevelConfiguration", name, spec)
}

/// Requests wait in queues of 50: name, shares, percent that may be lent, queues, and of how many queues a flow has a hand.
const QUEUED: &[(&str, u32, u32, u32, u32)] = &[
    ("system", 30, 33, 64, 6),
    ("node-high", 40, 25, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
];

fn queued(&(name, shares, lendable, queues, hand): &(&str, u32, u32, u32, u32)) -> Value {
    let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
    let limited = json!({
        "nominalConcurrencyShares": shares, "lendablePercent": lendable,
        "limitResponse": {"type": "Queue", "queuing": queuing},
    });
    level(name, json!({"type": "Limited", "limited": limited}))
}

/// Who a schema is for.
#[derive(Clone, Copy)]
enum Who {
    Group(&'static str),
    User(&'static str),
    /// All service accounts of `kube-system`.
    SystemAccounts,
}

impl Who {
    fn subject(&self) -> Value {
        match self {
            Who::Group(name) => json!({"kind": "Group", "group": {"name": name}}),
            Who::User(name) => json!({"kind": "User", "user": {"name": name}}),
            Who::SystemAccounts => {
                json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "kube-system"}})
            }
        }
    }
}

const EVERYBODY: &[Who] = &[Who::Group("system:unauthenticated"), Who::Group("system:authenticated")];

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = true.into();
    }
    rule
}

/// Rules for everything.
fn all() -> (Vec<Value>, Vec<Value>) {
    (vec![resources(&["*"], "*", &["*"], true)], vec![json!({"verbs": ["*"], "nonResourceURLs": ["*"]})])
}

fn schema(
    (name, level, precedence, flows_by): (&str, &str, u32, &str),
    who: &[Who],
    (resources, paths): (Vec<Value>, Vec<Value>),
) -> Value {
    let mut rule = json!({"subjects": who.iter().map(Who::subject).collect::<Vec<_>>()});
    if !resources.is_empty() {
        rule["resourceRules"] = resources.into();
    }
    if !paths.is_empty() {
        rule["nonResourceRules"] = paths.into();
    }
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule],
    });
    if !flows_by.is_empty() {
        spec["distinguisherMethod"] = json!({"type": flows_by});
    }
    object("FlowSchema", name, spec)
}

/// The objects that must be there, and must be so.
pub fn mandatory() -> Vec<Value> {
    let exempt = json!({"nominalConcurrencyShares": 0, "lendablePercent": 0});
    let rest =
        json!({"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}});
    vec![
        level("exempt", json!({"type": "Exempt", "exempt": exempt})),
        level("catch-all", json!({"type": "Limited", "limited": rest})),
        schema(("exempt", "exempt", 1, ""), &[Who::Group("system:masters")], all()),
        schema(("catch-all", "catch-all", 10_000, "ByUser"), EVERYBODY, all()),
    ]
}

/// The objects that come with a cluster and may be changed.
pub fn suggested() -> Vec<Value> {
    let leases = |verbs: &[&str]| resources(verbs, "coordination.k8s.io", &["leases"], false);
    let nodes = &[Who::Group("system:nodes")];
    let health = json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]});
    let (manager, scheduler) = ("system:kube-controller-manager", "system:kube-scheduler");
    let elect = leases(&["get", "create", "update"]);
    let own = resources(&["*"], "", &["nodes", "nodes/status"], true);
    let (by_namespace, by_user) = ("ByNamespace", "ByUser");
    let mut objects: Vec<Value> = QUEUED.iter().map(queued).collect();
    objects.extend([
        schema(("probes", "exempt", 2, ""), EVERYBODY, (vec![], vec![health])),
        schema(
            ("system-leader-election", "leader-election", 100, by_user),
            &[Who::User(manager), Who::User(scheduler), Who::SystemAccounts],
            (vec![elect], vec![]),
        ),
        schema(("system-node-high", "node-high", 400, by_user), nodes, (vec![own, leases(&["*"])], vec![])),
        schema(("system-nodes", "system", 500, by_user), nodes, all()),
        schema((manager_name(manager), "workload-high", 800, by_namespace), &[Who::User(manager)], all()),
        schema((manager_name(scheduler), "workload-high", 800, by_namespace), &[Who::User(scheduler)], all()),
        schema(
            ("kube-system-service-accounts", "workload-high", 900, by_namespace),
            &[Who::SystemAccounts],
            all(),
        ),
        schema(
            ("service-accounts", "workload-low", 9_000, by_user),
            &[Who::Group("system:serviceaccounts")],
            all(),
        ),
        schema(("global-default", "global-default", 9_900, by_user), EVERYBODY, all()),
    ]);
    objects
}

fn manager_name(user: &str) -> &str {
    user.trim_start_matches("system:")
}

/// The spec that a mandatory object must have.
pub(super) fn fixed_spec(kind: &str, name: &str) -> Option<Value> {
    let is = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    mandatory().into_iter().find(is).and_then(|mut object| object.get_mut("spec").map(Value::take))
}
