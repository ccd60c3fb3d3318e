//! Members that say anything at all.

use crate::cluster::{entry, local, machine, node};
use balance::policy::PolicyName;
use balance::{Action, Broker, Event, LocalJob, Sample, Settings};
use model::limits::RESERVATIONS_MAX;
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::time::Duration;
use wire::balance::{Aged, Brief, Entry, Errand, Message, Refusal, Seen};

fn message(kind: u8, number: u32, entry: Entry, brief: Brief) -> Message {
    match kind % 9 {
        0 => Message::Gossip(vec![Aged { age_ms: number, entry }; usize::from(kind)]),
        1 => Message::Ask { number },
        2 => Message::Tell { number, entry },
        3 => Message::Granted { number, hold_ms: number },
        4 => Message::Refused { number, why: Refusal::Changed, entry },
        5 => Message::Release { number },
        6 => Message::Invite { entry },
        7 => Message::Froze { number, frozen_ms: entry.link_busy_ms },
        _ => {
            let seen =
                Seen { jobs_hundredths: entry.jobs_hundredths, memory_taken_kb: entry.memory_taken_kb };
            Message::Reserve { number, seen, job: brief, hold_ms: number }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever members say: a node neither fails, nor keeps more than its bounds, nor answers with more than it was asked,
    /// nor takes more guests than it may, nor moves one process twice.
    #[test]
    fn hostile_members_harm_nobody(
        words in prop::collection::vec(
            (any::<(u8, u16)>(), 0..8_u32, any::<[u32; 8]>(), any::<[u64; 3]>(), any::<u16>(), any::<[u32; 3]>()),
            1..120,
        ),
        guests_max in 0..6_u16,
    ) {
        let mut rng = StdRng::seed_from_u64(7);
        let mut broker = Broker::new(node(1), 1, PolicyName::Ums.build(), Settings::default());
        let mut out = Vec::new();
        let mut now = Duration::ZERO;
        let jobs: Vec<LocalJob> = (0..6).map(|pid| local(1, pid, 10.0)).collect();
        broker.step(now, Event::Members((1..=5).map(node).collect()), &mut rng, &mut out);
        let sample = Sample { machine: machine(1.0, guests_max), jobs };
        broker.step(now, Event::Sampled(sample.clone()), &mut rng, &mut out);
        let mut granted = std::collections::BTreeSet::new();
        let mut moving = 0;
        for ((kind, from), number, numbers, memory, small, brief) in words {
            now += Duration::from_millis(3);
            let from = node(from % 5 + 2);
            let brief = Brief {
                errand: if kind % 2 == 0 { Errand::Start } else { Errand::Move },
                home: from,
                memory_kb: memory[0],
                age_ms: memory[1],
                width_hundredths: brief[0],
                moves_ms: brief.to_vec(),
            };
            let message = message(kind, number, entry(numbers, memory, small), brief);
            out.clear();
            broker.step(now, Event::Message { from, message }, &mut rng, &mut out);
            broker.step(now, Event::Timer, &mut rng, &mut out);
            if kind % 16 == 0 {
                broker.step(now, Event::Tick, &mut rng, &mut out);
                broker.step(now, Event::Spread, &mut rng, &mut out);
            }
            prop_assert!(out.len() <= 40, "{} actions", out.len());
            for action in &out {
                match action {
                    Action::Send { to, message } => {
                        prop_assert!(wire::balance::encode(message).is_ok());
                        if let Message::Granted { number, .. } = message {
                            granted.insert((*to, *number));
                        }
                    }
                    Action::Move { .. } => moving += 1,
                    Action::Start { .. } => prop_assert!(false, "nothing was to start"),
                    Action::Wake { .. } => {}
                }
            }
            prop_assert!(broker.tables().are_bounded(), "{:?}", broker.tables());
            prop_assert!(moving <= Settings::default().moves_at_once, "{moving} moves at once");
        }
        // Promises: a question's number is used again by its asker, so there are never more than distinct ones.
        let mut count = None;
        out.clear();
        broker.step(now, Event::Message { from: node(2), message: Message::Ask { number: 99 } }, &mut rng, &mut out);
        for action in &out {
            if let Action::Send { message: Message::Tell { entry, .. }, .. } = action {
                count = Some(usize::from(entry.guests));
            }
        }
        prop_assert!(count.unwrap() <= usize::from(guests_max).min(RESERVATIONS_MAX));
        prop_assert!(count.unwrap() <= granted.len());
    }
}
