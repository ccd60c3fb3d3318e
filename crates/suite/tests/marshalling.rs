//! Each forwarded row of the table with arguments drawn by chance, good and bad: results, errnos and memory are those of
//! a process that never moved.
//!
//! The guest learns the rows from the table itself, so a new row is covered without a line here. Both runs are on the first
//! node of the lab: same files, same rights, and whatever a call does happens in there.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use std::fmt::Write as _;
use std::process::ExitCode;
use suite::{Cluster, Input, Place, Run, SOON, is_long, main as run, trial};
use syscalls::{Arg, Back, Effect, Family, Route, Row, Span, command};

/// Calls of each row with each seed.
const CALLS: u32 = 24;
const SEEDS: std::ops::RangeInclusive<u64> = 1..=2;
const SEEDS_LONG: std::ops::RangeInclusive<u64> = 1..=20;
/// Differences that a failure tells.
const TOLD_MAX: usize = 60;

const OTHERS: &str = "it acts upon processes by number";
const OUTLIVES: &str = "what it makes outlives the guest";
const WHOLE: &str = "it acts upon the whole machine";

/// Rows that are not tried, with the reason; beside these, all that change mounts or the node.
const LEFT_OUT: &[(&str, &str)] = &[
    ("kill", OTHERS),
    ("tkill", OTHERS),
    ("tgkill", OTHERS),
    ("rt_sigqueueinfo", OTHERS),
    ("rt_tgsigqueueinfo", OTHERS),
    ("pidfd_send_signal", OTHERS),
    ("sched_setscheduler", "a real-time process may take the CPU from all others"),
    ("sched_setattr", "a real-time process may take the CPU from all others"),
    ("semget", OUTLIVES),
    ("msgget", OUTLIVES),
    ("mq_open", OUTLIVES),
    ("add_key", OUTLIVES),
    ("request_key", OUTLIVES),
    ("setrlimit", "a limit of its CPU time, drawn by chance, ends the guest some time later"),
    ("prlimit64", "a limit of its CPU time, drawn by chance, ends the guest some time later"),
    ("sync", WHOLE),
    ("syncfs", WHOLE),
    ("syslog", WHOLE),
    ("vhangup", "it hangs up the terminal of whoever runs the tests"),
];

/// Commands of the families that are tried; the others act upon file systems, terminals, devices or signals, or wait.
const COMMANDS: &[&str] = &[
    "FIONREAD",
    "FIONBIO",
    "FIOCLEX",
    "FIONCLEX",
    "FIGETBSZ",
    "F_DUPFD",
    "F_GETFD",
    "F_SETFD",
    "F_GETFL",
    "F_GETLK",
    "F_SETLK",
    "F_GETOWN",
    "F_GETSIG",
    "F_GETOWN_EX",
    "F_GETOWNER_UIDS",
    "F_OFD_GETLK",
    "F_OFD_SETLK",
    "F_GETLEASE",
    "F_DUPFD_QUERY",
    "F_CREATED_QUERY",
    "F_DUPFD_CLOEXEC",
    "F_SETPIPE_SZ",
    "F_GETPIPE_SZ",
    "F_ADD_SEALS",
    "F_GET_SEALS",
    "F_GET_RW_HINT",
    "F_SET_RW_HINT",
    "F_GET_FILE_RW_HINT",
    "F_SET_FILE_RW_HINT",
];

const NUMBERS: &str = "processes have other numbers each time";
const USAGE: &str = "time and memory used, and what is free, change all the time";
const FILES: &str = "inodes, devices and times of files differ each time";

