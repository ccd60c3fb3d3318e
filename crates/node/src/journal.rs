//! The log of causes: what happened to processes and nodes, for `om log`; and that of ends, what processes had used away.
//! Lines of JSON in a few bounded files each.
//!
//! Daemon, keepers and wardens all write to it, each for itself, so nothing is lost with any of them. A record is one
//! write to a file that is open for appending. The files are numbered, and no number comes twice: whoever finds the newest
//! one full begins the next, so that nobody needs a lock, and a place in the log means the same for ever. Nothing here may
//! harm what it speaks of: a full disk, a directory that is not there or a torn line cost records,
//! and never more.

use crate::Error;
use crate::config::Paths;
use control::{Book, Cursor, Record, UsedAway, What};
use model::ProcessId;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a file, from which on a new one is begun.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Files that are kept beside the newest one.
const OLD_FILES_MAX: u64 = 3;
/// Bytes of a record; what is longer is no record of ours.
const LINE_BYTES_MAX: u64 = 4096;
/// Characters of a cause. Other nodes have a say in it.
const CAUSE_CHARACTERS_MAX: usize = 500;

/// Not through a link, wherever the directory is.
const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

/// A record of now.
pub(crate) fn now(what: What) -> Record {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Record::at(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), what)
}

/// Notes something down. It may fail, which is told once and is nobody's concern otherwise.
pub(crate) fn note(paths: &Paths, record: Record) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if let Err(error) = Journal::of(paths, record.book()).append(record)
        && !TOLD.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(%error, directory = %paths.log.display(), "causes cannot be noted down");
    }
}

/// Notes down that a process which had been away has ended, and what it had used there.
pub(crate) fn note_end(paths: &Paths, process: ProcessId, name: &str, used: UsedAway) {
    note(paths, now(What::Ended).process(process, name).used(used));
}

/// Reads on from a place, or from the oldest record, until it is told to stop; gives the place after the last one read.
pub(crate) fn read(
    paths: &Paths,
    book: Book,
    after: Option<Cursor>,
    each: &mut dyn FnMut(Record) -> ControlFlow<()>,
) -> Result<Cursor, Error> {
    Journal::of(paths, book).read(after, each).map_err(Error::file("read", &paths.log))
}

