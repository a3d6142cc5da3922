//! Who is there. Hello is due within `HELLO_MS_MAX` of the upgrade; its token is verified here, without asking
//! anybody; a bad one gets an Error and a close. What a client sends right behind its Hello keeps its order: it is
//! placed behind the OPENED record, or parked until that is placed.

use super::admission::Waiter;
use super::counters::Tally;
use super::heartbeat::learned::NetworkKey;
use super::inbound::Step;
use super::peer::{Extra, Held, Peer, Phase};
use super::ticket::Ticket;
use super::{Chat, codec_of, moment};
use crate::service::{ConnectionId, PeerClass, Sockets, Span, Upgrade};
use tidegate_protocol::close::{CloseCode, CloseReason};
use tidegate_protocol::limits::HELLO_MS_MAX;
use tidegate_protocol::token::{self, Claims};
use tidegate_protocol::{Id, fb, message};

/// How somebody with a good Hello comes in.
enum Way {
    /// At once.
    Open {
        /// As one who was not inside before, by the rate.
        on_ticket: bool,
    },
    /// When the frontier passes this.
    Wait(Ticket),
}

impl Chat {
    pub(super) fn upgraded(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        upgrade: &Upgrade<'_>,
    ) {
        let now = moment(io.now());
        let network = NetworkKey::new(fb::Family::H5, upgrade.client.ip());
        let interval_ms = self.bounds(fb::Family::H5).interval_ms_first();
        self.peers.insert(
            id.slot,
            Peer::upgraded(
                id.generation,
                codec_of(upgrade.codec),
                network,
                now,
                interval_ms,
            ),
        );
        io.set_timer(id, io.now() + Span::from_ms(HELLO_MS_MAX));
    }

    /// A verified Hello table from a connection that owes one.
    pub(super) fn hello(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        hello: fb::Hello<'_>,
    ) -> Step {
        if hello.session() == 0 {
            let detail = "session: expected a random number, found 0";
            return self.refuse(
                io,
                id,
                fb::Reason::UnknownField,
                "session",
                detail,
                hello.request(),
            );
        }
        let claims = match token::verify(
            hello.token().unwrap_or(""),
            &self.settings.token_key,
            io.now().s(),
        ) {
            Ok(claims) => claims,
            Err(error) => {
                self.link.count(Tally::TokensRefused);
                let detail = error.to_string();
                self.log_hostile(io, id, Tally::TokensRefused, &detail);
                self.say_error(io, id, error.reason(), "token", &detail, hello.request());
                io.close(id, error.close_code().0, "token refused");
                return Step::Stop;
            }
        };
        self.link.count(Tally::Hellos);
        self.identify(io, id, &hello, &claims);
        let mut builder = std::mem::take(&mut self.builder);
        let payload = without_secrets(&hello, &mut builder);
        let step = match self.way_in(io, &hello, &claims) {
            Way::Wait(ticket) => self.have_wait(io, id, ticket, hello.request(), payload),
            Way::Open { on_ticket } => self.admit(io, id, hello.request(), on_ticket, payload),
        };
        self.builder = builder;
        step
    }

    /// The connection gets its principal and what follows from it.
    fn identify(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        hello: &fb::Hello<'_>,
        claims: &Claims,
    ) {
        let now = moment(io.now());
        let Some(peer) = self.peers.by_id(id) else {
            return;
        };
        peer.principal = claims.sub;
        peer.session = hello.session();
        peer.connection = hello.connection();
        peer.network = peer.network.with_family(hello.family());
        peer.widget = claims.wid;
        peer.set_site(claims.sid);
        peer.role = claims.role;
        peer.expires_at_s = u32::try_from(claims.exp).unwrap_or(u32::MAX);
        if !claims.name.is_empty() {
            peer.extra_mut().name = claims.name.as_str().into();
        }
        if peer.is_staff() {
            peer.extra_mut().issued_at_s = claims.iat;
        }
        let (network, is_staff) = (peer.network, peer.is_staff());
        let bounds = self.bounds(network.family());
        let interval_ms = self.learned.interval_ms_first(network, &bounds, now);
        if let Some(peer) = self.peers.by_id(id) {
            peer.pulse.set_interval_ms(interval_ms);
        }
        io.set_class(
            id,
            if is_staff {
                PeerClass::Agent
            } else {
                PeerClass::Visitor
            },
        );
    }

