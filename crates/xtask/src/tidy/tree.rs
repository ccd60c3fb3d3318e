//! The project as the rules see it: its files, and its crates.

use crate::command::cargo;
use crate::root;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Largest file that is read as text, bytes; anything above is no source of ours.
const TEXT_BYTES_MAX: u64 = 2 << 20;

/// A text file of the project.
pub(crate) struct File {
    /// Its path below the workspace, with `/`.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

/// A crate of the workspace.
pub(crate) struct Crate {
    /// Its name.
    pub(crate) name: String,
    /// The crates of the workspace it depends on, in any way.
    pub(crate) uses: Vec<String>,
    /// The root files of its library and its programs, below the workspace.
    pub(crate) roots: Vec<String>,
}

/// Everything a rule may look at.
#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
    pub(crate) crates: Vec<Crate>,
}

impl Tree {
    /// Reads the workspace.
    pub(crate) fn read() -> Result<Tree> {
        let workspace = root::workspace();
        let mut tree = Tree::default();
        read_files(&workspace, &workspace, &mut tree.files)?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree.crates = read_crates(&workspace)?;
        Ok(tree)
    }

    /// The Rust files.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The file of this path.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

fn read_files(workspace: &Path, directory: &Path, files: &mut Vec<File>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("failed to read {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let metadata = fs::symlink_metadata(&path)?;
        // In a second worktree `.git` is a file.
        if name == "target" || name == ".git" {
            continue;
        }
        if metadata.is_dir() {
            read_files(workspace, &path, files)?;
        } else if metadata.is_file()
            && metadata.len() <= TEXT_BYTES_MAX
            && let Ok(text) = fs::read_to_string(&path)
        {
            files.push(File { path: below(workspace, &path), text });
        }
    }
    Ok(())
}

fn read_crates(workspace: &Path) -> Result<Vec<Crate>> {
    let mut metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let output = metadata.output().context("failed to run cargo metadata")?;
    anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("failed to read cargo metadata")?;
    let packages = list(&metadata, "packages");
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let read = |package: &Value| Crate {
        name: package["name"].as_str().unwrap_or_default().to_owned(),
        uses: list(package, "dependencies")
            .iter()
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|name| names.contains(name))
            .map(str::to_owned)
            .collect(),
        roots: list(package, "targets")
            .iter()
            .filter(|target| {
                list(target, "kind").iter().any(|kind| matches!(kind.as_str(), Some("lib" | "bin")))
            })
            .filter_map(|target| target["src_path"].as_str())
            .map(|path| below(workspace, &PathBuf::from(path)))
            .collect(),
    };
    Ok(packages.iter().map(read).collect())
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn below(workspace: &Path, path: &Path) -> String {
    path.strip_prefix(workspace).unwrap_or(path).to_string_lossy().into_owned()
}
