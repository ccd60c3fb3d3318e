//! The nodes of the cluster that are alive, without this one.

use model::NodeId;

/// They are asked for by every entry of every message: beside the list there is one bit for each possible id.
#[derive(Debug, Default)]
pub(super) struct Members {
    sorted: Vec<NodeId>,
    bits: Vec<u64>,
}

impl Members {
    /// All of these but `me`. As many as there are ids at most.
    pub(super) fn new(mut members: Vec<NodeId>, me: NodeId) -> Members {
        members.sort_unstable();
        members.dedup();
        members.retain(|member| *member != me);
        let largest = members.last().map_or(0, |last| usize::from(last.get()));
        let mut bits = vec![0; largest / 64 + 1];
        members.iter().for_each(|member| bits[usize::from(member.get()) / 64] |= 1 << (member.get() % 64));
        Members { sorted: members, bits }
    }

    /// Whether it is one of them.
    pub(super) fn contains(&self, node: NodeId) -> bool {
        let word = self.bits.get(usize::from(node.get()) / 64).copied().unwrap_or(0);
        word >> (node.get() % 64) & 1 == 1
    }

    /// By their ids.
    pub(super) fn sorted(&self) -> &[NodeId] {
        &self.sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_are_members_who_were_named() {
        let node = |number| NodeId::new(number).unwrap();
        let members = Members::new([200, 7, 64, 7, 63, 1].map(node).to_vec(), node(1));
        assert_eq!(members.sorted(), [7, 63, 64, 200].map(node));
        for number in 1..=u16::MAX {
            assert_eq!(members.contains(node(number)), [7, 63, 64, 200].contains(&number), "{number}");
        }
        assert!(!Members::new(Vec::new(), node(1)).contains(node(1)));
    }
}
