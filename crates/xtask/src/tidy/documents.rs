//! Decisions are numbered without holes, and links between documents lead somewhere.

use super::Finding;
use super::tree::{File, Tree};
use crate::root;

const DECISIONS: &str = "docs/decisions/";

/// Both rules.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = decisions(tree);
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        findings.extend(links(file));
    }
    findings
}

fn decisions(tree: &Tree) -> Vec<Finding> {
    let files = tree.files.iter().filter_map(|file| file.path.strip_prefix(DECISIONS));
    // The tree is sorted by path, so the numbers come in order.
    files
        .zip(1..)
        .filter(|(name, number)| !name.starts_with(&format!("{number:04}-")))
        .map(|(name, number)| {
            Finding::error(format!("{DECISIONS}{name}"), format!("should be number {number:04}"))
        })
        .collect()
}

fn links(file: &File) -> Vec<Finding> {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let folder = root::workspace().join(folder);
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for target in targets(line) {
            if !folder.join(target).exists() {
                let place = format!("{}:{}", file.path, index + 1);
                findings.push(Finding::error(place, format!("the link to '{target}' leads nowhere")));
            }
        }
    }
    findings
}

/// The relative links of a line, without their fragments.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', ' ']).next()?;
        let path = target.split('#').next()?;
        (!path.is_empty() && !target.contains("://") && !target.starts_with("mailto:")).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_links_are_followed() {
        let line = "see [a](b.md#c), [d](#e), [f](https://example.org/g) and [h](docs/i.md)";
        assert_eq!(targets(line).collect::<Vec<_>>(), ["b.md", "docs/i.md"]);
    }
}
