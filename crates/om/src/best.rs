//! The best place for a process.

use crate::client::{Client, unexpected};
use crate::exit::Failure;
use control::{Answer, Request};
use model::{Destination, NodeId};

impl Client {
    /// The best node that is known, or the best of these.
    pub(crate) fn best(&mut self, among: &[NodeId]) -> Result<Destination, Failure> {
        match self.ask(&Request::Best { among: among.to_vec() })? {
            Answer::Found { node } => Ok(Destination::Node(node)),
            _ => Err(unexpected()),
        }
    }
}
