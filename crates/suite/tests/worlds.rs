//! Every guest in every world.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use suite::{GUESTS, Guest, RESTARTS, World, is_long, main as run, restart, travel, trial};

const USUAL: &[World] =
    &[World::Native, World::Once, World::OutAndHome, World::Tour, World::Shuttle { moves: 6, seed: 1 }];

const LONG: &[World] = &[
    World::Shuttle { moves: 20, seed: 2 },
    World::Shuttle { moves: 20, seed: 3 },
    World::Shuttle { moves: 40, seed: 4 },
];

/// A blocked call lasts three seconds: these are what fits into them.
const BLOCKED: &[World] = &[World::Native, World::Once, World::OutAndHome];
const BLOCKED_LONG: &[World] = &[World::Tour, World::Shuttle { moves: 4, seed: 5 }];

fn main() -> ExitCode {
    let mut trials = Vec::new();
    let mut add = |prefix: &str, guest: Guest, worlds: &[World]| {
        for world in worlds.iter().copied() {
            let name = format!("{world}/{prefix}{}", guest.name);
            trials.push(trial(name, guest.needs, move || travel(&guest, world)));
        }
    };
    for guest in GUESTS {
        add("", *guest, USUAL);
        add("", *guest, if is_long() { LONG } else { &[] });
    }
    for kind in RESTARTS {
        add("restarts-", restart(kind), BLOCKED);
        add("restarts-", restart(kind), if is_long() { BLOCKED_LONG } else { &[] });
    }
    run(trials)
}
