//! Brokers that speak with each other: what they agree on, and what no message can make them do.
#![expect(clippy::unwrap_used, reason = "a node id of a test is never 0")]

mod cluster;
mod hostile;

use balance::policy::PolicyName;
use balance::{Action, Bounds, Broker, Event, Job, LocalJob, Outcome, Sample, Settings, Tables};
use cluster::{Cluster, entry, idle_entry, job, local, machine, node};
use model::NodeId;
use model::limits::MOVES_PER_MINUTE_MAX;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::time::Duration;
use wire::balance::{Aged, Brief, Entry, Errand, Message, Refusal, Seen, Switches};

#[test]
fn many_programs_at_once_fill_every_node_evenly() {
    let mut cluster = Cluster::new(&[4.0; 4], PolicyName::Ums);
    (0..16).for_each(|request| cluster.place(request));
    cluster.deliver();
    assert_eq!(cluster.counts(), [4, 4, 4, 4]);
    // Four more find every place equally full.
    cluster.now += Duration::from_millis(1);
    (16..20).for_each(|request| cluster.place(request));
    cluster.deliver();
    assert_eq!(cluster.counts().iter().sum::<usize>(), 20);
    assert!(cluster.counts().iter().all(|count| (4..=6).contains(count)), "{:?}", cluster.counts());
}

#[test]
fn a_crowd_that_is_there_already_spreads_and_then_stays() {
    for policy in [PolicyName::Ums, PolicyName::Mosix, PolicyName::Oc] {
        let mut cluster = Cluster::new(&[1.0; 4], policy);
        cluster.samples[0].jobs = (0..8).map(|pid| local(1, pid, 20.0)).collect();
        (0..40).for_each(|_| cluster.tick());
        assert_eq!(cluster.counts(), [2, 2, 2, 2], "{policy}");
        let moves = cluster.moves;
        assert!(moves <= 12, "{policy}: {moves} moves for six");
        (0..60).for_each(|_| cluster.tick());
        assert_eq!(cluster.moves, moves, "{policy}: it is balanced and still moves");
    }
}

/// One move begins when the last one has begun, or has ended, and not at the next tick.
#[test]
fn moves_overlap_and_follow_each_other() {
    let mut cluster = Cluster::new(&[1.0; 4], PolicyName::Ums);
    cluster.slow = true;
    cluster.samples[0].jobs = (0..8).map(|pid| local(1, pid, 20.0)).collect();
    cluster.sample(0);
    cluster.deliver();
    for flight in 0..2 {
        let mut targets: Vec<u16> = cluster.in_flight.iter().map(|(_, _, to, _)| to.get()).collect();
        targets.sort_unstable();
        assert_eq!(targets, [2, 3, 4], "flight {flight}: one to each at a time");
        // What leaves is not counted twice, whatever the next sample shows.
        cluster.sample(0);
        let here = cluster.brokers[0].entry(cluster.now).unwrap();
        assert_eq!(here.jobs_hundredths, [500, 200][flight]);
        cluster.land_all();
    }
    assert_eq!(cluster.counts(), [2, 2, 2, 2]);
    (0..20).for_each(|_| cluster.tick());
    assert_eq!((cluster.moves, cluster.in_flight.len()), (6, 0), "it is even, and stays so");
}

