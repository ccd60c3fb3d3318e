//! Many nodes in a network in memory, deterministic by seed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod world;

use membership::{Event, Found, Input, State};
use proptest::prelude::*;
use std::time::Duration;
use world::{World, id};

/// Seconds after which everybody knows of a change at the latest, with some loss.
const KNOWN: u64 = 30;

fn lan(seed: u64, count: u16) -> World {
    let mut world = World::new(seed);
    for number in 1..=count {
        world.add(number, 0, &[]);
    }
    world
}

fn numbers(count: u16) -> Vec<u16> {
    (1..=count).collect()
}

/// A network in which everybody knows everybody.
fn settled(seed: u64, count: u16) -> World {
    let mut world = lan(seed, count);
    let all = numbers(count);
    assert!(world.run_until(KNOWN, |world| world.all_think(&all, State::Alive)).0, "seed {seed}");
    world
}

#[test]
fn fifty_nodes_find_each_other_although_packets_are_lost() {
    for seed in 0..4 {
        let mut world = lan(seed, 50);
        world.loss = 0.1;
        let all = numbers(50);
        let (found, took) = world.run_until(KNOWN, |world| world.all_think(&all, State::Alive));
        assert!(found, "seed {seed}");
        println!("everybody knows everybody after {took} ms");
        // Loss alone kills nobody.
        world.run(60);
        let dead = |event: &Event| matches!(event, Event::State { state: State::Gone, .. });
        assert!(!world.nodes.iter().any(|node| node.events.iter().any(dead)), "seed {seed}");
    }
}

#[test]
fn a_crash_is_known_to_all_and_so_is_the_return_from_another_address() {
    for seed in 0..4 {
        let mut world = settled(seed, 50);
        world.loss = 0.05;
        world.crash(7);
        let (known, took) = world.run_until(KNOWN, |world| world.all_think(&[8], State::Gone));
        assert!(known, "seed {seed}");
        println!("a crash is known to all after {took} ms");
        // The same node in another machine: another place in the world.
        world.nodes[7].side = 9;
        let place = world.add(8, 0, &[]);
        let (known, took) = world.run_until(KNOWN, |world| world.all_think(&[8], State::Alive));
        assert!(known, "seed {seed}");
        println!("its return is known to all after {took} ms");
        let address = world.nodes[place].address;
        for other in world.running().filter(|other| *other != place) {
            assert_eq!(world.machine(other).targets(world.now, id(8)), [address]);
        }
        let trouble: Vec<_> = world.nodes.iter().flat_map(|node| &node.events).filter(is_trouble).collect();
        assert!(trouble.is_empty(), "seed {seed}: {trouble:?}");
    }
}

#[test]
fn a_death_is_known_within_the_time_that_is_set() {
    for (seconds, count) in [(2, 2), (2, 3), (10, 3), (20, 3), (4, 12), (10, 30), (10, 50)] {
        for seed in 0..20 {
            let mut world = World::new(seed);
            world.death_known_within = Duration::from_secs(seconds);
            for number in 1..=count {
                world.add(number, 0, &[]);
            }
            let all = numbers(count);
            assert!(world.run_until(KNOWN, |world| world.all_think(&all, State::Alive)).0, "seed {seed}");
            // It dies anywhere in the round of the probes.
            world.run(seed % 7 + 3);
            world.crash(1);
            let (known, took) = world.run_until(2 * seconds, |world| world.all_think(&[2], State::Gone));
            assert!(
                known && took <= u128::from(seconds) * 1000,
                "{count} nodes, seed {seed}: {took} ms of {seconds} s"
            );
        }
    }
}

/// Three nodes, where a death is known within three seconds.
fn quick_three(seed: u64) -> World {
    let mut world = World::new(seed);
    world.death_known_within = Duration::from_secs(3);
    for number in 1..=3 {
        world.add(number, 0, &[]);
    }
    world
}

