//! What becomes of claims and volumes, as plain functions of them (`pkg/controller/volume/persistentvolume`).

use super::{annotation, text};
use serde_json::{Value, json};
use skep_api::kinds::volume::matching::{Place, best, mismatch, names};

/// The claim has been bound once.
pub(super) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The binding was made here and not by a person.
pub(super) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// The node that the scheduler chose for the first consumer.
pub(super) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Who is to make a volume for the claim; the second is the older name.
const PROVISIONER: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
/// Made the volume, and will remove it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// An event: whether it is a warning, reason, message.
#[derive(Debug, PartialEq)]
pub(super) struct Told(pub(super) bool, pub(super) &'static str, pub(super) String);

/// What is to be done for a claim.
#[derive(Debug, PartialEq)]
pub(super) enum ForClaim {
    /// It waits.
    Wait(Option<Told>),
    /// It waits for somebody to make a volume; the claim says who.
    Provision(Value, Told),
    /// It is to be bound to this volume.
    Bind(Value),
    /// What it was bound to is gone.
    Lost(Told),
}

/// What a class says of its claims.
#[derive(Clone, Debug, Default)]
pub(super) struct Class {
    pub(super) provisioner: String,
    /// Volumes are bound when a pod needs them.
    pub(super) waits: bool,
}

fn set(tree: &Value, pointer: &str) -> bool {
    !text(tree, pointer).is_empty()
}

/// Decides for a claim. `class` is the one it names, none where that is not there; `place` is the node the scheduler chose.
pub(super) fn for_claim(
    claim: &Value,
    volumes: &[Value],
    class: Option<&Class>,
    place: Option<Place<'_>>,
) -> ForClaim {
    let wanted = text(claim, "/spec/volumeName");
    let volume = volumes.iter().find(|volume| text(volume, "/metadata/name") == wanted);
    if annotation(claim, BIND_COMPLETED).is_some() {
        return bound(claim, wanted, volume);
    }
    if wanted.is_empty() {
        return unbound(claim, volumes, class, place);
    }
    let Some(volume) = volume else { return ForClaim::Wait(None) };
    let free = volume.pointer("/spec/claimRef").is_none_or(Value::is_null);
    match (free || names(volume, claim), mismatch(volume, claim)) {
        (true, None) => ForClaim::Bind(volume.clone()),
        (true, Some(why)) => {
            let message = format!("Cannot bind to requested volume {wanted:?}: {why}");
            ForClaim::Wait(Some(Told(true, "VolumeMismatch", message)))
        }
        (false, _) => {
            let message = format!("volume {wanted:?} already bound to a different claim.");
            ForClaim::Wait(Some(Told(true, "FailedBinding", message)))
        }
    }
}

fn bound(claim: &Value, wanted: &str, volume: Option<&Value>) -> ForClaim {
    let lost = |reason: &'static str, message: &str| ForClaim::Lost(Told(true, reason, message.into()));
    match volume {
        _ if wanted.is_empty() => lost(
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        ),
        None => lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
        Some(volume)
            if volume.pointer("/spec/claimRef").is_none_or(Value::is_null) || names(volume, claim) =>
        {
            ForClaim::Bind(volume.clone())
        }
        Some(_) => {
            lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
        }
    }
}

fn unbound(claim: &Value, volumes: &[Value], class: Option<&Class>, place: Option<Place<'_>>) -> ForClaim {
    let wait = |warning: bool, reason: &'static str, message: String| {
        ForClaim::Wait(Some(Told(warning, reason, message)))
    };
    let delayed = class.is_some_and(|class| class.waits);
    if let Some(volume) = best(claim, volumes, place, delayed) {
        return ForClaim::Bind(volume.clone());
    }
    if delayed && annotation(claim, SELECTED_NODE).is_none() {
        let message = "waiting for first consumer to be created before binding";
        return wait(false, "WaitForFirstConsumer", message.into());
    }
    let name = skep_api::kinds::volume::class_of(claim);
    match class {
        _ if name.is_empty() => {
            let message = "no persistent volumes available for this claim and no storage class is set";
            wait(false, "FailedBinding", message.into())
        }
        None => wait(true, "ProvisioningFailed", format!("storageclass.storage.k8s.io {name:?} not found")),
        Some(class) if class.provisioner == NO_PROVISIONER => {
            let message = "no volume plugin matched name: kubernetes.io/no-provisioner";
            wait(true, "ProvisioningFailed", message.into())
        }
        Some(class) => {
            let mut asking = claim.clone();
            for key in PROVISIONER {
                annotate(&mut asking, key, &class.provisioner);
            }
            let message = format!(
                "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system \
                 administrator. If volume creation is delayed, please verify that the provisioner is running and correctly \
                 registered.",
                class.provisioner
            );
            ForClaim::Provision(asking, Told(false, "ExternalProvisioning", message))
        }
    }
}

