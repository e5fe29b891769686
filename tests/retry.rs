//! What the retry layer promises, one claim a test.
#![cfg(feature = "retry")]

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    future::{Future, Ready, ready},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{future::join_all, poll};
use tokio::time::{Instant, advance};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, buffer::BufferLayer, limit::ConcurrencyLimitLayer,
    load_shed::LoadShedLayer, timeout::TimeoutLayer,
};
use tower_relay::{
    error::BoxError,
    outcome::{Effect, Hint, Idempotency, Outcome, Verdict},
    policy::{
        Backoff, Charge, Growth, Jitter, Reason, RetryBudget, RetryPolicy, RetryPolicyBuilder,
    },
    protocol::{Guard, Protocol, timestamp},
    retry::{Replay, ResponseFuture, Retry, RetryLayer},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

// === the world around the layer ===

/// A request that counts its copies.
#[derive(Default)]
struct Ask {
    resends: u32,
    deadline: Option<Instant>,
    copies: Arc<AtomicU32>,
}

impl Clone for Ask {
    fn clone(&self) -> Self {
        self.copies.fetch_add(1, Relaxed);
        Self {
            resends: self.resends,
            deadline: self.deadline,
            copies: self.copies.clone(),
        }
    }
}

impl Ask {
    fn within(deadline: Duration) -> Self {
        Self {
            deadline: Some(Instant::now() + deadline),
            ..Self::default()
        }
    }
}

/// A response; deliberately not `Clone`.
#[derive(Debug)]
struct Answer {
    outcome: Outcome,
    annotated: Option<Outcome>,
    /// What a body, a connection, a slot would be.
    _held: Arc<()>,
}

/// An error that is not a `BoxError` and not `Clone`.
#[derive(Debug)]
struct Broken(u32);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken pipe {}", self.0)
    }
}

impl Error for Broken {}

#[derive(Clone, Copy)]
struct Api;

impl Protocol<Ask, Answer> for Api {
    type Response<G: Guard> = Answer;

    fn hold<G: Guard>(&self, answer: Answer, _: G) -> Answer {
        answer
    }

    fn deadline(&self, ask: &Ask) -> Option<Instant> {
        ask.deadline
    }

    fn idempotency(&self, _: &Ask) -> Idempotency {
        Idempotency::Unknown
    }

    fn resends(&self, ask: &Ask) -> u32 {
        ask.resends
    }

    fn set_resends(&self, ask: &mut Ask, resends: u32) {
        ask.resends = resends;
    }

    fn classify(&self, result: Result<&Answer, &BoxError>) -> Outcome {
        result.map_or(Outcome::new(Verdict::ServerFault), |answer| answer.outcome)
    }

    fn annotate(&self, answer: &mut Answer, outcome: Outcome) {
        answer.annotated = Some(outcome);
    }
}

enum Reply {
    Say(Outcome),
    /// Absorbed: served again this long after the answer.
    Again(Verdict, Duration),
    Fail(u32),
}

#[derive(Default)]
struct Log {
    script: VecDeque<Reply>,
    /// When each request came, and how many resends it told of.
    seen: Vec<(Instant, u32)>,
    last: Weak<()>,
}

/// A server that follows a script and then succeeds. Insists on the Tower contract.
#[derive(Default)]
struct Server {
    log: Arc<Mutex<Log>>,
    unready: Arc<AtomicBool>,
    latency: Duration,
    polled_ready: bool,
}

impl Clone for Server {
    fn clone(&self) -> Self {
        Self {
            log: self.log.clone(),
            unready: self.unready.clone(),
            latency: self.latency,
            polled_ready: false,
        }
    }
}

impl Server {
    fn new(script: impl IntoIterator<Item = Reply>) -> Self {
        let server = Self::default();
        server.log.lock().unwrap().script.extend(script);
        server
    }

    fn calls(&self) -> usize {
        self.log.lock().unwrap().seen.len()
    }

    fn resends(&self) -> Vec<u32> {
        self.log
            .lock()
            .unwrap()
            .seen
            .iter()
            .map(|seen| seen.1)
            .collect()
    }