/// Many that send at the same time, each several at once, give nobody more than its part.
#[test]
fn moves_that_overlap_do_not_herd() {
    let mut cluster = Cluster::new(&[1.0; 16], PolicyName::Ums);
    cluster.slow = true;
    for home in 1..=8_u16 {
        cluster.samples[usize::from(home) - 1].jobs =
            (0..4).map(|pid| local(home, i32::from(home) * 10 + pid, 20.0)).collect();
    }
    for _ in 0..12 {
        // All of them look before anybody answers.
        cluster.now += Duration::from_secs(1);
        for index in 0..16 {
            cluster.sample(index);
            cluster.step(index, Event::Tick);
        }
        cluster.deliver();
        let coming = |index: usize| {
            cluster.in_flight.iter().filter(|(_, _, to, _)| usize::from(to.get()) == index + 1).count()
        };
        for (index, count) in cluster.counts().into_iter().enumerate().skip(8) {
            assert!(count + coming(index) <= 3, "node {}: {count} and {}", index + 1, coming(index));
        }
        cluster.land_all();
    }
    assert!(cluster.counts().iter().all(|count| (1..=3).contains(count)), "{:?}", cluster.counts());
    assert!(cluster.moves <= 24, "{} moves", cluster.moves);
    let moves = cluster.moves;
    for _ in 0..20 {
        cluster.tick();
        cluster.land_all();
    }
    assert!(cluster.moves <= moves + 2, "it moves to and fro");
}

/// A process that gains most, and cannot be moved, does not keep the others.
#[test]
fn who_cannot_be_moved_keeps_nobody() {
    let mut cluster = Cluster::new(&[1.0; 2], PolicyName::Ums);
    cluster.slow = true;
    let jobs = (0..4).map(|pid| local(1, pid, if pid == 0 { 200.0 } else { 20.0 })).collect();
    cluster.samples[0].jobs = jobs;
    for _ in 0..8 {
        cluster.tick();
        for (index, moving, to, ticket) in std::mem::take(&mut cluster.in_flight) {
            if moving.id.process.pid == 0 {
                cluster.step(index, Event::Departed { id: moving.id, outcome: Outcome::Failed });
                cluster.deliver();
            } else {
                cluster.in_flight.push((index, moving, to, ticket));
            }
        }
        cluster.land_all();
    }
    assert_eq!(cluster.counts(), [2, 2]);
    assert!(cluster.samples[0].jobs.iter().any(|local| local.id.process.pid == 0));
}

#[test]
fn no_policy_and_a_node_that_stays_move_nothing() {
    for (policy, switches) in [(PolicyName::None, Switches::empty()), (PolicyName::Ums, Switches::STAY)] {
        let mut cluster = Cluster::new(&[1.0; 2], policy);
        cluster.samples[0].machine.switches = switches;
        cluster.samples[0].jobs = (0..8).map(|pid| local(1, pid, 20.0)).collect();
        (0..10).for_each(|_| cluster.tick());
        assert_eq!(cluster.counts(), [8, 0]);
    }
}

#[test]
fn who_is_asked_and_does_not_answer_is_done_without() {
    type Loses = fn(&Message) -> bool;
    let table: [Loses; 3] = [
        |message| matches!(message, Message::Tell { .. }),
        |message| matches!(message, Message::Granted { .. }),
        |message| matches!(message, Message::Reserve { .. }),
    ];
    for loses in table {
        let mut cluster = Cluster::new(&[1.0; 3], PolicyName::Ums);
        cluster.loses = loses;
        (0..3).for_each(|request| cluster.place(request));
        for _ in 0..20 {
            cluster.deliver();
            cluster.now += Duration::from_millis(101);
            cluster.step(0, Event::Timer);
        }
        assert_eq!(cluster.counts(), [3, 0, 0], "they start at home");
        // What was promised and not used has expired or was given back: the others are free again.
        cluster.loses = |_| false;
        cluster.now += Duration::from_secs(10);
        (0..8).for_each(|_| cluster.spread());
        (3..5).for_each(|request| cluster.place(request));
        cluster.deliver();
        assert_eq!(cluster.counts(), [3, 1, 1]);
    }
}

#[test]
fn an_order_is_obeyed_and_not_undone() {
    let mut cluster = Cluster::new(&[1.0; 2], PolicyName::Ums);
    cluster.samples[0].jobs = vec![local(1, 1, 20.0)];
    cluster.samples[1].jobs = vec![local(2, 2, 20.0)];
    cluster.tick();
    let id = cluster.samples[0].jobs[0].id;
    cluster.step(0, Event::Order { id, to: node(2) });
    cluster.deliver();
    // The process that was there may make room for it; the one that was sent stays.
    (0..5).for_each(|_| cluster.tick());
    assert_eq!(cluster.counts(), [1, 1]);
    assert!(cluster.samples[1].jobs.iter().any(|local| local.id == id));
}

