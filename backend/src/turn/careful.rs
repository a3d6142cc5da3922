//! After a broken end: which input was it?
//!
//! A panic names the input that was being applied; a commit that can never succeed names it when the turn had only
//! one. The process ends and notes that in a small file beside the database. The next start is careful: inputs one
//! per transaction until the leftovers are through and who was told to come back has asked again, so that the next break
//! names its input for certain. An input that broke two ends is not applied a third time: it goes into quarantine. It
//! is known again by its place in a ring or by what it says: a client that asks again takes another place.
//!
//! The file is a note, not a promise: if it is lost, one more restart finds the input again.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Breaks after which an input is put aside.
const BREAKS_MAX: u32 = 2;

/// How long inputs stay alone after the leftovers: a client that was told to come back asks again within that.
const ALONE_US: u64 = 5_000_000;

/// So much of an input is compared: a message's id stands at its front.
const COMPARED_BYTES_MAX: usize = 256;

/// What an input says and who says it, in short: two inputs with the same are taken for the same.
#[must_use]
pub fn content(principal: u128, payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u128(principal);
    hasher.write_usize(payload.len());
    hasher.write(&payload[..payload.len().min(COMPARED_BYTES_MAX)]);
    hasher.finish()
}

/// One place in a ring: the end of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Gateway.
    pub gateway: u64,
    /// Ring.
    pub shard: u16,
    /// Position behind the record.
    pub position: u64,
}

/// An input under suspicion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// Where it lies; `None`: it could not be told.
    pub place: Option<Place>,
    /// Its [`content`]; `None` as above.
    pub content: Option<u64>,
    /// How often it broke the engine.
    pub breaks: u32,
    /// How.
    pub error: String,
}

impl Suspect {
    fn is(&self, (place, content): (Place, u64)) -> bool {
        self.place == Some(place) || self.content == Some(content)
    }
}

/// What to do with an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As ever.
    Apply,
    /// It broke the engine twice.
    Quarantine {
        /// How.
        error: String,
    },
}

/// How careful this turn is.
#[derive(Debug, Default)]
pub struct Careful {
    on: bool,
    suspect: Option<Suspect>,
    note: Option<PathBuf>,
    /// What is being applied: its place and its content.
    applying: Option<(Place, u64)>,
    /// The leftovers are through, and until then inputs stay alone.
    alone_until_us: Option<u64>,
    broke: Option<Suspect>,
}

impl Careful {
    /// As the note of an earlier end says; without one, not careful.
    ///
    /// # Errors
    /// If there is a note and it cannot be read. (One that makes no sense counts as naming nothing.)
    pub fn from_note(note: &Path) -> io::Result<Self> {
        let suspect = match fs::read(note) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap_or(Suspect {
                place: None,
                content: None,
                breaks: 1,
                error: "an earlier end left an unreadable note".to_owned(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            on: suspect.is_some(),
            suspect,
            note: Some(note.to_owned()),
            applying: None,
            alone_until_us: None,
            broke: None,
        })
    }

    /// Without a file, for tests and the simulator: `suspect` is what an earlier turn's [`Careful::broken`] said.
    #[must_use]
    pub const fn after(suspect: Option<Suspect>) -> Self {
        Self {
            on: suspect.is_some(),
            suspect,
            note: None,
            applying: None,
            alone_until_us: None,
            broke: None,
        }
    }

    /// Inputs one per transaction?
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.on
    }

    /// An input of a ring is about to be applied.
    pub fn before(&mut self, gateway: u64, shard: u16, position: u64, content: u64) -> Verdict {
        let place = Place {
            gateway,
            shard,
            position,
        };
        self.applying = Some((place, content));
        match &self.suspect {
            Some(suspect) if suspect.breaks >= BREAKS_MAX && suspect.is((place, content)) => {
                Verdict::Quarantine {
                    error: suspect.error.clone(),
                }
            }
            _ => Verdict::Apply,
        }
    }

    /// Something that came out of no ring is about to be applied: it dies with the process, nothing is left of it.
    pub const fn before_other(&mut self) {
        self.applying = None;
    }

