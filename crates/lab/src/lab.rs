//! A running lab in the hands of a program: made, found, taken down.

use crate::cgroup;
use crate::cut::{self, Cable};
use crate::daemon;
use crate::ending::Ending;
use crate::entry::Entry;
use crate::error::{Doing, Error, Result};
use crate::fork::fork;
use crate::identity::{self, identify};
use crate::keeper;
use crate::plan::{self, Plan};
use crate::report::Report;
use crate::spec::{self, Daemons, Spec};
use crate::state::{self, Lock, NodeState, State};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, geteuid, pipe2};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::process::Command;

/// Milliseconds that a killed lab may take to be gone.
const DEATH_MS_MAX: u16 = 30_000;

/// A running lab.
///
/// One made by [`Lab::up`] goes down when it is dropped, and also when the program dies in
/// whatever way, unless it is [let go](Lab::let_go). One found by [`Lab::find`] stays.
#[derive(Debug)]
pub struct Lab {
    state: State,
    leash: Option<Leash>,
}

/// What ties a lab to the program that made it.
#[derive(Debug)]
struct Leash {
    pipe: OwnedFd,
    keeper: Pid,
}

impl Lab {
    /// Makes a lab. On failure nothing of it is left.
    ///
    /// The calling thread waits until every node is set up and, where there are daemons, until each answers.
    pub fn up(spec: &Spec) -> Result<Lab> {
        need_root()?;
        Lab::up_as_planned(plan::plan(spec)?)
    }

    pub(crate) fn up_as_planned(mut plan: Plan) -> Result<Lab> {
        state::sweep();
        let lock = state::lock_new(&plan.name)?;
        if lock.supervisor().is_some() {
            return Err(Error::AlreadyUp(plan.name));
        }
        // What a predecessor left is not ours to trip over.
        cgroup::remove(&plan.name)?;
        if let Err(error) = plan.make_groups() {
            // The first error is the one to tell.
            let _ = lock.remove_remains();
            return Err(error);
        }
        match raise(&plan, &lock) {
            Ok(lab) => Ok(lab),
            Err((error, keeper)) => {
                if let Some(Leash { pipe, keeper }) = keeper {
                    drop(pipe);
                    // The keeper cleans up under the lock.
                    drop(lock);
                    await_keeper(keeper);
                } else {
                    let _ = lock.remove_remains();
                }
                Err(error)
            }
        }
    }

    /// Finds a running lab by its name.
    pub fn find(name: &str) -> Result<Lab> {
        spec::check_name(name)?;
        if geteuid().is_root() {
            state::sweep();
        }
        let state = state::read(name)?.filter(|state| identity::hold(state.supervisor).is_some());
        let state = state.ok_or_else(|| Error::NoSuchLab(name.to_owned()))?;
        Ok(Lab { state, leash: None })
    }

    /// All running labs, by name.
    pub fn all() -> Vec<State> {
        if geteuid().is_root() {
            state::sweep();
        }
        state::running()
    }

