/// What comes first, and what decides between equals.
pub(super) type Rank = (u64, u64);

/// How many of the front are looked at where the first alone does not decide.
pub(super) const FRONT: usize = 8;
/// Children of an entry: four make the tree half as deep as two, and lie in one line of cache.
const FAN: usize = 4;
const ABSENT: u32 = u32::MAX;

/// Numbers in the order of their ranks, each of which can be changed in place: a four-way heap
/// that knows where everything is. Every change costs a number of steps that grows with the
/// logarithm of what is in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Heap {
    entries: Vec<(Rank, u32)>,
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

    /// The first, with its rank.
    #[inline]
    pub(super) fn first(&self) -> Option<(Rank, u32)> {
        self.entries.first().copied()
    }

    /// Up to [`FRONT`] of the first: all there are if they are that few, otherwise the very
    /// first and others near to it.
    #[inline]
    pub(super) fn front(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().take(FRONT).map(|&(_, id)| id)
    }

    /// Gives `id` this rank, wherever it was.
    #[inline]
    pub(super) fn set(&mut self, id: u32, rank: Rank) {
        let index = id as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, ABSENT);
        }
        let place = match self.places[index] {
            ABSENT => {
                self.entries.push((rank, id));
                self.entries.len() - 1
            }
            place if self.entries[place as usize].0 == rank => return,
            place => {
                self.entries[place as usize].0 = rank;
                place as usize
            }
        };
        self.sift(place);
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
        self.entries.swap_remove(place);
        if place < self.entries.len() {
            self.sift(place);
        }
    }

    /// Moves the entry at `place` to where it belongs.
    #[inline]
    fn sift(&mut self, mut place: usize) {
        let entry = self.entries[place];
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
            let first = place * FAN + 1;
            let end = (first + FAN).min(self.entries.len());
            let Some(child) = (first..end).min_by_key(|&child| self.entries[child]) else {
                break;
            };
            self.step();
            if self.entries[child] >= entry {
                break;
            }
            self.put(place, self.entries[child]);
            place = child;
        }
        self.put(place, entry);
    }

    #[inline]
    fn put(&mut self, place: usize, entry: (Rank, u32)) {
        self.entries[place] = entry;
        self.places[entry.1 as usize] = place as u32;
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
            changes in prop::collection::vec((0..40_u32, prop::option::of((0..9_u64, 0..3_u64))), 1..200),
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
                prop_assert_eq!(heap.front().count(), model.len().min(FRONT));
            }
            while let Some(first) = model.pop_first() {
                prop_assert_eq!(heap.first(), Some(first));
                heap.remove(first.1);
            }
            prop_assert_eq!(heap.len(), 0);
        }
    }
}
