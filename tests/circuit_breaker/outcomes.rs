//! What counts as a failure.

use tower::{Layer, ServiceExt};
use tower_relay::{
    circuit_breaker::CircuitBreakerLayer,
    error::BoxError,
    outcome::Verdict,
    policy::breaker::{BreakerConfig, Refused, State},
    testing::{ReadinessProbe, Reply, Scripted},
};

use crate::support::*;

type Request = http::Request<()>;
type Response = http::Response<String>;

/// A breaker for HTTP after so many answers with a status, or failures without one.
async fn after(calls: usize, status: Option<u16>) -> State {
    let server = Scripted::new(move |_: &Request| match status {
        Some(status) => {
            let mut response = Response::default();
            *response.status_mut() = status.try_into().expect("it is a status");
            Reply::now(response)
        }
        None => Reply::fail("connection refused"),
    });
    let layer = CircuitBreakerLayer::http(BreakerConfig::default());
    let service = layer.layer(ReadinessProbe::new(server));
    for _ in 0..calls {
        drop(service.clone().oneshot(Request::default()).await);
    }
    layer.handle().snapshot().state()
}

#[tokio::test(start_paused = true)]
async fn limits_keys_and_the_callers_own_mistakes_do_not_open_it() {
    for status in [400, 401, 403, 404, 413, 422, 429] {
        assert_eq!(after(200, Some(status)).await, State::Closed, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn overload_server_faults_and_lost_connections_open_it() {
    for status in [500, 502, 503, 504, 520, 529] {
        assert_eq!(after(4, Some(status)).await, State::Closed, "{status}");
        assert_eq!(after(5, Some(status)).await, State::Open, "{status}");
    }
    assert_eq!(after(5, None).await, State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_limit_neither_breaks_a_row_of_failures_nor_closes() {
    let (service, _, handle) = watched(plain());
    for _ in 0..4 {
        drop(service.clone().oneshot(BAD).await);
        drop(
            service
                .clone()
                .oneshot(Ask::Answer(Verdict::Throttled))
                .await,
        );
        drop(
            service
                .clone()
                .oneshot(Ask::Answer(Verdict::CallerFault))
                .await,
        );
    }
    assert_eq!(handle.snapshot().consecutive_failures(), 4);
    drop(service.oneshot(BAD).await);
    assert_eq!(handle.snapshot().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn after_ten_thousand_successes_five_failures_open_it() {
    let (service, _, handle) = watched(plain());
    for _ in 0..10_000 {
        drop(service.clone().oneshot(Ask::Good).await);
    }
    open(&service, &handle).await;
}

#[tokio::test(start_paused = true)]
async fn it_trips_at_one_request_per_second() {
    let (service, server, handle) = watched(plain().no_conditions().failure_ratio(0.5, 20));
    for n in 0..20 {
        let ask = if n % 3 == 0 { Ask::Good } else { Ask::Break };
        drop(service.clone().oneshot(ask).await);
        tokio::time::sleep(ms(1_000)).await;
    }
    assert_eq!(handle.snapshot().state(), State::Open);
    assert_eq!(server.sent_after().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_a_layer_inside_counts_as_nothing() {
    let inside = layer(plain());
    inside
        .handle()
        .set_mode(tower_relay::policy::breaker::Mode::ForcedOpen);
    let outside = layer(plain());
    let service = outside.layer(inside.layer(server()));
    for _ in 0..50 {
        assert_eq!(
            refusal(service.clone().oneshot(Ask::Good).await).0,
            Refused::Forced
        );
    }
    let snapshot = outside.handle().snapshot();
    assert_eq!((snapshot.state(), snapshot.calls()), (State::Closed, 0));
    assert_eq!(outside.handle().refused(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_late_counts_as_slow_by_the_time_since_it_was_sent() {
    let (service, _, handle) = watched(plain().slow_calls(ms(2_000), 0.5, 4));
    for _ in 0..3 {
        drop(
            service
                .clone()
                .oneshot(Ask::Late(1_999, Verdict::Success))
                .await,
        );
    }
    for _ in 0..3 {
        assert_eq!(handle.snapshot().state(), State::Closed);
        drop(
            service
                .clone()
                .oneshot(Ask::Late(2_001, Verdict::Success))
                .await,
        );
    }
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.state(), snapshot.slow()), (State::Open, 3));
}

#[tokio::test(start_paused = true)]
async fn a_hint_keeps_it_open_for_as_long_as_the_server_asks() {
    let server = Scripted::new(|_: &Request| {
        let response = http::Response::builder()
            .status(503)
            .header("retry-after", "60");
        Reply::now(response.body(String::new()).expect("it is valid"))
    });
    let config = plain().build().expect("it is valid");
    let service = CircuitBreakerLayer::http(config).layer(server);
    for _ in 0..5 {
        drop(service.clone().oneshot(Request::default()).await);
    }
    let refused: Result<_, BoxError> = service.oneshot(Request::default()).await.map(drop);
    assert_eq!(refusal(refused), (Refused::Open, Some(60_000)));
}
