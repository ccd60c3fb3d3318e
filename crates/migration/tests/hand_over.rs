//! Givers and takers over connections that delay, lose and break, in every order there is.
//!
//! The world plays what `node` does around the machines: it sends frames, lets bodies run and drops them as the owner
//! commands. The checker looks at nothing but the bodies, and at what the world itself saw of the word and of faults.
#![expect(clippy::unwrap_used, reason = "a step that the machine refuses is a failed test")]

use migration::{Giver, GiverInput, GiverPhase, Owner, Taker, TakerInput, TakerPhase, Word};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert_eq, proptest};
use std::collections::{HashSet, VecDeque};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Journey {
    /// The giver is the keeper and has the word.
    FromHome,
    /// The taker is the keeper and has the word.
    Home,
    /// The keeper gives the word for an old host.
    On,
}

const JOURNEYS: [Journey; 3] = [Journey::FromHome, Journey::Home, Journey::On];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Frame {
    Quiesce,
    Quiet,
    Pages,
    Prepared,
    Commit,
    Started,
    Release,
    Resume,
    Refused,
    /// Not sent: the connection has ended.
    Cut,
}

/// A connection: frames stay in order, until it is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Link {
    onward: VecDeque<Frame>,
    back: VecDeque<Frame>,
    cut: bool,
}

impl Link {
    fn send(&mut self, way: Way, frame: Frame) {
        if !self.cut {
            self.queue(way).push_back(frame);
        }
    }

    /// It breaks: so many frames on their way still arrive, and each side then hears of the end.
    fn cut(&mut self, onward: usize, back: usize) {
        if !std::mem::replace(&mut self.cut, true) {
            self.onward.truncate(onward);
            self.back.truncate(back);
            self.onward.push_back(Frame::Cut);
            self.back.push_back(Frame::Cut);
        }
    }

    fn close(&mut self) {
        self.cut(usize::MAX, usize::MAX);
    }

