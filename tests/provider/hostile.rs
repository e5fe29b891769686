//! Clients, bodies and providers that do what nobody expects.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_relay::{
    adaptive_concurrency::AdaptiveConcurrencyLayer,
    circuit_breaker::CircuitBreakerLayer,
    http::{Report, stack},
    key_rotation::{KeyPool, KeyRotationLayer, Scope, Source},
    outcome::{Ending, Hint, Outcome, Usage},
    policy::{
        Cost, Quota, Unit,
        breaker::{BreakerConfig, State},
        limit::{Aimd, Bounds, Fixed},
    },
    provider::{CredentialHeader, Hold, Profile, ProviderLayer},
    rate_limit::RateLimitLayer,
    retry::RetryLayer,
};

use crate::support::{Answer, Client, Step, answer, data, events, json, pause, read, request};

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":100,\"output_tokens\":1}}}\n\n";
const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
const TEXT: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n";
const STOP: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":30}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const OVERLOADED: &str = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
const LIMITED: &str = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"Slow down\"}}\n\n";

fn anthropic() -> ProviderLayer {
    ProviderLayer::new(Profile::anthropic())
}

fn whole() -> Answer {
    events([START, TEXT, STOP].map(data))
}

/// An error before content and one after it.
fn broken(error: &'static str) -> [Answer; 2] {
    [
        events([START, error].map(data)),
        events([START, TEXT, error].map(data)),
    ]
}

// === settings ===

#[tokio::test(start_paused = true)]
async fn no_setting_panics_holds_for_ever_or_loses_a_byte() {
    let body = "{\"choices\":[]}";
    for wait in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        for hold in [
            Hold::Nothing,
            Hold::FirstEvent,
            Hold::WholeJson(0),
            Hold::WholeJson(usize::MAX),
            Hold::Either(0),
            Hold::Either(usize::MAX),
        ] {
            for (status, kind) in [
                (200, "text/event-stream"),
                (200, "application/json"),
                (429, "application/json"),
                (599, "text/event-stream"),
            ] {
                let (first, last) = body.split_at(5);
                let steps = [data(first), pause(40_000), data(last), Step::Trailers];
                let layer = anthropic().hold(hold).max_hold(wait).max_error_wait(wait);
                let service = layer.layer(Client::new([answer(status, kind, steps)]));
                let start = Instant::now();
                let response = service.oneshot(request("{}")).await.expect("an answer");
                let most = if wait == Duration::MAX { 40_000 } else { 2 };
                assert!(start.elapsed().as_millis() <= most, "{hold:?} {wait:?}");
                assert_eq!(read(response.into_body()).await, format!("{body}#"));
            }
        }
    }
}

// === error bodies ===

#[tokio::test(start_paused = true)]
async fn an_error_of_one_byte_a_second_or_of_ten_gigabytes_is_read_within_its_bounds() {
    let drip = std::iter::repeat_n([pause(1_000), data("x")], 600).flatten();
    let start = Instant::now();
    let service = anthropic().layer(Client::new([answer(503, "text/plain", drip)]));
    let response = service.oneshot(request("{}")).await.expect("an answer");
    assert!((5_000..=5_001).contains(&start.elapsed().as_millis()));
    assert_eq!(read(response.into_body()).await.len(), 600);

    let block = Bytes::from(vec![b'x'; 10 << 20]);
    let flood = std::iter::repeat_n(Step::Data(block), 1_024);
    let flood = answer(500, "application/json", flood);
    let log = flood.log();
    let response = anthropic().layer(Client::new([flood])).oneshot(request(""));
    let mut body = response.await.expect("an answer").into_body();
    assert_eq!(log.polls(), 1);
    let first = body.frame().await.expect("one").expect("no error");
    assert_eq!(first.data_ref().map(Bytes::len), Some(10 << 20));
}

// === streams of pings, and no stream at all ===

