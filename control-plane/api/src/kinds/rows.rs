//! The kinds that are built in, one row each. What follows from a row (singular name, schema name) is computed.

use crate::resource::{GroupVersionKind, Resource, SchemaRef, Scope, Stored, Strategy, Subresource};
use std::sync::Arc;

/// What can be done with objects that are stored.
const STORED: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// As [`STORED`], but a collection cannot be deleted (Namespaces: each is emptied first).
const STORED_ONE_BY_ONE: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
/// What can be done with objects that are made up when somebody asks.
const SHOWN: &[&str] = &["get", "list"];
/// What can be done with questions that are answered and not stored.
const ASKED: &[&str] = &["create"];

const CHANGE: &[&str] = &["get", "patch", "update"];
const CONNECT: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

/// A path below an object: name, kind of its body (`group/version.Kind`; empty: the object's own), verbs.
type Below = (&'static str, &'static str, &'static [&'static str]);

const STATUS: Below = ("status", "", CHANGE);
const SCALE: Below = ("scale", "autoscaling/v1.Scale", CHANGE);

struct Row {
    /// `group/version.Kind`, the core group without the slash.
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    categories: &'static [&'static str],
    scope: Scope,
    verbs: &'static [&'static str],
    below: &'static [Below],
    selectable: &'static [&'static str],
    strategy: fn() -> Arc<dyn Strategy>,
    /// Where the objects lie, if not here and in this form.
    stored: Option<fn() -> Stored>,
    /// What whoever uses it is warned of; mostly nothing.
    warning: &'static str,
}

/// A kind that is stored and has nothing below it.
const fn row(
    kind: &'static str,
    plural: &'static str,
    scope: Scope,
    strategy: fn() -> Arc<dyn Strategy>,
) -> Row {
    Row {
        kind,
        plural,
        short: &[],
        categories: &[],
        scope,
        verbs: STORED,
        below: &[],
        selectable: &[],
        strategy,
        stored: None,
        warning: "",
    }
}

const fn asked(
    kind: &'static str,
    plural: &'static str,
    scope: Scope,
    strategy: fn() -> Arc<dyn Strategy>,
) -> Row {
    Row { verbs: ASKED, ..row(kind, plural, scope, strategy) }
}

fn of<S: Strategy + Default>() -> Arc<dyn Strategy> {
    Arc::new(<S as Default>::default())
}

use Scope::{Cluster, Namespaced};

