//! Properties of the one cost: what follows from its formulas must hold for any nodes and processes.
#![expect(clippy::unwrap_used, reason = "a node id of a test is never 0")]

use balance::{Ages, Job, Link, Place, Settings, State, Talk, cost};
use model::NodeId;
use proptest::prelude::{Just, ProptestConfig, Strategy, prop, prop_assert, prop_oneof, proptest};

fn node(number: u16) -> NodeId {
    NodeId::new(number).unwrap()
}

const LINK: Link = Link { fixed_s: 0.1, bandwidth_mb_s: 100.0, round_trip_s: 0.001 };

fn ages(list: &[f64]) -> Ages {
    list.iter().fold(Ages::default(), |mut ages, age_s| {
        ages.add(*age_s);
        ages
    })
}

fn state() -> impl Strategy<Value = State> {
    let ages_s = prop::collection::vec(0.0..500.0_f64, 0..20);
    (0.1..3.0_f64, 0.5..64.0_f64, 0.0..100.0_f64, 100.0..20_000.0_f64, 0.0..2.0_f64, ages_s).prop_map(
        |(speed, cpus, jobs, usable_mb, used, ages_s)| State {
            speed,
            cpus,
            jobs,
            load: jobs,
            memory_mb: usable_mb * used,
            usable_mb,
            thrash: 10.0,
            link_busy_s: 0.0,
            stays: false,
            ages: ages(&ages_s),
        },
    )
}

fn job() -> impl Strategy<Value = Job> {
    let talk = (0.0..2000.0_f64, 0.0..50.0_f64, 1..4_u16).prop_map(|(calls, megabytes, owner)| Talk {
        calls,
        files: [Some((node(owner), megabytes)), None, None, None],
    });
    let talk = prop_oneof![Just(Talk::default()), talk];
    (1..4_u16, 0.0..500.0_f64, prop::option::of(0.1..900.0_f64), 1.0..6000.0_f64, 0.2..4.0_f64, talk)
        .prop_map(|(home, age_s, whole_s, memory_mb, width, talk)| Job {
            home: node(home),
            age_s,
            whole_s,
            memory_mb,
            width,
            talk,
        })
}