/// Cut off for about as long as it takes to be declared dead, by this side and by that one.
#[test]
fn nobody_is_suspected_for_ever() {
    for seed in 0..60 {
        let mut world = quick_three(seed);
        let all = numbers(3);
        assert!(world.run_until(KNOWN, |world| world.all_think(&all, State::Alive)).0, "seed {seed}");
        for cut in [1 + seed % 4, 1 + seed / 4 % 4] {
            world.nodes[2].side = 1;
            world.run(cut);
            world.nodes[2].side = 0;
            world.run(2);
        }
        assert!(world.run_until(KNOWN, |world| world.all_think(&all, State::Alive)).0, "seed {seed}");
        world.run(15);
        assert!(world.all_think(&all, State::Alive), "seed {seed}: it stays so");
    }
}

/// Cut off again while somebody is suspected, and for good: that is found, on both sides.
#[test]
fn whoever_is_suspected_and_silent_counts_as_dead() {
    for seed in 0..120 {
        let mut world = quick_three(seed);
        assert!(world.run_until(KNOWN, |world| world.all_think(&numbers(3), State::Alive)).0, "seed {seed}");
        for (cut, healed) in [(1 + seed % 4, 1 + seed / 4 % 3), (1 + seed / 12 % 4, 1)] {
            world.nodes[2].side = 1;
            world.run(cut);
            world.nodes[2].side = 0;
            world.run(healed);
        }
        world.nodes[2].side = 1;
        let cut = |world: &World| {
            let dead = |place, number| world.state(place, id(number)) == Some(State::Gone);
            dead(0, 3) && dead(1, 3) && dead(2, 1) && dead(2, 2)
        };
        assert!(world.run_until(KNOWN, cut).0, "seed {seed}");
    }
}

fn is_trouble(event: &&Event) -> bool {
    !matches!(event, Event::Found { .. } | Event::State { .. } | Event::SameName { .. })
}

#[test]
fn a_healed_partition_is_forgotten() {
    for seed in 0..4 {
        let mut world = settled(seed, 24);
        for node in world.nodes.iter_mut().take(8) {
            node.side = 1;
        }
        let (all, few, many) = (numbers(24), numbers(8), &numbers(24)[8..]);
        let parted = |world: &World| {
            (0..24).all(|place| {
                let lost = if place < 8 { many } else { &few[..] };
                lost.iter().all(|number| world.state(place, id(*number)) == Some(State::Gone))
            })
        };
        assert!(world.run_until(60, parted).0, "seed {seed}");
        world.nodes.iter_mut().for_each(|node| node.side = 0);
        let (healed, took) = world.run_until(60, |world| world.all_think(&all, State::Alive));
        assert!(healed, "seed {seed}");
        println!("healed after {took} ms");
        world.run(30);
        assert!(world.all_think(&all, State::Alive), "seed {seed}: it stays healed");
        let trouble: Vec<_> = world.nodes.iter().flat_map(|node| &node.events).filter(is_trouble).collect();
        assert!(trouble.is_empty(), "seed {seed}: {trouble:?}");
    }
}

#[test]
fn two_halves_heal_without_multicast_through_what_they_remember() {
    let mut world = World::new(3);
    let seed = world.add(1, 1, &[]);
    let address = world.nodes[seed].address;
    for number in 2..=6 {
        world.add(number, number as u8, &[address]);
    }
    let all = numbers(6);
    assert!(world.run_until(KNOWN, |world| world.all_think(&all, State::Alive)).0);
    // The seed is on the other side.
    world.nodes[0].side = 1;
    world.nodes[1].side = 1;
    world.run(40);
    assert_eq!(world.state(5, id(1)), Some(State::Gone));
    world.nodes.iter_mut().for_each(|node| node.side = 0);
    assert!(world.run_until(60, |world| world.all_think(&all, State::Alive)).0);
}