/// F15: also to a home that its host knows nothing of, because its window is full.
#[test]
fn who_talks_to_its_home_goes_home() {
    let mut cluster = Cluster::new(&[1.0; 40], PolicyName::Ums);
    for index in 0..10 {
        let mut guest = local(index + 1, i32::from(index), 20.0);
        guest.job.talk.calls = 2000.0;
        cluster.samples[30 + usize::from(index)].jobs.push(guest);
    }
    for _ in 0..12 {
        cluster.tick();
        cluster.spread();
    }
    assert_eq!(cluster.counts()[..10], [1; 10]);
    assert_eq!(cluster.moves, 10);
}

/// Nobody can make a program vanish by an answer to a question that was not put.
#[test]
fn an_unasked_promise_changes_nothing() {
    for number in 0..4 {
        let mut cluster = Cluster::new(&[1.0; 3], PolicyName::Ums);
        cluster.samples[0].jobs.push(local(1, 100, 1.0));
        cluster.sample(0);
        cluster.place(1);
        let message = Message::Granted { number, hold_ms: 1 };
        cluster.step(0, Event::Message { from: node(3), message: message.clone() });
        cluster.deliver();
        cluster.step(0, Event::Message { from: node(3), message });
        cluster.deliver();
        assert_eq!(cluster.counts().iter().sum::<usize>(), 2);
        assert_eq!(cluster.counts()[0], 1);
    }
}

/// Room that a program did not come for is free at once, there and in the mind of who asked for it.
#[test]
fn a_start_that_fails_gives_back_its_room() {
    let mut cluster = Cluster::new(&[1.0; 2], PolicyName::Ums);
    cluster.samples[0].jobs.push(local(1, 100, 1.0));
    cluster.sample(0);
    cluster.starts_fail = true;
    for request in 1..20 {
        cluster.place(request);
        cluster.deliver();
        let there = cluster.brokers[1].entry(cluster.now).unwrap();
        assert_eq!(there.jobs_hundredths, 0, "program {request}");
    }
    // The next one that can be started there is: nobody thinks that the node is full.
    cluster.starts_fail = false;
    cluster.place(20);
    cluster.deliver();
    assert_eq!(cluster.counts(), [1, 1]);
}

/// Memory that runs short is not left until the next tick, and the cheapest process whose leaving suffices goes.
#[test]
fn pressure_asks_at_once() {
    let (mut rng, mut out) = (StdRng::seed_from_u64(5), Vec::new());
    let mut broker = Broker::new(node(1), 1, PolicyName::Ums.build(), Settings::default());
    let now = Duration::from_secs(5);
    let idle = Entry { cpu_class: 1, ..entry([1, 1, 10_000, 400, 0, 0, 0, 0], [8 << 20, 0, 8 << 20], 900) };
    let idle = Entry { pressure_thousandths: 0, guests: 0, ..idle };
    broker.step(now, Event::Members(vec![node(2)]), &mut rng, &mut out);
    let told = Message::Gossip(vec![Aged { age_ms: 0, entry: idle.clone() }]);
    broker.step(now, Event::Message { from: node(2), message: told }, &mut rng, &mut out);
    let with_memory = |megabytes: [f64; 3]| {
        let jobs = (0..).zip(megabytes).map(|(pid, memory_mb)| {
            let one = local(1, pid, 20.0);
            LocalJob { job: Job { memory_mb, ..one.job }, ..one }
        });
        Event::Sampled(Sample { machine: machine(4.0, 9), jobs: jobs.collect() })
    };
    broker.step(now, with_memory([100.0, 500.0, 900.0]), &mut rng, &mut out);
    broker.step(now, Event::Pressure, &mut rng, &mut out);
    assert_eq!(out, [], "there is enough");
    broker.step(now, with_memory([100.0, 500.0, 7800.0]), &mut rng, &mut out);
    assert_eq!(out, []);
    broker.step(now, Event::Pressure, &mut rng, &mut out);
    let asked = out.iter().find_map(|action| match action {
        Action::Send { to, message: Message::Ask { number } } if *to == node(2) => Some(*number),
        _ => None,
    });
    let number = asked.expect("it asks at once");
    out.clear();
    let message = Message::Tell { number, entry: idle };
    broker.step(now, Event::Message { from: node(2), message }, &mut rng, &mut out);
    let reserved = out.iter().find_map(|action| match action {
        Action::Send { message: Message::Reserve { job, .. }, .. } => Some(job.memory_kb),
        _ => None,
    });
    assert_eq!(reserved, Some(500 << 10));
}

