use std::collections::BTreeMap;

use super::*;
use crate::disk::faulty::Random;
use crate::events::window::Totals;

/// A Prometheus: the last number of each series, and how often it has each event.
#[derive(Default)]
struct Database {
    last: [Option<u64>; 2],
    stored: BTreeMap<i64, usize>,
}

impl Database {
    fn found(&self) -> BTreeSet<u64> {
        self.last.iter().flatten().copied().collect()
    }

    fn store(&mut self, next: &Next) {
        self.last[usize::from(next.is_probe)] = Some(next.number);
        for event in &next.events {
            *self.stored.entry(event.ts_ms).or_default() += 1;
        }
    }
}

struct Run {
    window: Window,
    state: State,
    database: Database,
    /// A probe is believed before it is there: what the control breaks.
    believes_probes: bool,
}

impl Run {
    fn new(believes_probes: bool) -> Self {
        let window = Window::new(1, Totals::default(), 0);
        Self { window, state: State::new(7, 1), database: Database::default(), believes_probes }
    }

    fn post(&mut self, series: &str) {
        let ts_ms = i64::try_from(self.window.end()).unwrap();
        self.window.push(Event { ts_ms, value: 1.0, series: series.into(), id: None });
    }

    /// What the server does for one request, up to the sync.
    fn answer(&self) -> (State, Next) {
        let mut found = self.database.found();
        if self.believes_probes {
            found.extend(self.state.probe);
        }
        let mut state = self.state.clone();
        let before = state.decide(&found);
        let next = state.next(before, (1, &found), (&self.window, 3)).unwrap();
        (state, next)
    }

    /// A request whose answer goes nowhere, or to somebody else.
    fn answer_in_vain(&mut self) {
        self.state = self.answer().0;
    }

    /// One scrape, and what may happen around it.
    fn scrape(&mut self, random: &mut Random) {
        let (state, next) = self.answer();
        match random.below(8) {
            // Killed, or the disk failed, before it was sent: the row is there or not.
            0 => return,
            1 => return self.state = state,
            _ => self.state = state,
        }
        // Late requests and others under this name are answered while this answer is on its way.
        for _ in 0..random.below(6).saturating_sub(2) {
            self.answer_in_vain();
        }
        if random.below(4) > 0 {
            self.database.store(&next);
        }
        if random.below(4) == 0 {
            self.state = State::from_bytes(&self.state.to_bytes()).unwrap();
        }
    }

    /// How many are there more than once, and how many are not.
    fn wrong(&self) -> (usize, usize) {
        let twice = self.database.stored.values().filter(|times| **times > 1).count();
        (twice, self.window.len() - self.database.stored.len())
    }
}

fn run(seed: u64, believes_probes: bool) -> (usize, usize) {
    let mut random = Random::new(seed);
    let mut run = Run::new(believes_probes);
    for n in 0..40 {
        run.post(&format!("s{}", random.below(10)));
        run.scrape(&mut random);
        assert!(believes_probes || run.wrong().0 == 0, "seed {seed}, scrape {n}");
    }
    // Nothing breaks any more.
    for _ in 0..60 {
        let (state, next) = run.answer();
        run.state = state;
        run.database.store(&next);
    }
    run.wrong()
}

#[test]
fn whatever_gets_lost_or_late_each_is_stored_once() {
    for seed in 0..500 {
        assert_eq!(run(seed, false), (0, 0), "seed {seed}");
    }
}

/// The control: a rule that takes a missing number for a lost answer doubles those that are late.
#[test]
fn to_take_missing_for_lost_would_double() {
    let doubled: usize = (0..500).map(|seed| run(seed, true).0).sum();
    assert!(doubled > 50, "{doubled} doubled");
}

#[test]
fn a_row_comes_back_as_it_was_and_others_are_none() {
    let mut run = Run::new(false);
    run.post("a");
    let fresh = run.state.clone();
    assert_eq!(State::from_bytes(&fresh.to_bytes()), Some(fresh));
    for _ in 0..2 {
        let (state, next) = run.answer();
        run.state = state;
        run.database.store(&next);
    }
    run.answer_in_vain();
    let state = run.state.clone();
    assert_eq!(State::from_bytes(&state.to_bytes()), Some(state.clone()));
    for end in [0, 7, 31, 39, state.to_bytes().len() - 1] {
        assert_eq!(State::from_bytes(&state.to_bytes()[..end]), None, "{end}");
    }
}

#[test]
fn numbers_grow_and_end() {
    let window = Window::default();
    let mut state = State::new(7, 1);
    let mut number = |now_ms, found: &[u64]| {
        let found = found.iter().copied().collect();
        let before = state.decide(&found);
        state.next(before, (now_ms, &found), (&window, 1)).map(|next| next.number)
    };
    assert_eq!(number(100, &[]), Some(100));
    assert_eq!(number(100, &[]), Some(101));
    assert_eq!(number(50, &[300]), Some(301), "behind what is there, whoever sent it");
    assert_eq!(number(END, &[]), None);
}