/// Rows whose outputs are their own each time: only errors, and the memory beside the outputs, are compared.
const OWN: &[(&str, &str)] = &[
    ("stat", FILES),
    ("fstat", FILES),
    ("lstat", FILES),
    ("newfstatat", FILES),
    ("statx", FILES),
    ("getdents", FILES),
    ("getdents64", FILES),
    ("name_to_handle_at", FILES),
    ("ustat", USAGE),
    ("statfs", USAGE),
    ("fstatfs", USAGE),
    ("cachestat", USAGE),
    ("getrusage", USAGE),
    ("sysinfo", USAGE),
    ("times", USAGE),
    ("alarm", USAGE),
    ("timer_settime", USAGE),
    ("timer_gettime", USAGE),
    ("timerfd_settime", USAGE),
    ("timerfd_gettime", USAGE),
    ("getcwd", "each run has a directory of its own"),
    ("getppid", NUMBERS),
    ("getpgrp", NUMBERS),
    ("getpgid", NUMBERS),
    ("getsid", NUMBERS),
    ("setsid", NUMBERS),
];

/// Known differences: what these rows write is never given read-only memory.
const NEVER_READ_ONLY: &[(&str, &str)] =
    &[("name_to_handle_at", "EFAULT for the mount's number comes before all other errors")];

/// Rows that are never given `/dev/zero`: how much of it the kernel takes at a time depends on the pages that it gets at
/// once, and the offset that it writes back, and how much a pipe takes, depend on that.
const NEVER_ZERO: &[&str] = &["sendfile", "splice"];

/// What becomes of an argument that may not be drawn freely.
#[derive(Clone, Copy)]
enum Keep {
    /// It has this value.
    Is(u64),
    /// It has these bits beside those that are drawn.
    With(u64),
}

/// Oneself, not others by number.
const ONESELF: Keep = Keep::Is(0);

/// Arguments by row and place.
const KEPT: &[(&str, usize, Keep)] = &[
    ("getpriority", 0, Keep::Is(0)),
    ("getpriority", 1, ONESELF),
    ("setpriority", 0, Keep::Is(0)),
    ("setpriority", 1, ONESELF),
    ("sched_setparam", 0, ONESELF),
    ("sched_getparam", 0, ONESELF),
    ("sched_getscheduler", 0, ONESELF),
    ("sched_getattr", 0, ONESELF),
    ("sched_rr_get_interval", 0, ONESELF),
    ("sched_setaffinity", 0, ONESELF),
    ("sched_getaffinity", 0, ONESELF),
    ("ioprio_set", 0, Keep::Is(1)),
    ("ioprio_set", 1, ONESELF),
    ("ioprio_get", 0, Keep::Is(1)),
    ("ioprio_get", 1, ONESELF),
    ("setpgid", 0, ONESELF),
    ("getpgid", 0, ONESELF),
    ("getsid", 0, ONESELF),
    // Any process may have any number at the time.
    ("pidfd_open", 0, Keep::Is(0)),
    // Any device may have a file system at the time, but this one, which is none.
    ("ustat", 0, Keep::Is(0)),
    // LOCK_NB.
    ("flock", 1, Keep::With(4)),
    // None that the guest needs.
    ("close_range", 0, Keep::With(1024)),
];

fn main() -> ExitCode {
    let seeds = if is_long() { SEEDS_LONG } else { SEEDS };
    let mut trials =
        vec![trial("exceptions-are-forwarded-rows", &[], || exceptions_are_forwarded_rows(&lines(1)))];
    trials
        .extend(seeds.map(|seed| trial(format!("seed-{seed}"), &["cc"], move || same_away_as_at_home(seed))));
    run(trials)
}

/// An exception that no row needs any more is a mistake.
fn exceptions_are_forwarded_rows(lines: &[Line]) -> Result<()> {
    for name in OWN.iter().map(|(name, _)| *name).chain(KEPT.iter().map(|(name, ..)| *name)) {
        ensure!(lines.iter().any(|line| line.name == name), "{name} is an exception, and is not tried");
    }
    for (name, _) in LEFT_OUT {
        ensure!(syscalls::rows().any(|row| row.name == *name && travels(row)), "{name} does not travel");
    }
    for name in COMMANDS {
        ensure!(
            lines.iter().any(|line| line.name.ends_with(&format!("-{name}"))),
            "{name} is no command that is known"
        );
    }
    Ok(())
}

