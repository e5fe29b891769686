//! The one strategy of a layer: what a request costs, how long it may wait, what an answer
//! means, and how long the layer's guard lives.
//!
//! [`Plain`] is the default for any service; [`http`](crate::http) has the ones for HTTP.
//! Closures enter through the adaptors that the layers' setters build, such as [`CostFn`].

use tokio::time::Instant;

pub use crate::clock::timestamp;
#[cfg(feature = "key-rotation")]
use crate::key_rotation::Key;
use crate::{
    error::{BoxError, KeyFailed, Rejected},
    outcome::{Effect, Ending, Idempotency, Outcome, Usage, Verdict},
    policy::{CallSize, Cost, Readings},
};

/// What a layer holds on behalf of an admitted call.
///
/// Dropping a guard anywhere is a correct, neutral release. [`finish`](Guard::finish) releases
/// it too, and tells what is known of the answer.
pub trait Guard {
    /// Releases what is held and reports how the answer ended. Called at most once.
    fn finish(self, ending: Ending);
}

/// The strategy of a layer for requests `Req` and responses `Res`.
///
/// Only the guard's lifetime must be written down, because it decides the response type; all
/// else has a default. A protocol for an API that is not HTTP:
///
/// ```
/// use tower_relay::{
///     error::BoxError,
///     outcome::{Outcome, Verdict},
///     policy::Cost,
///     protocol::{Guard, Protocol},
/// };
///
/// struct Sql;
/// struct Query { rows: u64 }
/// struct Rows { busy: bool }
///
/// impl Protocol<Query, Rows> for Sql {
///     type Response<G: Guard> = Rows;
///
///     // The guard lives until the response: it is dropped here.
///     fn hold<G: Guard>(&self, rows: Rows, _guard: G) -> Rows {
///         rows
///     }
///
///     fn cost(&self, query: &Query) -> Cost {
///         Cost::REQUEST.output_tokens(query.rows)
///     }
///
///     fn classify(&self, result: Result<&Rows, &BoxError>) -> Outcome {
///         match result {
///             Ok(rows) if rows.busy => Outcome::new(Verdict::Throttled),
///             Ok(_) => Outcome::SUCCESS,
///             Err(_) => Outcome::new(Verdict::ServerFault),
///         }
///     }
/// }
///
/// assert_eq!(Sql.cost(&Query { rows: 7 }), Cost::REQUEST.output_tokens(7));
/// assert_eq!(Sql.classify(Ok(&Rows { busy: true })).verdict(), Verdict::Throttled);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no protocol for requests `{Req}` and responses `{Res}`",
    note = "inside a `FactsLayer` requests come as `Call`s: add `.noted()` to the layer"
)]
pub trait Protocol<Req, Res> {
    /// The response with a guard in it, or as it was where the guard does not outlive it.
    type Response<G: Guard>;

    /// Lets `guard` live as long as it should: until the response (drop it), or inside.
    fn hold<G: Guard>(&self, response: Res, guard: G) -> Self::Response<G>;

    /// What the request takes from a quota. Default: one request.
    fn cost(&self, request: &Req) -> Cost {
        let _ = request;
        Cost::REQUEST
    }

    /// The tokens that the [cost](Self::cost) is made of, which a layer that
    /// [estimates](crate::policy::Estimator) makes it of anew. Default: unknown, so that the cost
    /// stands as it is.
    #[inline]
    fn size(&self, request: &Req) -> Option<CallSize> {
        let _ = request;
        None
    }

    /// The model that is asked, by which a pool of keys chooses among its quotas. Default: none.
    fn model<'a>(&self, request: &'a Req) -> Option<&'a str> {
        let _ = request;
        None
    }

    /// What the request has in common with others that are best served by the same key: a hash of
    /// its session, or of the beginning of its prompt. Default: nothing.
    fn affinity(&self, request: &Req) -> Option<u64> {
        let _ = request;
        None
    }

    /// The class of callers that the request is of, by which a queue shares what there is. Default:
    /// none.
    fn class<'a>(&self, request: &'a Req) -> Option<&'a str> {
        let _ = request;
        None
    }

    /// Puts the key that was picked for this attempt into the request, in the place of any that
    /// is there. Called once per attempt, at the instant of sending. It must not block; a panic
    /// refunds the call and goes on to the caller. Default: nothing.
    #[cfg(feature = "key-rotation")]
    fn authorize(&self, request: &mut Req, key: &Key) {
        let _ = (request, key);
    }

    /// When the caller stops waiting. Default: never.
    fn deadline(&self, request: &Req) -> Option<Instant> {
        let _ = request;
        None
    }

    /// Whether the request may be sent twice. Default: unknown.
    fn idempotency(&self, request: &Req) -> Idempotency {
        let _ = request;
        Idempotency::Unknown
    }

    /// How many times the request has been sent already, by an outer layer. Default: never.
    fn resends(&self, request: &Req) -> u32 {
        let _ = request;
        0
    }

    /// Makes the count of earlier sends travel with the request. Default: it does not.
    fn set_resends(&self, request: &mut Req, resends: u32) {
        let _ = (request, resends);
    }

    /// What an attempt turned out to be, from what is known when the response begins. Pure,
    /// without allocation, and called by every layer that needs it. Default: see [`classify`].
    fn classify(&self, result: Result<&Res, &BoxError>) -> Outcome {
        classify(result.map(drop))
    }

    /// What a response, of a success or a failure, shows of the server's quotas, by which layers
    /// that keep some correct theirs. Pure, without allocation, called when the response begins by
    /// every layer that keeps a quota. Default: nothing is shown.
    #[inline]
    fn readings(&self, response: &Res) -> Readings {
        let _ = response;
        Readings::NONE
    }

    /// Writes an outcome beside a failed response for the layers outside. Default: nothing.
    fn annotate(&self, response: &mut Res, outcome: Outcome) {
        let _ = (response, outcome);
    }
}

