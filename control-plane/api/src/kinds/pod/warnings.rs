//! What whoever writes a pod or a template of one is warned of (`pkg/api/pod/warnings.go`).

use crate::kinds::warnings::{address, fraction};
use crate::validation::At;
use std::collections::{BTreeMap, BTreeSet};

/// Labels of nodes that have newer names, or none.
const OLD_LABELS: [(&str, &str); 7] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
];

/// Volumes that are there for old objects' sake, and what is said of them.
const OLD_VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Annotations that fields have taken the place of.
const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";

fn old_label(name: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(old, _)| *old == name).map(|(_, why)| *why)
}

/// Warnings of a pod, or of a template that stands where `object` does.
pub(in crate::kinds) fn pod(object: &At<'_, '_>) -> Vec<String> {
    let (metadata, spec) = (object.get("metadata"), object.get("spec"));
    let mut told = Vec::new();
    placed(&mut told, &spec);
    let annotations = metadata.get("annotations");
    for (name, why) in OLD_ANNOTATIONS {
        if annotations.get(name).present() {
            told.push(format!("{}: {why}", annotations.key(name).path()));
        }
    }
    volumes(&mut told, &spec);
    twice(&mut told, &spec.get("hostAliases"), "ip");
    let secrets = spec.get("imagePullSecrets");
    twice(&mut told, &secrets, "name");
    for secret in secrets.items().filter(|secret| secret.get("name").text().is_empty()) {
        told.push(format!("{}: invalid empty name \"\"", secret.path().child("name")));
    }
    for resource in ["memory", "ephemeral-storage"] {
        amount(&mut told, &spec.get("overhead"), resource);
    }
    containers(&mut told, &spec);
    ports(&mut told, &spec);
    let grace = spec.get("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|seconds| seconds < 0) {
        told.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            grace.path()
        ));
    }
    affinity(&mut told, &spec.get("affinity"));
    told.extend(spec.get("dnsConfig").get("nameservers").items().flat_map(|at| address(&at)));
    for alias in spec.get("hostAliases").items() {
        told.extend(address(&alias.get("ip")));
    }
    told
}

/// Amounts of bytes, which are whole numbers.
fn amount(told: &mut Vec<String>, amounts: &At<'_, '_>, resource: &str) {
    told.extend(fraction(&amounts.key(resource)));
}

fn placed(told: &mut Vec<String>, spec: &At<'_, '_>) {
    let selector = spec.get("nodeSelector");
    for (name, at) in selector.entries() {
        if let Some(why) = old_label(name) {
            told.push(format!("{}: {why}", at.path()));
        }
    }
    let constraints = spec.get("topologySpreadConstraints");
    for constraint in constraints.items() {
        let key = constraint.get("topologyKey");
        if let Some(why) = old_label(key.text()) {
            told.push(format!("{}: {} is {why}", key.path(), key.text()));
        }
        let selector = constraint.get("labelSelector");
        if !selector.present() {
            told.push(format!("{}: {NO_SELECTOR}", selector.path()));
        }
    }
}

fn volumes(told: &mut Vec<String>, spec: &At<'_, '_>) {
    let volumes = spec.get("volumes");
    for volume in volumes.items() {
        for (index, (field, why)) in OLD_VOLUMES.into_iter().enumerate() {
            // Where upstream has it among them.
            if index == 7 {
                let claim = volume.get("ephemeral");
                let claim = claim.get("volumeClaimTemplate");
                let claim = claim.get("spec");
                amount(told, &claim.get("resources").get("requests"), "storage");
            }
            let at = volume.get(field);
            if at.present() {
                told.push(format!("{}: {why}", at.path()));
            }
        }
    }
}

/// Items whose field says what that of another said.
fn twice(told: &mut Vec<String>, list: &At<'_, '_>, field: &str) {
    let mut seen = BTreeSet::new();
    for item in list.items() {
        let at = item.get(field);
        if !seen.insert(at.text()) {
            told.push(format!("{}: duplicate {field} {:?}", at.path(), at.text()));
        }
    }
}