/// What the guest is told of a row.
struct Line {
    name: String,
    text: String,
}

/// All rows that travel and are tried.
fn lines(seed: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    for row in syscalls::rows().filter(|row| travels(row) && !is_left_out(row)) {
        let family = row.args.iter().find_map(|arg| match arg {
            Arg::Operand(family) => Some(*family),
            _ => None,
        });
        match family {
            None => lines.push(line(row, row.name.to_owned(), None, seed)),
            Some(family) => lines.extend(
                command::commands(family)
                    .iter()
                    .filter(|command| COMMANDS.contains(&command.name))
                    .map(|command| line(row, format!("{}-{}", row.name, command.name), Some(command), seed)),
            ),
        }
    }
    lines
}

fn travels(row: &Row) -> bool {
    matches!(row.route, Route::Home | Route::HomeBlocking)
}

fn is_left_out(row: &Row) -> bool {
    row.has(Effect::Mounts) || row.has(Effect::Node) || LEFT_OUT.iter().any(|(name, _)| *name == row.name)
}

fn line(row: &Row, name: String, command: Option<&command::Command>, seed: u64) -> Line {
    let kind = if OWN.iter().any(|(own, _)| *own == row.name) { "own" } else { "same" };
    let mut text = format!("row {} {name} {seed} {CALLS} {kind}", row.nr);
    for (index, arg) in row.args.iter().enumerate() {
        let kept = KEPT.iter().find(|(name, at, _)| *name == row.name && *at == index);
        let after_mask = index > 0 && row.args[index - 1] == Arg::Mask;
        let word = match (kept, command) {
            (Some((.., Keep::Is(value))), _) => format!("is:{value}"),
            (Some((.., Keep::With(bits))), _) => format!("with:{bits}"),
            (None, Some(command)) if index == 1 => format!("is:{}", command.number),
            (None, Some(command)) if index == 2 => word(command.operand),
            // With any other size than that of a mask little else would be tried.
            (None, _) if after_mask && seed % 2 == 1 => "is:8".to_owned(),
            (None, _) if *arg == Arg::Fd && NEVER_ZERO.contains(&row.name) => "steady".to_owned(),
            (None, _) if NEVER_READ_ONLY.iter().any(|(name, _)| *name == row.name) => {
                word(*arg).replace("bytes", "made")
            }
            (None, _) => word(*arg),
        };
        let _ = write!(text, " {word}");
    }
    text.push('\n');
    Line { name, text }
}

/// An argument in the guest's words.
fn word(arg: Arg) -> String {
    match arg {
        Arg::Value | Arg::Gives => "value".to_owned(),
        Arg::Fd => "fd".to_owned(),
        Arg::Offset => "offset".to_owned(),
        Arg::Path | Arg::Text => "path".to_owned(),
        Arg::Send(count) | Arg::Receive(count) | Arg::OptionIn(count) => format!("payload:{count}"),
        Arg::In(bytes)
        | Arg::Out(bytes)
        | Arg::OutIfPositive(bytes)
        | Arg::InOut(bytes)
        | Arg::InOutAlways(bytes) => format!("bytes:{bytes}"),
        Arg::InMany { count, each, head } => format!("array:{count}:{each}:{head}"),
        Arg::InOutMany { count, each } | Arg::OutMany { count, each } => format!("array:{count}:{each}:0"),
        Arg::OutTyped(count) => format!("array:{count}:1:8"),
        Arg::InSized(bytes) => format!("sized:{bytes}"),
        Arg::InHandle | Arg::OutHandle => "handle:136".to_owned(),
        // What no socket address, and none of these options, is longer than.
        Arg::Address(_) | Arg::OptionOut(_) => "bytes:128".to_owned(),
        Arg::Length => "length".to_owned(),
        Arg::Vector(count, _) => format!("vector:{count}"),
        Arg::Message(_) => "message:56".to_owned(),
        Arg::Messages(count, _) => format!("messages:{count}"),
        Arg::FdSet => "bytes:1024".to_owned(),
        Arg::Timeout(Span::Milliseconds, _) => "ms".to_owned(),
        // What would be left of a wait that is written back is chance.
        Arg::Timeout(Span::Timeval, back) => format!("timeval:16:{}", u8::from(back == Back::Always)),
        Arg::Timeout(Span::Timespec, back) => format!("timespec:16:{}", u8::from(back == Back::Always)),
        Arg::Mask => "bytes:8".to_owned(),
        Arg::MaskPair => "bytes:16".to_owned(),
        Arg::SignalEvent => "event:64".to_owned(),
        Arg::Strings | Arg::Operand(Family::Ioctl | Family::Fcntl | Family::Prctl) => {
            unreachable!("programs do not travel, and commands have been put in")
        }
    }
}

