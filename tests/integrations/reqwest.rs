//! A reqwest client as the innermost service.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ::axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, HeaderName, Method, StatusCode, Uri, Version, header},
};
use ::reqwest::{Client, ClientBuilder};
use embedded_provider::{Latency, Limits};
use futures::StreamExt;
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_relay::{
    error::BoxError,
    http::{Http, ReplayBuffer},
    provider::Profile,
    reqwest::ReqwestClient,
    retry::RetryLayer,
};

use crate::support::{
    ample, eventually, hasty, layers, one_at_a_time, provider, quick, serve, whence,
};

pub(crate) fn builder() -> ClientBuilder {
    Client::builder().no_proxy()
}

pub(crate) fn client() -> ReqwestClient {
    ReqwestClient::build(builder()).expect("a client")
}

fn question(url: &str, is_stream: bool) -> http::Request<Full<Bytes>> {
    let body = format!(
        r#"{{"model": "m", "max_tokens": 50, "stream": {is_stream}, "messages": [{{"content": "Hi!"}}]}}"#
    );
    let request = http::Request::post(format!("{url}/v1/messages"));
    request.body(Full::from(body)).expect("a valid request")
}

#[tokio::test]
async fn a_stack_over_it_answers_plain_and_streamed_with_a_key_of_the_pool() -> Result<(), BoxError>
{
    let api = provider(Limits::default(), quick()).await;
    let stack = layers(Profile::anthropic(), ample());
    let handle = stack.handle();
    let service = stack.layer(client());

    let plain = service.clone().oneshot(question(&api.url(), false)).await?;
    assert_eq!(plain.status(), 200);
    let body = plain.into_body().collect().await?.to_bytes();
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&body)?["role"],
        "assistant"
    );

    let stream = service.clone().oneshot(question(&api.url(), true)).await?;
    assert_eq!(handle.snapshot().active(), 1);
    let body = stream.into_body().collect().await?.to_bytes();
    assert!(body.ends_with(b"\"message_stop\"}\n\n"));
    assert_eq!(handle.snapshot().active(), 0);
    // The provider knows no other keys.
    assert_eq!(
        (api.counters().answered, api.counters().unauthorized),
        (2, 0)
    );
    Ok(())
}

#[tokio::test]
async fn a_dropped_stream_gives_its_place_back_and_is_broken_off_upstream() -> Result<(), BoxError>
{
    let slow = Latency {
        per_token: std::time::Duration::from_secs(60),
        ..quick()
    };
    let api = provider(Limits::default(), slow).await;
    let stack = layers(Profile::anthropic(), one_at_a_time());
    let handle = stack.handle();
    let service = stack.layer(client());

    let mut stream = service.oneshot(question(&api.url(), true)).await?;
    let first = stream.body_mut().frame().await.expect("a frame")?;
    assert!(first.is_data());
    assert_eq!(
        (handle.snapshot().active(), api.counters().in_flight),
        (1, 1)
    );
    drop(stream);
    assert_eq!(handle.snapshot().active(), 0);
    eventually("the provider sees it", || api.counters().disconnected == 1).await;
    assert_eq!(api.counters().in_flight, 0);
    Ok(())
}