#[tokio::test(start_paused = true)]
async fn a_stream_of_pings_is_held_for_a_minute_and_every_ping_arrives() {
    let pings = std::iter::repeat_n([pause(1_000), data(PING)], 90).flatten();
    let client = Client::new([events(pings.chain([data(TEXT), data(STOP)]))]);
    let start = Instant::now();
    let service = anthropic().hold(Hold::FirstEvent).layer(client);
    let response = service.oneshot(request("{}")).await.expect("an answer");
    assert!((60_000..=61_001).contains(&start.elapsed().as_millis()));
    assert!(response.extensions().get::<Outcome>().is_none());
    let text = read(response.into_body()).await;
    assert_eq!(text, PING.repeat(90) + TEXT + STOP);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_known_to_be_empty_is_retried_like_one_that_turns_out_to_be() {
    for empty in [events([]), events([]).foreseen()] {
        let client = Client::new([empty, whole()]);
        let retry = RetryLayer::default().protocol(Profile::anthropic());
        let service = retry.layer(anthropic().hold(Hold::FirstEvent).layer(client.clone()));
        let response = service.oneshot(request("{}")).await.expect("an answer");
        assert_eq!(
            read(response.into_body()).await,
            [START, TEXT, STOP].concat()
        );
        assert_eq!(client.asked().len(), 2);
    }
}

// === errors inside a stream, for each layer ===

#[tokio::test(start_paused = true)]
async fn a_failure_that_head_and_body_tell_counts_once() {
    for hold in [Hold::Nothing, Hold::FirstEvent] {
        let config = BreakerConfig::builder().consecutive_failures(4);
        let config = config.failure_ratio(0.5, 7).build().expect("valid");
        let breaker = CircuitBreakerLayer::default()
            .config(config)
            .protocol(Profile::anthropic());
        let client = Client::new((0..6).map(|_| broken(OVERLOADED)[0].again()));
        let service = breaker.layer(anthropic().hold(hold).layer(client));
        for n in 1..=3 {
            let response = service.clone().oneshot(request("{}")).await;
            read(response.expect("an answer").into_body()).await;
            let state = breaker.handle().snapshot().state();
            assert_eq!(state, State::Closed, "{hold:?}: {n}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_learned_limit_is_cut_once_by_a_failure_wherever_it_stands() {
    let cut = async |hold, answer: Answer| {
        let bounds = Bounds::new(1..=64).expect("valid");
        let limit = AdaptiveConcurrencyLayer::new(Aimd::new(bounds)).protocol(Profile::anthropic());
        let handle = limit.handle();
        let service = limit.layer(anthropic().hold(hold).layer(Client::new([answer])));
        let before = handle.limit();
        let response = service.oneshot(request("{}")).await.expect("an answer");
        read(response.into_body()).await;
        assert_eq!(handle.snapshot().active(), 0);
        (before, handle.limit())
    };
    let (before, plain) = cut(Hold::Nothing, json(529, "{}")).await;
    assert!(plain < before);
    for answer in broken(OVERLOADED) {
        assert_eq!(cut(Hold::FirstEvent, answer.again()).await, (before, plain));
        let (_, after) = cut(Hold::Nothing, answer).await;
        assert_eq!(after, plain);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_inside_a_stream_rests_the_scope_and_is_not_sent_again() {
    for answer in broken(LIMITED) {
        let pool = ["a", "b"]
            .into_iter()
            .fold(KeyPool::builder(), |pool, name| {
                pool.scope(Scope::new(name).key(name, Source::value(format!("secret-{name}"))))
            });
        let header = CredentialHeader::Named(http::HeaderName::from_static("x-key"));
        let profile = Profile::anthropic().credential(header);
        let keys = KeyRotationLayer::new(pool.build().expect("valid")).protocol(profile);
        let retry = RetryLayer::default().protocol(Profile::anthropic());
        let client = Client::new([answer, whole(), whole()]);
        let service = retry.layer(keys.layer(anthropic().layer(client.clone())));
        let mut seen = Vec::new();
        for _ in 0..3 {
            let response = service.clone().oneshot(request("{}")).await;
            seen.push(read(response.expect("an answer").into_body()).await);
        }
        assert!(seen[0].ends_with(LIMITED), "it reached the caller");
        assert_eq!(client.asked(), [0, 0, 0], "none waited, none was repeated");
        let sent = client.seen("x-key");
        assert_ne!(sent[0], sent[1]);
        assert_eq!(sent[1], sent[2]);
        assert_eq!(keys.handle().snapshot().active(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_books_of_a_failed_stream_refund_nothing_and_add_what_is_above() {
    let more = "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":700}}\n\n";
    for (answer, output) in [
        (events([data(START), data(OVERLOADED)]), 500),
        (events([data(START), data(TEXT), data(OVERLOADED)]), 500),
        (events([data(START), data(more), data(OVERLOADED)]), 700),
        (
            events([data(START), data(more), data(more), Step::Fail]),
            700,
        ),
    ] {
        for hold in [Hold::Nothing, Hold::FirstEvent] {
            let quota = Quota::builder().output_tokens_per_minute(60);
            let quota = quota
                .burst(Unit::OUTPUT_TOKENS, 5_000)
                .build()
                .expect("valid");
            let limit = RateLimitLayer::new(quota)
                .protocol(Profile::anthropic())
                .cost(|_: &Request<Full<Bytes>>| Cost::REQUEST.output_tokens(500));
            let handle = limit.handle();
            let client = Client::new([answer.again()]);
            let service = limit.layer(anthropic().hold(hold).layer(client));
            let response = service.oneshot(request("{}")).await.expect("an answer");
            read(response.into_body()).await;
            let left = handle.available(Unit::OUTPUT_TOKENS);
            assert_eq!(left, Some(5_000 - output), "{hold:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_of_several_usages_counts_and_nonsense_is_none() {
    let chat = |usage: &str| -> &'static str {
        let head = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":"#;
        Box::leak(format!("{head}{usage}}}").into_boxed_str())
    };
    for (usage, expected) in [
        (
            r#"{"prompt_tokens":9,"completion_tokens":3,"completion_tokens":2}"#,
            Some(2),
        ),
        (r#"{"prompt_tokens":9,"completion_tokens":-3}"#, None),
        (r#"{"prompt_tokens":9,"completion_tokens":"3"}"#, None),
        (r#"{"prompt_tokens":9,"completion_tokens":2.5}"#, None),
        (r#"{"prompt_tokens":9,"completion_tokens":1e400}"#, None),
        (r#"{"prompt_tokens":9,"completion_tokens":null}"#, None),
        (r#"{"prompt_tokens":9,"completion_tokens":[3]}"#, None),
    ] {
        let service =
            ProviderLayer::new(Profile::groq()).layer(Client::new([json(200, chat(usage))]));
        let response = service.oneshot(request("{}")).await.expect("an answer");
        let mut body = response.into_body();
        while body.frame().await.is_some() {}
        let mut told = Usage::UNKNOWN.input_tokens(9);
        if let Some(output) = expected {
            told = told.output_tokens(output);
        }
        assert_eq!(body.report(), Ending::complete(told), "{usage}");
    }
}

// === what is lied about ===

#[tokio::test(start_paused = true)]
async fn lies_in_headers_neither_panic_nor_stop_the_world() {
    for (name, value) in [
        ("content-length", "99999999999999999999"),
        ("content-type", "text/event-stream;;;;\u{e4}"),
        ("content-encoding", ",,,identity,,"),
        ("retry-after", "99999999999999999999999"),
        ("retry-after", "-1"),
        ("retry-after-ms", "NaN"),
        ("anthropic-ratelimit-tokens-remaining", "999999999999999999"),
        ("anthropic-ratelimit-requests-remaining", "-1"),
        ("anthropic-ratelimit-requests-limit", "0"),
        ("x-should-retry", "perhaps"),
    ] {
        for status in [200, 429, 999] {
            let mut answer = answer(status, "text/event-stream", [START, TEXT, STOP].map(data));
            let value = http::HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            answer.0.headers_mut().insert(name, value);
            let limit = RateLimitLayer::new(
                Quota::builder()
                    .requests_per_minute(60)
                    .build()
                    .expect("valid"),
            )
            .protocol(Profile::anthropic());
            let service = limit.layer(
                anthropic()
                    .hold(Hold::Either(100))
                    .layer(Client::new([answer])),
            );
            let start = Instant::now();
            let response = service.oneshot(request("{}")).await.expect("an answer");
            let outcome = response.extensions().get::<Outcome>().copied();
            let is_zero = matches!(
                outcome.and_then(|o| o.hint()),
                Some(Hint::After(Duration::ZERO))
            );
            assert!(
                !is_zero,
                "{name}: {value:?}",
                value = response.headers().get(name)
            );
            assert_eq!(
                read(response.into_body()).await,
                [START, TEXT, STOP].concat()
            );
            assert_eq!(start.elapsed(), Duration::ZERO);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_no_body_holds_nothing() {
    for (method, status) in [
        ("HEAD", 200),
        ("GET", 204),
        ("GET", 304),
        ("HEAD", 429),
        ("GET", 205),
    ] {
        let limit = AdaptiveConcurrencyLayer::new(Fixed::of(1)).protocol(Profile::anthropic());
        let handle = limit.handle();
        let bare = answer(status, "text/event-stream", []).foreseen();
        let client = Client::new([bare.header("content-length", "4096")]);
        let service = limit.layer(anthropic().hold(Hold::Either(9_999)).layer(client));
        let request = Request::builder().method(method).body(()).expect("valid");
        let response = service.oneshot(request).await.expect("an answer");
        assert_eq!(handle.snapshot().active(), 0, "{method} {status}");
        let failure = response.extensions().get::<Outcome>();
        assert_eq!(failure.is_some(), status == 429, "{method} {status}");
        drop(response);
    }
}

// === panics ===

/// A body that panics after so many frames.
struct Bomb(u32, &'static str);

impl Body for Bomb {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        assert!(self.0 > 0, "boom");
        self.0 -= 1;
        Poll::Ready(Some(Ok(Frame::data(self.1.into()))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_body_gives_back_what_the_call_held() {
    for (status, frames) in [(200, 0), (200, 2), (500, 0), (500, 3)] {
        let scope = Scope::new("org").key("a1", Source::value("secret-a1"));
        let pool = KeyPool::builder().scope(scope).build().expect("valid");
        let client = service_fn(move |_: Request<Full<Bytes>>| {
            let response = Response::builder().status(status);
            let response = response.header("content-type", "text/event-stream");
            std::future::ready(response.body(Bomb(frames, START)))
        });
        let stack = stack(pool, Profile::anthropic())
            .key_rotation(|layer| layer.concurrency(Fixed::of(1)))
            .provider(|layer| layer.hold(Hold::FirstEvent));
        let handle = stack.handle();
        let service = stack.layer(client);
        for _ in 0..3 {
            let call = service.clone().oneshot(request("{}"));
            let task = tokio::spawn(async move {
                let body = call.await.expect("an answer").into_body();
                body.collect().await.map(drop)
            });
            let error = tokio::time::timeout(Duration::from_secs(300), task).await;
            assert!(
                error
                    .expect("no call waits")
                    .expect_err("it panics")
                    .is_panic()
            );
            assert_eq!(handle.snapshot().active(), 0, "{status} {frames}");
        }
    }
}

// === sharing ===

#[tokio::test(start_paused = true)]
async fn one_layer_over_two_services_and_their_clones_is_one_limit() {
    let pool = KeyPool::accounts(
        Quota::builder()
            .requests_per_minute(600)
            .build()
            .expect("valid"),
        [("a", Source::value("secret-a"))],
    );
    let stack = stack(pool.expect("valid"), Profile::anthropic())
        .key_rotation(|layer| layer.concurrency(Fixed::of(2)));
    let handle = stack.handle();
    let stream = || events([data(START), pause(700), data(TEXT), data(STOP)]);
    let services = [0, 1].map(|_| stack.layer(Client::new((0..20).map(|_| stream()))));
    let peak = Arc::new(Mutex::new((0, 0)));
    let calls = (0..40).map(|n| {
        let (service, peak) = (services[n % 2].clone(), Arc::clone(&peak));
        tokio::spawn(async move {
            let response = service.oneshot(request("{}")).await.expect("an answer");
            {
                let mut peak = peak.lock().expect("no panic");
                peak.0 += 1;
                peak.1 = peak.1.max(peak.0);
            }
            // Every third leaves in the middle.
            let body = response.into_body();
            if n % 3 > 0 {
                read(body).await;
            }
            peak.lock().expect("no panic").0 -= 1;
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("no panic");
    }
    assert_eq!(*peak.lock().expect("no panic"), (0, 2));
    assert_eq!(handle.snapshot().active(), 0);
    assert_eq!(handle.snapshot().completed(), 40);
}

// === memory ===

#[test]
fn streams_leave_nothing_behind_however_they_end() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let scope = Scope::new("org").key("a1", Source::value("secret-a1"));
    let pool = KeyPool::builder().scope(scope).build().expect("valid");
    let sent = Arc::new(AtomicU64::new(0));
    let client = service_fn(move |_: Request<Full<Bytes>>| {
        let n = sent.fetch_add(1, Ordering::Relaxed);
        let steps = match n % 5 {
            0 => vec![data(START), data(TEXT), data(STOP)],
            1 => vec![data(START), data(OVERLOADED)],
            2 => vec![data(START), Step::Fail],
            3 => vec![data(START), data(TEXT)],
            _ => vec![data(START), data(TEXT), Step::Trailers],
        };
        let status = if n % 7 == 0 { 500 } else { 200 };
        let response = answer(status, "text/event-stream", steps).0;
        std::future::ready(Ok::<_, &str>(response))
    });
    let stack = stack(pool, Profile::anthropic())
        .provider(|layer| layer.hold(Hold::FirstEvent))
        .retry(|layer| {
            layer.policy(
                tower_relay::policy::RetryPolicy::builder()
                    .attempts(1)
                    .build()
                    .expect("valid"),
            )
        });
    stack
        .circuit_breaker_handle()
        .set_mode(tower_relay::policy::breaker::Mode::Disabled);
    let service = stack.layer(client);
    let run = |many: u32| {
        runtime.block_on(async {
            for n in 0..many {
                let response = service.clone().oneshot(request("{}")).await;
                let mut body = response.expect("an answer").into_body();
                if n % 3 == 0 {
                    while body.frame().await.is_some() {}
                }
            }
        });
    };
    run(1_000);
    let grown = allocation_counter::measure(|| run(3_000));
    assert!(grown.bytes_current.abs() < 4_096, "{grown:?}");
}

// === secrets ===

#[tokio::test(start_paused = true)]
async fn nothing_prints_a_secret_or_what_an_answer_said() {
    let scope = Scope::new("org").key("a1", Source::value("hush-hush-secret"));
    let pool = KeyPool::builder().scope(scope).build().expect("valid");
    let stack = stack(pool, Profile::anthropic());
    let handle = stack.handle();
    let probe = handle.probe(async |_| Outcome::SUCCESS);
    let boxed = stack.clone().boxed::<Full<Bytes>>();
    let hushed = "event: error\ndata: {\"error\":{\"message\":\"hush-hush said\"}}\n\n";
    let client = Client::new([
        events([data(START), data(hushed)]),
        json(401, "hush-hush body"),
    ]);
    let mut service = stack.layer(client);
    for _ in 0..2 {
        let call = service.call(request("{}"));
        let mut shown = format!("{call:?} {service:?} {stack:?} {boxed:?} {handle:?} {probe:?}");
        match call.await {
            Ok(response) => {
                let mut body = response.into_body();
                let _ = body.frame().await;
                shown += &format!("{body:?}");
            }
            Err(error) => shown += &format!("{error} {error:?}"),
        }
        assert!(!shown.contains("hush-hush"), "{shown}");
    }
}
