//! The window alone: how old is what nodes know, and what does it cost?

use balance::Settings;
use balance::window::{Window, length_for, mean_age_periods};
use model::NodeId;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use std::time::Duration;
use wire::balance::{AGE_CLASSES, Entry, Message, Switches};

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spreading {
    /// Nodes.
    pub nodes: usize,
    /// Seconds that were simulated.
    pub seconds: f64,
    /// Length of the windows.
    pub length: usize,
    /// Mean number of entries in a window at the end.
    pub known: f64,
    /// Mean age of the entries in the windows, seconds.
    pub age_s: f64,
    /// What the formulas say of it, seconds.
    pub expected_age_s: f64,
    /// The oldest entry that was in a window, seconds.
    pub age_s_max: f64,
    /// Bytes that a node sent per second, headers of the network not counted.
    pub bytes_per_node_s: f64,
    /// Largest message, bytes.
    pub message_bytes_max: usize,
}

fn entry(node: NodeId, now: Duration, jobs: u32) -> Entry {
    Entry {
        node,
        boot: 1,
        stamp_ms: now.as_millis() as u64,
        speed: 10_000,
        cpus_hundredths: 400,
        jobs_hundredths: jobs,
        load: jobs / 4,
        memory_total_kb: 64 << 20,
        memory_free_kb: 20 << 20,
        memory_usable_kb: 60 << 20,
        memory_taken_kb: 30 << 20,
        pressure_thousandths: 3,
        utilisation_thousandths: 700,
        link_busy_ms: 0,
        switches: Switches::empty(),
        cpu_class: 0x0123_4567_89ab_cdef,
        kernel: 6 << 24 | 18 << 16,
        guests: 3,
        guests_max: 1000,
        ages: [1; AGE_CLASSES],
    }
}

/// Lets so many nodes tell each other of themselves for so long. Messages are lost with the chance `loss`, and take no time.
pub fn spread(nodes: usize, lasts: Duration, loss: f64, settings: &Settings, seed: u64) -> Spreading {
    let mut rng = SmallRng::seed_from_u64(seed);
    let members: Vec<NodeId> =
        (1..=nodes).filter_map(|number| NodeId::new(u16::try_from(number).unwrap_or(0))).collect();
    let period = settings.spread;
    let length = length_for(members.len(), settings.wanted_age_s / period.as_secs_f64());
    let mut windows: Vec<Window> = members.iter().map(|member| Window::new(*member, length)).collect();
    // Each has its own moment within the period.
    let mut order: Vec<(Duration, usize)> =
        (0..members.len()).map(|index| (period.mul_f64(rng.random()), index)).collect();
    order.sort();
    let (mut bytes, mut largest, mut sum_s, mut count, mut oldest_s) = (0_u64, 0, 0.0, 0_u64, 0.0_f64);
    let rounds = (lasts.as_secs_f64() / period.as_secs_f64()).ceil().max(1.0) as u32;
    for round in 0..rounds {
        for (phase, index) in &order {
            let now = period * round + *phase;
            let own = entry(members[*index], now, rng.random_range(0..800));
            let Some((to, message)) = windows[*index].tick(now, own, &members, &mut rng) else { continue };
            let size = wire::balance::encode(&message).map_or(0, |bytes| bytes.len());
            bytes += size as u64;
            largest = largest.max(size);
            let told = if rng.random::<f64>() < loss { None } else { Some(message) };
            if let Some(Message::Gossip(told)) = told {
                windows[usize::from(to.get()) - 1].receive(now, members[*index], told);
            }
            // The first half is for filling the windows.
            if round >= rounds / 2 {
                for known in windows[*index].known(now) {
                    let age_s = known.age.as_secs_f64();
                    sum_s += age_s;
                    count += 1;
                    oldest_s = oldest_s.max(age_s);
                }
            }
        }
    }
    let end = period * rounds;
    let known: usize = windows.iter().map(|window| window.known(end).count()).sum();
    Spreading {
        nodes: members.len(),
        seconds: end.as_secs_f64(),
        length,
        known: known as f64 / members.len() as f64,
        age_s: sum_s / count.max(1) as f64,
        expected_age_s: mean_age_periods(members.len(), length) * period.as_secs_f64(),
        age_s_max: oldest_s,
        bytes_per_node_s: bytes as f64 / members.len() as f64 / end.as_secs_f64(),
        message_bytes_max: largest,
    }
}
