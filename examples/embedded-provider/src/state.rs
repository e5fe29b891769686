//! What the provider knows, behind one lock, and the one decision it takes: admission.

use crate::{
    access::{Caller, KeyState, ScopeState},
    books::Books,
    charging::{Charge, ChargingRule, Tokens},
    clock::{Clock, Timestamp},
    config::{Capacity, Faults, Latency, LimitHeaders, Limits, Scope},
    counters::{Counters, Outcome},
    in_flight::{InFlight, Tab},
    line::Line,
    quota::Gauge,
    request::Call,
    wire::Problem,
};
use fastrand::Rng;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Shared by the handle, every connection and every answer under way. Holds keys, hence no `Debug`.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) charging: ChargingRule,
    pub(crate) headers: LimitHeaders,
    jitter: Duration,
    callers: HashMap<String, Caller>,
    names: Vec<String>,
    seed: u64,
    ids: AtomicU64,
    state: Mutex<State>,
}

pub(crate) struct State {
    scopes: Vec<ScopeState>,
    keys: Vec<KeyState>,
    /// The whole provider: every scope, and what reached none.
    total: Counters,
    rng: Rng,
    /// Apart, so that jitter does not change lengths and faults.
    jitter_rng: Rng,
    pub(crate) latency: Latency,
    pub(crate) faults: Faults,
    pub(crate) line: Line,
    /// Counts resets, so that answers from before one do not count after it.
    epoch: u64,
    /// When the counters started.
    origin: Timestamp,
}

/// What the whole provider is configured with, beside its scopes.
pub(crate) struct Setup {
    pub(crate) clock: Clock,
    pub(crate) charging: ChargingRule,
    pub(crate) headers: LimitHeaders,
    pub(crate) jitter: Duration,
    pub(crate) seed: u64,
    pub(crate) latency: Latency,
    pub(crate) faults: Faults,
    pub(crate) capacity: Option<Capacity>,
}

/// What becomes of a call.
pub(crate) enum Verdict {
    /// Never admitted, and charged nothing.
    Rejected(Problem),
    Failed(Problem, InFlight),
    Answered(Call, Plan, InFlight),
}

/// An answer before it is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) output_tokens: u64,
    /// After how many tokens the stream fails, if it does.
    pub(crate) breaks_after: Option<u64>,
    /// When it was its turn.
    began: Timestamp,
    latency: Latency,
}

impl Plan {
    /// The same for a call whose turn it is only now.
    pub(crate) fn beginning(self, now: Timestamp) -> Self {
        Self { began: now, ..self }
    }

    /// When the first `tokens` of the answer are there.
    pub(crate) fn due(&self, tokens: u64) -> Timestamp {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let generation = self.latency.per_token.saturating_mul(tokens);
        self.began
            .saturating_add(self.latency.first_token)
            .saturating_add(generation)
    }

    /// How many tokens of the answer are there at `now`.
    pub(crate) fn generated(&self, now: Timestamp) -> u64 {
        let spent = now.saturating_sub(self.began.saturating_add(self.latency.first_token));
        if now < self.due(0) {
            return 0;
        }
        let per_token = self.latency.per_token.as_nanos().max(1);
        let tokens = u64::try_from(spent.as_nanos() / per_token).unwrap_or(u64::MAX);
        let end = self.breaks_after.unwrap_or(self.output_tokens);
        match self.latency.per_token.is_zero() {
            true => end,
            false => tokens.min(end),
        }
    }
}

// === impl Shared ===

