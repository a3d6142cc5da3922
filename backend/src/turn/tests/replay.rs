//! The same journal gives the same database.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tidegate_protocol::{Id, fb, message};

use super::super::Stepped;
use super::bot::set_bot;
use super::moderation::{Double as Translator, moderate};
use super::stage::{Stage, actor, agent_row, close_command, id, outcome};
use super::translation::translation;
use crate::app::command::HttpCommand;
use crate::config::ModerationDefault;
use crate::engine::POISON_TEXT;
use crate::engine::kinds::{AgentStatus, Role};
use crate::journal::tamper::change_turns;
use crate::journal::{JournalBounds, Mask, Replay, ReplayError, Replayed, copy_masked, files};
use crate::store::dump::{Dump, dump};
use crate::store::open::Place;
use crate::store::{CommitError, backup};
use crate::workers::{BotAnswer, Verdict};

fn dump_of(database: &Path) -> Dump {
    let place = Place {
        path: database.to_owned(),
        vfs: None,
        busy_ms_max: 1_000,
        cache_bytes: 1 << 20,
        mmap_bytes: 0,
    };
    dump(&place, None).unwrap()
}

impl Stage {
    /// Nothing was there before its journal.
    fn journalled(masked: bool) -> Self {
        let mut stage = Self::new();
        stage.kill();
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", stage.database().display()));
        }
        stage.gateways.clear();
        stage.bus = crate::bus::local::LocalBus::default();
        stage.start_gateway(1 << 20);
        stage.journal = Some(stage.directory.path().join("journal"));
        stage.journal_masked = masked;
        stage.start();
        for (row, role, capacity) in [
            (1, Role::Agent, 2),
            (2, Role::Agent, 2),
            (9, Role::Supervisor, 0),
        ] {
            let agent = agent_row(row, role, capacity);
            stage.ask(HttpCommand::PutAgent { agent }).unwrap();
        }
        stage
    }

    /// Logins, texts, marks, a transfer, REST, an agent who leaves, a close; and a kill where `breaks` says so.
    fn live(&mut self, mut breaks: impl FnMut(&mut Self, &str)) {
        let (agent, other, visitor) = (self.agent(1), self.agent(2), self.visitor(1, 11));
        for client in [&agent, &other, &visitor] {
            self.enter(client);
        }
        self.send(&visitor, 1, Id::ABSENT, "hello");
        self.settle();
        let conversation = id(&self.take(&visitor, "send_result")[0], "conversation");
        for n in 1..=30 {
            self.send(&visitor, n + 1, conversation, &format!("question {n}"));
            self.ack(&visitor, conversation, n, n);
            self.now_us += 7_003;
            self.settle();
        }
        breaks(self, "in mid-chat");
        for client in [&agent, &other, &visitor] {
            self.announce(client);
        }
        let transfer = message::Command {
            op: fb::CommandOp::Transfer,
            conversation,
            agent: Id(2),
            ..Default::default()
        };
        self.command(&agent, transfer);
        let rest = HttpCommand::Send {
            by: actor(&visitor),
            conversation: None,
            text: "by REST".into(),
            key_hash: Some(5),
            page: "https://shop.example/secret".into(),
        };
        self.ask(rest).unwrap();
        let away = HttpCommand::SetStatus {
            by: actor(&other),
            agent: Id(2),
            status: AgentStatus::Offline,
        };
        self.ask(away).unwrap();
        breaks(self, "after the transfer");
        self.pass(60_000);
        for client in [&agent, &visitor] {
            self.announce(client);
        }
        self.settle();
        self.send(&visitor, 32, conversation, "the last word");
        self.command(&visitor, close_command(conversation));
        self.pass(1_000);
    }

    fn stop(&mut self) {
        let (now_us, seed) = (self.now_us, self.seed);
        self.turn.take().unwrap().stop(now_us, seed).unwrap();
    }

    /// Replays the journal into a database of that name.
    fn replay(&self, name: &str) -> (Result<Replayed, ReplayError>, PathBuf) {
        self.replay_in_time(name, &mut |_| {})
    }

    /// The same; whose time it is before each turn is told.
    fn replay_in_time(
        &self,
        name: &str,
        wait_until_due: &mut dyn FnMut(u64),
    ) -> (Result<Replayed, ReplayError>, PathBuf) {
        let database = self.directory.path().join(name);
        let replay = Replay {
            journal: self.journal.as_ref().unwrap(),
            database: &database,
            wait_until_due,
            tell: &mut |_| {},
        };
        (replay.run(), database)
    }

    /// The replay of the journal, which is whole, gives this database.
    fn replays_to_itself(&self, name: &str) -> Replayed {
        let (replayed, database) = self.replay(name);
        let replayed = replayed.unwrap();
        assert_eq!(replayed.tear, None);
        assert_eq!(dump_of(&self.database()), dump_of(&database));
        replayed
    }

    fn journal_files(&self) -> Vec<PathBuf> {
        let found = files(self.journal.as_ref().unwrap()).unwrap();
        found.into_iter().map(|(_, path)| path).collect()
    }
}

