//! What a call reserves of its scope where answers teach what to expect.

use tower::{Layer, ServiceExt};
use tower_relay::{
    error::{BoxError, Rejected},
    key_rotation::{KeyPool, KeyRotation, KeyRotationLayer, Permit},
    outcome::{Ending, Usage},
    policy::{CallSize, Cost, Estimator, Quota, Unit},
    protocol::{Guard, Protocol},
};

use crate::support::*;

/// Requests are their sizes, and the guard is the test's to end.
#[derive(Clone, Copy, Debug)]
struct Sizing;

impl<Res> Protocol<CallSize, Res> for Sizing {
    type Response<G: Guard> = G;

    fn hold<G: Guard>(&self, _: Res, guard: G) -> G {
        guard
    }

    fn cost(&self, size: &CallSize) -> Cost {
        size.cost()
    }

    fn size(&self, size: &CallSize) -> Option<CallSize> {
        Some(*size)
    }

    fn model<'a>(&self, _: &'a CallSize) -> Option<&'a str> {
        Some("m")
    }
}

/// Answers at once, and fails calls whose limit is one.
#[derive(Clone, Copy)]
struct Quiet;

impl tower::Service<CallSize> for Quiet {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, size: CallSize) -> Self::Future {
        std::future::ready(match size.output_limit() {
            1 => Err("broken".into()),
            _ => Ok(()),
        })
    }
}

const BURST: u64 = 10_000;
const KNOWN: Usage = Usage::UNKNOWN.input_tokens(250).output_tokens(15);

fn size() -> CallSize {
    CallSize::new(100, 4_096).as_produced()
}

fn of_scope(output: u64) -> Quota {
    built(
        Quota::builder()
            .input_tokens_per_minute(60)
            .output_tokens_per_minute(60)
            .burst(Unit::INPUT_TOKENS, BURST)
            .burst(Unit::OUTPUT_TOKENS, output),
    )
}

fn two_scopes(output: u64) -> KeyPool {
    let builder = KeyPool::builder()
        .scope(scope("a", &["a1"]).quota(of_scope(output)))
        .scope(scope("b", &["b1"]).quota(of_scope(output)));
    builder.build().expect("it is valid")
}

type Service = KeyRotation<Quiet, Sizing>;

fn service(pool: KeyPool) -> Service {
    let layer = KeyRotationLayer::new(pool).protocol(Sizing);
    layer.estimate(Estimator::new()).layer(Quiet)
}

async fn send(service: &Service, size: CallSize) -> Permit {
    let call = service.clone().oneshot(size);
    call.await.expect("there is room")
}

/// What a call of this size reserves of both scopes together.
async fn reserved(service: &Service, size: CallSize) -> [i64; 2] {
    let before = left(service);
    let permit = send(service, size).await;
    let after = left(service);
    permit.finish(Ending::partial(Usage::UNKNOWN));
    tokio::time::sleep(20_000 * SECOND).await;
    [before[0] - after[0], before[1] - after[1]]
}

fn left(service: &Service) -> [i64; 2] {
    let scopes = service.handle().scopes();
    [Unit::INPUT_TOKENS, Unit::OUTPUT_TOKENS].map(|unit| {
        let classes = scopes.iter().flat_map(|scope| scope.classes());
        let remaining = classes.flat_map(|class| class.remaining());
        remaining
            .filter(|(of, _)| *of == unit)
            .map(|(_, left)| left)
            .sum()
    })
}

async fn teach(service: &Service, answers: usize) {
    for _ in 0..answers {
        send(service, size()).await.finish(Ending::complete(KNOWN));
        tokio::time::sleep(20_000 * SECOND).await;
    }
}

fn answers(service: &Service) -> u64 {
    let learned = service.handle().learned(Some("m"));
    learned.expect("it estimates").answers()
}

#[tokio::test(start_paused = true)]
async fn the_first_call_reserves_its_limit_and_later_ones_what_answers_were() {
    let service = service(two_scopes(BURST));
    assert_eq!(reserved(&service, size()).await, [100, 4_096]);
    teach(&service, 19).await;
    assert_eq!(reserved(&service, size()).await, [250, 15]);
    assert_eq!(answers(&service), 19, "of all keys together");
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_was_learned() {
    let service = service(two_scopes(BURST));
    teach(&service, 19).await;
    let _changes = service.handle().reload(two_scopes(BURST));
    assert_eq!(reserved(&service, size()).await, [250, 15]);
}

#[tokio::test(start_paused = true)]
async fn a_call_tried_again_teaches_once_for_its_complete_answer() {
    let service = service(two_scopes(BURST));
    let failing = CallSize::new(100, 1).as_produced();
    assert!(service.clone().oneshot(failing).await.is_err());
    drop(send(&service, size()).await);
    send(&service, size()).await.finish(Ending::partial(KNOWN));
    assert_eq!(answers(&service), 0);
    send(&service, size()).await.finish(Ending::complete(KNOWN));
    assert_eq!(answers(&service), 1);
}

#[tokio::test(start_paused = true)]
async fn a_guess_is_cut_to_the_largest_scope_and_a_request_is_not() {
    let builder = KeyPool::builder()
        .scope(scope("a", &["a1"]).quota(of_scope(500)))
        .scope(scope("b", &["b1"]).quota(of_scope(900)));
    let service = service(builder.build().expect("it is valid"));
    assert_eq!(reserved(&service, size()).await, [100, 900]);
    let asked = service.clone().oneshot(CallSize::new(100, 4_096));
    let error = asked.await.expect_err("too large for both");
    let Some(Rejected::CostTooLarge(why)) = Rejected::find(&*error) else {
        panic!("{error}");
    };
    assert_eq!((why.cost(), why.capacity()), (4_096, 900));
}

#[tokio::test(start_paused = true)]
async fn a_guess_is_cut_to_the_quota_of_the_whole() {
    let layer = KeyRotationLayer::new(two_scopes(BURST)).protocol(Sizing);
    let layer = layer.rate_limit(of_scope(700)).estimate(Estimator::new());
    let service = layer.layer(Quiet);
    assert_eq!(reserved(&service, size()).await, [100, 700]);
    teach(&service, 19).await;
    assert_eq!(reserved(&service, size()).await, [250, 15]);
}

#[test]
fn calls_whose_kind_is_known_allocate_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let _in = runtime.as_ref().expect("it builds").enter();
    let mut service = service(two_scopes(1_000_000_000));
    let mut call = |usage| {
        let future = tower::Service::call(&mut service, size());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let mut future = std::pin::pin!(future);
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(permit) => permit.expect("room").finish(Ending::complete(usage)),
            std::task::Poll::Pending => panic!("there is room"),
        }
    };
    use std::future::Future as _;
    let cheap = Usage::UNKNOWN.input_tokens(0).output_tokens(15);
    (0..600).for_each(|_| call(cheap));
    let count = allocation_counter::measure(|| (0..1_000).for_each(|_| call(cheap)));
    assert_eq!(count.count_total, 0);
}

#[test]
fn a_guard_is_no_larger_for_it() {
    assert!(size_of::<Permit>() <= 80, "{}", size_of::<Permit>());
    let of_limit = size_of::<tower_relay::rate_limit::Permit>();
    assert!(of_limit <= 112, "{of_limit}");
}
