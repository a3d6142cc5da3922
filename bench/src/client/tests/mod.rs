//! The delivery contract as stories, in both codecs where bytes matter.

mod server;

use tidegate_protocol::{Codec, fb, message};

use super::limits::{GAP_US, OUTBOX_ITEMS_MAX, PONG_US_MAX, SEND_ANSWER_US_MAX};
use super::{Event, Phase};
use server::{CHAT, Said, Story, resumed};

/// The seqs of the messages that were handed on.
fn seqs(events: &[Event]) -> Vec<u64> {
    let seq = |event: &Event| match event {
        Event::Message(message) => Some(message.seq),
        _ => None,
    };
    events.iter().filter_map(seq).collect()
}

#[test]
fn a_chat_reads_the_same_in_both_codecs_and_in_pieces_of_any_size() {
    for codec in [Codec::Json, Codec::Flat] {
        for piece_bytes in [1, 3, 64, usize::MAX] {
            let mut story = Story::new(codec);
            story.piece_bytes = piece_bytes;
            story.client.start(story.now_us, &mut story.exchange);
            assert_eq!(
                story.connect(),
                Said::Hello {
                    session: 0x5e1f,
                    token: "the token".to_owned(),
                    cursors: vec![]
                }
            );
            story.welcome(0, &[]);
            let key = story.send("Is it in stock?");
            assert_eq!(story.sends(), [(1, "Is it in stock?".to_owned())]);
            story.accept(1, 2);
            story.message(1);
            let events = story.events();
            assert!(events.contains(&Event::Accepted {
                key,
                session: 0x5e1f,
                n: 1,
                conversation: CHAT,
                seq: 2,
                repeated: false
            }));
            assert_eq!(seqs(&events), [1], "{codec:?} in pieces of {piece_bytes}");
            assert_eq!(
                story.client.cursor(CHAT),
                2,
                "its own message fills its place"
            );
            let ack = Said::Ack {
                delivered: 2,
                read: 0,
            };
            assert!(
                story.said().contains(&ack),
                "{codec:?} in pieces of {piece_bytes}"
            );
        }
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let run = || {
        let mut story = Story::welcomed(Codec::Flat, &[]);
        story.send("one");
        story.reconnect();
        story.welcome(0, &[]);
        story.said();
        story.sent_bytes
    };
    assert_eq!(run(), run());
}

#[test]
fn what_was_sent_is_repeated_under_its_number_until_it_is_answered() {
    let mut story = Story::welcomed(Codec::Flat, &[]);
    story.send("one");
    story.send("two");
    assert_eq!(story.sends().len(), 1, "the first new number goes alone");
    let bound = Event::Bound {
        key: 1,
        session: 0x5e1f,
        n: 1,
    };
    assert_eq!(
        story.events(),
        [bound],
        "written down before the bytes leave"
    );
    story.reconnect();
    story.welcome(0, &[]);
    assert_eq!(story.sends(), [(1, "one".to_owned())]);
    assert_eq!(
        story
            .events()
            .iter()
            .filter(|e| matches!(e, Event::Bound { .. }))
            .count(),
        0
    );
    story.answer(&message::SendResult {
        n: 1,
        outcome: fb::SendOutcome::Duplicate,
        conversation: CHAT,
        seq: 1,
        ..Default::default()
    });
    assert!(matches!(
        story.events()[0],
        Event::Accepted {
            n: 1,
            repeated: true,
            ..
        }
    ));
    assert_eq!(story.sends(), [(2, "two".to_owned())]);
    assert_eq!(story.client.unanswered(), 1);
}

#[test]
fn a_replayed_message_of_ours_is_an_acknowledgement_too() {
    let mut story = Story::welcomed(Codec::Flat, &[]);
    story.send("one");
    story.reconnect();
    story.welcome(1, &[resumed(9, 1, true)]);
    let replayed = message::Message {
        conversation: CHAT,
        seq: 1,
        session: 0x5e1f,
        n: 1,
        sender: server::VISITOR,
        text: "one",
        ..Default::default()
    };
    story.events();
    story.say(tidegate_protocol::Kind::Message, |b| replayed.encode(b));
    let events = story.events();
    assert!(
        matches!(events[0], Event::Accepted { n: 1, seq: 1, .. }),
        "{events:?}"
    );
    assert!(matches!(&events[1], Event::Message(message) if message.own));
    assert_eq!(story.client.unanswered(), 0);
}

#[test]
fn after_a_setback_nothing_overtakes_and_sending_goes_on_from_the_oldest() {
    let mut story = Story::welcomed(Codec::Flat, &[]);
    for text in ["one", "two", "three", "four"] {
        story.send(text);
    }
    story.accept(1, 1);
    assert_eq!(
        story.sends().len(),
        3,
        "each acceptance doubles how many are on the wire"
    );
    story.answer(&message::SendResult {
        n: 2,
        outcome: fb::SendOutcome::Busy,
        retry_ms: 700,
        ..Default::default()
    });
    story.pass(5_000_000);
    assert_eq!(story.sends(), [], "3 is on the wire and not answered");
    story.answer(&message::SendResult {
        n: 3,
        outcome: fb::SendOutcome::Gap,
        expected_n: 2,
        ..Default::default()
    });
    story.pass(35_000_000);
    assert_eq!(story.sends(), [(2, "two".to_owned())]);
}

/// As an agent's client is, when the backend was restarted.
#[test]
fn a_second_welcome_on_a_connection_sends_nothing_twice() {
    let mut story = Story::welcomed(Codec::Flat, &[]);
    story.send("one");
    assert_eq!(story.sends(), [(1, "one".to_owned())]);
    story.welcome(0, &[]);
    assert_eq!(story.sends(), []);
    story.accept(1, 1);
    assert_eq!(story.client.unanswered(), 0);
}

#[test]
fn a_refusal_leaves_no_hole_in_the_numbers_of_what_follows() {
    let mut story = Story::welcomed(Codec::Flat, &[]);
    story.send("one");
    story.accept(1, 1);
    story.send("refused");
    story.send("three");
    assert_eq!(story.sends().len(), 3);
    story.answer(&message::SendResult {
        n: 2,
        outcome: fb::SendOutcome::Refused,
        reason: fb::Reason::MessageTooLong,
        ..Default::default()
    });
    story.answer(&message::SendResult {
        n: 3,
        outcome: fb::SendOutcome::Gap,
        expected_n: 2,
        ..Default::default()
    });
    assert_eq!(story.sends(), [(2, "three".to_owned())]);
    let rebound = Event::Bound {
        key: 3,
        session: 0x5e1f,
        n: 2,
    };
    assert!(story.events().contains(&rebound));
}

#[test]
fn a_refusal_before_what_an_earlier_connection_sent_begins_a_new_session() {
    let mut story = Story::welcomed(Codec::Flat, &[]);
    story.send("one");
    story.accept(1, 1);
    story.send("two");
    story.send("three");
    story.reconnect();
    story.welcome(1, &[]);
    assert_eq!(story.sends().len(), 2);
    let refused = message::SendResult {
        n: 2,
        outcome: fb::SendOutcome::Refused,
        reason: fb::Reason::EmptyMessage,
        ..Default::default()
    };
    story.answer(&refused);
    story.answer(&message::SendResult {
        n: 3,
        outcome: fb::SendOutcome::Gap,
        expected_n: 2,
        ..Default::default()
    });
    let session = story.client.session();
    assert_ne!(session, 0x5e1f);
    assert!(story.events().contains(&Event::SessionRenewed { session }));
    story.said();
    story.pass(1_000_000);
    assert!(matches!(story.connect(), Said::Hello { session: found, .. } if found == session));
    story.welcome(0, &[]);
    assert_eq!(story.sends(), [(1, "three".to_owned())]);
}

#[test]
fn an_id_conflict_begins_a_new_session() {
    let mut story = Story::welcomed(Codec::Json, &[]);
    story.send("one");
    story.said();
    story.answer(&message::SendResult {
        n: 1,
        outcome: fb::SendOutcome::IdConflict,
        ..Default::default()
    });
    story.said();
    assert_ne!(story.client.session(), 0x5e1f);
    assert_eq!(story.client.unanswered(), 1, "it is still to be said");
}

#[test]
fn nothing_is_handed_on_twice_or_out_of_order_and_all_is_acknowledged() {
    let mut story = Story::welcomed(Codec::Flat, &[]);
    for seq in [1, 3, 2, 2, 4] {
        story.message(seq);
    }
    assert_eq!(seqs(&story.events()), [1, 2, 3, 4]);
    story.pass(100_000);
    let said = story.said();
    assert_eq!(
        said.first(),
        Some(&Said::Ack {
            delivered: 1,
            read: 0
        }),
        "the first at once"
    );
    assert_eq!(
        said.get(1),
        Some(&Said::Ack {
            delivered: 4,
            read: 0
        }),
        "the rest 50 ms later"
    );
    story.message(4);
    story.pass(100_000);
    assert_eq!(
        story.said(),
        [Said::Ack {
            delivered: 4,
            read: 0
        }],
        "known ones too"
    );
}

#[test]
fn a_gap_that_does_not_fill_is_repaired_by_a_resume_from_the_cursor() {
    let mut story = Story::welcomed(Codec::Flat, &[resumed(9, 0, true)]);
    story.message(1);
    story.message(3);
    story.pass(GAP_US);
    assert!(story.events().ends_with(&[
        Event::Missed {
            conversation: CHAT,
            after: 1
        },
        Event::Disconnect,
        Event::Connect
    ]));
    story.said();
    let hello = story.connect();
    assert!(matches!(hello, Said::Hello { cursors, .. } if cursors == [(CHAT, 9, 1)]));
    story.welcome(0, &[resumed(9, 3, true)]);
    story.message(2);
    story.message(3);
    assert_eq!(seqs(&story.events()), [2, 3]);
}

#[test]
fn a_welcome_that_knows_no_cursors_and_goes_on_behind_what_another_device_has_is_answered_by_a_resume()
 {
    let mut story = Story::welcomed(Codec::Flat, &[resumed(9, 2, true)]);
    story.message(1);
    story.message(2);
    let goes_on_behind = |mark| {
        let mut welcome = resumed(9, 5, true);
        welcome.state.visitor_delivered = mark;
        [welcome]
    };
    story.welcome(0, &goes_on_behind(2));
    assert!(!story.events().contains(&Event::Disconnect));
    story.welcome(0, &goes_on_behind(4));
    assert!(story.events().contains(&Event::Disconnect));
    story.said();
    let hello = story.reconnect();
    assert!(matches!(hello, Said::Hello { cursors, .. } if cursors == [(CHAT, 9, 2)]));
    // The answer to that Hello goes on behind its cursors, whatever the marks are.
    story.welcome(0, &goes_on_behind(4));
    story.message(3);
    let events = story.events();
    assert_eq!(seqs(&events), [3]);
    assert!(!events.contains(&Event::Disconnect));
}

#[test]
fn what_is_not_recovered_is_told_and_not_claimed_until_it_is_held() {
    let mut story = Story::welcomed(Codec::Flat, &[resumed(9, 0, true)]);
    story.message(1);
    story.reconnect();
    story.welcome(0, &[resumed(9, 500, false)]);
    let hole = Event::Hole {
        conversation: CHAT,
        incarnation: 9,
        after: 1,
        to: 500,
        reset: false,
    };
    assert!(story.events().contains(&hole));
    story.message(501);
    assert_eq!(seqs(&story.events()), [501]);
    assert_eq!(story.client.cursor(CHAT), 1);
    let (now_us, exchange) = (story.now_us, &mut story.exchange);
    story.client.holds(CHAT, 500, now_us, exchange);
    assert_eq!(story.client.cursor(CHAT), 501);
}

#[test]
fn another_incarnation_is_told_as_such() {
    let mut story = Story::welcomed(Codec::Flat, &[resumed(9, 0, true)]);
    story.message(1);
    story.message(2);
    story.reconnect();
    story.welcome(0, &[resumed(10, 1, false)]);
    let reset = |event: &Event| {
        matches!(
            event,
            Event::Hole {
                incarnation: 10,
                after: 0,
                to: 1,
                reset: true,
                ..
            }
        )
    };
    assert!(story.events().iter().any(reset));
}

#[test]
fn silence_after_a_ping_is_a_half_open_connection() {
    let mut story = Story::welcomed(Codec::Flat, &[]);
    story.pass(60_000_000);
    assert_eq!(story.said(), [Said::Ping]);
    story.pass(PONG_US_MAX);
    assert_eq!(story.said(), [Said::Close(4003)]);
    assert!(story.events().iter().any(|e| matches!(
        e,
        Event::Closed {
            comes_back: true,
            ..
        }
    )));
}

#[test]
fn the_round_trip_is_that_of_the_oldest_ping() {
    let mut story = Story::welcomed(Codec::Json, &[]);
    story.client.ping(story.now_us, &mut story.exchange);
    let oldest = story.client.link.requests;
    story.pass(300_000);
    story.client.ping(story.now_us, &mut story.exchange);
    story.pass(1_000);
    for request in [oldest, oldest + 1] {
        let pong = message::Pong { request };
        story.say(tidegate_protocol::Kind::Pong, |b| pong.encode(b));
    }
    let told = Event::Pong {
        round_trip_us: 301_000,
    };
    assert_eq!(story.events(), [told]);
}

#[test]
fn sends_that_nobody_answers_are_asked_again_on_another_connection() {
    let mut story = Story::welcomed(Codec::Flat, &[]);
    story.send("one");
    for _ in 0..10 {
        story.pass(SEND_ANSWER_US_MAX / 10);
        story.message(1); // the connection itself is alive
    }
    assert!(story.events().contains(&Event::Connect));
}

#[test]
fn the_close_code_decides_whether_and_its_reason_when_to_come_back() {
    for (code, comes_back) in [(1000, false), (1001, true), (1011, true), (4000, true)]
        .into_iter()
        .chain([(4005, true), (4500, false), (4501, false), (4503, false)])
    {
        let mut story = Story::welcomed(Codec::Flat, &[]);
        story.close(code, "retry_ms=1500 words");
        let closed = Event::Closed {
            code,
            retry_ms: 1500,
            comes_back,
        };
        assert!(story.events().contains(&closed));
        story.said();
        story.pass(1_499_000);
        assert_eq!(story.events(), [], "not before it was asked to");
        story.pass(600_000);
        assert_eq!(
            story.events().contains(&Event::Connect),
            comes_back,
            "{code}"
        );
        let phase = if comes_back {
            Phase::Connecting
        } else {
            Phase::Closed
        };
        assert_eq!(story.client.phase(), phase);
    }
}

#[test]
fn goaway_is_followed_by_a_new_connection_when_it_said() {
    let mut story = Story::welcomed(Codec::Flat, &[]);
    story.say(tidegate_protocol::Kind::Goaway, |builder| {
        message::Goaway { retry_ms: 800 }.encode(builder)
    });
    story.pass(799_000);
    assert_eq!(story.events(), [Event::Goaway { retry_ms: 800 }]);
    story.pass(2_000);
    assert_eq!(story.events(), [Event::Disconnect, Event::Connect]);
}

#[test]
fn a_command_is_done_refused_or_lost() {
    let mut story = Story::welcomed(Codec::Json, &[]);
    let start = message::Command {
        op: fb::CommandOp::Start,
        ..Default::default()
    };
    let ask = |story: &mut Story| {
        let (now_us, exchange) = (story.now_us, &mut story.exchange);
        story.client.command(start, now_us, exchange).expect("room")
    };
    let request = ask(&mut story);
    assert_eq!(
        story.said(),
        [Said::Command {
            request,
            op: fb::CommandOp::Start
        }]
    );
    let state = message::ConversationState {
        request,
        ..resumed(9, 0, true).state
    };
    story.say(tidegate_protocol::Kind::ConversationState, |b| {
        state.encode(b)
    });
    assert!(story.events().contains(&Event::Done { request }));
    let request = ask(&mut story);
    let reason = fb::Reason::Forbidden;
    let error = message::Error {
        request,
        reason,
        ..Default::default()
    };
    story.say(tidegate_protocol::Kind::Error, |builder| {
        error.encode(builder)
    });
    assert_eq!(
        story.events(),
        [Event::NotDone {
            request,
            reason: Some(reason)
        }]
    );
    let request = ask(&mut story);
    story.client.lost(story.now_us, &mut story.exchange);
    assert!(story.events().contains(&Event::NotDone {
        request,
        reason: None
    }));
}

#[test]
fn a_full_outbox_takes_nothing_more() {
    let mut story = Story::new(Codec::Flat);
    for _ in 0..OUTBOX_ITEMS_MAX {
        story.send("x");
    }
    let (now_us, exchange) = (story.now_us, &mut story.exchange);
    assert!(story.client.send("x", None, now_us, exchange).is_err());
}
