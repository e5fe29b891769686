//! Where a session's calls go.

use std::time::Duration;

use crate::policy::{Cost, Timestamp};

use super::{
    super::{Ask, Pool},
    PER_MILLE, Place, Preference,
    load::{converted, time_of, turn},
    mix,
    sessions::Who,
};

/// A session stays at least this long before it moves for the sake of loads: each move costs what
/// was cached.
const DWELL: Duration = Duration::from_secs(60);
/// Providers keep prompts cached for five minutes: who is back by then finds them.
const LONGEST_ABSENCE: Duration = Duration::from_secs(300);
/// How many of such calls' times on the quota anybody waits for at least.
const LEAST_LINE: u64 = 4;

/// Whether a lane is one to prefer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fitness {
    Well,
    /// Within the life of what is cached.
    SoonBack,
    Gone,
}

/// Which lanes a session may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// Those that are neither loaded nor nearly used up.
    Both,
    /// Those that are not loaded.
    Load,
}

impl Pool {
    /// The same call as one of a session: it prefers the scope and the key that calls of this session
    /// and this model have gone to, or that they will; see [`Affinity`](super::Affinity). Nothing
    /// without that option. `session` is any hash of what makes calls belong together.
    ///
    /// The call may then have to wait though something is free: [`try_take`](Self::try_take) and
    /// [`is_free`](Self::is_free) say no where it is better to join the waiters. See
    /// [`hurry`](Self::hurry) for one that must not wait.
    ///
    /// As many steps as there are scopes where a session is new or has to move, otherwise a constant
    /// number.
    #[must_use]
    pub fn prefer(&mut self, ask: Ask, session: u64, now: Timestamp) -> Ask {
        let session = mix(session);
        let preference = self.place_of(session, &ask, now).map(|place| Preference {
            session,
            place,
            is_patient: true,
        });
        Ask { preference, ..ask }
    }

    /// Tells a call for how long it may wait. If that is less than twice its patience for the scope
    /// that it prefers, it does not wait for it: it goes there if it can be served there at once, and
    /// otherwise anywhere.
    pub fn hurry(&self, ask: &mut Ask, room: Duration) {
        if let Some(preference) = ask.preference {
            let patience = self.patience(preference.place.lane, &ask.cost);
            if room < patience.saturating_mul(2) {
                ask.preference = Some(Preference {
                    is_patient: false,
                    ..preference
                });
            }
        }
    }

