//! No wake-up is lost: the doorbell's sleep and wake, in every interleaving that loom can make of them. The model's
//! pipe has no time-out, so a lost wake-up is a deadlock, which loom reports.

use std::time::Duration;

use loom::thread;

use super::{Pipe, Ringer, Sleeper};
use crate::{
    memory::{Memory, Word},
    sync::{Arc, Ordering, fence},
};

const NO_LIMIT: Duration = Duration::MAX;

/// A sleep word, a word in which news stand, and the pipe.
fn parts() -> (Word, [Word; 2], Arc<Pipe>) {
    let memory = Memory::heap(24);
    let news = [Word::at(&memory, 8), Word::at(&memory, 16)];
    (Word::at(&memory, 0), news, Arc::new(Pipe::default()))
}

/// Sleeps and wakes as a consumer does, until both words of news say `wanted`.
fn sleep_until(mut sleeper: Sleeper, news: &[Word; 2], wanted: u64) {
    let are_there = || {
        news.iter()
            .all(|word| word.load(Ordering::Acquire) == wanted)
    };
    while !are_there() {
        sleeper.prepare();
        if are_there() {
            sleeper.awake();
        } else {
            sleeper.sleep(NO_LIMIT);
        }
    }
}

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

#[test]
fn a_sleeper_is_woken_for_each_of_two_pieces_of_news_from_one_producer() {
    model(|| {
        let (word, news, pipe) = parts();
        let sleeper = Sleeper::new(word.clone(), Arc::clone(&pipe), None);
        let ringer = Ringer::new(word, pipe);
        let [first, second] = news.clone();
        let producer = thread::spawn(move || {
            first.store(1, Ordering::Release);
            ringer.ring();
            second.store(1, Ordering::Release);
            ringer.ring();
        });
        sleep_until(sleeper, &news, 1);
        producer.join().expect("told");
    });
}

#[test]
fn a_sleeper_is_woken_by_whichever_of_two_producers_comes_last() {
    model(|| {
        let (word, news, pipe) = parts();
        let sleeper = Sleeper::new(word.clone(), Arc::clone(&pipe), None);
        let producers = news.clone().map(|news| {
            let ringer = Ringer::new(word.clone(), Arc::clone(&pipe));
            thread::spawn(move || {
                news.store(1, Ordering::Release);
                ringer.ring();
            })
        });
        sleep_until(sleeper, &news, 1);
        for producer in producers {
            producer.join().expect("told");
        }
    });
}

#[test]
fn clones_of_one_ringer_in_two_threads_lose_nothing_either() {
    model(|| {
        let (word, news, pipe) = parts();
        let sleeper = Sleeper::new(word, pipe, None);
        let ringer = sleeper.ringer();
        let producers = news.clone().map(|news| {
            let ringer = ringer.clone();
            thread::spawn(move || {
                news.store(1, Ordering::Release);
                ringer.ring();
            })
        });
        sleep_until(sleeper, &news, 1);
        for producer in producers {
            producer.join().expect("told");
        }
    });
}

/// The canary: the producer's fence left out must be caught, or the models above prove nothing.
#[test]
#[should_panic(expected = "deadlock")]
fn loom_finds_the_lost_wake_up_where_the_producer_has_no_fence() {
    model(|| {
        let (word, [news, _], pipe) = parts();
        let (look, published, rung) = (word.clone(), news.clone(), Arc::clone(&pipe));
        let producer = thread::spawn(move || {
            published.store(1, Ordering::Release);
            if look.load(Ordering::Relaxed) == 1 {
                rung.ring();
            }
        });
        word.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if news.load(Ordering::Acquire) == 0 {
            pipe.wait(NO_LIMIT);
        }
        producer.join().expect("told");
    });
}