/// The classification of last resort: any response is a success, a [`Rejected`] is a local
/// refusal with its own time to come back, and any other error a server fault that may have
/// acted.
#[inline]
pub fn classify(result: Result<(), &BoxError>) -> Outcome {
    match result {
        Ok(()) => Outcome::SUCCESS,
        Err(error) => classify_error(error),
    }
}

#[cold]
fn classify_error(error: &BoxError) -> Outcome {
    let Some(rejected) = Rejected::find(&**error) else {
        return Outcome::new(Verdict::ServerFault);
    };
    match rejected.retry_after() {
        Some(wait) => Outcome::new(Verdict::RefusedLocally).after(wait),
        None => Outcome::new(Verdict::RefusedLocally).with_effect(Effect::None),
    }
}

/// What a call that failed without a response turned out to be: what a pool inside has found out
/// ([`KeyFailed`]), otherwise what the protocol makes of it. All layers ask this; so should a layer
/// of one's own.
///
/// ```
/// use tower_relay::{error::BoxError, outcome::Verdict, protocol::{Plain, classify_failure}};
///
/// let error = BoxError::from("connection refused");
/// let outcome = classify_failure::<(), (), _>(&Plain, &error);
/// assert_eq!(outcome.verdict(), Verdict::ServerFault);
/// ```
pub fn classify_failure<Req, Res, P>(protocol: &P, error: &BoxError) -> Outcome
where
    P: Protocol<Req, Res>,
{
    match KeyFailed::find(&**error) {
        Some(failed) => failed.outcome(),
        None => protocol.classify(Err(error)),
    }
}

/// The protocol of any service: a request costs one, every response is a success, and the
/// guard lives until the response.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl<Req, Res> Protocol<Req, Res> for Plain {
    type Response<G: Guard> = Res;

    #[inline]
    fn hold<G: Guard>(&self, response: Res, guard: G) -> Res {
        guard.finish(Ending::complete(Usage::UNKNOWN));
        response
    }
}

/// Writes the methods that an adaptor passes on to the protocol it wraps.
macro_rules! pass_on {
    (@hold) => {
        type Response<G: Guard> = P::Response<G>;

        fn hold<G: Guard>(&self, response: Res, guard: G) -> Self::Response<G> {
            self.inner.hold(response, guard)
        }

        fn resends(&self, request: &Req) -> u32 {
            self.inner.resends(request)
        }

        fn set_resends(&self, request: &mut Req, resends: u32) {
            self.inner.set_resends(request, resends);
        }

        fn annotate(&self, response: &mut Res, outcome: Outcome) {
            self.inner.annotate(response, outcome);
        }

        #[inline]
        fn readings(&self, response: &Res) -> Readings {
            self.inner.readings(response)
        }
    };
    (@cost) => {
        fn cost(&self, request: &Req) -> Cost {
            self.inner.cost(request)
        }

        #[inline]
        fn size(&self, request: &Req) -> Option<CallSize> {
            self.inner.size(request)
        }
    };
    (@model) => {
        fn model<'a>(&self, request: &'a Req) -> Option<&'a str> {
            self.inner.model(request)
        }
    };
    (@affinity) => {
        fn affinity(&self, request: &Req) -> Option<u64> {
            self.inner.affinity(request)
        }
    };
    (@class) => {
        fn class<'a>(&self, request: &'a Req) -> Option<&'a str> {
            self.inner.class(request)
        }
    };
    (@authorize) => {
        #[cfg(feature = "key-rotation")]
        fn authorize(&self, request: &mut Req, key: &Key) {
            self.inner.authorize(request, key);
        }
    };
    (@deadline) => {
        fn deadline(&self, request: &Req) -> Option<Instant> {
            self.inner.deadline(request)
        }
    };
    (@idempotency) => {
        fn idempotency(&self, request: &Req) -> Idempotency {
            self.inner.idempotency(request)
        }
    };
    (@classify) => {
        fn classify(&self, result: Result<&Res, &BoxError>) -> Outcome {
            self.inner.classify(result)
        }
    };
    ($($method:ident),*) => { pass_on!(@hold); $(pass_on!(@$method);)* };
}

