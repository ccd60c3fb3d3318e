//! The thread that owns the machine: it reads the sockets, tells the time, and does what the machine wants.

use super::datagrams::MEMBERSHIP;
use super::interfaces::{self, Interface};
use super::sockets::Sockets;
use super::{Datagram, Discovery, Missed, Order, Seen, lives, memory};
use crate::config::Peer;
use crate::{Error, journal};
use control::What;
use membership::{Effect, Event, Found, Input, Membership, Place, Sender, Settings, State, Via};
use model::NodeId;
use model::limits::DATAGRAM_BYTES_MAX;
use net::{DATAGRAM_PAYLOAD_MAX, Dropped, Opened, Seal};
use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// How often the interfaces are looked at: they come and go.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often what is known is published where nothing notable has happened.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// Datagrams that are read before the time is looked at again.
const DATAGRAMS_PER_TURN: usize = 256;
/// How often strangers on the network are mentioned in the log.
const MENTION_EVERY: Duration = Duration::from_secs(600);

pub(super) struct Watch {
    discovery: Discovery,
    machine: Membership,
    sockets: Sockets,
    orders: Receiver<Order>,
    began: Instant,
    next_look: Instant,
    next_publish: Instant,
    /// The last line about the networks, so that it is said once.
    said: Option<String>,
    strangers_mentioned: Option<Instant>,
    other_cluster_mentioned: Option<Instant>,
    /// What was written down last.
    remembered: Vec<Peer>,
    effects: Vec<Effect>,
}

impl Watch {
    pub(super) fn new(discovery: &Discovery, orders: Receiver<Order>) -> Result<Watch, Error> {
        let shared = &discovery.0;
        let incarnation = lives::next(&shared.paths);
        discovery.seal(incarnation)?;
        let sockets = Sockets::open(shared.listen, &shared.rules)?;
        let _ = shared.unicast.set(sockets.unicast.clone());
        let _ = shared.wake.set(sockets.waker());
        let settings = Settings {
            authority: shared.authority,
            node: shared.own,
            incarnation,
            name: shared.name.clone(),
            beacon_every: Duration::from_secs(shared.rules.beacon_seconds),
            death_known_within: Duration::from_secs(shared.rules.dead_after_seconds),
            payload_max: DATAGRAM_PAYLOAD_MAX,
        };
        let now = Instant::now();
        Ok(Watch {
            discovery: discovery.clone(),
            machine: Membership::new(settings, rand::random()),
            sockets,
            orders,
            began: now,
            next_look: now,
            next_publish: now,
            said: None,
            strangers_mentioned: None,
            other_cluster_mentioned: None,
            remembered: discovery.remembered().to_vec(),
            effects: Vec::new(),
        })
    }

    /// Runs until the process ends, or until the kernel refuses to wait.
    pub(super) fn run(mut self) {
        loop {
            let now = Instant::now();
            if now >= self.next_look {
                self.next_look = now + LOOK_EVERY;
                self.look_at_networks();
                self.discovery.age_keys();
            }
            while let Ok(order) = self.orders.try_recv() {
                self.step(match order {
                    Order::Seeds(seeds) => Input::Seeds(seeds),
                    Order::Leave => Input::Leave,
                    Order::Stay => Input::Stay,
                });
            }
            if self.machine.wake() <= self.began.elapsed() {
                self.step(Input::Tick);
            }
            if Instant::now() >= self.next_publish {
                self.publish();
            }
            let due = self.machine.wake().saturating_sub(self.began.elapsed());
            let due = due.min(self.next_look.saturating_duration_since(Instant::now()));
            if let Err(error) = self.sockets.wait(due) {
                tracing::error!(%error, "other nodes are no longer looked for");
                return;
            }
            self.read();
        }
    }

