//! Rules about documents: links lead somewhere, and the code map names files that exist.

use std::path::Path;

use super::{Fault, Source};

/// Checks every Markdown file.
#[must_use]
pub fn check(root: &Path, files: &[Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
        for (number, line) in file.text.lines().enumerate() {
            let at = format!("{}:{}", file.path, number + 1);
            for link in links(line) {
                if !root.join(folder).join(&link).exists() {
                    faults.push(Fault {
                        at: at.clone(),
                        what: format!("links to {link}, which does not exist"),
                    });
                }
            }
            if file.path == "ARCHITECTURE.md" {
                for path in named_paths(line).filter(|path| !root.join(path).exists()) {
                    faults
                        .push(Fault { at: at.clone(), what: format!("names {path}, which does not exist") });
                }
            }
        }
    }
    faults
}

/// Targets of links to files, without anchors.
fn links(line: &str) -> impl Iterator<Item = String> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?.trim();
        (!target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
            .then(|| target.to_owned())
    })
}

/// Words in backticks that are paths from the repository's root.
fn named_paths(line: &str) -> impl Iterator<Item = &str> {
    const ROOTS: [&str; 6] = ["control-plane/", "node-agent/", "ebpf/", "xtask/", "tests/", "docs/"];
    line.split('`').skip(1).step_by(2).filter(|word| {
        ROOTS.iter().any(|root| word.starts_with(root)) && !word.contains([' ', '*', '…', '<', '{'])
    })
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn only_links_to_files_that_are_missing_are_faults() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = "[a](src/lib.rs#L1) [b](https://example.org/x) [c](#here)\n[d](src/none.rs)\n";
        let faults = check(root, &[source("README.md", text)]);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].at, "README.md:2");
    }

    #[test]
    fn the_code_map_names_what_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let text = "`xtask/src/lib.rs` and `xtask/src/nothing.rs`, `cargo xtask/…`\n";
        let faults = check(root, &[source("ARCHITECTURE.md", text)]);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].what.contains("nothing.rs"));
        assert_eq!(check(root, &[source("docs/plan.md", text)]), []);
    }
}
