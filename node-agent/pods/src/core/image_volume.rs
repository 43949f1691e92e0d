//! Volumes whose content is an image. Source: KEP-4639, kubelet `getImageVolumes`, `makeMounts`.

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, PodSpec, VolumeMount};
use std::collections::BTreeMap;

/// Images by the name of the volume that shows them, as the runtime knows them.
pub type Images = BTreeMap<String, cri::ImageSpec>;

/// The image volumes of a pod: their names and what they show.
pub fn of_pod(spec: &PodSpec) -> impl Iterator<Item = (&str, &ImageVolumeSource)> {
    spec.volumes.iter().flatten().filter_map(|v| Some((v.name.as_str(), v.image.as_ref()?)))
}

/// Those that a container mounts, each as a container that asks for the image: so it is pulled like any other.
pub fn wanted(spec: &PodSpec, c: &Container) -> Vec<(String, Container)> {
    let mounted = |name: &str| c.volume_mounts.iter().flatten().any(|m| m.name == name);
    of_pod(spec)
        .filter(|(name, _)| mounted(name))
        .map(|(name, image)| {
            let asks = Container {
                name: c.name.clone(),
                image: image.reference.clone(),
                image_pull_policy: image.pull_policy.clone(),
                ..Container::default()
            };
            (name.to_owned(), asks)
        })
        .collect()
}

/// Whether a runtime of that name and version shows images as volumes: containerd does from 2.1 on.
pub fn supported(runtime: &str, version: &str) -> bool {
    let mut parts =
        version.trim_start_matches('v').split(['.', '~', '-', '+']).map(|p| p.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    runtime != "containerd" || version >= (2, 1)
}

/// How a container sees an image; `sub` is the part of it that it asks for.
pub fn mount(
    m: &VolumeMount,
    sub: Option<&str>,
    image: Option<&cri::ImageSpec>,
) -> Result<cri::Mount, String> {
    if sub.is_some() {
        return Err(format!(
            "subPath of volumeMount {:?} is not possible: this node shows images as a whole only",
            m.name
        ));
    }
    let image = image.ok_or_else(|| format!("the image of volume {:?} is not on this node", m.name))?;
    Ok(cri::Mount {
        container_path: m.mount_path.clone(),
        readonly: true,
        image: Some(image.clone()),
        ..cri::Mount::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containerd_has_them_from_2_1() {
        for (name, version, has) in [
            ("containerd", "1.6.20~ds1", false),
            ("containerd", "v1.7.24", false),
            ("containerd", "2.0.5", false),
            ("containerd", "2.1.9+ds1", true),
            ("containerd", "v2.1.0-rc.1", true),
            ("containerd", "3.0.0", true),
            ("containerd", "", false),
            ("cri-o", "1.35.0", true),
        ] {
            assert_eq!(supported(name, version), has, "{name} {version}");
        }
    }

    #[test]
    fn only_what_is_mounted_is_pulled_and_it_is_read_only() {
        let spec: PodSpec = serde_json::from_value(json!({
            "volumes": [{"name": "a", "image": {"reference": "r/a:1", "pullPolicy": "Always"}},
                {"name": "b", "image": {"reference": "r/b:1"}}, {"name": "c", "emptyDir": {}}],
            "containers": [{"name": "x", "image": "i", "volumeMounts": [
                {"name": "a", "mountPath": "/a"}, {"name": "c", "mountPath": "/c"}]}],
        }))
        .unwrap();
        assert_eq!(of_pod(&spec).map(|v| v.0).collect::<Vec<_>>(), ["a", "b"]);
        let x = &spec.containers[0];
        let list = wanted(&spec, x);
        assert_eq!(list.len(), 1);
        let (name, asks) = &list[0];
        assert_eq!((name.as_str(), asks.name.as_str(), asks.image.as_deref()), ("a", "x", Some("r/a:1")));
        assert_eq!(asks.image_pull_policy.as_deref(), Some("Always"));
        let m = &x.volume_mounts.as_ref().unwrap()[0];
        let image = cri::ImageSpec { image: "sha256:1".into(), ..cri::ImageSpec::default() };
        let got = mount(m, None, Some(&image)).unwrap();
        assert_eq!((got.container_path.as_str(), got.host_path.as_str(), got.readonly), ("/a", "", true));
        assert_eq!(got.image, Some(image.clone()));
        assert!(mount(m, None, None).unwrap_err().contains("\"a\" is not on this node"));
        assert!(mount(m, Some("etc"), Some(&image)).unwrap_err().starts_with("subPath of volumeMount \"a\""));
    }
}
