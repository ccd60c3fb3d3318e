//! What the simulator must show of the policies, with few seeds; docs/performance.md has many.
#![expect(clippy::unwrap_used, reason = "scenarios and policies of a test exist")]

use sim::contender;
use sim::liar::Lie;
use sim::measure::{Measures, Summary};
use sim::network::Trouble;
use sim::scenario::Scenario;
use sim::world::{Plan, run};
use std::time::Duration;

const FIRST_SEED: u64 = 1000;

fn runs_in(
    scenario: &Scenario,
    policy: &str,
    seeds: u64,
    trouble: &Trouble,
    spread: Option<f64>,
) -> Vec<Measures> {
    let contender = contender::named(policy).unwrap();
    let spread = spread.map(Duration::from_secs_f64);
    (FIRST_SEED..FIRST_SEED + seeds)
        .map(|seed| run(&Plan { scenario, contender, seed, trouble: trouble.clone(), spread, lasts: None }))
        .collect()
}

fn runs(scenario: &str, policy: &str, seeds: u64) -> Vec<Measures> {
    runs_in(&Scenario::named(scenario).unwrap(), policy, seeds, &Trouble::default(), None)
}

fn mean(runs: &[Measures], of: impl Fn(&Measures) -> f64) -> f64 {
    runs.iter().map(of).sum::<f64>() / runs.len() as f64
}

fn good(runs: &[Measures]) {
    for run in runs {
        assert_eq!(run.violations, Vec::<String>::new());
        assert_eq!(run.unfinished, 0);
    }
}

/// Ours is at most this much worse than the best of the others.
const CLOSE: f64 = 1.05;

/// Rivals with as many seeds as they are worth waiting for: some never recover from thrashing, which takes long.
fn ours_is_close_to_the_best(scenario: &str, seeds: u64, moves_max: f64, rivals: &[(&str, u64)]) {
    let ours = runs(scenario, "ums", seeds);
    good(&ours);
    let moves = mean(&ours, |run| run.moves);
    assert!(moves < moves_max, "{scenario}: {moves} moves for each process");
    for (rival, seeds) in rivals {
        let theirs = runs(scenario, rival, *seeds);
        good(&theirs);
        let compared = Summary::of("ums", &ours[..*seeds as usize], &theirs);
        let (ours, theirs) = (compared.mean.slowdown, mean(&theirs, |run| run.slowdown));
        println!("{scenario}: ours {ours:.3}, {rival} {theirs:.3}");
        assert!(ours <= CLOSE * theirs, "{scenario}: ours {ours:.3}, {rival} {theirs:.3}");
    }
}

#[test]
fn few_old_machines() {
    ours_is_close_to_the_best("a", 12, 0.5, &[("ll-ask", 12), ("epvm", 5), ("mosix", 5), ("rr", 2)]);
}

#[test]
fn one_home_for_all() {
    ours_is_close_to_the_best("b", 20, 0.5, &[("ll-ask", 20), ("epvm", 5), ("rr", 5), ("mosix", 1)]);
}

#[test]
fn tight_memory() {
    ours_is_close_to_the_best("dt", 20, 0.5, &[("ll-ask", 20), ("epvm", 5), ("mosix", 3), ("rr", 2)]);
}

#[test]
fn a_compilation() {
    ours_is_close_to_the_best("e", 20, 0.5, &[("ll-ask", 20), ("rr", 5), ("epvm", 5), ("mosix", 3)]);
}

/// Seconds between messages with which 64 nodes know each other's state of five seconds ago.
const OLD_NEWS: f64 = 2.3;

#[test]
fn old_news_make_nobody_herd_who_asks_and_the_canary_is_caught() {
    let scenario = Scenario::named("c1").unwrap();
    let [ours, canary] =
        ["ums", "ll"].map(|policy| runs_in(&scenario, policy, 2, &Trouble::default(), Some(OLD_NEWS)));
    good(&ours);
    for run in &ours {
        assert!(!run.herds(), "over-shoot {}", run.over_shoot);
    }
    for run in &canary {
        assert!((4.0..7.0).contains(&run.age_s), "news are {} s old", run.age_s);
        assert!(run.herds(), "the canary herds, and was not caught: {}", run.over_shoot);
    }
}

#[test]
fn a_seed_is_a_run() {
    let scenario = Scenario::named("dt").unwrap();
    let trouble = Trouble { loss: 0.05, ..Trouble::default() };
    let [once, again] = [(); 2].map(|()| runs_in(&scenario, "ums", 2, &trouble, None));
    assert_eq!(once, again);
    assert_ne!(once[0], once[1]);
}

#[test]
fn lost_messages_do_little_harm() {
    for (scenario, worse_max) in [("b", 1.05), ("dt", 1.10), ("e", 1.05)] {
        let scenario = Scenario::named(scenario).unwrap();
        let trouble = Trouble { loss: 0.1, delay: Duration::from_millis(2), ..Trouble::default() };
        let [peace, lossy] =
            [Trouble::default(), trouble].map(|trouble| runs_in(&scenario, "ums", 5, &trouble, None));
        good(&lossy);
        let [peace_mean, lossy_mean] = [&peace, &lossy].map(|runs| mean(runs, |run| run.slowdown));
        println!("{}: {peace_mean:.3}, with loss {lossy_mean:.3}", scenario.name);
        assert!(lossy_mean <= worse_max * peace_mean, "{}: {peace_mean} {lossy_mean}", scenario.name);
        assert!(peace.iter().zip(&lossy).all(|(peace, lossy)| peace.done == lossy.done));
    }
}

#[test]
fn a_partition_that_heals_and_a_crash_leave_nothing_behind() {
    let span = |from, to| Some((Duration::from_secs(from), Duration::from_secs(to)));
    let cut = Trouble { partition: span(100, 160), ..Trouble::default() };
    let crash = Trouble { crash: span(100, 200), ..Trouble::default() };
    for (scenario, slowdown_max) in [("b", 2.0), ("dt", 1.5), ("e", 2.5)] {
        let scenario = Scenario::named(scenario).unwrap();
        for (trouble, loses) in [(&cut, false), (&crash, true)] {
            for run in runs_in(&scenario, "ums", 3, trouble, None) {
                good(std::slice::from_ref(&run));
                println!("{}: {:.3}, {} lost", scenario.name, run.slowdown, run.lost);
                assert!(run.slowdown <= slowdown_max, "{}: {}", scenario.name, run.slowdown);
                assert!(loses || run.lost == 0, "a cut loses no process");
                // What a machine can have at one moment, and what comes there while it is down.
                assert!(run.lost * 10 <= run.done, "{} lost, {} done", run.lost, run.done);
            }
        }
    }
}

/// Who lies harms at most those that come to it.
#[test]
fn a_liar_harms_nobody_but_itself() {
    for (scenario, seeds) in [("b", 3), ("dt", 5), ("e", 5)] {
        let scenario = Scenario::named(scenario).unwrap();
        let with = |lie| {
            let runs = runs_in(&scenario, "ums", seeds, &Trouble { lie, ..Trouble::default() }, None);
            good(&runs);
            mean(&runs, |run| run.slowdown_of_others)
        };
        let peace = with(None);
        for lie in Lie::ALL {
            let others = with(Some(lie));
            println!("{}: {peace:.3}, with {lie:?} {others:.3}", scenario.name);
            assert!(others <= HARM * peace, "{}: {peace}, with {lie:?} {others}", scenario.name);
        }
    }
}

/// By how much processes that have nothing to do with a liar may be slower: the others have its share of the work.
const HARM: f64 = 1.1;
