//! Request facts, read once.
//!
//! What needs the body parsed (cost, deadline, model) is read by the outermost layer and
//! travels beside the request as a [`Call`], so that no attempt parses it again and no map has
//! to be allocated for it:
//!
//! ```text
//! FactsLayer -> retry -> rate limit -> RequestLayer -> client
//!    Req          Call<Req>   Call<Req>      Call<Req>    Req
//! ```
//!
//! Layers between the two take [`Noted`] around their protocol:
//! `RateLimitLayer::http(quota).noted()`.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

#[cfg(feature = "key-rotation")]
use crate::key_rotation::Key;
use crate::{
    error::BoxError,
    outcome::{Idempotency, Outcome},
    policy::{CallSize, Cost, Readings},
    protocol::{Guard, Protocol},
};

/// What is known of a request before it is sent.
///
/// ```
/// use tower_relay::{call::Facts, policy::Cost};
///
/// let facts = Facts::new(Cost::REQUEST.output_tokens(800)).model("some-model");
/// assert_eq!(facts.cost(), Cost::REQUEST.output_tokens(800));
/// ```
#[derive(Clone, Debug)]
pub struct Facts {
    cost: Cost,
    size: Option<CallSize>,
    deadline: Option<Instant>,
    idempotency: Idempotency,
    model: Option<Arc<str>>,
    affinity: Option<u64>,
    class: Option<Arc<str>>,
    max_tokens: Option<u64>,
    streamed: bool,
}

impl Facts {
    /// Facts of a request that costs `cost`: no deadline, not known to be idempotent, its answer
    /// not known to be a stream.
    #[must_use]
    pub const fn new(cost: Cost) -> Self {
        Self {
            cost,
            size: None,
            deadline: None,
            idempotency: Idempotency::Unknown,
            model: None,
            affinity: None,
            class: None,
            max_tokens: None,
            streamed: false,
        }
    }

    /// Facts of a request of this size: it costs what that says, until an
    /// [`Estimator`](crate::policy::Estimator) of a layer knows better.
    ///
    /// ```
    /// use tower_relay::{call::Facts, policy::CallSize};
    ///
    /// let size = CallSize::new(1_200, 800);
    /// assert_eq!(Facts::of_size(size).cost(), size.cost());
    /// ```
    #[must_use]
    pub const fn of_size(size: CallSize) -> Self {
        let mut facts = Self::new(size.cost());
        facts.size = Some(size);
        facts
    }

    /// These facts with an instant at which the caller stops waiting.
    #[must_use]
    pub const fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// These facts with a word on whether the request may be sent twice.
    #[must_use]
    pub const fn idempotency(mut self, idempotency: Idempotency) -> Self {
        self.idempotency = idempotency;
        self
    }

