//! The page of what is supported, written from the table: `docs/syscalls.md`.

use crate::arg::Family;
use crate::command::commands;
use crate::route::{Effect, Route, Row};
use crate::table;
use std::fmt::Write as _;

const HEAD: &str = "\
# System calls

Where each call of a migrated process runs. Written from the table in `crates/syscalls`; `cargo test -p syscalls` tells
when it is out of date, and with `UPDATE_PAGES=1` in the environment brings it up to date.

| route | meaning |
|---|---|
| local | where the process is, natively |
| home | at its home node, by its deputy |
| home, may wait | the same, interruptible |
| special | by code of its own |
| goes home | the process comes home first and runs it there natively |
| obsolete | `ENOSYS`, as the kernel answers |

A call that is not listed goes home. So does a listed one whose arguments cannot be carried.
";

/// The whole page.
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    page.push_str(
        "\n## Calls by number\n\n| nr | call | route | also changes | note |\n|---:|---|---|---|---|\n",
    );
    for row in table::rows() {
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} |",
            row.nr,
            row.name,
            routes(row),
            effects(row),
            row.note
        );
    }
    page.push_str("\n## How many\n\n| route | calls |\n|---|---:|\n");
    for kind in ["local", "home", "home, may wait", "special", "goes home", "obsolete"] {
        let count = table::rows().filter(|row| words(row.route) == kind).count();
        let _ = writeln!(page, "| {kind} | {count} |");
    }
    for (title, family) in [
        ("ioctl requests", Family::Ioctl),
        ("fcntl commands", Family::Fcntl),
        ("prctl options", Family::Prctl),
    ] {
        let names: Vec<_> = commands(family).iter().map(|command| command.name).collect();
        let _ = write!(page, "\n## Known {title}\n\n{}\n", wrapped(&names));
    }
    page
}

fn words(route: Route) -> &'static str {
    match route {
        Route::Local => "local",
        Route::Home => "home",
        Route::HomeBlocking => "home, may wait",
        Route::Special(_) => "special",
        Route::GoHome => "goes home",
        Route::Obsolete => "obsolete",
    }
}

fn routes(row: &Row) -> String {
    let mut text = words(row.route).to_owned();
    for case in row.cases {
        let _ = write!(text, "; {} if {}", words(case.route), case.when.words);
    }
    text
}

fn effects(row: &Row) -> String {
    let names: Vec<_> = row.effects.iter().map(|&effect| effect_words(effect)).collect();
    names.join(", ")
}

fn effect_words(effect: Effect) -> &'static str {
    match effect {
        Effect::Descriptors => "descriptors",
        Effect::Directory => "directory",
        Effect::Credentials => "credentials",
        Effect::Processes => "processes",
        Effect::Session => "session",
        Effect::Memory => "memory",
        Effect::Signals => "signals",
        Effect::Limits => "limits",
        Effect::Mounts => "mounts",
        Effect::Node => "the node",
    }
}

/// Names in lines of a readable length.
fn wrapped(names: &[&str]) -> String {
    let mut text = String::new();
    let mut column = 0;
    for name in names {
        if column > 0 {
            text.push(if column + name.len() > 100 { '\n' } else { ' ' });
            column = if column + name.len() > 100 { 0 } else { column + 1 };
        }
        text.push_str(name);
        column += name.len();
    }
    text
}
