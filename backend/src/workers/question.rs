//! What a worker is asked about a text and answers, byte by byte. Little-endian; the record's header (48 bytes,
//! shm-bus) says what it is and to which question it belongs.
//!
//! ```text
//! question: record of kind 1, in `to_backend` of the worker's bus
//!   header   trace: the question's number, growing   principal: who wrote the text
//!   payload  0   conversation u128; 0: one is begun
//!            16  text_bytes u32
//!            20  by u8: 0 a visitor, 1 an agent or supervisor
//!            21  reserved, three times 0
//!            24  text, UTF-8, at most 16,384 bytes
//!
//! answer: record of kind 2, in `to_gateway`
//!   header   trace: the question's number   slot, shard, generation, principal: 0
//!   payload  0   verdict u8: 0 allow, 1 refuse, 2 replace
//!            1   reserved, three times 0
//!            4   text_bytes u32
//!            8   text, UTF-8: nothing, the reason that the visitor reads, or what is sent instead
//! ```
//!
//! Anything else counts as no answer; so does a translator's "refuse".
//!
//! Who wrote it stands where a 0 was reserved before anybody but visitors was asked about. A moderator still is asked
//! about visitors alone and reads the 0 that it always read: so the protocol's number stays 1.

use tidegate_protocol::Id;

use super::{Records, answer_parts};
use crate::engine::is_text;
use crate::engine::kinds::Side;

/// What both sides mean by these records: a worker takes the seat for it.
pub const WORKER_PROTOCOL: u32 = 1;
/// Of a reason, so much is told.
pub const REASON_BYTES_MAX: usize = 256;

const QUESTION_HEAD_BYTES: usize = 24;

/// A text that somebody is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextQuestion {
    /// Who wrote it.
    pub sender: Id,
    /// For which side.
    pub by: Side,
    /// Where it goes; [`Id::ABSENT`]: a conversation is begun.
    pub conversation: Id,
    /// What it says.
    pub text: String,
}

/// What is to become of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent.
    Allow,
    /// It is not, and its sender reads why.
    Refuse(String),
    /// This is sent instead.
    Replace(String),
}

/// The records of a worker that looks at texts.
pub struct Texts<const MAY_REFUSE: bool>;

/// A moderator's.
pub type Moderation = Texts<true>;

/// A translator's: a moderator's, but that it can't refuse.
pub type Translation = Texts<false>;

impl<const MAY_REFUSE: bool> Records for Texts<MAY_REFUSE> {
    const PROTOCOL: u32 = WORKER_PROTOCOL;
    type Question = TextQuestion;
    type Answer = Verdict;

    fn principal(question: &TextQuestion) -> Id {
        question.sender
    }

    fn question_bytes(question: &TextQuestion) -> usize {
        QUESTION_HEAD_BYTES + question.text.len()
    }

    fn write_question(question: &TextQuestion, payload: &mut [u8]) {
        let text = &question.text;
        let (head, body) = payload.split_at_mut(QUESTION_HEAD_BYTES);
        let bytes =
            u32::try_from(text.len()).expect("invariant: a text is bounded by its envelope");
        head[..16].copy_from_slice(&question.conversation.0.to_le_bytes());
        head[16..20].copy_from_slice(&bytes.to_le_bytes());
        head[20] = question.by.code();
        head[21..].fill(0);
        body.copy_from_slice(text.as_bytes());
    }

    fn read_answer(payload: &[u8]) -> Option<Verdict> {
        match answer_parts(payload)? {
            (0, _) => Some(Verdict::Allow),
            (1, text) if MAY_REFUSE => {
                let end = text.floor_char_boundary(text.len().min(REASON_BYTES_MAX));
                Some(Verdict::Refuse(text[..end].to_owned()))
            }
            (2, text) if is_text(text) => Some(Verdict::Replace(text.to_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(verdict: u8, text_bytes: u32, text: &[u8]) -> Option<Verdict> {
        let mut payload = vec![verdict, 0, 0, 0];
        payload.extend_from_slice(&text_bytes.to_le_bytes());
        payload.extend_from_slice(text);
        Moderation::read_answer(&payload)
    }

    #[test]
    fn an_answer_is_one_of_three_and_anything_else_is_none() {
        assert_eq!(answer(0, 0, b""), Some(Verdict::Allow));
        assert_eq!(answer(1, 3, b"why"), Some(Verdict::Refuse("why".into())));
        assert_eq!(
            answer(2, 6, "你好".as_bytes()),
            Some(Verdict::Replace("你好".into()))
        );
        assert_eq!(answer(2, 2, b"  "), None, "nothing that shows");
        assert_eq!(answer(2, 20_000, &[b'x'; 20_000]), None, "too long");
        assert_eq!(answer(3, 0, b""), None, "no such verdict");
        assert_eq!(answer(2, 9, b"short"), None, "beyond the record");
        assert_eq!(answer(2, 2, &[0xff, 0xfe]), None, "no UTF-8");
        assert_eq!(Moderation::read_answer(&[0; 7]), None);
        let long = "好".repeat(200);
        let Some(Verdict::Refuse(cut)) = answer(1, 600, long.as_bytes()) else {
            panic!("a long reason is cut");
        };
        assert!(cut.len() <= REASON_BYTES_MAX && long.starts_with(&cut));
    }

    #[test]
    fn a_translator_refuses_nothing() {
        let read = Translation::read_answer;
        assert_eq!(read(&[1, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(read(&[0; 8]), Some(Verdict::Allow));
        let replaced = Some(Verdict::Replace("a".into()));
        assert_eq!(read(&[2, 0, 0, 0, 1, 0, 0, 0, b'a']), replaced);
    }

    proptest! {
        #[test]
        fn whatever_an_answer_holds_what_is_read_is_within_bounds(payload: Vec<u8>) {
            match Moderation::read_answer(&payload) {
                Some(Verdict::Refuse(reason)) => prop_assert!(reason.len() <= REASON_BYTES_MAX),
                Some(Verdict::Replace(text)) => {
                    prop_assert!(!text.trim().is_empty() && text.len() <= payload.len());
                }
                Some(Verdict::Allow) => prop_assert_eq!(payload[0], 0),
                None => {}
            }
        }
    }

    #[test]
    fn a_question_has_its_parts_where_the_table_says() {
        let mut question = TextQuestion {
            sender: Id(7),
            by: Side::Visitor,
            conversation: Id(0x0102),
            text: "hi".into(),
        };
        let mut payload = vec![0xaa; Moderation::question_bytes(&question)];
        Moderation::write_question(&question, &mut payload);
        assert_eq!(payload[..3], [2, 1, 0]);
        assert_eq!(payload[16..], [2, 0, 0, 0, 0, 0, 0, 0, b'h', b'i']);
        question.by = Side::Agent;
        Translation::write_question(&question, &mut payload);
        assert_eq!(payload[16..], [2, 0, 0, 0, 1, 0, 0, 0, b'h', b'i']);
    }
}
