//! What programs were like, kept on disk: one file of the state directory, which only the daemon reads.
//!
//! A daemon that begins anew would send the first run of every program of which it once knew the memory to a node without.
//! The file is worth little, so it never stops anything: one that makes no sense is told of and forgotten, and where it
//! cannot be written the daemon goes on without.

use crate::Error;
use crate::config::{Paths, keep_json};
use balance::History;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Another number is for another content.
const VERSION: u32 = 1;
/// As much as the file of the most programs that are remembered, and more.
const BYTES_MAX: u64 = 8 << 20;
/// Time between two times that it is written.
const EVERY: Duration = Duration::from_secs(60);

/// The content of the file; the version comes first, and alone is always understood.
#[derive(Serialize, Deserialize)]
struct File<Content> {
    version: u32,
    history: Content,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The file, and when it was last written.
pub(super) struct Memoir {
    path: PathBuf,
    written_at: Instant,
    /// Runs that the file knows of.
    runs: u64,
    writing: Option<JoinHandle<Result<(), Error>>>,
    /// It could not be written the last time.
    failed: bool,
}

impl Memoir {
    /// What was kept, or nothing.
    pub(super) fn open(paths: &Paths) -> (Memoir, History) {
        let path = paths.state.join("programs.json");
        let history = match read(&path) {
            Ok(history) => history.unwrap_or_default(),
            Err(why) => {
                tracing::warn!(path = %path.display(), why, "what programs were like is forgotten; it is learnt anew");
                History::default()
            }
        };
        let runs = history.runs();
        (Memoir { path, written_at: Instant::now(), runs, writing: None, failed: false }, history)
    }

    /// Writes it, beside other work, if it is time and there is something new.
    pub(super) fn keep(&mut self, history: &History) {
        self.hear_of_the_last();
        if self.writing.is_some() || self.written_at.elapsed() < EVERY || history.runs() == self.runs {
            return;
        }
        (self.written_at, self.runs) = (Instant::now(), history.runs());
        let (path, history) = (self.path.clone(), history.clone());
        self.writing = Some(std::thread::spawn(move || write(&path, &history)));
    }

    /// Writes it now, if there is something new.
    pub(super) fn close(&mut self, history: &History) {
        if let Some(writing) = self.writing.take() {
            self.judge(writing.join().unwrap_or(Ok(())));
        }
        if history.runs() != self.runs {
            self.runs = history.runs();
            let outcome = write(&self.path, history);
            self.judge(outcome);
        }
    }

    fn hear_of_the_last(&mut self) {
        if let Some(writing) = self.writing.take_if(|writing| writing.is_finished()) {
            self.judge(writing.join().unwrap_or(Ok(())));
        }
    }

    /// Says once that it cannot be written, and once that it can be again.
    fn judge(&mut self, outcome: Result<(), Error>) {
        match &outcome {
            Err(error) if !self.failed => {
                let remedy = "make room there, or let the daemon write there";
                tracing::warn!(%error, remedy, "what programs were like is not kept for the next start");
            }
            Ok(()) if self.failed => {
                tracing::info!(path = %self.path.display(), "what programs were like is kept again");
            }
            _ => {}
        }
        self.failed = outcome.is_err();
        if self.failed {
            // The next time all of it is new.
            self.runs = u64::MAX;
        }
    }
}

/// What is kept; none where there is no file. An error is why it makes no sense.
fn read(path: &std::path::Path) -> Result<Option<History>, String> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        outcome => outcome.map_err(|error| error.to_string())?,
    };
    let mut text = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > BYTES_MAX {
        return Err(format!("it has more than {BYTES_MAX} bytes"));
    }
    let Version { version } = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!("it has version {version}, and {VERSION} is understood"));
    }
    let file: File<History> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    Ok(Some(file.history))
}

fn write(path: &std::path::Path, history: &History) -> Result<(), Error> {
    keep_json(path, &File { version: VERSION, history }, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use balance::{ProgramKey, Run};

    fn paths(directory: &std::path::Path) -> Paths {
        Paths { state: directory.join("state"), ..Paths::default() }
    }

    fn learnt(history: &mut History, program: u64) {
        history.observe(ProgramKey(program), &Run { cpu_s: 2.5, peak_mb: 100.0 });
    }

    #[test]
    fn what_was_learnt_outlives_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        let (mut memoir, mut history) = Memoir::open(&paths);
        memoir.close(&history);
        assert!(!memoir.path.exists(), "there was nothing to keep");
        (1..=3).for_each(|program| learnt(&mut history, program));
        memoir.keep(&history);
        assert!(memoir.writing.is_none(), "it is not time");
        memoir.close(&history);
        let (_, mut again) = Memoir::open(&paths);
        assert_eq!(again.len(), 3);
        assert_eq!(again.predict(ProgramKey(2)), history.predict(ProgramKey(2)));
    }

    #[test]
    fn a_file_that_makes_no_sense_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        let (mut memoir, mut history) = Memoir::open(&paths);
        learnt(&mut history, 1);
        memoir.close(&history);
        let good = fs::read_to_string(&memoir.path).unwrap();
        let newer = good.replacen("\"version\":1", "\"version\":2", 1);
        let long = " ".repeat(BYTES_MAX as usize + 1);
        for bad in ["", "{", "[]", &good[..good.len() / 2], &newer, &long] {
            fs::write(&memoir.path, bad).unwrap();
            assert!(read(&memoir.path).is_err(), "{:.40}", bad);
            let (mut memoir, mut history) = Memoir::open(&paths);
            assert!(history.is_empty());
            learnt(&mut history, 7);
            memoir.close(&history);
            assert_eq!(Memoir::open(&paths).1.len(), 1);
        }
        // Every changed byte gives a history, or none.
        for index in 0..good.len() {
            let mut changed = good.clone().into_bytes();
            changed[index] ^= 1;
            fs::write(&memoir.path, changed).unwrap();
            let (_, mut history) = Memoir::open(&paths);
            let memory_mb = history.predict(ProgramKey(1)).memory_mb;
            assert!(memory_mb.is_none_or(f64::is_finite));
        }
    }

    #[test]
    fn where_it_cannot_be_written_the_daemon_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        let (mut memoir, mut history) = Memoir::open(&paths);
        // Not a directory: also root cannot write there.
        fs::write(&paths.state, "").unwrap();
        learnt(&mut history, 1);
        memoir.close(&history);
        assert!(memoir.failed);
        fs::remove_file(&paths.state).unwrap();
        memoir.close(&history);
        assert!(!memoir.failed && Memoir::open(&paths).1.len() == 1);
    }
}