/// The last record of the end of this very process.
pub(crate) fn end_of(paths: &Paths, process: ProcessId) -> Result<Option<Record>, Error> {
    let mut found = None;
    read(paths, Book::Causes, None, &mut |record| {
        if record.is_of(process) && matches!(record.what, What::Lost | What::Killed) {
            found = Some(record);
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

struct Journal {
    directory: PathBuf,
    name: &'static str,
    file_bytes_max: u64,
}

impl Journal {
    fn of(paths: &Paths, book: Book) -> Journal {
        let name = match book {
            Book::Causes => "causes.jsonl",
            Book::Ends => "ends.jsonl",
        };
        Journal { directory: paths.log.clone(), name, file_bytes_max: FILE_BYTES_MAX }
    }

    fn file(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{}.{number}", self.name))
    }

    /// The numbers of the files that are there, the oldest first.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let number = |entry: fs::DirEntry| {
            entry.file_name().to_str()?.strip_prefix(self.name)?.strip_prefix('.')?.parse().ok()
        };
        let mut numbers: Vec<u64> = entries.flatten().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn append(&self, mut record: Record) -> io::Result<()> {
        if let Some((end, _)) = record.cause.char_indices().nth(CAUSE_CHARACTERS_MAX) {
            record.cause.truncate(end);
        }
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        let numbers = self.numbers()?;
        if numbers.is_empty() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.directory)?;
        }
        let number = numbers.last().copied().unwrap_or(1);
        let mut file = self.open(number)?;
        let length = file.metadata()?.len();
        if length >= self.file_bytes_max {
            file = self.open(number + 1)?;
            for old in numbers.iter().filter(|old| **old + OLD_FILES_MAX < number + 1) {
                // Somebody else may be doing the same.
                let _ = fs::remove_file(self.file(*old));
            }
        } else if !ends_a_line(&file, length)? {
            // A full disk has torn the last line; it is not to take this one with it.
            line.insert(0, b'\n');
        }
        file.write_all(&line)
    }

    fn open(&self, number: u64) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).read(true).create(true).mode(0o640).custom_flags(NOFOLLOW);
        options.open(self.file(number))
    }

    fn read(
        &self,
        after: Option<Cursor>,
        each: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> io::Result<Cursor> {
        let mut place = after.unwrap_or(Cursor { file: 0, offset: 0 });
        for number in self.numbers()? {
            // What lies before the place was read; a file that is gone is before all others.
            if number < place.file {
                continue;
            }
            if number > place.file {
                place = Cursor { file: number, offset: 0 };
            }
            match File::open(self.file(number)) {
                Ok(file) => {
                    if read_file(file, &mut place.offset, each)?.is_break() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(place)
    }
}

/// Reads the whole lines of a file from an offset on, which is moved along.
fn read_file(
    mut file: File,
    offset: &mut u64,
    each: &mut dyn FnMut(Record) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    file.seek(SeekFrom::Start(*offset))?;
    let mut reader = BufReader::new(file);
    loop {
        let mut line = Vec::new();
        let length = io::Read::take(&mut reader, LINE_BYTES_MAX).read_until(b'\n', &mut line)? as u64;
        // A line without an end may still get one; one that is too long is passed over in pieces.
        if length == 0 || (!line.ends_with(b"\n") && length < LINE_BYTES_MAX) {
            return Ok(ControlFlow::Continue(()));
        }
        *offset += length;
        if let Ok(record) = serde_json::from_slice(&line)
            && each(record).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
    }
}

fn ends_a_line(file: &File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    Ok(file.read_at(&mut byte, last)? == 0 || byte == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(file_bytes_max: u64) -> (tempfile::TempDir, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let journal =
            Journal { directory: directory.path().join("log"), name: "causes.jsonl", file_bytes_max };
        (directory, journal)
    }

    fn record(number: u64) -> Record {
        let process = ProcessId { pid: 7, start_ticks: number };
        Record::at(number, What::Moved).process(process, "a\nb").cause("because")
    }

    fn times(journal: &Journal, after: Option<Cursor>) -> (Vec<u64>, Cursor) {
        let mut times = Vec::new();
        let next = journal
            .read(after, &mut |record| {
                times.push(record.at_ms);
                ControlFlow::Continue(())
            })
            .unwrap();
        (times, next)
    }

    #[test]
    fn what_is_noted_is_read_on_from_any_place() {
        let (_directory, journal) = journal(FILE_BYTES_MAX);
        assert_eq!(times(&journal, None).0, [0; 0]);
        journal.append(record(1)).unwrap();
        journal.append(record(2)).unwrap();
        let (all, next) = times(&journal, None);
        assert_eq!(all, [1, 2]);
        assert_eq!(times(&journal, Some(next)), (vec![], next));
        journal.append(record(3)).unwrap();
        assert_eq!(times(&journal, Some(next)).0, [3]);
        let first = journal.read(None, &mut |_| ControlFlow::Break(())).unwrap();
        assert_eq!(times(&journal, Some(first)).0, [2, 3]);
    }

    #[test]
    fn it_is_bounded_and_a_place_that_is_gone_is_before_all_others() {
        let (_directory, journal) = journal(1000);
        journal.append(record(0)).unwrap();
        let (_, early) = times(&journal, None);
        let mut last = early;
        let mut followed = Vec::new();
        for number in 1..200 {
            journal.append(record(number)).unwrap();
            let (more, next) = times(&journal, Some(last));
            followed.extend(more);
            last = next;
        }
        assert_eq!(followed, (1..200).collect::<Vec<_>>(), "whoever follows misses nothing");
        let kept = times(&journal, None).0;
        assert_eq!(kept, (*kept.first().unwrap()..200).collect::<Vec<_>>());
        assert_eq!(times(&journal, Some(early)).0, kept);
        let bytes: u64 = fs::read_dir(&journal.directory)
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes < 1200 * (OLD_FILES_MAX + 1), "{bytes}");
    }

    #[test]
    fn torn_lines_and_strange_ones_cost_only_themselves() {
        let (_directory, journal) = journal(FILE_BYTES_MAX);
        journal.append(record(1)).unwrap();
        let mut file = OpenOptions::new().append(true).open(journal.file(1)).unwrap();
        let long = vec![b'x'; 10_000];
        file.write_all(b"{\"at_ms\":9,\"wh").unwrap();
        assert_eq!(times(&journal, None).0, [1]);
        journal.append(record(2)).unwrap();
        file.write_all(&[&long[..], b"\n\xff\xfe\n{}\n"].concat()).unwrap();
        journal.append(record(3)).unwrap();
        assert_eq!(times(&journal, None).0, [1, 2, 3]);
    }

    #[test]
    fn a_full_disk_and_a_missing_directory_harm_nobody() {
        let paths = Paths { log: "/dev/full/log".into(), ..Paths::default() };
        note(&paths, record(1));
        let journal = Journal { directory: "/proc/self".into(), name: "causes.jsonl", file_bytes_max: 1 };
        journal.append(record(1)).unwrap_err();
        let long = Record { cause: "\u{fc}".repeat(100_000), ..record(1) };
        let (_directory, journal) = self::journal(FILE_BYTES_MAX);
        journal.append(long).unwrap();
        assert_eq!(times(&journal, None).0, [1]);
    }

    #[test]
    fn many_writers_lose_nothing() {
        let (_directory, journal) = journal(20_000);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let journal = &journal;
                scope.spawn(move || {
                    (0..100).for_each(|number| journal.append(record(writer * 100 + number)).unwrap())
                });
            }
        });
        let mut all = times(&journal, None).0;
        all.sort_unstable();
        assert_eq!(all, (0..400).collect::<Vec<_>>());
    }
}