    /// The waits between requests.
    fn waits(&self) -> Vec<Duration> {
        let seen = &self.log.lock().unwrap().seen;
        seen.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }

    /// Whether anything still holds the last response.
    fn last_is_alive(&self) -> bool {
        self.log.lock().unwrap().last.strong_count() > 0
    }
}

impl Service<Ask> for Server {
    type Response = Answer;
    type Error = Broken;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Answer, Broken>> + Send + Sync>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.unready.load(Relaxed) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.polled_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        assert!(
            self.polled_ready,
            "called without readiness of this instance"
        );
        self.polled_ready = false;
        let (log, latency) = (self.log.clone(), self.latency);
        Box::pin(async move {
            tokio::time::sleep(latency).await;
            let mut log = log.lock().unwrap();
            log.seen.push((Instant::now(), ask.resends));
            let outcome = match log.script.pop_front() {
                None => Outcome::SUCCESS,
                Some(Reply::Say(outcome)) => outcome,
                Some(Reply::Again(verdict, after)) => {
                    Outcome::new(verdict).absorbed(in_time(after))
                }
                Some(Reply::Fail(code)) => return Err(Broken(code)),
            };
            let held = Arc::new(());
            log.last = Arc::downgrade(&held);
            let annotated = None;
            Ok(Answer {
                outcome,
                annotated,
                _held: held,
            })
        })
    }
}

/// A service that fails its first call, and cannot get ready after it.
#[derive(Clone, Debug, Default)]
struct Mortal {
    called: Arc<AtomicBool>,
}

impl Service<Ask> for Mortal {
    type Response = Answer;
    type Error = Broken;
    type Future = Ready<Result<Answer, Broken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let called = self.called.load(Relaxed);
        Poll::Ready(if called { Err(Broken(2)) } else { Ok(()) })
    }

    fn call(&mut self, _: Ask) -> Self::Future {
        self.called.store(true, Relaxed);
        ready(Err(Broken(1)))
    }
}

/// The instant that a pool inside names when it absorbs a hint.
fn in_time(after: Duration) -> tower_relay::policy::Timestamp {
    timestamp(Instant::now() + after)
}

fn say(verdict: Verdict) -> Reply {
    Reply::Say(Outcome::new(verdict).with_effect(Effect::None))
}

fn hinted(verdict: Verdict, hint: Duration) -> Reply {
    Reply::Say(Outcome::new(verdict).after(hint))
}

/// Exactly 100, 200, 400 ms after failures and throttles alike, and hints without jitter.
fn exact() -> RetryPolicyBuilder {
    let backoff = Backoff::new(Growth::Exponential, 100 * MS, 10 * SECOND)
        .and_then(|backoff| backoff.throttled_base(100 * MS))
        .expect("it is valid");
    RetryPolicy::builder()
        .backoff(backoff.jitter(Jitter::None))
        .hint_jitter_percent(0)
}

fn layer(policy: RetryPolicyBuilder) -> RetryLayer<Api> {
    RetryLayer::new(policy.build().expect("it is valid")).protocol(Api)
}

fn repeat(times: usize, reply: impl Fn() -> Reply) -> Vec<Reply> {
    std::iter::repeat_with(reply).take(times).collect()
}

// === Tower contract ===

