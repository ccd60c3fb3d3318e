//! The page as it is: what it says of entries whose record is not here stays.

use std::collections::HashMap;

/// The tables of a page.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// Rows of results that were counted, by whose tests they are and which.
    rows: HashMap<(String, String), Row>,
    /// Lines of each section, by its title, without blank ones at its ends.
    sections: HashMap<String, String>,
}

/// A row of results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// As it stands in the page.
    pub(crate) line: String,
    /// Tests that passed, found something missing, failed in peace, and moves.
    pub(crate) counts: [u64; 4],
}

impl Before {
    pub(crate) fn of(page: &str) -> Before {
        let mut before = Before::default();
        for section in page.split("\n## ").skip(1) {
            let (title, body) = section.split_once('\n').unwrap_or((section, ""));
            before.sections.insert(title.to_owned(), body.trim().to_owned());
        }
        let results = before.sections.get(super::page::RESULTS).cloned().unwrap_or_default();
        before.rows = results.lines().filter_map(row).collect();
        before
    }

    /// What it says of an entry; nothing if that has not been run.
    pub(crate) fn row(&self, group: &str, name: &str) -> Option<&Row> {
        self.rows.get(&(group.to_owned(), name.to_owned()))
    }

    /// What stands under a title.
    pub(crate) fn section(&self, title: &str) -> &str {
        self.sections.get(title).map_or("", String::as_str)
    }
}

/// A line of the results by the entry it is about; nothing if it counts nothing.
fn row(line: &str) -> Option<((String, String), Row)> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [group, name, _, ok, skipped, failed, moves, _] = cells[..] else { return None };
    if name.is_empty() {
        return None;
    }
    let count = |cell: &str| cell.parse().ok();
    let counts = [count(ok)?, count(skipped)?, count(failed)?, count(moves)?];
    Some(((group.to_owned(), name.to_owned()), Row { line: line.to_owned(), counts }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Tests\n\nWords.\n\n## Results\n\n\
        | whose tests | which | package | passed | skipped | failed in peace | moves | moved about |\n\
        |---|---|---|---:|---:|---:|---:|---|\n\
        | perl | t/op: files | perl (source) | 3458 | 14 | 0 | 54 | the same |\n\
        | redis | server | redis (source) | | | | | not run |\n\
        | all | | | 3458 | 14 | 0 | 54 | |\n\n\
        ## What brought processes home\n\n| call | times |\n|---|---:|\n| openat | 160 |\n\n## Left out\n";

    #[test]
    fn only_what_was_counted_is_a_row() {
        let before = Before::of(PAGE);
        let row = before.row("perl", "t/op: files").unwrap();
        assert_eq!(row.counts, [3458, 14, 0, 54]);
        assert_eq!(row.line, "| perl | t/op: files | perl (source) | 3458 | 14 | 0 | 54 | the same |");
        assert_eq!(before.row("redis", "server"), None);
        assert_eq!(before.row("all", ""), None);
        assert_eq!(before.rows.len(), 1);
    }

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let before = Before::of(PAGE);
        let wanted = "| call | times |\n|---|---:|\n| openat | 160 |";
        assert_eq!(before.section("What brought processes home"), wanted);
        assert_eq!(before.section("Left out"), "");
        assert_eq!(before.section("nothing of the kind"), "");
    }
}
