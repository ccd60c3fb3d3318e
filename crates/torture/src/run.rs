//! One run of the command, from its start to its end.

use crate::crowd::Crowd;
use crate::error::{Doing, Error, Result};
use crate::ground::{Ground, SCRATCH};
use crate::movers::Movers;
use crate::plan::Plan;
use lab::Terminal;
use std::fmt;
use std::io::{self, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that a command may print on one stream.
const OUTPUT_BYTES_MAX: usize = 256 << 20;
/// How long killed processes may take to be gone.
const DEATH_MAX: Duration = Duration::from_secs(30);
/// Enters the scratch directory and becomes the command.
const ENTER: &str = "cd \"$OM_SCRATCH\" && exec \"$@\"";

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// Not in time.
    Endless,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(status) => write!(f, "ended with status {status}"),
            Ending::Killed(signal) => write!(f, "was killed by signal {signal}"),
            Ending::Endless => f.write_str("did not end in time"),
        }
    }
}

/// Everything of a run that is compared, besides its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: Vec<u8>,
    /// Processes that were still there when it had ended and nobody could print any more; they were killed.
    pub left: usize,
}

/// What a thread beside a run has to tell.
enum Word {
    Ended(io::Result<ExitStatus>),
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
}

/// Runs the command, with somebody to move it about or in peace. A run that does not end is ended by force; the texts tell
/// what its processes did then. Nothing of it is left.
pub(crate) fn run(
    ground: &Ground,
    plan: &Plan,
    crowd: &Crowd,
    movers: Option<&Movers<'_>>,
) -> Result<(Outcome, Vec<String>)> {
    let child = start(ground, plan)?;
    let deadline = Instant::now() + plan.time_limit;
    let outcome = thread::scope(|scope| {
        if let Some(movers) = movers {
            movers.numbers().for_each(|number| drop(scope.spawn(move || movers.roam(number))));
        }
        let outcome = attend(child, plan, deadline);
        if let Some(movers) = movers {
            movers.end();
        }
        outcome
    });
    let members = crowd.members();
    let mut told = Vec::new();
    let outcome = match outcome {
        Ok(Some(outcome)) => Ok(Outcome { left: members.len(), ..outcome }),
        Ok(None) => {
            told = members.iter().map(|member| crowd.describe(member)).collect();
            Ok(Outcome {
                ending: Ending::Endless,
                stdout: Vec::new(),
                stderr: Vec::new(),
                left: members.len(),
            })
        }
        Err(error) => Err(error),
    };
    kill_all(ground, crowd)?;
    outcome.map(|outcome| (outcome, told))
}

fn start(ground: &Ground, plan: &Plan) -> Result<Child> {
    if plan.command.is_empty() {
        return Err(Error::NoCommand);
    }
    let terminal = if plan.terminal { Terminal::Own } else { Terminal::Inherited };
    let entry = ground.lab().enter(&ground.home().name)?.terminal(terminal);
    let mut command = entry.command("/bin/sh")?;
    command.args(["-c", ENTER, "sh"]).args(&plan.command).env("OM_SCRATCH", SCRATCH);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().doing(|| "start the command".to_owned())
}

/// Feeds the command, collects what it prints, and waits for its end and the end of its output. Nothing when the time is
/// over; then the threads that wait are left behind, and end with the processes they wait for.
fn attend(mut child: Child, plan: &Plan, deadline: Instant) -> Result<Option<Outcome>> {
    let (tell, hear) = mpsc::channel();
    if let Some(mut stdin) = child.stdin.take() {
        let input = plan.input.clone();
        // A command need not read all of its input, or any.
        thread::spawn(move || drop(stdin.write_all(&input)));
    }
    if let Some(stdout) = child.stdout.take() {
        collect(stdout, tell.clone(), Word::Stdout);
    }
    if let Some(stderr) = child.stderr.take() {
        collect(stderr, tell.clone(), Word::Stderr);
    }
    thread::spawn(move || drop(tell.send(Word::Ended(child.wait()))));
    let (mut ending, mut stdout, mut stderr) = (None, None, None);
    while ending.is_none() || stdout.is_none() || stderr.is_none() {
        match hear.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Word::Ended(status)) => ending = Some(status.doing(|| "wait for the command".to_owned())?),
            Ok(Word::Stdout(bytes)) => stdout = Some(bytes),
            Ok(Word::Stderr(bytes)) => stderr = Some(bytes),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
    let (stdout, stderr) = (stdout.unwrap_or_default(), stderr.unwrap_or_default());
    if stdout.len().max(stderr.len()) > OUTPUT_BYTES_MAX {
        return Err(Error::TooMuchOutput(OUTPUT_BYTES_MAX));
    }
    let status = ending.unwrap_or_default();
    let ending = match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exited(code),
        (None, signal) => Ending::Killed(signal.unwrap_or_default()),
    };
    Ok(Some(Outcome { ending, stdout, stderr, left: 0 }))
}

/// Reads a stream to its end, in a thread of its own. What is beyond the bound is read and forgotten: whoever prints it
/// must not block for ever.
fn collect(mut stream: impl Read + Send + 'static, tell: Sender<Word>, word: fn(Vec<u8>) -> Word) {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = (&mut stream).take(OUTPUT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
        drop(read.and_then(|_| io::copy(&mut stream, &mut io::sink())));
        drop(tell.send(word(bytes)));
    });
}

/// Kills what is left of a run, and waits until it is gone.
fn kill_all(ground: &Ground, crowd: &Crowd) -> Result<()> {
    let deadline = Instant::now() + DEATH_MAX;
    loop {
        let members = crowd.members();
        if members.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let told: Vec<_> = members.iter().map(|member| crowd.describe(member)).collect();
            let error = io::Error::new(io::ErrorKind::TimedOut, told.join("; "));
            return Err(error).doing(|| "kill what is left of the command".to_owned());
        }
        let pids = members.iter().map(|member| member.pid.to_string());
        let line = ["kill".to_owned(), "-KILL".to_owned(), "--".to_owned()].into_iter().chain(pids);
        let mut kill = ground.lab().exec(&ground.home().name, line)?;
        // Those that have ended meanwhile make it fail.
        kill.stderr(Stdio::null()).status().doing(|| "kill what is left of the command".to_owned())?;
    }
}
