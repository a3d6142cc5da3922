//! The first bytes of a connection: a trusted proxy's header, the upgrade request, or a plain GET.

use protocol::ws::handshake::{self, Outcome, Plain, append_plain_response};

use super::Shard;
use super::receive::Place;
use crate::connection::proxy::{self, Proxy};
use crate::connection::{Flags, State};
use crate::driver::{BufferId, Driver};
use crate::service::{CloseCause, Service, Upgrade};
use crate::time::Span;
use std::net::{IpAddr, SocketAddr};

/// An HTTP answer must be taken, and the connection hung up, after so long, ms.
const ANSWER_MS_MAX: u64 = 5_000;

/// What is left to do with bytes behind the handshake.
enum After {
    /// Nothing: all was used, or kept.
    Nothing,
    /// Frames begin here.
    Frames(usize),
}

impl<S: Service> Shard<S> {
    /// Takes what came before the upgrade. True: a send reads the buffer; it is not given back yet.
    pub(super) fn handshake(
        &mut self,
        driver: &mut impl Driver,
        slot: u32,
        id: BufferId,
        length: usize,
    ) -> bool {
        let peer = driver.peer(self.core.connection(slot).socket);
        let Some(peer) = peer else {
            self.core.kill(slot, CloseCause::Gone);
            return false;
        };
        let bytes = &mut driver.buffer(id)[..length];
        let before = match &mut self.core.connection(slot).extra {
            Some(extra) => core::mem::take(&mut extra.handshake),
            None => Vec::new(),
        };
        if before.is_empty() {
            // The common case: the whole request came at once, and is read where it lies.
            return match self.request(slot, bytes, 0, peer) {
                After::Frames(base) if base < length => {
                    let place = Place {
                        buffer: Some(id),
                        base,
                    };
                    self.frames(slot, &mut bytes[base..], place)
                }
                _ => false,
            };
        }
        let searched = before.len();
        let mut all = before;
        all.extend_from_slice(bytes);
        if let After::Frames(base) = self.request(slot, &all, searched, peer) {
            let place = Place {
                buffer: None,
                base: 0,
            };
            self.frames(slot, &mut all[base..], place);
        }
        self.core.shrink_extra(slot);
        false
    }

    fn request(&mut self, slot: u32, bytes: &[u8], searched: usize, peer: SocketAddr) -> After {
        let mut start = 0;
        if self.core.connection(slot).flags.any(Flags::MAYBE_PROXY) {
            match proxy::parse(bytes) {
                Proxy::Incomplete => return self.keep_request(slot, bytes),
                Proxy::Absent => {}
                Proxy::Malformed => {
                    self.core.counts.refused_total += 1;
                    self.core.kill(slot, CloseCause::Gone);
                    return After::Nothing;
                }
                Proxy::Header { bytes, client } => {
                    start = bytes;
                    self.core.connection(slot).extra().proxied = client;
                }
            }
            self.core.connection(slot).flags.clear(Flags::MAYBE_PROXY);
        }
        let request = &bytes[start..];
        let searched = searched.saturating_sub(start);
        match handshake::parse(request, searched, &self.core.options.policy) {
            Outcome::Incomplete => self.keep_request(slot, request),
            Outcome::Upgrade(upgrade) => {
                let end = start + upgrade.request_bytes;
                self.upgrade(slot, &upgrade, peer);
                After::Frames(end)
            }
            Outcome::Plain(plain) => {
                let mut answer = self.core.outbox.spare();
                answer_plain(&plain, &mut answer);
                self.answer(slot, answer);
                After::Nothing
            }
            Outcome::Refused(refusal) => {
                self.core.counts.refused_total += 1;
                let id = self.core.id(slot);
                tracing::debug!(%id, %peer, reason = refusal.label, "handshake refused");
                let mut answer = self.core.outbox.spare();
                refusal.append_response(&mut answer);
                self.answer(slot, answer);
                After::Nothing
            }
        }
    }

    fn keep_request(&mut self, slot: u32, bytes: &[u8]) -> After {
        self.core.connection(slot).extra().handshake = bytes.to_vec();
        After::Nothing
    }

    fn upgrade(&mut self, slot: u32, upgrade: &handshake::Upgrade<'_>, peer: SocketAddr) {
        let core = &mut self.core;
        let connection = &mut core.slots[slot as usize];
        let proxied = connection
            .extra
            .as_mut()
            .and_then(|extra| extra.proxied.take());
        let hop = proxied.unwrap_or(peer);
        let client = match upgrade.forwarded_for {
            Some(chain) if core.options.trusted.contains(hop.ip()) => {
                let forwarded: Option<IpAddr> = core.options.trusted.client(chain);
                forwarded.map_or(hop, |ip| SocketAddr::new(ip, 0))
            }
            _ => hop,
        };
        connection.state = State::Open;
        connection.flags.set(Flags::UPGRADED);
        let mut answer = core.outbox.spare();
        upgrade.append_response(&mut answer);
        core.outbox.push_owned(&mut connection.out, answer, 0);
        core.counts.upgraded_total += 1;
        core.counts.connections_open += 1;
        core.set_own_deadline(slot, None);
        core.shrink_extra(slot);
        core.mark_dirty(slot);
        let id = core.id(slot);
        let agreed = Upgrade {
            codec: upgrade.codec,
            client,
            origin: upgrade.origin,
        };
        self.service.on_upgraded(&mut self.core, id, &agreed);
        if self.core.draining {
            self.say_goodbye(slot);
        }
    }

    fn answer(&mut self, slot: u32, answer: Vec<u8>) {
        let core = &mut self.core;
        core.drop_extra(slot);
        let connection = &mut core.slots[slot as usize];
        connection.state = State::Answering;
        core.outbox.push_owned(&mut connection.out, answer, 0);
        core.set_own_deadline(slot, Some(Span::from_ms(ANSWER_MS_MAX)));
        core.mark_dirty(slot);
    }
}

fn answer_plain(plain: &Plain<'_>, answer: &mut Vec<u8>) {
    let (status, body) = match plain.path {
        "/healthz" => (200, "ok"),
        _ => (
            404,
            "the WebSocket is at /ws, this process's health at /healthz",
        ),
    };
    append_plain_response(answer, status, "", body, plain.head);
}
