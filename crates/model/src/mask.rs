//! Which nodes a process may use: openMosix's cluster mask. Children inherit it.

use crate::NodeId;
use crate::limits::MASK_NODES_MAX;
use serde::{Deserialize, Serialize};

/// The nodes that a process may, or may not, be moved to. Its home is always allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// Every node.
    #[default]
    Any,
    /// These only.
    Only(MaskNodes),
    /// All but these.
    Not(MaskNodes),
}

/// A set of at most [`MASK_NODES_MAX`] nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<NodeId>", into = "Vec<NodeId>")]
pub struct MaskNodes(Vec<NodeId>);

/// A mask names more nodes than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("take a cluster mask of {0} nodes: {MASK_NODES_MAX} are the most")]
pub struct MaskTooLong(usize);

impl TryFrom<Vec<NodeId>> for MaskNodes {
    type Error = MaskTooLong;
    fn try_from(mut nodes: Vec<NodeId>) -> Result<MaskNodes, MaskTooLong> {
        nodes.sort_unstable();
        nodes.dedup();
        if nodes.len() > MASK_NODES_MAX { Err(MaskTooLong(nodes.len())) } else { Ok(MaskNodes(nodes)) }
    }
}

impl From<MaskNodes> for Vec<NodeId> {
    fn from(nodes: MaskNodes) -> Vec<NodeId> {
        nodes.0
    }
}

impl Mask {
    /// Whether a process with this mask and this home may be on a node.
    pub fn allows(&self, node: NodeId, home: NodeId) -> bool {
        let named = |nodes: &MaskNodes| nodes.0.binary_search(&node).is_ok();
        node == home
            || match self {
                Mask::Any => true,
                Mask::Only(nodes) => named(nodes),
                Mask::Not(nodes) => !named(nodes),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: impl IntoIterator<Item = u16>) -> Result<MaskNodes, MaskTooLong> {
        MaskNodes::try_from(numbers.into_iter().filter_map(NodeId::new).collect::<Vec<_>>())
    }

    #[test]
    fn home_is_always_allowed() {
        let [home, two, three] = [1, 2, 3].map(|number| NodeId::new(number).unwrap());
        let listed = nodes([2, 2]).unwrap();
        for (mask, want) in [
            (Mask::Any, [true, true, true]),
            (Mask::Only(listed.clone()), [true, true, false]),
            (Mask::Not(listed), [true, false, true]),
            (Mask::Not(nodes([1, 2, 3]).unwrap()), [true, false, false]),
        ] {
            assert_eq!([home, two, three].map(|node| mask.allows(node, home)), want, "{mask:?}");
        }
    }

    #[test]
    fn a_mask_is_bounded() {
        assert!(nodes(1..=256).is_ok());
        assert_eq!(nodes(1..=257), Err(MaskTooLong(257)));
    }
}
