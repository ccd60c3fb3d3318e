//! A network in memory: networks without routers between them except by seeds, loss, cuts, pauses, crashes. A seed
//! makes all of it.

use membership::{Effect, Event, Input, Membership, Sender, Settings, State, Via};
use model::NodeId;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const DELAY_MS: std::ops::Range<u64> = 1..20;

pub(crate) struct Node {
    machine: Option<Membership>,
    pub(crate) id: NodeId,
    pub(crate) address: SocketAddr,
    /// Its multicast reaches those with the same number.
    lan: u8,
    /// Nodes with different numbers do not hear each other at all.
    pub(crate) side: u8,
    pub(crate) paused: bool,
    pub(crate) events: Vec<Event>,
    pub(crate) sent: u64,
    pub(crate) bytes: u64,
}

#[derive(Clone)]
struct Packet {
    to: usize,
    sender: Sender,
    payload: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) nodes: Vec<Node>,
    pub(crate) loss: f64,
    pub(crate) death_known_within: Duration,
    packets: BTreeMap<(Duration, u64), Packet>,
    made: u64,
    rng: StdRng,
}

pub(crate) fn id(number: u16) -> NodeId {
    NodeId::new(number).unwrap()
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        println!("seed {seed}");
        World {
            now: Duration::from_secs(100),
            nodes: Vec::new(),
            loss: 0.0,
            death_known_within: Duration::from_secs(10),
            packets: BTreeMap::new(),
            made: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// A machine is switched on; gives its place in the world.
    pub(crate) fn add(&mut self, number: u16, lan: u8, seeds: &[SocketAddr]) -> usize {
        let place = self.nodes.len();
        let address = SocketAddr::from(([10, lan, (place >> 8) as u8, place as u8], 4660));
        self.nodes.push(Node {
            machine: None,
            id: id(number),
            address,
            lan,
            side: 0,
            paused: false,
            events: Vec::new(),
            sent: 0,
            bytes: 0,
        });
        self.start(place, 1000 + place as u64, seeds);
        place
    }

    /// Its daemon is started with this incarnation.
    pub(crate) fn start(&mut self, place: usize, incarnation: u64, seeds: &[SocketAddr]) {
        let node = &mut self.nodes[place];
        let settings = Settings {
            authority: [1; 32],
            node: node.id,
            incarnation,
            name: format!("n{}-{place}", node.id),
            beacon_every: Duration::from_secs(5),
            death_known_within: self.death_known_within,
            payload_max: 1341,
        };
        node.machine = Some(Membership::new(settings, self.rng.random()));
        self.step(place, Input::Addresses(vec![self.nodes[place].address]));
        self.step(place, Input::Seeds(seeds.to_vec()));
    }

    pub(crate) fn crash(&mut self, place: usize) {
        self.nodes[place].machine = None;
    }

    pub(crate) fn machine(&self, place: usize) -> &Membership {
        self.nodes[place].machine.as_ref().unwrap()
    }

    pub(crate) fn step(&mut self, place: usize, input: Input<'_>) {
        let mut effects = Vec::new();
        let Some(machine) = self.nodes[place].machine.as_mut() else { return };
        machine.step(self.now, input, &mut effects);
        let own = machine.own();
        let (id, incarnation) = (own.node, own.incarnation);
        let (from, lan) = (self.nodes[place].address, self.nodes[place].lan);
        for effect in effects {
            let (to, payload, via): (Vec<usize>, _, _) = match effect {
                Effect::Event(event) => {
                    self.nodes[place].events.push(event);
                    continue;
                }
                Effect::Incarnation(_) => continue,
                Effect::Send { to, payload } => {
                    let at = |address| self.nodes.iter().position(|node| node.address == address);
                    (to.into_iter().filter_map(at).collect(), payload, Via::Unicast)
                }
                Effect::Announce { payload } => {
                    let near = (0..self.nodes.len()).filter(|other| self.nodes[*other].lan == lan);
                    (near.collect(), payload, Via::Multicast)
                }
            };
            assert!(payload.len() <= 1341, "a message fits into a datagram");
            self.nodes[place].sent += 1;
            self.nodes[place].bytes += payload.len() as u64;
            let sender = Sender { node: id, incarnation, from, via };
            for to in to {
                if self.rng.random_bool(self.loss) || self.nodes[to].side != self.nodes[place].side {
                    continue;
                }
                self.made += 1;
                let at = self.now + Duration::from_millis(self.rng.random_range(DELAY_MS));
                let packet = Packet { to, sender, payload: payload.clone() };
                self.packets.insert((at, self.made), packet);
            }
        }
    }

    /// Lets the world go on for so many seconds.
    pub(crate) fn run(&mut self, seconds: u64) {
        self.run_until(seconds, |_| false);
    }

    /// Lets it go on until something holds, at most so many seconds; says whether it did, and after how many
    /// milliseconds.
    pub(crate) fn run_until(&mut self, seconds: u64, holds: impl Fn(&World) -> bool) -> (bool, u128) {
        let (begin, end) = (self.now, self.now + Duration::from_secs(seconds));
        while self.now < end {
            if holds(self) {
                return (true, (self.now - begin).as_millis());
            }
            // A stride of the world: everything that is due, in its order.
            self.now += Duration::from_millis(10);
            while let Some(entry) = self.packets.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let Packet { to, sender, payload } = entry.remove();
                let deaf = self.nodes[to].paused;
                if !deaf {
                    self.step(to, Input::Datagram { sender, payload: &payload });
                }
            }
            for place in 0..self.nodes.len() {
                let node = &self.nodes[place];
                let due = node.machine.as_ref().is_some_and(|machine| machine.wake() <= self.now);
                if due && !node.paused {
                    // After a pause there is more to do than one step takes, but not without end.
                    let ticks = (0..64).take_while(|_| {
                        self.step(place, Input::Tick);
                        self.machine(place).wake() <= self.now
                    });
                    assert!(ticks.count() < 64, "it would never sleep");
                }
            }
        }
        (holds(self), (self.now - begin).as_millis())
    }

    /// What one machine thinks of a node.
    pub(crate) fn state(&self, place: usize, node: NodeId) -> Option<State> {
        self.machine(place).entry(node).map(|entry| entry.state)
    }

    /// Whether all the running ones think this of all of these.
    pub(crate) fn all_think(&self, nodes: &[u16], state: State) -> bool {
        self.running().all(|place| {
            nodes
                .iter()
                .map(|number| id(*number))
                .all(|node| node == self.nodes[place].id || self.state(place, node) == Some(state))
        })
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|place| self.nodes[*place].machine.is_some())
    }
}