    fn queue(&mut self, way: Way) -> &mut VecDeque<Frame> {
        match way {
            Way::Onward => &mut self.onward,
            Way::Back => &mut self.back,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    Onward,
    Back,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Party {
    Giver,
    Taker,
    /// The warden of the old host.
    Old,
}

/// Connections: giver to taker, keeper to the old host, old host to the new one.
const MAIN: usize = 0;
const TO_OLD: usize = 1;
const SOURCE: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Work(Party),
    Deliver(usize, Way),
    Fail(Party),
    Cut { link: usize, onward: usize, back: usize },
}

/// What a side makes of the owner that its machine names after a failure.
type Rule = fn(Party, Owner) -> Owner;

fn honest(_: Party, owner: Owner) -> Owner {
    owner
}

#[derive(Clone, Debug)]
struct World {
    journey: Journey,
    rule: Rule,
    giver: Giver,
    taker: Taker,
    old: Giver,
    links: [Link; 3],
    asked: bool,
    captured: bool,
    arrived: bool,
    /// The bodies: of the giver (or its old host), of the taker.
    runs: [bool; 2],
    /// The word was given.
    word: bool,
    /// A failure fell into the window.
    in_window: bool,
}

impl World {
    fn new(journey: Journey, rule: Rule) -> World {
        let word = if journey == Journey::Home { Word::Taker } else { Word::Giver };
        World {
            journey,
            rule,
            giver: Giver::new(word),
            taker: Taker::new(word),
            old: Giver::new(Word::Taker),
            links: Default::default(),
            asked: false,
            captured: false,
            arrived: false,
            runs: [true, false],
            word: false,
            in_window: false,
        }
    }

    /// Two worlds of the same key have the same future.
    fn key(&self) -> impl Eq + std::hash::Hash + use<> {
        let phases = (self.giver.phase().name(), self.taker.phase().name(), self.old.phase().name());
        let seen = [self.asked, self.captured, self.arrived, self.word, self.in_window];
        (phases, self.links.clone(), seen, self.runs)
    }

    /// Steps that lead on; then, with `faults`, those that do not.
    fn actions(&self, faults: bool) -> Vec<Action> {
        let mut actions = Vec::new();
        let works = |party| match party {
            Party::Giver if self.journey == Journey::Home => {
                !self.asked || (self.giver.phase() == GiverPhase::Given && !self.captured)
            }
            Party::Giver => {
                (!self.asked && self.giver.phase() == GiverPhase::Whole)
                    || self.giver.phase() == GiverPhase::Ready
            }
            Party::Taker => match self.taker.phase() {
                TakerPhase::Filling => self.arrived,
                TakerPhase::Taken => true,
                _ => false,
            },
            Party::Old => self.old.phase() == GiverPhase::Given && !self.captured,
        };
        let parties = [Party::Giver, Party::Taker, Party::Old];
        actions.extend(parties.into_iter().filter(|&party| works(party)).map(Action::Work));
        for (index, link) in self.links.iter().enumerate() {
            for (way, queue) in [(Way::Onward, &link.onward), (Way::Back, &link.back)] {
                if !queue.is_empty() {
                    actions.push(Action::Deliver(index, way));
                }
            }
        }
        if faults {
            actions.extend(parties.map(Action::Fail));
            let links = if self.journey == Journey::On { 0..3 } else { MAIN..TO_OLD };
            for link in links.filter(|&link| !self.links[link].cut) {
                let ends = &self.links[link];
                for onward in 0..=ends.onward.len() {
                    actions.extend((0..=ends.back.len()).map(|back| Action::Cut { link, onward, back }));
                }
            }
        }
        actions
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Work(Party::Giver) => self.giver_works(),
            Action::Work(Party::Taker) => self.taker_works(),
            Action::Work(Party::Old) => {
                self.captured = true;
                self.links[SOURCE].send(Way::Onward, Frame::Pages);
            }
            Action::Deliver(link, way) => {
                let Some(frame) = self.links[link].queue(way).pop_front() else { return };
                match (link, way) {
                    (MAIN, Way::Back) | (TO_OLD, Way::Back) => self.giver_hears(frame),
                    (MAIN, Way::Onward) => self.taker_hears(frame),
                    (SOURCE, Way::Onward) if frame == Frame::Cut && self.arrived => {}
                    (SOURCE, Way::Onward) => self.taker_hears(frame),
                    (TO_OLD, Way::Onward) => self.old_hears(frame),
                    _ => {}
                }
            }
            Action::Fail(party) => self.fail(party),
            Action::Cut { link, onward, back } => self.links[link].cut(onward, back),
        }
    }

    fn giver_works(&mut self) {
        match (self.journey, self.giver.phase()) {
            (Journey::On, GiverPhase::Whole) => self.links[TO_OLD].send(Way::Onward, Frame::Quiesce),
            (_, GiverPhase::Whole) => {
                self.giver.step(GiverInput::Stopped).unwrap();
                self.runs[0] = false;
                if self.journey == Journey::FromHome {
                    self.links[MAIN].send(Way::Onward, Frame::Pages);
                }
            }
            (Journey::Home, _) => {
                self.captured = true;
                self.links[MAIN].send(Way::Onward, Frame::Pages);
            }
            _ => {
                self.giver.step(GiverInput::Speak).unwrap();
                self.word = true;
                self.links[MAIN].send(Way::Onward, Frame::Commit);
            }
        }
        self.asked = true;
    }

    fn taker_works(&mut self) {
        let input = match (self.journey, self.taker.phase()) {
            (Journey::Home, TakerPhase::Filling) => TakerInput::Word,
            _ => TakerInput::Complete,
        };
        let owner = self.taker.step(input).unwrap();
        self.word |= input == TakerInput::Word;
        match self.taker.phase() {
            TakerPhase::Ready => self.links[MAIN].send(Way::Back, Frame::Prepared),
            TakerPhase::Running => {
                self.runs[1] = owner == Owner::Here;
                self.links[MAIN].send(Way::Back, Frame::Release);
            }
            _ => {}
        }
    }

    fn giver_hears(&mut self, frame: Frame) {
        let stepped = match frame {
            Frame::Quiet => self.giver.step(GiverInput::Stopped),
            Frame::Prepared => self.giver.step(GiverInput::Prepared),
            Frame::Started | Frame::Release => self.giver.step(GiverInput::Started),
            Frame::Resume => self.giver.step(GiverInput::Returned),
            _ => return self.giver_fails(),
        };
        match stepped {
            Err(_) => self.giver_fails(),
            Ok(Owner::Here) if frame == Frame::Resume => self.runs[0] = true,
            Ok(Owner::There) if self.journey == Journey::On => {
                self.links[TO_OLD].send(Way::Onward, Frame::Release);
            }
            Ok(_) => {}
        }
    }

    fn taker_hears(&mut self, frame: Frame) {
        match frame {
            Frame::Pages => self.arrived = true,
            Frame::Commit => match self.taker.step(TakerInput::Word) {
                Ok(owner) => {
                    self.runs[1] = owner == Owner::Here;
                    self.links[MAIN].send(Way::Back, Frame::Started);
                }
                Err(_) => self.taker_fails(),
            },
            _ => self.taker_fails(),
        }
    }

    fn old_hears(&mut self, frame: Frame) {
        match frame {
            Frame::Quiesce => {
                self.old.step(GiverInput::Stopped).unwrap();
                self.runs[0] = false;
                self.links[TO_OLD].send(Way::Back, Frame::Quiet);
            }
            Frame::Release => assert_eq!(self.old.step(GiverInput::Started), Ok(Owner::There)),
            Frame::Resume => {
                let owner = self.old.step(GiverInput::Returned).unwrap();
                self.runs[0] = owner == Owner::Here;
            }
            _ => {
                self.in_window |= self.old.phase() == GiverPhase::Given;
                self.runs[0] = (self.rule)(Party::Old, self.old.fail()) == Owner::Here;
            }
        }
    }

    fn fail(&mut self, party: Party) {
        let waits = |giver: &Giver| giver.phase() == GiverPhase::Given && !self.captured;
        match (party, self.journey) {
            // It says so and waits for the word.
            (Party::Giver, Journey::Home) if waits(&self.giver) => {
                self.captured = true;
                self.links[MAIN].send(Way::Onward, Frame::Refused);
            }
            (Party::Old, Journey::On) if waits(&self.old) => {
                self.captured = true;
                self.links[TO_OLD].send(Way::Back, Frame::Refused);
            }
            (Party::Giver, Journey::Home) | (Party::Old, _) => {}
            (Party::Giver, _) => self.giver_fails(),
            (Party::Taker, _) => self.taker_fails(),
        }
    }

    fn giver_fails(&mut self) {
        self.in_window |= self.giver.phase() == GiverPhase::Given;
        if matches!(self.giver.phase(), GiverPhase::Kept | GiverPhase::Gone | GiverPhase::Lost) {
            return;
        }
        let owner = (self.rule)(Party::Giver, self.giver.fail());
        self.links[MAIN].close();
        match (self.journey, owner) {
            (Journey::On, Owner::Here) if self.asked => self.links[TO_OLD].send(Way::Onward, Frame::Resume),
            (Journey::On, Owner::Unknown) => self.links[TO_OLD].close(),
            (Journey::On, _) => {}
            _ => self.runs[0] = owner == Owner::Here,
        }
        self.asked = true;
    }

    fn taker_fails(&mut self) {
        let phase = self.taker.phase();
        self.in_window |= phase == TakerPhase::Taken;
        let owner = (self.rule)(Party::Taker, self.taker.fail());
        if matches!(phase, TakerPhase::Running | TakerPhase::Dropped | TakerPhase::Lost) {
            return;
        }
        self.runs[1] = owner == Owner::Here;
        match (self.journey, owner) {
            (Journey::Home, Owner::There) => self.links[MAIN].send(Way::Back, Frame::Resume),
            (Journey::Home, _) => self.links[MAIN].close(),
            _ => {
                self.links[MAIN].send(Way::Back, Frame::Refused);
                self.links[MAIN].close();
            }
        }
    }

    /// What must hold at every moment.
    fn check(&self) -> Result<(), &'static str> {
        match (self.runs, self.word) {
            ([true, true], _) => Err("both run"),
            ([true, false], true) => Err("the giver runs after the word"),
            _ => Ok(()),
        }
    }

