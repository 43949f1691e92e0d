//! What a pod as a whole asks for, and may use at most (`k8s.io/component-helpers/resource`).

use crate::quantity::Quantity;
use crate::validation::At;
use crate::validation::resources::quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// Amounts of resources by name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Requests or limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What is asked for.
    Requests,
    /// What may be used at most.
    Limits,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Requests => "requests",
            Part::Limits => "limits",
        }
    }
}

/// Resources that may be given for a pod as a whole; they then stand for those of its containers. So may pages of memory.
pub(super) fn of_pod(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// A map of amounts.
pub fn amounts(map: Option<&Value>) -> Amounts {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), quantity(Some(value))?))).collect()
}

/// Adds amounts to amounts.
pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(*amount, |there| there.add(amount));
        to.insert(name.clone(), sum);
    }
}

/// Makes each amount at least that of `more`.
pub fn raise(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        if to.get(name).is_none_or(|there| there < amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

/// The containers of a pod together, or more where one that runs before them needs more; then what the pod is given as a whole.
/// `of` says what one container asks for.
fn fold<'v>(spec: &At<'v, '_>, part: Part, of: impl Fn(&At<'v, '_>) -> Amounts) -> Amounts {
    let mut sum = Amounts::new();
    for container in spec.get("containers").items() {
        add(&mut sum, &of(&container));
    }
    // Those that stay (sidecars) run beside whatever is started after them.
    let (mut stay, mut before) = (Amounts::new(), Amounts::new());
    for container in spec.get("initContainers").items() {
        let own = of(&container);
        if container.get("restartPolicy").text() == "Always" {
            add(&mut sum, &own);
            add(&mut stay, &own);
            raise(&mut before, &stay);
        } else {
            let mut together = own;
            add(&mut together, &stay);
            raise(&mut before, &together);
        }
    }
    raise(&mut sum, &before);
    let whole = amounts(spec.get("resources").get(part.name()).value());
    sum.extend(whole.into_iter().filter(|(name, _)| of_pod(name)));
    sum
}

fn own(container: &At<'_, '_>, part: Part) -> Amounts {
    amounts(container.get("resources").get(part.name()).value())
}

/// What the pod's spec asks for, without what its runtime adds.
pub fn asked(pod: &Value, part: Part) -> Amounts {
    fold(&At::root(pod).get("spec"), part, |container| own(container, part))
}

/// What the pod needs: at least what its containers still have while they are being resized, and what its runtime adds.
pub fn effective(pod: &Value, part: Part) -> Amounts {
    let root = At::root(pod);
    let (spec, status) = (root.get("spec"), root.get("status"));
    let lists = [status.get("containerStatuses"), status.get("initContainerStatuses")];
    let mut sum = fold(&spec, part, |container| {
        let mut amounts = own(container, part);
        let name = container.get("name").text();
        for told in lists.iter().flat_map(|list| list.items()).filter(|told| told.get("name").text() == name)
        {
            raise(&mut amounts, &own(&told, part));
            if part == Part::Requests {
                raise(&mut amounts, &self::amounts(told.get("allocatedResources").value()));
            }
        }
        amounts
    });
    for (name, more) in amounts(spec.get("overhead").value()) {
        let there = sum.get(&name).copied();
        match part {
            Part::Requests => sum.insert(name, there.map_or(more, |there| there.add(&more))),
            // What is not limited does not become so by what is added.
            Part::Limits => there.and_then(|there| sum.insert(name, there.add(&more))),
        };
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(amounts: &Amounts) -> String {
        amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
    }

    fn container(name: &str, cpu: &str) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}})
    }

    #[test]
    fn those_that_run_before_count_by_the_largest_and_sidecars_with_all() {
        let mut sidecar = container("s", "200m");
        sidecar["restartPolicy"] = "Always".into();
        let pod = json!({"spec": {
            "containers": [container("a", "100m"), container("b", "300m")],
            "initContainers": [container("i", "250m"), sidecar, container("j", "1")],
        }});
        assert_eq!(shown(&asked(&pod, Part::Requests)), "cpu=1200m");
        let small = json!({"spec": {"containers": [container("a", "100m")], "initContainers": [container("i", "50m")]}});
        assert_eq!(shown(&asked(&small, Part::Limits)), "cpu=100m");
    }

    #[test]
    fn what_the_pod_is_given_as_a_whole_stands_for_its_containers() {
        let pod = json!({"spec": {"containers": [container("a", "100m")], "overhead": {"cpu": "10m", "memory": "1Mi"},
            "resources": {"requests": {"cpu": "2", "example.com/gpu": "1"}}}});
        assert_eq!(shown(&effective(&pod, Part::Requests)), "cpu=2010m,memory=1Mi");
        assert_eq!(shown(&effective(&pod, Part::Limits)), "cpu=110m");
    }

    #[test]
    fn a_container_that_is_being_made_smaller_still_has_what_it_had() {
        let pod = json!({"spec": {"containers": [container("a", "100m")]},
            "status": {"containerStatuses": [{"name": "a", "resources": {"requests": {"cpu": "400m"}}}]}});
        assert_eq!(shown(&effective(&pod, Part::Requests)), "cpu=400m");
        assert_eq!(shown(&asked(&pod, Part::Requests)), "cpu=100m");
    }
}