#[test]
fn a_paused_node_is_missed_and_comes_back_by_itself() {
    for seed in 0..4 {
        let mut world = settled(seed, 12);
        world.nodes[3].paused = true;
        let missed = |world: &World| {
            world.running().all(|place| place == 3 || world.state(place, id(4)) == Some(State::Gone))
        };
        assert!(world.run_until(KNOWN, missed).0, "seed {seed}");
        world.run(120);
        world.nodes[3].paused = false;
        let all = numbers(12);
        let (back, took) = world.run_until(KNOWN, |world| world.all_think(&all, State::Alive));
        assert!(back, "seed {seed}");
        println!("a paused node is back after {took} ms");
    }
}

#[test]
fn a_node_behind_no_multicast_learns_everybody_through_any_member() {
    let mut world = settled(1, 40);
    let seed = world.nodes[17].address;
    let far = world.add(77, 5, &[seed]);
    let mut all = numbers(40);
    all.push(77);
    let (found, took) = world.run_until(KNOWN, |world| world.all_think(&all, State::Alive));
    assert!(found);
    println!("through one member everybody is known after {took} ms");
    let found = |number: u16| world.machine(far).entry(id(number)).unwrap().found;
    assert_eq!(found(18), Found::Seed);
    assert!(numbers(40).iter().filter(|number| found(**number) == Found::Relay).count() > 30);
}

#[test]
fn who_takes_leave_is_shown_as_left_at_once_and_may_come_back() {
    let mut world = settled(1, 20);
    world.loss = 0.1;
    world.step(4, Input::Leave);
    let (known, took) = world.run_until(5, |world| world.all_think(&[5], State::Left));
    assert!(known && took < 2500, "{took} ms");
    world.run(3);
    world.crash(4);
    world.run(60);
    assert!(world.all_think(&[5], State::Left), "left is not gone");
    world.start(4, 99_999, &[]);
    assert!(world.run_until(KNOWN, |world| world.all_think(&[5], State::Alive)).0);
    // Or changes its mind.
    world.step(4, Input::Leave);
    world.run(5);
    assert!(world.all_think(&[5], State::Left));
    world.step(4, Input::Stay);
    assert!(world.run_until(KNOWN, |world| world.all_think(&[5], State::Alive)).0);
}

#[test]
fn two_machines_with_one_id_are_both_named_and_the_younger_one_is_kept() {
    let mut world = settled(2, 6);
    let twin = world.add(3, 0, &[]);
    world.run(30);
    let told = |place: usize| {
        world.nodes[place].events.iter().find_map(|event| match event {
            Event::Rival { other, aside } => Some((other.name.clone().unwrap(), *aside)),
            _ => None,
        })
    };
    assert_eq!(told(2), Some(("n3-6".to_owned(), true)), "the elder one steps aside");
    assert_eq!(told(twin), Some(("n3-2".to_owned(), false)));
    let duplicates = |place: usize| {
        let named = world.nodes[place].events.iter().filter_map(|event| match event {
            Event::Duplicate { node, kept, other } => Some((*node, kept.clone(), other.clone())),
            _ => None,
        });
        named.collect::<Vec<_>>()
    };
    for place in [0, 1, 3, 4, 5] {
        assert_eq!(duplicates(place).len(), 1, "everybody names both, once");
        for (node, kept, other) in duplicates(place) {
            assert_eq!(node, id(3));
            assert_eq!(kept.name.as_deref(), Some("n3-6"));
            assert_eq!(other.address, world.nodes[2].address);
        }
        assert_eq!(world.state(place, id(3)), Some(State::Alive));
        assert_eq!(world.machine(place).targets(world.now, id(3)), [world.nodes[twin].address]);
    }
    // When the younger one is switched off, the elder one comes back.
    world.crash(twin);
    assert!(
        world
            .run_until(120, |world| world.all_think(&[3], State::Alive)
                && world.machine(0).targets(world.now, id(3)) == [world.nodes[2].address])
            .0
    );
}

