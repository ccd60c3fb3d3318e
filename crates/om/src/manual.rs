//! Manual pages and completions, made from the very declarations that parse the command lines.

use crate::arguments::{Listing, Migrate, Mosctl, Mosrun, Om, Screen, Setpe, Tune, Wrapper};
use crate::exit::Failure;
use crate::wrappers::WRAPPERS;
use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use std::path::Path;

/// Every tool under the name that it is called by.
fn tools() -> Vec<Command> {
    let named = |command: Command, name: &'static str| command.name(name).display_name(name);
    let mut tools = vec![
        Om::command(),
        named(Mosrun::command(), "mosrun"),
        named(Migrate::command(), "migrate"),
        named(Mosctl::command(), "mosctl"),
        named(Screen::command(), "mosmon").about("Show the nodes as bars, full-screen"),
        named(Screen::command(), "mtop").about("Show the processes that were moved, full-screen"),
        named(Listing::command(), "mps"),
        named(Listing::command(), "showmap").about("Show the cluster as a map of ids and addresses"),
        named(Setpe::command(), "setpe"),
        named(Tune::command(), "tune"),
    ];
    tools.extend(WRAPPERS.iter().map(|(name, .., about)| named(Wrapper::command(), name).about(*about)));
    tools
}

/// The pages, by name: `om-lab-up` for `om lab up`, which is what clap calls it when it has built the tree.
fn pages() -> Vec<(String, Command)> {
    fn collect(command: &Command, pages: &mut Vec<(String, Command)>) {
        let inner = command.get_subcommands().filter(|inner| inner.get_name() != "help");
        inner.for_each(|inner| collect(inner, pages));
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        pages.push((name.to_owned(), command.clone()));
    }
    let mut pages = Vec::new();
    for mut tool in tools() {
        tool.build();
        collect(&tool, &mut pages);
    }
    pages
}

/// Writes a page for each tool and each subcommand.
pub(crate) fn write(directory: &Path) -> Result<(), Failure> {
    let failed = || format!("failed to write into {}", directory.display());
    std::fs::create_dir_all(directory).with_context(failed)?;
    let pages = pages();
    for (name, command) in &pages {
        let mut text = Vec::new();
        let source = concat!("openMosix ", env!("CARGO_PKG_VERSION"));
        let page = Man::new(command.clone()).title(name.to_uppercase()).section("1").source(source);
        page.render(&mut text).with_context(failed)?;
        std::fs::write(directory.join(format!("{name}.1")), text).with_context(failed)?;
    }
    println!("{} pages", pages.len());
    Ok(())
}

/// Prints a script that completes the command lines of all tools.
pub(crate) fn complete(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    // A script for zsh and some others is a file for one program.
    let all = matches!(shell, clap_complete::Shell::Bash | clap_complete::Shell::Fish);
    for mut tool in tools().into_iter().take(if all { usize::MAX } else { 1 }) {
        let name = tool.get_name().to_owned();
        clap_complete::generate(shell, &mut tool, name, &mut script);
    }
    crate::commands::print(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_and_every_subcommand_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path()).unwrap();
        let page = |name: &str| std::fs::read_to_string(directory.path().join(format!("{name}.1")));
        let mut om = Om::command();
        om.build();
        let mut expected = vec!["om".to_owned(), "mosrun".to_owned(), "mosctl".to_owned(), "mtop".to_owned()];
        for inner in om.get_subcommands().filter(|inner| inner.get_name() != "help") {
            expected.push(format!("om-{}", inner.get_name()));
            let deeper = inner.get_subcommands().filter(|deeper| deeper.get_name() != "help");
            expected.extend(deeper.map(|deeper| format!("om-{}-{}", inner.get_name(), deeper.get_name())));
        }
        expected.extend(WRAPPERS.iter().map(|(name, ..)| (*name).to_owned()));
        assert!(expected.len() > 30, "{expected:?}");
        for name in expected {
            let text = page(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{name}: {text}");
        }
        assert!(page("mosrun").unwrap().contains("rerun"));
    }

    #[test]
    fn the_declarations_hold() {
        for tool in tools() {
            tool.debug_assert();
        }
    }
}