#[test]
fn a_journal_applied_to_a_fresh_store_gives_the_same_tables() {
    let mut stage = Stage::journalled(false);
    stage.live(|_, _| {});
    stage.stop();
    let replayed = stage.replays_to_itself("fresh.db");
    assert!(replayed.inputs > 60 && replayed.starts == 1, "{replayed:?}");
    let dump = dump_of(&stage.database());
    let rows = |table| {
        dump.tables
            .iter()
            .find(|one| one.table == table)
            .map(|one| one.rows)
    };
    assert!(rows("message").unwrap() >= 33, "{dump:?}");
    assert_eq!(rows("conversation"), Some(1));
}

#[test]
fn kills_before_and_after_a_commit_replay_to_the_same_tables() {
    let mut stage = Stage::journalled(false);
    stage.live(|stage, when| {
        // The turn is committed and nothing was published: the journal has not said that it was.
        if when == "in mid-chat" {
            let agent = agent_row(3, Role::Agent, 1);
            drop(stage.ask_later(HttpCommand::PutAgent { agent }));
            stage.seed += 1;
            let mut clock = (stage.now_us, stage.seed);
            stage.turn().step_without_publishing(&mut clock);
        } else {
            // The turn stands in the journal and is never committed.
            stage
                .faults
                .borrow_mut()
                .push_back(Some(CommitError::Full("planted".into())));
            let agent = agent_row(4, Role::Agent, 1);
            drop(stage.ask_later(HttpCommand::PutAgent { agent }));
            stage.step();
        }
        stage.restart();
    });
    stage.stop();
    let replayed = stage.replays_to_itself("fresh.db");
    assert_eq!(
        (replayed.starts, replayed.uncommitted),
        (3, 1),
        "{replayed:?}"
    );
}

#[test]
fn a_kill_behind_a_turn_that_changed_no_row_loses_nothing() {
    let mut stage = Stage::journalled(false);
    let visitor = stage.visitor(1, 11);
    stage.enter(&visitor);
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    stage.settle();
    let conversation = id(&stage.take(&visitor, "send_result")[0], "conversation");
    stage.type_in(&visitor, conversation);
    stage.settle();
    stage.restart();
    stage.announce(&visitor);
    stage.send(&visitor, 2, conversation, "still there?");
    stage.settle();
    stage.stop();
    assert_eq!(stage.replays_to_itself("fresh.db").starts, 2);
}

#[test]
fn turns_that_had_nothing_to_commit_before_a_kill_are_no_loss() {
    let mut stage = Stage::journalled(false);
    stage.live(|stage, _| {
        // A repeat is answered and changes no row.
        let visitor = stage.visitor(1, 11);
        for _ in 0..3 {
            stage.send(&visitor, 1, Id::ABSENT, "hello");
            stage.settle();
        }
        stage.restart();
    });
    stage.stop();
    assert_eq!(stage.replays_to_itself("fresh.db").starts, 3);
}

