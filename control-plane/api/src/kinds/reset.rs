//! What a write through a subresource leaves as it was, whatever is sent: such fields are nobody's for having been sent
//! (`GetResetFields` of upstream's strategies).

use crate::resource::Resource;

/// Exceptions: group, kind, subresource (empty: the main resource) and the fields.
const RESET: &[(&str, &str, &str, &[&str])] = &[
    ("", "Pod", "status", &["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"]),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", "status", &["spec", "metadata"]),
    ("apiregistration.k8s.io", "APIService", "status", &["spec", "metadata"]),
    ("apps", "Deployment", "status", &["spec", "metadata.labels"]),
    ("certificates.k8s.io", "CertificateSigningRequest", "", &["spec", "status"]),
    ("certificates.k8s.io", "CertificateSigningRequest", "approval", &["spec", "status.certificate"]),
    ("certificates.k8s.io", "CertificateSigningRequest", "status", &["spec", "status.conditions"]),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema", "status", &["spec", "metadata"]),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", "status", &["spec", "metadata"]),
    ("networking.k8s.io", "ServiceCIDR", "status", &["spec", "metadata"]),
    ("resource.k8s.io", "ResourceClaim", "status", &["spec", "metadata"]),
    ("storage.k8s.io", "VolumeAttachment", "status", &["spec", "metadata"]),
];

/// The paths that a write to a resource or to a subresource of it leaves as they were: nearly everywhere `status` for the
/// one, `spec` for the other.
pub fn reset_fields(row: &Resource, subresource: &str) -> &'static [&'static str] {
    let own = RESET.iter().find(|(group, kind, below, _)| {
        *group == row.gvk.group && *kind == row.gvk.kind && *below == subresource
    });
    match (own, subresource) {
        (Some(row), _) => row.3,
        (None, "") if row.has_status() => &["status"],
        (None, "status") => &["spec"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::ResourceTable;

    #[test]
    fn exceptions_are_of_kinds_that_there_are() {
        let table = ResourceTable::builtin();
        let kinds: Vec<&Resource> = table.rows().map(|row| &**row).collect();
        for (group, kind, below, _) in RESET {
            let row = kinds.iter().find(|row| row.gvk.group == *group && row.gvk.kind == *kind);
            // Some come with their controllers.
            if let Some(row) = row {
                assert!(below.is_empty() || row.subresource(below).is_some(), "{kind} {below}");
            }
        }
        let of = |group: &str, plural: &str, below: &str| {
            reset_fields(table.get(group, "v1", plural).unwrap(), below)
        };
        assert_eq!(of("", "configmaps", ""), [""; 0]);
        assert_eq!(of("", "services", ""), ["status"]);
        assert_eq!(of("", "services", "status"), ["spec"]);
        assert_eq!(of("apps", "deployments", "status"), ["spec", "metadata.labels"]);
        assert_eq!(of("apps", "deployments", "scale"), [""; 0]);
    }
}
