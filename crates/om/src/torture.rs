//! `om lab torture`: a command run in peace and run while all of it is moved about, and the comparison.

use ::torture::{Ground, Mask, Plan, Progress};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use rustix::rand::{GetRandomFlags, getrandom};
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Bytes of standard input that are read, at most: both runs are given them from memory.
const INPUT_BYTES_MAX: u64 = 256 << 20;
/// How often progress is told to a person, and to a log.
const TOLD_EVERY: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(10)];

#[derive(Args)]
pub(crate) struct Torture {
    /// Mean pause between two moves of a mover, like 20ms, 1s or 1m.
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = time)]
    every: Duration,
    /// How many nodes.
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: u16,
    /// How many moves may be under way at once.
    #[arg(long, value_name = "N", default_value_t = 2)]
    movers: u16,
    /// What chance is made of [default: a new number, which is printed].
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Give the command a terminal; standard input is typed on it.
    #[arg(long)]
    tty: bool,
    /// Copy a file or directory into the scratch directory before both runs; may be repeated.
    #[arg(long, value_name = "PATH")]
    bring: Vec<PathBuf>,
    /// A regular expression for what may differ in output and files, line by line; may be repeated.
    #[arg(long, value_name = "REGEX")]
    mask: Vec<Mask>,
    /// How long each of the two runs may take.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    time_limit: Duration,
    /// Leave the lab up, with the files of both runs in /tmp/torture of n1.
    #[arg(long)]
    keep: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// The command and its arguments, as node n1 finds them: /tmp, /home and /root of this machine are not there.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// A time as people write it: a number and `ms`, `s` or `m`.
fn time(text: &str) -> Result<Duration> {
    let number = text.trim_end_matches(char::is_alphabetic);
    let seconds = match &text[number.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => bail!("'{text}' is no time: write a number and ms, s or m"),
    };
    let number: f64 = number.parse().with_context(|| format!("'{text}' is no time"))?;
    Duration::try_from_secs_f64(number * seconds).with_context(|| format!("'{text}' is no time"))
}

/// Runs `om lab torture`; the exit status is 0 only if nothing differed, broke or was left behind.
pub(crate) fn run(name: Option<&str>, options: Torture) -> Result<ExitCode> {
    let seed = options.seed.map_or_else(new_seed, Ok)?;
    let name = name.map_or_else(|| format!("torture-{}", std::process::id()), str::to_owned);
    let plan = Plan {
        input: input()?,
        terminal: options.tty,
        brought: options.bring,
        masks: options.mask,
        every: options.every,
        movers: options.movers,
        time_limit: options.time_limit,
        ..Plan::new(options.command, seed)
    };
    eprintln!("om: torture with seed {seed} in lab '{name}'; first in peace");
    let mut ground = Ground::up(&name, options.nodes, None)?;
    let teller = Teller::new();
    let report = ground.torture(&plan, &|progress| teller.tell(progress));
    teller.end();
    let report = report?;
    if options.keep {
        eprintln!("om: lab '{}' stays; 'om lab --name {name} down' ends it", ground.keep()?);
    } else {
        ground.down()?;
    }
    let text = if options.json { serde_json::to_string(&report)? + "\n" } else { report.to_string() };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if report.same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn new_seed() -> Result<u64> {
    let mut bytes = [0; 4];
    getrandom(&mut bytes, GetRandomFlags::empty()).context("failed to get a random number")?;
    // Short enough to be typed again.
    Ok(u64::from(u32::from_ne_bytes(bytes)))
}

/// Standard input, unless it is somebody at a keyboard.
fn input() -> Result<Vec<u8>> {
    let mut input = Vec::new();
    if !io::stdin().is_terminal() {
        let mut stdin = io::stdin().lock().take(INPUT_BYTES_MAX + 1);
        stdin.read_to_end(&mut input).context("failed to read standard input")?;
        if input.len() as u64 > INPUT_BYTES_MAX {
            bail!("standard input has more than {INPUT_BYTES_MAX} bytes: give the command less");
        }
    }
    Ok(input)
}

/// Tells on standard error how far it is, now and then.
struct Teller {
    on_screen: bool,
    last: Mutex<Instant>,
}

impl Teller {
    fn new() -> Teller {
        Teller { on_screen: io::stderr().is_terminal(), last: Mutex::new(Instant::now()) }
    }

    fn tell(&self, progress: &Progress) {
        let [often, seldom] = TOLD_EVERY;
        // Whoever comes while another is telling has nothing newer to say.
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.elapsed() < if self.on_screen { often } else { seldom } {
            return;
        }
        *last = Instant::now();
        let Progress { elapsed, moves, refusals, processes } = progress;
        let seconds = elapsed.as_secs_f64();
        let text = format!("{seconds:.0} s: {moves} moves, {refusals} refusals, {processes} processes");
        if self.on_screen { eprint!("\r\x1b[K{text}") } else { eprintln!("om: {text}") }
    }

    fn end(&self) {
        if self.on_screen {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(time("20ms").unwrap(), Duration::from_millis(20));
        assert_eq!(time("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(time("2m").unwrap(), Duration::from_secs(120));
        for wrong in ["20", "ms", "-1s", "1h", ""] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