fn same_away_as_at_home(seed: u64) -> Result<()> {
    let cluster = Cluster::shared()?;
    let lines = lines(seed);
    let (at_home, _) = answers(cluster, &lines, None)?;
    let (away, began_away) = answers(cluster, &lines, Some("n2"))?;
    println!("seed {seed}: {} rows, {began_away} of them begun away", lines.len());
    ensure!(began_away == lines.len(), "only {began_away} of {} rows began away", lines.len());
    let broken = at_home.iter().take(lines.len()).find(|said| !said.ends_with(" 0\n"));
    ensure!(broken.is_none(), "at home a row did not end well: {broken:?}");
    let mut told = String::new();
    let mut count = 0;
    for (home, away) in at_home.iter().zip(&away) {
        let pairs = home.lines().zip(away.lines());
        if let Some((home, away)) = pairs.into_iter().find(|(home, away)| home != away) {
            count += 1;
            if count <= TOLD_MAX {
                let _ = write!(told, "\nat home {home}\naway    {away}");
            }
        } else if home != away {
            count += 1;
            let _ = write!(told, "\nat home and away not equally much:\n{home}\n{away}");
        }
    }
    ensure!(count == 0, "{count} of {} rows differ away from home, first in:{told}", lines.len());
    Ok(())
}

/// What the guest says to each row, on the first node or, from where it may go home by itself at any row, on another one;
/// and how many rows began there.
fn answers(cluster: &Cluster, lines: &[Line], host: Option<&str>) -> Result<(Vec<String>, usize)> {
    let home = cluster.home();
    let scratch = home.scratch()?;
    let words = [format!("{}/marshal", home.guests()?), scratch.clone()];
    let mut run = Run::command(home, &words, Input::Pipes, scratch.clone())?;
    run.expect("ready", 0)?;
    let (mut answers, mut began_away) = (Vec::new(), 0);
    for line in lines {
        if let Some(host) = host {
            send_away(home, &run, cluster.number(host)?, host)?;
            began_away += 1;
        }
        let from = run.position();
        run.send(line.text.as_bytes())?;
        let end = run.expect(&format!("done {} ", line.name), from)?;
        let end = run.expect("\n", end).with_context(|| line.text.clone())?;
        let bytes = run.output().bytes();
        answers.push(String::from_utf8_lossy(bytes.get(from..end).unwrap_or_default()).into_owned());
    }
    run.send(b"finish\n")?;
    let (status, _) = run.end(SOON)?;
    ensure!(status == 0, "it ended with {status}: {}", run.said());
    answers.push(home.take_files(&scratch)?);
    Ok((answers, began_away))
}

fn send_away(home: Place<'_>, run: &Run<'_>, number: u64, host: &str) -> Result<()> {
    if home.whereabouts(run.pid)? == number {
        return Ok(());
    }
    let moved = home.migrate_patiently(run.pid, host)?;
    ensure!(moved.is_ok(), "it does not go to {host}: {moved:?}\n{}", run.said());
    Ok(())
}