    /// What must hold when nothing is left to be done.
    fn check_end(&self) -> Result<(), &'static str> {
        if self.runs == [false, false] && !self.in_window {
            return Err("none runs, and no failure fell into the window");
        }
        Ok(())
    }
}

/// Goes through every world that can be reached, the nearest first: the first that is wrong, with the way to it.
fn explore(journey: Journey, rule: Rule) -> Result<HashSet<&'static str>, (&'static str, Vec<Action>)> {
    let start = World::new(journey, rule);
    let mut phases = HashSet::new();
    let mut seen = HashSet::from([start.key()]);
    let mut worlds = VecDeque::from([(start, Vec::new())]);
    while let Some((world, way)) = worlds.pop_front() {
        phases.extend([world.giver.phase().name(), world.taker.phase().name()]);
        let over = world.actions(false).is_empty();
        let checked = world.check().and_then(|()| if over { world.check_end() } else { Ok(()) });
        checked.map_err(|wrong| (wrong, way.clone()))?;
        for action in world.actions(true) {
            let mut next = world.clone();
            next.act(action);
            if seen.insert(next.key()) {
                let way = way.iter().copied().chain([action]).collect();
                worlds.push_back((next, way));
            }
        }
    }
    Ok(phases)
}

#[test]
fn a_process_runs_on_at_most_one_node_whatever_fails() {
    let mut reached = HashSet::new();
    for journey in JOURNEYS {
        let phases = explore(journey, honest);
        reached.extend(phases.unwrap_or_else(|(wrong, way)| panic!("{journey:?}: {wrong} after {way:#?}")));
    }
    let all = GiverPhase::ALL.map(|(name, _)| name).into_iter().chain(TakerPhase::ALL.map(|(name, _)| name));
    assert_eq!(reached, all.collect(), "a phase that no failure was tried in");
}

