//! The tables of docs/compatibility.md.

use crate::record::Record;
use std::collections::BTreeMap;
use suite::compat::{Entry, LeftOut, STRESSORS_LEFT_OUT};

type Row<'a> = (&'a Entry, Option<Record>);

/// Prints all of them.
pub(crate) fn print(rows: &[Row<'_>]) {
    results(rows);
    home_comings(rows);
    refusals(rows);
    left_out(rows);
}

fn results(rows: &[Row<'_>]) {
    println!("## Results\n");
    println!("| whose tests | which | package | passed | skipped | failed in peace | moves | moved about |");
    println!("|---|---|---|---:|---:|---:|---:|---|");
    let mut sums = (0, 0, 0, 0);
    for (entry, record) in rows {
        let Entry { group, name, package, .. } = entry;
        let Some(record) = record else {
            println!("| {group} | {name} | {package} | | | | | not run |");
            continue;
        };
        let (ok, skipped, failed) = record.ends;
        sums = (sums.0 + ok, sums.1 + skipped, sums.2 + failed, sums.3 + record.moves);
        let verdict = match (record.same, entry.differs) {
            _ if ok == 0 => "**no test passed in peace**".to_owned(),
            (true, _) => "the same".to_owned(),
            (false, Some(cause)) => format!("differs: {cause}"),
            (false, None) => "**differs**".to_owned(),
        };
        let moves = record.moves;
        println!("| {group} | {name} | {package} | {ok} | {skipped} | {failed} | {moves} | {verdict} |");
    }
    println!("| all | | | {} | {} | {} | {} | |\n", sums.0, sums.1, sums.2, sums.3);
}

fn home_comings(rows: &[Row<'_>]) {
    println!("## What brought processes home\n");
    println!("| call or cause | times | most of them in | why |\n|---|---:|---|---|");
    for (cause, (times, most)) in ranked(rows, |record| &record.home_comings) {
        println!("| {cause} | {times} | {most} | {} |", why(&cause));
    }
    println!();
}

fn refusals(rows: &[Row<'_>]) {
    println!("## Why a process did not move\n");
    println!("| reason | times | most of them in |\n|---|---:|---|");
    for (cause, (times, most)) in ranked(rows, |record| &record.refusals) {
        println!("| {cause} | {times} | {most} |");
    }
    println!();
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

fn left_out(rows: &[Row<'_>]) {
    println!("## Left out\n");
    println!("| whose tests | which | left out | why |\n|---|---|---|---|");
    let told = |group: &str, name: &str, left_out: &LeftOut| {
        let tests: Vec<_> = left_out.tests.iter().map(|test| format!("`{test}`")).collect();
        println!("| {group} | {name} | {} | {} |", tests.join(", "), left_out.why);
    };
    for (entry, _) in rows {
        entry.left_out.iter().for_each(|left_out| told(entry.group, entry.name, left_out));
    }
    STRESSORS_LEFT_OUT.iter().for_each(|left_out| told("stress-ng", "", left_out));
}