/// What is to be done for a volume.
#[derive(Debug, PartialEq)]
pub(super) enum ForVolume {
    /// Nothing now; the claim it waits for is looked at.
    Nothing,
    /// It is to have this phase, with a reason and message where it failed.
    Phase(&'static str, Option<Told>),
    /// The claim has another volume: this one is free again.
    Unbind(Value),
}

/// Decides for a volume. `claim` is the one it names, if that is there.
pub(super) fn for_volume(volume: &Value, claim: Option<&Value>) -> ForVolume {
    if !set(volume, "/spec/claimRef/uid") {
        return ForVolume::Phase("Available", None);
    }
    let claim = claim.filter(|claim| text(claim, "/metadata/uid") == text(volume, "/spec/claimRef/uid"));
    let Some(claim) = claim else { return released(volume) };
    let name = text(volume, "/metadata/name");
    match text(claim, "/spec/volumeName") {
        // The claim is bound from its own side.
        "" => ForVolume::Nothing,
        own if own == name => ForVolume::Phase("Bound", None),
        _ => ForVolume::Unbind(freed(volume)),
    }
}

/// The claim is gone.
fn released(volume: &Value) -> ForVolume {
    let phase = text(volume, "/status/phase");
    if phase != "Released" && phase != "Failed" {
        return ForVolume::Phase("Released", None);
    }
    // Whoever made it removes it.
    let theirs = annotation(volume, PROVISIONED_BY).is_some() || volume.pointer("/spec/csi").is_some();
    let name = text(volume, "/metadata/name");
    let failed =
        |reason: &'static str, message: String| ForVolume::Phase("Failed", Some(Told(true, reason, message)));
    match text(volume, "/spec/persistentVolumeReclaimPolicy") {
        "Delete" if !theirs && phase != "Failed" => failed(
            "VolumeFailedDelete",
            format!("error getting deleter volume plugin for volume {name:?}: no volume plugin matched"),
        ),
        "Recycle" if phase != "Failed" => {
            failed("VolumeFailedRecycle", "No recycler plugin found for the volume!".into())
        }
        _ => ForVolume::Nothing,
    }
}

pub(super) fn annotate(tree: &mut Value, key: &str, value: &str) {
    if !tree["metadata"]["annotations"].is_object() {
        tree["metadata"]["annotations"] = json!({});
    }
    tree["metadata"]["annotations"][key] = value.into();
}

/// The volume without its claim; of one that a person made for a claim, only what was added here.
fn freed(volume: &Value) -> Value {
    let mut volume = volume.clone();
    let ours = annotation(&volume, BOUND_BY_CONTROLLER).is_some();
    if let Some(annotations) = volume.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(BOUND_BY_CONTROLLER);
    }
    if let Some(spec) = volume.get_mut("spec").and_then(Value::as_object_mut) {
        if ours {
            spec.remove("claimRef");
        } else if let Some(claim) = spec.get_mut("claimRef").and_then(Value::as_object_mut) {
            claim.remove("uid");
            claim.remove("resourceVersion");
        }
    }
    volume
}

/// The volume as the claim's own.
pub(super) fn bound_volume(volume: &Value, claim: &Value) -> Value {
    let mut volume = volume.clone();
    if !names(&volume, claim) {
        annotate(&mut volume, BOUND_BY_CONTROLLER, "yes");
    }
    if text(&volume, "/spec/claimRef/uid") != text(claim, "/metadata/uid") {
        volume["spec"]["claimRef"] = json!({
            "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": text(claim, "/metadata/namespace"),
            "name": text(claim, "/metadata/name"), "uid": text(claim, "/metadata/uid"),
            "resourceVersion": text(claim, "/metadata/resourceVersion"),
        });
    }
    volume
}

/// The claim as the volume's own.
pub(super) fn bound_claim(claim: &Value, volume: &str) -> Value {
    let mut claim = claim.clone();
    if text(&claim, "/spec/volumeName") != volume {
        claim["spec"]["volumeName"] = volume.into();
        annotate(&mut claim, BOUND_BY_CONTROLLER, "yes");
    }
    annotate(&mut claim, BIND_COMPLETED, "yes");
    claim
}

/// The status of a bound claim. What a volume has grown to since, its driver says.
pub(super) fn bound_status(claim: &Value, volume: &Value) -> Value {
    let mut status = claim.get("status").cloned().unwrap_or_else(|| json!({}));
    let first = text(claim, "/status/phase") != "Bound";
    status["phase"] = "Bound".into();
    status["accessModes"] = volume.pointer("/spec/accessModes").cloned().unwrap_or_default();
    if first || status.get("capacity").is_none_or(Value::is_null) {
        status["capacity"] = volume.pointer("/spec/capacity").cloned().unwrap_or_default();
    }
    let attributes = volume.pointer("/spec/volumeAttributesClassName").filter(|name| !name.is_null());
    if let Some(attributes) = attributes.filter(|_| first) {
        status["currentVolumeAttributesClassName"] = attributes.clone();
    }
    status
}
