//! The bot: what is asked after a commit, and what it said before the next. The turn never waits for it.
//!
//! Asked about is each text of a visitor in a conversation that no agent has when its turn is committed. What the bot
//! says is an input like any other, and stands in the journal: a replay asks nobody. The rules take it only while the
//! conversation is open and still has no agent. No answer, a late one, and a bot with `asked_max` questions under
//! way have the same default: nothing is said.
//!
//! Open questions are in memory alone: a backend that dies takes them along, and a text that was committed and not asked
//! about is not asked about later. Nothing is asked while a start is careful ([`super::careful`]).

use std::collections::BTreeMap;

use tidegate_protocol::Id;

use super::Turn;
use super::tally::{WorkerTally, WorkerView};
use crate::bus::cold::ColdReader;
use crate::bus::link::Gateways;
use crate::engine::input::Input;
use crate::engine::kinds::{Content, Role};
use crate::store::{Store, StoreError};
use crate::workers::bot::{BotAnswer, BotQuestion};
use crate::workers::{BOT, Worker};

/// Who answers visitors while they wait.
pub type BotWorker = dyn Worker<BotQuestion, BotAnswer>;

/// The bot, and what it is asked at this moment.
pub struct Bot {
    worker: Box<BotWorker>,
    answer_us_max: u64,
    asked_max: usize,
    last_number: u64,
    /// Questions without an answer, by number: each waits equally long, so the first is the first to be due.
    open: BTreeMap<u64, Open>,
    tally: WorkerTally,
}

struct Open {
    conversation: Id,
    deadline_us: u64,
}

impl Bot {
    /// Asks this worker; what is not answered within `answer_us_max`, and what comes while `asked_max` questions are
    /// open, stays unanswered.
    #[must_use]
    pub fn new(worker: Box<BotWorker>, answer_us_max: u64, asked_max: usize) -> Self {
        Self {
            worker,
            answer_us_max,
            asked_max,
            last_number: 0,
            open: BTreeMap::new(),
            tally: WorkerTally::default(),
        }
    }

    /// Whether an answer is there that a sleeping turn would miss.
    pub(super) fn has_answer(&self) -> bool {
        self.worker.has_answer()
    }

    /// When the first open question is given up.
    pub(super) fn deadline_us(&self) -> u64 {
        let first = self.open.values().next();
        first.map_or(u64::MAX, |open| open.deadline_us)
    }

    pub(super) fn view(&self) -> WorkerView {
        WorkerView {
            name: BOT,
            present: self.worker.is_there(),
            tally: self.tally,
        }
    }

    fn ask(&mut self, question: BotQuestion, now_us: u64) {
        let number = self.last_number + 1;
        let conversation = question.conversation;
        if self.open.len() >= self.asked_max || !self.worker.ask(number, question) {
            self.tally.defaulted += 1;
            return;
        }
        self.last_number = number;
        self.tally.asked += 1;
        let deadline_us = now_us + self.answer_us_max;
        let open = Open {
            conversation,
            deadline_us,
        };
        self.open.insert(number, open);
    }

    /// The next thing that it said in time, and where.
    fn hear(&mut self) -> Option<(Id, String)> {
        while let Some((number, answer)) = self.worker.answer() {
            let Some(open) = self.open.remove(&number) else {
                self.tally.late += 1;
                continue;
            };
            self.tally.answered += 1;
            if let BotAnswer::Say(text) = answer {
                return Some((open.conversation, text));
            }
        }
        None
    }

    /// Gives up what waited too long.
    fn give_up(&mut self, now_us: u64) {
        while let Some(first) = self.open.first_entry()
            && first.get().deadline_us <= now_us
        {
            first.remove();
            self.tally.defaulted += 1;
        }
    }
}

impl<S: Store, G: Gateways, C: ColdReader> Turn<S, G, C> {
    /// Has a bot asked about visitors' texts from now on.
    pub fn set_bot(&mut self, bot: Bot) {
        self.bot = Some(bot);
    }

    /// Applies what the bot said since.
    pub(super) fn take_said(&mut self, now_us: u64, seed: u64) -> Result<(), StoreError> {
        while !self.is_full() {
            let Some((conversation, text)) = self.bot.as_mut().and_then(Bot::hear) else {
                break;
            };
            self.careful.before_other();
            let input = Input::BotSaid {
                conversation,
                text: text.into(),
            };
            self.apply(&input, now_us, seed)?;
        }
        // What is there and finds the turn full is not late.
        if let Some(bot) = self.bot.as_mut().filter(|bot| !bot.has_answer()) {
            bot.give_up(now_us);
        }
        Ok(())
    }

    /// Asks about the visitors' texts of the turn that was committed.
    pub(super) fn ask_bot(&mut self, now_us: u64) {
        let Some(bot) = &mut self.bot else { return };
        if self.careful.is_on() {
            return;
        }
        let writes = &self.out.writes;
        for row in &writes.messages {
            if row.content != Content::Text || row.sender_role != Role::Visitor {
                continue;
            }
            let conversations = self.engine.conversations();
            let key = conversations.find(row.conversation);
            if !key.is_some_and(|key| self.engine.is_waiting(key)) {
                continue;
            }
            let question = BotQuestion {
                conversation: row.conversation,
                visitor: row.sender.unwrap_or_default(),
                seq: row.seq,
                agents_online: self.engine.agents().online() > 0,
                text: writes.text(row.text).to_owned(),
            };
            bot.ask(question, now_us);
        }
    }
}
