//! Rules of volumes, and of where containers mount them.

use super::env;
use crate::field::FieldError;
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::validation::resources::quantity;
use crate::validation::{At, Errors, selector, text};
use std::collections::{BTreeMap, BTreeSet};

/// The sources a volume may have, in upstream's order, with the fields that each cannot do without.
const SOURCES: &[(&str, &[&str])] = &[
    ("emptyDir", &[]),
    ("hostPath", &["path"]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("flocker", &[]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("quobyte", &["volume"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("projected", &[]),
    ("csi", &["driver"]),
    ("ephemeral", &["volumeClaimTemplate"]),
    ("image", &[]),
];
const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// The valid volumes of a pod by name, each with the name of its source.
pub(super) struct Volumes<'a>(BTreeMap<&'a str, &'static str>);

impl<'a> Volumes<'a> {
    /// Checks the volumes of a pod spec. `pod_name` is empty in a template.
    pub(super) fn validate(errors: &mut Errors, list: &At<'a, '_>, pod_name: &str, is_pod: bool) -> Self {
        let values: Vec<At<'a, '_>> = list.items().collect();
        let made: BTreeSet<String> = values
            .iter()
            .filter(|v| !pod_name.is_empty() && v.get("ephemeral").present())
            .map(|v| format!("{pod_name}-{}", v.get("name").text()))
            .collect();
        let mut volumes = BTreeMap::new();
        for volume in &values {
            let before = errors.len();
            let kind = source(errors, volume, is_pod);
            let name = volume.get("name");
            errors.required_text(&name, |name| dns1123_label(name, false));
            if volumes.contains_key(name.text()) {
                errors.duplicate(&name);
            }
            if let Some(kind) = kind.filter(|_| errors.len() == before) {
                volumes.insert(name_of(volume), kind);
            }
            let claim = volume.get("persistentVolumeClaim");
            let claim = claim.get("claimName");
            if made.contains(claim.text()) {
                errors.invalid(&claim, "must not reference a PVC that gets created for an ephemeral volume");
            }
        }
        Volumes(volumes)
    }

    /// The name of a volume's source: `emptyDir`.
    pub(super) fn source_kind(&self, name: &str) -> Option<&'static str> {
        self.0.get(name).copied()
    }

    /// `volumeMounts` of a container.
    pub(super) fn mounts(&self, errors: &mut Errors, container: &At<'_, '_>) {
        let devices = container.get("volumeDevices");
        let privileged = container.get("securityContext").get("privileged").is_true();
        let list = container.get("volumeMounts");
        let mut paths = BTreeSet::new();
        for mount in list.items() {
            let (name, path) = (mount.get("name"), mount.get("mountPath"));
            if name.text().is_empty() {
                errors.required(&name, "");
            }
            if self.source_kind(name.text()).is_none() {
                errors.not_found(&name);
            }
            if path.text().is_empty() {
                errors.required(&path, "");
            }
            if !paths.insert(path.text()) {
                errors.invalid(&path, "must be unique");
            }
            for device in devices.items() {
                if device.get("name").text() == name.text() {
                    errors.invalid(&name, "must not already exist in volumeDevices");
                }
                if device.get("devicePath").text() == path.text() {
                    errors.invalid(&path, "must not already exist as a path in volumeDevices");
                }
            }
            let (sub, expression) = (mount.get("subPath"), mount.get("subPathExpr"));
            // Upstream reports these below the list, without the index.
            for (at, field) in [(&sub, "subPath"), (&expression, "subPathExpr")] {
                if !at.text().is_empty() {
                    errors.text(&list.get(field).with_value(at.value()), text::descending_path(at.text()));
                }
            }
            if !sub.text().is_empty() && !expression.text().is_empty() {
                errors.invalid(&expression, "subPathExpr and subPath are mutually exclusive");
            }
            propagation(errors, &list, &mount, privileged);
        }
    }

    /// `volumeDevices` of a container.
    pub(super) fn devices(&self, errors: &mut Errors, container: &At<'_, '_>) {
        let mounts = container.get("volumeMounts");
        let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
        for device in container.get("volumeDevices").items() {
            let (name, path) = (device.get("name"), device.get("devicePath"));
            if name.text().is_empty() {
                errors.required(&name, "");
            }
            if !names.insert(name.text()) {
                errors.invalid(&name, "must be unique");
            }
            match self.source_kind(name.text()) {
                None => errors.not_found(&name),
                Some("persistentVolumeClaim" | "ephemeral") => {}
                Some(_) => errors.invalid(
                    &name,
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                ),
            }
            if path.text().is_empty() {
                errors.required(&path, "");
            }
            if !text::no_backsteps(path.text()).is_empty() {
                errors.invalid(&path, "can not contain backsteps ('..')");
            } else if !paths.insert(path.text()) {
                errors.invalid(&path, "must be unique");
            }
            for mount in mounts.items() {
                if mount.get("name").text() == name.text() {
                    errors.invalid(&name, "must not already exist in volumeMounts");
                }
                if mount.get("mountPath").text() == path.text() {
                    errors.invalid(&path, "must not already exist as a path in volumeMounts");
                }
            }
        }
    }
}

/// Reads the name with the lifetime of the tree, not of the place.
fn name_of<'a>(volume: &At<'a, '_>) -> &'a str {
    volume.value().and_then(|v| v.get("name")).and_then(|v| v.as_str()).unwrap_or_default()
}

fn propagation(errors: &mut Errors, list: &At<'_, '_>, mount: &At<'_, '_>, privileged: bool) {
    let given = mount.get("mountPropagation");
    if given.present() {
        let at = list.get("mountPropagation");
        let at = at.with_value(given.value());
        errors.optional_one_of(&at, &["Bidirectional", "HostToContainer", "None"]);
        if given.text() == "Bidirectional" && !privileged {
            errors
                .forbidden(&at, "Bidirectional mount propagation is available only to privileged containers");
        }
    }
    let recursive = mount.get("recursiveReadOnly");
    let at = list.get("recursiveReadOnly");
    let at = at.with_value(recursive.value());
    errors.optional_one_of(&at, &["Disabled", "Enabled", "IfPossible"]);
    if matches!(recursive.text(), "Enabled" | "IfPossible") {
        if !mount.get("readOnly").is_true() {
            errors.forbidden(&at, "may only be specified when readOnly is true");
        }
        if !matches!(given.text(), "" | "None") {
            errors.forbidden(&at, "may only be specified when mountPropagation is None or not specified");
        }
    }
}

/// The one source of a volume; its name where there is one.
fn source(errors: &mut Errors, volume: &At<'_, '_>, is_pod: bool) -> Option<&'static str> {
    let mut found = None;
    for &(kind, needed) in SOURCES {
        let at = volume.get(kind);
        if !at.present() {
            continue;
        }
        if found.is_some() {
            // Upstream writes one field with capital letters here.
            let shown = if kind == "cephfs" { volume.get("cephFS") } else { at };
            errors.forbidden(&shown, "may not specify more than 1 volume type");
            continue;
        }
        found = Some(kind);
        for field in needed {
            let at = at.get(field);
            if at.is_empty() && !(at.present() && *field == "volumeClaimTemplate") {
                errors.required(&at, "");
            }
        }
        details(errors, &at, kind, is_pod);
    }
    if found.is_none() {
        errors.required(volume, "must specify a volume type");
    }
    found
}

fn details(errors: &mut Errors, at: &At<'_, '_>, kind: &str, is_pod: bool) {
    match kind {
        "emptyDir" => {
            let limit = at.get("sizeLimit");
            if quantity(limit.value()).is_some_and(|limit| limit.sign() < 0) {
                errors.forbidden(&limit, "SizeLimit field must be a valid resource quantity");
            }
        }
        "hostPath" => {
            let path = at.get("path");
            errors.optional_text(&path, text::no_backsteps);
            errors.optional_one_of(&at.get("type"), HOST_PATH_TYPES);
        }
        "secret" | "configMap" => {
            mode(errors, &at.get("defaultMode"));
            for item in at.get("items").items() {
                key_to_path(errors, &item);
            }
        }
        "nfs" => {
            let path = at.get("path");
            if !path.text().starts_with('/') {
                errors.push(FieldError::invalid(path.path(), path.text().into(), "must be an absolute path"));
            }
        }
        "downwardAPI" => {
            mode(errors, &at.get("defaultMode"));
            for file in at.get("items").items() {
                downward_file(errors, at, &file);
            }
        }
        "projected" => projected(errors, at),
        "csi" => {
            let secret = at.get("nodePublishSecretRef");
            if secret.present() {
                errors.required_text(&secret.get("name"), |name| dns1123_subdomain(name, false));
            }
        }
        "ephemeral" => {
            let template = at.get("volumeClaimTemplate");
            if template.present() {
                crate::kinds::volume::check_claim_spec(errors, &template.get("spec"));
            }
        }
        "image" => {
            let reference = at.get("reference");
            if is_pod && reference.text().is_empty() {
                errors.required(&reference, "");
            }
            errors.one_of(&at.get("pullPolicy"), &["Always", "IfNotPresent", "Never"]);
        }
        kind => crate::kinds::volume::source_details(errors, at, kind),
    }
}

fn mode(errors: &mut Errors, at: &At<'_, '_>) {
    if at.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        errors.invalid(at, MODE);
    }
}

fn key_to_path(errors: &mut Errors, at: &At<'_, '_>) {
    let key = at.get("key");
    if key.text().is_empty() {
        errors.required(&key, "");
    }
    file_path(errors, &at.get("path"));
    mode(errors, &at.get("mode"));
}

fn file_path(errors: &mut Errors, path: &At<'_, '_>) {
    if path.text().is_empty() {
        errors.required(path, "");
    }
    errors.text(path, text::local_path(path.text()));
}

/// A file of a downward API volume. Upstream reports its fields at the volume, without an index.
fn downward_file(errors: &mut Errors, volume: &At<'_, '_>, file: &At<'_, '_>) {
    let (path, field, resource) = (file.get("path"), file.get("fieldRef"), file.get("resourceFieldRef"));
    file_path(errors, &volume.get("path").with_value(path.value()));
    mode(errors, &volume.get("mode").with_value(file.get("mode").value()));
    if field.present() {
        env::field_ref(errors, &volume.get("fieldRef").with_value(field.value()), env::FILE_FIELDS);
        if resource.present() {
            errors.push(FieldError::invalid(
                volume.path(),
                "resource".into(),
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ));
        }
    } else if resource.present() {
        env::resource_field_ref(errors, &volume.get("resourceFieldRef").with_value(resource.value()), true);
    } else {
        errors.required(volume, "one of fieldRef and resourceFieldRef is required");
    }
}

fn projected(errors: &mut Errors, at: &At<'_, '_>) {
    mode(errors, &at.get("defaultMode"));
    let mut paths = BTreeSet::new();
    let mut unique = |errors: &mut Errors, path: &str, shown: &str| {
        if !path.is_empty() && !paths.insert(path.to_owned()) {
            errors.push(FieldError::invalid(at.path(), shown.into(), "conflicting duplicate paths"));
        }
    };
    for source in at.get("sources").items() {
        let kinds = [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ];
        if kinds.iter().filter(|kind| source.get(kind).present()).count() > 1 {
            errors.forbidden(&source, "may not specify more than 1 volume type per source");
        }
        for kind in ["secret", "configMap"] {
            let from = source.get(kind);
            if !from.present() {
                continue;
            }
            let name = from.get("name");
            if name.text().is_empty() {
                errors.required(&name, "");
            }
            for item in from.get("items").items() {
                key_to_path(errors, &item);
                unique(errors, item.get("path").text(), name.text());
            }
        }
        let downward = source.get("downwardAPI");
        for file in downward.get("items").items() {
            downward_file(errors, &downward, &file);
            unique(errors, file.get("path").text(), file.get("path").text());
        }
        let token = source.get("serviceAccountToken");
        if token.present() {
            let seconds = token.get("expirationSeconds");
            if seconds.int().is_none_or(|s| s < 600) {
                errors.invalid(&seconds, "may not specify a duration less than 10 minutes");
            }
            if seconds.int().is_some_and(|s| s > 1 << 32) {
                errors.invalid(&seconds, "may not specify a duration larger than 2^32 seconds");
            }
            // Upstream reports the path at the volume.
            file_path(errors, &at.get("path").with_value(token.get("path").value()));
        }
        let bundle = source.get("clusterTrustBundle");
        if bundle.present() {
            trust_bundle(errors, &bundle);
            unique(errors, bundle.get("path").text(), bundle.get("path").text());
        }
        let certificate = source.get("podCertificate");
        if certificate.present() {
            let files = ["credentialBundlePath", "keyPath", "certificateChainPath"];
            if files.iter().all(|file| certificate.get(file).text().is_empty()) {
                errors.required(
                    &certificate,
                    "specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
                );
            }
            for file in files {
                let path = certificate.get(file);
                errors.optional_text(&path, text::local_path);
                unique(errors, path.text(), path.text());
            }
        }
    }
}

fn trust_bundle(errors: &mut Errors, at: &At<'_, '_>) {
    let (name, signer, labels) = (at.get("name"), at.get("signerName"), at.get("labelSelector"));
    match (name.present(), signer.present()) {
        (true, true) => errors.invalid(at, "only one of name and signerName may be used"),
        (true, false) => {
            if name.text().is_empty() {
                errors.required(&name, "must be a valid object name");
            }
            if labels.present() {
                errors.invalid(&labels, "labelSelector must be unset if name is specified");
            }
        }
        (false, true) => {
            if signer.text().is_empty() {
                errors.required(&signer, "must be a valid signer name");
            }
            selector::validate(errors, &labels);
        }
        (false, false) => errors.required(at, "either name or signerName must be specified"),
    }
    file_path(errors, &at.get("path"));
}