/// A protocol whose cost is a closure's.
#[derive(Clone, Copy, Debug)]
pub struct CostFn<P, F> {
    inner: P,
    cost: F,
}

impl<P, F> CostFn<P, F> {
    /// `inner` with `cost` as its [`Protocol::cost`].
    pub const fn new(inner: P, cost: F) -> Self {
        Self { inner, cost }
    }
}

impl<Req, Res, P, F> Protocol<Req, Res> for CostFn<P, F>
where
    P: Protocol<Req, Res>,
    F: Fn(&Req) -> Cost,
{
    pass_on!(
        model,
        affinity,
        class,
        authorize,
        deadline,
        idempotency,
        classify
    );

    fn cost(&self, request: &Req) -> Cost {
        (self.cost)(request)
    }
}

/// A protocol whose classification is a closure's.
#[derive(Clone, Copy, Debug)]
pub struct ClassifyFn<P, F> {
    inner: P,
    classify: F,
}

impl<P, F> ClassifyFn<P, F> {
    /// `inner` with `classify` as its [`Protocol::classify`].
    pub const fn new(inner: P, classify: F) -> Self {
        Self { inner, classify }
    }
}

impl<Req, Res, P, F> Protocol<Req, Res> for ClassifyFn<P, F>
where
    P: Protocol<Req, Res>,
    F: Fn(Result<&Res, &BoxError>) -> Outcome,
{
    pass_on!(
        cost,
        model,
        affinity,
        class,
        authorize,
        deadline,
        idempotency
    );

    fn classify(&self, result: Result<&Res, &BoxError>) -> Outcome {
        (self.classify)(result)
    }
}

/// A protocol whose deadline is a closure's.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineFn<P, F> {
    inner: P,
    deadline: F,
}

impl<P, F> DeadlineFn<P, F> {
    /// `inner` with `deadline` as its [`Protocol::deadline`].
    pub const fn new(inner: P, deadline: F) -> Self {
        Self { inner, deadline }
    }
}

impl<Req, Res, P, F> Protocol<Req, Res> for DeadlineFn<P, F>
where
    P: Protocol<Req, Res>,
    F: Fn(&Req) -> Option<Instant>,
{
    pass_on!(
        cost,
        model,
        affinity,
        class,
        authorize,
        idempotency,
        classify
    );

    fn deadline(&self, request: &Req) -> Option<Instant> {
        (self.deadline)(request)
    }
}

/// A protocol whose model is a closure's.
///
/// ```
/// use tower_relay::protocol::{ModelFn, Plain, Protocol};
///
/// struct Prompt {
///     model: Option<String>,
/// }
///
/// let protocol = ModelFn::new(Plain, |prompt: &Prompt| prompt.model.as_deref());
/// let prompt = Prompt { model: Some("large-1".into()) };
/// assert_eq!(Protocol::<_, ()>::model(&protocol, &prompt), Some("large-1"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ModelFn<P, F> {
    inner: P,
    model: F,
}

impl<P, F> ModelFn<P, F> {
    /// `inner` with `model` as its [`Protocol::model`].
    pub const fn new<Req>(inner: P, model: F) -> Self
    where
        // Without it a closure is not taken to return what it borrows.
        F: for<'a> Fn(&'a Req) -> Option<&'a str>,
    {
        Self { inner, model }
    }
}

impl<Req, Res, P, F> Protocol<Req, Res> for ModelFn<P, F>
where
    P: Protocol<Req, Res>,
    F: for<'a> Fn(&'a Req) -> Option<&'a str>,
{
    pass_on!(
        cost,
        affinity,
        class,
        authorize,
        deadline,
        idempotency,
        classify
    );

    fn model<'a>(&self, request: &'a Req) -> Option<&'a str> {
        (self.model)(request)
    }
}

/// A protocol whose affinity is a closure's.
///
/// ```
/// use tower_relay::protocol::{AffinityFn, Plain, Protocol};
///
/// let protocol = AffinityFn::new(Plain, |session: &u64| Some(*session));
/// assert_eq!(Protocol::<_, ()>::affinity(&protocol, &7), Some(7));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AffinityFn<P, F> {
    inner: P,
    affinity: F,
}

