//! The heartbeat against simulated networks: virtual time, one peer, and a box on the way that drops silent flows.

use super::learned::{Learned, NetworkKey};
use super::{Bounds, Due, Moment, Pulse};
use std::net::{IpAddr, Ipv4Addr};
use tidegate_protocol::fb::Family;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
const ROUND_TRIP_MS: u32 = 40;

/// What became of one connection.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Died,
    Lives {
        interval_ms: u32,
        longest_silence_ms: u32,
    },
}

/// Runs one idle connection whose flow dies after `drop_after_ms` of silence, until `until_ms`.
fn idle_connection(
    learned: &mut Learned,
    bounds: &Bounds,
    clock_ms: &mut u32,
    drop_after_ms: u32,
    for_ms: u32,
) -> Fate {
    let key = NetworkKey::new(Family::H5, ADDRESS);
    let mut now = Moment(*clock_ms);
    let until = now.after_ms(for_ms);
    let mut pulse = Pulse::new(now, learned.interval_ms_first(key, bounds, now));
    let mut last_packet = now;
    let mut longest_silence_ms = 0;
    let fate = loop {
        match pulse.look(now, bounds) {
            Due::At(next) => now = next,
            Due::Ping(_) => {
                let silence_ms = now.since_ms(last_packet);
                longest_silence_ms = longest_silence_ms.max(silence_ms);
                if silence_ms < drop_after_ms {
                    now = now.after_ms(ROUND_TRIP_MS);
                    last_packet = now;
                    let survived_ms = pulse.heard(now).expect("a ping was answered");
                    learned.survived(key, survived_ms, now);
                    pulse.grow(learned.ceiling_ms(key, bounds, now));
                }
            }
            Due::Dead { silence_ms } => {
                learned.died(key, bounds, silence_ms, now);
                break Fate::Died;
            }
        }
        if until.since_ms(now) == 0 {
            break Fate::Lives {
                interval_ms: pulse.interval_ms(),
                longest_silence_ms,
            };
        }
    };
    *clock_ms = now.0;
    fate
}

#[test]
fn a_nat_that_drops_after_45_s_is_met_below_45_s_within_three_deaths() {
    for interval_ms_max in [60_000, 90_000, 120_000, 240_000, 300_000] {
        let bounds = Bounds::of_family(Family::H5, 10_000, interval_ms_max);
        let mut learned = Learned::default();
        let mut clock_ms = 0;
        let mut deaths = 0;
        // Connections follow each other for 40 minutes: less than a lesson lasts.
        while clock_ms < 2_400_000 {
            let left_ms = 2_400_000 - clock_ms;
            match idle_connection(&mut learned, &bounds, &mut clock_ms, 45_000, left_ms) {
                Fate::Died => deaths += 1,
                Fate::Lives {
                    longest_silence_ms, ..
                } => assert!(longest_silence_ms < 45_000),
            }
            assert!(
                deaths <= 3,
                "{deaths} deaths under a maximum of {interval_ms_max} ms"
            );
        }
        assert!(deaths >= 1, "the bound was never tried");
    }
}

#[test]
fn a_stable_peer_reaches_the_maximum() {
    let bounds = Bounds::of_family(Family::H5, 10_000, 60_000);
    let fate = idle_connection(
        &mut Learned::default(),
        &bounds,
        &mut 0,
        u32::MAX,
        1_200_000,
    );
    assert_eq!(
        fate,
        Fate::Lives {
            interval_ms: 60_000,
            longest_silence_ms: 60_000
        }
    );
}

#[test]
fn a_lesson_is_forgotten_after_an_hour() {
    let bounds = Bounds::of_family(Family::H5, 10_000, 60_000);
    let mut learned = Learned::default();
    let mut clock_ms = 0;
    assert_eq!(
        idle_connection(&mut learned, &bounds, &mut clock_ms, 45_000, 3_600_000),
        Fate::Died
    );
    clock_ms += super::learned::LESSON_MS_MAX;
    let fate = idle_connection(&mut learned, &bounds, &mut clock_ms, u32::MAX, 1_200_000);
    assert_eq!(
        fate,
        Fate::Lives {
            interval_ms: 60_000,
            longest_silence_ms: 60_000
        }
    );
}

#[test]
fn a_death_teaches_its_own_network_and_family_only() {
    let bounds = Bounds::of_family(Family::H5, 10_000, 60_000);
    let mut learned = Learned::default();
    let now = Moment(1_000);
    learned.died(NetworkKey::new(Family::H5, ADDRESS), &bounds, 50_000, now);
    let neighbour = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 99));
    let stranger = IpAddr::V4(Ipv4Addr::new(203, 0, 114, 7));
    assert_eq!(
        learned.ceiling_ms(NetworkKey::new(Family::H5, neighbour), &bounds, now),
        25_000
    );
    assert_eq!(
        learned.ceiling_ms(NetworkKey::new(Family::H5, stranger), &bounds, now),
        60_000
    );
    assert_eq!(
        learned.ceiling_ms(NetworkKey::new(Family::App, ADDRESS), &bounds, now),
        60_000
    );
}

#[test]
fn no_number_of_deaths_goes_below_the_minimum() {
    let bounds = Bounds::of_family(Family::H5, 10_000, 60_000);
    let mut learned = Learned::default();
    let key = NetworkKey::new(Family::H5, ADDRESS);
    for _ in 0..20 {
        learned.died(
            key,
            &bounds,
            learned.ceiling_ms(key, &bounds, Moment(0)),
            Moment(0),
        );
    }
    assert_eq!(learned.ceiling_ms(key, &bounds, Moment(0)), 10_000);
}
