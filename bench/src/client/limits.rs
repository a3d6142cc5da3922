//! Every bound of the client, with its unit in its name. They are the browser SDK's (`protocol/js/limits.js`), in µs
//! where they are times.

/// What the outbox keeps: [`send`](super::Client::send) refuses at either.
pub const OUTBOX_ITEMS_MAX: usize = 200;
/// The same in bytes of text.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// Messages on the wire without an answer; the rest wait in the outbox.
pub const SENDS_IN_FLIGHT_MAX: usize = 16;

/// Sends without an answer for so long on a live connection: reconnect and ask again.
pub const SEND_ANSWER_US_MAX: u64 = 30_000_000;

/// From wanting a connection to the connection, and from there to Welcome or Wait: then the attempt failed.
pub const CONNECT_US_MAX: u64 = 15_000_000;

/// From Ping to any traffic: then the connection is half-open.
pub const PONG_US_MAX: u64 = 10_000_000;

/// Silence after something that wants an answer, until a Ping asks whether anybody is there.
pub const ANSWER_PROBE_US: u64 = 5_000_000;

/// Pings leave in the last part of the heartbeat, at a random point: a tenth.
pub const HEARTBEAT_EARLY_DIVISOR: u64 = 10;

/// Heartbeat before Welcome says one, and the bounds of what it may say.
pub const HEARTBEAT_US_DEFAULT: u64 = 30_000_000;
/// The shortest.
pub const HEARTBEAT_US_MIN: u64 = 1_000_000;
/// The longest.
pub const HEARTBEAT_US_MAX: u64 = 600_000_000;

/// Reconnect: attempt k waits random × min(max, base × 2^k), beyond what the server asked for.
pub const BACKOFF_US_BASE: u64 = 500_000;
/// The maximum of that.
pub const BACKOFF_US_MAX: u64 = 30_000_000;

/// A `retry_ms` of the server is believed up to here.
pub const RETRY_US_MAX: u64 = 600_000_000;

/// A connection that lasted so long starts the backoff anew.
pub const STABLE_US: u64 = 10_000_000;

/// Acknowledgements leave at most so often.
pub const ACK_US: u64 = 50_000;

/// A state that shows lower marks than were acknowledged so long ago: they are said again.
pub const ACK_LOST_US: u64 = 1_000_000;

/// A missing seq is waited for: then a resume repairs it.
pub const GAP_US: u64 = 3_000_000;
/// The same in a conversation just joined: then history is asked for.
pub const JOIN_GAP_US: u64 = 300_000;

/// Messages of one conversation held back for a missing one: above it, a resume at once.
pub const HELD_MESSAGES_MAX: usize = 256;

/// Resumes for one missing seq: then it is asked for as history.
pub const RESUMES_PER_GAP_MAX: u8 = 2;

/// Conversations remembered: above it the longest untouched closed one is forgotten.
pub const CONVERSATIONS_MAX: usize = 256;

/// Commands without an answer: above it [`command`](super::Client::command) refuses.
pub const COMMANDS_MAX: usize = 32;
/// How long one may take: then it is told as lost.
pub const COMMAND_US_MAX: u64 = 15_000_000;
