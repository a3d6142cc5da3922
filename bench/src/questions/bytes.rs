//! How many bytes does a chat message take on the wire, and how much CPU, in each codec?
//!
//! Over the corpus: each line is said once, and everything that one line makes travel is counted with its WebSocket
//! header: the Send, its SendResult, the Message to the other side and its Ack. What is compared with is our own JSON,
//! which is compact already: no spaces, no absent fields, no escapes in Chinese text.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use flatbuffers::FlatBufferBuilder;
use tidegate_protocol::codec::json::{self, JsonDecoder};
use tidegate_protocol::envelope::{BatchReader, append_envelope};
use tidegate_protocol::ws::Opcode;
use tidegate_protocol::ws::encoder::{append_client_frame, append_frame};
use tidegate_protocol::{Codec, Id, Kind, fb, message, verify};

use crate::bench::{Bench, Verdict};
use crate::report::{Cell, Table};
use crate::{corpus, machine, process};

const MASK: [u8; 4] = [1, 2, 3, 4];
const CODECS: [(Codec, &str); 2] = [(Codec::Flat, "FlatBuffers"), (Codec::Json, "JSON, compact")];

/// `tidegate bench bytes`
#[derive(Debug, clap::Args)]
pub struct BytesArguments {
    /// Rounds over the corpus for the CPU times; the best counts
    #[arg(long, default_value_t = 200, value_name = "N")]
    rounds: u32,
}

/// What one line of the corpus makes travel: kind, payload in the internal form, whether the client sends it.
struct Exchange {
    payloads: Vec<(Kind, Vec<u8>, bool)>,
}

/// Ids and times as a running system has them: 128 bits, microseconds since 1970.
fn exchange(line: &str, number: u64, builder: &mut FlatBufferBuilder<'_>) -> Exchange {
    let (conversation, sender) = (
        Id(0x0193_4e6b_7c2a_7000_8a3f_5d21_9be4_c017),
        Id(0x0193_4e6b_6f11_7000_b2c8_11d0_47aa_93e5),
    );
    let at_us = 1_763_740_800_000_000 + number * 1_000_003;
    let send = message::Send {
        n: number,
        conversation,
        text: line,
    };
    let result = message::SendResult {
        n: number,
        outcome: fb::SendOutcome::Accepted,
        conversation,
        seq: number,
        at_us,
        ..Default::default()
    };
    let message = message::Message {
        conversation,
        seq: number,
        at_us,
        sender_role: fb::Role::Visitor,
        sender,
        sender_name: "访客",
        session: 0x9d3c_77f0_1b52_e648,
        n: number,
        text: line,
        ..Default::default()
    };
    let ack = message::Ack {
        conversation,
        delivered: number,
        read: number,
    };
    Exchange {
        payloads: vec![
            (Kind::Send, send.encode(builder).to_vec(), true),
            (Kind::SendResult, result.encode(builder).to_vec(), false),
            (Kind::Message, message.encode(builder).to_vec(), false),
            (Kind::Ack, ack.encode(builder).to_vec(), true),
        ],
    }
}

/// The WebSocket message that carries this payload.
fn carried(codec: Codec, kind: Kind, payload: &[u8], out: &mut Vec<u8>) -> Result<Opcode> {
    const AT_US: u64 = 1_763_740_800_000_000;
    match codec {
        Codec::Flat => {
            append_envelope(out, kind, AT_US, payload);
            Ok(Opcode::Binary)
        }
        Codec::Json => {
            json::encode(out, AT_US, &verify(kind, payload)?);
            Ok(Opcode::Text)
        }
    }
}

fn frame_bytes(codec: Codec, kind: Kind, payload: &[u8], from_client: bool) -> Result<usize> {
    let (mut carried_bytes, mut frame) = (Vec::new(), Vec::new());
    let opcode = carried(codec, kind, payload, &mut carried_bytes)?;
    if from_client {
        append_client_frame(&mut frame, true, opcode, &carried_bytes, MASK);
    } else {
        append_frame(&mut frame, opcode, &carried_bytes);
    }
    Ok(frame.len())
}

