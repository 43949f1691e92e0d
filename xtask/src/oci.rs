//! Container images without a registry: a static binary, or a tree of files, as an OCI archive.
//!
//! Source: OCI image specification 1.0, `image-layout.md`, `manifest.md`, `config.md`. Two builds of the same binary give
//! the same bytes, so importing again changes nothing.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// What goes into an image.
pub struct Image<'a> {
    /// Full reference, e.g. `localhost/skep-demo:0.1.0`.
    pub reference: &'a str,
    /// Its one layer.
    pub files: Files<'a>,
    /// Entry point.
    pub entrypoint: &'a [&'a str],
    /// Default arguments.
    pub cmd: &'a [&'a str],
    /// User and group, as numbers; empty for root.
    pub user: &'a str,
    /// Value of `PATH`.
    pub path: &'a str,
}

/// The files of an image.
pub enum Files<'a> {
    /// One program: its absolute path and its bytes.
    Program(&'a str, &'a [u8]),
    /// All below a folder; owned by root, with the modes they have.
    Tree(&'a Path),
}

/// Writes the image as an OCI archive.
///
/// # Errors
/// A path that is not absolute, and I/O errors of `to`.
pub fn write_archive(image: &Image<'_>, to: impl Write) -> Result<()> {
    let layer = layer(&image.files)?;
    let config = serde_json::to_vec(&config(image, &hex(&layer)))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({ "io.containerd.image.name": image.reference });
    entry["platform"] = platform();
    let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [entry] }))?;

    let mut archive = tar::Builder::new(to);
    append(&mut archive, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut archive, "index.json", 0o644, &index)?;
    for blob in [&layer, &config, &manifest] {
        append(&mut archive, &format!("blobs/sha256/{}", hex(blob)), 0o644, blob)?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

fn layer(files: &Files<'_>) -> Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    match files {
        Files::Program(path, binary) => {
            ensure!(path.starts_with('/'), "{path} is not an absolute path");
            append(&mut layer, path.trim_start_matches('/'), 0o755, binary)?;
        }
        Files::Tree(root) => append_tree(&mut layer, root, root)?,
    }
    Ok(layer.into_inner()?)
}

/// Everything below `folder`, sorted by name, with paths relative to `root`.
fn append_tree(layer: &mut tar::Builder<Vec<u8>>, root: &Path, folder: &Path) -> Result<()> {
    let mut entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .with_context(|| format!("{}", folder.display()))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = path.strip_prefix(root)?;
        let meta = entry.metadata()?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(meta.permissions().mode() & 0o7777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        if meta.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            layer.append_link(&mut header, name, fs::read_link(&path)?)?;
        } else if meta.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            layer.append_data(&mut header, name, std::io::empty())?;
            append_tree(layer, root, &path)?;
        } else {
            header.set_size(meta.len());
            layer.append_data(&mut header, name, fs::File::open(&path)?)?;
        }
    }
    Ok(())
}

fn config(image: &Image<'_>, layer: &str) -> Value {
    let mut config = platform();
    config["config"] = json!({
        "Entrypoint": image.entrypoint,
        "Cmd": image.cmd,
        "User": image.user,
        "WorkingDir": "/",
        "Env": [format!("PATH={}", image.path)],
    });
    config["rootfs"] = json!({ "type": "layers", "diff_ids": [format!("sha256:{layer}")] });
    config["history"] = json!([{ "created_by": "cargo xtask build" }]);
    config
}

/// This machine's platform in the words of the specification, which are Go's.
fn platform() -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({ "architecture": architecture, "os": "linux" })
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{}", hex(blob)), "size": blob.len() })
}

fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    header.set_mtime(0);
    archive.append_data(&mut header, path, bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn image() -> Image<'static> {
        Image {
            reference: "localhost/x:1",
            files: Files::Program("/x", b"\x7fELF"),
            entrypoint: &["/x"],
            cmd: &["serve"],
            user: "",
            path: "/",
        }
    }

    fn unpack(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(bytes);
        let mut files = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(entry.path().unwrap().to_string_lossy().into_owned(), bytes);
        }
        files
    }

    #[test]
    fn every_digest_leads_to_a_blob_of_that_digest() {
        let mut bytes = Vec::new();
        write_archive(&image(), &mut bytes).unwrap();
        let files = unpack(&bytes);
        let json = |name: &str| serde_json::from_slice::<Value>(&files[name]).unwrap();
        let blob = |digest: &Value| {
            let name = digest.as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
            let path = format!("blobs/sha256/{name}");
            assert_eq!(hex(&files[&path]), name);
            path
        };
        let index = json("index.json");
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "localhost/x:1");
        let manifest = json(&blob(&index["manifests"][0]["digest"]));
        let config = json(&blob(&manifest["config"]["digest"]));
        let layer = blob(&manifest["layers"][0]["digest"]);
        assert_eq!(manifest["layers"][0]["size"], files[&layer].len());
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!(config["config"]["Entrypoint"], json!(["/x"]));
        assert_eq!(unpack(&files[&layer]), BTreeMap::from([("x".to_owned(), b"\x7fELF".to_vec())]));
    }

    #[test]
    fn the_same_binary_gives_the_same_archive() {
        let write = || {
            let mut bytes = Vec::new();
            write_archive(&image(), &mut bytes).unwrap();
            bytes
        };
        assert_eq!(write(), write());
        assert!(write_archive(&Image { files: Files::Program("x", b""), ..image() }, Vec::new()).is_err());
    }

    #[test]
    fn a_tree_keeps_links_and_modes() {
        let root = std::env::temp_dir().join(format!("skep-xtask-tree-{}", std::process::id()));
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(root.join("bin/su"), "x").unwrap();
        fs::set_permissions(root.join("bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
        std::os::unix::fs::symlink("su", root.join("bin/sudo")).unwrap();
        let bytes = layer(&Files::Tree(&root)).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let seen: Vec<(String, u32, u64, Option<String>)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let link = header.link_name().unwrap().map(|link| link.to_string_lossy().into_owned());
                let path = entry.path().unwrap().to_string_lossy().trim_end_matches('/').to_owned();
                (path, header.mode().unwrap(), header.uid().unwrap(), link)
            })
            .collect();
        let folder = seen[0].1;
        assert_eq!(
            seen,
            [
                ("bin".to_owned(), folder, 0, None),
                ("bin/su".to_owned(), 0o4755, 0, None),
                ("bin/sudo".to_owned(), 0o777, 0, Some("su".to_owned())),
            ]
        );
        fs::remove_dir_all(root).unwrap();
    }
}
