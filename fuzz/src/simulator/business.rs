//! A business system that speaks for a visitor over HTTP: each text under an Idempotency-Key of its own, repeated until it
//! is answered, and now and then once more.

use tidegate_backend::app::command::{Actor as By, HttpAnswer, HttpCommand, Refusal};
use tidegate_backend::engine::kinds::{Outcome, Reason, Role};
use tidegate_protocol::Id;

use super::dice::Dice;
use super::trace::note;
use super::world::{Actor, World};

/// Between two looks at least and at most, µs.
const PAUSE_US: (u64, u64) = (1_000, 200_000);
/// Texts of one run at most.
const TEXTS_MAX: u64 = 20;
/// The widget of all visitors.
const WIDGET: u32 = 1;

/// What a backend says to one request; `None`: nothing yet.
type Answer = Box<dyn FnMut() -> Option<Result<HttpAnswer, Refusal>>>;

/// A text that is not through yet.
struct Letter {
    key_hash: u128,
    text: String,
    /// Which backend was asked, and its answer.
    asked: Option<(u64, Answer)>,
    /// Answers that it waits for.
    answers_left: u64,
}

/// See the module.
pub(super) struct Business {
    visitor: Id,
    texts_left: u64,
    under_way: Option<Letter>,
}

impl Business {
    /// Speaks for that visitor, who has no page.
    pub fn new(visitor: Id, dice: &mut Dice) -> Self {
        Self {
            visitor,
            texts_left: dice.between(1, TEXTS_MAX),
            under_way: None,
        }
    }

    /// An answer that is under way is lost with those who gave it.
    pub fn power_was_lost(&mut self) {
        if let Some(letter) = &mut self.under_way {
            letter.asked = None;
        }
    }

    /// Whether it waits for an answer.
    pub const fn is_waiting(&self) -> bool {
        self.under_way.is_some()
    }

    fn next_letter(&mut self, dice: &mut Dice) -> Letter {
        self.texts_left -= 1;
        // Its low half is the stored message's session: never 0.
        let key_hash = u128::from(dice.number()) << 64 | u128::from(dice.number() | 1);
        Letter {
            key_hash,
            text: format!("over HTTP {} {key_hash:x}", self.texts_left),
            asked: None,
            answers_left: if dice.permille(300) { 2 } else { 1 },
        }
    }

    fn command(&self, letter: &Letter) -> HttpCommand {
        HttpCommand::Send {
            by: By {
                id: self.visitor,
                role: Role::Visitor,
                name: "over HTTP".to_owned(),
                widget: WIDGET,
            },
            conversation: None,
            text: letter.text.clone(),
            key_hash: Some(letter.key_hash),
            page: String::new(),
        }
    }
}

impl World {
    pub(super) fn business_acts(&mut self) {
        let Some(mut business) = self.business.take() else {
            return;
        };
        if business.under_way.is_none() && business.texts_left > 0 && !self.settling {
            business.under_way = Some(business.next_letter(&mut self.dice));
        }
        if let Some(mut letter) = business.under_way.take() {
            self.hear_the_answer(&business, &mut letter);
            if letter.asked.is_none() && letter.answers_left > 0 {
                self.ask(&business, &mut letter);
            }
            business.under_way = (letter.answers_left > 0).then_some(letter);
        }
        if business.under_way.is_some() || !self.settling {
            let pause_us = self.dice.between(PAUSE_US.0, PAUSE_US.1);
            self.plan_next(self.now_us + pause_us, Actor::Business);
        }
        self.business = Some(business);
    }

    fn hear_the_answer(&mut self, business: &Business, letter: &mut Letter) {
        let Some((instance, answer)) = &mut letter.asked else {
            return;
        };
        let is_there = self.backend.as_ref().map(|backend| backend.instance) == Some(*instance);
        let Some(answer) = answer() else {
            // Who died with the question may have stored it, or not.
            if !is_there {
                letter.asked = None;
            }
            return;
        };
        letter.asked = None;
        match answer {
            Ok(HttpAnswer::Sent(sent))
                if matches!(sent.outcome, Outcome::Accepted | Outcome::Duplicate) =>
            {
                note!(self, "over HTTP: {sent:?}");
                letter.answers_left -= 1;
                #[expect(clippy::cast_possible_truncation, reason = "as the engine stores it")]
                let id = (business.visitor, letter.key_hash as u64, 0);
                self.oracle.accepted(id, sent.conversation, sent.seq);
                self.oracle
                    .shown_to_visitor(business.visitor, sent.conversation);
            }
            Err(refusal) if matches!(refusal.reason, Reason::Busy | Reason::RateLimited) => {}
            other => self
                .oracle
                .fail(format!("a good text over HTTP is answered {other:?}")),
        }
    }

    fn ask(&mut self, business: &Business, letter: &mut Letter) {
        let Some(backend) = &self.backend else { return };
        if let Ok(mut answered) = backend.handle.ask(business.command(letter)) {
            let answer: Answer = Box::new(move || answered.try_recv().ok());
            letter.asked = Some((backend.instance, answer));
            self.wake(self.now_us, Actor::Backend);
        }
    }
}
