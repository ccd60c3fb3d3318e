//! Datagrams between nodes for whoever has something small to say: a channel is a number, a payload is opaque here.

use super::Discovery;
use crate::Error;
use model::NodeId;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// The channel of membership itself.
pub(super) const MEMBERSHIP: u8 = 0;
/// Datagrams that wait for a receiver; more are dropped, as a network drops them.
const WAITING_MAX: usize = 1024;

/// Bytes of one datagram's payload, at most.
pub const DATAGRAM_BYTES_MAX: usize = net::DATAGRAM_PAYLOAD_MAX;

/// A datagram that came from a member which this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sends it. It is *a* member; that it is this one is only as sure as all members are honest.
    pub from: NodeId,
    /// What it says.
    pub payload: Vec<u8>,
}

/// Sends and receives datagrams, sealed with the cluster's key. Any of them may be lost, none comes twice.
#[derive(Clone, Debug)]
pub struct Datagrams(Discovery);

impl Datagrams {
    pub(super) fn new(discovery: Discovery) -> Datagrams {
        Datagrams(discovery)
    }

    /// Sends a payload of at most [`DATAGRAM_BYTES_MAX`] bytes to a node. Success does not mean that it arrives.
    pub fn send(&self, to: NodeId, channel: u8, payload: &[u8]) -> Result<(), Error> {
        let unknown = || Error::Cluster(format!("node {to} is not in reach of datagrams"));
        let shared = &self.0.0;
        let (Some(seal), Some(unicast)) = (shared.seal.get(), shared.unicast.get()) else {
            return Err(unknown());
        };
        let seen = self.0.seen(to).ok_or_else(unknown)?;
        let address = seen.addresses.first().copied().ok_or_else(unknown)?;
        let datagram = seal.seal(channel, payload)?;
        unicast.send(address, &datagram).map_err(Error::system("send a datagram"))
    }

    /// Where the datagrams of a channel go from now on; one receiver for each channel. They end when it is dropped.
    pub fn register(&self, channel: u8) -> Result<Receiver<Datagram>, Error> {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let mut channels = self.0.0.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channel == MEMBERSHIP || channels.contains_key(&channel) {
            return Err(Error::Cluster(format!("the channel {channel} is taken")));
        }
        channels.insert(channel, sender);
        Ok(receiver)
    }
}

impl Discovery {
    /// Hands a datagram to whoever wants those of its channel.
    pub(super) fn deliver(&self, channel: u8, datagram: Datagram) {
        let mut channels = self.0.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = channels.get(&channel).map(|sender: &SyncSender<Datagram>| sender.try_send(datagram));
        match outcome {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Disconnected(_))) => drop(channels.remove(&channel)),
            Some(Err(TrySendError::Full(_))) | None => self.0.counts.datagrams_unwanted.add(),
        }
    }
}
