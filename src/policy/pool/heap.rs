/// How many of the front are looked at where the first alone does not decide.
pub(super) const FRONT: usize = 8;
/// And where nobody must be put off who could be served sooner.
pub(super) const WIDE_FRONT: usize = 32;
/// Children of an entry: four make the tree half as deep as two, and lie in one line of cache.
const FAN: usize = 4;
const ABSENT: u32 = u32::MAX;

/// A rank and, below it, a number: one comparison decides, and equals come in their numbers'
/// order.
type Entry = u128;

const fn entry(rank: u64, id: u32) -> Entry {
    (rank as u128) << 32 | id as u128
}

const fn rank_of(entry: Entry) -> u64 {
    (entry >> 32) as u64
}

const fn id_of(entry: Entry) -> u32 {
    entry as u32
}

/// Numbers in the order of their ranks, each of which can be changed in place: a four-way heap
/// that knows where everything is. Every change costs a number of steps that grows with the
/// logarithm of what is in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Heap {
    entries: Vec<Entry>,
    /// Where each number is.
    places: Vec<u32>,
    /// How many entries have been looked at or moved.
    #[cfg(test)]
    pub(super) steps: u64,
}

impl Heap {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn contains(&self, id: u32) -> bool {
        self.places
            .get(id as usize)
            .is_some_and(|&place| place != ABSENT)
    }

    /// The first, with its rank.
    #[inline]
    pub(super) fn first(&self) -> Option<(u64, u32)> {
        let first = *self.entries.first()?;
        Some((rank_of(first), id_of(first)))
    }

    /// Up to so many of the first: all there are if they are that few, otherwise the very first
    /// and others near to it.
    #[inline]
    pub(super) fn front(&self, most: usize) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().take(most).copied().map(id_of)
    }

    /// Gives `id` this rank, wherever it was.
    #[inline]
    pub(super) fn set(&mut self, id: u32, rank: u64) {
        let index = id as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, ABSENT);
        }
        let entry = entry(rank, id);
        let place = match self.places[index] {
            ABSENT => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
            place => place as usize,
        };
        self.sift(place, entry);
    }

    /// Takes `id` out if it is in.
    #[inline]
    pub(super) fn remove(&mut self, id: u32) {
        let Some(place) = self.places.get_mut(id as usize) else {
            return;
        };
        let place = std::mem::replace(place, ABSENT) as usize;
        if place == ABSENT as usize {
            return;
        }
        let last = self.entries.pop().expect("it holds this one");
        if place < self.entries.len() {
            self.sift(place, last);
        }
    }

    /// Puts `entry` at `place`, or where it belongs from there.
    #[inline]
    fn sift(&mut self, mut place: usize, entry: Entry) {
        while place > 0 {
            let parent = (place - 1) / FAN;
            self.step();
            if self.entries[parent] <= entry {
                break;
            }
            self.put(place, self.entries[parent]);
            place = parent;
        }
        loop {
            let start = place * FAN + 1;
            let end = (start + FAN).min(self.entries.len());
            let children = self.entries.get(start..end).unwrap_or_default();
            let Some(&first) = children.iter().min() else {
                break;
            };
            self.step();
            if first >= entry {
                break;
            }
            let child = self.places[id_of(first) as usize] as usize;
            self.put(place, first);
            place = child;
        }
        self.put(place, entry);
    }

    #[inline]
    fn put(&mut self, place: usize, entry: Entry) {
        self.entries[place] = entry;
        self.places[id_of(entry) as usize] = place as u32;
    }

    #[inline]
    fn step(&mut self) {
        #[cfg(test)]
        {
            self.steps += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_keeps_the_order_of_a_sorted_set(
            changes in prop::collection::vec((0..40_u32, prop::option::of(0..20_u64)), 1..200),
        ) {
            let (mut heap, mut model) = (Heap::default(), BTreeSet::new());
            for (id, rank) in changes {
                model.retain(|&(_, other)| other != id);
                match rank {
                    Some(rank) => {
                        heap.set(id, rank);
                        model.insert((rank, id));
                    }
                    None => heap.remove(id),
                }
                prop_assert_eq!(heap.first(), model.first().copied());
                prop_assert_eq!(heap.len(), model.len());
                prop_assert_eq!(heap.front(FRONT).count(), model.len().min(FRONT));
            }
            while let Some(first) = model.pop_first() {
                prop_assert_eq!(heap.first(), Some(first));
                heap.remove(first.1);
            }
            prop_assert_eq!(heap.len(), 0);
        }
    }
}
