//! A deputy that is stopped while its remote is to leave its host: the last calls of the remote end only if it works.

use crate::journey::Result;
use std::time::Duration;
use tracee::stir::Stirred;

/// How often it is looked whether a deputy that is waited for is stopped.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// Lets a deputy work that is stopped, or becomes so.
pub(super) struct Stir {
    pid: i32,
    stirred: Option<Stirred>,
}

impl Stir {
    /// Begins, if it is stopped by now.
    pub(super) fn begin(pid: i32) -> Result<Stir> {
        let mut stir = Stir { pid, stirred: None };
        stir.look()?;
        Ok(stir)
    }

    /// Whether it is stopped, or was when its tracer stopped it.
    pub(super) fn is_wanted(pid: i32) -> bool {
        procinfo::stat(pid).is_ok_and(|stat| stat.state.eq_ignore_ascii_case(&b'T'))
    }

    /// Begins, if it has been stopped since. Fails if somebody else traces it.
    pub(super) fn look(&mut self) -> Result<()> {
        if self.stirred.is_none() && Stir::is_wanted(self.pid) {
            self.stirred = Some(Stirred::begin(self.pid)?);
        }
        Ok(())
    }

    /// It has ended its work; whether it is stopped again.
    pub(super) fn end(self) -> bool {
        self.stirred.is_some_and(Stirred::end)
    }
}
