//! Ordinary programs at work, as data: what torture is carried out on.

use crate::{Workshop, needs, source};
use anyhow::Result;
use std::path::PathBuf;
use std::time::Duration;
use torture::Plan;

/// Where a file comes from that a workload finds in its scratch directory.
#[derive(Clone, Copy, Debug)]
pub enum Bring {
    /// From the directory of the guests.
    Guest(&'static str),
    /// A path in the sources of a package that we depend on.
    Package(&'static str, &'static str),
    /// The tests in the sources of a package of Debian's; `cargo xtask compat` fetches them.
    Debian(&'static str),
}

/// A command line with everything it needs.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its name in the names of trials.
    pub name: &'static str,
    /// What it needs; see [`crate::missing`].
    pub needs: &'static [&'static str],
    /// What is there when it starts.
    pub brought: &'static [Bring],
    /// A line of shell; `{size}` says how much to do, `{python}` is the interpreter.
    pub line: &'static str,
    /// `{size}`.
    pub size: u32,
    /// Whether it has a terminal.
    pub on_terminal: bool,
    /// What may differ.
    pub masks: &'static [&'static str],
    /// Mean rest of a mover between two moves, milliseconds.
    pub every_ms: u64,
    /// How many moves may be under way at once.
    pub movers: u16,
}

const fn workload(
    name: &'static str,
    needs: &'static [&'static str],
    brought: &'static [Bring],
    line: &'static str,
    size: u32,
) -> Workload {
    Workload { name, needs, brought, line, size, on_terminal: false, masks: &[], every_ms: 10, movers: 2 }
}

/// All of them.
pub const WORKLOADS: &[Workload] = &[
    workload(
        "pump-and-queued-signals",
        &["cc", "bash", "pgrep"],
        &[
            Bring::Guest("pump"),
            Bring::Guest("rtsignals"),
            Bring::Guest("sendsig"),
            Bring::Guest("signalled.sh"),
        ],
        "exec bash signalled.sh . {size}00000 {size}0",
        100,
    ),
    workload("python", &["python3"], &[Bring::Guest("workday.py")], "exec {python} workday.py {size}", 20),
    Workload {
        // Each move of the compiler carries some hundred megabytes: more often, and it would do nothing but travel.
        every_ms: 1500,
        ..workload(
            "gcc-sqlite",
            &["cc"],
            &[Bring::Package("libsqlite3-sys", "sqlite3/sqlite3.c")],
            "for round in $(seq {size}); do gcc -O2 -c sqlite3.c -o sqlite3.o; done",
            1,
        )
    },
    workload(
        "make-bzip2",
        &["cc", "make"],
        &[Bring::Package("bzip2-sys", "bzip2-1.0.8")],
        // Which of four jobs speaks first is chance.
        "for round in $(seq {size}); do make -s -C bzip2-1.0.8 clean; \
         make -s -j4 -C bzip2-1.0.8 all > out 2>&1; echo $?; sort out; done",
        1,
    ),
    workload(
        "lame",
        &["python3", "lame"],
        &[Bring::Guest("song.py")],
        "{python} song.py {size} song.wav && lame --quiet -q 2 song.wav song.mp3",
        20,
    ),
    Workload {
        // It tells the pid of a killed one.
        masks: &["line [0-9]+: +[0-9]+ Killed"],
        ..workload(
            "bash-plumbing",
            &["bash"],
            &[Bring::Guest("plumbing.sh")],
            "exec bash plumbing.sh {size} 2> errors",
            40,
        )
    },
    Workload {
        on_terminal: true,
        ..workload(
            "bash-job-control",
            &["bash", "ps"],
            &[Bring::Guest("jobs.sh")],
            "exec bash jobs.sh {size}",
            40,
        )
    },
    workload("go", &["go"], &[Bring::Guest("garbage-go")], "exec ./garbage-go {size}", 12),
    workload("java", &["java", "javac"], &[Bring::Guest("Garbage.java")], "exec java Garbage.java {size}", 6),
    workload(
        "threads1000",
        &["cc"],
        &[Bring::Guest("threads1000")],
        "for round in $(seq {size}); do ./threads1000 20; ./threads1000 2; done",
        1,
    ),
    workload(
        "forktree200",
        &["cc"],
        &[Bring::Guest("forktree")],
        "for round in $(seq {size}); do ./forktree 200 2000000; done",
        2,
    ),
    workload(
        "redis",
        &["bash", "redis-server", "redis-benchmark"],
        &[Bring::Guest("redis.sh")],
        "exec bash redis.sh {size}000",
        10,
    ),
    workload(
        "sqlite",
        &["bash", "sqlite3"],
        &[Bring::Guest("ledger.sh")],
        "for round in $(seq {size}); do bash ledger.sh 10000; done",
        2,
    ),
    workload(
        "write-ahead-log",
        &["python3", "python3:sqlite3"],
        &[Bring::Guest("wal.py")],
        "exec {python} wal.py {size}",
        200,
    ),
];

/// Twenty of them at once, many of them moving at any moment.
pub const MIX: Workload = Workload {
    movers: 8,
    ..workload(
        "mix",
        &["bash", "cc", "gawk", "go", "gzip", "musl-gcc", "perl", "python3", "xz"],
        &[
            Bring::Guest("mix.sh"),
            Bring::Guest("counter.py"),
            Bring::Guest("files"),
            Bring::Guest("pipes"),
            Bring::Guest("registers"),
            Bring::Guest("threads64"),
            Bring::Guest("family"),
            Bring::Guest("memory"),
            Bring::Guest("timers"),
            Bring::Guest("faults"),
            Bring::Guest("compute"),
            Bring::Guest("compute-static"),
            Bring::Guest("compute-go"),
            Bring::Guest("compute.py"),
            Bring::Guest("compute.awk"),
            Bring::Guest("compute.pl"),
            Bring::Guest("compute.sh"),
            Bring::Guest("forktree"),
            Bring::Guest("workday.py"),
        ],
        "exec bash mix.sh {size}",
        20,
    )
};

impl Workload {
    /// The torture of this workload from this seed.
    pub fn plan(&self, seed: u64) -> Result<Plan> {
        let size = self.size.to_string();
        let line = self.line.replace("{size}", &size).replace("{python}", needs::python());
        let brought = self.brought.iter().map(|bring| bring.path()).collect::<Result<_>>()?;
        let masks = self.masks.iter().map(|mask| mask.parse()).collect::<torture::Result<_>>()?;
        Ok(Plan {
            terminal: self.on_terminal,
            brought,
            masks,
            every: Duration::from_millis(self.every_ms),
            movers: self.movers,
            time_limit: Duration::from_secs(180),
            ..Plan::new(["sh", "-c", &line], seed)
        })
    }
}

impl Bring {
    pub(crate) fn path(self) -> Result<PathBuf> {
        match self {
            Bring::Guest(name) => Ok(Workshop::open()?.guests.join(name)),
            Bring::Package(package, path) => Ok(source::of(package)?.join(path)),
            Bring::Debian(package) => Ok(Workshop::open()?.sources.join(package)),
        }
    }
}
