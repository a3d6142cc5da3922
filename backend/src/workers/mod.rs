//! Workers beside the backend: processes of any language that answer questions over a pair of rings of their own.
//!
//! A worker's directory (`moderation` in the bus directory) is a bus like any other, in which the worker has the
//! backend's part and Tidegate's backend a gateway's. So a worker registers by taking the seat, of which there is one;
//! its death frees it; it hears the doorbell; and whoever takes the seat next finds the questions that were not released
//! yet. shm-bus's README gives every byte of that; the records in it are [`question`]'s.
//!
//! Nobody waits for a worker: the turn hands a question to a [`desk`], which is a thread, and goes on. What is not
//! answered in time gets the default.

pub mod desk;
pub mod question;

use tidegate_protocol::Id;

pub use desk::Desk;
pub use question::Verdict;

/// Somebody who decides about texts.
pub trait Moderator {
    /// Asks about a text; false: nobody is there to answer, or too much waits already.
    fn ask(&mut self, number: u64, sender: Id, conversation: Id, text: &str) -> bool;
    /// An answer that came, to the question of that number. It may be late, or to a question that nobody asked.
    fn answer(&mut self) -> Option<(u64, Verdict)>;
    /// Whether one is there.
    fn has_answer(&self) -> bool;
}
