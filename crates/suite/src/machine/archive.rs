//! The archive that a kernel unpacks as its first file system: cpio in the "newc" format.
//!
//! Source: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::collections::BTreeSet;
use std::path::Path;

const MAGIC: &str = "070701";
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const TRAILER: &str = "TRAILER!!!";
/// Everything in the format is aligned to this many bytes.
const ALIGNMENT: usize = 4;

/// An archive under construction.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// Adds a file by its absolute path, with the directories that lead to it.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let parent = Path::new(path).parent().unwrap_or(Path::new("/"));
        self.directory(&parent.to_string_lossy());
        self.entry(path, FILE | mode, content);
    }

    /// Adds a directory, with those that lead to it, unless it is there.
    pub(super) fn directory(&mut self, path: &str) {
        let ancestors: Vec<&Path> = Path::new(path).ancestors().collect();
        for ancestor in ancestors.into_iter().rev() {
            let name = ancestor.to_string_lossy().into_owned();
            if name != "/" && self.directories.insert(name.clone()) {
                self.entry(&name, DIRECTORY | 0o755, &[]);
            }
        }
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        let name = path.trim_start_matches('/');
        self.entries += 1;
        // Inode, mode, owner, group, links, time, size, device of the file (2), device that it is (2), length of the name
        // with its zero, checksum.
        let fields =
            [self.entries, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.bytes.extend(MAGIC.bytes());
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_once_and_before_what_is_in_them() {
        let mut archive = Archive::default();
        archive.file("/a/b/one", 0o755, b"12345");
        archive.file("/a/b/two", 0o644, b"");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let places: Vec<usize> = ["\0a\0", "a/b\0", "a/b/one\0", "12345", "a/b/two\0", TRAILER]
            .iter()
            .filter_map(|name| {
                let name = name.trim_start_matches('\0');
                text.find(name)
            })
            .collect();
        assert_eq!(places.len(), 6);
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(text.matches(MAGIC).count(), 5);
        assert_eq!(bytes.len() % ALIGNMENT, 0);
    }
}
