//! The crowd against a server that speaks raw HTTP, or none.

use std::io::{Read, Write};
use std::net::TcpListener;

use tidegate_protocol::Codec;

use super::*;
use crate::client::limits::CONNECT_US_MAX;

const TURNS_MAX: usize = 2_000;

fn crowd_for(listener: &TcpListener) -> Crowd {
    let server = listener.local_addr().unwrap();
    let settings = Settings::new(&server.to_string(), Codec::Flat);
    Crowd::new(server, settings, 0).unwrap()
}

/// Rounds until it is so.
fn until(crowd: &mut Crowd, mut so: impl FnMut(&[News]) -> bool) -> Vec<News> {
    let mut news = Vec::new();
    for _ in 0..TURNS_MAX {
        if so(&news) {
            return news;
        }
        crowd.turn(Duration::from_millis(5), &mut news).unwrap();
    }
    panic!("not within {TURNS_MAX} rounds; news so far: {news:?}");
}

#[test]
fn a_member_who_starts_connects_from_an_address_of_its_own_and_asks_for_the_upgrade() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut crowd = crowd_for(&listener);
    for number in 0..=OFFICE {
        crowd.add("token", u64::from(number) + 1, 1);
    }
    crowd.start(0);
    crowd.start(OFFICE as usize);
    let mut from = Vec::new();
    for _ in 0..2 {
        let accepted = std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let (mut stream, peer) = listener.accept().unwrap();
                let mut head = [0; 14];
                stream.read_exact(&mut head).unwrap();
                (head, peer.ip())
            });
            until(&mut crowd, |_| waits.is_finished());
            waits.join().unwrap()
        });
        assert_eq!(&accepted.0, b"GET /ws HTTP/1");
        from.push(accepted.1);
    }
    from.sort_unstable();
    from.dedup();
    assert_eq!(from.len(), 2, "two offices have two addresses");
}

#[test]
fn a_refused_upgrade_and_a_lost_connection_become_news() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut crowd = crowd_for(&listener);
    let member = crowd.add("token", 1, 1);
    crowd.start(member);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 512];
            let _some = stream.read(&mut head).unwrap();
            stream
                .write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        });
        let told = until(&mut crowd, |news| {
            news.iter()
                .any(|one| matches!(one.event, Event::Closed { .. }))
        });
        let is_refusal = |one: &News| one.event == Event::UpgradeRefused { status: 503 };
        assert!(told.iter().any(is_refusal), "{told:?}");
    });
}

#[test]
fn nobody_listening_counts_as_a_refused_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut crowd = crowd_for(&listener);
    drop(listener);
    let member = crowd.add("token", 1, 1);
    crowd.start(member);
    let told = until(&mut crowd, |news| !news.is_empty());
    assert!(
        matches!(
            told[0].event,
            Event::Closed {
                comes_back: true,
                ..
            }
        ),
        "{told:?}"
    );
    assert_eq!(crowd.refused_connections(), 1);
    assert!(crowd.now_us() < CONNECT_US_MAX, "it did not wait it out");
}
