//! Counters and gauges of a shard. The shard counts in plain fields; the driver's loop publishes them to atomics
//! that the admin listener reads. They are information: nothing is decided by them.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($name:ident, $kind:literal, $help:literal;)*) => {
        /// What one shard counts, as plain numbers.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $(#[doc = $help] pub $name: u64,)*
        }

        /// The same for other threads to read; written by the shard's thread only.
        #[derive(Debug, Default)]
        pub struct Published {
            $($name: AtomicU64,)*
        }

        impl Published {
            /// Makes `counts` what others read. Relaxed: each number is true for itself.
            pub fn publish(&self, counts: &Counts) {
                $(self.$name.store(counts.$name, Ordering::Relaxed);)*
            }

            /// What was published last.
            #[must_use]
            pub fn counts(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        /// Appends all shards' counters in the text format of Prometheus.
        pub fn prometheus(shards: &[Counts], into: &mut String) {
            $(
                let name = concat!("tidegate_gateway_", stringify!($name));
                let _ = write!(into, "# HELP {name} {}\n# TYPE {name} {}\n", $help, $kind);
                for (shard, counts) in shards.iter().enumerate() {
                    let _ = writeln!(into, "{name}{{shard=\"{shard}\"}} {}", counts.$name);
                }
            )*
        }
    };
}

counters! {
    connections, "gauge", "Connections now, handshakes and closing ones included.";
    connections_open, "gauge", "Connections that are upgraded and not closing.";
    accepted_total, "counter", "Connections accepted.";
    helped_total, "counter", "Of them from the socket of a shard or gateway that did not come to it.";
    upgraded_total, "counter", "Upgrades to WebSocket.";
    refused_total, "counter", "Handshakes answered with an HTTP error.";
    closed_peer_total, "counter", "Connections whose peer closed with a close frame.";
    closed_gone_total, "counter", "Connections that ended without a close frame.";
    closed_gateway_total, "counter", "Connections that the gateway closed: protocol errors, bounds, timeouts, drain.";
    closed_service_total, "counter", "Connections that the service closed.";
    slow_readers_total, "counter", "Connections closed for a full out queue.";
    shed_total, "counter", "Connections closed because out_bytes_max of the shard was reached.";
    protocol_errors_total, "counter", "Connections closed for breaking RFC 6455.";
    oversize_total, "counter", "Messages refused on their header for their length.";
    handshake_timeouts_total, "counter", "Handshakes that were not whole in time.";
    stalled_frames_total, "counter", "Messages that were begun and not finished in time.";
    parked_total, "counter", "Messages that were held because the ring was full.";
    parked_refused_total, "counter", "Connections closed because parked_bytes_max was reached.";
    messages_in_total, "counter", "WebSocket messages received.";
    bytes_in_total, "counter", "Bytes received.";
    frames_out_total, "counter", "Frames queued for sending.";
    bytes_out_total, "counter", "Bytes that the kernel took.";
    sends_total, "counter", "Sends completed.";
    pings_in_total, "counter", "Ping frames received.";
    pongs_skipped_total, "counter", "Pongs not queued because the peer does not read.";
    out_bytes, "gauge", "Bytes queued for sending.";
    parked_bytes, "gauge", "Bytes held for parked and paused connections.";
    collect_bytes, "gauge", "Bytes of partial messages.";
    buffers_free, "gauge", "Receive buffers in the kernel's hands.";
    no_buffers_total, "counter", "Receives that ended because no buffer was free.";
    unpinned_total, "counter", "Sends copied out of a receive buffer because their peer did not read.";
    single_receives_total, "counter", "Times that a connection over its rate fell back to single receives.";
    accept_pauses_total, "counter", "Times that accepting paused: descriptor limit or connections_max.";
    completion_overflows_total, "counter", "Times that the completion queue was found overflown.";
    rounds_total, "counter", "Rounds of the shard's loop.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_what_is_read() {
        let counts = Counts {
            connections: 3,
            rounds_total: 9,
            ..Counts::default()
        };
        let published = Published::default();
        published.publish(&counts);
        assert_eq!(published.counts(), counts);
    }

    #[test]
    fn each_counter_has_help_type_and_a_line_per_shard() {
        let mut text = String::new();
        prometheus(&[Counts::default(), Counts::default()], &mut text);
        assert!(text.contains("# TYPE tidegate_gateway_connections gauge\n"));
        assert!(text.contains("tidegate_gateway_connections{shard=\"1\"} 0\n"));
        assert!(
            text.lines()
                .all(|line| line.starts_with('#') || line.starts_with("tidegate_gateway_"))
        );
    }
}
