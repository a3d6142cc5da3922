//! The controller against a simulated rush: gateways that let in by the frontier, people who leave and come back, and a
//! backend that needs time for each.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// One step of the simulation.
const TICK_US: u64 = 5_000;

/// A whole flash sale but for the sockets.
struct Rush {
    admission: Admission,
    limits: Limits,
    now_us: u64,
    tickets: u64,
    waiting: BTreeSet<u64>,
    /// Passed over while away, and on the way back.
    away: BTreeSet<u64>,
    /// Let in, in the rings.
    in_rings: u64,
    inside: u64,
    /// What one newcomer costs the backend.
    cost_us: u64,
    /// The frontier's first value, where the bucket was full.
    started_at: u64,
    latecomers: u64,
    turn_us_max: u64,
}

impl Rush {
    fn new(limits: Limits, cost_us: u64) -> Self {
        let mut admission = Admission::new(limits, 0, 0);
        admission.step(&Sight::default());
        Self {
            started_at: admission.frontier(),
            admission,
            limits,
            now_us: 0,
            tickets: 0,
            waiting: BTreeSet::new(),
            away: BTreeSet::new(),
            in_rings: 0,
            inside: 0,
            cost_us,
            latecomers: 0,
            turn_us_max: 0,
        }
    }

    fn arrive(&mut self, people: u64) {
        self.waiting.extend(self.tickets..self.tickets + people);
        self.tickets += people;
    }

    /// Gateways look at the frontier, the backend makes a turn of what is in the rings, and looks itself.
    fn tick(&mut self) {
        while self
            .waiting
            .first()
            .is_some_and(|&ticket| ticket < self.admission.frontier())
        {
            self.waiting.pop_first();
            self.in_rings += 1;
        }
        let before = self.admission.frontier();
        let taken = self.in_rings.min(4_096);
        self.in_rings -= taken;
        self.inside += taken;
        (0..taken).for_each(|_| self.admission.came());
        let turn_us = taken * self.cost_us;
        self.turn_us_max = self.turn_us_max.max(turn_us);
        self.now_us += turn_us.max(TICK_US);
        self.admission.step(&Sight {
            now_us: self.now_us,
            tickets: self.tickets,
            inside: u32::try_from(self.inside).unwrap(),
            turn_us,
            fill_percent: u32::try_from((self.in_rings / 100).min(100)).unwrap(),
        });
        assert!(
            self.admission.frontier() >= before,
            "the frontier never moves back"
        );
        assert!(
            self.admission.on_their_way.len() <= 256,
            "nothing here grows with those who wait"
        );
        self.check_rate();
    }

    /// New people inside, or on their way in, are never more than rate and burst allow, latecomers apart.
    fn check_rate(&self) {
        let allowed = self.started_at + u64::from(self.limits.per_s) * self.now_us / 1_000_000 + 1;
        let came = self.inside + self.in_rings;
        assert!(
            came <= allowed + self.latecomers,
            "{came} people after {} µs, allowed {allowed} and {} latecomers",
            self.now_us,
            self.latecomers
        );
    }

    /// Until nobody waits; the time it took from now.
    fn drain(&mut self, most_s: u64) -> u64 {
        let began_us = self.now_us;
        while !self.waiting.is_empty() || self.in_rings > 0 {
            let before = self.admission.frontier();
            for _ in 0..(2_000_000 / TICK_US) {
                self.tick();
            }
            assert!(
                self.admission.frontier() > before,
                "while somebody waits the frontier moves within two seconds"
            );
            assert!(
                self.now_us - began_us < most_s * 1_000_000,
                "{} still wait",
                self.waiting.len()
            );
        }
        self.now_us - began_us
    }
}

fn limits(per_s: u32, burst: u32) -> Limits {
    Limits {
        per_s,
        burst,
        inside_max: 0,
    }
}

#[test]
fn in_an_ordinary_shop_nobody_waits() {
    let mut shop = Rush::new(limits(5_000, 1_000), 20);
    for _ in 0..2_000 {
        shop.arrive(5);
        let newest = shop.tickets - 1;
        assert!(
            newest < shop.admission.frontier(),
            "1,000 a second wait for nothing"
        );
        shop.tick();
    }
}

#[test]
fn a_rush_beyond_the_rate_is_let_in_at_the_rate_and_to_the_last() {
    let mut sale = Rush::new(limits(2_000, 500), 20);
    for _ in 0..2_000 {
        sale.arrive(50);
        sale.tick();
    }
    assert_eq!(sale.tickets, 100_000);
    let seconds = sale.drain(60) / 1_000_000;
    assert!(
        (38..44).contains(&seconds),
        "80,000 at 2,000 a second took {seconds} s"
    );
}

