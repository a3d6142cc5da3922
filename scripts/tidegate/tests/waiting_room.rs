//! More people come than are let in: they wait in one line over two gateways, and neither the death of a gateway nor
//! that of the backend costs anybody their place.

mod stage;

use serde_json::{Value, json};
use stage::people::visitor_token;
use stage::socket::{Frame, Socket};
use stage::{DEADLINE, Stage, directory, eventually, signal};

/// One visitor at the door, or inside.
struct Guest {
    token: String,
    session: String,
    socket: Socket,
    /// From the newest Wait or Admitted.
    ticket: String,
    /// From the newest Wait; 0 inside.
    place: u64,
    /// When the server welcomed them, by its clock.
    welcomed_us: u64,
}

impl Guest {
    /// Comes, and reads what the server says first: Wait, or Welcome and Admitted.
    fn arrive(stage: &Stage, number: u64) -> Self {
        let (token, _) = visitor_token(stage);
        let mut guest = Self {
            token,
            session: format!("{:016x}", 0xa00 + number),
            socket: Socket::open(stage.ws),
            ticket: String::new(),
            place: 0,
            welcomed_us: 0,
        };
        guest.greet();
        guest
    }

    fn come_back(&mut self, stage: &Stage) {
        self.socket = Socket::open(stage.ws);
        self.greet();
    }

    fn greet(&mut self) {
        let hello = json!({"kind": "hello", "token": self.token, "session": self.session, "ticket": self.ticket});
        self.socket.send(&hello.to_string());
        let first = self.socket.next_json();
        self.hear(&first);
    }

    fn hear(&mut self, said: &Value) {
        match said["kind"].as_str() {
            Some("wait") => {
                self.place = said["place"].as_u64().expect("a place");
                self.ticket = said["ticket"].as_str().expect("a ticket").to_owned();
            }
            Some("welcome") => {
                self.place = 0;
                self.welcomed_us = said["ts"].as_u64().expect("a time");
                let admitted = self.socket.until("admitted");
                self.ticket = admitted["ticket"].as_str().expect("a pass").to_owned();
            }
            _ => panic!("{said}"),
        }
    }

    fn survives(&mut self) -> bool {
        if !self.socket.try_send(r#"{"kind":"ping","request":9}"#) {
            return false;
        }
        loop {
            match self.socket.next() {
                Frame::Text(text) if text.contains(r#""kind":"pong""#) => return true,
                Frame::Text(text) => self.hear(&serde_json::from_str(&text).expect("JSON")),
                Frame::Close(..) | Frame::End => return false,
            }
        }
    }

    fn get_in(&mut self) {
        while self.place > 0 {
            let said = self.socket.next_json();
            self.hear(&said);
        }
    }
}

/// One new visitor a second, and nobody beside: the steps are far apart, so who came in when is no question.
const SLOWLY: [(&str, &str); 2] = [
    ("TIDEGATE_BACKEND__ADMISSION__PER_S", "1"),
    ("TIDEGATE_BACKEND__ADMISSION__BURST", "1"),
];

fn assert_in_order(guests: &mut [Guest]) {
    let mut welcomed = Vec::new();
    for guest in guests {
        guest.get_in();
        welcomed.push(guest.welcomed_us);
    }
    assert!(welcomed.is_sorted(), "first come, first in: {welcomed:?}");
}

#[test]
fn those_who_wait_keep_their_places_when_a_gateway_dies_and_who_was_inside_comes_back_in() {
    let stage = Stage::start_in(directory(), &["--gateways", "2"], &SLOWLY);
    let mut inside = Guest::arrive(&stage, 0);
    assert_eq!(inside.place, 0, "the first one comes in at once");
    let mut line: Vec<Guest> = (1..=8)
        .map(|number| Guest::arrive(&stage, number))
        .collect();
    let places: Vec<u64> = line.iter().map(|guest| guest.place).collect();
    assert!(places[7] > 0, "{places:?}");

    let before = stage.pids("gateway");
    signal(before[0], "KILL");
    eventually("a successor", || {
        let now = stage.pids("gateway");
        (now.len() == 2 && !now.contains(&before[0])).then_some(())
    });
    let mut moved = 0;
    for guest in line.iter_mut().rev() {
        let place = guest.place;
        if !guest.survives() {
            moved += 1;
            guest.come_back(&stage);
        }
        assert!(guest.place <= place, "{} after {place}", guest.place);
    }
    println!("{moved} of {} waited on the gateway that died", line.len());
    if !inside.survives() {
        inside.come_back(&stage);
    }
    assert_eq!(
        inside.place, 0,
        "who was inside is not sent to the end of the line"
    );
    assert_in_order(&mut line);
    // Inside they hold a pass, wherever they come back.
    line[7].come_back(&stage);
    assert_eq!(line[7].place, 0);
}

#[test]
fn the_line_survives_the_death_of_the_backend() {
    let stage = Stage::start_in(directory(), &[], &SLOWLY);
    let mut line: Vec<Guest> = (0..6).map(|number| Guest::arrive(&stage, number)).collect();
    let last = line[5].place;
    assert!(last > 0);
    let before = stage.pids("backend");
    signal(before[0], "KILL");
    eventually("a successor", || {
        let now = stage.pids("backend");
        (now.len() == 1 && now != before).then_some(())
    });
    for guest in &mut line {
        assert!(guest.survives(), "nobody loses the connection");
    }
    assert!(line[5].place <= last);
    assert_in_order(&mut line);
}

#[test]
fn who_leaves_the_line_holds_nobody_up_and_who_reloads_stands_where_they_stood() {
    let stage = Stage::start_in(directory(), &[], &SLOWLY);
    let mut line: Vec<Guest> = (0..5).map(|number| Guest::arrive(&stage, number)).collect();
    let place = line[4].place;
    line[4].come_back(&stage);
    assert!(line[4].place <= place, "a reload keeps the place");
    drop(line.remove(2));
    let since = std::time::Instant::now();
    assert_in_order(&mut line);
    assert!(since.elapsed() < DEADLINE);
}