/// Who takes processes by promising what it does not keep gets fewer of them.
#[test]
fn broken_promises_are_remembered() {
    let (mut rng, mut out) = (StdRng::seed_from_u64(3), Vec::new());
    let settings = Settings::default();
    let mut broker = Broker::new(node(1), 1, PolicyName::Ums.build(), settings);
    let mut now = Duration::ZERO;
    let idle = Entry { cpu_class: 1, ..entry([1, 1, 10_000, 400, 0, 0, 0, 0], [8 << 20, 0, 8 << 20], 900) };
    let idle = Entry { pressure_thousandths: 0, guests: 0, ..idle };
    let crowded = Entry { jobs_hundredths: 90_000, ..idle.clone() };
    let mut jobs: Vec<LocalJob> = (0..20).map(|pid| local(1, pid, 30.0)).collect();
    broker.step(now, Event::Members(vec![node(2)]), &mut rng, &mut out);
    let told = Message::Gossip(vec![Aged { age_ms: 0, entry: idle.clone() }]);
    broker.step(now, Event::Message { from: node(2), message: told }, &mut rng, &mut out);
    let mut has_moved = false;
    while jobs.len() > 6 {
        now += settings.tick;
        let sample = Sample { machine: machine(1.0, 9), jobs: jobs.clone() };
        broker.step(now, Event::Sampled(sample), &mut rng, &mut out);
        broker.step(now, Event::Tick, &mut rng, &mut out);
        assert!(now < Duration::from_secs(200), "it moves nothing any more: {}", broker.theta());
        // In their order: the question after a move is put before the next process looks for a place.
        while !out.is_empty() {
            let action = out.remove(0);
            now += Duration::from_micros(200);
            let message = match action {
                Action::Send { message: Message::Ask { number }, .. } => {
                    // Before a move it says that it is idle, and after it that it never was.
                    let entry = if std::mem::take(&mut has_moved) { &crowded } else { &idle };
                    Message::Tell { number, entry: entry.clone() }
                }
                Action::Send { message: Message::Reserve { number, hold_ms, .. }, .. } => {
                    Message::Granted { number, hold_ms }
                }
                Action::Move { id, .. } => {
                    jobs.retain(|local| local.id != id);
                    has_moved = true;
                    let outcome = Outcome::Moved { took_s: 0.2, frozen_s: 0.1 };
                    broker.step(now, Event::Departed { id, outcome }, &mut rng, &mut out);
                    continue;
                }
                _ => continue,
            };
            broker.step(now, Event::Message { from: node(2), message }, &mut rng, &mut out);
        }
    }
    assert!(broker.theta() > 2.0 * settings.theta, "{}", broker.theta());
}

