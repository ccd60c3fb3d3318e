//! Which crate may use which: the tiers of ARCHITECTURE.md as data.

use super::Finding;
use super::tree::Tree;

const WORDS: &[&str] = &["model", "syscalls", "image", "wire", "control", "stub-abi"];
const CORE: &[&str] = &["migration", "forward", "balance", "membership", "instructions"];
const KERNEL_EDGE: &[&str] = &["kernel", "procinfo", "stub", "tracee"];

/// The crates of a tier, and the lists from which each of them may take.
const TIERS: &[(&[&str], &[&[&str]])] = &[
    (WORDS, &[WORDS]),
    (CORE, &[WORDS]),
    (KERNEL_EDGE, &[WORDS, KERNEL_EDGE]),
    (&["net"], &[WORDS]),
    (&["node", "lab"], &[WORDS, CORE, KERNEL_EDGE, &["net"]]),
    // It moves processes in labs by asking daemons, as tools do, and looks at what is left.
    (&["torture"], &[WORDS, KERNEL_EDGE, &["lab"]]),
    (&["omd"], &[&["model", "node"]]),
    // Making and joining a cluster is the library's; its tests speak to daemons directly.
    (&["om"], &[&["control", "image", "model", "lab", "net", "node", "torture", "wire"]]),
    (&["suite"], &[&["control", "model", "syscalls", "torture"]]),
    // A cluster of core machines in one process: it needs no kernel.
    (&["sim"], &[WORDS, CORE]),
    (&["xtask"], &[]),
];

/// Every edge between two crates of ours must be in [`TIERS`].
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in &tree.crates {
        let place = format!("crates/{}/Cargo.toml", member.name);
        let Some((_, allowed)) = TIERS.iter().find(|(tier, _)| tier.contains(&member.name.as_str())) else {
            findings.push(Finding::error(place, "the crate is in no tier (crates/xtask/src/tidy/edges.rs)"));
            continue;
        };
        for used in &member.uses {
            if !allowed.iter().any(|list| list.contains(&used.as_str())) {
                findings.push(Finding::error(&place, format!("'{}' may not use '{used}'", member.name)));
            }
        }
    }
    findings
}

/// Whether a crate may contain `unsafe`: the kernel edge, and the lab, which makes namespaces.
pub(super) fn may_be_unsafe(name: &str) -> bool {
    KERNEL_EDGE.contains(&name) || name == "lab"
}

/// Whether a crate is a core machine.
pub(super) fn is_core(name: &str) -> bool {
    CORE.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::super::tree::Crate;
    use super::*;

    fn check_edge(name: &str, used: &str, good: bool) {
        let member = Crate { name: name.to_owned(), uses: vec![used.to_owned()], roots: Vec::new() };
        let tree = Tree { crates: vec![member], ..Tree::default() };
        assert_eq!(check(&tree).is_empty(), good, "{name} -> {used}");
    }

    #[test]
    fn core_and_kernel_edge_never_see_each_other() {
        for core in CORE {
            for edge in KERNEL_EDGE {
                check_edge(core, edge, false);
                check_edge(edge, core, false);
            }
        }
    }

    #[test]
    fn tools_do_not_touch_the_kernel() {
        check_edge("om", "control", true);
        check_edge("om", "kernel", false);
        check_edge("omd", "node", true);
        check_edge("net", "wire", true);
        check_edge("net", "kernel", false);
        check_edge("model", "kernel", false);
        check_edge("newcomer", "model", false);
    }
}