    /// These facts with the model that is asked.
    #[must_use]
    pub fn model(mut self, model: impl Into<Arc<str>>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// These facts with what the request has in common with others that are best served by the
    /// same key: a hash of its session, or of the beginning of its prompt.
    #[must_use]
    pub const fn affinity(mut self, hash: u64) -> Self {
        self.affinity = Some(hash);
        self
    }

    /// These facts with the class of callers that the request is of.
    #[must_use]
    pub fn class(mut self, class: impl Into<Arc<str>>) -> Self {
        self.class = Some(class.into());
        self
    }

    /// These facts with the most tokens of output that the request asks for, all its answers
    /// together.
    #[must_use]
    pub const fn max_tokens(mut self, tokens: u64) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// These facts of a request whose answer comes as a stream of events.
    #[must_use]
    pub const fn streamed(mut self) -> Self {
        self.streamed = true;
        self
    }

    /// What the request takes from a quota.
    #[must_use]
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// The tokens that the cost is made of, if it is.
    #[must_use]
    pub const fn size(&self) -> Option<CallSize> {
        self.size
    }

    /// When the caller stops waiting, if that is known.
    #[must_use]
    pub const fn stops_waiting_at(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the request may be sent twice.
    #[must_use]
    pub const fn may_be_repeated(&self) -> Idempotency {
        self.idempotency
    }

    /// The model that is asked, if the request names one.
    #[must_use]
    pub fn model_name(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// What the request has in common with those that the same key serves best, if anything.
    #[must_use]
    pub const fn affinity_key(&self) -> Option<u64> {
        self.affinity
    }

    /// The class of callers that the request is of, if that is known.
    #[must_use]
    pub fn class_name(&self) -> Option<&str> {
        self.class.as_deref()
    }

    /// The most tokens of output that the request asks for, if it says.
    #[must_use]
    pub const fn output_limit(&self) -> Option<u64> {
        self.max_tokens
    }

    /// Whether the answer is known to come as a stream of events.
    #[must_use]
    pub const fn is_streamed(&self) -> bool {
        self.streamed
    }
}

/// A request with its facts and the count of its earlier sends.
#[derive(Clone, Debug)]
pub struct Call<Req> {
    request: Req,
    facts: Facts,
    resends: u32,
}

impl<Req> Call<Req> {
    /// A call that has not been sent yet.
    pub const fn new(request: Req, facts: Facts) -> Self {
        Self {
            request,
            facts,
            resends: 0,
        }
    }

    /// The request.
    pub const fn request(&self) -> &Req {
        &self.request
    }

    /// The request, its facts left behind.
    pub fn into_request(self) -> Req {
        self.request
    }

    /// The same call with its request changed.
    ///
    /// ```
    /// use tower_relay::{call::{Call, Facts}, policy::Cost};
    ///
    /// let call = Call::new("7", Facts::new(Cost::REQUEST).model("m"));
    /// let call = call.map_request(|text| text.len());
    /// assert_eq!((*call.request(), call.facts().model_name()), (1, Some("m")));
    /// ```
    pub fn map_request<T>(self, change: impl FnOnce(Req) -> T) -> Call<T> {
        Call {
            request: change(self.request),
            facts: self.facts,
            resends: self.resends,
        }
    }

    /// A call of `request` with these facts and this count.
    pub fn with_request<T>(&self, request: T) -> Call<T> {
        Call {
            request,
            facts: self.facts.clone(),
            resends: self.resends,
        }
    }

    /// How many times the request has been sent already.
    pub const fn resends(&self) -> u32 {
        self.resends
    }

    /// The facts.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// How facts are read from a request.
pub trait ReadFacts<Req> {
    /// Reads them, once per call.
    fn read(&self, request: &Req) -> Facts;
}

/// Facts read by a closure; made by [`facts_fn`].
#[derive(Clone, Copy, Debug)]
pub struct FactsFn<F>(F);

/// Reads facts by a closure.
pub const fn facts_fn<F>(read: F) -> FactsFn<F> {
    FactsFn(read)
}

impl<Req, F: Fn(&Req) -> Facts> ReadFacts<Req> for FactsFn<F> {
    fn read(&self, request: &Req) -> Facts {
        (self.0)(request)
    }
}

/// The outermost layer: reads a request's facts and sends them along as a [`Call`].
#[derive(Clone, Copy, Debug)]
pub struct FactsLayer<R> {
    reader: R,
}

impl<R> FactsLayer<R> {
    /// A layer that reads facts with `reader`.
    pub const fn new(reader: R) -> Self {
        Self { reader }
    }
}

impl<S, R: Clone> Layer<S> for FactsLayer<R> {
    type Service = WithFacts<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        WithFacts {
            inner,
            reader: self.reader.clone(),
        }
    }
}

/// The service that [`FactsLayer`] builds.
#[derive(Clone, Copy, Debug)]
pub struct WithFacts<S, R> {
    inner: S,
    reader: R,
}

impl<S, R, Req> Service<Req> for WithFacts<S, R>
where
    S: Service<Call<Req>>,
    R: ReadFacts<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> S::Future {
        let facts = self.reader.read(&request);
        self.inner.call(Call::new(request, facts))
    }
}

/// The innermost layer: hands a client the plain request of a [`Call`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestLayer;

impl<S> Layer<S> for RequestLayer {
    type Service = RequestOnly<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestOnly { inner }
    }
}

/// The service that [`RequestLayer`] builds.
#[derive(Clone, Copy, Debug)]
pub struct RequestOnly<S> {
    inner: S,
}

impl<S: Service<Req>, Req> Service<Call<Req>> for RequestOnly<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call<Req>) -> S::Future {
        self.inner.call(call.into_request())
    }
}

/// A protocol for [`Call`]s: the facts come from the call, the answers are read as the inner
/// protocol reads them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noted<P> {
    inner: P,
}

impl<P> Noted<P> {
    /// `inner` for calls that carry their facts.
    pub const fn new(inner: P) -> Self {
        Self { inner }
    }
}

impl<Req, Res, P: Protocol<Req, Res>> Protocol<Call<Req>, Res> for Noted<P> {
    type Response<G: Guard> = P::Response<G>;