fn each_container(spec: &At<'_, '_>, mut see: impl FnMut(&At<'_, '_>)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        spec.get(list).items().for_each(|container| see(&container));
    }
}

fn containers(told: &mut Vec<String>, spec: &At<'_, '_>) {
    each_container(spec, |container| {
        let resources = container.get("resources");
        for resource in ["memory", "ephemeral-storage"] {
            for list in ["limits", "requests"] {
                amount(told, &resources.get(list), resource);
            }
        }
        let mut seen = BTreeSet::new();
        for variable in container.get("env").items() {
            let name = variable.get("name").text().to_owned();
            let reference = format!("$({name})");
            if seen.insert(name.clone()) {
                continue;
            }
            let value = variable.get("value").text().to_owned();
            let bad =
                variable.get("valueFrom").present() || value == reference || !value.contains(&reference);
            if bad {
                told.push(format!(
                    "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                    variable.path()
                ));
            }
        }
    });
}

/// A port that a container names.
struct Port {
    path: String,
    address: String,
    host: i64,
}

fn ports(told: &mut Vec<String>, spec: &At<'_, '_>) {
    let mut all: BTreeMap<(i64, String), Vec<Port>> = BTreeMap::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut doubles = Vec::new();
    each_container(spec, |container| {
        for at in container.get("ports").items() {
            let text = |field: &str| at.get(field).text().to_owned();
            let number = |field: &str| at.get(field).int().unwrap_or(0);
            let port =
                Port { path: at.path().to_string(), address: text("hostIP"), host: number("hostPort") };
            let (inner, protocol, name) = (number("containerPort"), text("protocol"), text("name"));
            if !port.address.is_empty() && port.host == 0 {
                told.push(format!(
                    "{}: hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{inner} Protocol:{protocol} \
                     HostIP:{}}}",
                    port.path, port.address
                ));
            }
            let others = all.entry((inner, protocol)).or_default();
            for other in others.iter() {
                let one_is_open = port.address.is_empty() != other.address.is_empty();
                let what = if port.address == other.address && port.host == other.host {
                    "duplicate"
                } else if port.host == 0 || other.host == 0 {
                    "overlapping"
                } else if port.host == other.host && one_is_open {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                told.push(format!("{}: {what} port definition with {}", port.path, other.path));
            }
            if !name.is_empty() {
                match names.get(&name) {
                    Some(other) => doubles.push(format!(
                        "{}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use \
                         {other}",
                        port.path
                    )),
                    None => drop(names.insert(name, port.path.clone())),
                }
            }
            others.push(port);
        }
    });
    told.append(&mut doubles);
}

fn affinity(told: &mut Vec<String>, at: &At<'_, '_>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let rules = at.get(kind);
        for term in rules.get("requiredDuringSchedulingIgnoredDuringExecution").items() {
            no_selector(told, &term);
        }
        for weighted in rules.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
            no_selector(told, &weighted.get("podAffinityTerm"));
        }
    }
}

fn no_selector(told: &mut Vec<String>, term: &At<'_, '_>) {
    let selector = term.get("labelSelector");
    if !selector.present() {
        told.push(format!("{}: {NO_SELECTOR}", selector.path()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn old_things_and_doubles() {
        let object = json!({"spec": {
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "volumes": [{"name": "a", "gitRepo": {}}, {"name": "b", "emptyDir": {}}],
            "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {"name": ""}],
            "containers": [
                {"name": "c", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}],
                    "resources": {"limits": {"memory": "100m"}},
                    "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}]},
                {"name": "d", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}]}]}});
        let expected = [
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
            "spec.imagePullSecrets[1].name: duplicate name \"a\"",
            "spec.imagePullSecrets[2].name: invalid empty name \"\"",
            "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
            "spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply",
            "spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]",
            "spec.containers[1].ports[0]: duplicate port name \"http\" with spec.containers[0].ports[0], services and probes \
             that select ports by name will use spec.containers[0].ports[0]",
        ];
        assert_eq!(pod(&At::root(&object)), expected);
    }
}