#[test]
fn a_commit_that_was_tried_again_is_replayed_once() {
    let mut stage = Stage::journalled(false);
    stage.live(|stage, _| {
        for _ in 0..3 {
            stage
                .faults
                .borrow_mut()
                .push_back(Some(CommitError::Busy("planted".into())));
        }
        let agent = agent_row(3, Role::Agent, 1);
        drop(stage.ask_later(HttpCommand::PutAgent { agent }));
        stage.step();
        for _ in 0..10 {
            stage.pass(500);
        }
    });
    assert!(stage.turn().counters().commit_retries >= 6);
    stage.stop();
    stage.replays_to_itself("fresh.db");
}

#[test]
fn another_time_or_another_seed_gives_another_database() {
    let mut stage = Stage::journalled(false);
    stage.live(|_, _| {});
    stage.stop();
    let was = dump_of(&stage.database());
    let file = &stage.journal_files()[0];
    let original = fs::read(file).unwrap();
    let changed = |name: &str, change: &mut dyn FnMut(u64, &mut u64, &mut u64)| {
        change_turns(file, change);
        let (replayed, database) = stage.replay(name);
        assert_eq!(replayed.unwrap().tear, None);
        fs::write(file, &original).unwrap();
        dump_of(&database)
    };
    assert_eq!(changed("same.db", &mut |_, _, _| {}), was);
    // The conversation begins in one of the first turns.
    assert_ne!(changed("seed.db", &mut |_, _, seed| *seed ^= 1), was);
    assert_ne!(changed("time.db", &mut |_, now_us, _| *now_us += 1), was);
    let one_turn = &mut |number, now_us: &mut u64, _: &mut u64| {
        if number == 20 {
            *now_us += 1;
        }
    };
    assert_ne!(
        changed("one.db", one_turn),
        was,
        "a microsecond of one turn"
    );
}

#[test]
fn a_replay_says_before_each_turn_when_it_was_recorded() {
    let mut stage = Stage::journalled(false);
    stage.live(|stage, _| stage.restart());
    stage.stop();
    let mut recorded = Vec::new();
    for file in stage.journal_files() {
        change_turns(&file, |_, now_us, _| recorded.push(*now_us));
    }
    let mut told = Vec::new();
    let (replayed, _) = stage.replay_in_time("paced.db", &mut |at_us| told.push(at_us));
    let replayed = replayed.unwrap();
    assert_eq!(told, recorded);
    assert!(told.is_sorted() && told.len() as u64 == replayed.turns);
    let ends = (told.first(), told.last());
    assert_eq!(ends, (Some(&replayed.from_us), Some(&replayed.to_us)));
    assert!(replayed.to_us - replayed.from_us > 250_000, "{replayed:?}");
}

#[test]
fn a_torn_journal_is_replayed_up_to_the_tear() {
    let mut stage = Stage::journalled(false);
    stage.live(|_, _| {});
    stage.kill();
    let whole = stage.replays_to_itself("whole.db");
    let file = stage.journal_files().pop().unwrap();
    let original = fs::read(&file).unwrap();

    fs::write(&file, &original[..original.len() - 3]).unwrap();
    let (cut, database) = stage.replay("cut.db");
    let cut = cut.unwrap();
    let tear = cut.tear.expect("it was cut off");
    assert!(tear.why.contains("middle") && tear.path == file, "{tear:?}");
    assert_eq!(
        cut.turns, whole.turns,
        "only the last word that all is well was cut off"
    );
    assert_eq!(dump_of(&database), dump_of(&stage.database()));

    let mut damaged = original.clone();
    let middle = original.len() / 2;
    damaged[middle] ^= 0x10;
    fs::write(&file, &damaged).unwrap();
    let (half, _) = stage.replay("half.db");
    let half = half.unwrap();
    let tear = half.tear.clone().expect("it is damaged");
    assert!(tear.at <= middle as u64 && tear.at > 100, "{tear:?}");
    assert!(half.turns > 5 && half.turns < whole.turns, "{half:?}");

    // Wherever it is cut, what is there is replayed or refused in words.
    for end in (0..original.len()).step_by(211) {
        fs::write(&file, &original[..end]).unwrap();
        let (replayed, database) = stage.replay("some.db");
        match replayed {
            Ok(replayed) => assert!(replayed.turns <= whole.turns),
            Err(error) => assert!(error.to_string().contains("begins a journal"), "{error}"),
        }
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", database.display()));
        }
    }
}