/// Asks.
///
/// # Errors
/// When a message of ours can't be read again.
pub fn run(arguments: &BytesArguments, bench: &mut Bench) -> Result<Verdict> {
    let core = machine::cores().last().copied().unwrap_or_default();
    process::pin(core).with_context(|| format!("cannot use core {core}"))?;
    let (lines, mut builder) = (corpus::lines(), FlatBufferBuilder::new());
    let exchanges: Vec<Exchange> = (1..)
        .zip(&lines)
        .map(|(number, line)| exchange(line, number, &mut builder))
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "some hundred lines of text")]
    let mean = |sum: usize| sum as f64 / lines.len() as f64;
    let text = mean(lines.iter().map(|line| line.len()).sum());
    let mut table = Table::new(
        format!(
            "mean of {} Chinese lines of {text:.0} B of text, WebSocket headers included",
            lines.len()
        ),
        &[
            ("codec", ""),
            ("Send", "B"),
            ("SendResult", "B"),
            ("Message", "B"),
            ("Ack", "B"),
            ("in all", "B"),
            ("of JSON's", "%"),
            ("read a Send", "ns"),
            ("write a Message", "ns"),
        ],
    );
    let mut sums = Vec::new();
    for (codec, name) in CODECS {
        bench.progress.say(name);
        let mut by_kind = [0; 4];
        for exchange in &exchanges {
            for (sum, (kind, payload, from_client)) in by_kind.iter_mut().zip(&exchange.payloads) {
                *sum += frame_bytes(codec, *kind, payload, *from_client)?;
            }
        }
        let cost = (
            best_ns(arguments.rounds, &exchanges, reading(codec, &exchanges)?)?,
            best_ns(arguments.rounds, &exchanges, writing(codec))?,
        );
        sums.push((name, by_kind, cost));
    }
    let json: usize = sums[1].1.iter().sum();
    for (name, by_kind, (read_ns, write_ns)) in &sums {
        let all: usize = by_kind.iter().sum();
        let mut row = vec![(*name).into()];
        row.extend(by_kind.iter().map(|sum| Cell::number(mean(*sum), 0)));
        row.push(Cell::number(mean(all), 0));
        row.push(Cell::number(100.0 * mean(all) / mean(json), 0));
        row.extend([*read_ns, *write_ns].map(|ns| Cell::number(ns, 0)));
        table.row(row);
    }
    bench.report.table(table);
    let flat: usize = sums[0].1.iter().sum();
    bench.report.note(format!(
        "The binary form saves {:.0} % of the bytes and most of the CPU. The text is the same in both: of JSON's bytes it \
         is {:.0} %, and it goes twice.",
        100.0 - 100.0 * mean(flat) / mean(json),
        200.0 * text / mean(json),
    ));
    bench.report.note(
        "Read: from a WebSocket message to verified fields. Write: from the internal form, which is FlatBuffers, to a \
         WebSocket message.",
    );
    Ok(bench.report.verdict())
}

/// Reads the Sends of all exchanges; tells how many bytes of text it saw.
type Work<'a> = Box<dyn FnMut(&[Exchange]) -> Result<usize> + 'a>;

fn reading(codec: Codec, exchanges: &[Exchange]) -> Result<Work<'static>> {
    let mut wire = Vec::new();
    for exchange in exchanges {
        let (kind, payload, _) = &exchange.payloads[0];
        let mut out = Vec::new();
        carried(codec, *kind, payload, &mut out)?;
        wire.push(out);
    }
    let mut decoder = JsonDecoder::default();
    Ok(Box::new(move |_| {
        let mut seen = 0;
        for message in &wire {
            let text_bytes = |payload: &[u8]| match verify(Kind::Send, payload) {
                Ok(tidegate_protocol::View::Send(send)) => Ok(send.text().map_or(0, str::len)),
                other => anyhow::bail!("{other:?}, expected a Send"),
            };
            seen += match codec {
                Codec::Flat => {
                    let envelope = BatchReader::new(message).next().context("one")??;
                    text_bytes(envelope.payload)?
                }
                Codec::Json => {
                    let typed = std::str::from_utf8(message)?;
                    let mut batch = decoder.decode(typed);
                    text_bytes(batch.next().context("one")??.payload)?
                }
            };
        }
        Ok(seen)
    }))
}

fn writing(codec: Codec) -> Work<'static> {
    let mut out = Vec::new();
    Box::new(move |exchanges| {
        let mut written = 0;
        for exchange in exchanges {
            let (kind, payload, _) = &exchange.payloads[2];
            out.clear();
            carried(codec, *kind, payload, &mut out)?;
            written += black_box(&out).len();
        }
        Ok(written)
    })
}

/// Nanoseconds a message in the best round.
fn best_ns(rounds: u32, exchanges: &[Exchange], mut work: Work<'_>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..rounds.max(1) {
        let began = Instant::now();
        black_box(work(exchanges)?);
        #[expect(clippy::cast_precision_loss, reason = "some hundred messages")]
        let ns = began.elapsed().as_secs_f64() * 1e9 / exchanges.len() as f64;
        best = best.min(ns);
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_codecs_carry_the_whole_text_of_every_line() {
        let mut builder = FlatBufferBuilder::new();
        let lines = corpus::lines();
        let text: usize = lines.iter().map(|line| line.len()).sum();
        let exchanges: Vec<_> = lines
            .iter()
            .map(|line| exchange(line, 1, &mut builder))
            .collect();
        for (codec, _) in CODECS {
            let mut read = reading(codec, &exchanges).expect("our own encoding");
            assert_eq!(read(&exchanges).expect("our own encoding"), text);
            for exchange in &exchanges {
                for (kind, payload, from_client) in &exchange.payloads {
                    let mut out = Vec::new();
                    carried(codec, *kind, payload, &mut out).expect("our own encoding");
                    let framed = frame_bytes(codec, *kind, payload, *from_client);
                    let header = framed.expect("our own encoding") - out.len();
                    assert!((2..=8).contains(&header), "{header}");
                }
            }
        }
    }
}
