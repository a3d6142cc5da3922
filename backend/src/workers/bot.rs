//! What a bot is asked and answers, byte by byte. Little-endian; the record's header (48 bytes, shm-bus) says what it is
//! and to which question it belongs.
//!
//! ```text
//! question: record of kind 1, in `to_backend` of the bot's bus
//!   header   trace: the question's number, growing   principal: the visitor
//!   payload  0   conversation u128
//!            16  seq u64: the text's place in the conversation
//!            24  text_bytes u32
//!            28  status u8: 0 it waits and agents are online, 1 it waits and none is
//!            29  reserved, three times 0
//!            32  text, UTF-8, at most 16,384 bytes: as it was sent
//!
//! answer: record of kind 2, in `to_gateway`
//!   header   trace: the question's number   slot, shard, generation, principal: 0
//!   payload  0   what u8: 0 nothing, 1 say
//!            1   reserved, three times 0
//!            4   text_bytes u32
//!            8   text, UTF-8: nothing, or what is said
//! ```
//!
//! Anything else counts as no answer. A question is answered once; what follows is late.

use tidegate_protocol::Id;

use super::{Records, answer_parts};
use crate::engine::is_text;

/// What both sides mean by these records: a bot takes the seat for it. Another number than a text worker's, so that
/// neither is taken for the other in the wrong directory.
pub const BOT_PROTOCOL: u32 = 2;

const QUESTION_HEAD_BYTES: usize = 32;

/// A visitor's text to which nobody is there to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BotQuestion {
    /// Where.
    pub conversation: Id,
    /// Who wrote it.
    pub visitor: Id,
    /// Its place in the conversation.
    pub seq: u64,
    /// Whether any agent is online: then one will come.
    pub agents_online: bool,
    /// What it says.
    pub text: String,
}

/// What a bot answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BotAnswer {
    /// It has nothing to say.
    Nothing,
    /// This.
    Say(String),
}

/// A bot's records.
pub enum Bot {}

impl Records for Bot {
    const PROTOCOL: u32 = BOT_PROTOCOL;
    type Question = BotQuestion;
    type Answer = BotAnswer;

    fn principal(question: &BotQuestion) -> Id {
        question.visitor
    }

    fn question_bytes(question: &BotQuestion) -> usize {
        QUESTION_HEAD_BYTES + question.text.len()
    }

    fn write_question(question: &BotQuestion, payload: &mut [u8]) {
        let text = &question.text;
        let (head, body) = payload.split_at_mut(QUESTION_HEAD_BYTES);
        let bytes =
            u32::try_from(text.len()).expect("invariant: a text is bounded when it is sent");
        head[..16].copy_from_slice(&question.conversation.0.to_le_bytes());
        head[16..24].copy_from_slice(&question.seq.to_le_bytes());
        head[24..28].copy_from_slice(&bytes.to_le_bytes());
        head[28] = u8::from(!question.agents_online);
        head[29..].fill(0);
        body.copy_from_slice(text.as_bytes());
    }

    fn read_answer(payload: &[u8]) -> Option<BotAnswer> {
        match answer_parts(payload)? {
            (0, _) => Some(BotAnswer::Nothing),
            (1, text) if is_text(text) => Some(BotAnswer::Say(text.to_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(what: u8, text_bytes: u32, text: &[u8]) -> Option<BotAnswer> {
        let mut payload = vec![what, 0, 0, 0];
        payload.extend_from_slice(&text_bytes.to_le_bytes());
        payload.extend_from_slice(text);
        Bot::read_answer(&payload)
    }

    #[test]
    fn an_answer_says_something_or_nothing_and_anything_else_is_none() {
        assert_eq!(answer(0, 0, b""), Some(BotAnswer::Nothing));
        let hello = Some(BotAnswer::Say("你好".into()));
        assert_eq!(answer(1, 6, "你好".as_bytes()), hello);
        assert_eq!(answer(1, 0, b""), None, "nothing to say");
        assert_eq!(answer(1, 2, b"  "), None, "nothing that shows");
        assert_eq!(answer(1, 20_000, &[b'x'; 20_000]), None, "too long");
        assert_eq!(answer(2, 1, b"x"), None, "no such answer");
        assert_eq!(answer(1, 9, b"short"), None, "beyond the record");
        assert_eq!(answer(1, 2, &[0xff, 0xfe]), None, "no UTF-8");
        assert_eq!(Bot::read_answer(&[0; 7]), None);
    }

    #[test]
    fn a_question_has_its_parts_where_the_table_says() {
        let mut question = BotQuestion {
            conversation: Id(0x0102),
            visitor: Id(7),
            seq: 0x0304,
            agents_online: true,
            text: "hi".into(),
        };
        assert_eq!(Bot::principal(&question), Id(7));
        let mut payload = vec![0xaa; Bot::question_bytes(&question)];
        Bot::write_question(&question, &mut payload);
        assert_eq!(payload[..3], [2, 1, 0]);
        assert_eq!(payload[16..24], [4, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(payload[24..], [2, 0, 0, 0, 0, 0, 0, 0, b'h', b'i']);
        question.agents_online = false;
        Bot::write_question(&question, &mut payload);
        assert_eq!(payload[28], 1);
    }

    proptest! {
        #[test]
        fn whatever_an_answer_holds_what_is_read_is_within_bounds(payload: Vec<u8>) {
            if let Some(BotAnswer::Say(text)) = Bot::read_answer(&payload) {
                prop_assert!(!text.trim().is_empty() && text.len() <= payload.len());
            }
        }
    }
}