#[test]
fn two_machines_with_one_id_that_do_not_hear_each_other_are_named_too() {
    let mut world = settled(2, 4);
    let seed = world.nodes[0].address;
    let twin = world.add(3, 7, &[seed]);
    let named = |world: &World| {
        let duplicate = |event: &Event| matches!(event, Event::Duplicate { .. });
        let rival = |event: &Event| matches!(event, Event::Rival { aside: true, .. });
        world.nodes[0].events.iter().any(duplicate) && world.nodes[2].events.iter().any(rival)
    };
    assert!(world.run_until(60, named).0, "{:?}", world.nodes[twin].events);
    assert_eq!(world.state(0, id(3)), Some(State::Alive));
}

#[test]
fn a_node_whose_clock_went_back_is_taken_in_again() {
    let mut world = settled(1, 10);
    world.crash(2);
    world.run(1);
    world.start(2, 5, &[]);
    assert!(
        world
            .run_until(60, |world| world.all_think(&[3], State::Alive)
                && world.machine(2).own().incarnation > 1000)
            .0
    );
    let trouble = |event: &Event| matches!(event, Event::Duplicate { .. } | Event::Rival { .. });
    assert!(!world.nodes.iter().flat_map(|node| &node.events).any(trouble));
}

#[test]
fn two_clusters_with_one_key_do_not_mix() {
    let mut world = settled(1, 3);
    let stranger = membership::Record {
        node: id(9),
        incarnation: 1,
        edition: 0,
        renewal: 0,
        left: false,
        name: "stranger".to_owned(),
        addresses: vec!["10.0.0.99:4660".parse().unwrap()],
    };
    let message = membership::Message::Beacon { authority: [2; 32], record: stranger, answer: true };
    let sender = membership::Sender {
        node: id(9),
        incarnation: 1,
        from: "10.0.0.99:4660".parse().unwrap(),
        via: membership::Via::Multicast,
    };
    let sent = world.nodes[0].sent;
    world.step(0, Input::Datagram { sender, payload: &message.encode().unwrap() });
    assert_eq!(world.nodes[0].sent, sent, "nothing is answered");
    assert_eq!(world.nodes[0].events.last(), Some(&Event::OtherCluster { from: sender.from }));
    assert_eq!(world.state(0, id(9)), None);
}

#[test]
fn what_it_costs_does_not_grow_with_the_cluster() {
    let cost = |count: u16| {
        let mut world = settled(1, count);
        world.run(60);
        let before: u64 = world.nodes.iter().map(|node| node.bytes).sum();
        world.run(60);
        let after: u64 = world.nodes.iter().map(|node| node.bytes).sum();
        (after - before) / 60 / u64::from(count)
    };
    let (small, large) = (cost(8), cost(64));
    println!("bytes per node and second, without the seal: {small} of 8 nodes, {large} of 64");
    assert!(large < 2 * small + 100 && large < 600, "{small} {large}");
}

#[test]
fn a_seed_makes_one_world() {
    let trace = |seed| {
        let mut world = lan(seed, 12);
        world.loss = 0.2;
        world.run(30);
        world.nodes.iter().map(|node| (node.events.clone(), node.bytes)).collect::<Vec<_>>()
    };
    assert_eq!(trace(5), trace(5));
    assert_ne!(trace(5), trace(6));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// A member that has gone bad can send anything, in anybody's name; the node goes on, within bounds.
    #[test]
    fn anything_from_a_member_is_survived(
        packets in proptest::collection::vec(
            (1u16..40, 0u64..4000, any::<bool>(), 0u8..8, proptest::collection::vec(any::<u8>(), 0..300)), 1..60),
    ) {
        let mut world = settled(1, 3);
        for (node, incarnation, multicast, kind, bytes) in packets {
            let sender = membership::Sender {
                node: id(node),
                incarnation,
                from: "10.0.0.2:4660".parse().unwrap(),
                via: if multicast { membership::Via::Multicast } else { membership::Via::Unicast },
            };
            let payload = if kind < 7 { [&[kind], &bytes[..]].concat() } else { bytes };
            world.step(0, Input::Datagram { sender, payload: &payload });
        }
        world.now += Duration::from_millis(1);
        world.step(0, Input::Tick);
        prop_assert!(world.machine(0).entries().count() <= model::limits::PEERS_MAX);
    }
}
