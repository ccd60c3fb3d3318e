//! `om log`: what happened to processes and nodes, and why.

use crate::arguments::Log;
use crate::client::{Client, unexpected};
use crate::commands::show;
use crate::exit::Failure;
use crate::tables::size;
use control::{Answer, Book, Cursor, FailureKind, Record, Request, UsedAway, What};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often it is looked for news.
const EVERY: Duration = Duration::from_millis(500);

pub(crate) fn run(arguments: &Log) -> Result<(), Failure> {
    let since_ms = arguments.since.map_or(0, |Since(ms)| ms);
    let mut client = Client::connect(&arguments.common.socket)?;
    let mut after = None;
    loop {
        match page(&mut client, arguments, since_ms, &mut after) {
            Ok(true) => continue,
            Ok(false) if !arguments.follow => return Ok(()),
            Ok(false) => std::thread::sleep(EVERY),
            // A daemon that is started again goes on with the same log.
            Err(failure) if arguments.follow && after.is_some() && failure.kind == FailureKind::Broken => {
                client = reconnect(arguments);
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Prints the records after a place; whether there are more.
fn page(
    client: &mut Client,
    arguments: &Log,
    since_ms: u64,
    after: &mut Option<Cursor>,
) -> Result<bool, Failure> {
    let book = if arguments.ended { Book::Ends } else { Book::Causes };
    let request = Request::Log { since_ms, pid: arguments.pid, after: *after, book };
    let Answer::Log { records, next, more } = client.ask(&request)? else { return Err(unexpected()) };
    *after = Some(next);
    for record in &records {
        show(arguments.common.json, record, || line(record))?;
    }
    Ok(more)
}

fn reconnect(arguments: &Log) -> Client {
    loop {
        std::thread::sleep(EVERY);
        if let Ok(client) = Client::connect(&arguments.common.socket) {
            return client;
        }
    }
}

/// A record as one line.
fn line(record: &Record) -> String {
    let mut line = format!("{}  {:<13}", time(record.at_ms), word(record.what));
    if let Some(pid) = record.pid {
        line.push_str(&format!("  {pid} {}", record.name.replace('\n', "?")));
    }
    if let Some(node) = record.node {
        line.push_str(&format!("  node {node}"));
    }
    if !record.cause.is_empty() {
        line.push_str(&format!("  {}", record.cause.replace('\n', " ")));
    }
    if let Some(UsedAway { cpu_ms, moves, forwarded, carried_bytes }) = record.used {
        line.push_str(&format!(
            "  {}.{:02} s of CPU time away, {moves} {}, {forwarded} {} done at home, {}",
            cpu_ms / 1000,
            cpu_ms % 1000 / 10,
            plural(moves, "move", "moves"),
            plural(forwarded, "call", "calls"),
            size(carried_bytes)
        ));
    }
    line.push('\n');
    line
}

fn plural(count: u64, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

fn word(what: What) -> &'static str {
    match what {
        What::Moved => "moved",
        What::Balanced => "balanced",
        What::NotMoved => "not moved",
        What::CameHome => "came home",
        What::Lost => "lost",
        What::Killed => "killed",
        What::GuestArrived => "guest arrived",
        What::GuestGone => "guest gone",
        What::GuestLost => "guest lost",
        What::Ended => "ended",
        What::NodeJoined => "node joined",
        What::NodeLost => "node lost",
        What::NodeChanged => "node changed",
        What::Switched => "switched",
        What::Started => "started",
        What::Stopped => "stopped",
    }
}

const DAY_SECONDS: i64 = 86_400;

/// A time in UTC as `2026-11-26T18:20:01Z`.
fn time(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    let (year, month, day) = date(seconds.div_euclid(DAY_SECONDS));
    let second = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar: whole eras of 400 years, counted from a
/// 1 March, so that the day that not every year has is a year's last (H. Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let year = year + era * 400 + i64::from(month >= 10);
    (year, if month < 10 { month + 3 } else { month - 9 }, day - (153 * month + 2) / 5 + 1)
}

/// A time in the past, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Since(u64);

impl std::str::FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Since, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        since(text, now).map(Since).ok_or_else(|| {
            format!("'{text}' is no time: write 30s, 10m, 2h or 3d for so long ago, or @SECONDS since 1970")
        })
    }
}

fn since(text: &str, now_ms: u64) -> Option<u64> {
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds.parse::<u64>().ok()?.checked_mul(1000);
    }
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => DAY_SECONDS as u64,
        _ => return None,
    };
    Some(now_ms.saturating_sub(number.parse::<u64>().ok()?.checked_mul(seconds * 1000)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
        ] {
            assert_eq!(time(seconds * 1000), text);
        }
        assert!(!time(u64::MAX).is_empty());
    }

    #[test]
    fn past_times_are_read_as_people_write_them() {
        let now = 1_000_000_000;
        for (text, expected) in [
            ("30s", Some(now - 30_000)),
            ("10m", Some(now - 600_000)),
            ("2h", Some(now - 7_200_000)),
            ("3d", Some(now - 259_200_000)),
            ("99999d", Some(0)),
            ("@7", Some(7000)),
            ("", None),
            ("7", None),
            ("-1s", None),
            ("5\u{fc}", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(since(text, now), expected, "{text}");
        }
    }

    #[test]
    fn an_end_tells_what_was_used_away() {
        let process = model::ProcessId { pid: 4711, start_ticks: 1 };
        let used = UsedAway { cpu_ms: 61_250, moves: 1, forwarded: 20, carried_bytes: 2048 };
        let record = Record::at(0, What::Ended).process(process, "cc1").used(used);
        assert_eq!(
            line(&record),
            "1970-01-01T00:00:00Z  ended          4711 cc1  61.25 s of CPU time away, 1 move, 20 calls done at home, 2 KiB\n"
        );
    }

    #[test]
    fn a_record_is_one_line_whatever_is_in_it() {
        let process = model::ProcessId { pid: 4711, start_ticks: 1 };
        let record = Record::at(0, What::Lost).process(process, "a\nb").cause("its\nhost");
        assert_eq!(line(&record), "1970-01-01T00:00:00Z  lost           4711 a?b  its host\n");
    }
}