#[test]
fn a_journal_of_a_database_that_was_there_begins_with_its_copy() {
    let mut stage = Stage::new();
    stage.pass(10);
    stage.journal = Some(stage.directory.path().join("journal"));
    stage.restart();
    stage.live(|stage, _| stage.restart());
    stage.stop();
    let replayed = stage.replays_to_itself("copy.db");
    assert_eq!(
        replayed.starts, 3,
        "a start that follows another one makes no copy"
    );

    // Somebody changes the database while no journal is written: the next start begins a chapter of its own.
    let journal = stage.journal.take();
    stage.start();
    let agent = agent_row(7, Role::Agent, 1);
    stage.ask(HttpCommand::PutAgent { agent }).unwrap();
    stage.kill();
    stage.journal = journal;
    stage.start();
    stage.pass(5_000);
    stage.stop();
    assert_eq!(stage.replays_to_itself("again.db").starts, 1);
}

#[test]
fn a_start_that_finds_another_database_than_the_replay_is_told_of() {
    let mut stage = Stage::journalled(false);
    stage.live(|stage, when| {
        if when == "in mid-chat" {
            stage.restart();
        }
    });
    stage.stop();
    // A turn before the restart did something else than it did then.
    change_turns(&stage.journal_files()[0], |_, now_us, _| *now_us += 1);
    let (replayed, _) = stage.replay("other.db");
    let error = replayed.unwrap_err();
    assert!(matches!(error, ReplayError::Diverged { .. }), "{error}");
}

#[test]
fn a_masked_journal_holds_no_text_and_replays_to_the_same_shape() {
    let mut stage = Stage::journalled(true);
    stage.live(|stage, _| stage.restart());
    stage.stop();
    for file in stage.journal_files() {
        let bytes = fs::read(file).unwrap();
        for written in ["question", "hello", "REST", "shop.example", "secret"] {
            let found = bytes
                .windows(written.len())
                .any(|window| window == written.as_bytes());
            assert!(!found, "{written} stands in the journal");
        }
    }
    let (replayed, database) = stage.replay("masked.db");
    assert_eq!(replayed.unwrap().tear, None);
    let (was, is) = (dump_of(&stage.database()), dump_of(&database));
    assert_ne!(was, is);
    let differing: Vec<&str> = was
        .tables
        .iter()
        .zip(&is.tables)
        .filter(|(was, is)| was.digest != is.digest)
        .map(|(was, is)| {
            assert_eq!(was.rows, is.rows, "{}", was.table);
            was.table.as_str()
        })
        .collect();
    let with_texts = [
        "agent",
        "conversation",
        "idempotency_key",
        "message",
        "session",
        "visitor",
    ];
    assert!(
        differing.iter().all(|table| with_texts.contains(table)),
        "{differing:?}"
    );
}

/// A text that breaks the engine twice and is put aside; the panic's own words quote it.
fn put_aside(stage: &mut Stage) {
    let bad = stage.visitor(4, 44);
    stage.enter(&bad);
    stage.send(&bad, 1, Id::ABSENT, POISON_TEXT);
    for _ in 0..100 {
        match catch_unwind(AssertUnwindSafe(|| stage.step())) {
            Ok(Stepped::Idle { .. }) => break,
            Ok(_) => {}
            Err(_) => {
                let error = format!("end byte index 3 is not a char boundary of `{POISON_TEXT}`");
                stage.suspect = Some(stage.turn().careful_mut().broken(&error));
                stage.restart();
            }
        }
        stage.read_all();
    }
    stage.settle();
}

/// What is in a database, masked as the journal masks it.
fn masked_dump_of(stage: &Stage, name: &str) -> Dump {
    let place = Place {
        path: stage.database(),
        vfs: None,
        busy_ms_max: 1_000,
        cache_bytes: 1 << 20,
        mmap_bytes: 0,
    };
    let copy = stage.directory.path().join(name);
    let mut mask = Mask::new(b"secret");
    backup::backup_by(&place, &copy, |source, target| {
        copy_masked(source, target, &mut mask)
    })
    .unwrap();
    backup::unmark(&copy).unwrap();
    dump_of(&copy)
}

