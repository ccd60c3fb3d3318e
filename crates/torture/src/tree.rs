//! What a run left in its scratch directory.

use crate::difference;
use crate::error::{Doing, Result};
use crate::mask::{Mask, cover};
use std::collections::BTreeMap;
use std::fs::{self, FileType};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Files that one run may leave.
const FILES_MAX: usize = 100_000;

/// A file as it is compared: everything but its times and its owner's number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kind: &'static str,
    mode: u32,
    /// Where a symbolic link leads.
    target: Option<PathBuf>,
}

/// The files below a directory, by their path in it.
pub(crate) struct Tree {
    root: PathBuf,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Tree {
    /// Looks at everything below a directory.
    pub(crate) fn of(root: &Path) -> Result<Tree> {
        let mut tree = Tree { root: root.to_owned(), entries: BTreeMap::new() };
        let mut open = vec![PathBuf::new()];
        while let Some(inner) = open.pop() {
            let path = root.join(&inner);
            for entry in fs::read_dir(&path).doing(|| format!("read {}", path.display()))? {
                let name = inner.join(entry.doing(|| format!("read {}", path.display()))?.file_name());
                let file = root.join(&name);
                let data = file.symlink_metadata().doing(|| format!("look at {}", file.display()))?;
                if data.is_dir() && tree.entries.len() < FILES_MAX {
                    open.push(name.clone());
                }
                let target = fs::read_link(&file).ok();
                let mode = data.permissions().mode() & 0o7777;
                tree.entries.insert(name, Entry { kind: kind(data.file_type()), mode, target });
            }
        }
        Ok(tree)
    }

    /// How many files there are.
    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    /// One text for each file that is missing, extra, or different.
    pub(crate) fn differences(&self, torture: &Tree, masks: &[Mask]) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for (path, entry) in &self.entries {
            let shown = path.display();
            match torture.entries.get(path) {
                None => found.push(format!("the {} {shown} is missing when moved", entry.kind)),
                Some(other) if other != entry => {
                    found.push(format!("{shown} is {} in peace and {} when moved", told(entry), told(other)));
                }
                Some(_) if entry.kind == "file" => {
                    if let Some(text) = self.contents(torture, path, masks)? {
                        found.push(format!("the file {shown} differs {text}"));
                    }
                }
                Some(_) => {}
            }
        }
        let extra = torture.entries.iter().filter(|(path, _)| !self.entries.contains_key(*path));
        found.extend(
            extra.map(|(path, entry)| {
                format!("the {} {} is there only when moved", entry.kind, path.display())
            }),
        );
        Ok(found)
    }

    fn contents(&self, torture: &Tree, path: &Path, masks: &[Mask]) -> Result<Option<String>> {
        let read = |root: &Path| {
            let path = root.join(path);
            fs::read(&path).doing(|| format!("read {}", path.display()))
        };
        let (peace, moved) = (read(&self.root)?, read(&torture.root)?);
        if peace == moved {
            return Ok(None);
        }
        Ok(difference::between(&cover(masks, &peace), &cover(masks, &moved)))
    }
}

fn told(entry: &Entry) -> String {
    let target = entry.target.as_ref().map(|target| format!(" to {}", target.display())).unwrap_or_default();
    format!("a {}{target} of mode {:o}", entry.kind, entry.mode)
}

fn kind(kind: FileType) -> &'static str {
    let kinds = [
        (kind.is_file(), "file"),
        (kind.is_dir(), "directory"),
        (kind.is_symlink(), "link"),
        (kind.is_fifo(), "fifo"),
        (kind.is_socket(), "socket"),
    ];
    kinds.iter().find(|(is, _)| *is).map_or("device", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The canary: a comparison that finds nothing would let every torture pass.
    #[test]
    fn what_is_missing_extra_or_different_is_found() {
        let [peace, torture] = [(), ()].map(|()| tempfile::tempdir().unwrap());
        for root in [peace.path(), torture.path()] {
            fs::create_dir(root.join("inner")).unwrap();
            for name in ["same", "inner/text", "inner/mode", "kind"] {
                fs::write(root.join(name), "a\nb 17\n").unwrap();
            }
        }
        let differences = |masks: &[Mask]| {
            let trees = [peace.path(), torture.path()].map(|root| Tree::of(root).unwrap());
            trees[0].differences(&trees[1], masks).unwrap()
        };
        assert_eq!(differences(&[]), Vec::<String>::new());
        fs::write(torture.path().join("inner/text"), "a\nb 18\n").unwrap();
        assert_eq!(differences(&["b [0-9]+".parse().unwrap()]), Vec::<String>::new());
        fs::set_permissions(torture.path().join("inner/mode"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(torture.path().join("kind")).unwrap();
        std::os::unix::fs::symlink("same", torture.path().join("kind")).unwrap();
        fs::remove_file(torture.path().join("same")).unwrap();
        fs::write(torture.path().join("more"), "").unwrap();
        let found = differences(&[]).join("\n");
        for wanted in [
            "file inner/text differs from byte 5 on, in line 2",
            "inner/mode is a file of mode 644 in peace and a file of mode 600 when moved",
            "kind is a file of mode 644 in peace and a link to same of mode 777",
            "file same is missing when moved",
            "file more is there only when moved",
        ] {
            assert!(found.contains(wanted), "{wanted:?} is not in {found}");
        }
    }
}