#[tokio::test(start_paused = true)]
async fn every_attempt_follows_readiness_of_the_instance_it_calls() {
    // The server panics otherwise.
    let server = Server::new(repeat(3, || say(Verdict::ServerFault)));
    let mut retry = layer(exact()).layer(server.clone());
    let first = retry.ready().await.unwrap().call(Ask::default());
    // What is left behind starts unready, and so does a clone.
    let second = retry.clone().oneshot(Ask::default());
    let third = retry.ready().await.unwrap().call(Ask::default());
    for result in [first.await, second.await, third.await] {
        assert!(result.unwrap().outcome.is_success());
    }
    assert_eq!(server.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn readiness_and_its_error_are_the_inner_services() {
    let server = Server::default();
    let mut retry = layer(exact()).layer(server.clone());
    server.unready.store(true, Relaxed);
    assert!(poll!(retry.ready()).is_pending());
    server.unready.store(false, Relaxed);
    assert!(poll!(retry.ready()).is_ready());

    let mut retry = layer(exact()).layer(Mortal::default());
    let _ = retry.ready().await.unwrap().call(Ask::default()).await;
    let error = poll!(retry.ready()).map_err(|error| error.downcast::<Broken>().unwrap().0);
    assert!(matches!(error, Poll::Ready(Err(2))));
}

#[test]
fn services_futures_layers_and_handles_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<RetryLayer<Api>>();
    check::<Retry<Server, Api>>();
    check::<ResponseFuture<Server, Ask, Api, tower_relay::retry::CloneReplay>>();
    check::<tower_relay::retry::RetryHandle>();
    fn check_clone<T: Clone>(_: &T) {}
    // A protocol that is not `Clone` does not keep the service from being `Clone`.
    let retry = layer(exact()).layer(Server::default());
    check_clone(&retry);
}

#[tokio::test(start_paused = true)]
async fn it_works_boxed_buffered_and_under_load_shedding() {
    let server = Server::new(repeat(2, || say(Verdict::ServerFault)));
    let stack = ServiceBuilder::new()
        .boxed_clone_sync()
        .layer(BufferLayer::new(4))
        .layer(LoadShedLayer::new())
        .layer(layer(exact()))
        .layer(TimeoutLayer::new(SECOND))
        .service(server.clone());
    let answers = join_all([
        stack.clone().oneshot(Ask::default()),
        stack.oneshot(Ask::default()),
    ]);
    for answer in answers.await {
        assert!(answer.unwrap().outcome.is_success());
    }
    assert_eq!(server.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn every_service_of_one_layer_shares_one_budget() {
    let layer = layer(exact().attempts(2)).budget(RetryBudget::new(20, 10, 10).unwrap());
    let servers: [_; 3] =
        std::array::from_fn(|_| Server::new(repeat(2, || say(Verdict::ServerFault))));
    for (server, calls) in servers.iter().zip([2, 2, 1]) {
        let answer = layer.clone().layer(server.clone()).oneshot(Ask::default());
        assert!(!answer.await.unwrap().outcome.is_success());
        assert_eq!(server.calls(), calls);
    }
    assert_eq!(layer.handle().snapshot().given_up(Reason::BudgetEmpty), 1);
    assert_eq!(layer.handle().snapshot().budget_level(), 0);
}

// === which ===

#[tokio::test(start_paused = true)]
async fn the_failure_is_returned_as_it_was() {
    // An error that may have had an effect, and a request that nobody calls idempotent.
    let server = Server::new([Reply::Fail(7)]);
    let error = layer(exact())
        .layer(server.clone())
        .oneshot(Ask::default())
        .await;
    let error = error.expect_err("it failed");
    assert_eq!(error.downcast_ref::<Broken>().map(|error| error.0), Some(7));
    assert_eq!(server.calls(), 1);

    let server = Server::new([say(Verdict::CallerFault)]);
    let answer = layer(exact())
        .layer(server.clone())
        .oneshot(Ask::default())
        .await;
    let answer = answer.unwrap();
    assert_eq!(answer.outcome.verdict(), Verdict::CallerFault);
    assert_eq!(answer.annotated, None);
    assert_eq!(server.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_sent_again_when_the_request_is_idempotent() {
    let server = Server::new([Reply::Fail(1), Reply::Fail(2)]);
    let layer = layer(exact()).assume_idempotent();
    let answer = layer.layer(server.clone()).oneshot(Ask::default()).await;
    assert!(answer.unwrap().outcome.is_success());
    assert_eq!(server.waits(), [100 * MS, 200 * MS]);
}

#[tokio::test(start_paused = true)]
async fn with_an_empty_budget_the_failure_is_returned_as_it_was() {
    let server = Server::new(repeat(9, || hinted(Verdict::Throttled, SECOND)));
    let layer = layer(exact()).budget(RetryBudget::new(5, 5, 5).unwrap());
    let answer = layer
        .layer(server.clone())
        .oneshot(Ask::default())
        .await
        .unwrap();
    assert_eq!(answer.outcome.verdict(), Verdict::Throttled);
    assert_eq!(server.waits(), [SECOND]);
    assert_eq!(layer.handle().snapshot().given_up(Reason::BudgetEmpty), 1);
}

// === when ===

#[tokio::test(start_paused = true)]
async fn a_hint_is_obeyed_and_neither_multiplied_nor_undercut() {
    let server = Server::new(repeat(4, || hinted(Verdict::Throttled, 20 * SECOND)));
    let layer = RetryLayer::default().protocol(Api);
    let answer = layer.layer(server.clone()).oneshot(Ask::default()).await;
    assert!(answer.unwrap().outcome.is_success());
    assert_eq!(server.calls(), 5);
    // A timer rounds up to the next millisecond.
    for wait in server.waits() {
        assert!(20 * SECOND <= wait && wait <= 22 * SECOND + MS, "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_beyond_the_deadline_fails_now_with_the_hint_attached() {
    let start = Instant::now();
    let server = Server::new([hinted(Verdict::Throttled, 11 * SECOND)]);
    let layer = layer(exact());
    let ask = Ask::within(10 * SECOND);
    let answer = layer.layer(server.clone()).oneshot(ask).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    let attached = answer.annotated.expect("it is annotated").hint();
    assert_eq!(attached, Some(Hint::After(11 * SECOND)));
    let snapshot = layer.handle().snapshot();
    assert_eq!(snapshot.given_up(Reason::Deadline), 1);
    assert_eq!(snapshot.budget_level(), snapshot.budget_capacity());
}

#[tokio::test(start_paused = true)]
async fn an_absurd_hint_fails_now_with_the_hint_attached() {
    let absurd = Duration::from_secs(14 * 24 * 3600);
    for hint in [absurd, Duration::MAX, 121 * SECOND] {
        let start = Instant::now();
        let server = Server::new([hinted(Verdict::Throttled, hint)]);
        let answer = layer(exact())
            .layer(server)
            .oneshot(Ask::default())
            .await
            .unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        let attached = answer.annotated.and_then(|outcome| outcome.hint());
        assert_eq!(attached, Some(Hint::After(hint)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_counts_against_max_elapsed() {
    let mut server = Server::new(repeat(9, || say(Verdict::ServerFault)));
    server.latency = 4 * SECOND;
    let layer = layer(exact().attempts(9).max_elapsed(10 * SECOND));
    let start = Instant::now();
    let answer = layer
        .layer(server.clone())
        .oneshot(Ask::default())
        .await
        .unwrap();
    assert!(!answer.outcome.is_success());
    // 4 + 0.1 + 4 + 0.2 + 4 s; a fourth attempt would begin after 12.7 s.
    assert_eq!(start.elapsed(), Duration::from_millis(12_300));
    assert_eq!(layer.handle().snapshot().given_up(Reason::MaxElapsed), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_out_a_local_refusal_costs_no_attempt_and_no_budget() {
    let server = Server::new(repeat(20, || hinted(Verdict::RefusedLocally, 3 * SECOND)));
    let layer = layer(exact().attempts(2));
    let answer = layer.layer(server.clone()).oneshot(Ask::default()).await;
    assert!(answer.unwrap().outcome.is_success());
    assert_eq!(server.waits(), [3 * SECOND; 20]);
    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.retries(), snapshot.waited_out()), (0, 20));
    assert_eq!(snapshot.budget_level(), 500);
}

#[tokio::test(start_paused = true)]
async fn a_local_refusal_that_says_never_is_final() {
    let server = Server::new([Reply::Say(Outcome::new(Verdict::RefusedLocally))]);
    let answer = layer(exact())
        .layer(server.clone())
        .oneshot(Ask::default())
        .await;
    assert_eq!(answer.unwrap().outcome.verdict(), Verdict::RefusedLocally);
    assert_eq!(server.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_out_a_blackout_costs_no_attempt_and_no_budget() {
    let again = || Reply::Again(Verdict::Throttled, 30 * SECOND);
    let server = Server::new(repeat(15, again));
    let layer = layer(exact().attempts(2));
    let ask = Ask::within(500 * SECOND);
    assert!(
        layer
            .layer(server.clone())
            .oneshot(ask)
            .await
            .unwrap()
            .outcome
            .is_success()
    );
    assert_eq!(server.waits(), [30 * SECOND; 15]);
    assert_eq!(layer.handle().snapshot().budget_level(), 500);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_key_costs_neither_wait_nor_budget_when_another_can_serve() {
    let start = Instant::now();
    let server = Server::new([Reply::Again(Verdict::KeyRejected, Duration::ZERO)]);
    let layer = layer(exact());
    let answer = layer.layer(server.clone()).oneshot(Ask::default()).await;
    assert!(answer.unwrap().outcome.is_success());
    // One millisecond is what keeps it from being a hot loop; a timer may round it up.
    assert!(start.elapsed() <= 2 * MS);
    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.retries(), snapshot.waited_out()), (0, 1));

    let server = Server::new([say(Verdict::KeyRejected)]);
    let answer = layer.layer(server.clone()).oneshot(Ask::default()).await;
    assert_eq!(answer.unwrap().outcome.verdict(), Verdict::KeyRejected);
}

#[tokio::test(start_paused = true)]
async fn a_wait_longer_than_a_timer_reaches_is_waited_to_its_end() {
    let long = Duration::from_secs(40 * 24 * 3600);
    let server = Server::new([Reply::Again(Verdict::Exhausted, long)]);
    let layer = layer(exact().max_elapsed(Duration::MAX));
    let answer = layer.layer(server.clone()).oneshot(Ask::default()).await;
    assert!(answer.unwrap().outcome.is_success());
    let waited = server.waits()[0];
    assert!(long <= waited && waited <= long + 2 * MS, "{waited:?}");
}

// === what is held ===

#[tokio::test(start_paused = true)]
async fn the_failed_response_is_dropped_before_the_wait() {
    let server = Server::new([say(Verdict::ServerFault)]);
    let layer = layer(exact());
    let call = layer.layer(server.clone()).oneshot(Ask::default());
    let mut call = Box::pin(call);
    assert!(poll!(&mut call).is_pending());
    // The script takes a zero-length sleep to answer.
    advance(2 * MS).await;
    assert!(poll!(&mut call).is_pending());
    assert_eq!(server.calls(), 1);
    assert_eq!(layer.handle().snapshot().waiting(), 1);
    assert!(!server.last_is_alive());
    assert!(call.await.unwrap().outcome.is_success());
}

#[tokio::test(start_paused = true)]
async fn the_slot_of_a_failed_attempt_is_free_during_the_wait() {
    let server = Server::new([hinted(Verdict::Throttled, 60 * SECOND)]);
    let stack = ServiceBuilder::new()
        .layer(layer(exact()))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(server);
    let start = Instant::now();
    let refused = tokio::spawn(stack.clone().oneshot(Ask::default()));
    tokio::time::sleep(SECOND).await;
    let other = stack.oneshot(Ask::default()).await.unwrap();
    assert!(other.outcome.is_success());
    assert!(start.elapsed() < 2 * SECOND);
    assert!(refused.await.unwrap().unwrap().outcome.is_success());
    assert!(start.elapsed() >= 60 * SECOND);
}

// === replay ===

#[tokio::test(start_paused = true)]
async fn the_last_attempt_does_not_clone() {
    for (attempts, failures, copies) in [(1, 1, 0), (3, 9, 2), (3, 0, 1), (5, 1, 2)] {
        let server = Server::new(repeat(failures, || say(Verdict::ServerFault)));
        let ask = Ask::default();
        let counter = ask.copies.clone();
        let layer = layer(exact().attempts(attempts));
        let _ = layer.layer(server).oneshot(ask).await.unwrap();
        assert_eq!(
            counter.load(Relaxed),
            copies,
            "{attempts} attempts, {failures} failures"
        );
    }
}

/// Copies as long as it is told to, and then says so.
#[derive(Clone, Default)]
struct Fickle {
    copies: bool,
    spoilt: Arc<AtomicBool>,
}

impl Replay<Once> for Fickle {
    type Request = Ask;

    fn prepare(&self, request: Once) -> Ask {
        request.0
    }

    fn copy(&self, request: &Ask) -> Option<Ask> {
        self.copies.then(|| request.clone())
    }

    fn can_replay(&self, _: &Ask) -> bool {
        !self.spoilt.load(Relaxed)
    }
}

/// A request that is not `Clone`.
struct Once(Ask);

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_replayed_is_sent_once_and_its_failure_returned() {
    let spoilt = Arc::new(AtomicBool::new(true));
    for replay in [
        Fickle::default(),
        Fickle {
            copies: true,
            spoilt,
        },
    ] {
        let server = Server::new([say(Verdict::Overloaded)]);
        let layer = layer(exact()).replay(replay);
        let answer = layer
            .layer(server.clone())
            .oneshot(Once(Ask::default()))
            .await;
        assert_eq!(answer.unwrap().outcome.verdict(), Verdict::Overloaded);
        assert_eq!(server.calls(), 1);
        assert_eq!(layer.handle().snapshot().given_up(Reason::NotReplayable), 1);
        assert_eq!(layer.handle().snapshot().budget_level(), 500);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_strategy_may_change_the_requests_type() {
    let server = Server::new([say(Verdict::Overloaded)]);
    let replay = Fickle {
        copies: true,
        ..Fickle::default()
    };
    let layer = layer(exact()).replay(replay);
    let answer = layer
        .layer(server.clone())
        .oneshot(Once(Ask::default()))
        .await;
    assert!(answer.unwrap().outcome.is_success());
    assert_eq!(server.resends(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn nested_retries_see_the_count() {
    let server = Server::new(repeat(3, || say(Verdict::ServerFault)));
    let (outer, inner) = (layer(exact()), layer(exact().attempts(2)));
    let stack = outer.layer(inner.layer(server.clone()));
    assert!(
        stack
            .oneshot(Ask::default())
            .await
            .unwrap()
            .outcome
            .is_success()
    );
    // The inner layer's two attempts, then the outer layer's second with two more.
    assert_eq!(server.resends(), [0, 1, 1, 2]);

    let server = Server::new([say(Verdict::ServerFault)]);
    let ask = Ask {
        resends: 7,
        ..Ask::default()
    };
    let _ = layer(exact()).layer(server.clone()).oneshot(ask).await;
    assert_eq!(server.resends(), [7, 8]);
}

// === cancelling ===

#[tokio::test(start_paused = true)]
async fn a_call_dropped_at_any_await_leaves_nothing_behind() {
    let layer = layer(exact());
    // Dropped during the first attempt, the wait, the readiness after it, the second attempt.
    for (until, sent) in [(50, 0), (150, 1), (250, 1), (270, 1)] {
        let mut server = Server::new([say(Verdict::ServerFault)]);
        server.latency = 100 * MS;
        let mut retry = layer.clone().layer(server.clone());
        let call = retry.ready().await.unwrap().call(Ask::default());
        let mut call = Box::pin(call);
        for ms in 0..until {
            if ms == 190 {
                server.unready.store(true, Relaxed);
            }
            if ms == 260 {
                server.unready.store(false, Relaxed);
            }
            assert!(poll!(&mut call).is_pending());
            advance(MS).await;
        }
        let snapshot = layer.handle().snapshot();
        let waiting = u64::from((150..260).contains(&until));
        assert_eq!(snapshot.waiting(), waiting, "after {until} ms");
        drop(call);
        assert_eq!(server.calls(), sent, "after {until} ms");
        assert!(!server.last_is_alive());
        let snapshot = layer.handle().snapshot();
        assert_eq!(snapshot.waiting(), 0);
        assert_eq!(snapshot.calls(), 0);
        // Only a retry that was sent has cost anything.
        let level = if until == 270 { 486 } else { 500 };
        assert_eq!(snapshot.budget_level(), level, "after {until} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn an_inner_service_that_dies_during_the_wait_ends_the_call() {
    let layer = layer(exact()).assume_idempotent();
    let mut retry = layer.layer(Mortal::default());
    let mut call = Box::pin(retry.ready().await.unwrap().call(Ask::default()));
    let error = (&mut call).await.expect_err("it died");
    assert_eq!(error.downcast_ref::<Broken>().map(|error| error.0), Some(2));
    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.calls(), snapshot.waiting()), (1, 0));
    assert_eq!(snapshot.budget_level(), 500);
    drop(call);
}

// === seeing and changing it ===

#[tokio::test(start_paused = true)]
async fn the_callback_may_use_the_handle_and_sees_every_retry() {
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let base = layer(exact());
    let (handle, events) = (base.handle(), seen.clone());
    let layer = base.on_retry(move |event| {
        // With the lock held this would not return.
        handle.set_policy(exact().attempts(4).build().unwrap());
        let paid = event.charge() != Charge::Free;
        let verdict = event.outcome().verdict();
        events
            .lock()
            .unwrap()
            .push((event.resends(), event.wait(), paid, verdict));
    });
    let server = Server::new([
        hinted(Verdict::Throttled, SECOND),
        hinted(Verdict::RefusedLocally, 3 * SECOND),
        say(Verdict::ServerFault),
    ]);
    let answer = layer.layer(server).oneshot(Ask::default()).await;
    assert!(answer.unwrap().outcome.is_success());
    assert_eq!(
        *seen.lock().unwrap(),
        [
            (1, SECOND, true, Verdict::Throttled),
            (2, 3 * SECOND, false, Verdict::RefusedLocally),
            (3, 200 * MS, true, Verdict::ServerFault),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_policy_set_at_run_time_holds_for_calls_under_way() {
    let server = Server::new(repeat(9, || say(Verdict::ServerFault)));
    let layer = layer(exact());
    let handle = layer.handle();
    let ask = Ask::default();
    let copies = ask.copies.clone();
    let call = tokio::spawn(layer.layer(server.clone()).oneshot(ask));
    tokio::time::sleep(150 * MS).await;
    assert_eq!(server.calls(), 2);
    handle.set_policy(exact().attempts(3).build().unwrap());
    let answer = call.await.unwrap().unwrap();
    assert!(!answer.outcome.is_success());
    assert_eq!(server.calls(), 3);
    assert_eq!(handle.policy().attempts(), 3);
    // The third attempt is known to be the last.
    assert_eq!(copies.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_counts_what_happened() {
    let server = Server::new([
        say(Verdict::ServerFault),
        say(Verdict::Throttled),
        Reply::Say(Outcome::SUCCESS),
        say(Verdict::CallerFault),
        Reply::Say(Outcome::SUCCESS),
    ]);
    let layer = layer(exact());
    let retry = layer.layer(server);
    for level in [486, 486, 487] {
        let _ = retry.clone().oneshot(Ask::default()).await.unwrap();
        assert_eq!(layer.handle().snapshot().budget_level(), level);
    }
    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.calls(), snapshot.successes()), (3, 2));
    assert_eq!((snapshot.retries(), snapshot.waited_out()), (2, 0));
    assert_eq!(snapshot.given_up(Reason::Final), 1);
    assert_eq!(snapshot.budget_capacity(), 500);
}

#[tokio::test(start_paused = true)]
async fn successes_after_a_drained_budget_fill_it_again() {
    let server = Server::new([say(Verdict::ServerFault), say(Verdict::CallerFault)]);
    let layer = layer(exact());
    let retry = layer.layer(server);
    let level = || layer.handle().snapshot().budget_level();
    let _ = retry.clone().oneshot(Ask::default()).await.unwrap();
    assert_eq!(level(), 486);
    for _ in 0..20 {
        let _ = retry.clone().oneshot(Ask::default()).await.unwrap();
    }
    assert_eq!(level(), 500);
}

#[tokio::test(start_paused = true)]
async fn callers_who_failed_together_do_not_come_back_together() {
    let server = Server::new(repeat(50, || hinted(Verdict::Throttled, 60 * SECOND)));
    let retry = RetryLayer::default().protocol(Api).layer(server.clone());
    let calls = (0..50).map(|_| retry.clone().oneshot(Ask::default()));
    for answer in join_all(calls).await {
        assert!(answer.unwrap().outcome.is_success());
    }
    let seen = &server.log.lock().unwrap().seen;
    let (first, last) = (seen[50].0, seen[99].0);
    assert!(last - first > 4 * SECOND, "within {:?}", last - first);
}
