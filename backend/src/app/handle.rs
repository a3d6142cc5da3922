//! The door from HTTP (tokio) to the turn (one plain thread): bounded, answered after the commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use tidegate_protocol::Id;
use tokio::sync::{oneshot, watch};

use super::command::{HttpAnswer, HttpCommand, Refusal};
use super::live_view::LiveView;

/// How long HTTP waits for a turn that does not come (the store is broken) before it answers 503.
pub const COMMAND_MS_MAX: u64 = 10_000;
/// Long polls at once; past it a poll is answered at once.
pub const LONG_POLLS_MAX: usize = 20_000;

/// How the sleeping turn is woken: the bus's doorbell in production, nothing in a test that steps by hand.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// One command on its way to the turn.
#[derive(Debug)]
pub struct Request {
    /// What.
    pub command: HttpCommand,
    /// Where the answer goes. The asker may have gone; then nobody minds.
    pub answer: oneshot::Sender<Result<HttpAnswer, Refusal>>,
}

/// HTTP's end; cheap to clone.
#[derive(Clone)]
pub struct TurnHandle {
    requests: Sender<Request>,
    live: watch::Receiver<Arc<LiveView>>,
    polls: Arc<LongPolls>,
    wake: Wake,
}

/// The turn's end.
pub struct TurnDoor {
    /// Commands to apply.
    pub requests: Receiver<Request>,
    /// Where snapshots go.
    pub live: watch::Sender<Arc<LiveView>>,
    /// Who waits for which conversation.
    pub polls: Arc<LongPolls>,
}

/// Makes the two ends. Past `commands_waiting_max` commands HTTP answers 503 with a Retry-After.
#[must_use]
pub fn door(wake: Wake, commands_waiting_max: usize) -> (TurnHandle, TurnDoor) {
    let (sender, requests) = bounded(commands_waiting_max.max(1));
    let (live_sender, live) = watch::channel(Arc::new(LiveView::default()));
    let polls = Arc::new(LongPolls::default());
    let handle = TurnHandle {
        requests: sender,
        live,
        polls: Arc::clone(&polls),
        wake,
    };
    (
        handle,
        TurnDoor {
            requests,
            live: live_sender,
            polls,
        },
    )
}

impl TurnHandle {
    /// Has the turn apply a command; the answer comes after its commit.
    ///
    /// # Errors
    /// The engine's refusal; `busy` when the queue is full, when the turn is stopping, or when it did not come
    /// within [`COMMAND_MS_MAX`] (then it may still be applied: a Send is safe to repeat under its key).
    pub async fn call(&self, command: HttpCommand) -> Result<HttpAnswer, Refusal> {
        let answered = self.ask(command)?;
        match tokio::time::timeout(Duration::from_millis(COMMAND_MS_MAX), answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(Refusal::busy(2_000)),
        }
    }

    /// Hands a command over, for askers that are no tasks.
    ///
    /// # Errors
    /// `busy` when the queue is full or the turn is stopping.
    pub fn ask(
        &self,
        command: HttpCommand,
    ) -> Result<oneshot::Receiver<Result<HttpAnswer, Refusal>>, Refusal> {
        let (answer, answered) = oneshot::channel();
        match self.requests.try_send(Request { command, answer }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(Refusal::busy(500)),
            Err(TrySendError::Disconnected(_)) => return Err(Refusal::busy(2_000)),
        }
        (self.wake)();
        Ok(answered)
    }

    /// The newest snapshot.
    #[must_use]
    pub fn live(&self) -> Arc<LiveView> {
        Arc::clone(&self.live.borrow())
    }

    /// Told of every new snapshot.
    #[must_use]
    pub fn watch_live(&self) -> watch::Receiver<Arc<LiveView>> {
        self.live.clone()
    }

    /// Told of every new seq of a conversation, after its commit. Subscribe first, then read the store, then
    /// wait: nothing falls between. `None` when [`LONG_POLLS_MAX`] conversations are watched already.
    #[must_use]
    pub fn watch_conversation(&self, conversation: Id) -> Option<watch::Receiver<u64>> {
        self.polls.watch(conversation)
    }
}

/// Conversations that somebody long-polls.
#[derive(Debug, Default)]
pub struct LongPolls {
    watched: Mutex<HashMap<Id, watch::Sender<u64>>>,
}

impl LongPolls {
    fn watch(&self, conversation: Id) -> Option<watch::Receiver<u64>> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.len() >= LONG_POLLS_MAX {
            watched.retain(|_, sender| !sender.is_closed());
        }
        if watched.len() >= LONG_POLLS_MAX && !watched.contains_key(&conversation) {
            return None;
        }
        Some(
            watched
                .entry(conversation)
                .or_insert_with(|| watch::channel(0).0)
                .subscribe(),
        )
    }

    /// Tells the pollers of a conversation; forgets it when nobody listens any more.
    pub fn tell(&self, conversation: Id, seq: u64) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = watched.get(&conversation)
            && sender.send(seq).is_err()
        {
            watched.remove(&conversation);
        }
    }

    /// Nobody polls anything: the turn need not look.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }
}