    /// How many sessions are remembered.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sticky
            .as_ref()
            .map_or(0, |sticky| sticky.sessions.len())
    }

    fn place_of(&mut self, session: u64, ask: &Ask, now: Timestamp) -> Option<Place> {
        let who: Who = (session, ask.model);
        let number = self.sticky.as_mut()?.sessions.find(who);
        let Some(number) = number else {
            let place = self.choose(session, ask, None, now)?;
            let sticky = self.sticky.as_mut()?;
            sticky.sessions.add(who, place, now + DWELL);
            return Some(place);
        };
        let known = *self.sticky.as_ref()?.sessions.get(number);
        let is_away_well =
            known.at != known.home && self.fitness(known.at, ask, now) == Fitness::Well;
        match self.fitness(known.home, ask, now) {
            Fitness::Well => {
                if known.at != known.home {
                    self.shift(number, known.home, ask, now);
                } else if known.settled <= now && self.is_loaded(known.at, now) {
                    self.unload(number, session, ask, now);
                }
            }
            Fitness::SoonBack if is_away_well => {}
            Fitness::SoonBack => {
                let guest = self.choose(session, ask, Some(number), now)?;
                self.shift(number, guest, ask, now);
            }
            Fitness::Gone => {
                let place = match is_away_well {
                    true => known.at,
                    false => self.choose(session, ask, Some(number), now)?,
                };
                self.settle(number, place, ask, now);
            }
        }
        Some(self.sticky.as_ref()?.sessions.get(number).at)
    }

    /// A session whose call had to go to `lane`, because the line before its own is long, stays
    /// there if that evens the loads.
    pub(in crate::policy::pool) fn follow(&mut self, ask: &Ask, lane: u32, now: Timestamp) {
        let (Some(preference), Some(sticky)) = (ask.preference, &self.sticky) else {
            return;
        };
        let Some(number) = sticky.sessions.peek((preference.session, ask.model)) else {
            return;
        };
        let known = *sticky.sessions.get(number);
        let to = self.place_here(lane);
        let is_settled = known.settled > now || known.at != known.home;
        if is_settled || known.at == to || self.fitness(known.at, ask, now) != Fitness::Well {
            return;
        }
        let mean = self.mean_load(self.models.get(ask.model).view, turn(now));
        let margin = self.sticky.as_ref().map_or(0, |sticky| {
            sticky
                .config
                .margin(mean)
                .saturating_add(known.load.at(turn(now)))
        });
        if self.evens(number, to, margin, ask, now) {
            self.settle(number, to, ask, now);
        }
    }

    /// Moves a session away from a lane with too much load, if that evens the loads; if not, it is
    /// left alone for some time.
    fn unload(&mut self, number: u32, session: u64, ask: &Ask, now: Timestamp) {
        let to = self.choose(session, ask, Some(number), now);
        let margin = self.mean_load(self.models.get(ask.model).view, turn(now)) / 16;
        match to.filter(|&to| self.evens(number, to, margin, ask, now)) {
            Some(to) => self.settle(number, to, ask, now),
            None => self.session_mut(number).settled = now + DWELL,
        }
    }

    /// Whether the more loaded of two lanes would have less after the move, by more than `margin`.
    fn evens(&self, number: u32, to: Place, margin: u64, ask: &Ask, now: Timestamp) -> bool {
        let turn = turn(now);
        let Some(sticky) = &self.sticky else {
            return false;
        };
        let known = sticky.sessions.get(number);
        let lanes = [known.at, to].map(|place| &self.lanes[place.lane as usize]);
        let [left, came] = lanes.map(|lane| lane.load.at(turn));
        let after = came.saturating_add(self.load_there(number, to, ask, now));
        after.saturating_add(margin) < left
    }

    /// What the load of a session comes to in another lane.
    fn load_there(&self, number: u32, to: Place, ask: &Ask, now: Timestamp) -> u64 {
        let Some(sticky) = &self.sticky else {
            return 0;
        };
        let known = sticky.sessions.get(number);
        let load = known.load.at(turn(now));
        let [from, to] = [known.at, to].map(|place| self.time_on(place.lane, &ask.cost));
        converted(load, from, to)
    }

    fn is_loaded(&self, place: Place, now: Timestamp) -> bool {
        let Some(sticky) = &self.sticky else {
            return false;
        };
        let state = &self.lanes[place.lane as usize];
        let load = state.load.at(turn(now));
        state
            .seats
            .first()
            .is_some_and(|seat| load > sticky.config.most(self.mean_load(seat.view, turn(now))))
    }

    /// The mean load of the lanes of a view.
    pub(super) fn mean_load(&self, view: usize, turn: u64) -> u64 {
        let view = &self.views[view];
        view.load.at(turn) / view.usable().max(1) as u64
    }

    /// Sends a session's calls elsewhere for now.
    fn shift(&mut self, number: u32, to: Place, ask: &Ask, now: Timestamp) {
        let turn = turn(now);
        let added = self.load_there(number, to, ask, now);
        let session = self.session_mut(number);
        let (from, load, left) = (session.at, session.load.at(turn), session.key);
        if from == session.home {
            session.home_key = left;
        }
        session.at = to;
        session.key = session.home_key.filter(|_| to == session.home);
        let came = session.key;
        session.load.sub(load, turn);
        session.load.add(added, turn);
        if self.is_current(from) {
            self.add_load(from.lane, load, now, Sign::Less);
            if let Some(left) = left.filter(|&key| self.is_key_of(key, from.lane)) {
                self.unload_key(left, load, turn);
            }
        }
        self.add_load(to.lane, added, now, Sign::More);
        if let Some(came) = came.filter(|&key| self.is_key_of(key, to.lane)) {
            self.load_key(came, added, turn);
        }
    }

    /// Sends a session's calls elsewhere for good.
    fn settle(&mut self, number: u32, to: Place, ask: &Ask, now: Timestamp) {
        if self.session_mut(number).at != to {
            self.shift(number, to, ask, now);
        }
        let session = self.session_mut(number);
        (session.home, session.home_key) = (to, None);
        session.settled = now + DWELL;
    }

    fn session_mut(&mut self, number: u32) -> &mut super::sessions::Session {
        let sticky = self.sticky.as_mut();
        sticky.expect("it has sessions").sessions.get_mut(number)
    }

    /// The lane for a session that is new or, with its number, has to move: of those that can serve it
    /// the one that hashing names among those not too loaded; else the one with the least load.
    fn choose(
        &self,
        session: u64,
        ask: &Ask,
        number: Option<u32>,
        now: Timestamp,
    ) -> Option<Place> {
        let named = |demand| self.named(session, ask, number, demand, now);
        named(Demand::Both)
            .or_else(|| named(Demand::Load))
            .or_else(|| {
                let view = &self.views[self.models.get(ask.model).view];
                let lanes = view.tiers.iter().flat_map(|tier| &tier.lanes);
                let turn = turn(now);
                lanes
                    .filter(|&&lane| self.is_well(lane, ask, now))
                    .min_by_key(|&&lane| self.lanes[lane as usize].load.at(turn))
                    .map(|&lane| self.place_here(lane))
            })
    }

    /// The lane that rendezvous hashing names. Lanes of equal quotas have equal weights, so in a tier the
    /// highest hash wins; between tiers the earliest of exponential times (Efraimidis and Spirakis 2006).
    fn named(
        &self,
        session: u64,
        ask: &Ask,
        number: Option<u32>,
        demand: Demand,
        now: Timestamp,
    ) -> Option<Place> {
        let sticky = self.sticky.as_ref()?;
        let view = self.models.get(ask.model).view;
        let turn = turn(now);
        let most = sticky.config.most_placed(self.mean_load(view, turn));
        let guard = u64::from(sticky.config.guard) * PER_MILLE;
        let mut first: Option<(f64, u32)> = None;
        for tier in &self.views[view].tiers {
            let time = time_of(tier.quota(), &ask.cost);
            let added = number.map_or(0, |number| {
                let known = sticky.sessions.get(number);
                let from = self.time_on(known.at.lane, &ask.cost);
                converted(known.load.at(turn), from, time)
            });
            let takes = |lane: u32| {
                let state = &self.lanes[lane as usize];
                state.load.at(turn).saturating_add(added) <= most
                    && (demand == Demand::Load || state.headroom(now) >= guard)
                    && self.is_well(lane, ask, now)
            };
            let mut best: Option<(u64, u32)> = None;
            for &lane in &tier.lanes {
                let hash = mix(session ^ self.lanes[lane as usize].hash);
                if best.is_none_or(|(most, _)| hash > most) && takes(lane) {
                    best = Some((hash, lane));
                }
            }
            if let Some((hash, lane)) = best {
                let rank = exponential(hash) * time as f64;
                if first.is_none_or(|(least, _)| rank < least) {
                    first = Some((rank, lane));
                }
            }
        }
        first.map(|(_, lane)| self.place_here(lane))
    }

    fn is_well(&self, lane: u32, ask: &Ask, now: Timestamp) -> bool {
        self.fitness(self.place_here(lane), ask, now) == Fitness::Well
    }

    fn fitness(&self, place: Place, ask: &Ask, now: Timestamp) -> Fitness {
        let view = self.models.get(ask.model).view;
        let state = &self.lanes[place.lane as usize];
        if !self.is_seated(place, view) {
            return Fitness::Gone;
        }
        let (Some(opening), Some(ready)) =
            (self.opening(state.scope, view), state.ready_at(&ask.cost))
        else {
            return Fitness::Gone;
        };
        // What only the end of a call in flight opens is open soon or dated again.
        let Some(from) = opening.from else {
            return Fitness::SoonBack;
        };
        let at = from.max(ready);
        if at <= now + self.patience(place.lane, &ask.cost) {
            Fitness::Well
        } else if at <= now + LONGEST_ABSENCE {
            Fitness::SoonBack
        } else {
            Fitness::Gone
        }
    }

    /// Whether it is still the lane that it was, and one of this view.
    pub(super) fn is_seated(&self, place: Place, view: usize) -> bool {
        let mut seats = self.lanes[place.lane as usize].seats.iter();
        self.is_current(place) && seats.any(|seat| seat.view == view)
    }

    /// Whether it is still the lane that it was.
    pub(in crate::policy::pool) fn is_current(&self, place: Place) -> bool {
        let state = &self.lanes[place.lane as usize];
        state.serial == place.serial && !state.is_removed
    }

    fn place_here(&self, lane: u32) -> Place {
        let serial = self.lanes[lane as usize].serial;
        Place { lane, serial }
    }

    /// For how long a call waits for a lane.
    pub(in crate::policy::pool) fn patience(&self, lane: u32, cost: &Cost) -> Duration {
        let own = self.sticky.as_ref().map_or(0, |sticky| {
            let patience = sticky.config.patience_nanos();
            let line = LEAST_LINE.saturating_mul(self.time_on(lane, cost));
            if patience == 0 { 0 } else { patience.max(line) }
        });
        Duration::from_nanos(own).min(super::LONGEST_PATIENCE)
    }

    /// How long such a call takes up the quota of a lane.
    fn time_on(&self, lane: u32, cost: &Cost) -> u64 {
        time_of(self.lanes[lane as usize].quota.as_ref(), cost)
    }

    /// Counts a call that is taken: as asked of the lane that it prefers, wherever it goes.
    pub(in crate::policy::pool) fn count_load(&mut self, ask: &Ask, lane: u32, now: Timestamp) {
        let Some(sticky) = &mut self.sticky else {
            return;
        };
        let mut asked = lane;
        if let Some(preference) = ask.preference {
            let who = (preference.session, ask.model);
            if let Some(number) = sticky.sessions.peek(who) {
                let at = sticky.sessions.get(number).at;
                let state = &self.lanes[at.lane as usize];
                if state.serial == at.serial && !state.is_removed {
                    asked = at.lane;
                    let time = time_of(state.quota.as_ref(), &ask.cost);
                    let session = sticky.sessions.get_mut(number);
                    session.load.add(time, turn(now));
                }
            }
        }
        let time = self.time_on(asked, &ask.cost);
        self.add_load(asked, time, now, Sign::More);
    }

    /// Sums up the loads of lanes for views that are new.
    pub(in crate::policy::pool) fn sum_loads(&mut self, now: Timestamp) {
        let turn = turn(now);
        for lane in &self.lanes {
            for seat in &lane.seats {
                self.views[seat.view].load.add(lane.load.at(turn), turn);
            }
        }
    }

    fn add_load(&mut self, lane: u32, amount: u64, now: Timestamp, sign: Sign) {
        let turn = turn(now);
        let change = |load: &mut super::Load| match sign {
            Sign::More => load.add(amount, turn),
            Sign::Less => load.sub(amount, turn),
        };
        let state = &mut self.lanes[lane as usize];
        change(&mut state.load);
        for seat in &state.seats {
            change(&mut self.views[seat.view].load);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Sign {
    More,
    Less,
}

/// An exponential time of mean 1 by a hash: less the logarithm of its share of all hashes. Sums and
/// products alone, which are the same on every machine, and within a millionth.
pub(super) fn exponential(hash: u64) -> f64 {
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    // From 1 to 2.
    let mantissa = ((hash << zeros) >> 11) as f64 / (1_u64 << 52) as f64;
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let (mut sum, mut power) = (0.0, ratio);
    for odd in [1.0, 3.0, 5.0, 7.0, 9.0, 11.0] {
        sum += power / odd;
        power *= square;
    }
    (f64::from(zeros) + 1.0) * std::f64::consts::LN_2 - 2.0 * sum
}
