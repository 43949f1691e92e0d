//! The kinds whose schemas go in: all that k8s-openapi has of Kubernetes 1.36.

use k8s_openapi::schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

macro_rules! kinds {
    ($generator:ident, $lists:ident; $($module:path: [$($listed:ident),*] [$($single:ident),*];)*) => {$({
        use $module as module;
        $(
            $generator.subschema_for::<module::$listed>();
            $lists.push(module::$listed::schema_name().into_owned());
        )*
        $($generator.subschema_for::<module::$single>();)*
    })*};
}

/// All types that these kinds reach, by name.
pub(crate) fn definitions() -> Map<String, Value> {
    let mut generator = SchemaGenerator::default();
    let mut lists = Vec::new();
    kinds! { generator, lists;
        k8s_openapi::api::admissionregistration::v1: [MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration] [];
        k8s_openapi::api::admissionregistration::v1alpha1: [MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding] [];
        k8s_openapi::api::admissionregistration::v1beta1: [MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding] [];
        k8s_openapi::api::apiserverinternal::v1alpha1: [StorageVersion] [];
        k8s_openapi::api::apps::v1: [ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet] [];
        k8s_openapi::api::authentication::v1: [] [SelfSubjectReview, TokenRequest, TokenReview];
        k8s_openapi::api::authorization::v1: [] [LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview];
        k8s_openapi::api::autoscaling::v1: [HorizontalPodAutoscaler] [Scale];
        k8s_openapi::api::autoscaling::v2: [HorizontalPodAutoscaler] [];
        k8s_openapi::api::batch::v1: [CronJob, Job] [];
        k8s_openapi::api::certificates::v1: [CertificateSigningRequest] [];
        k8s_openapi::api::certificates::v1alpha1: [ClusterTrustBundle] [];
        k8s_openapi::api::certificates::v1beta1: [ClusterTrustBundle, PodCertificateRequest] [];
        k8s_openapi::api::coordination::v1: [Lease] [];
        k8s_openapi::api::coordination::v1alpha2: [LeaseCandidate] [];
        k8s_openapi::api::coordination::v1beta1: [LeaseCandidate] [];
        k8s_openapi::api::core::v1: [ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service, ServiceAccount] [Binding];
        k8s_openapi::api::discovery::v1: [EndpointSlice] [];
        k8s_openapi::api::events::v1: [Event] [];
        k8s_openapi::api::flowcontrol::v1: [FlowSchema, PriorityLevelConfiguration] [];
        k8s_openapi::api::networking::v1: [IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR] [];
        k8s_openapi::api::networking::v1beta1: [IPAddress, ServiceCIDR] [];
        k8s_openapi::api::node::v1: [RuntimeClass] [];
        k8s_openapi::api::policy::v1: [PodDisruptionBudget] [Eviction];
        k8s_openapi::api::rbac::v1: [ClusterRole, ClusterRoleBinding, Role, RoleBinding] [];
        k8s_openapi::api::resource::v1: [DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice] [];
        k8s_openapi::api::resource::v1alpha3: [DeviceTaintRule, ResourcePoolStatusRequest] [];
        k8s_openapi::api::resource::v1beta1: [DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice] [];
        k8s_openapi::api::resource::v1beta2: [DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice] [];
        k8s_openapi::api::scheduling::v1: [PriorityClass] [];
        k8s_openapi::api::scheduling::v1alpha2: [PodGroup, Workload] [];
        k8s_openapi::api::storage::v1: [CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass] [];
        k8s_openapi::api::storage::v1beta1: [VolumeAttributesClass] [];
        k8s_openapi::api::storagemigration::v1beta1: [StorageVersionMigration] [];
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1: [CustomResourceDefinition] [];
        k8s_openapi::apimachinery::pkg::apis::meta::v1: [] [DeleteOptions, Patch, Status, APIGroup, APIGroupList, APIResourceList, APIVersions];
        k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1: [APIService] [];
    }
    let mut definitions = generator.take_definitions(false);
    for name in lists {
        let kind = name.rsplit('.').next().unwrap_or_default();
        definitions.insert(format!("{name}List"), list(&name, kind));
    }
    definitions
}

/// The list of a kind, which k8s-openapi has as a generic type without a schema.
fn list(name: &str, kind: &str) -> Value {
    json!({
        "type": "object",
        "description": format!("{kind}List is a list of {kind}."),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "APIVersion defines the versioned schema of this representation of an object."},
            "items": {"type": "array", "items": {"$ref": format!("#/$defs/{name}")}, "description": format!("List of {kind}.")},
            "kind": {"type": "string", "description": "Kind is a string value representing the REST resource this object represents."},
            "metadata": {
                "$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
                "description": "Standard list metadata.",
            },
        },
    })
}
