//! Faults on demand, for tests: each phase of a journey has a point by name, on each side.
//!
//! They exist only with the feature `faults`, which nothing that is shipped has; without it a point is nothing. What is to
//! happen is told by a file `fault` in the directory of the sockets, `POINT:kill`, `POINT:error` or `POINT:hang-SECONDS`.
//! The agent that comes by takes the file away, so a fault happens once.

use crate::config::Paths;
use crate::journey;

macro_rules! points {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// A place where a fault may happen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Point { $($(#[doc = $doc])* $name,)* }

        #[cfg(feature = "faults")]
        impl Point {
            fn name(self) -> &'static str {
                match self { $(Point::$name => $text,)* }
            }
        }

        /// All points by name; empty without the feature.
        #[cfg(feature = "faults")]
        pub const NAMES: &[&str] = &[$($text,)*];
        /// All points by name; empty without the feature.
        #[cfg(not(feature = "faults"))]
        pub const NAMES: &[&str] = &[];
    };
}

points! {
    /// The host's daemon has an offer before it.
    Offer = "daemon.offer",
    /// The host's daemon has started a warden and not yet said so.
    Accept = "daemon.accept",
    /// The keeper has a session at the next host.
    KeeperOffered = "keeper.offered",
    /// The files are there.
    KeeperFiles = "keeper.files",
    /// The body is made.
    KeeperBody = "keeper.body",
    /// The process stands still at home, captured.
    KeeperFrozen = "keeper.frozen",
    /// Its image is sent.
    KeeperImage = "keeper.image",
    /// Its pages are sent.
    KeeperPages = "keeper.pages",
    /// The remote is ready.
    KeeperPrepared = "keeper.prepared",
    /// The word is spoken.
    KeeperCommitted = "keeper.committed",
    /// The process is a deputy and not yet let go.
    KeeperHollow = "keeper.hollow",
    /// The remote runs.
    KeeperStarted = "keeper.started",
    /// The warden has a connection.
    WardenMet = "warden.met",
    /// It makes a body.
    WardenBody = "warden.body",
    /// It has the image.
    WardenImage = "warden.image",
    /// It has the pages.
    WardenPages = "warden.pages",
    /// It has said that it is ready.
    WardenPrepared = "warden.prepared",
    /// It has heard the word.
    WardenCommitted = "warden.committed",
    /// The guest runs, and its home has been told.
    WardenStarted = "warden.started",
    /// The remote stands still, for the way home.
    KeeperQuiesced = "keeper.quiesced",
    /// The deputy stands still.
    KeeperFlushed = "keeper.flushed",
    /// The image has come back, and nothing was changed yet.
    KeeperFill = "keeper.fill",
    /// The deputy is being emptied: the word.
    KeeperTaken = "keeper.taken",
    /// All of the process is home.
    KeeperFilled = "keeper.filled",
    /// The host has been told to drop what it has.
    KeeperReleased = "keeper.released",
    /// The guest is to stand still.
    WardenQuiesce = "warden.quiesce",
    /// It has been captured.
    WardenCaptured = "warden.captured",
    /// It has been sent.
    WardenSent = "warden.sent",
    /// It is to be dropped.
    WardenRelease = "warden.release",
    /// It is to go on here.
    WardenResume = "warden.resume",
    /// The old host has sent the files on.
    KeeperMoveOn = "keeper.move-on",
    /// The old host stands still.
    KeeperOnQuiesced = "keeper.on-quiesced",
    /// The old host has sent all of it.
    KeeperOnSent = "keeper.on-sent",
    /// The next host is ready.
    KeeperOnPrepared = "keeper.on-prepared",
    /// The word is spoken to the next host.
    KeeperOnCommitted = "keeper.on-committed",
    /// The remote runs at the next host.
    KeeperOnStarted = "keeper.on-started",
    /// The old host is about to send the files.
    WardenOnward = "warden.onward",
}

/// A fault may happen here.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub(crate) fn at(_paths: &Paths, _point: Point) -> journey::Result<()> {
    Ok(())
}

/// A fault may happen here.
#[cfg(feature = "faults")]
pub(crate) fn at(paths: &Paths, point: Point) -> journey::Result<()> {
    let path = paths.run.join("fault");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(()) };
    let Some((name, what)) = text.trim().split_once(':').filter(|(name, _)| *name == point.name()) else {
        return Ok(());
    };
    // Whoever removes it has it.
    if std::fs::remove_file(&path).is_err() {
        return Ok(());
    }
    tracing::warn!(point = name, what, "a fault on demand");
    match what {
        "kill" => {
            let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
            Ok(())
        }
        "error" => Err(journey::Error::Io {
            what: "doing as the test wants",
            source: std::io::Error::other("a fault on demand"),
        }),
        _ => {
            let seconds = what.strip_prefix("hang-").and_then(|seconds| seconds.parse().ok()).unwrap_or(5);
            std::thread::sleep(std::time::Duration::from_secs(seconds));
            Ok(())
        }
    }
}