#[test]
fn without_a_fault_it_runs_at_the_taker() {
    for journey in JOURNEYS {
        let mut world = World::new(journey, honest);
        while let Some(&action) = world.actions(false).first() {
            world.act(action);
        }
        assert_eq!((world.runs, world.word), ([false, true], true), "{journey:?}");
    }
}

#[test]
fn every_phase_has_its_own_name() {
    assert!(GiverPhase::ALL.iter().all(|&(name, phase)| phase.name() == name));
    assert!(TakerPhase::ALL.iter().all(|&(name, phase)| phase.name() == name));
}

/// The canaries: sides that judge wrongly. The same checker must find each of them.
#[test]
fn a_wrong_rule_is_found() {
    let check = |journey, rule: Rule, expected: &str| {
        let (wrong, way) = explore(journey, rule).expect_err("a canary that nobody heard");
        assert_eq!(wrong, expected, "{way:#?}");
    };
    let hopeful: Rule = |party, owner| match (party, owner) {
        (Party::Giver, Owner::Unknown) => Owner::Here,
        (_, owner) => owner,
    };
    check(Journey::FromHome, hopeful, "the giver runs after the word");
    let greedy: Rule = |party, owner| match (party, owner) {
        (Party::Taker, Owner::There) => Owner::Here,
        (_, owner) => owner,
    };
    check(Journey::FromHome, greedy, "both run");
    let obstinate: Rule = |party, owner| if party == Party::Old { Owner::Here } else { owner };
    check(Journey::On, obstinate, "the giver runs after the word");
    let timid: Rule = |_, owner| if owner == Owner::Here { Owner::Unknown } else { owner };
    check(Journey::FromHome, timid, "none runs, and no failure fell into the window");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The same by chance, for a counterexample that is shrunk to what matters.
    #[test]
    fn a_random_journey_holds(journey in 0..3usize, choices in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let mut world = World::new(JOURNEYS[journey], honest);
        for choice in choices {
            world.act(*choice.get(&world.actions(true)));
            prop_assert_eq!(world.check(), Ok(()));
        }
        while let Some(&action) = world.actions(false).first() {
            world.act(action);
            prop_assert_eq!(world.check(), Ok(()));
        }
        prop_assert_eq!(world.check_end(), Ok(()));
    }
}