impl Shared {
    /// `scopes` have been validated.
    pub(crate) fn new(scopes: Vec<Scope>, setup: Setup) -> Self {
        let Setup { clock, seed, .. } = setup;
        let origin = clock.now();
        let mut callers = HashMap::new();
        let (mut names, mut states, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for (id, scope) in scopes.into_iter().enumerate() {
            for key in scope.keys {
                let caller = Caller {
                    scope: id,
                    key: keys.len(),
                };
                callers.insert(key, caller);
                keys.push(KeyState::default());
            }
            names.push(scope.name);
            states.push(ScopeState::new(scope.limits, origin));
        }
        let (rng, total) = (Rng::with_seed(seed), Counters::default());
        let state = State {
            scopes: states,
            keys,
            total,
            rng,
            jitter_rng: jitter_rng(seed),
            latency: setup.latency,
            faults: setup.faults,
            line: Line::new(setup.capacity),
            epoch: 0,
            origin,
        };
        Self {
            clock,
            charging: setup.charging,
            headers: setup.headers,
            jitter: setup.jitter,
            callers,
            names,
            seed,
            ids: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn caller(&self, key: &str) -> Option<Caller> {
        self.callers.get(key).copied()
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// A number for the next request and its message.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics half-way through an update, so what a poisoned lock holds is still true.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn with_scope<T>(
        &self,
        name: &str,
        look: impl FnOnce(&mut ScopeState) -> T,
    ) -> Option<T> {
        let id = self.names.iter().position(|known| known == name)?;
        Some(look(&mut self.lock().scopes[id]))
    }

    pub(crate) fn with_key<T>(
        &self,
        key: &str,
        look: impl FnOnce(&mut KeyState) -> T,
    ) -> Option<T> {
        let caller = self.caller(key)?;
        Some(look(&mut self.lock().keys[caller.key]))
    }

    pub(crate) fn total(&self) -> Counters {
        self.lock().total
    }

    /// Counts a call that came from nobody known.
    pub(crate) fn reject(&self, problem: &Problem) {
        self.lock().total.decided(problem.outcome());
    }

    /// What the headers tell now.
    pub(crate) fn gauges(&self, caller: Caller) -> Vec<Gauge> {
        self.lock().scopes[caller.scope]
            .quota
            .gauges(self.clock.now())
    }

    pub(crate) fn set_limits(&self, name: &str, limits: Limits) -> Option<()> {
        self.with_scope(name, |scope| {
            scope.quota.set_limits(limits, self.clock.now())
        })
    }

    pub(crate) fn books(&self, name: &str) -> Option<Books> {
        let now = self.clock.now();
        let dimensions = self.with_scope(name, |scope| scope.quota.books(now))?;
        let at = now.saturating_sub(self.lock().origin);
        Some(Books { at, dimensions })
    }

    /// How long a call is under way before it is heard of.
    pub(crate) fn jitter(&self) -> Duration {
        let most = u64::try_from(self.jitter.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.lock().jitter_rng.u64(0..=most))
    }

    pub(crate) fn reset(&self) {
        let mut state = self.lock();
        let now = self.clock.now();
        state.total.reset();
        for scope in &mut state.scopes {
            scope.counters.reset();
            scope.quota.reset(now);
            scope.credit.reset();
        }
        for key in &mut state.keys {
            key.counters.reset();
        }
        state.rng = Rng::with_seed(self.seed);
        state.jitter_rng = jitter_rng(self.seed);
        state.epoch += 1;
        state.origin = now;
    }

    /// Decides on a call, charges it if it is admitted and draws its fate.
    pub(crate) fn decide(self: &Arc<Self>, caller: Caller, call: Result<Call, Problem>) -> Verdict {
        let mut state = self.lock();
        let now = self.clock.now();
        let (call, tab) = match state.admit(caller, call, now, self) {
            Ok(admitted) => admitted,
            Err(problem) => {
                state.count(caller, |counters| counters.decided(problem.outcome()));
                return Verdict::Rejected(problem);
            }
        };
        let fate = state.draw(&call, now);
        let place = fate.is_ok().then(|| state.line.join());
        let mut in_flight = InFlight::new(Arc::clone(self), tab, place);
        match fate {
            Err(problem) => {
                state.count(caller, |counters| counters.decided(problem.outcome()));
                in_flight.fail();
                Verdict::Failed(problem, in_flight)
            }
            Ok(plan) => {
                state.count(caller, |counters| {
                    counters.decided(Outcome::Answered);
                    counters.stream_errors += u64::from(plan.breaks_after.is_some());
                });
                Verdict::Answered(call, plan, in_flight)
            }
        }
    }
}

// === impl State ===

impl State {
    /// Charges a call, or says what is against it.
    fn admit(
        &mut self,
        caller: Caller,
        call: Result<Call, Problem>,
        now: Timestamp,
        shared: &Shared,
    ) -> Result<(Call, Tab), Problem> {
        let (key, scope) = (&self.keys[caller.key], &mut self.scopes[caller.scope]);
        if key.revoked {
            return Err(Problem::UnknownKey);
        }
        let call = call?;
        let of_key = key.denied.get(&call.model);
        if let Some(denial) = of_key.or_else(|| scope.denied.get(&call.model)) {
            return Err(Problem::denied(call.model, *denial));
        }
        if scope.credit.is_spent() {
            return Err(Problem::Exhausted);
        }
        if self.line.is_full() {
            return Err(Problem::Overloaded);
        }
        let rule = shared.charging;
        let charged = rule.at_admission(&call.tokens);
        let (needs, charge) = (rule.needs(charged), charged.per_dimension());
        let in_flight = scope.counters.in_flight;
        if let Err(mut refusal) = scope.quota.admit(needs, charge, in_flight, now) {
            if rule.counts_refused() {
                let after = scope.quota.waste(needs, charge, in_flight, now);
                refusal = after.unwrap_or(refusal);
            }
            return Err(Problem::refused(refusal, call.model, &shared.clock));
        }
        let Tokens { input, max, .. } = call.tokens;
        scope.credit.charge(input.saturating_add(max));
        let since_origin = now.saturating_sub(self.origin);
        self.count(caller, |counters| {
            counters.admitted(charged.input, charged.output, since_origin)
        });
        let tab = Tab {
            caller,
            epoch: self.epoch,
            tokens: call.tokens,
            charged,
        };
        Ok((call, tab))
    }

    /// Replaces what a call was charged; it was admitted in this epoch.
    pub(crate) fn settle(&mut self, tab: &mut Tab, charge: Charge, now: Timestamp) {
        let old = std::mem::replace(&mut tab.charged, charge);
        let quota = &mut self.scopes[tab.caller.scope].quota;
        quota.settle(old.per_dimension(), charge.per_dimension(), now);
        self.count(tab.caller, |counters| counters.settled(old, charge));
    }

    pub(crate) fn count(&mut self, caller: Caller, update: impl Fn(&mut Counters)) {
        update(&mut self.total);
        update(&mut self.scopes[caller.scope].counters);
        update(&mut self.keys[caller.key].counters);
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Draws length and faults; always as many draws, so that the sequence depends on the seed and
    /// the order alone.
    fn draw(&mut self, call: &Call, now: Timestamp) -> Result<Plan, Problem> {
        let max = call.tokens.max;
        let drawn_tokens = self.rng.u64((max / 10).max(1)..=max);
        let fault = self.rng.f64();
        let stream_fault = self.rng.f64();

        if fault < self.faults.server_error_share {
            return Err(Problem::ServerError);
        }
        if fault < self.faults.server_error_share + self.faults.overloaded_share {
            return Err(Problem::Overloaded);
        }
        let output_tokens = call.output_tokens.unwrap_or(drawn_tokens);
        let breaks = call.stream && stream_fault < self.faults.stream_error_share;
        let breaks_after = breaks.then(|| output_tokens.div_ceil(2));
        Ok(Plan {
            output_tokens,
            breaks_after,
            began: now,
            latency: self.latency,
        })
    }
}

fn jitter_rng(seed: u64) -> Rng {
    Rng::with_seed(seed ^ 0x6a69_7474_6572)
}
