//! The stages that a text passes before it is an input: each is a worker that looks at it, with a deadline of its own.
//!
//! A text goes from one stage to the next as soon as it is answered, or gets the stage's default when the answer does not
//! come in time. What a stage replaced is what the next one is asked about; what one refused asks nobody further. Behind
//! the last stage stands one ruling: as it is, refused, or this instead.
//!
//! A stage is passed by, with its default, when no worker is there or as many texts as it may hold are held.

use std::collections::BTreeMap;

use super::tally::{WorkerTally, WorkerView};
use crate::engine::connections::Address;
use crate::engine::kinds::Side;
use crate::workers::{TextQuestion, Verdict, Worker};

/// Who looks at texts.
pub type TextWorker = dyn Worker<TextQuestion, Verdict>;

/// One worker that texts pass.
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// Who is asked.
    pub worker: Box<TextWorker>,
    /// Whether it looks at agents' texts as well as at visitors'.
    pub looks_at_agents: bool,
    /// What becomes of a text when the worker is gone, late, or has too much to do.
    pub default: Verdict,
    /// How long an answer may take.
    pub answer_us_max: u64,
    /// Texts that it may hold at once.
    pub held_max: usize,
}

impl Stage {
    const fn looks_at(&self, by: Side) -> bool {
        self.looks_at_agents || matches!(by, Side::Visitor)
    }
}

/// A stage with what is going on there.
struct Running {
    stage: Stage,
    last_number: u64,
    /// Questions without an answer, by number: each waits equally long, so the first is the first to be due.
    open: BTreeMap<u64, Open>,
    /// Texts that it was the last to be asked about and that are still held.
    held: usize,
    tally: WorkerTally,
}

struct Open {
    /// The text's number.
    text: u64,
    deadline_us: u64,
}

/// A text on its way.
struct Passing {
    /// Whose record it is; `None`: a request over HTTP.
    address: Option<Address>,
    /// As the stages so far leave it.
    text: TextQuestion,
    replaced: bool,
    /// The stage that was asked last.
    at: Option<usize>,
    /// The question there, while it is open.
    number: Option<u64>,
    ruling: Option<Verdict>,
}

/// All stages, and the texts on their way through them.
pub struct Stages {
    stages: Vec<Running>,
    texts: BTreeMap<u64, Passing>,
    last_text: u64,
}

impl Stages {
    /// Texts pass these in order.
    #[must_use]
    pub fn new(stages: Vec<Stage>) -> Self {
        let running = |stage| Running {
            stage,
            last_number: 0,
            open: BTreeMap::new(),
            held: 0,
            tally: WorkerTally::default(),
        };
        Self {
            stages: stages.into_iter().map(running).collect(),
            texts: BTreeMap::new(),
            last_text: 0,
        }
    }

    /// Whether any stage looks at what this side writes.
    pub(super) fn look_at(&self, by: Side) -> bool {
        self.stages.iter().any(|running| running.stage.looks_at(by))
    }

    /// Whether an answer is there that a sleeping turn would miss.
    pub(super) fn has_answer(&self) -> bool {
        let mut stages = self.stages.iter();
        stages.any(|running| running.stage.worker.has_answer())
    }

    /// When the first open question gets its default.
    pub(super) fn deadline_us(&self) -> u64 {
        let first = |running: &Running| running.open.values().next().map(|open| open.deadline_us);
        let firsts = self.stages.iter().filter_map(first);
        firsts.min().unwrap_or(u64::MAX)
    }

    /// What each worker was asked.
    pub(super) fn views(&self) -> impl Iterator<Item = WorkerView> {
        self.stages.iter().map(|running| WorkerView {
            name: running.stage.name,
            present: running.stage.worker.is_there(),
            tally: running.tally,
        })
    }

    /// A text enters the first stage: `Ok`, it is held under that number; `Err`, nobody has to be waited for.
    /// Without `asks` every stage's default is given.
    pub(super) fn enter(
        &mut self,
        address: Option<Address>,
        text: TextQuestion,
        asks: bool,
        now_us: u64,
    ) -> Result<u64, Verdict> {
        let number = self.last_text + 1;
        let mut passing = Passing {
            address,
            text,
            replaced: false,
            at: None,
            number: None,
            ruling: None,
        };
        self.go_on(number, &mut passing, 0, asks.then_some(now_us));
        if let Some(ruling) = passing.ruling {
            return Err(ruling);
        }
        self.last_text = number;
        self.texts.insert(number, passing);
        Ok(number)
    }

    /// How the stages ruled on a held text, if they are through with it.
    pub(super) fn ruling(&self, text: u64) -> Option<&Verdict> {
        self.texts.get(&text)?.ruling.as_ref()
    }

