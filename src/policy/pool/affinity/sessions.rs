use std::collections::HashMap;

use crate::policy::Timestamp;

use super::{super::ModelId, Load};

const NONE: u32 = u32::MAX;

/// A lane, as long as it is the same: numbers of lanes are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy::pool) struct Place {
    pub(in crate::policy::pool) lane: u32,
    pub(in crate::policy::pool) serial: u32,
}

/// Who asks: the hash of a session, and its model, because prompts are cached for a model.
pub(super) type Who = (u64, ModelId);

/// Where the calls of a session go.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy::pool) struct Session {
    who: Who,
    /// Where they belong.
    pub(super) home: Place,
    /// Where they go: elsewhere while home cannot serve.
    pub(super) at: Place,
    /// Which key of that they use.
    pub(super) key: Option<u32>,
    /// Which they used at home, while they are elsewhere.
    pub(super) home_key: Option<u32>,
    pub(super) load: Load,
    /// It moves for no load before this instant.
    pub(super) settled: Timestamp,
    newer: u32,
    older: u32,
}

/// The sessions used last, up to a number.
#[derive(Clone, Debug)]
pub(in crate::policy::pool) struct Sessions {
    most: usize,
    places: HashMap<Who, u32>,
    list: Vec<Session>,
    newest: u32,
    oldest: u32,
}

impl Sessions {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            places: HashMap::new(),
            list: Vec::new(),
            newest: NONE,
            oldest: NONE,
        }
    }

    pub(in crate::policy::pool) fn len(&self) -> usize {
        self.list.len()
    }

    /// Keeps no more than this. Where it has more they are all forgotten: a reload with another
    /// number is rare, and hashing finds most of them the same place again.
    pub(in crate::policy::pool) fn set_most(&mut self, most: usize) {
        if self.list.len() > most {
            *self = Self::new(most);
        }
        self.most = most;
    }

    /// The number of a session, which is then the last to be forgotten.
    pub(super) fn find(&mut self, who: Who) -> Option<u32> {
        let number = self.peek(who)?;
        if self.newest != number {
            self.unlink(number);
            self.link(number);
        }
        Some(number)
    }

    pub(super) fn peek(&self, who: Who) -> Option<u32> {
        self.places.get(&who).copied()
    }

    pub(super) fn get(&self, number: u32) -> &Session {
        &self.list[number as usize]
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut Session {
        &mut self.list[number as usize]
    }

    /// Remembers a new session, in the place of the one that was used longest ago if there are many.
    pub(super) fn add(&mut self, who: Who, place: Place, settled: Timestamp) {
        let session = Session {
            who,
            home: place,
            at: place,
            key: None,
            home_key: None,
            load: Load::default(),
            settled,
            newer: NONE,
            older: NONE,
        };
        let number = if self.list.len() < self.most {
            self.list.push(session);
            self.list.len() as u32 - 1
        } else {
            let number = self.oldest;
            self.unlink(number);
            let forgotten = self.get(number).who;
            self.places.remove(&forgotten);
            *self.get_mut(number) = session;
            number
        };
        self.places.insert(who, number);
        self.link(number);
    }

    fn link(&mut self, number: u32) {
        let newest = std::mem::replace(&mut self.newest, number);
        let session = self.get_mut(number);
        (session.newer, session.older) = (NONE, newest);
        match newest {
            NONE => self.oldest = number,
            newest => self.get_mut(newest).newer = number,
        }
    }

    fn unlink(&mut self, number: u32) {
        let Session { newer, older, .. } = *self.get(number);
        match newer {
            NONE => self.newest = older,
            newer => self.get_mut(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.get_mut(older).newer = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: Place = Place { lane: 0, serial: 0 };

    proptest! {
        #[test]
        fn the_sessions_used_last_are_remembered_and_no_more(
            most in 1..6_usize,
            used in prop::collection::vec(0..12_u64, 1..200),
        ) {
            let mut sessions = Sessions::new(most);
            let mut model: Vec<u64> = Vec::new();
            for session in used {
                let who = (session, ModelId(0));
                prop_assert_eq!(sessions.find(who).is_some(), model.contains(&session));
                if sessions.peek(who).is_none() {
                    sessions.add(who, HERE, Timestamp::ZERO);
                }
                model.retain(|other| *other != session);
                model.push(session);
                if model.len() > most {
                    model.remove(0);
                }
                prop_assert_eq!(sessions.len(), model.len());
                prop_assert_eq!(sessions.places.len(), model.len());
                for (who, number) in &sessions.places {
                    prop_assert!(model.contains(&who.0));
                    prop_assert_eq!(sessions.get(*number).who, *who);
                }
            }
        }
    }
}
