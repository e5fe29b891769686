use super::{Strategy, heap::Heap};

/// A turn of weight 1: fine enough for any weight, coarse enough for 10¹⁰ turns.
const STRIDE: u64 = 1 << 28;

/// The usable keys of a scope, and whose turn it is.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    turns: Turns,
    /// Of all keys in it together.
    pub(super) weight: u64,
}

#[derive(Clone, Debug)]
enum Turns {
    /// One after the other.
    Equal {
        numbers: Vec<u32>,
        /// Where each number is.
        places: Vec<u32>,
        next: usize,
    },
    /// In proportion to weights, by the time of the next turn.
    Weighted { heap: Heap, clock: u64 },
}

const ABSENT: u32 = u32::MAX;

impl Ring {
    pub(super) fn new(strategy: Strategy) -> Self {
        let turns = match strategy {
            Strategy::Weighted => Turns::Weighted {
                heap: Heap::default(),
                clock: 0,
            },
            _ => Turns::Equal {
                numbers: Vec::new(),
                places: Vec::new(),
                next: 0,
            },
        };
        Self { turns, weight: 0 }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.weight == 0
    }

    /// How many keys are in it.
    pub(super) fn len(&self) -> usize {
        match &self.turns {
            Turns::Equal { numbers, .. } => numbers.len(),
            Turns::Weighted { heap, .. } => heap.len(),
        }
    }

    /// Their numbers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        let (equal, weighted) = match &self.turns {
            Turns::Equal { numbers, .. } => (Some(numbers), None),
            Turns::Weighted { heap, .. } => (None, Some(heap.front(heap.len()))),
        };
        let equal = equal.into_iter().flatten().copied();
        equal.chain(weighted.into_iter().flatten())
    }

    #[inline]
    pub(super) fn contains(&self, number: u32) -> bool {
        match &self.turns {
            Turns::Equal { places, .. } => {
                let place = places.get(number as usize);
                place.is_some_and(|&place| place != ABSENT)
            }
            Turns::Weighted { heap, .. } => heap.contains(number),
        }
    }

    /// Puts a key in that was not.
    pub(super) fn add(&mut self, number: u32, weight: u32) {
        self.weight += u64::from(weight);
        match &mut self.turns {
            Turns::Equal {
                numbers, places, ..
            } => {
                if places.len() <= number as usize {
                    places.resize(number as usize + 1, ABSENT);
                }
                places[number as usize] = numbers.len() as u32;
                numbers.push(number);
            }
            Turns::Weighted { heap, clock } => heap.set(number, *clock),
        }
    }

    /// Takes a key out that was in.
    pub(super) fn remove(&mut self, number: u32, weight: u32) {
        self.weight -= u64::from(weight);
        match &mut self.turns {
            Turns::Equal {
                numbers,
                places,
                next,
            } => {
                let place = std::mem::replace(&mut places[number as usize], ABSENT) as usize;
                numbers.swap_remove(place);
                if let Some(&moved) = numbers.get(place) {
                    places[moved as usize] = place as u32;
                }
                if *next >= numbers.len() {
                    *next = 0;
                }
            }
            Turns::Weighted { heap, .. } => heap.remove(number),
        }
    }

    /// The key whose turn it is; the next turn of one with this weight comes after a time inverse
    /// to it.
    #[inline]
    pub(super) fn take(&mut self, weight: impl Fn(u32) -> u32) -> Option<u32> {
        match &mut self.turns {
            Turns::Equal { numbers, next, .. } => {
                let number = *numbers.get(*next)?;
                *next += 1;
                if *next == numbers.len() {
                    *next = 0;
                }
                Some(number)
            }
            Turns::Weighted { heap, clock } => {
                let (turn, number) = heap.first()?;
                *clock = turn.max(*clock);
                let weight = u64::from(weight(number));
                heap.set(number, clock.saturating_add(stride(weight)));
                Some(number)
            }
        }
    }

    /// Takes a key that is in, whose turn it need not be. Where all take turns that leaves the others'
    /// as they are; where they have weights it counts.
    pub(super) fn take_this(&mut self, number: u32, weight: u32) {
        if let Turns::Weighted { heap, clock } = &mut self.turns {
            heap.set(number, clock.saturating_add(stride(u64::from(weight))));
        }
    }

    #[cfg(test)]
    pub(super) fn steps(&self) -> u64 {
        match &self.turns {
            Turns::Equal { .. } => 0,
            Turns::Weighted { heap, .. } => heap.steps,
        }
    }
}

/// How far on the next turn is of what has this weight.
#[inline]
pub(super) fn stride(weight: u64) -> u64 {
    (STRIDE / weight.max(1)).max(1)
}
