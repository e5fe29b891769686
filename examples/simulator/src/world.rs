//! The event loop: one client, one server.

use std::{cmp::Reverse, collections::BinaryHeap};

use tower_relay::policy::{
    Cost, Quota, Readings, Reservation, Timestamp, TokenBucket, limit::Signal,
};

use crate::{
    chance::Chance,
    controller::{Controller, Gate, Seen, TURNED_AWAY, WORKERS},
    upstream::{CallId, Fate, Model, Nanos, REFUSAL, SECOND, Server},
};

/// What the client wants.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// There is always another call.
    Saturated,
    /// Poisson arrivals a second; what may not be sent waits in the client.
    Open(f64),
    /// The same in bursts: so many a second for `on` seconds, then a tenth of it for `off`.
    Bursts { rate: f64, on: f64, off: f64 },
}

/// One server under one load.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) model: Model,
    pub(crate) load: Load,
    pub(crate) end: f64,
    pub(crate) warm_up: f64,
    /// What the client knows of the server's quota.
    pub(crate) quota: Option<Quota>,
}

/// What happened, by tenths of a second and in all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// Successes that ended in each tenth of a second.
    pub(crate) successes: Vec<u32>,
    /// The state at the end of each.
    pub(crate) limit: Vec<u32>,
    pub(crate) in_flight: Vec<u32>,
    pub(crate) queue: Vec<u32>,
    /// From the warm-up on.
    pub(crate) succeeded: u64,
    pub(crate) refused: u64,
    pub(crate) latency: f64,
    /// Calls that met a server that was down.
    pub(crate) wasted: u64,
}

const TENTH: Nanos = SECOND / 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Wake,
    First(CallId),
    End(CallId),
    Tick,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    sent: Nanos,
    first: Nanos,
    in_flight: usize,
    limit: usize,
    size: u64,
    signal: Signal,
    held_a_place: bool,
}

pub(crate) fn run(setting: &Setting, controller: &mut dyn Controller, seed: u64) -> Record {
    let mut world = World::new(setting, controller, seed);
    world.run();
    world.record
}

struct World<'a> {
    setting: &'a Setting,
    controller: &'a mut dyn Controller,
    server: Server,
    bucket: Option<TokenBucket>,
    arrivals: Chance,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    sequence: u64,
    calls: Vec<Call>,
    reservations: Vec<Option<Reservation>>,
    free: Vec<CallId>,
    in_flight: usize,
    backlog: u64,
    turned_away: usize,
    wake_at: Nanos,
    record: Record,
    warm_up: Nanos,
    end: Nanos,
}

impl<'a> World<'a> {
    fn new(setting: &'a Setting, controller: &'a mut dyn Controller, seed: u64) -> Self {
        let quota = setting.quota.as_ref();
        let bucket = quota.map(|quota| TokenBucket::new(quota, Timestamp::ZERO));
        Self {
            setting,
            controller,
            server: Server::new(setting.model.clone(), Chance::new(seed, 1)),
            bucket,
            arrivals: Chance::new(seed, 2),
            events: BinaryHeap::new(),
            sequence: 0,
            calls: Vec::new(),
            reservations: Vec::new(),
            free: Vec::new(),
            in_flight: 0,
            backlog: 0,
            turned_away: 0,
            wake_at: 0,
            record: Record::default(),
            warm_up: (setting.warm_up * 1e9) as Nanos,
            end: (setting.end * 1e9) as Nanos,
        }
    }

