//! What a well-behaved peer sees of the echo: any message back, whatever its size and cut.

mod support;

use support::{Client, Gateway, Heard, frame, request, small};
use tidegate_protocol::close::CloseCode;
use tidegate_protocol::ws::Opcode;

fn payload(length: usize) -> Vec<u8> {
    (0..251).cycle().take(length).collect()
}

#[test]
fn messages_of_every_size_class_come_back_up_to_16_mib() {
    let gateway = Gateway::start(small());
    let mut client = gateway.client();
    for length in [
        0,
        1,
        125,
        126,
        127,
        16_370,
        16_384,
        65_535,
        65_536,
        1 << 20,
        16 << 20,
    ] {
        let sent = payload(length);
        client.frame(true, Opcode::Binary, &sent);
        match client.hear() {
            Heard::Binary(heard) => assert!(heard == sent, "{length} bytes came back changed"),
            other => panic!("{length}: {other:?}"),
        }
    }
}

#[test]
fn a_message_cut_at_every_byte_comes_back_whole() {
    let gateway = Gateway::start(small());
    let mut client = gateway.client();
    let bytes = frame(true, Opcode::Text, "häppchenweise 一口一口".as_bytes());
    for byte in bytes {
        client.write(&[byte]);
    }
    client.expect_text("häppchenweise 一口一口");
}

#[test]
fn rfc_6455_5_4_fragments_with_pings_between_them_are_joined() {
    let gateway = Gateway::start(small());
    let mut client = gateway.client();
    client.frame(false, Opcode::Text, b"one ");
    client.frame(true, Opcode::Ping, b"between");
    client.frame(false, Opcode::Continuation, b"");
    client.frame(true, Opcode::Continuation, b"two");
    assert_eq!(client.hear(), Heard::Pong(b"between".to_vec()));
    client.expect_text("one two");
}

#[test]
fn a_ping_cut_by_the_end_of_a_segment_is_answered() {
    let gateway = Gateway::start(small());
    let mut client = gateway.client();
    let ping = frame(true, Opcode::Ping, &[7; 125]);
    client.write(&ping[..40]);
    std::thread::sleep(std::time::Duration::from_millis(20));
    client.write(&ping[40..]);
    assert_eq!(client.hear(), Heard::Pong(vec![7; 125]));
}

#[test]
fn many_messages_in_one_segment_come_back_in_order() {
    let gateway = Gateway::start(small());
    let mut client = gateway.client();
    let mut all = Vec::new();
    for n in 0..500 {
        let opcode = if n % 3 == 0 {
            Opcode::Text
        } else {
            Opcode::Binary
        };
        all.extend(frame(true, opcode, format!("message {n}").as_bytes()));
    }
    client.write(&all);
    for n in 0..500 {
        let expected = format!("message {n}").into_bytes();
        let expected = if n % 3 == 0 {
            Heard::Text(expected)
        } else {
            Heard::Binary(expected)
        };
        assert_eq!(client.hear(), expected);
    }
}

#[test]
fn a_deep_pipeline_of_large_and_small_messages_stays_in_order() {
    let gateway = Gateway::start(small());
    let mut writer = gateway.client();
    let mut reader = Client::over(writer.stream.try_clone().unwrap());
    let sends = std::thread::spawn(move || {
        for n in 0..2_000_u32 {
            let mut message = n.to_be_bytes().to_vec();
            message.resize(4 + (n as usize * 37) % 9_000, b'x');
            writer.frame(true, Opcode::Binary, &message);
        }
        writer
    });
    for n in 0..2_000_u32 {
        match reader.hear() {
            Heard::Binary(message) => {
                assert_eq!(message[..4], n.to_be_bytes());
                assert_eq!(message.len(), 4 + (n as usize * 37) % 9_000);
            }
            other => panic!("message {n}: {other:?}"),
        }
    }
    drop(sends.join().unwrap());
}

#[test]
fn the_first_frame_may_lie_in_the_handshakes_own_segment() {
    let gateway = Gateway::start(small());
    let mut client = Client::raw(gateway.address);
    let mut bytes = request("");
    bytes.extend(frame(true, Opcode::Text, b"early"));
    bytes.extend(frame(true, Opcode::Text, b"bird"));
    client.write(&bytes);
    client.upgraded();
    client.expect_text("early");
    client.expect_text("bird");
}

#[test]
fn a_handshake_byte_by_byte_with_a_frame_behind_it_is_served() {
    let gateway = Gateway::start(small());
    let mut client = Client::raw(gateway.address);
    let mut bytes = request("");
    bytes.extend(frame(true, Opcode::Text, b"slowly"));
    for byte in bytes {
        client.write(&[byte]);
    }
    client.upgraded();
    client.expect_text("slowly");
    client.round_trip("and on");
}

#[test]
fn rfc_6455_7_1_4_a_close_is_answered_with_the_same_code_and_the_server_hangs_up() {
    let gateway = Gateway::start(small());
    let mut client = gateway.client();
    client.frame(true, Opcode::Close, &[0x0f, 0xa1]);
    client.expect_close(CloseCode(4001));
    let mut client = gateway.client();
    client.frame(true, Opcode::Close, b"");
    assert_eq!(client.hear(), Heard::Close(None, String::new()));
    assert_eq!(client.hear(), Heard::End);
}

#[test]
fn what_was_sent_before_a_close_comes_back_before_its_answer() {
    let gateway = Gateway::start(small());
    let mut client = gateway.client();
    let mut bytes = frame(true, Opcode::Text, b"last words");
    bytes.extend(frame(true, Opcode::Close, &1000_u16.to_be_bytes()));
    bytes.extend(frame(true, Opcode::Text, b"too late"));
    client.write(&bytes);
    client.expect_text("last words");
    client.expect_close(CloseCode::NORMAL);
}

#[test]
fn two_shards_share_one_port() {
    let mut config = small();
    config.shards = 2;
    let gateway = Gateway::start(config);
    let mut clients: Vec<_> = (0..40).map(|_| gateway.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.round_trip(&format!("client {n}"));
    }
}
