//! What the provider knows, behind one lock, and the one decision it takes: admission.

use crate::{
    access::{Caller, KeyState, ScopeState},
    clock::{Clock, Timestamp},
    config::{Capacity, Faults, Latency, Limits, Scope},
    counters::{Counters, Outcome},
    in_flight::InFlight,
    line::Line,
    quota::{self, Gauge},
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
};

/// Shared by the handle, every connection and every answer under way. Holds keys, hence no `Debug`.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
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
    pub(crate) latency: Latency,
    pub(crate) faults: Faults,
    pub(crate) line: Line,
    /// Counts resets, so that answers from before one do not count after it.
    epoch: u64,
    /// When the counters started.
    origin: Timestamp,
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
}

// === impl Shared ===

impl Shared {
    /// `scopes` have been validated.
    pub(crate) fn new(
        scopes: Vec<Scope>,
        clock: Clock,
        seed: u64,
        latency: Latency,
        faults: Faults,
        capacity: Option<Capacity>,
    ) -> Self {
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
            latency,
            faults,
            line: Line::new(capacity),
            epoch: 0,
            origin,
        };
        Self {
            clock,
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
        state.epoch += 1;
        state.origin = now;
    }

    /// Decides on a call, charges it if it is admitted and draws its fate.
    pub(crate) fn decide(self: &Arc<Self>, caller: Caller, call: Result<Call, Problem>) -> Verdict {
        let mut state = self.lock();
        let now = self.clock.now();
        let call = match state.admit(caller, call, now, &self.clock) {
            Ok(call) => call,
            Err(problem) => {
                state.count(caller, |counters| counters.decided(problem.outcome()));
                return Verdict::Rejected(problem);
            }
        };
        let fate = state.draw(&call, now);
        let place = fate.is_ok().then(|| state.line.join());
        let in_flight = InFlight::new(Arc::clone(self), caller, state.epoch, place);
        match fate {
            Err(problem) => {
                state.count(caller, |counters| counters.decided(problem.outcome()));
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
        clock: &Clock,
    ) -> Result<Call, Problem> {
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
        let cost = quota::cost(call.input_tokens, call.max_tokens);
        if let Err(refusal) = scope.quota.admit(cost, scope.counters.in_flight, now) {
            return Err(Problem::refused(refusal, call.model, clock));
        }
        scope
            .credit
            .charge(call.input_tokens.saturating_add(call.max_tokens));
        let since_origin = now.saturating_sub(self.origin);
        self.count(caller, |counters| {
            counters.admitted(call.input_tokens, call.max_tokens, since_origin)
        });
        Ok(call)
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
        let drawn_tokens = self
            .rng
            .u64((call.max_tokens / 10).max(1)..=call.max_tokens);
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
