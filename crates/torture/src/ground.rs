//! Where torture takes place: a lab of its own.

use crate::compare;
use crate::crowd::Crowd;
use crate::daemon::Daemon;
use crate::error::{Doing, Error, Result};
use crate::footprint::{self, Footprint};
use crate::journal::Journal;
use crate::movers::{Movers, Progress};
use crate::plan::Plan;
use crate::report::{Counts, Report};
use crate::run::run;
use crate::tree::Tree;
use control::Request;
use lab::{Lab, NodeState, Spec};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The scratch directory of both runs, as they see it.
pub(crate) const SCRATCH: &str = "/tmp/torture/scratch";
/// Where the files of the first run wait for those of the second.
const PEACE: &str = "/tmp/torture/peace";

/// A lab in which nothing else happens. Dropped, it is gone.
#[derive(Debug)]
pub struct Ground {
    lab: Lab,
    born: Vec<Footprint>,
}

impl Ground {
    /// Makes a lab of this name. `programs` is the directory of `om` and `omd`, that of the running program by default.
    pub fn up(name: &str, nodes: u16, programs: Option<PathBuf>) -> Result<Ground> {
        if nodes < 2 {
            return Err(Error::TooFewNodes(nodes));
        }
        // Only torture moves anything.
        let settings = vec!["balance.automatic=false".to_owned()];
        let lab = Lab::up(&Spec { programs, settings, ..Spec::new(name, nodes) })?;
        let state = lab.state();
        let born = footprint::settled(|| Footprint::of_all(&state.name, &state.nodes));
        Ok(Ground { lab, born })
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    pub(crate) fn home(&self) -> &NodeState {
        &self.lab.state().nodes[0]
    }

    /// Lets the lab outlive this program, with the files of the last torture in it; its name.
    pub fn keep(self) -> Result<String> {
        Ok(self.lab.let_go()?.name)
    }

    /// Takes the lab down.
    pub fn down(self) -> Result<()> {
        Ok(self.lab.down()?)
    }

    /// What all tortures until now have left behind, and the lab did not have when it was made.
    pub fn remains(&self) -> Vec<String> {
        self.forget_the_dead();
        let (remains, _) = footprint::remains(&self.born, || self.footprints());
        remains.into_iter().map(|(_, text)| text).collect()
    }

    /// Runs the command in peace and under torture, and compares.
    ///
    /// Afterwards nothing of the command runs any more; the files of both runs stay until the next torture.
    pub fn torture(&mut self, plan: &Plan, watch: &(dyn Fn(&Progress) + Sync)) -> Result<Report> {
        let [scratch, peace] = [SCRATCH, PEACE].map(|path| self.home().seen_from_outside(path));
        clear(&peace)?;
        self.prepare(plan, &scratch)?;
        let crowd = Crowd::before(self.home());
        let began = Instant::now();
        let (calm, _) = run(self, plan, &crowd, None)?;
        let peace_seconds = began.elapsed().as_secs_f64();
        if calm.ending == crate::Ending::Endless {
            return Err(Error::TooSlow(plan.time_limit));
        }
        fs::rename(&scratch, &peace).doing(|| format!("rename {}", scratch.display()))?;
        self.prepare(plan, &scratch)?;

        let nodes = &self.lab.state().nodes;
        let before = footprint::settled(|| self.footprints());
        let journal = Journal::begin(nodes);
        let crowd = Crowd::before(self.home());
        let movers = Movers::new(&crowd, plan, self.home(), nodes, watch);
        let began = Instant::now();
        let (moved, stuck) = run(self, plan, &crowd, Some(&movers))?;
        let torture_seconds = began.elapsed().as_secs_f64();
        let tally = movers.into_tally();
        self.forget_the_dead();
        let (mut remains, after) = footprint::remains(&before, || self.footprints());
        // After the last agent has ended: what it said last may be the most interesting.
        let entries = journal.entries()?;
        remains.extend(footprint::groups_of(&entries.sessions, self.home()));
        let (peace_files, moved_files) = (Tree::of(&peace)?, Tree::of(&scratch)?);
        let differences = compare::differences((&calm, &peace_files), (&moved, &moved_files), &plan.masks)?;
        Ok(Report::new(Counts {
            seed: plan.seed,
            peace_seconds,
            torture_seconds,
            calm,
            printed_when_moved: moved.stdout,
            files: peace_files.count(),
            tally,
            entries,
            differences,
            stuck,
            remains,
            daemon_bytes: before.iter().zip(&after).map(|(a, b)| (a.daemon_bytes, b.daemon_bytes)).collect(),
        }))
    }

    /// Makes an empty scratch directory, with what is to be brought.
    fn prepare(&self, plan: &Plan, scratch: &Path) -> Result<()> {
        clear(scratch)?;
        fs::create_dir_all(scratch).doing(|| format!("make {}", scratch.display()))?;
        let open = Permissions::from_mode(0o1777);
        fs::set_permissions(scratch, open).doing(|| format!("open {}", scratch.display()))?;
        for source in &plan.brought {
            let doing = || format!("copy {}", source.display());
            let copied =
                Command::new("cp").args(["-a", "--"]).arg(source).arg(scratch).output().doing(doing)?;
            if !copied.status.success() {
                let text = String::from_utf8_lossy(&copied.stderr).trim().to_owned();
                return Err(io::Error::other(text)).doing(doing);
            }
        }
        Ok(())
    }

    fn footprints(&self) -> Vec<Footprint> {
        let state = self.lab.state();
        Footprint::of_all(&state.name, &state.nodes)
    }

    /// The daemon drops what it kept of processes that have ended when it is asked for all of them.
    fn forget_the_dead(&self) {
        // A daemon that does not answer is told of elsewhere.
        let _ = Daemon::of(self.home()).ask(&Request::Ps);
    }
}

fn clear(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