    /// The same, and forgets the text.
    pub(super) fn take_ruling(&mut self, text: u64) -> Option<Verdict> {
        self.ruling(text)?;
        let passing = self.texts.remove(&text)?;
        if let Some(at) = passing.at {
            self.stages[at].held -= 1;
        }
        passing.ruling
    }

    /// Takes the answers that came, and gives the default to what waited too long; `ruled` is told whose texts are
    /// through. Late answers and those to what nobody asked are nobody's.
    pub(super) fn hear(&mut self, now_us: u64, mut ruled: impl FnMut(Option<Address>)) {
        for index in 0..self.stages.len() {
            while let Some((number, verdict)) = self.stages[index].stage.worker.answer() {
                let running = &mut self.stages[index];
                match running.open.remove(&number) {
                    Some(open) => {
                        running.tally.answered += 1;
                        self.answered(open.text, verdict, Some(now_us), &mut ruled);
                    }
                    None => running.tally.late += 1,
                }
            }
            while let Some(first) = self.stages[index].open.first_entry()
                && first.get().deadline_us <= now_us
            {
                let text = first.remove().text;
                let default = self.stages[index].give_default();
                self.answered(text, default, Some(now_us), &mut ruled);
            }
        }
    }

    /// What is held for such addresses gets the defaults now; `ruled` is told whose that is.
    pub(super) fn settle(
        &mut self,
        of: impl Fn(Address) -> bool,
        mut ruled: impl FnMut(Option<Address>),
    ) {
        let open = |(&text, passing): (&u64, &Passing)| match (passing.number, passing.address) {
            (Some(number), Some(address)) if of(address) => Some((text, passing.at?, number)),
            _ => None,
        };
        let open: Vec<_> = self.texts.iter().filter_map(open).collect();
        for (text, at, number) in open {
            self.stages[at].open.remove(&number);
            let default = self.stages[at].give_default();
            self.answered(text, default, None, &mut ruled);
        }
    }

    /// The stage at which a text is has an answer, or gave its default. `asks`: the time, if others may be asked yet.
    fn answered(
        &mut self,
        number: u64,
        verdict: Verdict,
        asks: Option<u64>,
        ruled: &mut impl FnMut(Option<Address>),
    ) {
        let Some(mut passing) = self.texts.remove(&number) else {
            return;
        };
        passing.number = None;
        passing.take(verdict);
        let next = passing.at.map_or(0, |at| at + 1);
        self.go_on(number, &mut passing, next, asks);
        if passing.ruling.is_some() {
            ruled(passing.address);
        }
        self.texts.insert(number, passing);
    }

    /// Goes through the stages from `next` on until one is asked or the text has its ruling.
    fn go_on(&mut self, number: u64, passing: &mut Passing, next: usize, asks: Option<u64>) {
        for index in next..self.stages.len() {
            if passing.ruling.is_some() {
                return;
            }
            let running = &mut self.stages[index];
            if !running.stage.looks_at(passing.text.by) {
                continue;
            }
            if let Some(question) =
                asks.and_then(|now_us| running.ask(number, &passing.text, now_us))
            {
                passing.number = Some(question);
                if let Some(before) = passing.at.replace(index) {
                    self.stages[before].held -= 1;
                }
                return;
            }
            let default = running.give_default();
            passing.take(default);
        }
        passing.end();
    }
}

impl Running {
    /// Asks about a text; the question's number. `None`: it gets the default.
    fn ask(&mut self, text: u64, question: &TextQuestion, now_us: u64) -> Option<u64> {
        let stage = &mut self.stage;
        let number = self.last_number + 1;
        if self.held >= stage.held_max || !stage.worker.ask(number, question.clone()) {
            return None;
        }
        self.last_number = number;
        self.held += 1;
        self.tally.asked += 1;
        let deadline_us = now_us + stage.answer_us_max;
        self.open.insert(number, Open { text, deadline_us });
        Some(number)
    }

    fn give_default(&mut self) -> Verdict {
        self.tally.defaulted += 1;
        self.stage.default.clone()
    }
}

impl Passing {
    fn take(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Allow => {}
            Verdict::Replace(text) => {
                self.text.text = text;
                self.replaced = true;
            }
            Verdict::Refuse(_) => self.ruling = Some(verdict),
        }
    }

    fn end(&mut self) {
        let text = &mut self.text.text;
        self.ruling.get_or_insert_with(|| match self.replaced {
            true => Verdict::Replace(std::mem::take(text)),
            false => Verdict::Allow,
        });
    }
}
