//! What the chat counts, per shard, in the words of the segment that anybody may read.

use std::fmt::Write as _;

use shm_bus::Counters;
use tidegate_protocol::fb;
use tidegate_protocol::names::Named;

/// First of the owner's counters that the chat uses; those below are the sockets'.
pub const CHAT_COUNTER_FIRST: usize = 256;

macro_rules! tallies {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// One number of one shard.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Tally { $($(#[$doc])* $name),* }

        /// Every tally with its name in the metrics, in the order of their words.
        pub const TALLIES: &[(Tally, &str)] = &[$((Tally::$name, $text)),*];
    };
}

tallies! {
    /// Connections that said a good Hello.
    Hellos = "chat_hellos_total";
    /// Hellos with a token that was refused.
    TokensRefused = "chat_tokens_refused_total";
    /// Connections that owed their Hello for too long.
    HelloTimeouts = "chat_hello_timeouts_total";
    /// Envelopes placed for the backend.
    EnvelopesUp = "chat_envelopes_up_total";
    /// Envelopes, messages and JSON texts that were refused as malformed.
    Malformed = "chat_malformed_total";
    /// Connections closed because it repeated.
    Abuse = "chat_abuse_closed_total";
    /// Messages that found the ring full and were parked.
    Parked = "chat_parked_total";
    /// Sends and commands refused as busy.
    Busy = "chat_busy_total";
    /// Typing notices dropped because the ring was full.
    TypingDropped = "chat_typing_dropped_total";
    /// Acknowledgements held because the ring was full.
    AcksHeld = "chat_acks_held_total";
    /// Held acknowledgements that could not be merged and were dropped; resume repairs.
    AcksDropped = "chat_acks_dropped_total";
    /// Envelopes sent to clients, each receiver counted.
    EnvelopesDown = "chat_envelopes_down_total";
    /// Receivers of the backend's records that were gone, or whose slot was used again.
    StaleDown = "chat_stale_receivers_total";
    /// Records from the backend that could not be read.
    BadRecords = "chat_bad_records_total";
    /// OPENED and CLOSED records that had to wait for room.
    UntoldQueued = "chat_untold_queued_total";
    /// Connections announced to a new backend.
    Announced = "chat_announced_total";
    /// Pings sent to the silent.
    Pings = "chat_pings_total";
    /// Connections that died of silence.
    Silent = "chat_silent_closed_total";
    /// Connections that sent but did not acknowledge.
    HalfOpen = "chat_half_open_closed_total";
    /// Waits sent.
    Waits = "chat_waits_total";
    /// Connections known to the backend now.
    Open = "chat_open";
    /// Connections in the waiting room now.
    Waiting = "chat_waiting";
    /// OPENED and CLOSED records that wait for room now.
    Untold = "chat_untold";
}

impl Tally {
    /// Index among the owner's counters of a port page.
    pub const fn index(self) -> usize {
        CHAT_COUNTER_FIRST + self as usize
    }
}

/// Refusals of the gateway itself, one word for each of the schema's reasons: those that the backend counts have the
/// same names.
const REFUSED_FIRST: usize = CHAT_COUNTER_FIRST + 64;
const REFUSED_REASONS_MAX: usize = 64;

const _: () = assert!(TALLIES.len() <= REFUSED_FIRST - CHAT_COUNTER_FIRST);
const _: () = assert!(fb::Reason::ENUM_VALUES.len() <= REFUSED_REASONS_MAX);
const _: () = assert!(REFUSED_FIRST + REFUSED_REASONS_MAX <= Counters::USER_COUNTERS);

/// Index of a reason's refusals among the owner's counters of a port page.
pub const fn refused_index(reason: fb::Reason) -> usize {
    assert!((reason.0 as usize) < REFUSED_REASONS_MAX);
    REFUSED_FIRST + reason.0 as usize
}

/// The refusals in the owner's counters of a port page, by the reason's name; those that happened.
pub fn refused(user: impl Fn(usize) -> u64) -> impl Iterator<Item = (&'static str, u64)> {
    fb::Reason::ENUM_VALUES
        .iter()
        .map(move |&reason| (reason.name().unwrap_or(""), user(refused_index(reason))))
        .filter(|&(_, count)| count > 0)
}

/// Appends the tallies of all shards in the text format of Prometheus.
pub fn prometheus(shards: &[Counters], tallies: &[(Tally, &str)], into: &mut String) {
    for &(tally, text) in tallies {
        let kind = if text.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        // Writing to a String cannot fail.
        let _ = writeln!(into, "# TYPE tidegate_gateway_{text} {kind}");
        for (shard, counters) in shards.iter().enumerate() {
            let value = counters.user(tally.index());
            let _ = writeln!(into, "tidegate_gateway_{text}{{shard=\"{shard}\"}} {value}");
        }
    }
    let _ = writeln!(into, "# TYPE tidegate_gateway_refused_total counter");
    for (shard, counters) in shards.iter().enumerate() {
        for (reason, count) in refused(|index| counters.user(index)) {
            let _ = writeln!(
                into,
                "tidegate_gateway_refused_total{{shard=\"{shard}\",reason=\"{reason}\"}} {count}"
            );
        }
    }
}
