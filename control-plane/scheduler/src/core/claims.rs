//! What a pod's claims ask of a node (`VolumeBinding`).

use super::model::Node;
use serde_json::Value;
use skep_api::kinds::volume::class_of;
use skep_api::kinds::volume::matching::{Place, candidates, reaches, terms};
use skep_api::selector::NodeTerm;

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Classes of this provisioner have the volumes that people made, and no others.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// Terms of which one must match a node; none where every node will do.
type Reach = Option<Vec<NodeTerm>>;

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The pod cannot run anywhere yet; why.
    Blocked(String),
    /// The claim has a volume.
    Bound(Reach),
    /// The claim waits for the pod to have a node. One of these volumes must be reached from there.
    Chosen(Vec<Reach>),
    /// The claim waits for the pod to have a node; a volume is then made for it.
    Made,
}

/// Whether a claim is for one pod alone.
pub fn exclusive(claim: &Value) -> bool {
    let modes = claim.pointer("/spec/accessModes").and_then(Value::as_array);
    modes.into_iter().flatten().any(|mode| mode == "ReadWriteOncePod")
}

/// What the claims of a pod ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs(pub Vec<(String, Need)>);

fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// What one claim asks for. `claim` is none where it is not there, `class` the one it names.
pub fn need(name: &str, claim: Option<&Value>, volumes: &[Value], class: Option<&Value>) -> Need {
    let blocked = |why: String| Need::Blocked(format!("persistentvolumeclaim {name:?} {why}"));
    let Some(claim) = claim else { return blocked("not found".into()) };
    if !text(claim, "/metadata/deletionTimestamp").is_empty() {
        return blocked("is being deleted".into());
    }
    let volume = text(claim, "/spec/volumeName");
    if text(claim, "/status/phase") == "Lost" {
        return blocked(format!("bound to non-existent persistentvolume {volume:?}"));
    }
    let done = claim.pointer("/metadata/annotations").is_some_and(|all| all.get(BIND_COMPLETED).is_some());
    if done && !volume.is_empty() {
        return match volumes.iter().find(|v| text(v, "/metadata/name") == volume) {
            Some(volume) => Need::Bound(terms(volume)),
            None => Need::Blocked(
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)".into(),
            ),
        };
    }
    let waits = |class: &&Value| text(class, "/volumeBindingMode") == "WaitForFirstConsumer";
    // A volume that somebody named is bound at once.
    let class = class.filter(waits).filter(|_| volume.is_empty() && !class_of(claim).is_empty());
    let Some(class) = class else {
        return Need::Blocked("pod has unbound immediate PersistentVolumeClaims".into());
    };
    let made = !matches!(text(class, "/provisioner"), "" | NO_PROVISIONER);
    if made { Need::Made } else { Need::Chosen(candidates(claim, volumes).into_iter().map(terms).collect()) }
}

impl Needs {
    /// Why the pod can run nowhere yet.
    pub fn blocked(&self) -> Option<&str> {
        self.0.iter().find_map(|(_, need)| match need {
            Need::Blocked(why) => Some(why.as_str()),
            _ => None,
        })
    }

    /// Why a node will not do.
    pub fn reason(&self, node: &Node) -> Option<&'static str> {
        let place = Place { name: &node.name, labels: &node.labels };
        self.0.iter().find_map(|(_, need)| match need {
            Need::Bound(reach) if !reaches(reach.as_deref(), place) => {
                Some("node(s) didn't match PersistentVolume's node affinity")
            }
            Need::Chosen(all) if !all.iter().any(|reach| reaches(reach.as_deref(), place)) => {
                Some("node(s) didn't find available persistent volumes to bind")
            }
            _ => None,
        })
    }

    /// The claims that must be told the node, and be bound, before the pod is.
    pub fn waiting(&self) -> Vec<&str> {
        let waits = |need: &Need| matches!(need, Need::Chosen(_) | Need::Made);
        self.0.iter().filter(|(_, need)| waits(need)).map(|(name, _)| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(class: &str) -> Value {
        json!({"metadata": {"name": "c", "namespace": "d"}, "status": {"phase": "Pending"},
            "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}})
    }

    fn volume(zone: &str) -> Value {
        json!({"metadata": {"name": zone}, "status": {"phase": "Available"}, "spec": {
            "storageClassName": "local", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]}}}})
    }

    fn node(zone: &str) -> Node {
        Node { name: zone.into(), labels: [("zone".into(), zone.into())].into(), ..Node::default() }
    }

    fn blocked(need: Need) -> String {
        match need {
            Need::Blocked(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pod_waits_for_claims_that_are_bound_without_it() {
        assert_eq!(blocked(need("c", None, &[], None)), "persistentvolumeclaim \"c\" not found");
        let immediate = json!({"volumeBindingMode": "Immediate", "provisioner": "p"});
        let why = "pod has unbound immediate PersistentVolumeClaims";
        assert_eq!(blocked(need("c", Some(&claim("x")), &[], Some(&immediate))), why);
        assert_eq!(blocked(need("c", Some(&claim("")), &[], None)), why);
        let mut going = claim("x");
        going["metadata"]["deletionTimestamp"] = "2026-05-01T12:00:00Z".into();
        assert_eq!(
            blocked(need("c", Some(&going), &[], None)),
            "persistentvolumeclaim \"c\" is being deleted"
        );
    }

    #[test]
    fn a_bound_volume_must_be_reached() {
        let mut bound = claim("local");
        bound["spec"]["volumeName"] = "a".into();
        bound["metadata"]["annotations"] = json!({BIND_COMPLETED: "yes"});
        let needs = Needs(vec![("c".into(), need("c", Some(&bound), &[volume("a")], None))]);
        assert_eq!((needs.blocked(), needs.reason(&node("a")), needs.waiting()), (None, None, vec![]));
        assert_eq!(needs.reason(&node("b")), Some("node(s) didn't match PersistentVolume's node affinity"));
        assert!(blocked(need("c", Some(&bound), &[], None)).contains("non-existent pv(s)"));
    }

    #[test]
    fn a_claim_that_waits_for_the_pod_needs_a_volume_within_reach_or_somebody_to_make_one() {
        let local = json!({"volumeBindingMode": "WaitForFirstConsumer", "provisioner": NO_PROVISIONER});
        let all = [volume("a"), volume("b")];
        let needs = Needs(vec![("c".into(), need("c", Some(&claim("local")), &all, Some(&local)))]);
        assert_eq!((needs.reason(&node("b")), needs.waiting()), (None, vec!["c"]));
        assert_eq!(
            needs.reason(&node("z")),
            Some("node(s) didn't find available persistent volumes to bind")
        );
        let made = json!({"volumeBindingMode": "WaitForFirstConsumer", "provisioner": "example.com/p"});
        assert_eq!(need("c", Some(&claim("gold")), &[], Some(&made)), Need::Made);
    }
}
