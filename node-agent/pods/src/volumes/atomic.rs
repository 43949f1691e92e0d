//! A directory of files that changes all at once: readers follow `..data`, a link that is exchanged by one rename.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// One file of a projected directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Contents.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner, when not root.
    pub owner: Option<u32>,
}

/// Files by relative path.
pub type Payload = BTreeMap<String, File>;

/// Whether a path may be projected: relative, without `..`, not starting with `..`.
pub fn valid_path(p: &str) -> bool {
    !p.is_empty()
        && !p.starts_with("..")
        && Path::new(p).components().all(|c| matches!(c, Component::Normal(_)))
}

/// Makes `dir` show exactly `payload`. Does nothing when it already does. `group` owns all, if given.
pub fn write(dir: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    std::fs::create_dir_all(dir)?;
    if let Some(bad) = payload.keys().find(|p| !valid_path(p)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path {bad:?}")));
    }
    let data = dir.join("..data");
    let current = std::fs::read_link(&data).ok().map(|l| dir.join(l));
    if let Some(cur) = &current
        && same(cur, payload)
    {
        links(dir, payload)?;
        return Ok(false);
    }
    let stamp = jiff::Timestamp::now().as_nanosecond();
    let name = format!("..{stamp}");
    let fresh = dir.join(&name);
    std::fs::create_dir(&fresh)?;
    for (path, f) in payload {
        let at = fresh.join(path);
        if let Some(parent) = at.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&at, &f.data)?;
        let mode = if group.is_some() { f.mode | 0o440 } else { f.mode };
        std::os::unix::fs::chown(&at, f.owner, group)?;
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(mode))?;
    }
    if group.is_some() {
        std::os::unix::fs::chown(&fresh, None, group)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o2775))?;
    } else {
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755))?;
    }
    let tmp = dir.join("..data_tmp");
    match std::fs::remove_file(&tmp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    symlink(&name, &tmp)?;
    std::fs::rename(&tmp, &data)?;
    links(dir, payload)?;
    for e in std::fs::read_dir(dir)?.flatten() {
        let n = e.file_name();
        let n = n.to_string_lossy();
        if n.starts_with("..") && n != "..data" && n != name {
            let _ = std::fs::remove_dir_all(e.path());
        }
    }
    Ok(true)
}

fn tops(payload: &Payload) -> Vec<&str> {
    let mut out: Vec<&str> = payload.keys().filter_map(|p| p.split('/').next()).collect();
    out.dedup();
    out
}

/// Links for what is there; none for what is not.
fn links(dir: &Path, payload: &Payload) -> io::Result<()> {
    let wanted = tops(payload);
    for top in &wanted {
        let at = dir.join(top);
        if at.symlink_metadata().is_err() {
            symlink(PathBuf::from("..data").join(top), &at)?;
        }
    }
    for e in std::fs::read_dir(dir)?.flatten() {
        let n = e.file_name().to_string_lossy().into_owned();
        if !n.starts_with("..") && !wanted.contains(&n.as_str()) {
            let _ = std::fs::remove_file(e.path());
        }
    }
    Ok(())
}

fn same(current: &Path, payload: &Payload) -> bool {
    fn count(dir: &Path) -> usize {
        std::fs::read_dir(dir).map_or(0, |d| {
            d.flatten()
                .map(|e| if e.file_type().is_ok_and(|t| t.is_dir()) { count(&e.path()) } else { 1 })
                .sum()
        })
    }
    count(current) == payload.len()
        && payload.iter().all(|(p, f)| std::fs::read(current.join(p)).is_ok_and(|have| have == f.data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(s: &str) -> File {
        File { data: s.into(), mode: 0o644, owner: None }
    }

    #[test]
    fn exchanges_all_files_at_once() {
        let dir = std::env::temp_dir().join(format!("skep-atomic-{}", std::process::id()));
        let one = Payload::from([("a".into(), file("1")), ("d/b".into(), file("2"))]);
        assert!(write(&dir, &one, None).unwrap());
        assert!(!write(&dir, &one, None).unwrap());
        assert_eq!(std::fs::read_to_string(dir.join("d/b")).unwrap(), "2");
        let two = Payload::from([("a".into(), file("3"))]);
        assert!(write(&dir, &two, None).unwrap());
        assert_eq!(std::fs::read_to_string(dir.join("a")).unwrap(), "3");
        assert!(dir.join("d").symlink_metadata().is_err());
        let stamps = std::fs::read_dir(&dir).unwrap().flatten().count();
        assert_eq!(stamps, 3, "..data, its directory and one link");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn refuses_to_leave_the_directory() {
        for p in ["../x", "/x", "a/../x", "", "..data"] {
            assert!(!valid_path(p), "{p}");
        }
        assert!(valid_path("a/b..c"));
    }
}
