//! What has come home is as it was: nothing of the stub, the tracer or the filter is left in it.
#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use std::process::ExitCode;
use suite::{Cluster, Input, Place, Run, Stop, World, main as run, trial};

/// Fields of `/proc/PID/status` that may change without anybody's doing.
const RESTLESS: &str =
    "^(State|FDSize|SigQ|Vm|Rss|HugetlbPages|voluntary_ctxt|nonvoluntary_ctxt|THP_enabled|x86_Thread)";

/// Fields of `/proc/PID/stat` that must stay: names, groups, terminal, priorities, start time, places in memory, exit signal.
const STEADY: &str =
    "$1,$4,$5,$6,$7,$8,$18,$19,$20,$22,$25,$26,$27,$28,$38,$40,$41,$45,$46,$47,$48,$49,$50,$51";

/// Programs that wait and do nothing else, so that every difference is ours.
const WAITING: &[(&str, &[&str], &[&str])] = &[
    ("c", &["cc"], &["{guests}/quiet"]),
    ("threads", &["cc"], &["{guests}/threads64"]),
    ("shared-memory", &["cc"], &["{guests}/sharedmem", "rest"]),
    ("own-file", &["cc"], &["{guests}/ownfile", "{scratch}", "rest"]),
    (
        "python",
        &["python3"],
        &["/usr/bin/python3", "-c", "print('ready', flush=True); input(); print('unharmed')"],
    ),
    (
        "bash",
        &["bash"],
        &["bash", "-c", "trap '' HUP; trap : USR1; umask 027; cd /var; echo ready; read x; echo unharmed"],
    ),
    ("perl", &["perl"], &["perl", "-e", "$|=1; $0='renamed'; print \"ready\\n\"; <STDIN>; print 'unharmed'"]),
];

fn main() -> ExitCode {
    let worlds = [World::OutAndHome, World::Tour, World::Shuttle { moves: 6, seed: 70 }];
    let mut trials: Vec<Trial> = Vec::new();
    for world in worlds {
        for (name, needs, words) in WAITING.iter().copied() {
            trials.push(trial(format!("{world}/{name}"), needs, move || there_and_back(words, world)));
        }
    }
    run(trials)
}

fn there_and_back(words: &[&str], world: World) -> Result<()> {
    let place = Cluster::shared()?.home();
    let guests = place.guests()?;
    let scratch = place.scratch()?;
    let fill = |word: &&str| word.replace("{guests}", &guests).replace("{scratch}", &scratch);
    let words: Vec<String> = words.iter().map(fill).collect();
    let mut run = Run::command(place, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    // Long enough to fall asleep in the call that it will be found in again.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let before = portrait(place, run.pid)?;
    let mut at = Stop::Home;
    for (_, stop) in world.moves() {
        run.go(stop)?;
        at = stop;
    }
    if at != Stop::Home {
        run.go(Stop::Home)?;
    }
    let after = portrait(place, run.pid)?;
    let gone: Vec<&str> = before.lines().filter(|line| !after.lines().any(|other| other == *line)).collect();
    let new: Vec<&str> = after.lines().filter(|line| !before.lines().any(|other| other == *line)).collect();
    ensure!(before == after, "changed:\n- {}\n+ {}", gone.join("\n- "), new.join("\n+ "));
    let output = run.finish(0)?;
    ensure!(!output.is_empty(), "it said nothing more");
    Ok(())
}

/// Everything the kernel tells about a process that rests: one fact a line.
fn portrait(place: Place<'_>, pid: i32) -> Result<String> {
    let facts = [
        format!(
            "for t in /proc/{pid}/task/*; do echo ${{t##*/}}; cat $t/comm; grep -vE '{RESTLESS}' $t/status; done"
        ),
        // Shared memory of no file is made anew, and the kernel gives it another number.
        format!("sed -E 's/^/maps /; s/[0-9]+( +.dev.zero .deleted.)$/N\\1/' /proc/{pid}/maps"),
        format!("grep -E '^VmFlags|-' /proc/{pid}/smaps | grep VmFlags | sed 's/ sd\\b//g' | sort | uniq -c"),
        format!("ls -l /proc/{pid}/fd | awk '{{print $1, $9, $10, $11}}'"),
        format!("for f in /proc/{pid}/fdinfo/*; do echo $f; grep -E '^(pos|flags|mnt_id)' $f; done"),
        format!("sed 's/^/limit /' /proc/{pid}/limits"),
        format!("readlink /proc/{pid}/cwd /proc/{pid}/root /proc/{pid}/exe /proc/{pid}/ns/*"),
        format!(
            "cat /proc/{pid}/cgroup /proc/{pid}/oom_score_adj /proc/{pid}/personality /proc/{pid}/timers"
        ),
        format!("cat /proc/{pid}/coredump_filter /proc/{pid}/timerslack_ns"),
        format!("tr '\\0' '\\n' < /proc/{pid}/cmdline; tr '\\0' '\\n' < /proc/{pid}/environ"),
        format!("od -An -tx1 /proc/{pid}/auxv"),
        format!("sed 's/(.*)/x/' /proc/{pid}/stat | awk '{{print {STEADY}}}'"),
    ];
    // A file that this kernel does not have is no fact in both portraits.
    place.must(&format!("({}) 2>/dev/null; true", facts.join("; ")))
}