    /// Whether somebody has to wait.
    fn way_in(&self, io: &impl Sockets, hello: &fb::Hello<'_>, claims: &Claims) -> Way {
        let frontier = self.link.frontier().at;
        if frontier == 0 || claims.role != fb::Role::Visitor {
            return Way::Open { on_ticket: false };
        }
        let now_ms = io.now().ms();
        let shown = hello
            .ticket()
            .and_then(|text| self.office.check(text, claims.sub.0));
        if shown.is_some_and(|ticket| ticket.is_pass(now_ms)) {
            return Way::Open { on_ticket: false };
        }
        // A number that was never drawn here is of a bus that is no more.
        let kept = shown.filter(|ticket| ticket.number < self.link.tickets());
        let ticket = kept.unwrap_or_else(|| Ticket {
            number: self.link.take_ticket(),
            arrived_ms: now_ms,
        });
        // Those in the room are about to come in: nobody overtakes them.
        if ticket.number < frontier && !self.room.has_before(ticket.number) {
            Way::Open { on_ticket: true }
        } else {
            Way::Wait(ticket)
        }
    }

    fn have_wait(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        ticket: Ticket,
        request: u64,
        payload: &[u8],
    ) -> Step {
        if !self.hold(
            io,
            id,
            Held {
                request,
                ticket: ticket.number,
                arrived_ms: ticket.arrived_ms,
                on_ticket: true,
                hello: payload.into(),
            },
        ) {
            return Step::Stop;
        }
        if let Some(peer) = self.peers.by_id(id) {
            peer.phase = Phase::Waiting;
        }
        self.room.enter(
            ticket.number,
            Waiter {
                slot: id.slot,
                generation: id.generation,
            },
        );
        let news = self
            .room
            .first_news(ticket.number, self.link.frontier(), moment(io.now()));
        self.tell_news(io, id, news);
        Step::Taken
    }

    /// The connection comes in: OPENED is placed, or becomes what the connection owes.
    fn admit(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        request: u64,
        on_ticket: bool,
        payload: &[u8],
    ) -> Step {
        if let Some(peer) = self.peers.by_id(id) {
            peer.phase = Phase::Opening;
        }
        let told = self.untold.is_empty() && self.tell_opened(io, id, request, on_ticket, payload);
        if told {
            return Step::Taken;
        }
        if !self.hold(
            io,
            id,
            Held {
                request,
                on_ticket,
                hello: payload.into(),
                ..Held::default()
            },
        ) {
            return Step::Stop;
        }
        self.owe(id);
        Step::Taken
    }

    /// Keeps the Hello of somebody who can't come in now; false if there is no room for it and the connection is
    /// being closed.
    fn hold(&mut self, io: &mut impl Sockets, id: ConnectionId, held: Held) -> bool {
        if self.held_bytes + held.hello.len() > self.settings.held_bytes_max {
            let retry_ms = self.retry_ms();
            if let Some(peer) = self.peers.by_id(id) {
                peer.phase = Phase::Upgraded;
            }
            io.close(
                id,
                CloseCode::BUSY.0,
                CloseReason::with_retry_ms(retry_ms, "too many wait").as_str(),
            );
            return false;
        }
        self.held_bytes += held.hello.len();
        if let Some(peer) = self.peers.by_id(id) {
            peer.extra_mut().held = Some(held);
        }
        true
    }

    /// Forgets a held Hello.
    pub(super) fn let_go(&mut self, id: ConnectionId) {
        let Some(peer) = self.peers.by_id(id) else {
            return;
        };
        if let Some(Extra {
            held: held @ Some(_),
            ..
        }) = peer.extra_if_any()
        {
            self.held_bytes -= held.take().map_or(0, |held| held.hello.len());
        }
        peer.shrink();
    }

    /// Lets in whom the frontier passed, while there is room to tell the backend.
    pub(super) fn admit_waiting(&mut self, io: &mut impl Sockets) {
        if self.room.is_empty() {
            return;
        }
        let frontier = self.link.frontier().at;
        while self.untold.is_empty()
            && let Some(waiter) = self.room.next_admitted(frontier)
        {
            let id = self.link.id(waiter.slot, waiter.generation);
            if let Some(peer) = self.peers.by_id(id) {
                peer.phase = Phase::Opening;
                self.tell_or_owe_opened(io, id);
            }
        }
    }
}

/// The Hello as the backend gets it: what proves identity and place stays here, because the rings can be tapped and
/// recorded.
fn without_secrets<'a>(
    hello: &fb::Hello<'_>,
    builder: &'a mut flatbuffers::FlatBufferBuilder<'static>,
) -> &'a [u8] {
    let cursors: Vec<message::Cursor> = hello
        .cursors()
        .into_iter()
        .flatten()
        .map(|cursor| message::Cursor {
            conversation: Id::from(cursor.conversation()),
            incarnation: cursor.incarnation(),
            seq: cursor.seq(),
        })
        .collect();
    message::Hello {
        request: hello.request(),
        session: hello.session(),
        family: hello.family(),
        locale: hello.locale().unwrap_or(""),
        cursors: &cursors,
        page: hello.page().unwrap_or(""),
        ..message::Hello::default()
    }
    .encode(builder)
}