    fn step(&mut self, input: Input<'_>) {
        let mut effects = std::mem::take(&mut self.effects);
        self.machine.step(self.began.elapsed(), input, &mut effects);
        let mut notable = false;
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, payload } => {
                    let Some(datagram) = self.sealed(&payload) else { continue };
                    for address in to {
                        if let Err(error) = self.sockets.unicast.send(address, &datagram) {
                            tracing::debug!(%address, %error, "cannot send");
                        }
                    }
                }
                Effect::Announce { payload } => {
                    if let Some(datagram) = self.sealed(&payload) {
                        self.sockets.announce(&datagram);
                    }
                }
                Effect::Incarnation(incarnation) => {
                    if let Some(seal) = self.discovery.0.seal.get() {
                        seal.set_incarnation(incarnation);
                    }
                    lives::note(&self.discovery.0.paths, incarnation);
                }
                Effect::Event(event) => {
                    notable = true;
                    self.tell(&event);
                }
            }
        }
        self.effects = effects;
        if notable {
            self.publish();
        }
    }

    fn sealed(&self, payload: &[u8]) -> Option<Vec<u8>> {
        self.discovery.0.counts.datagrams_sent.add();
        self.discovery.0.seal.get().and_then(|seal: &Seal| seal.seal(MEMBERSHIP, payload).ok())
    }

    fn read(&mut self) {
        // One more byte than is allowed, so that what is too long is seen to be.
        let mut room = [0; DATAGRAM_BYTES_MAX + 1];
        for _ in 0..DATAGRAMS_PER_TURN {
            let Some((length, from, via)) = self.sockets.receive(&mut room) else { return };
            if let Some(datagram) = room.get_mut(..length) {
                self.take(datagram, from, via);
            }
        }
    }

    fn take(&mut self, datagram: &mut [u8], from: SocketAddr, via: Via) {
        let discovery = self.discovery.clone();
        let counts = &discovery.0.counts;
        counts.datagrams_received.add();
        let Some(seal) = discovery.0.seal.get() else { return };
        match seal.open(datagram) {
            Ok(opened) if discovery.0.rules.refuse.contains(&opened.header.node) => {
                counts.datagrams_refused.add();
            }
            Ok(opened) => self.take_opened(opened, from, via),
            Err(Dropped::Foreign) => counts.datagrams_foreign.add(),
            Err(Dropped::Forged) => counts.datagrams_forged.add(),
            Err(Dropped::Replayed) => counts.datagrams_replayed.add(),
            Err(Dropped::UnknownKey { key, claimed }) => {
                counts.datagrams_unknown_key.add();
                // It may have heard of a new key. Asking for it is done elsewhere, one at a time, of nodes that are known; a
                // node that knows nobody has to ask whoever speaks.
                let known = self.machine.entry(claimed).is_some() || self.machine.entries().next().is_none();
                if known && claimed != discovery.0.own {
                    let _ = discovery.0.unknown_keys.try_send(Missed { key, claimed, from });
                }
                if is_time(&mut self.strangers_mentioned) {
                    tracing::warn!(%from, %key, "datagrams under a key that this node does not have: another cluster on this network, or this node has missed a new key; they are dropped");
                }
            }
        }
    }

    fn take_opened(&mut self, opened: Opened<'_>, from: SocketAddr, via: Via) {
        let Opened { header, channel, payload } = opened;
        if channel == MEMBERSHIP {
            let sender = Sender { node: header.node, incarnation: header.incarnation, from, via };
            return self.step(Input::Datagram { sender, payload });
        }
        let known = self.machine.entry(header.node);
        if known.is_some_and(|entry| entry.record.incarnation == header.incarnation) {
            self.discovery.deliver(channel, Datagram { from: header.node, payload: payload.to_vec() });
        } else {
            self.discovery.0.counts.datagrams_unwanted.add();
        }
    }

    fn publish(&mut self) {
        self.next_publish = Instant::now() + PUBLISH_EVERY;
        let refused = &self.discovery.0.rules.refuse;
        let entries = self.machine.entries().filter(|entry| !refused.contains(&entry.record.node));
        let view: Vec<Seen> = entries
            .map(|entry| Seen {
                id: entry.record.node,
                name: entry.record.name.clone(),
                addresses: entry.addresses().collect(),
                state: entry.state,
                since: self.began + entry.since,
                found: entry.found,
            })
            .collect();
        let worth = memory::worth(&view);
        if worth != self.remembered && !worth.is_empty() {
            if let Err(error) = memory::store(&self.discovery.0.paths, &worth) {
                tracing::debug!(%error, "cannot remember the other nodes");
            }
            self.remembered = worth;
        }
        *self.discovery.0.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    fn look_at_networks(&mut self) {
        let (listen, rules) = (self.discovery.0.listen, self.discovery.0.rules.clone());
        let all = match interfaces::all() {
            Ok(all) => all,
            Err(error) => return tracing::warn!(%error, "cannot see this machine's networks"),
        };
        let only_v6 = listen.ip().is_ipv4() && listen.ip().is_unspecified() && has_only_v6(&all);
        let chosen = interfaces::chosen(all, &rules, listen.ip());
        let addresses = interfaces::addresses(&chosen, listen);
        let line = match (&addresses[..], only_v6) {
            ([], true) => "this machine has IPv6 addresses only, and node.listen is IPv4; set listen = \"[::]:4660\". This node goes on alone".to_owned(),
            ([], false) => "there is no network to look for other nodes in: this node goes on alone until there is one".to_owned(),
            (addresses, _) => {
                let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                format!("looking for other nodes; reached at {}", texts.join(", "))
            }
        };
        if self.said.as_ref() != Some(&line) {
            match addresses.is_empty() {
                true => tracing::warn!("{line}"),
                false => tracing::info!("{line}"),
            }
            self.said = Some(line);
        }
        self.sockets.follow(chosen);
        let own = &self.discovery.0.own_addresses;
        own.write().unwrap_or_else(PoisonError::into_inner).clone_from(&addresses);
        self.step(Input::Addresses(addresses));
    }

    /// One line for what people want to know.
    fn tell(&mut self, event: &Event) {
        let discovery = self.discovery.clone();
        let counts = &discovery.0.counts;
        let by = |found: &Found| match found {
            Found::Multicast => "by multicast",
            Found::Seed => "at a seed",
            Found::Relay => "through another node",
        };
        match event {
            Event::Found { node, name, found } => tracing::info!(%node, name, "found {}", by(found)),
            Event::State { node, name, state } => {
                let note = |what, text: &str| {
                    let record = journal::now(what).node(*node).cause(format!("{name} {text}"));
                    journal::note(&discovery.0.paths, record);
                };
                match state {
                    State::Alive => {
                        tracing::info!(%node, name, "it is there");
                        note(What::NodeChanged, "is there");
                    }
                    State::Suspect => tracing::debug!(%node, name, "it does not answer"),
                    State::Gone => {
                        tracing::warn!(%node, name, "it is gone: nobody reaches it any more");
                        note(What::NodeLost, "is not reached by anybody");
                    }
                    State::Left => {
                        tracing::info!(%node, name, "it has left the cluster");
                        note(What::NodeChanged, "has left the cluster");
                    }
                }
            }
            Event::Duplicate { node, kept, other } => {
                tracing::error!("{}", duplicate(*node, kept, other));
            }
            Event::Rival { other, aside } => {
                let own = Place { name: Some(self.discovery.0.name.clone()), address: self.address() };
                let (kept, elder) = if *aside { (other, &own) } else { (&own, other) };
                let what = if *aside { "; this node goes on alone" } else { "" };
                tracing::error!("{}{what}", duplicate(self.discovery.0.own, kept, elder));
            }
            Event::RivalGone => {
                tracing::info!("the other machine with this node's id is silent; this node takes part again")
            }
            Event::SameName { name, first, second } => {
                tracing::warn!(
                    name,
                    "nodes {first} and {second} have one name: it means node {first}; give node {second} another one (node.name in its omd.toml)"
                );
            }
            Event::OtherCluster { from } => {
                counts.datagrams_refused.add();
                if is_time(&mut self.other_cluster_mentioned) {
                    tracing::warn!(%from, "a node of another cluster has this cluster's key; it is not let in. Make a new one: 'om key rotate'");
                }
            }
            Event::Full { node } => {
                tracing::debug!(%node, "there is no room for it");
            }
            Event::Garbage { node, what } => {
                counts.datagrams_garbage.add();
                tracing::debug!(%node, %what, "it sends what this node does not understand");
            }
        }
    }

    fn address(&self) -> SocketAddr {
        self.machine.own().addresses.first().copied().unwrap_or(self.discovery.0.listen)
    }
}

/// Whether something may be mentioned again, which counts as mentioning it.
fn is_time(mentioned: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let due = mentioned.is_none_or(|last| now.saturating_duration_since(last) > MENTION_EVERY);
    if due {
        *mentioned = Some(now);
    }
    due
}

fn duplicate(node: NodeId, kept: &Place, other: &Place) -> String {
    let named = |place: &Place| match &place.name {
        Some(name) => format!("'{name}' at {}", place.address),
        None => format!("one at {}", place.address),
    };
    format!(
        "two machines have the id {node}: {}, which was started later and is used, and {}; let one of them join anew under another id ('om invite', 'om join')",
        named(kept),
        named(other)
    )
}

fn has_only_v6(all: &[Interface]) -> bool {
    let mut outside = all.iter().filter(|interface| !interface.loopback).peekable();
    let is_global = |ip: &std::net::Ipv6Addr| !IpAddr::V6(*ip).is_unspecified();
    outside.peek().is_some()
        && outside.all(|interface| interface.v4.is_empty() && interface.v6.iter().all(is_global))
}
