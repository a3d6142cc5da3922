//! What is known of people beside their connections and conversations: only of those who are connected or have an
//! open conversation, so nothing grows with everybody who ever came.

use tidegate_protocol::Id;

use super::kinds::Family;
use super::pages::{IdIndex, Pages};
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
    numbers: IdIndex,
    people: Pages<(Id, Person)>,
    /// Numbers of those who were forgotten.
    free: Vec<u32>,
    locales: Vec<Box<str>>,
}

impl Default for People {
    fn default() -> Self {
        Self {
            numbers: IdIndex::default(),
            people: Pages::default(),
            free: Vec::new(),
            locales: vec!["".into()],
        }
    }
}

impl People {
    /// One person, if known.
    pub fn get(&self, id: Id) -> Option<&Person> {
        let (_, person) = self.people.get(self.number(id)? as usize)?;
        Some(person)
    }

    fn number(&self, id: Id) -> Option<u32> {
        self.numbers.find(id, |number| id_of(&self.people, number))
    }

    /// One person, made when unknown.
    ///
    /// # Panics
    /// Never: a number in the index is in the table.
    pub fn entry(&mut self, id: Id) -> &mut Person {
        let number = self.number(id).unwrap_or_else(|| self.add(id));
        let entry = self.people.get_mut(number as usize);
        &mut entry
            .expect("invariant: a number in the index is in the table")
            .1
    }

    fn add(&mut self, id: Id) -> u32 {
        let newcomer = (id, Person::default());
        let free = self.free.pop();
        let number = match free.and_then(|free| Some((free, self.people.get_mut(free as usize)?))) {
            Some((free, entry)) => {
                *entry = newcomer;
                free
            }
            None => u32::try_from(self.people.push(newcomer))
                .expect("invariant: fewer people than 2^32"),
        };
        self.numbers
            .set(id, number, |number| id_of(&self.people, number));
        number
    }

    /// Nobody needs to know them any more.
    pub fn forget(&mut self, id: Id) {
        let people = &self.people;
        let Some(number) = self.numbers.remove(id, |number| id_of(people, number)) else {
            return;
        };
        if let Some(entry) = self.people.get_mut(number as usize) {
            *entry = (Id::ABSENT, Person::default());
        }
        self.free.push(number);
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
        self.get(id)
            .map_or("", |person| &self.locales[usize::from(person.locale)])
    }
}

fn id_of(people: &Pages<(Id, Person)>, number: u32) -> Option<Id> {
    people.get(number as usize).map(|(id, _)| *id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_forgotten_is_nobody_and_the_place_is_the_next_ones() {
        let mut people = People::default();
        for id in 1..=1_000 {
            people.entry(Id(id)).widget = u32::try_from(id).unwrap();
        }
        for id in (1..=1_000).step_by(2) {
            people.forget(Id(id));
            people.forget(Id(id));
        }
        for id in 2_001..=2_500 {
            people.entry(Id(id)).name = id.to_string().into();
        }
        assert_eq!(people.people.len(), 1_000, "no place was left empty");
        for id in 1..=1_000 {
            let widget = people.get(Id(id)).map(|person| person.widget);
            assert_eq!(widget, (id % 2 == 0).then(|| u32::try_from(id).unwrap()));
        }
        let newcomer = people.get(Id(2_001)).unwrap();
        assert_eq!((&*newcomer.name, newcomer.widget), ("2001", 0));
        assert!(people.get(Id(3_000)).is_none());
    }
}
