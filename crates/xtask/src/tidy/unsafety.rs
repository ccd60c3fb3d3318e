//! `unsafe` lives at the kernel edge only, and each use says why it is sound. Core machines read no clock.

use super::Finding;
use super::edges::{is_core, may_be_unsafe};
use super::tree::{File, Tree};

/// How far above an unsafe block its reason may begin.
const LINES_ABOVE: usize = 8;

/// What a core machine never touches; time and chance are arguments there.
const WORLD: &[&str] =
    &["Instant::now", "SystemTime", "std::fs", "std::net", "std::process", "std::thread", "rand::rng"];

/// Looks at the text, so that the stub's blob and test files are seen too, which the lints do not reach.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in tree.crates.iter().filter(|member| !may_be_unsafe(&member.name)) {
        for root in &member.roots {
            let forbids = tree.file(root).is_some_and(|file| file.text.contains("#![forbid(unsafe_code)]"));
            if !forbids {
                findings.push(Finding::error(root, "lacks #![forbid(unsafe_code)]"));
            }
        }
    }
    for file in tree.rust() {
        let owner =
            file.path.strip_prefix("crates/").and_then(|path| path.split('/').next()).unwrap_or_default();
        // Tests compare with the real kernel, whatever they test.
        let tests = file.path.contains("/tests/");
        check_unsafe(file, may_be_unsafe(owner) || tests, &mut findings);
        if is_core(owner) && !tests {
            check_world(file, &mut findings);
        }
    }
    findings
}

fn check_unsafe(file: &File, allowed: bool, findings: &mut Vec<Finding>) {
    let lines: Vec<&str> = file.text.lines().collect();
    for index in (0..lines.len()).filter(|index| uses_unsafe(lines[*index])) {
        let place = format!("{}:{}", file.path, index + 1);
        if !allowed {
            findings.push(Finding::error(place, "unsafe outside the kernel edge"));
        } else if !lines[index.saturating_sub(LINES_ABOVE)..=index].iter().any(|line| line.contains("SAFETY"))
        {
            findings.push(Finding::error(place, "unsafe without a SAFETY line"));
        }
    }
}

fn check_world(file: &File, findings: &mut Vec<Finding>) {
    // Tests of a core crate may do as they like.
    let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
    for (index, line) in code.lines().enumerate() {
        for word in WORLD.iter().filter(|word| line.contains(**word) && !line.trim_start().starts_with("//"))
        {
            findings.push(Finding::error(
                format!("{}:{}", file.path, index + 1),
                format!("'{word}' in a core machine"),
            ));
        }
    }
}

/// A block, an implementation, or something that C calls or defines; the words in comments, strings and attributes do not count.
fn uses_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let quoted = |at: usize| code[..at].matches('"').count() % 2 == 1;
    ["unsafe {", "unsafe impl", "unsafe extern"]
        .iter()
        .any(|form| code.find(form).is_some_and(|at| !quoted(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str, allowed: bool, count: usize) {
        let mut findings = Vec::new();
        check_unsafe(&File { path: "x.rs".into(), text: text.into() }, allowed, &mut findings);
        assert_eq!(findings.len(), count, "{text}");
    }

    #[test]
    fn blocks_need_a_reason_and_a_place() {
        let reasoned = "// SAFETY: nobody else has it\nlet x = unsafe { read() };";
        check_text(reasoned, true, 0);
        check_text(reasoned, false, 1);
        check_text("let x = unsafe { read() };", true, 1);
        check_text("unsafe extern \"C\" {", true, 1);
        check_text("// unsafe { } is told about here\nlet s = \"unsafe { }\";", false, 0);
    }
}