    fn hold<G: Guard>(&self, response: Res, guard: G) -> Self::Response<G> {
        self.inner.hold(response, guard)
    }

    fn cost(&self, call: &Call<Req>) -> Cost {
        call.facts.cost
    }

    fn size(&self, call: &Call<Req>) -> Option<CallSize> {
        call.facts.size
    }

    fn model<'a>(&self, call: &'a Call<Req>) -> Option<&'a str> {
        let inner = || self.inner.model(&call.request);
        call.facts.model_name().or_else(inner)
    }

    fn affinity(&self, call: &Call<Req>) -> Option<u64> {
        let inner = || self.inner.affinity(&call.request);
        call.facts.affinity.or_else(inner)
    }

    fn class<'a>(&self, call: &'a Call<Req>) -> Option<&'a str> {
        let inner = || self.inner.class(&call.request);
        call.facts.class_name().or_else(inner)
    }

    #[cfg(feature = "key-rotation")]
    fn authorize(&self, call: &mut Call<Req>, key: &Key) {
        self.inner.authorize(&mut call.request, key);
    }

    fn deadline(&self, call: &Call<Req>) -> Option<Instant> {
        let inner = || self.inner.deadline(&call.request);
        call.facts.deadline.or_else(inner)
    }

    fn idempotency(&self, call: &Call<Req>) -> Idempotency {
        match call.facts.idempotency {
            Idempotency::Idempotent => Idempotency::Idempotent,
            Idempotency::Unknown => self.inner.idempotency(&call.request),
        }
    }

    fn resends(&self, call: &Call<Req>) -> u32 {
        call.resends
    }

    fn set_resends(&self, call: &mut Call<Req>, resends: u32) {
        call.resends = resends;
        self.inner.set_resends(&mut call.request, resends);
    }

    fn classify(&self, result: Result<&Res, &BoxError>) -> Outcome {
        self.inner.classify(result)
    }

    fn annotate(&self, response: &mut Res, outcome: Outcome) {
        self.inner.annotate(response, outcome);
    }

    #[inline]
    fn readings(&self, response: &Res) -> Readings {
        self.inner.readings(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{AffinityFn, ClassFn, ModelFn, Plain};

    fn model(call: &Call<&'static str>) -> Option<String> {
        let inner = ModelFn::new(Plain, |request: &&'static str| Some(*request));
        let noted = Noted::new(inner);
        Protocol::<_, ()>::model(&noted, call).map(Into::into)
    }

    #[test]
    fn the_model_of_the_facts_goes_before_the_request_s() {
        let facts = Facts::new(Cost::REQUEST);
        let call = Call::new("of the request", facts.clone());
        assert_eq!(model(&call).as_deref(), Some("of the request"));
        let call = Call::new("of the request", facts.model("of the facts"));
        assert_eq!(model(&call).as_deref(), Some("of the facts"));
    }

    #[test]
    fn the_affinity_and_the_class_of_the_facts_go_before_the_request_s() {
        let protocol = AffinityFn::new(Plain, |request: &&str| Some(request.len() as u64));
        let protocol = Noted::new(ClassFn::new(protocol, |request: &&'static str| {
            Some(*request)
        }));
        let read = |facts: Facts| {
            let call = Call::new("batch", facts);
            let class = Protocol::<_, ()>::class(&protocol, &call).map(String::from);
            (Protocol::<_, ()>::affinity(&protocol, &call), class)
        };
        let facts = Facts::new(Cost::REQUEST);
        assert_eq!(read(facts.clone()), (Some(5), Some("batch".into())));
        let facts = facts.affinity(9).class("interactive");
        assert_eq!(read(facts), (Some(9), Some("interactive".into())));
    }

    #[cfg(feature = "key-rotation")]
    #[test]
    fn a_key_goes_into_the_request_of_a_call() {
        use crate::{
            key_rotation::{KeyPool, Scope, Source},
            protocol::AuthorizeFn,
        };

        let scope = Scope::new("org-a").key("a1", Source::value("sk-1"));
        let pool = KeyPool::builder().scope(scope).build();
        let pool = pool.expect("it is valid");
        let write = |request: &mut String, key: &Key| request.push_str(key.alias());
        let noted = Noted::new(AuthorizeFn::new(Plain, write));
        let mut call = Call::new(String::new(), Facts::new(Cost::REQUEST));
        for key in pool.keys() {
            Protocol::<_, ()>::authorize(&noted, &mut call, key);
        }
        assert_eq!(call.request(), "a1");
    }
}
