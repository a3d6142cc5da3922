//! Workers whom a test answers for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::workers::{TextQuestion, Worker};

struct Played<Q, A> {
    is_gone: bool,
    asked: Vec<(u64, Q)>,
    answers: VecDeque<(u64, A)>,
}

/// The test's end; its clones are the same worker.
pub(super) struct Double<Q, A>(Rc<RefCell<Played<Q, A>>>);

/// What questions are told apart by.
pub(super) trait AboutText {
    fn text(&self) -> &str;
}

impl AboutText for TextQuestion {
    fn text(&self) -> &str {
        &self.text
    }
}

impl<Q, A> Default for Double<Q, A> {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(Played {
            is_gone: false,
            asked: Vec::new(),
            answers: VecDeque::new(),
        })))
    }
}

impl<Q, A> Clone for Double<Q, A> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<Q, A> Worker<Q, A> for Double<Q, A> {
    fn is_there(&self) -> bool {
        !self.0.borrow().is_gone
    }

    fn ask(&mut self, number: u64, question: Q) -> bool {
        let mut played = self.0.borrow_mut();
        if !played.is_gone {
            played.asked.push((number, question));
        }
        !played.is_gone
    }

    fn answer(&mut self) -> Option<(u64, A)> {
        self.0.borrow_mut().answers.pop_front()
    }

    fn has_answer(&self) -> bool {
        !self.0.borrow().answers.is_empty()
    }
}

impl<Q: AboutText + Clone, A> Double<Q, A> {
    /// Answers the newest question about this text.
    pub(super) fn answer(&self, text: &str, answer: A) {
        let mut played = self.0.borrow_mut();
        let mut newest_first = played.asked.iter().rev();
        let asked = newest_first.find(|(_, question)| question.text() == text);
        let number = asked
            .unwrap_or_else(|| panic!("nobody asked about {text}"))
            .0;
        played.answers.push_back((number, answer));
    }

    /// Dies, or comes back.
    pub(super) fn set_gone(&self, is_gone: bool) {
        self.0.borrow_mut().is_gone = is_gone;
    }

    /// How often it was asked.
    pub(super) fn asked(&self) -> usize {
        self.0.borrow().asked.len()
    }

    /// The newest question.
    pub(super) fn newest(&self) -> Q {
        let played = self.0.borrow();
        played.asked.last().expect("it was asked").1.clone()
    }
}