    /// What is known of the lab.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// One of its nodes by name.
    pub fn node(&self, name: &str) -> Result<&NodeState> {
        self.state.nodes.iter().find(|node| node.name == name).ok_or_else(|| Error::NoSuchNode {
            lab: self.state.name.clone(),
            node: name.to_owned(),
            known: self.state.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// A way into a node, as root and without a terminal unless told otherwise.
    pub fn enter(&self, node: &str) -> Result<Entry> {
        need_root()?;
        Entry::new(&self.state.name, self.node(node)?)
    }

    /// A command to be run in a node as root: [`Lab::enter`] in short.
    pub fn exec<S: AsRef<OsStr>>(&self, node: &str, argv: impl IntoIterator<Item = S>) -> Result<Command> {
        let mut argv = argv.into_iter();
        let program = argv.next().ok_or(Error::NoCommand)?;
        let mut command = self.enter(node)?.command(program)?;
        command.args(argv);
        Ok(command)
    }

    /// Cuts a node's network cable, or mends it. Nobody in the node is told.
    pub fn set_cable(&self, node: &str, cable: Cable) -> Result<()> {
        need_root()?;
        cut::set_cable(&self.state, self.node(node)?, cable)
    }

    /// Ends every TCP connection of a node with other machines, on both sides; gives their number.
    pub fn reset_connections(&self, node: &str) -> Result<usize> {
        need_root()?;
        cut::reset(&self.state, self.node(node)?)
    }

    /// Lets the lab outlive this program; [`Lab::find`] finds it again.
    pub fn let_go(mut self) -> Result<State> {
        if let Some(leash) = self.leash.take() {
            nix::unistd::write(&leash.pipe, b"!").doing(|| format!("let lab '{}' go", self.state.name))?;
        }
        Ok(self.state.clone())
    }

    /// Waits until somebody wishes the lab's end, or has brought it about.
    pub fn wait_for(&self, ending: &Ending) {
        if let Some(supervisor) = identity::hold(self.state.supervisor) {
            ending.wait(&supervisor);
        }
    }

    /// Takes the lab down: every process in it is killed, and nothing of it is left.
    pub fn down(mut self) -> Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<()> {
        let outcome = match state::lock_existing(&self.state.name)? {
            Some(lock) => self.kill(lock),
            None => Ok(()),
        };
        if let Some(Leash { pipe, keeper }) = self.leash.take() {
            drop(pipe);
            await_keeper(keeper);
        }
        outcome
    }

    fn kill(&self, lock: Lock) -> Result<()> {
        // The name may have gone to another lab meanwhile, which is none of our business.
        if state::read(&self.state.name)?.is_some_and(|noted| noted.supervisor != self.state.supervisor) {
            return Ok(());
        }
        if let Some(supervisor) = identity::hold(self.state.supervisor) {
            supervisor.kill();
            if !supervisor.ended_within(Some(DEATH_MS_MAX)) {
                return Err(Errno::ETIMEDOUT).doing(|| format!("kill lab '{}'", self.state.name));
            }
        }
        lock.remove_remains()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.leash.is_some() {
            // Nobody is left to hear of a failure; the next command sweeps up.
            let _ = self.take_down();
        }
    }
}

fn need_root() -> Result<()> {
    if geteuid().is_root() { Ok(()) } else { Err(Error::NotRoot) }
}

fn await_keeper(keeper: Pid) {
    while waitpid(keeper, None) == Err(Errno::EINTR) {}
}

/// Starts the processes of a planned lab and notes it down. On failure they still run, held by the returned leash.
fn raise(plan: &Plan, lock: &Lock) -> std::result::Result<Lab, (Error, Option<Leash>)> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).doing(|| "make a pipe".to_owned());
    let (leash_end, leash) = pipe().map_err(|error| (error, None))?;
    let (reports, report) = pipe().map_err(|error| (error, None))?;
    let mut handed = Some(report);
    let keeper = fork(|| match handed.take() {
        Some(report) => keeper::run(plan, &leash_end, report),
        None => 1,
    });
    let keeper = keeper.doing(|| "fork the lab's keeper".to_owned()).map_err(|error| (error, None))?;
    drop(handed);
    let leash = Leash { pipe: leash, keeper };
    match note_down(plan, lock, reports) {
        Ok(state) => Ok(Lab { state, leash: Some(leash) }),
        Err(error) => Err((error, Some(leash))),
    }
}

fn note_down(plan: &Plan, lock: &Lock, reports: OwnedFd) -> Result<State> {
    let died = || Error::SupervisorDied(plan.name.clone());
    let (supervisor, pids) = match Report::receive(reports) {
        Some(Report::Ready { pid, nodes }) => (identify(pid).ok_or_else(died)?, nodes),
        Some(Report::Failed(why)) => return Err(Error::Setup(why)),
        None => return Err(died()),
    };
    let mut nodes = Vec::new();
    for (node, pid) in plan.nodes.iter().zip(pids) {
        nodes.push(NodeState {
            name: node.name.clone(),
            id: node.id,
            init: identify(pid).ok_or_else(died)?,
            address: node.address,
            cpus: node.cpus.clone(),
            cpu_share: node.cpu_share,
            memory: node.memory,
        });
    }
    let state = State { name: plan.name.clone(), supervisor, rate: plan.rate, nodes };
    if plan.daemons == Daemons::Started {
        state.nodes.iter().try_for_each(daemon::await_answer)?;
        state.nodes.iter().try_for_each(|node| daemon::await_company(node, state.nodes.len()))?;
    }
    lock.write(&state)?;
    Ok(state)
}
