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
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::{CostTooLarge, Reading, Unit};

    #[test]
    fn a_refusal_that_can_never_pass_has_no_hint() {
        let error: BoxError =
            Rejected::CostTooLarge(CostTooLarge::new(Unit::REQUESTS, 5, 2)).into();
        let outcome = Protocol::<(), ()>::classify(&Plain, Err(&error));
        assert_eq!(outcome.verdict(), Verdict::RefusedLocally);
        assert_eq!(outcome.hint(), None);
        assert_eq!(outcome.effect(), Effect::None);
    }

    #[test]
    fn an_unknown_error_may_have_had_an_effect() {
        let outcome = Protocol::<(), ()>::classify(&Plain, Err(&"broken pipe".into()));
        assert_eq!(outcome.verdict(), Verdict::ServerFault);
        assert_eq!(outcome.effect(), Effect::Possible);
    }

    #[test]
    fn an_adaptor_replaces_one_answer_and_passes_on_the_rest() {
        let protocol =
            AssumeIdempotent::new(CostFn::new(Plain, |n: &u64| Cost::REQUEST.input_tokens(*n)));
        let as_protocol: &dyn Fn(&u64) -> Cost = &|n| Protocol::<u64, ()>::cost(&protocol, n);
        assert_eq!(as_protocol(&9), Cost::REQUEST.input_tokens(9));
        assert_eq!(
            Protocol::<u64, ()>::idempotency(&protocol, &9),
            Idempotency::Idempotent
        );
    }

    struct Ask {
        model: Option<String>,
        token: String,
    }

    #[cfg(feature = "key-rotation")]
    fn pool() -> crate::key_rotation::KeyPool {
        use crate::key_rotation::{KeyPool, Scope, Source};

        let scope = Scope::new("org-a").key("a1", Source::value("sk-1"));
        let pool = KeyPool::builder().scope(scope).build();
        pool.expect("it is valid")
    }

    fn check_model(protocol: &impl Protocol<Ask, ()>, expected: Option<&str>) {
        let ask = Ask {
            model: Some("large-1".into()),
            token: String::new(),
        };
        assert_eq!(protocol.model(&ask), expected);
        assert_eq!(ask.token, "");
    }

    #[test]
    fn every_adaptor_passes_the_model_on() {
        let protocol = || ModelFn::new(Plain, |ask: &Ask| ask.model.as_deref());
        let large = Some("large-1");
        check_model(&Plain, None);
        check_model(&protocol(), large);
        check_model(&CostFn::new(protocol(), |_: &Ask| Cost::REQUEST), large);
        let classify = |_: Result<&(), &BoxError>| Outcome::SUCCESS;
        check_model(&ClassifyFn::new(protocol(), classify), large);
        check_model(&DeadlineFn::new(protocol(), |_: &Ask| None), large);
        check_model(&AssumeIdempotent::new(protocol()), large);
        check_model(&ModelFn::new(protocol(), |_: &Ask| None), None);
        check_model(&ModelFn::new(Plain, |_: &Ask| Some("fixed")), Some("fixed"));
        #[cfg(feature = "key-rotation")]
        check_model(&AuthorizeFn::new(protocol(), |_: &mut Ask, _| {}), large);
    }

    /// Knows the size of its requests.
    struct Sizing;

    impl<Req, Res> Protocol<Req, Res> for Sizing {
        type Response<G: Guard> = Res;

        fn hold<G: Guard>(&self, response: Res, _: G) -> Res {
            response
        }

        fn size(&self, _: &Req) -> Option<CallSize> {
            Some(CallSize::new(3, 5))
        }
    }

    #[test]
    fn every_adaptor_passes_the_size_on_but_the_one_of_costs() {
        fn size(protocol: &impl Protocol<Ask, ()>) -> Option<CallSize> {
            let ask = Ask {
                model: None,
                token: String::new(),
            };
            protocol.size(&ask)
        }

        let known = Some(CallSize::new(3, 5));
        assert_eq!(size(&Plain), None);
        assert_eq!(size(&Sizing), known);
        assert_eq!(size(&CostFn::new(Sizing, |_: &Ask| Cost::REQUEST)), None);
        let classify = |_: Result<&(), &BoxError>| Outcome::SUCCESS;
        assert_eq!(size(&ClassifyFn::new(Sizing, classify)), known);
        assert_eq!(size(&DeadlineFn::new(Sizing, |_: &Ask| None)), known);
        assert_eq!(size(&ModelFn::new(Sizing, |_: &Ask| None)), known);
        assert_eq!(size(&AffinityFn::new(Sizing, |_: &Ask| None)), known);
        assert_eq!(size(&ClassFn::new(Sizing, |_: &Ask| None)), known);
        assert_eq!(size(&AssumeIdempotent::new(Sizing)), known);
        #[cfg(feature = "key-rotation")]
        assert_eq!(size(&AuthorizeFn::new(Sizing, |_: &mut Ask, _| {})), known);
        #[cfg(all(feature = "http", feature = "key-rotation"))]
        {
            let bearer = crate::http::Credential::bearer(Sizing);
            let request = http::Request::new(());
            assert_eq!(Protocol::<_, ()>::size(&bearer, &request), known);
        }
        let noted = crate::call::Noted::new(Sizing);
        let facts = crate::call::Facts::of_size(CallSize::new(7, 9));
        let call = crate::call::Call::new((), facts);
        let of_facts = Protocol::<_, ()>::size(&noted, &call);
        assert_eq!(of_facts, Some(CallSize::new(7, 9)));
        let facts = crate::call::Facts::new(Cost::REQUEST);
        let call = crate::call::Call::new((), facts);
        assert_eq!(Protocol::<_, ()>::size(&noted, &call), None, "as the cost");
    }

    /// Shows what is left of requests: as much as the response says.
    struct Left;

    impl<Req> Protocol<Req, u64> for Left {
        type Response<G: Guard> = u64;

        fn hold<G: Guard>(&self, left: u64, _: G) -> u64 {
            left
        }

        fn readings(&self, left: &u64) -> Readings {
            Readings::NONE.with(left_of(*left))
        }
    }

    fn left_of(left: u64) -> Reading {
        Reading::new(Unit::REQUESTS, Duration::from_secs(60)).remaining(left)
    }

    #[test]
    fn every_adaptor_passes_the_readings_on() {
        fn check(protocol: &impl Protocol<Ask, u64>) {
            assert_eq!(protocol.readings(&7), Readings::NONE.with(left_of(7)));
        }

        check(&Left);
        check(&CostFn::new(Left, |_: &Ask| Cost::REQUEST));
        let classify = |_: Result<&u64, &BoxError>| Outcome::SUCCESS;
        check(&ClassifyFn::new(Left, classify));
        check(&DeadlineFn::new(Left, |_: &Ask| None));
        check(&ModelFn::new(Left, |ask: &Ask| ask.model.as_deref()));
        check(&AssumeIdempotent::new(Left));
        #[cfg(feature = "key-rotation")]
        check(&AuthorizeFn::new(Left, |_: &mut Ask, _| {}));
        #[cfg(all(feature = "http", feature = "key-rotation"))]
        {
            let bearer = crate::http::Credential::bearer(Left);
            let shown = Protocol::<http::Request<()>, u64>::readings(&bearer, &7);
            assert_eq!(shown, Readings::NONE.with(left_of(7)));
        }
        let noted = crate::call::Noted::new(Left);
        let shown = Protocol::<crate::call::Call<Ask>, u64>::readings(&noted, &7);
        assert_eq!(shown, Readings::NONE.with(left_of(7)));
        let nothing = Protocol::<Ask, u64>::readings(&Plain, &7);
        assert!(nothing.is_empty());
    }

    #[cfg(feature = "key-rotation")]
    #[test]
    fn every_adaptor_passes_the_key_on() {
        fn check(protocol: &impl Protocol<Ask, ()>) {
            let mut ask = Ask {
                model: None,
                token: String::new(),
            };
            for key in pool().keys() {
                protocol.authorize(&mut ask, key);
            }
            assert_eq!(ask.token, "a1");
        }

        let write = |ask: &mut Ask, key: &Key| ask.token.push_str(key.alias());
        let protocol = || AuthorizeFn::new(Plain, write);
        check(&protocol());
        check(&CostFn::new(protocol(), |_: &Ask| Cost::REQUEST));
        let classify = |_: Result<&(), &BoxError>| Outcome::SUCCESS;
        check(&ClassifyFn::new(protocol(), classify));
        check(&DeadlineFn::new(protocol(), |_: &Ask| None));
        check(&ModelFn::new(protocol(), |ask: &Ask| ask.model.as_deref()));
        check(&AssumeIdempotent::new(protocol()));
        check(&AuthorizeFn::new(
            AuthorizeFn::new(Plain, |_: &mut Ask, _| unreachable!("it is replaced")),
            write,
        ));
    }
}
