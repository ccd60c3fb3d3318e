//! The guests as data: how each is started, what it is fed, how it must end.

/// What a guest gets on its input, and how moves are fitted in.
#[derive(Clone, Copy, Debug)]
pub enum Feed {
    /// A line `step` before each move and after the last one, then `finish`.
    Steps,
    /// Nothing: it ends by itself after a few seconds, and the moves must be quick enough.
    Wait,
    /// This many bytes, in pieces between the moves, then the end of input; it says no "ready".
    Data(usize),
    /// On a terminal: pairs of what is typed and what must be answered.
    Terminal(&'static [(&'static str, &'static str)]),
}

/// A guest.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// Its name in the names of trials.
    pub name: &'static str,
    /// Its command line; `{guests}` is the directory of guests, `{scratch}` an empty one of its own.
    pub command: &'static [&'static str],
    /// What `{argument}` stands for.
    pub argument: &'static str,
    /// What it needs; see [`crate::missing`].
    pub needs: &'static [&'static str],
    /// Its input.
    pub feed: Feed,
    /// Its exit status, a killing signal counted as 128 + its number.
    pub exit: i32,
}

const fn steps(
    name: &'static str,
    command: &'static [&'static str],
    needs: &'static [&'static str],
) -> Guest {
    Guest { name, command, argument: "", needs, feed: Feed::Steps, exit: 0 }
}

const TTY: &[(&str, &str)] = &[
    ("hello\n", "line of 6: hello"),
    ("size\n", "24 rows, 80 columns"),
    ("\x03", "interrupts 1"),
    ("key\n", "which?"),
    ("x", "key x"),
    ("who\n", "still the same"),
    ("mistyped\x15right\n", "line of 6: right"),
    ("finish\n", "tty: interrupts 1"),
];

/// Every guest that runs in every world.
pub const GUESTS: &[Guest] = &[
    Guest {
        exit: 3,
        ..steps("counter", &["{python}", "{guests}/counter.py", "{scratch}/count"], &["python3"])
    },
    steps("files", &["{guests}/files", "{scratch}"], &["cc"]),
    steps("pipes", &["{guests}/pipes"], &["cc"]),
    Guest { exit: 128 + 15, ..steps("signals", &["{guests}/signals"], &["cc"]) },
    steps("interrupts", &["{guests}/interrupts"], &["cc"]),
    steps("siginfos", &["{guests}/siginfos"], &["cc"]),
    steps("directed", &["{guests}/directed"], &["cc"]),
    steps("registers", &["{guests}/registers"], &["cc"]),
    steps("threads64", &["{guests}/threads64"], &["cc"]),
    steps("family", &["{guests}/family"], &["cc"]),
    steps("vforks", &["{guests}/vforks"], &["cc"]),
    steps("memory", &["{guests}/memory"], &["cc"]),
    steps("ownfile", &["{guests}/ownfile", "{scratch}"], &["cc"]),
    steps("sharedmem", &["{guests}/sharedmem"], &["cc"]),
    steps(
        "maps",
        &["{python}", "{guests}/maps.py", "{scratch}"],
        &["python3", "python3:sqlite3", "python3:ctypes"],
    ),
    steps("held", &["{python}", "{guests}/held.py"], &["python3"]),
    steps("timers", &["{guests}/timers"], &["cc"]),
    steps("clocks", &["{guests}/clocks"], &["cc"]),
    Guest { feed: Feed::Terminal(TTY), ..steps("tty", &["{guests}/tty"], &["cc"]) },
    Guest { feed: Feed::Data(3_000_000), ..steps("pump", &["{guests}/pump"], &["cc"]) },
    Guest {
        feed: Feed::Data(6_000_000),
        ..steps("xz", &["xz", "-T2", "-1", "--block-size=1000000", "-c"], &["xz"])
    },
    steps("loop", &["{guests}/loop"], &["cc"]),
    steps("faults", &["{guests}/faults"], &["cc"]),
    steps("compute", &["{guests}/compute"], &["cc"]),
    steps("compute-static", &["{guests}/compute-static"], &["musl-gcc"]),
    steps("go", &["{guests}/compute-go"], &["go"]),
    steps("python", &["{python}", "{guests}/compute.py"], &["python3"]),
    steps("awk", &["gawk", "-f", "{guests}/compute.awk"], &["gawk"]),
    steps("perl", &["perl", "{guests}/compute.pl"], &["perl"]),
    steps("bash", &["bash", "{guests}/compute.sh"], &["bash"]),
];

/// A guest whose calls are half done until it finishes. A move home in the middle shows (see the limits in README.md), so
/// it is not for every world.
pub const HALF_DONE: Guest = steps("halfdone", &["{guests}/halfdone"], &["cc"]);

/// A guest with handlers that run while its call is half done.
pub const HALF_JUMP: Guest = steps("halfjump", &["{guests}/halfjump"], &["cc"]);

/// The kinds of blocked calls that the guest `restarts` knows.
pub const RESTARTS: &[&str] = &[
    "nanosleep",
    "nanosleep-norem",
    "clock-nanosleep-rel",
    "clock-nanosleep-abs",
    "poll",
    "ppoll",
    "select",
    "epoll-wait",
    "futex",
    "futex-timeout",
    "futex-bitset",
    "read-pipe",
    "recv-timeout",
    "wait4",
    "sigsuspend",
    "pause",
    "sigtimedwait",
];

/// The guest that blocks in one of [`RESTARTS`].
pub fn restart(kind: &'static str) -> Guest {
    let command = &["{guests}/restarts", "{argument}"];
    Guest { name: kind, command, argument: kind, needs: &["cc"], feed: Feed::Wait, exit: 0 }
}

/// The guest of this name.
///
/// # Panics
/// When there is none: the name stands in a test's source.
pub fn guest(name: &str) -> Guest {
    *GUESTS.iter().find(|guest| guest.name == name).unwrap_or_else(|| panic!("no guest is called {name}"))
}
