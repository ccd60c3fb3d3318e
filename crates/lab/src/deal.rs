//! Dealing the machine's CPUs out to the nodes.

use crate::error::{Doing, Error, Result};
use crate::spec::CpuShare;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

/// The CPUs that this process may use.
pub(crate) fn available() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).doing(|| "ask for the usable CPUs".to_owned())?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Deals `available` CPUs out round robin, so that nodes share a CPU only when all are taken.
pub(crate) fn deal(available: &[usize], shares: impl Iterator<Item = CpuShare>) -> Result<Vec<Vec<usize>>> {
    let mut next = 0;
    shares
        .map(|share| {
            let wanted = share.count();
            if wanted > available.len() {
                return Err(Error::TooManyCpus { wanted, available: available.len() });
            }
            let mut hand: Vec<_> =
                (next..next + wanted).map(|place| available[place % available.len()]).collect();
            next += wanted;
            hand.sort_unstable();
            Ok(hand)
        })
        .collect()
}

/// The set the kernel wants.
pub(crate) fn cpu_set(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for cpu in cpus {
        // Every number came out of such a set, so it fits into one.
        let _ = set.set(*cpu);
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_dealt_round_robin() {
        let shares =
            |list: &[u32]| list.iter().map(|percent| CpuShare { percent: *percent }).collect::<Vec<_>>();
        let dealt = |list: &[u32]| deal(&[0, 2, 5], shares(list).into_iter()).ok();
        assert_eq!(dealt(&[100, 100, 50, 100]), Some(vec![vec![0], vec![2], vec![5], vec![0]]));
        assert_eq!(dealt(&[200, 150]), Some(vec![vec![0, 2], vec![0, 5]]));
        assert_eq!(dealt(&[400]), None);
    }
}