    /// All leftovers are through; [`ALONE_US`] after the first such call care ends.
    pub fn leftovers_done(&mut self, now_us: u64) {
        if !self.on || now_us < *self.alone_until_us.get_or_insert(now_us + ALONE_US) {
            return;
        }
        self.on = false;
        tracing::info!("the leftovers of a broken end are through");
        self.suspect = None;
        if let Some(note) = &self.note
            && let Err(error) = fs::remove_file(note)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, note = %note.display(), "the note of a broken end stays");
        }
    }

    /// A commit can never succeed.
    pub fn commit_broke(&mut self, alone: bool, error: &str) {
        if !alone {
            self.applying = None;
        }
        self.broken(error);
    }

    /// The store itself broke: whatever was being applied is not to blame.
    pub fn store_broke(&mut self, error: &str) {
        self.commit_broke(false, error);
    }

    /// The turn broke; says what the next start has to know, and notes it.
    pub fn broken(&mut self, error: &str) -> Suspect {
        if let Some(broke) = &self.broke {
            return broke.clone();
        }
        let before = self
            .suspect
            .as_ref()
            .filter(|suspect| self.applying.is_some_and(|applying| suspect.is(applying)));
        let breaks = before.map_or(0, |suspect| suspect.breaks) + 1;
        let suspect = Suspect {
            place: self.applying.map(|(place, _)| place),
            content: self.applying.map(|(_, content)| content),
            breaks,
            error: error.to_owned(),
        };
        if let Some(note) = &self.note {
            let json =
                serde_json::to_vec(&suspect).expect("invariant: a note has only string keys");
            if let Err(error) = fs::write(note, json) {
                tracing::warn!(%error, note = %note.display(), "cannot note which input broke the turn");
            }
        }
        self.broke = Some(suspect.clone());
        suspect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_put_aside_after_its_second_break_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let note = directory.path().join("note");
        let mut first = Careful::from_note(&note).unwrap();
        assert!(!first.is_on());
        assert_eq!(first.before(1, 0, 640, 64), Verdict::Apply);
        first.broken("panic");

        let mut second = Careful::from_note(&note).unwrap();
        assert!(second.is_on());
        assert_eq!(second.before(1, 0, 320, 32), Verdict::Apply);
        assert_eq!(second.before(1, 0, 640, 64), Verdict::Apply);
        second.broken("panic again");

        let mut third = Careful::from_note(&note).unwrap();
        assert_eq!(third.before(1, 0, 320, 32), Verdict::Apply);
        assert_eq!(
            third.before(1, 0, 640, 64),
            Verdict::Quarantine {
                error: "panic again".to_owned()
            }
        );
        third.leftovers_done(7);
        assert!(third.is_on(), "who was told busy may ask again");
        third.leftovers_done(7 + ALONE_US);
        assert!(!third.is_on());
        assert!(!Careful::from_note(&note).unwrap().is_on());
    }

    #[test]
    fn an_input_that_is_sent_again_to_another_place_is_known_by_what_it_says() {
        let mut first = Careful::default();
        first.before(1, 0, 640, 64);
        let mut second = Careful::after(Some(first.broken("panic")));
        assert_eq!(second.before(2, 1, 128, 64), Verdict::Apply);
        let mut third = Careful::after(Some(second.broken("panic")));
        assert!(matches!(
            third.before(3, 0, 64, 64),
            Verdict::Quarantine { .. }
        ));
        assert_eq!(third.before(3, 0, 128, 65), Verdict::Apply);
        assert_ne!(content(1, b"hello"), content(2, b"hello"));
        assert_ne!(content(1, b"hello"), content(1, b"hallo"));
    }

    #[test]
    fn an_input_that_was_there_when_the_disk_failed_is_not_to_blame() {
        let mut careful = Careful::default();
        careful.before(1, 0, 640, 64);
        careful.store_broke("fsync");
        assert_eq!(careful.broken("fsync").place, None);
    }

    #[test]
    fn a_break_of_a_whole_turn_blames_nobody_yet() {
        let mut careful = Careful::default();
        careful.before(1, 0, 640, 64);
        careful.commit_broke(false, "constraint");
        assert_eq!(careful.broken("").place, None);
    }
}
