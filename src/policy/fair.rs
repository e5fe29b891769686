use super::Shares;

/// Binary digits of a tag behind the point: what rounding loses stays below a unit of work for
/// 2³² calls.
const FRACTION: u32 = 32;

/// More than two years, counted in nanoseconds: what takes longer counts as much, and sums are far
/// from overflowing.
const MOST_WORK: u64 = 1 << 56;

/// Whose turn it is among classes that share something by weights.
///
/// Start-time fair queueing (Goyal, Vin and Cheng 1996): every class has a tag, the work it has been
/// served over its weight, and the smallest is next. "v(t) is defined to be equal to the start tag of
/// the packet in service": a class that begins to wait begins no further back, so that nobody saves
/// turns up. Each class gets its share of the work up to one largest call of each class, however
/// large calls are and however much others want, and none starves.
///
/// Deviations: tags are those of classes and not of calls, so that a call that goes away costs its
/// class nothing; when nobody waits any more, all classes are equal again; a turn can be given back.
///
/// Work is counted in any unit that is the same for all classes. Classes are numbered as in
/// [`Shares::classes`].
///
/// ```
/// use tower_relay::policy::{Shares, Turns};
///
/// let shares = Shares::builder().class("a", 3).class("b", 1).build()?;
/// let mut turns = Turns::new(&shares);
/// let (a, b) = (1, 2);
/// for _ in 0..8 {
///     turns.joined(a);
///     turns.joined(b);
/// }
/// let mut served = Vec::new();
/// for _ in 0..8 {
///     let next = turns.next(|class| [None, Some(0), Some(1)][class]).expect("two wait");
///     turns.served(next, 10);
///     turns.left(next);
///     served.push(next);
/// }
/// assert_eq!(served, [a, b, a, a, a, b, a, a]);
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Turns {
    classes: Vec<Turn>,
    /// The tag at which the call served last began.
    reached: u128,
    waiting: usize,
}

#[derive(Clone, Debug)]
struct Turn {
    weight: u32,
    tag: u128,
    /// The tag as if what has been claimed in this round had been served.
    planned: u128,
    waiting: usize,
}

impl Turn {
    /// How far this much work moves its tag.
    fn span(&self, work: u64) -> u128 {
        (u128::from(work.min(MOST_WORK)) << FRACTION) / u128::from(self.weight)
    }
}

impl Turns {
    /// Turns of classes none of which has been served.
    #[must_use]
    pub fn new(shares: &Shares) -> Self {
        let turn = |(_, weight)| Turn {
            weight,
            tag: 0,
            planned: 0,
            waiting: 0,
        };
        Self {
            classes: shares.classes().map(turn).collect(),
            reached: 0,
            waiting: 0,
        }
    }

    /// How many calls of a class wait.
    #[must_use]
    pub fn waiting(&self, class: usize) -> usize {
        self.classes[class].waiting
    }

    /// Counts a call in that begins to wait.
    pub fn joined(&mut self, class: usize) {
        let turn = &mut self.classes[class];
        if turn.waiting == 0 {
            turn.tag = turn.tag.max(self.reached);
            turn.planned = turn.planned.max(turn.tag);
        }
        self.came_back(class);
    }

    /// Counts a call in that had been served after all others of its class that wait, and
    /// whose turn has been [given back](Self::give_back).
    pub fn came_back(&mut self, class: usize) {
        self.classes[class].waiting += 1;
        self.waiting += 1;
    }

    /// Counts a call out that waits no more. One that is served is to be counted as
    /// [`served`](Self::served) before.
    pub fn left(&mut self, class: usize) {
        self.classes[class].waiting -= 1;
        self.waiting -= 1;
        if self.waiting == 0 {
            let tags = self.classes.iter().map(|turn| turn.tag);
            self.reached = tags.max().unwrap_or(0).max(self.reached);
        }
    }

    /// Begins a round: forgets what has been [planned](Self::plan).
    pub fn begin_round(&mut self) {
        for turn in &mut self.classes {
            turn.planned = turn.tag;
        }
    }

    /// The class that is next in this round, of those for which `first` says when its first call
    /// came; equal ones in the order of that.
    #[must_use]
    pub fn next(&self, first: impl Fn(usize) -> Option<u64>) -> Option<usize> {
        let classes = self.classes.iter().enumerate();
        let candidates = classes.filter_map(|(class, turn)| {
            let arrival = first(class)?;
            Some((turn.planned, arrival, class))
        });
        candidates.min().map(|(_, _, class)| class)
    }

    /// Serves a call of this much work to the class that was [next](Self::next).
    pub fn served(&mut self, class: usize, work: u64) {
        let turn = &mut self.classes[class];
        self.reached = self.reached.max(turn.tag);
        turn.tag += turn.span(work);
        turn.planned += turn.span(work);
    }

    /// Lets the rest of the round go on as if the class had been served this much.
    pub fn plan(&mut self, class: usize, work: u64) {
        let turn = &mut self.classes[class];
        turn.planned += turn.span(work);
    }

    /// Takes back what a class was served: the call was not sent.
    pub fn give_back(&mut self, class: usize, work: u64) {
        let turn = &mut self.classes[class];
        turn.tag = turn.tag.saturating_sub(turn.span(work));
        turn.planned = turn.planned.saturating_sub(turn.span(work));
    }

    /// The part of what waits that comes before a new call of `class`, if nobody else joins.
    /// `backlog` is the work that waits of each class.
    #[cfg(any(
        feature = "rate-limit",
        feature = "key-rotation",
        feature = "adaptive-concurrency"
    ))]
    pub(crate) fn before(&self, class: usize, backlog: impl Fn(usize) -> u128) -> Part {
        let span = |work: u128, weight: u32| (work << FRACTION) / u128::from(weight);
        let own = &self.classes[class];
        let tag = match own.waiting {
            0 => own.tag.max(self.reached),
            _ => own.tag,
        };
        let turn = tag + span(backlog(class), own.weight);
        let (mut before, mut whole) = (0, 0);
        for (number, other) in self.classes.iter().enumerate() {
            let waits = backlog(number);
            let served = match number == class {
                true => waits,
                false => {
                    let span = turn.saturating_sub(other.tag);
                    (span.saturating_mul(u128::from(other.weight)) >> FRACTION).min(waits)
                }
            };
            before += served;
            whole += waits;
        }
        Part::new(before, whole)
    }
}

/// A part of what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    part: u64,
    whole: u64,
}

impl Part {
    /// All of it: first come first served.
    pub(crate) const WHOLE: Self = Self { part: 1, whole: 1 };

    #[cfg(any(
        feature = "rate-limit",
        feature = "key-rotation",
        feature = "adaptive-concurrency"
    ))]
    fn new(part: u128, whole: u128) -> Self {
        let excess = (u128::BITS - whole.leading_zeros()).saturating_sub(u64::BITS);
        let (part, whole) = ((part >> excess) as u64, (whole >> excess) as u64);
        if part >= whole {
            return Self::WHOLE;
        }
        Self { part, whole }
    }

    /// What it is of `amount`, rounded down.
    pub(crate) fn of(self, amount: u64) -> u64 {
        let part = u128::from(amount) * u128::from(self.part) / u128::from(self.whole);
        part as u64
    }
}

#[cfg(test)]
mod tests;