#[test]
fn a_process_moves_only_so_often_in_a_minute() {
    // A node that is asked to take a restless process refuses, whatever its sender thinks of it.
    let mut cluster = Cluster::new(&[1.0; 2], PolicyName::Ums);
    let brief = |moves: usize| Brief {
        errand: Errand::Move,
        home: node(1),
        memory_kb: 1,
        age_ms: 1,
        width_hundredths: 100,
        moves_ms: vec![1000; moves],
    };
    let seen = Seen { jobs_hundredths: 0, memory_taken_kb: 0 };
    let mut answers = Vec::new();
    for moves in [MOVES_PER_MINUTE_MAX - 1, MOVES_PER_MINUTE_MAX] {
        let message = Message::Reserve { number: 9, seen, job: brief(moves), hold_ms: 1000 };
        let mut actions = Vec::new();
        let event = Event::Message { from: node(1), message };
        cluster.brokers[1].step(cluster.now, event, &mut cluster.rng, &mut actions);
        answers.extend(actions.into_iter().filter_map(|action| match action {
            Action::Send { message, .. } => Some(message),
            _ => None,
        }));
    }
    assert!(matches!(answers[0], Message::Granted { .. }));
    assert!(matches!(answers[1], Message::Refused { why: Refusal::Restless, .. }));
}

#[test]
fn what_is_remembered_has_an_end() {
    // More of everything than there is room for: orders to move away, landings, news, questions, promises, deeds.
    let mut rng = StdRng::seed_from_u64(1);
    let mut broker = Broker::new(node(1), 1, PolicyName::Ums.build(), Settings::default());
    let (mut out, mut now) = (Vec::new(), Duration::ZERO);
    let members: Vec<NodeId> = (1..=3000).map(node).collect();
    let sample = |pids: std::ops::Range<i32>| Sample {
        machine: machine(1.0, u16::MAX),
        jobs: pids.map(|pid| local(1, pid, 10.0)).collect(),
    };
    broker.step(now, Event::Members(members.clone()), &mut rng, &mut out);
    broker.step(now, Event::Sampled(sample(0..5000)), &mut rng, &mut out);
    let idle = |number: u16| Entry { node: node(number), ..idle_entry() };
    for (round, member) in members.iter().skip(1).cycle().take(20_000).enumerate() {
        now += Duration::from_micros(500);
        let number = round as u32;
        let id = local(1, 10_000 + round as i32, 1.0).id;
        let brief = Brief {
            errand: Errand::Start,
            home: *member,
            memory_kb: 1,
            age_ms: 1,
            width_hundredths: 1,
            moves_ms: Vec::new(),
        };
        let seen = Seen { jobs_hundredths: u32::MAX, memory_taken_kb: 1 };
        let gossip = Message::Gossip(vec![Aged { age_ms: 1, entry: idle(member.get()) }]);
        let reserve = Message::Reserve { number, seen, job: brief, hold_ms: 300_000 };
        let events = [
            Event::Landed { id, ticket: None, frozen_s: 1.0 },
            Event::Arrived { at: *member, job: job(1, 1.0) },
            Event::Message { from: *member, message: gossip },
            Event::Message { from: *member, message: reserve },
            Event::Place { request: u64::from(number), job: job(1, 0.0), bounds: Bounds::default() },
        ];
        if round < 100 {
            for event in events {
                broker.step(now, event, &mut rng, &mut out);
            }
        } else {
            // Without the slow ones.
            let order = Event::Order { id: local(1, (round % 5000) as i32, 1.0).id, to: *member };
            for event in events.into_iter().skip(1).chain((round % 50 == 0).then_some(order)) {
                broker.step(now, event, &mut rng, &mut out);
            }
        }
        for action in out.drain(..) {
            let Action::Send { to, message: Message::Ask { number } } = action else { continue };
            if round % 2 == 0 {
                let message = Message::Tell { number, entry: idle(to.get()) };
                broker.step(now, Event::Message { from: to, message }, &mut rng, &mut Vec::new());
            }
        }
    }
    let tables = broker.tables();
    assert!(tables.are_bounded(), "{tables:?}");
    // And the bounds were reached, where reaching them is the others' doing.
    let Tables { window, rooms, ledger, .. } = Tables::BOUNDS;
    assert_eq!((tables.window, tables.rooms, tables.ledger), (window, rooms, ledger), "{tables:?}");
}
