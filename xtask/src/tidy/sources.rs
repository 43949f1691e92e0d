//! Rules about source text: sizes, clocks in pure code, kind names in generic code.

use super::{Fault, Source};

/// Most lines a file may have.
const LONGEST: usize = 800;

/// Code that only computes: no clock, no runtime, no waiting. A row is the beginning of paths, of which some must exist.
const PURE: &[&str] = &[
    "control-plane/api/src/",
    "control-plane/cel/src/",
    "control-plane/controllers/src/autoscaler/calculate",
    "control-plane/controllers/src/autoscaler/limits.rs",
    "control-plane/controllers/src/autoscaler/model.rs",
    "control-plane/controllers/src/autoscaler/plan",
    "control-plane/controllers/src/autoscaler/status.rs",
    "control-plane/controllers/src/cronjob/missed.rs",
    "control-plane/controllers/src/cronjob/model.rs",
    "control-plane/controllers/src/cronjob/plan",
    "control-plane/controllers/src/daemonset/backoff.rs",
    "control-plane/controllers/src/daemonset/model.rs",
    "control-plane/controllers/src/daemonset/plan",
    "control-plane/controllers/src/daemonset/rolling.rs",
    "control-plane/controllers/src/deployment/model.rs",
    "control-plane/controllers/src/deployment/plan",
    "control-plane/controllers/src/deployment/rollout.rs",
    "control-plane/controllers/src/deployment/status.rs",
    "control-plane/controllers/src/disruption/plan",
    "control-plane/controllers/src/dns/plan.rs",
    "control-plane/controllers/src/endpointslice/mirror.rs",
    "control-plane/controllers/src/endpointslice/plan.rs",
    "control-plane/controllers/src/garbage/graph.rs",
    "control-plane/controllers/src/history/plan.rs",
    "control-plane/controllers/src/replicaset/plan",
    "control-plane/controllers/src/services.rs",
    "control-plane/controllers/src/statefulset/claims.rs",
    "control-plane/controllers/src/statefulset/model.rs",
    "control-plane/controllers/src/statefulset/plan",
    "control-plane/controllers/src/subsets.rs",
    "control-plane/scheduler/src/core/",
    "control-plane/store/src/codec.rs",
    "control-plane/store/src/command.rs",
    "control-plane/store/src/mvcc.rs",
    "control-plane/store/src/types.rs",
    "ebpf/abi/src/",
    "node-agent/dataplane/src/k8s.rs",
    "node-agent/dataplane/src/model.rs",
    "node-agent/dataplane/src/tables.rs",
    "node-agent/dns/src/core/",
    "node-agent/pods/src/core/",
    "node-agent/src/routes/plan.rs",
];

/// What pure code must not say.
const IMPURE: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "tokio::",
    "std::fs::",
    "std::net::Tcp",
    "thread::sleep",
];

/// Code that serves every kind alike; rows as in [`PURE`].
const GENERIC: &[&str] = &[
    "control-plane/apiserver/src/cache/",
    "control-plane/apiserver/src/discovery.rs",
    "control-plane/apiserver/src/http/",
    "control-plane/apiserver/src/registry/",
    "control-plane/apiserver/src/request.rs",
    "control-plane/apiserver/src/table.rs",
    "control-plane/store/src/",
];

/// Kinds and resources that generic code must not name.
const KINDS: &[&str] = &[
    "Pod",
    "pods",
    "Deployment",
    "deployments",
    "ReplicaSet",
    "replicasets",
    "Service",
    "services",
    "Node",
    "nodes",
    "ConfigMap",
    "configmaps",
    "Secret",
    "secrets",
    "EndpointSlice",
    "endpointslices",
    "Endpoints",
    "endpoints",
    "Event",
    "events",
    "Lease",
    "leases",
    "ServiceAccount",
    "serviceaccounts",
];

/// Checks every Rust file.
#[must_use]
pub fn check(files: &[Source]) -> Vec<Fault> {
    files.iter().filter(|file| file.path.ends_with(".rs")).flat_map(check_file).collect()
}

/// Rows of the tables above that speak of no file any more.
#[must_use]
pub fn stale_rows(files: &[Source]) -> Vec<Fault> {
    let stale = |row: &&&str| !files.iter().any(|file| file.path.starts_with(**row));
    let at = || "xtask/src/tidy/sources.rs".to_owned();
    PURE.iter()
        .chain(GENERIC)
        .filter(stale)
        .map(|row| Fault { at: at(), what: format!("{row}: no such file") })
        .collect()
}

fn within(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

fn check_file(file: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    let lines = file.text.lines().count();
    if lines > LONGEST {
        faults.push(Fault {
            at: file.path.clone(),
            what: format!("{lines} lines; {LONGEST} is the most: it wants a second room"),
        });
    }
    let (pure, generic) = (within(&file.path, PURE), within(&file.path, GENERIC));
    if !(pure || generic) || file.path.ends_with("tests.rs") {
        return faults;
    }
    for (number, line) in product_lines(&file.text) {
        let fault = |what: String| Fault { at: format!("{}:{number}", file.path), what };
        if pure && let Some(word) = IMPURE.iter().find(|word| line.contains(**word)) {
            faults.push(fault(format!("{word} in code that only computes")));
        }
        if generic && let Some(kind) = KINDS.iter().find(|kind| line.contains(&format!("\"{kind}\""))) {
            faults.push(fault(format!("\"{kind}\" in code that serves every kind alike")));
        }
    }
    faults
}

/// Numbered lines of a file without comments and without the tests at its end.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    let lines = text[..end].lines().enumerate();
    lines.map(|(index, line)| (index + 1, line.split("//").next().unwrap_or(line)))
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn a_clock_in_pure_code_is_named_with_its_line() {
        let text = "//! Uses no tokio::time.\nfn f() {\n    let now = Instant::now();\n}\n\n#[cfg(test)]\nmod tests {\n    use tokio::x;\n}\n";
        let faults = check(&[source("control-plane/api/src/a.rs", text)]);
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].at, "control-plane/api/src/a.rs:3");
        assert_eq!(check(&[source("control-plane/api/src/tests.rs", text)]), []);
        assert_eq!(check(&[source("node-agent/src/main.rs", text)]), []);
    }

    #[test]
    fn generic_code_names_no_kind() {
        let faults = check(&[source(
            "control-plane/apiserver/src/registry/get.rs",
            "if resource == \"pods\" {}\nlet x = \"podsy\";\n",
        )]);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].what.contains("pods"));
    }

    #[test]
    fn a_file_too_long_is_a_fault() {
        assert_eq!(check(&[source("x.rs", &"\n".repeat(LONGEST))]), []);
        assert_eq!(check(&[source("x.rs", &"\n".repeat(LONGEST + 1))]).len(), 1);
    }
}