const ROWS: &[Row] = &[
    Row { verbs: ASKED, ..row("v1.Binding", "bindings", Namespaced, of::<super::small::Binding>) },
    Row {
        short: &["cs"],
        verbs: SHOWN,
        warning: "v1 ComponentStatus is deprecated in v1.19+",
        ..row("v1.ComponentStatus", "componentstatuses", Cluster, of::<super::component::ComponentStatus>)
    },
    Row { short: &["cm"], ..row("v1.ConfigMap", "configmaps", Namespaced, of::<super::data::ConfigMap>) },
    Row {
        short: &["ep"],
        warning: "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
        ..row("v1.Endpoints", "endpoints", Namespaced, of::<super::endpoints::Endpoints>)
    },
    Row {
        short: &["ev"],
        selectable: &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ..row("v1.Event", "events", Namespaced, of::<super::small::Event>)
    },
    Row {
        short: &["ev"],
        selectable: &[
            "reason",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reportingController",
            "type",
        ],
        stored: Some(super::event::stored),
        ..row("events.k8s.io/v1.Event", "events", Namespaced, of::<super::event::Event>)
    },
    Row {
        short: &["hpa"],
        categories: &["all"],
        below: &[STATUS],
        stored: Some(super::autoscaler::stored),
        ..row(
            "autoscaling/v1.HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            Namespaced,
            of::<super::autoscaler::AutoscalerV1>,
        )
    },
    Row {
        short: &["hpa"],
        categories: &["all"],
        below: &[STATUS],
        ..row(
            "autoscaling/v2.HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            Namespaced,
            of::<super::autoscaler::Autoscaler>,
        )
    },
    Row {
        short: &["limits"],
        ..row("v1.LimitRange", "limitranges", Namespaced, of::<super::limits::LimitRange>)
    },
    Row {
        short: &["ns"],
        verbs: STORED_ONE_BY_ONE,
        below: &[STATUS, ("finalize", "", &["update"])],
        selectable: &["status.phase"],
        ..row("v1.Namespace", "namespaces", Cluster, of::<super::namespace::Namespace>)
    },
    Row {
        short: &["no"],
        below: &[STATUS, ("proxy", "v1.NodeProxyOptions", PROXY)],
        selectable: &["spec.unschedulable"],
        ..row("v1.Node", "nodes", Cluster, of::<super::node::Node>)
    },
    Row {
        short: &["pv"],
        below: &[STATUS],
        ..row("v1.PersistentVolume", "persistentvolumes", Cluster, of::<super::volume::PersistentVolume>)
    },
    Row {
        short: &["pvc"],
        below: &[STATUS],
        ..row(
            "v1.PersistentVolumeClaim",
            "persistentvolumeclaims",
            Namespaced,
            of::<super::volume::PersistentVolumeClaim>,
        )
    },
    Row {
        short: &["po"],
        categories: &["all"],
        below: &[
            STATUS,
            ("attach", "v1.PodAttachOptions", CONNECT),
            ("binding", "v1.Binding", &["create"]),
            ("ephemeralcontainers", "", CHANGE),
            ("eviction", "policy/v1.Eviction", &["create"]),
            ("exec", "v1.PodExecOptions", CONNECT),
            ("log", "", &["get"]),
            ("portforward", "v1.PodPortForwardOptions", CONNECT),
            ("proxy", "v1.PodProxyOptions", PROXY),
            ("resize", "", CHANGE),
        ],
        selectable: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ..row("v1.Pod", "pods", Namespaced, of::<super::pod::Pod>)
    },
    row("v1.PodTemplate", "podtemplates", Namespaced, of::<super::template::PodTemplate>),
    Row {
        short: &["rc"],
        categories: &["all"],
        below: &[STATUS, SCALE],
        selectable: &["status.replicas"],
        ..row(
            "v1.ReplicationController",
            "replicationcontrollers",
            Namespaced,
            of::<super::template::ReplicationController>,
        )
    },
    Row {
        short: &["quota"],
        below: &[STATUS],
        ..row("v1.ResourceQuota", "resourcequotas", Namespaced, of::<super::quota::ResourceQuota>)
    },
    Row { selectable: &["type"], ..row("v1.Secret", "secrets", Namespaced, of::<super::data::Secret>) },
    Row {
        short: &["sa"],
        below: &[("token", "authentication.k8s.io/v1.TokenRequest", &["create"])],
        ..row("v1.ServiceAccount", "serviceaccounts", Namespaced, of::<super::small::ServiceAccount>)
    },
    Row {
        short: &["svc"],
        categories: &["all"],
        below: &[STATUS, ("proxy", "v1.ServiceProxyOptions", PROXY)],
        selectable: &["spec.clusterIP", "spec.type"],
        ..row("v1.Service", "services", Namespaced, of::<super::service::Service>)
    },
    Row {
        categories: &["api-extensions"],
        ..row(
            "admissionregistration.k8s.io/v1.MutatingAdmissionPolicy",
            "mutatingadmissionpolicies",
            Cluster,
            of::<super::admission::MutatingAdmissionPolicy>,
        )
    },
    Row {
        categories: &["api-extensions"],
        ..row(
            "admissionregistration.k8s.io/v1.MutatingAdmissionPolicyBinding",
            "mutatingadmissionpolicybindings",
            Cluster,
            of::<super::admission::MutatingAdmissionPolicyBinding>,
        )
    },
    Row {
        categories: &["api-extensions"],
        ..row(
            "admissionregistration.k8s.io/v1.MutatingWebhookConfiguration",
            "mutatingwebhookconfigurations",
            Cluster,
            of::<super::admission::MutatingWebhookConfiguration>,
        )
    },
    Row {
        categories: &["api-extensions"],
        below: &[STATUS],
        ..row(
            "admissionregistration.k8s.io/v1.ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            Cluster,
            of::<super::admission::ValidatingAdmissionPolicy>,
        )
    },
    Row {
        categories: &["api-extensions"],
        ..row(
            "admissionregistration.k8s.io/v1.ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            Cluster,
            of::<super::admission::ValidatingAdmissionPolicyBinding>,
        )
    },
    Row {
        categories: &["api-extensions"],
        ..row(
            "admissionregistration.k8s.io/v1.ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
            Cluster,
            of::<super::admission::ValidatingWebhookConfiguration>,
        )
    },
    Row {
        short: &["crd", "crds"],
        categories: &["api-extensions"],
        below: &[STATUS],
        ..row(
            "apiextensions.k8s.io/v1.CustomResourceDefinition",
            "customresourcedefinitions",
            Cluster,
            of::<super::custom::CustomResourceDefinition>,
        )
    },
    Row {
        categories: &["api-extensions"],
        below: &[STATUS],
        ..row(
            "apiregistration.k8s.io/v1.APIService",
            "apiservices",
            Cluster,
            of::<super::apiservice::ApiService>,
        )
    },
    row(
        "apps/v1.ControllerRevision",
        "controllerrevisions",
        Namespaced,
        of::<super::workload::ControllerRevision>,
    ),
    Row {
        short: &["ds"],
        categories: &["all"],
        below: &[STATUS],
        ..row("apps/v1.DaemonSet", "daemonsets", Namespaced, of::<super::workload::DaemonSet>)
    },
    Row {
        short: &["deploy"],
        categories: &["all"],
        below: &[STATUS, SCALE],
        ..row("apps/v1.Deployment", "deployments", Namespaced, of::<super::workload::Deployment>)
    },
    Row {
        short: &["rs"],
        categories: &["all"],
        below: &[STATUS, SCALE],
        selectable: &["status.replicas"],
        ..row("apps/v1.ReplicaSet", "replicasets", Namespaced, of::<super::workload::ReplicaSet>)
    },
    Row {
        short: &["sts"],
        categories: &["all"],
        below: &[STATUS, SCALE],
        ..row("apps/v1.StatefulSet", "statefulsets", Namespaced, of::<super::workload::StatefulSet>)
    },
    Row {
        short: &["cj"],
        categories: &["all"],
        below: &[STATUS],
        ..row("batch/v1.CronJob", "cronjobs", Namespaced, of::<super::batch::CronJob>)
    },
    Row {
        categories: &["all"],
        below: &[STATUS],
        ..row("batch/v1.Job", "jobs", Namespaced, of::<super::batch::Job>)
    },
    Row {
        short: &["csr"],
        below: &[STATUS, ("approval", "", CHANGE)],
        selectable: &["spec.signerName"],
        ..row(
            "certificates.k8s.io/v1.CertificateSigningRequest",
            "certificatesigningrequests",
            Cluster,
            of::<super::certificates::CertificateSigningRequest>,
        )
    },
    row("coordination.k8s.io/v1.Lease", "leases", Namespaced, of::<super::small::Lease>),
    row(
        "discovery.k8s.io/v1.EndpointSlice",
        "endpointslices",
        Namespaced,
        of::<super::endpoints::EndpointSlice>,
    ),
    Row {
        below: &[STATUS],
        ..row(
            "flowcontrol.apiserver.k8s.io/v1.FlowSchema",
            "flowschemas",
            Cluster,
            of::<super::flow::FlowSchema>,
        )
    },
    Row {
        below: &[STATUS],
        ..row(
            "flowcontrol.apiserver.k8s.io/v1.PriorityLevelConfiguration",
            "prioritylevelconfigurations",
            Cluster,
            of::<super::flow::PriorityLevelConfiguration>,
        )
    },
    Row {
        short: &["ip"],
        ..row("networking.k8s.io/v1.IPAddress", "ipaddresses", Cluster, of::<super::addresses::IpAddress>)
    },
    Row {
        short: &["ing"],
        below: &[STATUS],
        ..row("networking.k8s.io/v1.Ingress", "ingresses", Namespaced, of::<super::networking::Ingress>)
    },
    row(
        "networking.k8s.io/v1.IngressClass",
        "ingressclasses",
        Cluster,
        of::<super::networking::IngressClass>,
    ),
    Row {
        short: &["netpol"],
        ..row(
            "networking.k8s.io/v1.NetworkPolicy",
            "networkpolicies",
            Namespaced,
            of::<super::networking::NetworkPolicy>,
        )
    },
    Row {
        below: &[STATUS],
        ..row(
            "networking.k8s.io/v1.ServiceCIDR",
            "servicecidrs",
            Cluster,
            of::<super::addresses::ServiceCidr>,
        )
    },
    row("node.k8s.io/v1.RuntimeClass", "runtimeclasses", Cluster, of::<super::runtime::RuntimeClass>),
    Row {
        short: &["pdb"],
        below: &[STATUS],
        ..row(
            "policy/v1.PodDisruptionBudget",
            "poddisruptionbudgets",
            Namespaced,
            of::<super::policy::PodDisruptionBudget>,
        )
    },
    row("rbac.authorization.k8s.io/v1.ClusterRole", "clusterroles", Cluster, of::<super::rbac::ClusterRole>),
    row(
        "rbac.authorization.k8s.io/v1.ClusterRoleBinding",
        "clusterrolebindings",
        Cluster,
        of::<super::rbac::ClusterRoleBinding>,
    ),
    row("rbac.authorization.k8s.io/v1.Role", "roles", Namespaced, of::<super::rbac::Role>),
    row(
        "rbac.authorization.k8s.io/v1.RoleBinding",
        "rolebindings",
        Namespaced,
        of::<super::rbac::RoleBinding>,
    ),
    row("resource.k8s.io/v1.DeviceClass", "deviceclasses", Cluster, of::<super::device::DeviceClass>),
    Row {
        below: &[STATUS],
        ..row(
            "resource.k8s.io/v1.ResourceClaim",
            "resourceclaims",
            Namespaced,
            of::<super::device::ResourceClaim>,
        )
    },
    row(
        "resource.k8s.io/v1.ResourceClaimTemplate",
        "resourceclaimtemplates",
        Namespaced,
        of::<super::device::ResourceClaimTemplate>,
    ),
    Row {
        selectable: &["spec.driver", "spec.nodeName"],
        ..row(
            "resource.k8s.io/v1.ResourceSlice",
            "resourceslices",
            Cluster,
            of::<super::device::ResourceSlice>,
        )
    },
    Row {
        short: &["pc"],
        ..row(
            "scheduling.k8s.io/v1.PriorityClass",
            "priorityclasses",
            Cluster,
            of::<super::small::PriorityClass>,
        )
    },
    row("storage.k8s.io/v1.CSIDriver", "csidrivers", Cluster, of::<super::storage::CsiDriver>),
    row("storage.k8s.io/v1.CSINode", "csinodes", Cluster, of::<super::storage::CsiNode>),
    row(
        "storage.k8s.io/v1.CSIStorageCapacity",
        "csistoragecapacities",
        Namespaced,
        of::<super::storage::CsiStorageCapacity>,
    ),
    Row {
        short: &["sc"],
        ..row("storage.k8s.io/v1.StorageClass", "storageclasses", Cluster, of::<super::storage::StorageClass>)
    },
    Row {
        below: &[STATUS],
        ..row(
            "storage.k8s.io/v1.VolumeAttachment",
            "volumeattachments",
            Cluster,
            of::<super::storage::VolumeAttachment>,
        )
    },
    Row {
        short: &["vac"],
        ..row(
            "storage.k8s.io/v1.VolumeAttributesClass",
            "volumeattributesclasses",
            Cluster,
            of::<super::storage::VolumeAttributesClass>,
        )
    },
    asked("authentication.k8s.io/v1.SelfSubjectReview", "selfsubjectreviews", Cluster, of::<super::Plain>),
    asked("authentication.k8s.io/v1.TokenReview", "tokenreviews", Cluster, of::<super::Plain>),
    asked(
        "authorization.k8s.io/v1.LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        Namespaced,
        of::<super::review::LocalSubjectAccess>,
    ),
    asked(
        "authorization.k8s.io/v1.SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        Cluster,
        of::<super::review::SelfSubjectAccess>,
    ),
    asked(
        "authorization.k8s.io/v1.SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        Cluster,
        of::<super::Plain>,
    ),
    asked(
        "authorization.k8s.io/v1.SubjectAccessReview",
        "subjectaccessreviews",
        Cluster,
        of::<super::review::SubjectAccess>,
    ),
];