impl<P, F> AffinityFn<P, F> {
    /// `inner` with `affinity` as its [`Protocol::affinity`].
    pub const fn new(inner: P, affinity: F) -> Self {
        Self { inner, affinity }
    }
}

impl<Req, Res, P, F> Protocol<Req, Res> for AffinityFn<P, F>
where
    P: Protocol<Req, Res>,
    F: Fn(&Req) -> Option<u64>,
{
    pass_on!(
        cost,
        model,
        class,
        authorize,
        deadline,
        idempotency,
        classify
    );

    fn affinity(&self, request: &Req) -> Option<u64> {
        (self.affinity)(request)
    }
}

/// A protocol whose class of callers is a closure's.
///
/// ```
/// use tower_relay::protocol::{ClassFn, Plain, Protocol};
///
/// let protocol = ClassFn::new(Plain, |tenant: &String| Some(tenant.as_str()));
/// let tenant = String::from("batch");
/// assert_eq!(Protocol::<_, ()>::class(&protocol, &tenant), Some("batch"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ClassFn<P, F> {
    inner: P,
    class: F,
}

impl<P, F> ClassFn<P, F> {
    /// `inner` with `class` as its [`Protocol::class`].
    pub const fn new<Req>(inner: P, class: F) -> Self
    where
        // Without it a closure is not taken to return what it borrows.
        F: for<'a> Fn(&'a Req) -> Option<&'a str>,
    {
        Self { inner, class }
    }
}

impl<Req, Res, P, F> Protocol<Req, Res> for ClassFn<P, F>
where
    P: Protocol<Req, Res>,
    F: for<'a> Fn(&'a Req) -> Option<&'a str>,
{
    pass_on!(
        cost,
        model,
        affinity,
        authorize,
        deadline,
        idempotency,
        classify
    );

    fn class<'a>(&self, request: &'a Req) -> Option<&'a str> {
        (self.class)(request)
    }
}

/// A protocol that puts keys into requests by a closure.
///
/// ```
/// use tower_relay::{
///     key_rotation::{ExposeSecret, KeyPool, Scope, Source},
///     policy::InvalidConfig,
///     protocol::{AuthorizeFn, Plain, Protocol},
/// };
///
/// struct Query {
///     token: String,
/// }
///
/// let protocol = AuthorizeFn::new(Plain, |query: &mut Query, key| {
///     query.token = key.secret().expose_secret().into();
/// });
/// let scope = Scope::new("org-a").key("a1", Source::value("sk-1"));
/// let pool = KeyPool::builder().scope(scope).build()?;
/// let mut query = Query { token: "the caller's own".into() };
/// for key in pool.keys() {
///     Protocol::<_, ()>::authorize(&protocol, &mut query, key);
/// }
/// assert_eq!(query.token, "sk-1");
/// # Ok::<(), InvalidConfig>(())
/// ```
#[cfg(feature = "key-rotation")]
#[derive(Clone, Copy, Debug)]
pub struct AuthorizeFn<P, F> {
    inner: P,
    authorize: F,
}

#[cfg(feature = "key-rotation")]
impl<P, F> AuthorizeFn<P, F> {
    /// `inner` with `authorize` as its [`Protocol::authorize`].
    pub const fn new<Req>(inner: P, authorize: F) -> Self
    where
        F: Fn(&mut Req, &Key),
    {
        Self { inner, authorize }
    }
}

#[cfg(feature = "key-rotation")]
impl<Req, Res, P, F> Protocol<Req, Res> for AuthorizeFn<P, F>
where
    P: Protocol<Req, Res>,
    F: Fn(&mut Req, &Key),
{
    pass_on!(
        cost,
        model,
        affinity,
        class,
        deadline,
        idempotency,
        classify
    );

    fn authorize(&self, request: &mut Req, key: &Key) {
        (self.authorize)(request, key);
    }
}

/// A protocol that takes every request to be idempotent, as calls of an LLM are.
#[derive(Clone, Copy, Debug)]
pub struct AssumeIdempotent<P> {
    inner: P,
}

impl<P> AssumeIdempotent<P> {
    /// `inner` with every request taken to be idempotent.
    pub const fn new(inner: P) -> Self {
        Self { inner }
    }
}

impl<Req, Res, P> Protocol<Req, Res> for AssumeIdempotent<P>
where
    P: Protocol<Req, Res>,
{
    pass_on!(cost, model, affinity, class, authorize, deadline, classify);

    fn idempotency(&self, _: &Req) -> Idempotency {
        Idempotency::Idempotent
    }
}

#[cfg(test)]
mod tests;
