//! Many runs: their results depend on their seeds and on nothing else.
#![expect(clippy::unwrap_used, reason = "scenarios and policies of a test exist")]

use sim::contender;
use sim::kept::Kept;
use sim::many::run_all;
use sim::network::Trouble;
use sim::scenario::Scenario;
use sim::world::Plan;
use std::io::Write as _;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

fn plans(scenario: &Scenario) -> Vec<Plan<'_>> {
    let plan = |policy: &str, seed| Plan {
        scenario,
        contender: contender::named(policy).unwrap(),
        seed,
        trouble: Trouble { loss: 0.01, ..Trouble::default() },
        spread: None,
        lasts: None,
    };
    ["ums", "ll"].iter().flat_map(|policy| (1..=3).map(|seed| plan(policy, seed))).collect()
}

#[test]
fn threads_change_nothing() {
    let scenario = Scenario::named("e").unwrap();
    let plans = plans(&scenario);
    let told = AtomicUsize::new(0);
    let with = |jobs| {
        run_all(&plans, NonZero::new(jobs).unwrap(), &Kept::nothing(), &|_| {
            told.fetch_add(1, Ordering::Relaxed);
        })
    };
    let one = with(1);
    assert_eq!(one, with(4));
    assert_eq!(one, with(40));
    assert_eq!(told.into_inner(), 3 * plans.len());
    assert!(one.iter().all(|run| run.done == 2000));
}

#[test]
fn what_was_kept_is_not_made_again_and_a_cut_line_is() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kept-{}", std::process::id()));
    let scenario = Scenario::named("e").unwrap();
    let plans = plans(&scenario);
    let with = |kept: &Kept| run_all(&plans, NonZero::<usize>::MIN, kept, &|_| {});
    let results = with(&Kept::open(&path).unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), plans.len());

    // One is of another build, one was being written when the power failed.
    let foreign = lines[0].replacen("\"program\":", "\"program\":1", 1);
    let cut = &lines[1][..lines[1].len() / 2];
    let mut file = std::fs::File::create(&path).unwrap();
    write!(file, "{foreign}\n{}\n{cut}", lines[2..].join("\n")).unwrap();
    let kept = Kept::open(&path).unwrap();
    let found: Vec<bool> = plans.iter().map(|plan| kept.find(plan).is_some()).collect();
    assert_eq!(found, [false, false, true, true, true, true]);
    assert_eq!(with(&kept), results);
    assert!(plans.iter().all(|plan| Kept::open(&path).unwrap().find(plan).is_some()));
    std::fs::remove_file(&path).unwrap();
}
