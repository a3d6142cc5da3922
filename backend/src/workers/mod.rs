//! Workers beside the backend: processes of any language that answer questions over a pair of rings of their own.
//!
//! | directory | it is asked about | it answers | records |
//! | --- | --- | --- | --- |
//! | `moderation` | each text of a visitor, before it is accepted | allow, refuse, replace | [`question`] |
//! | `translation` | each text of a visitor or agent, before it is accepted | allow, replace | [`question`] |
//! | `bot` | each text of a visitor whom no agent has, after it was committed | nothing, say | [`mod@bot`] |
//!
//! A worker's directory (in the bus directory) is a bus like any other, in which the worker has the backend's part and
//! Tidegate's backend a gateway's. So a worker registers by taking the seat, of which there is one; its death frees it;
//! it hears the doorbell; and whoever takes the seat next finds the questions that were not released yet. shm-bus's
//! README gives every byte of that.
//!
//! Nobody waits for a worker: the turn hands a question to a [`desk`], which is a thread, and goes on. What is not
//! answered in time gets the default.

pub mod bot;
pub mod desk;
pub mod question;

use tidegate_protocol::Id;

pub use bot::{BotAnswer, BotQuestion};
pub use desk::Desk;
pub use question::{Moderation, TextQuestion, Translation, Verdict};

/// The moderator's directory, and its name in figures and log lines.
pub const MODERATION: &str = "moderation";
/// The translator's.
pub const TRANSLATION: &str = "translation";
/// The bot's.
pub const BOT: &str = "bot";

/// A question's record kind, whatever it is about.
pub const QUESTION: u16 = 1;
/// An answer's record kind.
pub const ANSWER: u16 = 2;

const ANSWER_HEAD_BYTES: usize = 8;

/// What every answer's payload begins with, and its text; `None`: it is cut short, or no UTF-8.
fn answer_parts(payload: &[u8]) -> Option<(u8, &str)> {
    let (head, body) = payload.split_at_checked(ANSWER_HEAD_BYTES)?;
    let bytes = u32::from_le_bytes(*head[4..].first_chunk()?) as usize;
    Some((head[0], std::str::from_utf8(body.get(..bytes)?).ok()?))
}

/// What a kind of worker is asked and answers, as payloads of records.
pub trait Records: 'static {
    /// What both sides mean by the payloads: a worker takes the seat for it, and is refused one for another.
    const PROTOCOL: u32;
    /// What it is asked.
    type Question: Send + 'static;
    /// What it answers.
    type Answer: Send + 'static;

    /// Whom the question is about: the principal of its record.
    fn principal(question: &Self::Question) -> Id;
    /// Bytes of the question's payload.
    fn question_bytes(question: &Self::Question) -> usize;
    /// Fills the question's payload.
    ///
    /// # Panics
    /// If it is not [`Records::question_bytes`] long.
    fn write_question(question: &Self::Question, payload: &mut [u8]);
    /// What an answer's payload says; `None`: nothing that is defined.
    fn read_answer(payload: &[u8]) -> Option<Self::Answer>;
}

/// Somebody who answers questions.
pub trait Worker<Question, Answer> {
    /// Whether one is there to be asked.
    fn is_there(&self) -> bool;
    /// Asks; false: nobody is there to answer, or too much waits already.
    fn ask(&mut self, number: u64, question: Question) -> bool;
    /// An answer that came, to the question of that number. It may be late, or to a question that nobody asked.
    fn answer(&mut self) -> Option<(u64, Answer)>;
    /// Whether one is there.
    fn has_answer(&self) -> bool;
}
