//! What the providers really say, through the layers: errors by their bodies, and answers that tell
//! their usage, fail inside or break off.
#![cfg(feature = "full")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests read the paused clock and sleep on it"
)]

#[path = "provider/support.rs"]
mod support;

use std::time::Duration;

use bytes::{Buf, Bytes, buf::Chain};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_relay::{
    circuit_breaker::CircuitBreakerLayer,
    error::{BoxError, Rejected},
    http::{Report, stack},
    key_rotation::{KeyPool, KeyRotationLayer, Scope, Source},
    outcome::{Completeness, Ending, Outcome, Usage, Verdict},
    policy::{Cost, Quota, Reason, Unit, breaker::State, pool::KeyState},
    provider::{CredentialHeader, Hold, Profile, ProviderLayer, ResponseBody},
    rate_limit::RateLimitLayer,
    retry::RetryLayer,
};

use support::{Answer, Client, Step, Steps, answer, data, events, json, pause, read, request};

const SPENT: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed the limit that was set.","details":{"error_visibility":"user_facing","error_code":"enforced_spend_limit_reached"}}}"#;
const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit of 50 requests per minute."}}"#;
const BAD_KEY: &str = r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}"#;
const RETRY_INFO: &str = r#"{"error":{"code":429,"message":"You exceeded your current quota.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"7.5s"}]}}"#;

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":100,\"cache_read_input_tokens\":900,\"output_tokens\":1}}}\n\n";
const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
const TEXT: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n";
const DELTA: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":30}}\n\n";
const STOP: &str = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const OVERLOADED: &str = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
const WHOLE: [&str; 4] = [START, TEXT, DELTA, STOP];
const CHAT: &str = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}"#;

fn whole() -> Answer {
    events(WHOLE.map(data))
}

fn retry(profile: Profile) -> RetryLayer<Profile> {
    RetryLayer::default().protocol(profile)
}

/// Sends one call through retries and the layer.
async fn call(layer: ProviderLayer, client: &Client) -> Response<ResponseBody<Steps>> {
    let service = retry(Profile::anthropic()).layer(layer.layer(client.clone()));
    service.oneshot(request("{}")).await.expect("an answer")
}

/// Whatever the header is by now, that in which a test looks.
fn in_a_header_of_its_own() -> Profile {
    let name = CredentialHeader::Named(http::HeaderName::from_static("x-api-key"));
    Profile::anthropic().credential(name)
}

fn anthropic() -> ProviderLayer {
    ProviderLayer::new(Profile::anthropic())
}

// === failures by their bodies ===

