use crate::policy::{Cost, CostTooLarge, Quota, Timestamp, TokenBucket};

use super::{ModelId, affinity::Load, heap::Heap};

/// All lanes that calls of one route can use, or of one model that some key may not use.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// The model whose own view this is.
    pub(super) model: Option<ModelId>,
    pub(super) tiers: Vec<Tier>,
    /// The turn of the lane that was taken last.
    pub(super) clock: u64,
    /// The pass that `claims` is of.
    pub(super) pass: u64,
    pub(super) claims: usize,
    /// Of its lanes together.
    pub(super) load: Load,
}

/// The lanes of a view that have equal quotas: what one of them can never serve none can, and the
/// order in which they are full is the same for every cost.
#[derive(Clone, Debug, Default)]
pub(super) struct Tier {
    /// By their numbers in the heaps.
    pub(super) lanes: Vec<u32>,
    spots: Vec<Kind>,
    /// Those that can serve what they served last, in the order of choice.
    pub(super) ready: Heap,
    /// The others by the instant at which they can.
    pub(super) waiting: Heap,
    /// Those that only a release can open, by the instant at which they can serve after it.
    pub(super) full: Heap,
    /// Those that waiters have claimed.
    pub(super) claimed: usize,
    /// How many of the full have been claimed in the present pass.
    pub(super) full_claimed: usize,
    quota: Option<Quota>,
    /// A bucket of this quota from which nothing was taken.
    fresh: Option<TokenBucket>,
    /// Whether the order of choice needs no second look.
    pub(super) is_exact: bool,
}

/// Where a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// In the order of choice.
    Ready(u64),
    /// Serving again from an instant on.
    At(Timestamp),
    /// Serving again when a call ends, from an instant on.
    Full(Timestamp),
    /// Claimed by a waiter.
    Claimed,
    /// Not serving until somebody changes something.
    Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ready,
    Waiting,
    Full,
    Claimed,
    Out,
}

impl View {
    /// The tier of this quota.
    pub(super) fn tier_of(&mut self, quota: Option<&Quota>) -> usize {
        let mut tiers = self.tiers.iter();
        if let Some(tier) = tiers.position(|tier| tier.quota.as_ref() == quota) {
            return tier;
        }
        self.tiers.push(Tier {
            quota: quota.cloned(),
            fresh: quota.map(|quota| TokenBucket::new(quota, Timestamp::ZERO)),
            is_exact: quota.is_none_or(Quota::is_uniform),
            ..Tier::default()
        });
        self.tiers.len() - 1
    }

    /// How many lanes there are that can serve sooner or later.
    pub(super) fn usable(&self) -> usize {
        self.tiers.iter().map(Tier::usable).sum()
    }

    /// Begins to count claims anew in every pass.
    pub(super) fn enter(&mut self, pass: u64) {
        if self.pass != pass {
            (self.pass, self.claims) = (pass, 0);
            for tier in &mut self.tiers {
                tier.full_claimed = 0;
            }
        }
    }
}

impl Tier {
    /// Adds a lane that is out, and says its number.
    pub(super) fn add(&mut self, lane: u32) -> u32 {
        self.lanes.push(lane);
        self.spots.push(Kind::Out);
        self.lanes.len() as u32 - 1
    }

    pub(super) const fn quota(&self) -> Option<&Quota> {
        self.quota.as_ref()
    }

    pub(super) fn usable(&self) -> usize {
        self.ready.len() + self.waiting.len() + self.full.len() + self.claimed
    }

    /// Whether its lanes can ever serve a call of this cost.
    pub(super) fn fits(&self, cost: &Cost) -> Result<(), CostTooLarge> {
        match &self.fresh {
            None => Ok(()),
            Some(bucket) => bucket.ready_at(cost).map(drop),
        }
    }

    /// Puts a lane where it belongs.
    #[inline]
    pub(super) fn seat(&mut self, number: u32, spot: Spot) {
        let kind = match spot {
            Spot::Ready(_) => Kind::Ready,
            Spot::At(_) => Kind::Waiting,
            Spot::Full(_) => Kind::Full,
            Spot::Claimed => Kind::Claimed,
            Spot::Out => Kind::Out,
        };
        let was = std::mem::replace(&mut self.spots[number as usize], kind);
        if was != kind {
            match was {
                Kind::Ready => self.ready.remove(number),
                Kind::Waiting => self.waiting.remove(number),
                Kind::Full => self.full.remove(number),
                Kind::Claimed => self.claimed -= 1,
                Kind::Out => {}
            }
        }
        match spot {
            Spot::Ready(rank) => self.ready.set(number, rank),
            Spot::At(at) => self.waiting.set(number, at.as_nanos()),
            Spot::Full(at) => self.full.set(number, at.as_nanos()),
            Spot::Claimed if was != kind => self.claimed += 1,
            Spot::Claimed | Spot::Out => {}
        }
    }

    /// When the first of those that wait can serve.
    #[inline]
    pub(super) fn next(&self) -> Option<(Timestamp, u32)> {
        let (at, number) = self.waiting.first()?;
        Some((Timestamp::from_nanos(at), self.lanes[number as usize]))
    }
}
