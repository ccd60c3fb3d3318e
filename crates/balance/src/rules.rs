//! Who may go where: masks, switches, features of CPUs.

use crate::entry::Sound;
use crate::job::JobId;
use model::{Mask, NodeId};
use std::collections::BTreeSet;
use wire::balance::Switches;

/// Pairs of classes of CPUs of which is known that a program of the first runs on the second.
const FITTING_MAX: usize = 1024;

/// Whether balancing may move a process at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hold {
    /// It may.
    #[default]
    Free,
    /// Somebody has locked it where it is.
    Locked,
    /// Something about it cannot be split from its home now (`model::Reason`).
    Confined,
}

/// What keeps a process from some nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// Whether it may be moved at all.
    pub hold: Hold,
    /// Its cluster mask.
    pub mask: Mask,
    /// Class of the CPU that it has looked at.
    pub cpu_class: u64,
}

/// Classes of CPUs that can run programs of other classes.
#[derive(Clone, Debug, Default)]
pub struct Classes(BTreeSet<(u64, u64)>);

impl Classes {
    /// A program that has looked at a CPU of class `program` runs on one of class `host`. What is beyond the bound is not
    /// remembered: such nodes are no candidates.
    pub fn allow(&mut self, program: u64, host: u64) {
        if self.0.len() < FITTING_MAX {
            self.0.insert((program, host));
        }
    }

    /// Whether it runs there, as far as is known.
    pub fn fits(&self, program: u64, host: u64) -> bool {
        program == host || self.0.contains(&(program, host))
    }
}

/// Whether a process with these bounds may go to the node that says this of itself. Its home takes it always.
pub fn may_go(home: NodeId, bounds: &Bounds, to: &Sound, classes: &Classes) -> bool {
    to.node() == home
        || (to.takes_guests()
            && bounds.mask.allows(to.node(), home)
            && classes.fits(bounds.cpu_class, to.entry().cpu_class))
}

/// Whether a process may leave this node by itself.
pub fn may_leave(id: &JobId, bounds: &Bounds, here: NodeId, switches: Switches) -> bool {
    let stays = switches.contains(Switches::STAY) || (switches.contains(Switches::LSTAY) && id.home == here);
    bounds.hold == Hold::Free && !stays
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::idle;
    use model::{MaskNodes, ProcessId};
    use wire::balance::Entry;

    fn node(number: u16) -> NodeId {
        NodeId::new(number).unwrap()
    }

    #[test]
    fn candidates_are_those_that_are_allowed() {
        let only_three = Mask::Only(MaskNodes::try_from(vec![node(3)]).unwrap());
        let bounds = Bounds { cpu_class: 7, ..Bounds::default() };
        let masked = Bounds { mask: only_three, ..bounds.clone() };
        let other = Bounds { cpu_class: 8, ..Bounds::default() };
        let mut classes = Classes::default();
        type Change = fn(&mut Entry);
        let table: [(&Bounds, Change, bool); 7] = [
            (&bounds, |_| {}, true),
            (&bounds, |entry| entry.switches = Switches::BLOCK, false),
            (&bounds, |entry| entry.switches = Switches::STAY, true),
            (&bounds, |entry| entry.guests_max = 0, false),
            (&bounds, |entry| (entry.node, entry.switches) = (node(1), Switches::all()), true),
            (&masked, |_| {}, false),
            (&other, |_| {}, false),
        ];
        for (index, (bounds, change, want)) in table.into_iter().enumerate() {
            let mut entry = idle(2);
            change(&mut entry);
            let sound = Sound::judge(entry).unwrap();
            assert_eq!(may_go(node(1), bounds, &sound, &classes), want, "row {index}");
        }
        classes.allow(8, 7);
        assert!(may_go(node(1), &other, &Sound::judge(idle(2)).unwrap(), &classes));
    }

    #[test]
    fn switches_and_locks_keep() {
        let own = JobId { home: node(1), process: ProcessId { pid: 1, start_ticks: 1 } };
        let guest = JobId { home: node(2), ..own };
        let free = Bounds::default();
        let locked = Bounds { hold: Hold::Locked, ..Bounds::default() };
        for (id, bounds, switches, want) in [
            (own, &free, Switches::empty(), true),
            (own, &free, Switches::LSTAY, false),
            (guest, &free, Switches::LSTAY, true),
            (guest, &free, Switches::STAY, false),
            (own, &locked, Switches::empty(), false),
        ] {
            assert_eq!(may_leave(&id, bounds, node(1), switches), want, "{id:?} {switches:?}");
        }
    }
}