    fn run(&mut self) {
        self.schedule(TENTH, Event::Tick);
        match self.setting.load {
            Load::Saturated => self.send(0),
            Load::Open(_) | Load::Bursts { .. } => self.schedule_arrival(0),
        }
        self.record.successes.push(0);
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            if now > self.end {
                break;
            }
            match event {
                Event::Arrival => {
                    self.backlog += 1;
                    self.schedule_arrival(now);
                }
                Event::Wake => self.turned_away = 0,
                Event::First(id) => {
                    self.first(id, now);
                }
                Event::End(id) => self.finish(id, now),
                Event::Tick => {
                    self.record.successes.push(0);
                    self.record.limit.push(self.controller.limit() as u32);
                    self.record.in_flight.push(self.in_flight as u32);
                    self.record.queue.push(self.server.waiting() as u32);
                    self.schedule(now + TENTH, Event::Tick);
                    // A server that grew takes from its line.
                    self.start_waiting(now);
                }
            }
            self.send(now);
        }
    }

    fn schedule(&mut self, at: Nanos, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn schedule_arrival(&mut self, now: Nanos) {
        let rate = match self.setting.load {
            Load::Saturated => return,
            Load::Open(rate) => rate,
            Load::Bursts { rate, on, off } => {
                let is_on = (now as f64 / 1e9) % (on + off) < on;
                if is_on { rate } else { rate / 10.0 }
            }
        };
        let wait = self.arrivals.exponential(1.0 / rate);
        self.schedule(now + crate::upstream::nanos(wait), Event::Arrival);
    }

    /// Sends whatever may be sent.
    fn send(&mut self, now: Nanos) {
        loop {
            let has_work = match self.setting.load {
                Load::Saturated => self.turned_away < WORKERS,
                Load::Open(_) | Load::Bursts { .. } => self.backlog > 0,
            };
            if !has_work {
                return;
            }
            let instant = Timestamp::from_nanos(now);
            if let Some(bucket) = &self.bucket {
                if !bucket.is_ready(&Cost::REQUEST, instant) {
                    let ready = bucket.ready_at(&Cost::REQUEST);
                    let ready = ready.expect("one request fits").as_nanos();
                    self.wake(ready, now);
                    return;
                }
            }
            match self.controller.gate(now, self.in_flight) {
                Gate::Wait => return,
                Gate::Until(at) => {
                    self.wake(at, now);
                    return;
                }
                Gate::TurnedAway => {
                    match self.setting.load {
                        Load::Open(_) | Load::Bursts { .. } => self.backlog -= 1,
                        Load::Saturated => {
                            if self.turned_away == 0 {
                                self.schedule(now + TURNED_AWAY, Event::Wake);
                            }
                            self.turned_away += 1;
                            if self.turned_away + self.in_flight >= WORKERS {
                                return;
                            }
                        }
                    }
                    continue;
                }
                Gate::Go => {}
            }
            let bucket = self.bucket.as_mut();
            let reservation = bucket.map(|bucket| bucket.take(&Cost::REQUEST, instant));
            self.backlog = self.backlog.saturating_sub(1);
            self.send_one(reservation, now);
        }
    }

    fn wake(&mut self, at: Nanos, now: Nanos) {
        let at = at.max(now + 1);
        if self.wake_at <= now || at < self.wake_at {
            self.wake_at = at;
            self.schedule(at, Event::Wake);
        }
    }

    fn send_one(&mut self, reservation: Option<Reservation>, now: Nanos) {
        self.in_flight += 1;
        let call = Call {
            sent: now,
            first: now,
            in_flight: self.in_flight,
            limit: self.controller.limit(),
            size: 0,
            signal: Signal::Success,
            held_a_place: false,
        };
        let id = if let Some(id) = self.free.pop() {
            self.calls[id as usize] = call;
            self.reservations[id as usize] = reservation;
            id
        } else {
            self.calls.push(call);
            self.reservations.push(reservation);
            (self.calls.len() - 1) as CallId
        };
        self.controller.sent(now);
        let fate = self.server.arrive(id, now);
        self.follow(id, fate, now);
    }

    fn follow(&mut self, id: CallId, fate: Fate, now: Nanos) {
        let call = &mut self.calls[id as usize];
        match fate {
            Fate::Waits => {}
            Fate::Served { first, end, size } => {
                call.first = first;
                call.size = size;
                call.held_a_place = true;
                self.schedule(first, Event::First(id));
                self.schedule(end, Event::End(id));
            }
            Fate::Refused | Fate::Down => {
                // A 429 and a 503 alike are refusals for lack of room to this crate.
                call.signal = Signal::Loss;
                call.first = now + REFUSAL;
                if fate == Fate::Down {
                    self.record.wasted += 1;
                }
                self.schedule(now + REFUSAL, Event::End(id));
            }
        }
    }

    fn seen(&self, id: CallId, now: Nanos) -> Seen {
        let call = self.calls[id as usize];
        Seen {
            now,
            sent: call.sent,
            in_flight: call.in_flight,
            limit: call.limit,
            signal: call.signal,
            first_byte: call.first - call.sent,
            total: now - call.sent,
            size: call.size,
        }
    }

    fn first(&mut self, id: CallId, now: Nanos) {
        let seen = self.seen(id, now);
        self.controller.first_byte(&seen);
    }

    fn finish(&mut self, id: CallId, now: Nanos) {
        let seen = self.seen(id, now);
        self.in_flight -= 1;
        self.free.push(id);
        if self.calls[id as usize].held_a_place {
            self.server.leave();
            self.start_waiting(now);
        }
        let reservation = self.reservations[id as usize].take();
        if let (Some(bucket), Some(call), false) =
            (&mut self.bucket, reservation, seen.is_success())
        {
            let now = Timestamp::from_nanos(now);
            bucket.observe(&call, &Readings::NONE.of_refusal(), now);
        }
        self.controller.ended(&seen);
        if seen.is_success() {
            if let Some(last) = self.record.successes.last_mut() {
                *last += 1;
            }
        }
        if now >= self.warm_up {
            if seen.is_success() {
                self.record.succeeded += 1;
                self.record.latency += seen.latency();
            } else {
                self.record.refused += 1;
            }
        }
    }

    fn start_waiting(&mut self, now: Nanos) {
        while let Some((id, fate)) = self.server.next(now) {
            self.follow(id, fate, now);
        }
    }
}
