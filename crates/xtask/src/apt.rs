//! What Debian has, fetched without changing this machine's apt: the list of places and what apt learns by it are in
//! directories of ours.

use crate::command::{have, must};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An apt of ours.
pub(crate) struct Apt {
    work: PathBuf,
}

impl Apt {
    /// One that works in a directory and knows what this machine's places have of a kind, `deb` or `deb-src`; without the
    /// updates of the release where these are not wanted.
    pub(crate) fn open(work: &Path, kind: &str, with_updates: bool) -> Result<Apt> {
        ensure!(have("apt-get"), "this is no Debian");
        fs::create_dir_all(work.join("lists/partial")).context("failed to make a directory for apt")?;
        let apt = Apt { work: work.to_owned() };
        fs::write(apt.list(), places(kind, with_updates)?).context("failed to write the list of places")?;
        must(apt.command("apt-get").arg("update"))?;
        Ok(apt)
    }

    fn list(&self) -> PathBuf {
        self.work.join("sources.list")
    }

    /// `apt-get` or one of its kin, in the directory; what it fetches is left there.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.work).arg("-qq");
        for option in [
            format!("Dir::Etc::sourcelist={}", self.list().display()),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={}", self.work.join("lists").display()),
            format!("Dir::Cache={}", self.work.display()),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    /// The file of the directory whose name is liked.
    pub(crate) fn fetched(&self, is_liked: impl Fn(&str) -> bool) -> Result<PathBuf> {
        let entries = fs::read_dir(&self.work).context("failed to see what apt fetched")?.flatten();
        let mut paths = entries.map(|entry| entry.path());
        let named = |path: &PathBuf| is_liked(&path.file_name().unwrap_or_default().to_string_lossy());
        paths.find(named).context("apt fetched nothing of that name")
    }
}

/// The places of this machine's packages. Of the release itself alone where sources are wanted, which not every mirror has
/// of its updates.
fn places(kind: &str, with_updates: bool) -> Result<String> {
    let format = format!("{kind} $(REPO_URI) $(RELEASE) $(COMPONENT)");
    let asked = ["indextargets", "--format", &format, "Created-By: Packages"];
    let told = Command::new("apt-get").args(asked).output().context("failed to start apt-get")?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let is_wanted =
        |line: &&str| with_updates || line.split(' ').nth(2).is_some_and(|release| !release.contains('-'));
    let lines: BTreeSet<&str> = told.lines().filter(is_wanted).collect();
    ensure!(!lines.is_empty(), "apt knows no place of packages");
    Ok(lines.into_iter().map(|line| format!("{line}\n")).collect())
}
