//! Removes images that no container uses when the file system they lie on fills up.

use crate::core::garbage::{Disk, Images, Listed, Policy};
use crate::core::image_volume;
use crate::images::with_tag;
use crate::manager::Pods;
use jiff::Timestamp;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(300);

/// Of those listed, the images that containers use, or that are `shown` as volumes. A container names its image by
/// identifier, tag or digest.
fn in_use(
    images: &[cri::Image],
    containers: &[cri::Container],
    shown: &BTreeSet<String>,
) -> BTreeSet<String> {
    let named: BTreeSet<&str> = containers
        .iter()
        .flat_map(|c| c.image.iter().map(|i| i.image.as_str()).chain([c.image_ref.as_str()]))
        .collect();
    let used = |i: &&cri::Image| {
        let names = i.repo_tags.iter().chain(&i.repo_digests).chain([&i.id]);
        names.into_iter().any(|n| named.contains(n.as_str()) || shown.contains(n))
    };
    images.iter().filter(used).map(|i| i.id.clone()).collect()
}

/// An image as the decision sees it. One without the digest that a registry gave it was brought to this node by hand;
/// nothing could bring it back.
fn listed(i: &cri::Image, sandbox: &str) -> Listed {
    let kept = i.pinned || i.repo_digests.is_empty() || i.repo_tags.iter().any(|t| t == sandbox);
    Listed { id: i.id.clone(), size: i.size, pinned: kept }
}

fn disk(at: &Path) -> Option<Disk> {
    let s = nix::sys::statvfs::statvfs(at).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(s.fragment_size());
    Some(Disk { capacity: bytes(s.blocks()), available: bytes(s.blocks_available()) })
}

/// What volumes of pods show.
fn shown(pods: &Pods) -> BTreeSet<String> {
    let of = |pod: &Pod| -> Vec<String> {
        let all = pod.spec.iter().flat_map(image_volume::of_pod);
        all.filter_map(|(_, image)| Some(with_tag(image.reference.as_ref()?))).collect()
    };
    pods.list().iter().flat_map(|s| of(&s.pod)).collect()
}

async fn look(pods: &Pods, known: &mut Images, policy: &Policy) -> Result<(), String> {
    let cx = pods.context();
    let images = cx.rt.images().await.map_err(|e| e.to_string())?;
    let containers: Vec<cri::Container> =
        cx.rt.list().await.map_err(|e| e.to_string())?.into_values().flat_map(|l| l.1).collect();
    let sandbox = cx.rt.sandbox_image().await.unwrap_or_default();
    let now = Timestamp::now();
    let all: Vec<Listed> = images.iter().map(|i| listed(i, &sandbox)).collect();
    known.note(&all, &in_use(&images, &containers, &shown(pods)), now);
    let at = cx.rt.image_dir().await.map_err(|e| e.to_string())?;
    let Some(disk) = disk(&at) else {
        return Err(format!("the file system of images at {} cannot be measured", at.display()));
    };
    let wanted = Images::wanted(disk, policy);
    if wanted == 0 {
        return Ok(());
    }
    let mut freed = 0u64;
    for (id, size) in known.surplus(wanted, policy, now) {
        match cx.rt.remove_image(&id).await {
            Ok(()) => freed = freed.saturating_add(size),
            Err(error) => tracing::warn!(%id, %error, "image not removed"),
        }
    }
    tracing::info!(wanted, freed, "images removed to make room");
    if freed < wanted {
        let message = format!(
            "Insufficient free disk space on the node's image filesystem ({}% of {} bytes used). Failed to free sufficient space by deleting unused images (freed {freed} bytes). Investigate disk usage, as it could be used by active images, logs, volumes, or other data.",
            disk.used_percent(),
            disk.capacity
        );
        cx.api.node_event(true, "FreeDiskSpaceFailed", &message);
    }
    Ok(())
}

/// Looks again and again.
pub async fn run(pods: Pods, policy: Policy) {
    let mut known = Images::default();
    loop {
        if let Err(error) = look(&pods, &mut known, &policy).await {
            tracing::warn!(%error, "images not looked through");
        }
        tokio::time::sleep(PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_used_by_any_of_its_names_and_kept_without_a_digest() {
        let image = |id: &str, tag: &str, digest: &str| cri::Image {
            id: id.into(),
            repo_tags: vec![tag.into()],
            repo_digests: if digest.is_empty() { Vec::new() } else { vec![digest.into()] },
            ..cri::Image::default()
        };
        let images = [
            image("1", "a:1", "a@x"),
            image("2", "b:1", "b@y"),
            image("3", "c:1", "c@z"),
            image("4", "d:1", ""),
        ];
        let container = |name: &str, reference: &str| cri::Container {
            image: Some(cri::ImageSpec { image: name.into(), ..cri::ImageSpec::default() }),
            image_ref: reference.into(),
            ..cri::Container::default()
        };
        let used =
            in_use(&images, &[container("1", "1"), container("b:1", "b@y")], &["d:1".to_owned()].into());
        assert_eq!(used, ["1".to_owned(), "2".to_owned(), "4".to_owned()].into());
        let kept: Vec<bool> = images.iter().map(|i| listed(i, "c:1").pinned).collect();
        assert_eq!(kept, [false, false, true, true]);
    }

    #[test]
    fn this_machine_has_a_disk() {
        let d = disk(Path::new("/")).unwrap();
        assert!(d.capacity > 0 && d.available <= d.capacity);
        assert_eq!(disk(Path::new("/there/is/nothing")), None);
    }
}
