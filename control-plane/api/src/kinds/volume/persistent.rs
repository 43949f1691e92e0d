//! PersistentVolumes.

use super::{access_modes, class_names, class_of, modes_text, or_unset, phase};
use crate::field::FieldError;
use crate::kinds::columns::{age, name};
use crate::kinds::rfc3339;
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::resource::{Column, Context, Strategy};
use crate::table::{self, column, wide};
use crate::validation::resources::quantity;
use crate::validation::{At, Errors, same, text};
use serde_json::{Value, json};

/// PersistentVolumes.
#[derive(Debug, Default)]
pub struct PersistentVolume;

/// The sources a volume may have, in upstream's order, with the fields that each cannot do without.
const SOURCES: &[(&str, &[&str])] = &[
    ("hostPath", &["path"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("nfs", &["server", "path"]),
    ("rbd", &["monitors", "image"]),
    ("quobyte", &["volume"]),
    ("cephfs", &["monitors"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("cinder", &["volumeID"]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("local", &["path"]),
    ("storageos", &["volumeName"]),
    ("csi", &["driver", "volumeHandle"]),
];
/// Annotations that a field has taken the place of: since when, and which field.
const OLD_ANNOTATIONS: &[(&str, &str, &str)] = &[
    (super::CLASS_ANNOTATION, "v1.8", "storageClassName"),
    ("volume.beta.kubernetes.io/mount-options", "v1.31", "mountOptions"),
];
/// Sources that nobody serves any more: field, its name in warnings, since when it is deprecated, and without effect.
const GONE: &[(&str, &str, &str, &str)] = &[
    ("cephfs", "cephfs", "v1.28", "v1.31"),
    ("photonPersistentDisk", "photonPersistentDisk", "v1.11", "v1.16"),
    ("scaleIO", "scaleIO", "v1.16", "v1.22"),
    ("storageos", "storageOS", "v1.22", "v1.25"),
    ("glusterfs", "glusterfs", "v1.25", "v1.26"),
    ("rbd", "rbd", "v1.28", "v1.31"),
];
const CSI_SECRETS: &[&str] = &[
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
    "nodePublishSecretRef",
    "nodeExpandSecretRef",
];
const DRIVER_MAX: usize = 63;

/// Which of [`SOURCES`] a volume has.
fn source(spec: &Value) -> Vec<(&'static str, &Value)> {
    let found =
        |(kind, _): &(&'static str, _)| spec.get(*kind).filter(|v| !v.is_null()).map(|value| (*kind, value));
    SOURCES.iter().filter_map(found).collect()
}

fn check_source(errors: &mut Errors, spec: &At<'_, '_>) {
    let mut found = false;
    for (kind, needed) in SOURCES {
        let at = spec.get(kind);
        if !at.present() {
            continue;
        }
        // This one is let through beside another, as upstream does.
        if std::mem::replace(&mut found, true) && *kind != "flexVolume" {
            // Upstream writes one field with capital letters here.
            let shown = if *kind == "cephfs" { spec.get("cephFS") } else { at };
            errors.forbidden(&shown, "may not specify more than 1 volume type");
            continue;
        }
        for field in *needed {
            let part = at.get(field);
            if part.is_empty() {
                errors.required(&part, "");
            }
        }
        let path = at.get("path");
        match *kind {
            "hostPath" | "local" => errors.optional_text(&path, text::no_backsteps),
            "nfs" if !path.text().starts_with('/') => {
                errors.push(FieldError::invalid(path.path(), path.text().into(), "must be an absolute path"));
            }
            "csi" => check_csi(errors, &at),
            kind => super::source_details(errors, &at, kind),
        }
    }
    if !found {
        errors.required(spec, "must specify a volume type");
    }
}

fn check_csi(errors: &mut Errors, at: &At<'_, '_>) {
    let driver = at.get("driver");
    if driver.text().len() > DRIVER_MAX {
        errors.push(FieldError::too_long(driver.path(), DRIVER_MAX));
    }
    errors.optional_text(&driver, |name| dns1123_subdomain(&name.to_lowercase(), false));
    for secret in CSI_SECRETS {
        let secret = at.get(secret);
        if secret.present() {
            errors.required_text(&secret.get("name"), |name| dns1123_subdomain(name, false));
            errors.required_text(&secret.get("namespace"), |name| dns1123_label(name, false));
        }
    }
}

fn check_capacity(errors: &mut Errors, at: &At<'_, '_>) {
    if at.is_empty() {
        errors.required(at, "");
    }
    if at.len() != 1 || !at.key("storage").present() {
        errors.push(FieldError::not_supported(at.path(), at.json(), &["storage"]));
    }
    for (_, amount) in at.entries() {
        if quantity(amount.value()).is_some_and(|amount| amount.sign() <= 0) {
            errors.invalid(&amount, "must be greater than zero");
        }
    }
}

/// A path without what changes nothing.
fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| part.is_empty() || part == ".")
}

impl Strategy for PersistentVolume {
    fn prepare_create(&self, object: &mut Value, context: &Context<'_>) {
        object["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": rfc3339(context.now)});
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        crate::kinds::keep(new, old, &["spec"]);
        let phase = |tree: &Value| tree.pointer("/status/phase").cloned();
        let since = "/status/lastPhaseTransitionTime";
        if phase(new) == phase(old)
            && new.pointer(since).is_none_or(Value::is_null)
            && let (Some(since), Some(status)) =
                (old.pointer(since), new.get_mut("status").filter(|s| s.is_object()))
        {
            status["lastPhaseTransitionTime"] = since.clone();
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        access_modes(&mut errors, &spec.get("accessModes"), "");
        check_capacity(&mut errors, &spec.get("capacity"));
        let policy = spec.get("persistentVolumeReclaimPolicy");
        errors.optional_one_of(&policy, &["Delete", "Recycle", "Retain"]);
        let affinity = spec.get("nodeAffinity");
        let required = affinity.get("required");
        if required.present() {
            crate::kinds::pod::node_selector(&mut errors, &required);
        } else if affinity.present() {
            errors.required(&required, "must specify required node constraints");
        }
        check_source(&mut errors, &spec);
        if spec.get("local").present() && !affinity.present() {
            errors.required(&affinity, "Local volume requires node affinity");
        }
        if is_root(spec.get("hostPath").get("path").text()) && policy.text() == "Recycle" {
            errors.forbidden(&policy, "may not be 'recycle' for a hostPath mount of '/'");
        }
        class_names(&mut errors, &spec);
        let attributes = spec.get("volumeAttributesClassName");
        if attributes.present() {
            if attributes.text().is_empty() {
                errors.required(&attributes, "an empty string is disallowed");
            }
            let csi = spec.get("csi");
            if !csi.present() {
                errors.required(&csi, "has to be specified when using volumeAttributesClassName");
            }
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let spec = |tree: &Value| tree.get("spec").cloned().unwrap_or_default();
        let (mut is, was) = (spec(new), spec(old));
        // The secret for growing may come later.
        let later = "controllerExpandSecretRef";
        if let Some(csi) = is.get_mut("csi").and_then(Value::as_object_mut)
            && was.pointer(&format!("/csi/{later}")).is_none()
        {
            csi.remove(later);
        }
        let (is, was) = (source(&is), source(&was));
        let unchanged = is.len() == was.len()
            && is.iter().zip(&was).all(|(is, was)| is.0 == was.0 && same(Some(is.1), Some(was.1)));
        if !unchanged {
            let why = "spec.persistentvolumesource is immutable after creation";
            errors.push(FieldError::forbidden("spec.persistentvolumesource", why));
        }
        let (new, old) = (At::root(new), At::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        for (field, message) in [
            ("volumeMode", crate::validation::IMMUTABLE),
            ("nodeAffinity", "field is immutable, except for updating from beta label to GA"),
        ] {
            let (is, was) = (new.get(field), old.get(field));
            let may_come = field == "nodeAffinity" && !was.present();
            if !may_come && !same(is.value(), was.value()) {
                errors.push(FieldError::invalid(field, is.json(), message));
            }
        }
        let attributes = new.get("volumeAttributesClassName");
        if old.get("volumeAttributesClassName").present() && !attributes.present() {
            errors.forbidden(&attributes, "update from non-nil value to nil is forbidden");
        }
        errors.done()
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let root = At::root(new);
        let (metadata, spec) = (root.get("metadata"), root.get("spec"));
        let annotations = metadata.get("annotations");
        let old = OLD_ANNOTATIONS.iter().filter_map(|(name, since, field)| {
            let at = annotations.key(name);
            at.present()
                .then(|| format!("{}: deprecated since {since}; use {field:?} attribute instead", at.path()))
        });
        let mut told: Vec<String> = old.collect();
        let policy = spec.get("persistentVolumeReclaimPolicy");
        if policy.text() == "Recycle" {
            let why = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic \
                       provisioning.";
            told.push(format!("{}: {why}", policy.path()));
        }
        let gone = GONE.iter().filter(|(field, ..)| spec.get(field).present());
        told.extend(gone.map(|(_, shown, since, gone)| {
            format!("spec.{shown}: deprecated in {since}, non-functional in {gone}+")
        }));
        told
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Capacity", "string", "How much it holds."),
            column("Access Modes", "string", "How it may be used."),
            column("Reclaim Policy", "string", "What becomes of it when its claim goes."),
            column("Status", "string", "Whether it is free, bound or released."),
            column("Claim", "string", "Which claim it is bound to."),
            column("StorageClass", "string", "StorageClass of the pv"),
            column("VolumeAttributesClass", "string", "VolumeAttributesClass of the pv"),
            column("Reason", "string", "Why it failed, in a word."),
            age(),
            wide("VolumeMode", "string", "Whether it is a filesystem or a device."),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let (spec, status) = (root.get("spec"), root.get("status"));
        let claim = spec.get("claimRef");
        let claim = match claim.present() {
            true => format!("{}/{}", claim.get("namespace").text(), claim.get("name").text()),
            false => String::new(),
        };
        let capacity = quantity(spec.get("capacity").get("storage").value());
        vec![
            table::name(object),
            capacity.map_or("0".to_owned(), |amount| amount.to_string()).into(),
            modes_text(&spec.get("accessModes")),
            spec.get("persistentVolumeReclaimPolicy").text().into(),
            phase(object),
            claim.into(),
            class_of(object).into(),
            or_unset(&spec.get("volumeAttributesClassName")),
            status.get("reason").text().into(),
            table::age(object, now),
            or_unset(&spec.get("volumeMode")),
        ]
    }
}
