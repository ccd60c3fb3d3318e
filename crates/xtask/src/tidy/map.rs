//! ARCHITECTURE.md is a map: it names every crate, and every crate it names exists.

use super::Finding;
use super::tree::Tree;

const MAP: &str = "ARCHITECTURE.md";

/// The rows of the map's tables that begin with a name in backticks are its crates.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(map) = tree.file(MAP) else {
        return vec![Finding::error(MAP, "is missing")];
    };
    let named = named(&map.text);
    let missing = tree.crates.iter().filter(|member| !named.contains(&member.name.as_str()));
    let invented = named.iter().filter(|name| !tree.crates.iter().any(|member| member.name == **name));
    missing
        .map(|member| Finding::error(MAP, format!("does not name the crate '{}'", member.name)))
        .chain(
            invented.map(|name| Finding::error(MAP, format!("names a crate '{name}' that does not exist"))),
        )
        .collect()
}

fn named(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_begin_with_a_name_are_crates() {
        assert_eq!(named("# x\n| `model` | ids |\n| a `b` | c |\n|---|\n| `om` | `x` |\n"), ["model", "om"]);
    }
}
