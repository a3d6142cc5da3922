//! What is known of people beside their connections and conversations: only of those who are connected or have an
//! open conversation, so nothing grows with everybody who ever came.

use std::collections::HashMap;

use tidegate_protocol::Id;

use super::kinds::Family;
use super::rate::Bucket;

/// Locales that are told apart; further ones count as unknown. Visitors choose them, so the table is bounded.
const LOCALES_MAX: usize = 256;

/// One person.
#[derive(Debug, Default)]
pub struct Person {
    /// What they call themselves.
    pub name: Box<str>,
    /// Where they are, by the newest Hello.
    pub page: Box<str>,
    /// The visitor's widget; 0 = not known.
    pub widget: u32,
    /// Index in the table of locales.
    locale: u16,
    /// By the newest Hello.
    pub family: Option<Family>,
    /// What they may send.
    pub bucket: Bucket,
}

/// Everybody who matters now.
#[derive(Debug)]
pub struct People {
    people: HashMap<Id, Person>,
    locales: Vec<Box<str>>,
}

impl Default for People {
    fn default() -> Self {
        Self {
            people: HashMap::new(),
            locales: vec!["".into()],
        }
    }
}

impl People {
    /// One person, if known.
    pub fn get(&self, id: Id) -> Option<&Person> {
        self.people.get(&id)
    }

    /// One person, made when unknown.
    pub fn entry(&mut self, id: Id) -> &mut Person {
        self.people.entry(id).or_default()
    }

    /// Nobody needs to know them any more.
    pub fn forget(&mut self, id: Id) {
        self.people.remove(&id);
    }

    /// Sets a person's locale.
    pub fn set_locale(&mut self, id: Id, locale: &str) {
        let known = self.locales.iter().position(|known| **known == *locale);
        let index = known.unwrap_or_else(|| {
            if self.locales.len() < LOCALES_MAX {
                self.locales.push(locale.into());
                self.locales.len() - 1
            } else {
                0
            }
        });
        self.entry(id).locale = u16::try_from(index).unwrap_or(0);
    }

    /// A person's locale.
    pub fn locale_of(&self, id: Id) -> &str {
        self.people
            .get(&id)
            .map_or("", |person| &self.locales[usize::from(person.locale)])
    }
}