#[test]
fn lag_slows_it_down_and_calm_opens_it_up_again() {
    // One newcomer costs a millisecond: 1,000 a second is all there is, 10,000 is what the operator allows.
    let mut sale = Rush::new(limits(10_000, 100), 1_000);
    sale.arrive(20_000);
    for _ in 0..400 {
        sale.tick();
    }
    assert!(sale.admission.view().pace_percent < 50);
    let after_start_us = sale.now_us;
    sale.turn_us_max = 0;
    sale.drain(120);
    assert!(sale.turn_us_max < 4 * 1_000_000, "{}", sale.turn_us_max);
    assert!(sale.now_us > after_start_us);
    for _ in 0..600 {
        sale.tick();
    }
    assert_eq!(
        sale.admission.view().pace_percent,
        100,
        "calm for three seconds"
    );
}

#[test]
fn those_who_left_cost_those_behind_them_nothing() {
    let mut sale = Rush::new(limits(1_000, 100), 20);
    sale.arrive(40_000);
    // Every other one leaves while waiting.
    sale.waiting.retain(|ticket| ticket % 2 == 0);
    let seconds = sale.drain(60) / 1_000_000;
    assert!(seconds <= 26, "20,000 at 1,000 a second took {seconds} s");
    assert!(sale.admission.view().passed_over > 17_000);
}

#[test]
fn latecomers_come_in_at_once_and_are_taken_off_the_rate() {
    let mut sale = Rush::new(limits(1_000, 100), 20);
    sale.arrive(30_000);
    sale.away = sale.waiting.split_off(&200);
    let back = sale.away.split_off(&4_200);
    sale.waiting.extend(back);
    // 4,000 are away while the frontier passes them.
    for _ in 0..2_000 {
        sale.tick();
    }
    let before = sale.admission.view();
    assert!(before.passed_over >= 3_900, "{before:?}");
    let late = sale.away.len() as u64;
    sale.latecomers = late;
    sale.waiting.append(&mut sale.away);
    sale.tick();
    assert!(
        sale.admission.view().frontier <= before.frontier + 100,
        "they were taken off"
    );
    sale.drain(60);
    assert!(sale.admission.owed <= 100);
}

#[test]
fn with_no_place_left_nobody_is_let_in_until_somebody_leaves() {
    let mut sale = Rush::new(
        Limits {
            per_s: 1_000,
            burst: 50,
            inside_max: 300,
        },
        20,
    );
    sale.arrive(1_000);
    for _ in 0..2_000 {
        sale.tick();
    }
    assert_eq!((sale.inside, sale.waiting.len()), (300, 700));
    sale.inside -= 100;
    sale.latecomers += 100; // they count as inside no more, but came
    for _ in 0..1_000 {
        sale.tick();
    }
    assert_eq!((sale.inside, sale.waiting.len()), (300, 600));
}

#[test]
fn a_new_backend_goes_on_from_the_frontier_that_it_finds() {
    let mut admission = Admission::new(limits(1_000, 500), 7_000, 20_000);
    admission.step(&Sight {
        now_us: 5,
        tickets: 20_000,
        ..Sight::default()
    });
    assert_eq!(admission.frontier(), 7_000, "nobody is let in by a restart");
    admission.step(&Sight {
        now_us: 100_005,
        tickets: 20_000,
        ..Sight::default()
    });
    assert_eq!(admission.frontier(), 7_100);
}

#[test]
fn without_a_rate_nobody_controls_and_an_old_frontier_is_kept_far_ahead() {
    let mut admission = Admission::new(limits(0, 0), 0, 0);
    assert!(admission.step(&Sight::default()));
    assert_eq!(admission.frontier(), 0);
    let mut admission = Admission::new(limits(0, 0), 10, 500);
    let sight = Sight {
        tickets: 500,
        ..Sight::default()
    };
    admission.step(&sight);
    assert!(admission.frontier() > 100_000);
    assert_eq!(admission.next_us(), u64::MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_it_keeps_to_rate_and_burst_and_lets_the_last_one_in(
        per_s in 50_u32..5_000,
        burst in 1_u32..2_000,
        cost_us in 0_u64..2_000,
        waves in prop::collection::vec((0_u64..2_000, 0_u64..400, 0_u64..4), 1..6),
    ) {
        let mut rush = Rush::new(limits(per_s, burst), cost_us);
        for (people, ticks, leavers) in waves {
            rush.arrive(people);
            if leavers > 0 {
                rush.waiting.retain(|ticket| ticket % 4 >= leavers);
            }
            for _ in 0..ticks {
                rush.tick();
            }
        }
        rush.drain(2_000);
    }
}