#[tokio::test(start_paused = true)]
async fn a_429_of_a_spend_limit_is_not_retried() {
    let client = Client::new([json(429, SPENT)]);
    let retry = retry(Profile::anthropic());
    let service = retry.layer(anthropic().layer(client.clone()));
    let response = service.oneshot(request("{}")).await.expect("the refusal");
    let outcome = response.extensions().get::<Outcome>().copied();
    assert_eq!(outcome.expect("it failed").verdict(), Verdict::Exhausted);
    assert_eq!(client.asked().len(), 1);
    assert_eq!(retry.handle().snapshot().given_up(Reason::Final), 1);
    assert_eq!(read(response.into_body()).await, SPENT);

    // Another account can pay.
    let client = Client::new([json(429, SPENT), whole(), whole()]);
    let keys = ["a1", "b1"]
        .map(|alias| Scope::new(alias).key(alias, Source::value(format!("secret-{alias}"))));
    let pool = keys
        .into_iter()
        .fold(KeyPool::builder(), |pool, scope| pool.scope(scope));
    let service =
        stack(pool.build().expect("valid"), in_a_header_of_its_own()).layer(client.clone());
    for _ in 0..2 {
        let response = service.clone().oneshot(request("{}")).await;
        assert_eq!(response.expect("an answer").status(), 200);
    }
    let seen = client.seen("x-api-key");
    assert_eq!(seen[1], seen[2]);
    assert_ne!(seen[0], seen[1]);
    assert_eq!(client.asked(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_gemini_400_for_a_bad_key_removes_the_key() {
    let scope = Scope::new("org")
        .key("a1", Source::value("secret-a1"))
        .key("a2", Source::value("secret-a2"));
    let pool = KeyPool::builder().scope(scope).build().expect("valid");
    let fine = || json(200, "{\"candidates\":[]}");
    let client = Client::new([json(400, BAD_KEY), fine(), fine(), fine()]);
    let stack = stack(pool, Profile::gemini());
    let handle = stack.handle();
    let service = stack.layer(client.clone());
    for _ in 0..3 {
        let response = service.clone().oneshot(request("{}")).await;
        assert_eq!(response.expect("an answer").status(), 200);
    }
    let seen = client.seen("x-goog-api-key");
    assert_eq!(
        seen.iter().filter(|key| **key == seen[0]).count(),
        1,
        "{seen:?}"
    );
    let scopes = handle.scopes();
    let states = scopes.iter().flat_map(|scope| scope.keys());
    let rejected = states.filter(|key| key.state() == KeyState::Rejected(None));
    assert_eq!(rejected.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_keys_of_one_organisation_get_one_quota() {
    let quota = Quota::builder()
        .requests_per_minute(60)
        .burst(Unit::REQUESTS, 2);
    let scope = Scope::new("org").quota(quota.build().expect("valid"));
    let scope = scope
        .key("a1", Source::value("secret-a1"))
        .key("a2", Source::value("secret-a2"));
    let pool = KeyPool::builder().scope(scope).build().expect("valid");
    let limited = json(429, LIMITED).header("retry-after", "20");
    let client = Client::new((0..4).map(|_| whole()).chain([limited, whole()]));
    let service = stack(pool, in_a_header_of_its_own()).layer(client.clone());
    let calls = (0..4).map(|_| service.clone().oneshot(request("{}")));
    for response in futures::future::join_all(calls).await {
        read(response.expect("an answer").into_body()).await;
    }
    let asked = client.asked();
    assert_eq!(&asked[..2], [0, 0]);
    assert!(asked[2] >= 1_000 && asked[3] >= 2_000, "{asked:?}");
    let seen = client.seen("x-api-key");
    assert_eq!(
        seen.iter().filter(|key| *key == "secret-a1").count(),
        2,
        "{seen:?}"
    );
    // What one key is told, the other obeys.
    let start = Instant::now();
    let response = service.oneshot(request("{}")).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert!(start.elapsed() >= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_hint_in_the_body_is_slept() {
    let client = Client::new([json(429, RETRY_INFO), json(200, "{}")]);
    let layer = ProviderLayer::new(Profile::gemini());
    let service = retry(Profile::gemini()).layer(layer.layer(client.clone()));
    let response = service.oneshot(request("{}")).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let asked = client.asked();
    assert!((7_500..=8_251).contains(&asked[1]), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_nobody_has_read_is_read_as_the_provider_means_it() {
    let name = "x-amzn-errortype";
    let limited = answer(400, "text/plain", []).header(name, "ThrottlingException");
    let client = Client::new([limited.foreseen(), json(200, "{}")]);
    let inner = ProviderLayer::new(Profile::bedrock()).layer(client.clone());
    // A layer between takes the outcome away.
    let forget = service_fn(move |request: Request<Full<Bytes>>| {
        let answer = inner.clone().oneshot(request);
        async move {
            let mut response = answer.await?;
            response.extensions_mut().clear();
            Ok::<_, &str>(response)
        }
    });
    let service = retry(Profile::bedrock()).layer(forget);
    let response = service.oneshot(request("{}")).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(client.asked().len(), 2);
}

// === what answers tell ===

/// What is left of 5,000 tokens of input and of output after an answer of which so many frames
/// are read.
async fn left(profile: Profile, answer: Answer, frames: usize) -> [i64; 2] {
    let quota = Quota::builder()
        .input_tokens_per_minute(60)
        .output_tokens_per_minute(60);
    let quota = quota
        .burst(Unit::INPUT_TOKENS, 5_000)
        .burst(Unit::OUTPUT_TOKENS, 5_000);
    let limit = RateLimitLayer::new(quota.build().expect("valid"))
        .protocol(profile.clone())
        .cost(|_: &Request<Full<Bytes>>| Cost::REQUEST.input_tokens(1_000).output_tokens(500));
    let handle = limit.handle();
    let mut service = limit.layer(ProviderLayer::new(profile).layer(Client::new([answer])));
    let response = service.ready().await.expect("ready").call(request("{}"));
    let mut body = response.await.expect("an answer").into_body();
    for _ in 0..frames {
        let _ = body.frame().await;
    }
    drop(body);
    [Unit::INPUT_TOKENS, Unit::OUTPUT_TOKENS].map(|unit| handle.available(unit).expect("it has"))
}

#[tokio::test(start_paused = true)]
async fn a_streams_usage_refunds_the_bucket_when_it_ends_and_not_before() {
    let stream = || events(WHOLE.map(data));
    // Input 100, cached 900 is free; output 30.
    assert_eq!(
        left(Profile::anthropic(), stream(), 5).await,
        [4_900, 4_970]
    );
    assert_eq!(
        left(Profile::anthropic(), stream(), 2).await,
        [4_000, 4_500]
    );
    let broken = events([data(START), data(TEXT), Step::Fail]);
    assert_eq!(left(Profile::anthropic(), broken, 9).await, [4_000, 4_500]);
}

#[tokio::test(start_paused = true)]
async fn a_json_answers_usage_refunds_the_bucket() {
    assert_eq!(
        left(Profile::groq(), json(200, CHAT), 9).await,
        [4_988, 4_997]
    );
    // The larger of prompt and maximum stays taken at OpenAI.
    assert_eq!(
        left(Profile::openai(), json(200, CHAT), 9).await,
        [4_000, 4_500]
    );
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_keeps_what_was_seen() {
    let more = "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":700}}\n\n";
    let broken = events([data(START), data(TEXT), data(more), Step::Fail]);
    let response = anthropic()
        .layer(Client::new([broken]))
        .oneshot(request("{}"));
    let mut body = response.await.expect("an answer").into_body();
    while body.frame().await.is_some() {}
    let seen = Usage::UNKNOWN.input_tokens(100).output_tokens(700);
    let failure = Outcome::new(Verdict::ServerFault);
    let ending = Ending::partial(seen).failed(failure);
    // Most of the input came from a cache and is not charged.
    let reported = Usage::UNKNOWN.input_tokens(1_000).output_tokens(700);
    assert_eq!(body.report(), ending.reporting(reported));
    let broken = events([data(START), data(TEXT), data(more), Step::Fail]);
    // More output than was reserved is added.
    assert_eq!(left(Profile::anthropic(), broken, 9).await, [4_000, 4_300]);
}

#[tokio::test(start_paused = true)]
async fn an_overload_in_the_middle_of_streams_opens_the_breaker() {
    let breaker = CircuitBreakerLayer::default().protocol(Profile::anthropic());
    // Each counts as a success until it fails, so that it takes a window of them.
    let streams = (0..21).map(|_| events([data(START), data(TEXT), data(OVERLOADED)]));
    let client = Client::new(streams);
    let service = breaker.layer(anthropic().layer(client.clone()));
    for _ in 0..20 {
        assert_eq!(breaker.handle().snapshot().state(), State::Closed);
        let response = service
            .clone()
            .oneshot(request("{}"))
            .await
            .expect("an answer");
        let text = read(response.into_body()).await;
        assert_eq!(text, [START, TEXT, OVERLOADED].concat());
    }
    assert_eq!(breaker.handle().snapshot().state(), State::Open);
    let error = service
        .oneshot(request("{}"))
        .await
        .expect_err("it is open");
    assert!(matches!(
        Rejected::find(&*error),
        Some(Rejected::BreakerOpen(_))
    ));
    assert_eq!(client.asked().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_its_terminal_event_is_a_failure() {
    let cut = events([data(START), data(TEXT)]);
    let response = anthropic().layer(Client::new([cut])).oneshot(request("{}"));
    let mut body = response.await.expect("an answer").into_body();
    while body.frame().await.is_some() {}
    let report = body.report();
    assert_eq!(report.completeness(), Completeness::Partial);
    let failure = report.failure().expect("it was cut");
    assert_eq!(failure.verdict(), Verdict::ServerFault);
}

#[tokio::test(start_paused = true)]
async fn a_long_stream_costs_no_more_allocations_than_a_short_one() {
    let count = async |texts: usize| {
        let steps = [START].into_iter().chain(std::iter::repeat_n(TEXT, texts));
        let stream = events(steps.chain([DELTA, STOP]).map(data));
        let response = anthropic()
            .layer(Client::new([stream]))
            .oneshot(request("{}"));
        let mut body = response.await.expect("an answer").into_body();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let counted = allocation_counter::measure(|| {
            while let std::task::Poll::Ready(Some(frame)) =
                http_body::Body::poll_frame(std::pin::Pin::new(&mut body), &mut cx)
            {
                drop(frame);
            }
        });
        let usage = Usage::UNKNOWN.input_tokens(100).output_tokens(30);
        let reported = usage.input_tokens(1_000);
        assert_eq!(body.report(), Ending::complete(usage).reporting(reported));
        counted.count_total
    };
    let (short, long) = (count(1).await, count(1_000).await);
    println!("{short} allocations for 4 events, {long} for 1,003");
    assert_eq!(short, long);
    assert!(short <= 16, "{short}");
}

#[tokio::test(start_paused = true)]
async fn a_frame_in_pieces_is_read_whole() {
    struct Pieces(Option<Chain<Bytes, Chain<Bytes, Bytes>>>);
    impl http_body::Body for Pieces {
        type Data = Chain<Bytes, Chain<Bytes, Bytes>>;
        type Error = BoxError;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, BoxError>>> {
            let data = self.0.take().map(|data| Ok(http_body::Frame::data(data)));
            std::task::Poll::Ready(data)
        }
    }
    let client = service_fn(async |_: Request<Full<Bytes>>| {
        let part = |range: std::ops::Range<usize>| Bytes::from_static(CHAT.as_bytes()).slice(range);
        let rest = part(9..90).chain(part(90..CHAT.len()));
        let body = Pieces(Some(part(0..9).chain(rest)));
        Ok::<_, BoxError>(
            Response::builder()
                .header("content-type", "application/json")
                .body(body)?,
        )
    });
    let layer = ProviderLayer::new(Profile::groq());
    let response = layer.layer(client).oneshot(request("{}")).await;
    let mut body = response.expect("an answer").into_body();
    while body.frame().await.is_some() {}
    let usage = Usage::UNKNOWN.input_tokens(12).output_tokens(3);
    assert_eq!(body.report(), Ending::complete(usage));
}

// === heads that are held ===

fn held() -> ProviderLayer {
    anthropic().hold(Hold::FirstEvent)
}

#[tokio::test(start_paused = true)]
async fn an_error_before_the_first_content_is_retried_when_heads_are_held() {
    let overloaded = || events([data(START), data(PING), pause(10), data(OVERLOADED)]);
    let client = Client::new([overloaded(), whole()]);
    let response = call(held(), &client).await;
    assert_eq!(read(response.into_body()).await, WHOLE.concat());
    assert_eq!(client.asked().len(), 2);

    // The last attempt reaches the caller whole, and says what it is.
    let client = Client::new((0..5).map(|_| overloaded()));
    let response = call(held(), &client).await;
    assert_eq!((response.status().as_u16(), client.asked().len()), (200, 5));
    let outcome = response.extensions().get::<Outcome>().copied();
    assert_eq!(outcome.expect("it failed").verdict(), Verdict::Overloaded);
    let body = response.into_body();
    assert_eq!(read(body).await, [START, PING, OVERLOADED].concat());

    // Without it the caller gets the error.
    let client = Client::new([overloaded(), whole()]);
    let response = call(anthropic(), &client).await;
    assert!(read(response.into_body()).await.ends_with(OVERLOADED));
    assert_eq!(client.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_or_ends_before_the_first_content_is_retried_when_heads_are_held() {
    for steps in [
        vec![data(START), Step::Fail],
        vec![data(START), data(PING)],
        vec![],
    ] {
        let client = Client::new([events(steps), whole()]);
        let response = call(held(), &client).await;
        assert_eq!(read(response.into_body()).await, WHOLE.concat());
        assert_eq!(client.asked().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_head_goes_on_with_the_first_content_and_every_byte_once() {
    let (head, tail) = TEXT.split_at(40);
    // The last frame that is held ends within the next event.
    let (begun, delta) = DELTA.split_at(40);
    let more = Step::Data(Bytes::from([tail, begun].concat()));
    let steps = [data(START), pause(30), data(head), pause(30), more];
    let rest = [pause(1_000), data(delta), data(STOP), Step::Trailers];
    let stream = events(steps.into_iter().chain(rest));
    let log = stream.log();
    let client = Client::new([stream]);
    let start = Instant::now();
    let response = call(held(), &client).await;
    assert_eq!(start.elapsed().as_millis(), 60);
    assert!(response.extensions().get::<Outcome>().is_none());
    let polls = log.polls();
    let mut body = response.into_body();
    let size = [START, TEXT, DELTA, STOP].concat().len() as u64;
    assert_eq!(http_body::Body::size_hint(&body).exact(), Some(size));
    for _ in 0..3 {
        body.frame().await.expect("kept").expect("no error");
    }
    assert_eq!(log.polls(), polls);
    assert_eq!(read(&mut body).await, format!("{delta}{STOP}#"));
    let usage = Usage::UNKNOWN.input_tokens(100).output_tokens(30);
    let reported = usage.input_tokens(1_000);
    assert_eq!(body.report(), Ending::complete(usage).reporting(reported));
}

#[tokio::test(start_paused = true)]
async fn a_head_is_held_no_longer_than_its_bounds() {
    let wait = Duration::from_secs(9);
    let client = Client::new([events([data(START), pause(20_000), data(OVERLOADED)])]);
    let start = Instant::now();
    let response = call(held().max_hold(wait), &client).await;
    assert!((9_000..=9_001).contains(&start.elapsed().as_millis()));
    assert_eq!(
        read(response.into_body()).await,
        [START, OVERLOADED].concat()
    );

    let comment = Bytes::from(format!(": {}\n\n", "x".repeat(1_020)));
    let comments = std::iter::repeat_n(Step::Data(comment), 100);
    let stream = events(comments.chain([data(OVERLOADED)]));
    let log = stream.log();
    let client = Client::new([stream]);
    let response = call(held(), &client).await;
    assert_eq!(log.polls(), 64);
    let text = read(response.into_body()).await;
    assert_eq!(text.len(), 100 * 1_024 + OVERLOADED.len());
    assert_eq!(client.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_that_breaks_off_or_is_an_error_is_retried_when_it_is_held() {
    let layer = || ProviderLayer::new(Profile::openrouter()).hold(Hold::WholeJson(10_000));
    let error = r#"{"error":{"code":502,"message":"Provider returned error"}}"#;
    let (head, _) = CHAT.split_at(50);
    for bad in [
        json(200, error),
        answer(200, "application/json", [data(head), Step::Fail]),
        answer(200, "application/json; charset=utf-8", [data(head)]),
    ] {
        let client = Client::new([bad, json(200, CHAT)]);
        let service = retry(Profile::openrouter()).layer(layer().layer(client.clone()));
        let response = service.oneshot(request("{}")).await.expect("an answer");
        assert_eq!(read(response.into_body()).await, CHAT);
        assert_eq!(client.asked().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_to_be_held_is() {
    let stream = || events(WHOLE.map(data));
    let plain = || json(200, CHAT);
    let coded = || json(200, CHAT).header("content-encoding", "gzip");
    let length = CHAT.len();
    for (hold, answer, polls) in [
        (Hold::Nothing, stream(), 0),
        (Hold::FirstEvent, plain(), 0),
        (Hold::FirstEvent, stream(), 2),
        (Hold::WholeJson(length), stream(), 0),
        (Hold::WholeJson(length), plain(), 2),
        (Hold::WholeJson(length - 1), plain(), 0),
        (Hold::WholeJson(length), coded(), 0),
        (
            Hold::WholeJson(length),
            answer(200, "text/html", [data("x")]),
            0,
        ),
        (Hold::Either(length), stream(), 2),
        (Hold::Either(length), plain(), 2),
    ] {
        let log = answer.log();
        let response = call(anthropic().hold(hold), &Client::new([answer])).await;
        assert_eq!(log.polls(), polls, "{hold:?}");
        read(response.into_body()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_while_a_head_is_held_drops_the_body() {
    let stream = events([data(START), Step::Never]);
    let log = stream.log();
    let service = held().layer(Client::new([stream]));
    let mut call = Box::pin(service.oneshot(request("{}")));
    assert!(support::poll_once(&mut call).is_pending());
    assert!(!log.is_dropped());
    drop(call);
    assert!(log.is_dropped());
}

#[tokio::test(start_paused = true)]
async fn a_failure_inside_a_held_answer_takes_the_key_out() {
    let refused = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"invalid x-api-key\"}}\n\n";
    let scope = Scope::new("org")
        .key("a1", Source::value("secret-a1"))
        .key("a2", Source::value("secret-a2"));
    let pool = KeyPool::builder().scope(scope).build().expect("valid");
    let keys = KeyRotationLayer::new(pool).protocol(in_a_header_of_its_own());
    let client = Client::new([events([data(refused)]), whole(), whole()]);
    let service = retry(Profile::anthropic()).layer(keys.layer(held().layer(client.clone())));
    for _ in 0..2 {
        let response = service
            .clone()
            .oneshot(request("{}"))
            .await
            .expect("an answer");
        assert_eq!(read(response.into_body()).await, WHOLE.concat());
    }
    let seen = client.seen("x-api-key");
    assert_ne!(seen[0], seen[1]);
    assert_eq!(seen[1], seen[2]);
}