#[test]
fn a_masked_journal_of_a_database_with_chats_begins_with_a_masked_copy() {
    let mut stage = Stage::new();
    let mut agent = agent_row(1, Role::Agent, 3);
    agent.password_hash = "$argon2id$planted-hash".into();
    stage.ask(HttpCommand::PutAgent { agent }).unwrap();
    stage.live(|_, _| {});
    let talkative = stage.visitor(3, 33);
    stage.enter(&talkative);
    let long = "a long confession ".repeat(200);
    stage.send(&talkative, 1, Id::ABSENT, &long);
    stage.settle();
    put_aside(&mut stage);
    // What was erased before lies on free pages of the original.
    stage.kill();
    let rows = |table| {
        let dump = dump_of(&stage.database());
        let found = dump.tables.into_iter().find(|one| one.table == table);
        found.map(|one| one.rows)
    };
    assert_eq!((rows("long_text"), rows("quarantine")), (Some(1), Some(1)));
    assert!(rows("message") > Some(33) && rows("idempotency_key") == Some(1));

    // From here on with a journal. What was said before is said again, and answered as it was then.
    (stage.journal, stage.journal_masked) = (Some(stage.directory.path().join("journal")), true);
    stage.start();
    stage.announce(&talkative);
    stage.take_all(&talkative);
    stage.send(&talkative, 1, Id::ABSENT, &long);
    stage.settle();
    let repeated = stage.take(&talkative, "send_result").pop().unwrap();
    assert_eq!(outcome(&repeated), "duplicate");
    stage.send(&talkative, 2, Id::ABSENT, &long);
    stage.live(|stage, _| stage.restart());
    put_aside(&mut stage);
    stage.stop();

    let masked = masked_dump_of(&stage, "masked-original.db");
    assert_ne!(masked, dump_of(&stage.database()));
    for name in ["once.db", "twice.db"] {
        let (replayed, database) = stage.replay(name);
        let replayed = replayed.unwrap();
        assert_eq!((replayed.tear, replayed.masked), (None, true));
        assert!(replayed.starts >= 3, "a copy is made for the first alone");
        assert_eq!(dump_of(&database), masked);
    }
    let path = stage.journal.clone().unwrap();
    let kept: Vec<PathBuf> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("journal.")
        })
        .collect();
    let copies = kept
        .iter()
        .filter(|path| path.extension().is_some_and(|it| it == "db"));
    assert_eq!(copies.count(), 1, "{kept:?}");
    let poison_hex: String = POISON_TEXT
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let written = [
        "question",
        "hello",
        "by REST",
        "shop.example",
        "secret",
        "confession",
        "planted-hash",
        "the last word",
        POISON_TEXT,
        &poison_hex,
    ];
    let holds = |path: &Path, written: &str| {
        let bytes = fs::read(path).unwrap();
        bytes
            .windows(written.len())
            .any(|window| window == written.as_bytes())
    };
    for written in written {
        for path in &kept {
            assert!(!holds(path, written), "{written} stands in {path:?}");
        }
    }
    assert!(
        holds(&stage.database(), "confession"),
        "they were there to be found"
    );
    let mode = fs::metadata(&kept[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_a_moderator_ruled_is_in_the_journal_and_a_replay_asks_nobody() {
    let mut stage = Stage::journalled(false);
    let double = moderate(&mut stage, ModerationDefault::Allow);
    let visitor = stage.visitor(1, 11);
    stage.enter(&visitor);
    let rulings = [
        ("hello", Verdict::Allow),
        ("rude", Verdict::Refuse("be polite".into())),
        (
            "my card is 1234",
            Verdict::Replace("my card is ****".into()),
        ),
    ];
    for (n, (text, verdict)) in [1, 2, 2].into_iter().zip(rulings) {
        stage.send(&visitor, n, Id::ABSENT, text);
        stage.settle();
        double.answer(text, verdict);
        stage.settle();
    }
    stage.send(&visitor, 3, Id::ABSENT, "nobody looks at this one");
    stage.pass(1_000);
    assert_eq!(stage.ledger().total().accepted, 3);
    stage.stop();
    stage.replays_to_itself("fresh.db");
}

#[test]
fn a_session_with_a_translator_and_a_bot_replays_without_either() {
    for masked in [false, true] {
        let mut stage = Stage::journalled(masked);
        let translator = Translator::default();
        stage.turn().set_stages(vec![translation(&translator)]);
        let bot = set_bot(&mut stage);
        let visitor = stage.visitor(1, 11);
        stage.enter(&visitor);
        stage.send(&visitor, 1, Id::ABSENT, "when do you open");
        stage.settle();
        translator.answer(
            "when do you open",
            Verdict::Replace("when do you open / 几点开门".into()),
        );
        stage.settle();
        bot.answer(
            "when do you open / 几点开门",
            BotAnswer::Say("at nine in the morning".into()),
        );
        stage.settle();
        let mut rest = stage.ask_later(HttpCommand::Send {
            by: actor(&visitor),
            conversation: None,
            text: "by REST".into(),
            key_hash: Some(5),
            page: String::new(),
        });
        stage.settle();
        translator.answer("by REST", Verdict::Replace("by REST, translated".into()));
        stage.settle();
        rest.try_recv().unwrap().unwrap();
        bot.answer("by REST, translated", BotAnswer::Nothing);
        stage.settle();
        // An agent takes it: what the bot says now is an input, too, that leads to nothing.
        stage.send(&visitor, 2, Id::ABSENT, "hello");
        stage.settle();
        translator.answer("hello", Verdict::Allow);
        stage.settle();
        let agent = stage.agent(1);
        stage.enter(&agent);
        bot.answer("hello", BotAnswer::Say("too late".into()));
        stage.pass(1_000);
        let tally = stage.turn().engine().tally().clone();
        assert_eq!(
            (tally.bot_said, tally.bot_dropped, tally.accepted),
            (1, 1, 4)
        );
        stage.stop();
        let (replayed, database) = stage.replay("fresh.db");
        assert_eq!(replayed.unwrap().tear, None);
        let (was, is) = (dump_of(&stage.database()), dump_of(&database));
        if masked {
            let rows = |dump: &Dump| -> Vec<_> {
                let tables = dump.tables.iter();
                tables.map(|one| (one.table.clone(), one.rows)).collect()
            };
            assert_eq!(rows(&was), rows(&is));
            for file in stage.journal_files() {
                let bytes = fs::read(file).unwrap();
                for written in ["translated", "morning", "when do"] {
                    let mut windows = bytes.windows(written.len());
                    let found = windows.any(|window| window == written.as_bytes());
                    assert!(!found, "{written} stands in the journal");
                }
            }
        } else {
            assert_eq!(was, is);
        }
    }
}

#[test]
fn a_journal_at_its_bound_ends_and_the_chat_goes_on() {
    let mut stage = Stage::journalled(false);
    stage.kill();
    stage.journal_bounds = JournalBounds {
        file_bytes_max: 2_000,
        bytes_max: 8_000,
    };
    stage.start();
    stage.live(|_, _| {});
    let kept: u64 = stage
        .journal_files()
        .iter()
        .map(|file| fs::metadata(file).unwrap().len())
        .sum();
    assert!(kept < 12_000, "{kept}");
    let accepted = stage.turn().engine().tally().accepted;
    assert!(accepted >= 32, "{accepted}");
    // The next start knows that the journal is of no use any more, and makes room by its chapter.
    stage.journal_bounds.bytes_max = 64 << 20;
    stage.restart();
    stage.pass(1_000);
    stage.stop();
    assert_eq!(stage.replays_to_itself("new.db").starts, 1);
}

#[test]
fn a_long_journal_rotates_and_replays_over_all_its_files() {
    let mut stage = Stage::journalled(false);
    stage.kill();
    stage.journal_bounds.file_bytes_max = 3_000;
    stage.start();
    stage.live(|_, _| {});
    stage.stop();
    let files = stage.journal_files();
    assert!(files.len() > 3, "{}", files.len());
    stage.replays_to_itself("rotated.db");
    fs::remove_file(&files[files.len() - 2]).unwrap();
    let (replayed, _) = stage.replay("gap.db");
    let tear = replayed.unwrap().tear.expect("a file is missing");
    assert!(tear.why.contains("not there"), "{tear}");
}
