//! What a step of the machine takes and brings.

use crate::message::Malformed;
use crate::roster::{Found, Place, State};
use core::net::SocketAddr;
use core::time::Duration;
use model::NodeId;

/// What a node begins with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// SHA-256 of the authority's certificate.
    pub authority: [u8; 32],
    /// This node.
    pub node: NodeId,
    /// Its life: higher than that of every life before.
    pub incarnation: u64,
    /// Its name.
    pub name: String,
    /// How often it announces itself.
    pub beacon_every: Duration,
    /// How soon a node that has died is to count as dead; not zero.
    pub death_known_within: Duration,
    /// Bytes of one message, at most.
    pub payload_max: usize,
}

/// How a datagram came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Into a group of a network.
    Multicast,
    /// To this node.
    Unicast,
}

/// Who sends a datagram, as it says there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its id.
    pub node: NodeId,
    /// Its life.
    pub incarnation: u64,
    /// Where the packet came from.
    pub from: SocketAddr,
    /// How it came.
    pub via: Via,
}

/// What happens to a node.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// It is time: see [`Membership::wake`].
    Tick,
    /// A datagram that a member has sealed.
    Datagram {
        /// Who sends it.
        sender: Sender,
        /// A [`Message`].
        payload: &'a [u8],
    },
    /// This node's own addresses, the likeliest first.
    Addresses(Vec<SocketAddr>),
    /// Where other nodes may be: this node announces itself there until it finds them.
    Seeds(Vec<SocketAddr>),
    /// This node takes leave.
    Leave,
    /// It stays after all.
    Stay,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a message to each of these addresses.
    Send {
        /// The addresses, all of one node; more than one where it is not known which is good.
        to: Vec<SocketAddr>,
        /// The message.
        payload: Vec<u8>,
    },
    /// Send a message to the groups of all networks.
    Announce {
        /// The message.
        payload: Vec<u8>,
    },
    /// Seal with this incarnation from now on.
    Incarnation(u64),
    /// Something that somebody wants to know.
    Event(Event),
}

/// Something that somebody wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node was found.
    Found {
        /// Its id.
        node: NodeId,
        /// Its name.
        name: String,
        /// How.
        found: Found,
    },
    /// A node's state has changed.
    State {
        /// Its id.
        node: NodeId,
        /// Its name.
        name: String,
        /// What is thought of it now.
        state: State,
    },
    /// Two machines use one id. The first one is kept.
    Duplicate {
        /// The id.
        node: NodeId,
        /// The younger one.
        kept: Place,
        /// The elder one.
        other: Place,
    },
    /// Another machine uses this node's id.
    Rival {
        /// The other one.
        other: Place,
        /// This node is the elder one and steps aside.
        aside: bool,
    },
    /// The other machine that used this node's id is silent, and this node takes part again.
    RivalGone,
    /// Two nodes have one name; the one with the lower id is meant by it.
    SameName {
        /// The name.
        name: String,
        /// The node that is meant.
        first: NodeId,
        /// The other one.
        second: NodeId,
    },
    /// A node of another cluster that has this cluster's key.
    OtherCluster {
        /// Where it speaks from.
        from: SocketAddr,
    },
    /// There is no room for this node.
    Full {
        /// Its id.
        node: NodeId,
    },
    /// A member sent what this protocol does not know.
    Garbage {
        /// Who, as it says.
        node: NodeId,
        /// What is wrong.
        what: Malformed,
    },
}
