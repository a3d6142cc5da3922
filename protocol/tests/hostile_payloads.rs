//! Payloads that lie: cut, pointing outside, pointing at themselves, pretending to hold a million strings.

use flatbuffers::FlatBufferBuilder;
use tidegate_protocol::envelope::Malformed;
use tidegate_protocol::limits::{
    CURSORS_PER_HELLO_MAX, ENVELOPE_PAYLOAD_BYTES_MAX, MESSAGE_TEXT_BYTES_MAX, PAGE_BYTES_MAX,
    TOKEN_BYTES_MAX,
};
use tidegate_protocol::{Kind, View, fb, message, verify};

fn hello(cursors: &[message::Cursor]) -> Vec<u8> {
    let token = "t".repeat(100);
    let hello = message::Hello {
        request: 1,
        token: &token,
        session: 7,
        cursors,
        ..Default::default()
    };
    hello.encode(&mut FlatBufferBuilder::new()).to_vec()
}

#[test]
fn a_payload_cut_anywhere_is_refused_or_still_whole() {
    let payload = hello(&[message::Cursor {
        seq: 9,
        ..Default::default()
    }]);
    for cut in 0..payload.len() {
        if let Ok(View::Hello(hello)) = verify(Kind::Hello, &payload[..cut]) {
            // Only padding at the very end can be missing.
            assert!(payload.len() - cut < 8, "cut at {cut}");
            assert_eq!(hello.session(), 7);
        }
    }
}

#[test]
fn no_changed_byte_leads_outside_of_the_payload() {
    let payload = hello(&[message::Cursor {
        seq: 9,
        ..Default::default()
    }]);
    for at in 0..payload.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = payload.clone();
            changed[at] = value;
            // Reading every field after a successful check must not panic; the writer reads them all.
            if let Ok(view) = verify(Kind::Hello, &changed) {
                tidegate_protocol::codec::json::encode(&mut Vec::new(), 0, &view);
            }
        }
    }
}

#[test]
fn one_string_that_a_thousand_fields_point_at_does_not_multiply_the_work() {
    let mut builder = FlatBufferBuilder::new();
    let long = builder.create_string(&"x".repeat(20_000));
    let state = fb::ConversationState::create(
        &mut builder,
        &fb::ConversationStateArgs {
            last_text: Some(long),
            page: Some(long),
            ..Default::default()
        },
    );
    let resumed = fb::Resumed::create(
        &mut builder,
        &fb::ResumedArgs {
            state: Some(state),
            recovered: true,
        },
    );
    let conversations = builder.create_vector(&vec![resumed; 400]);
    let welcome = fb::Welcome::create(
        &mut builder,
        &fb::WelcomeArgs {
            conversations: Some(conversations),
            ..Default::default()
        },
    );
    builder.finish_minimal(welcome);
    assert_eq!(
        verify(Kind::Welcome, builder.finished_data()).err(),
        Some(Malformed::Unverified)
    );
}

#[test]
fn a_stranger_may_not_make_us_keep_more_than_the_limits() {
    let cursors = vec![message::Cursor::default(); CURSORS_PER_HELLO_MAX + 1];
    assert!(verify(Kind::Hello, &hello(&cursors[1..])).is_ok());
    assert_eq!(
        verify(Kind::Hello, &hello(&cursors)).err(),
        Some(Malformed::TooMuch {
            field: "cursors",
            max: CURSORS_PER_HELLO_MAX
        })
    );
    let page = "p".repeat(PAGE_BYTES_MAX + 1);
    let payload = message::Hello {
        page: &page,
        ..Default::default()
    }
    .encode(&mut FlatBufferBuilder::new())
    .to_vec();
    assert_eq!(
        verify(Kind::Hello, &payload)
            .err()
            .and_then(Malformed::field),
        Some("page")
    );
    let token = "t".repeat(TOKEN_BYTES_MAX + 1);
    let payload = message::Hello {
        token: &token,
        ..Default::default()
    }
    .encode(&mut FlatBufferBuilder::new())
    .to_vec();
    assert_eq!(
        verify(Kind::Hello, &payload)
            .err()
            .and_then(Malformed::field),
        Some("token")
    );
}

#[test]
fn the_longest_text_fits_and_the_longest_payload_is_the_last_that_does() {
    let text = "漢".repeat(MESSAGE_TEXT_BYTES_MAX / 3);
    let payload = message::Message {
        text: &text,
        sender_name: &"n".repeat(128),
        ..Default::default()
    }
    .encode(&mut FlatBufferBuilder::new())
    .to_vec();
    assert!(verify(Kind::Message, &payload).is_ok());
    let payload = vec![0; ENVELOPE_PAYLOAD_BYTES_MAX + 1];
    assert_eq!(
        verify(Kind::Send, &payload).err(),
        Some(Malformed::TooLong(ENVELOPE_PAYLOAD_BYTES_MAX + 1))
    );
}

#[test]
fn a_full_welcome_and_a_full_hello_fit_their_envelopes() {
    let state = message::ConversationState {
        conversation: tidegate_protocol::Id(1),
        visitor: tidegate_protocol::Id(2),
        agent: tidegate_protocol::Id(3),
        visitor_name: "a visitor's name",
        agent_name: "an agent's name",
        last_text: &"x".repeat(120),
        page: "https://shop.example/item/7",
        ..Default::default()
    };
    let conversations = vec![
        message::Resumed {
            state,
            recovered: true
        };
        64
    ];
    let payload = message::Welcome {
        conversations: &conversations,
        ..Default::default()
    }
    .encode(&mut FlatBufferBuilder::new())
    .to_vec();
    assert!(
        payload.len() <= ENVELOPE_PAYLOAD_BYTES_MAX,
        "{}",
        payload.len()
    );
    assert!(verify(Kind::Welcome, &payload).is_ok());
}

#[test]
fn a_payload_of_another_kind_is_refused_or_read_as_what_it_says() {
    let payload = hello(&[]);
    for &kind in Kind::ALL {
        if let Ok(view) = verify(kind, &payload) {
            assert_eq!(view.kind(), kind);
            tidegate_protocol::codec::json::encode(&mut Vec::new(), 0, &view);
        }
    }
}

#[test]
fn fields_of_a_newer_schema_are_skipped() {
    // A table with a field id that no schema of today has.
    let mut builder = FlatBufferBuilder::new();
    let start = builder.start_table();
    builder.push_slot::<u64>(4, 7, 0);
    builder.push_slot::<u64>(4 + 2 * 40, 99, 0);
    let root = builder.end_table(start);
    builder.finish_minimal(root);
    let Ok(View::Ping(ping)) = verify(Kind::Ping, builder.finished_data()) else {
        panic!("a Ping")
    };
    assert_eq!(ping.request(), 7);
}