/// The same place after a process has come.
fn with(place: &Place, job: &Job) -> Place {
    let mut place = *place;
    place.state.jobs += job.width;
    place.state.memory_mb += job.memory_mb;
    place.state.ages.add(job.age_s);
    place
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// No ping-pong: a move and its way back, everything else unchanged, never gain anything together. So of the two at most
    /// one is above the threshold.
    #[test]
    fn there_and_back_gains_nothing(
        here in state(), there in state(), job in job(), typical in 0.1..50.0_f64, overhead in 0.0..0.3_f64,
    ) {
        let settings = Settings { remote_overhead: overhead, ..Settings::default() };
        let [here, there] = [(1, here), (2, there)].map(|(id, state)| Place { node: node(id), state, link: LINK });
        let onward = cost::gain(&job, &with(&here, &job), &there, typical, &settings);
        let back = cost::gain(&job, &with(&there, &job), &here, typical, &settings);
        // Large sums of unlike size lose some digits.
        let rounding = 1e-9 * (onward.abs() + back.abs());
        prop_assert!(onward + back < rounding, "{onward} {back}");
    }

    /// More processes never make a place cheaper.
    #[test]
    fn cost_grows_with_processes(state in state(), job in job(), more in 0.0..20.0_f64) {
        let settings = Settings::default();
        let place = Place { node: node(2), state, link: LINK };
        let fuller = Place { state: State { jobs: state.jobs + more, ..state }, ..place };
        let [low, high] = [place, fuller].map(|place| cost::start(&job, &place, 1.0, &settings));
        prop_assert!(high >= low * (1.0 - 1e-12), "{low} {high}");
    }

    /// Nor does more memory in use, as long as the place does not thrash already: what thrashes cannot be harmed twice.
    #[test]
    fn cost_grows_with_memory(state in state(), job in job(), share in 0.0..1.0_f64) {
        let settings = Settings::default();
        let usable = state.usable_mb;
        let place = Place { node: node(2), state: State { memory_mb: usable * share * share, ..state }, link: LINK };
        let fuller = Place { state: State { memory_mb: usable * share, ..state }, ..place };
        let [low, high] = [place, fuller].map(|place| cost::start(&job, &place, 1.0, &settings));
        prop_assert!(high >= low * (1.0 - 1e-12), "{low} {high}");
    }

    /// Memory ushering needs no rule of its own: of processes of one age, the smallest whose leaving ends the thrashing
    /// gains most.
    #[test]
    fn the_smallest_sufficient_process_is_ushered(
        sizes in prop::collection::vec(10.0..2000.0_f64, 3..12), short in 0.05..0.9_f64, age_s in 1.0..100.0_f64,
    ) {
        let settings = Settings::default();
        let largest = sizes.iter().copied().fold(0.0, f64::max);
        let total: f64 = sizes.iter().sum();
        let state = State {
            speed: 1.0, cpus: 64.0, jobs: sizes.len() as f64, load: 0.0, memory_mb: total,
            usable_mb: total - short * largest, thrash: 10.0, link_busy_s: 0.0, stays: false, ages: ages(&vec![age_s; sizes.len()]),
        };
        let here = Place { node: node(1), state, link: LINK };
        let roomy = State { jobs: 0.0, memory_mb: 0.0, usable_mb: 1e6, ages: Ages::default(), ..state };
        let there = Place { node: node(2), state: roomy, link: LINK };
        let gain = |memory_mb: f64| {
            let job = Job { home: node(1), age_s, whole_s: None, memory_mb, width: 1.0, talk: Talk::default() };
            cost::gain(&job, &here, &there, 1.0, &settings)
        };
        let chosen = sizes.iter().copied().max_by(|one, other| gain(*one).total_cmp(&gain(*other))).unwrap();
        let want = sizes.iter().copied().filter(|size| *size >= short * largest).fold(f64::INFINITY, f64::min);
        prop_assert!(chosen == want, "{chosen} instead of {want} of {sizes:?}");
    }
}

/// Who talks much to its home is drawn back to it, and stays (F15).
#[test]
fn who_talks_to_its_home_is_drawn_back() {
    let settings = Settings::default();
    let idle = State {
        speed: 1.0,
        cpus: 1.0,
        jobs: 0.0,
        load: 0.0,
        memory_mb: 0.0,
        usable_mb: 1000.0,
        thrash: 10.0,
        link_busy_s: 0.0,
        stays: false,
        ages: Ages::default(),
    };
    let place = |id| Place { node: node(id), state: idle, link: LINK };
    let quiet =
        Job { home: node(1), age_s: 10.0, whole_s: None, memory_mb: 10.0, width: 1.0, talk: Talk::default() };
    let calls = Job { talk: Talk { calls: 2000.0, ..Talk::default() }, ..quiet };
    let files =
        Job { talk: Talk { files: [Some((node(3), 200.0)), None, None, None], ..Talk::default() }, ..quiet };
    for (job, here, there, good) in [
        (quiet, 2, 1, false),
        (calls, 2, 1, true),
        (calls, 1, 2, false),
        (files, 1, 3, true),
        (files, 3, 1, false),
    ] {
        let gain = cost::gain(&job, &with(&place(here), &job), &place(there), 1.0, &settings);
        assert_eq!(gain > settings.theta, good, "{job:?} from {here} to {there}: {gain}");
    }
    // It starts where its files are, and at home if that is whom it calls.
    let start = |job: &Job, id| cost::start(job, &place(id), 10.0, &settings);
    assert!(start(&files, 3) < start(&files, 1));
    assert!(start(&calls, 1) < start(&calls, 3));
}