/// The rows of the kinds that are built in.
pub fn builtin() -> Vec<Resource> {
    ROWS.iter().map(Row::resource).collect()
}

/// Splits `group/version.Kind`, where the group may be absent.
fn gvk(text: &'static str) -> GroupVersionKind {
    let (group, rest) = text.split_once('/').unwrap_or(("", text));
    let (version, kind) = rest.split_once('.').unwrap_or(("", rest));
    GroupVersionKind::new(group, version, kind)
}

/// Name of the definition in Kubernetes' schema: packages carry the first word of the group.
fn schema_name(gvk: &GroupVersionKind) -> String {
    let package = match gvk.group.split('.').next() {
        None | Some("") => "api.core",
        Some("apiextensions") => "apiextensions-apiserver.pkg.apis.apiextensions",
        Some("apiregistration") => "kube-aggregator.pkg.apis.apiregistration",
        Some(word) => return format!("io.k8s.api.{word}.{}.{}", gvk.version, gvk.kind),
    };
    format!("io.k8s.{package}.{}.{}", gvk.version, gvk.kind)
}

impl Row {
    fn resource(&self) -> Resource {
        let own = gvk(self.kind);
        let below = |&(name, kind, verbs): &Below| Subresource {
            name: name.into(),
            kind: if kind.is_empty() { own.clone() } else { gvk(kind) },
            verbs,
        };
        let texts = |list: &'static [&'static str]| list.iter().map(|&text| text.into()).collect();
        Resource {
            plural: self.plural.into(),
            singular: own.kind.to_lowercase().into(),
            short_names: texts(self.short),
            categories: texts(self.categories),
            scope: self.scope,
            subresources: self.below.iter().map(below).collect(),
            verbs: self.verbs,
            selectable_fields: texts(self.selectable),
            schema: SchemaRef::BuiltIn(schema_name(&own).into()),
            stored: self.stored.map(|stored| stored()),
            custom: None,
            warnings: Some(self.warning)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
                .into_iter()
                .collect(),
            strategy: (self.strategy)(),
            gvk: own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_row_says_all_that_discovery_needs() {
        let rows = builtin();
        let find = |plural: &str| rows.iter().find(|r| r.plural == plural).unwrap();
        let pods = find("pods");
        assert_eq!(pods.singular, "pod");
        assert_eq!(pods.built_in_schema().unwrap(), "io.k8s.api.core.v1.Pod");
        assert_eq!(pods.subresource("eviction").unwrap().kind.to_string(), "policy/v1, Kind=Eviction");
        assert_eq!(pods.subresource("status").unwrap().kind, pods.gvk);
        assert!(pods.has_status() && pods.namespaced());
        assert_eq!(find("roles").built_in_schema().unwrap(), "io.k8s.api.rbac.v1.Role");
        assert_eq!(find("leases").gvk.api_version(), "coordination.k8s.io/v1");
        assert!(!find("namespaces").verbs.contains(&"deletecollection"));
        assert_eq!(find("tokenreviews").verbs, ["create"]);
    }

    #[test]
    fn names_are_unique_within_a_group() {
        let mut seen = BTreeSet::new();
        for row in builtin() {
            let group = row.gvk.group_version().to_string();
            assert!(row.plural.chars().all(|c| c.is_ascii_lowercase()), "{}", row.plural);
            assert!(!row.gvk.version.is_empty(), "{}", row.plural);
            let names = row.short_names.iter().chain([&row.plural]);
            for name in names {
                assert!(seen.insert((group.clone(), name.to_string())), "{name} stands twice");
            }
        }
    }

    #[test]
    fn every_row_has_a_schema_and_a_full_table() {
        use crate::kinds::testing::{context, now};
        use serde_json::{Value, json};
        let null = json!({"metadata": null, "spec": null, "status": null, "data": null, "subsets": null});
        let bare = json!({"metadata": {"name": "a"}, "spec": {}, "status": {}});
        for row in builtin() {
            assert!(row.schema().is_ok(), "{row:?}");
            let columns = row.strategy.columns();
            assert_eq!(columns.iter().filter(|c| c.format == "name").count(), 1, "{}", row.plural);
            for object in [&json!({}), &null, &bare] {
                let mut new: Value = object.clone();
                row.strategy.default(&mut new);
                row.strategy.prepare_create(&mut new, &context());
                row.strategy.prepare_update(&mut new, object);
                row.strategy.prepare_status_update(&mut new, object);
                row.strategy.prepare_delete(&mut new);
                for subresource in &row.subresources {
                    row.strategy.prepare_subresource_update(&subresource.name, &mut new, object);
                    row.strategy.validate_subresource_update(&subresource.name, &new, object);
                }
                row.strategy.validate(&new);
                row.strategy.validate_create(&new);
                row.strategy.validate_update(&new, object);
                row.strategy.validate_status_update(&new, object);
                row.strategy.graceful_deletion(&new, None);
                assert_eq!(row.strategy.cells(object, now()).len(), columns.len(), "{}", row.plural);
            }
        }
    }
}
