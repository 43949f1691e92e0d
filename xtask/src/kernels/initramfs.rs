//! The file system a kernel is given to boot with: an archive in the format "new ASCII" of cpio.
//!
//! Source: the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

/// An archive under way.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

impl Archive {
    /// Adds a directory; those above it come first.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY, &[]);
    }

    /// Adds a file that may be run.
    pub fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, PROGRAM, content);
    }

    /// The whole archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let sizes = (content.len() as u32, name.len() as u32 + 1);
        let (owner, links, time, device) = (0, 1, 0, 0);
        let header = [
            self.entries,
            mode,
            owner,
            owner,
            links,
            time,
            sizes.0,
            device,
            device,
            device,
            device,
            sizes.1,
            0, // no checksum in this format
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in header {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Names and contents begin at multiples of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_begins_at_a_multiple_of_four() {
        let mut archive = Archive::default();
        archive.directory("dir");
        archive.file("dir/a", b"seven..");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let headers: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        // A header has 110 bytes; with the name and its zero it is filled up.
        assert_eq!(headers, [0, 116, 116 + 116 + 8]);
        assert_eq!(&text[116 + 54..116 + 62], "00000007", "the length of the content");
        assert!(text[116 + 110..].starts_with("dir/a\0"));
    }
}