#[tokio::test]
async fn a_call_dropped_before_its_answer_is_broken_off_upstream() -> Result<(), BoxError> {
    let hung = Latency {
        first_token: std::time::Duration::from_secs(3_600),
        ..quick()
    };
    let api = provider(Limits::default(), hung).await;
    let stack = layers(Profile::anthropic(), one_at_a_time());
    let handle = stack.handle();
    let call = tokio::spawn(stack.layer(client()).oneshot(question(&api.url(), false)));
    eventually("it is there", || api.counters().in_flight == 1).await;
    call.abort();
    assert!(call.await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(handle.snapshot().active(), 0);
    eventually("the provider sees it", || api.counters().disconnected == 1).await;
    Ok(())
}

/// What came of the request, in the answer's body.
async fn echo(
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    body: Bytes,
) -> String {
    let of = |name: HeaderName| {
        let value = headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        value.unwrap_or("none").to_owned()
    };
    let (length, custom) = (
        of(header::CONTENT_LENGTH),
        of(HeaderName::from_static("x-one")),
    );
    let body = String::from_utf8_lossy(&body);
    format!("{method} {uri} {version:?} {custom} {length} {body:?}")
}

#[tokio::test]
async fn method_path_headers_and_any_body_arrive_as_they_were() -> Result<(), BoxError> {
    let url = serve(Router::new().fallback(echo)).await;
    let uri = format!("{url}/a%20b?c=d&e");
    let request = |method: Method| {
        http::Request::builder()
            .method(method)
            .uri(&uri)
            .header("x-one", "1")
    };
    async fn text<B>(request: http::Request<B>) -> Result<String, BoxError>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + Sync + 'static,
    {
        let body = client().oneshot(request).await?.into_body();
        Ok(String::from_utf8(body.collect().await?.to_bytes().into())?)
    }

    let none = text(request(Method::GET).body(Empty::new())?).await?;
    assert_eq!(none, r#"GET /a%20b?c=d&e HTTP/1.1 1 none """#);
    let full = text(request(Method::PUT).body(Full::from("whole"))?).await?;
    assert_eq!(full, r#"PUT /a%20b?c=d&e HTTP/1.1 1 5 "whole""#);
    let parts = ["in ", "parts"].map(|part| Ok::<_, BoxError>(Frame::data(Bytes::from(part))));
    let stream = StreamBody::new(futures::stream::iter(parts));
    let parts = text(request(Method::POST).body(stream)?).await?;
    assert_eq!(parts, r#"POST /a%20b?c=d&e HTTP/1.1 1 none "in parts""#);
    Ok(())
}

#[tokio::test]
async fn a_body_whose_source_fails_fails_the_call() {
    let url = serve(Router::new().fallback(echo)).await;
    let broken = [
        Ok(Frame::data(Bytes::from("half"))),
        Err(BoxError::from("the disk is gone")),
    ];
    let body = StreamBody::new(futures::stream::iter(broken));
    let request = http::Request::post(url)
        .body(body)
        .expect("a valid request");
    let error = client()
        .oneshot(request)
        .await
        .expect_err("half of it is not it");
    assert!(format!("{:?}", error).contains("the disk is gone"));
}

#[tokio::test]
async fn over_http_2_calls_share_a_connection() -> Result<(), BoxError> {
    let url = serve(Router::new().fallback(whence)).await;
    let client = ReqwestClient::build(builder().http2_prior_knowledge())?;
    let stack = layers(Profile::generic(), ample()).layer(client);
    let calls = (0..20).map(|_| {
        let request = http::Request::get(&url).body(Full::<Bytes>::default());
        stack.clone().oneshot(request.expect("a valid request"))
    });
    let answers = futures::future::try_join_all(calls).await?;
    let mut connections = HashSet::new();
    for answer in answers {
        assert_eq!(answer.version(), Version::HTTP_2);
        connections.insert(answer.into_body().collect().await?.to_bytes());
    }
    assert_eq!(connections.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_streamed_request_is_sent_again_whole() -> Result<(), BoxError> {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let url = serve(Router::new().fallback(async move |body: Bytes| {
        let status = match seen.fetch_add(1, Ordering::SeqCst) {
            0 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        };
        (status, body)
    }))
    .await;
    let retry = RetryLayer::new(hasty(2))
        .protocol(Http)
        .replay(ReplayBuffer::default());
    let service = ServiceBuilder::new().layer(retry).service(client());
    let parts = ["a ", "stream"].map(|part| Ok::<_, BoxError>(Frame::data(Bytes::from(part))));
    let body = StreamBody::new(futures::stream::iter(parts));
    let response = service
        .oneshot(http::Request::post(url).body(body)?)
        .await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await?.to_bytes(), "a stream");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    Ok(())
}

#[tokio::test]
async fn a_response_becomes_reqwests_own_again() -> Result<(), BoxError> {
    let url = serve(Router::new().fallback(echo)).await;
    let stack = layers(Profile::generic(), ample()).layer(client());
    let request = http::Request::get(url).body(Full::<Bytes>::default())?;
    let response = stack.oneshot(request).await?;
    let response = ::reqwest::Response::from(response.map(::reqwest::Body::wrap));
    assert!(response.text().await?.starts_with("GET"));
    Ok(())
}

#[tokio::test]
async fn a_redirect_takes_no_key_to_a_stranger() -> Result<(), BoxError> {
    let stranger = Arc::new(AtomicUsize::new(0));
    let seen = stranger.clone();
    let elsewhere = serve(Router::new().fallback(async move |headers: HeaderMap| {
        seen.fetch_add(
            1 + usize::from(headers.contains_key("x-api-key")),
            Ordering::SeqCst,
        );
    }))
    .await;
    let url = serve(
        Router::new().fallback(async move || (StatusCode::FOUND, [(header::LOCATION, elsewhere)])),
    )
    .await;
    let request = || http::Request::get(&url).body(Full::<Bytes>::default());
    let stack = layers(Profile::anthropic(), ample());

    let response = stack.clone().layer(client()).oneshot(request()?).await?;
    assert_eq!(response.status(), 302);
    assert_eq!(stranger.load(Ordering::SeqCst), 0);

    // What a client does that is left as reqwest has it, and why the docs say so.
    let follows = ReqwestClient::new(builder().build()?);
    assert_eq!(
        stack.layer(follows).oneshot(request()?).await?.status(),
        200
    );
    assert_eq!(stranger.load(Ordering::SeqCst), 2);
    Ok(())
}

#[tokio::test]
async fn a_stream_that_breaks_upstream_breaks_for_the_caller() -> Result<(), BoxError> {
    let (break_off, broken) = tokio::sync::oneshot::channel::<()>();
    let broken = Arc::new(std::sync::Mutex::new(Some(broken)));
    let url = serve(Router::new().fallback(async move || {
        let broken = broken.lock().expect("nobody panics").take();
        let begin = futures::stream::once(async { Ok(Bytes::from("data: {}\n\n")) });
        let end = futures::stream::once(async {
            drop(broken.expect("one call").await);
            Err("gone")
        });
        ::axum::body::Body::from_stream(begin.chain(end))
    }))
    .await;
    let stack = layers(Profile::openai(), ample());
    let handle = stack.handle();
    let request = http::Request::post(url).body(Full::<Bytes>::from("{}"))?;
    let mut response = stack.layer(client()).oneshot(request).await?;
    let first = response.body_mut().frame().await.expect("a frame")?;
    assert_eq!(
        first.into_data().ok().as_deref(),
        Some(&b"data: {}\n\n"[..])
    );
    drop(break_off);
    assert!(
        response
            .body_mut()
            .frame()
            .await
            .is_some_and(|end| end.is_err())
    );
    assert_eq!(handle.snapshot().active(), 0);
    Ok(())
}

#[tokio::test]
async fn an_answer_without_a_body_frees_its_place_at_its_head() -> Result<(), BoxError> {
    let url = serve(Router::new().fallback(async |method: Method| match method {
        Method::HEAD => (StatusCode::OK, "left out"),
        _ => (StatusCode::NO_CONTENT, ""),
    }))
    .await;
    let stack = layers(Profile::generic(), one_at_a_time());
    let handle = stack.handle();
    let service = stack.layer(client());
    for method in [Method::HEAD, Method::DELETE] {
        let request = http::Request::builder().method(method.clone()).uri(&url);
        let request = request.body(Full::<Bytes>::default())?;
        let _kept = service.clone().oneshot(request).await?;
        assert_eq!(handle.snapshot().active(), 0, "{method}");
    }
    Ok(())
}
