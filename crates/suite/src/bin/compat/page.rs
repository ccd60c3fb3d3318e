//! The tables of docs/compatibility.md.

use crate::before::{Before, Row as Kept};
use crate::record::Record;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use suite::compat::{Entry, LeftOut, STRESSORS_LEFT_OUT};

/// The title of the table with a row for each entry.
pub(crate) const RESULTS: &str = "Results";
const HOME_COMINGS: &str = "What brought processes home";
const REFUSALS: &str = "Why a process did not move";
const LEFT_OUT: &str = "Left out";

type Row<'a> = (&'a Entry, Option<Record>);

/// All of them. What has no record stays as the page has it; so do the sums of causes then, of which it is a part that
/// nobody can tell apart.
pub(crate) fn tables(rows: &[Row<'_>], before: &Before) -> String {
    let counted =
        |(entry, record): &Row<'_>| record.is_some() || before.row(entry.group, entry.name).is_none();
    let all_counted = rows.iter().all(counted);
    let sums = |title, made: String| if all_counted { made } else { before.section(title).to_owned() };
    let sections = [
        (RESULTS, results(rows, before)),
        (HOME_COMINGS, sums(HOME_COMINGS, home_comings(rows))),
        (REFUSALS, sums(REFUSALS, refusals(rows))),
        (LEFT_OUT, left_out(rows)),
    ];
    let told: Vec<_> =
        sections.iter().map(|(title, table)| format!("## {title}\n\n{}\n", table.trim())).collect();
    told.join("\n")
}

fn results(rows: &[Row<'_>], before: &Before) -> String {
    let mut table =
        "| whose tests | which | package | passed | skipped | failed in peace | moves | moved about |\n\
                     |---|---|---|---:|---:|---:|---:|---|\n"
            .to_owned();
    let mut sums = [0; 4];
    for (entry, record) in rows {
        let row = match record {
            Some(record) => Some(counted(entry, record)),
            None => before.row(entry.group, entry.name).cloned(),
        };
        let Some(Kept { line, counts }) = row else {
            let Entry { group, name, package, .. } = entry;
            _ = writeln!(table, "| {group} | {name} | {package} | | | | | not run |");
            continue;
        };
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        table += &(line + "\n");
    }
    let [ok, skipped, failed, moves] = sums;
    _ = writeln!(table, "| all | | | {ok} | {skipped} | {failed} | {moves} | |");
    table
}

/// The row of an entry that has a record.
fn counted(entry: &Entry, record: &Record) -> Kept {
    let Entry { group, name, package, .. } = entry;
    let ((ok, skipped, failed), moves) = (record.ends, record.moves);
    let verdict = match (record.same, record.as_known) {
        _ if ok == 0 => "**no test passed in peace**".to_owned(),
        (true, _) => "the same".to_owned(),
        (false, true) => format!("differs: {}", entry.why_it_differs()),
        (false, false) => "**differs**".to_owned(),
    };
    let line =
        format!("| {group} | {name} | {package} | {ok} | {skipped} | {failed} | {moves} | {verdict} |");
    Kept { line, counts: [ok, skipped, failed, moves] }
}

fn home_comings(rows: &[Row<'_>]) -> String {
    let mut table = "| call or cause | times | most of them in | why |\n|---|---:|---|---|\n".to_owned();
    for (cause, (times, most)) in ranked(rows, |record| &record.home_comings) {
        _ = writeln!(table, "| {cause} | {times} | {most} | {} |", why(&cause));
    }
    table
}

fn refusals(rows: &[Row<'_>]) -> String {
    let mut table = "| reason | times | most of them in |\n|---|---:|---|\n".to_owned();
    for (cause, (times, most)) in ranked(rows, |record| &record.refusals) {
        _ = writeln!(table, "| {cause} | {times} | {most} |");
    }
    table
}

/// Each cause with its sum and the entry that counted most of it; the most frequent first.
fn ranked(
    rows: &[Row<'_>],
    counts: impl Fn(&Record) -> &BTreeMap<String, u64>,
) -> Vec<(String, (u64, String))> {
    let mut sums: BTreeMap<String, (u64, u64, String)> = BTreeMap::new();
    for (entry, record) in rows {
        for (cause, times) in record.iter().flat_map(&counts) {
            let (sum, most, place) = sums.entry(cause.clone()).or_default();
            *sum += times;
            if times > most {
                (*most, *place) = (*times, format!("{} {}", entry.group, entry.name));
            }
        }
    }
    let mut ranked: Vec<_> = sums.into_iter().map(|(cause, (sum, _, place))| (cause, (sum, place))).collect();
    ranked.sort_by_key(|(_, (sum, _))| std::cmp::Reverse(*sum));
    ranked
}

/// The note of the call's row in the table of system calls.
fn why(cause: &str) -> String {
    syscalls::rows().find(|row| row.name == cause).map_or_else(String::new, |row| row.note.to_owned())
}

fn left_out(rows: &[Row<'_>]) -> String {
    let mut table = "| whose tests | which | left out | why |\n|---|---|---|---|\n".to_owned();
    let mut told = |group: &str, name: &str, left_out: &LeftOut| {
        let tests: Vec<_> = left_out.tests.iter().map(|test| format!("`{test}`")).collect();
        _ = writeln!(table, "| {group} | {name} | {} | {} |", tests.join(", "), left_out.why);
    };
    for (entry, _) in rows {
        entry.left_out.iter().for_each(|left_out| told(entry.group, entry.name, left_out));
    }
    STRESSORS_LEFT_OUT.iter().for_each(|left_out| told("stress-ng", "", left_out));
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use suite::compat;

    fn record(ok: u64, cause: &str) -> Record {
        let causes = BTreeMap::from([(cause.to_owned(), 1)]);
        let (refusals, home_comings) = (causes.clone(), causes);
        Record { ends: (ok, 0, 0), same: true, as_known: true, moves: 1, refusals, home_comings }
    }

    /// A page of which nothing is counted anew is the page that it was; one row anew changes that row and the sum.
    #[test]
    fn what_has_no_record_stays() {
        let mut rows: Vec<Row<'_>> =
            compat::entries().map(|entry| (entry, Some(record(5, "mmap")))).collect();
        let first = format!("Words.\n\n{}", tables(&rows, &Before::default()));
        assert!(first.contains("| mmap |"), "{first}");
        rows.iter_mut().for_each(|(_, record)| *record = None);
        let unchanged = format!("Words.\n\n{}", tables(&rows, &Before::of(&first)));
        assert_eq!(unchanged, first);

        rows[0].1 = Some(record(7, "openat"));
        let second = format!("Words.\n\n{}", tables(&rows, &Before::of(&first)));
        let changed: Vec<_> = second.lines().zip(first.lines()).filter(|(new, old)| new != old).collect();
        let [(row, _), (sum, _)] = changed[..] else { panic!("{changed:?}") };
        let count = rows.len() as u64;
        assert!(row.contains(rows[0].0.name) && row.contains("| 7 |"), "{row}");
        assert_eq!(sum, format!("| all | | | {} | 0 | 0 | {count} | |", 5 * (count - 1) + 7));
    }

    #[test]
    fn what_was_never_run_says_so() {
        let rows: Vec<Row<'_>> = compat::entries().map(|entry| (entry, None)).collect();
        let made = tables(&rows, &Before::default());
        assert_eq!(made.matches("| not run |").count(), rows.len());
        assert!(made.contains("| all | | | 0 | 0 | 0 | 0 | |"), "{made}");
    }
}
