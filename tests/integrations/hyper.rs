//! hyper-util's client as the innermost service: what the feature `hyper-util` promises of it.

use std::{collections::HashSet, future, time::Duration};

use ::axum::{Router, body::Bytes, http::Version};
use embedded_provider::{Latency, Limits};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpStream;
use tower::{Layer, ServiceExt};
use tower_relay::{
    error::BoxError,
    http::classify_error,
    outcome::{Effect, Verdict},
    provider::Profile,
};

use crate::support::{
    ample, eventually, layers, nobody, one_at_a_time, provider, quick, serve, whence,
};

fn get(url: &str) -> http::Request<Full<Bytes>> {
    let request = http::Request::get(url).body(Full::default());
    request.expect("a valid request")
}

/// Through all layers, and by itself: where nothing was sent, any method is sent again.
async fn assert_not_sent<C: Connect + Clone + Send + Sync + 'static>(connector: C, url: &str) {
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let error = client
        .request(get(url))
        .await
        .expect_err("nothing connects");
    let outcome = classify_error(&error.into());
    assert_eq!(outcome.verdict(), Verdict::ServerFault, "{url}");
    assert_eq!(outcome.effect(), Effect::None, "{url}");

    let stack = layers(Profile::generic(), ample());
    let retries = stack.retry_handle();
    assert!(stack.layer(client).oneshot(get(url)).await.is_err());
    assert_eq!(retries.snapshot().retries(), 1, "{url}");
}

#[tokio::test]
async fn where_no_connection_came_about_nothing_was_sent() {
    let url = nobody().await;
    assert_not_sent(HttpConnector::new(), &url).await;

    let no_name = |_: Name| future::ready(Err::<std::vec::IntoIter<_>, _>("no such name"));
    let resolver = tower::service_fn(no_name);
    let connector = HttpConnector::new_with_resolver(resolver);
    assert_not_sent(connector, "http://api.example/").await;

    // What a connector for TLS does, that trusts nobody.
    let reached = serve(Router::new()).await;
    let untrusting = tower::service_fn(|uri: http::Uri| {
        Box::pin(async move {
            let address = uri.authority().expect("it has one").as_str();
            drop(TcpStream::connect(address).await?);
            Err::<TokioIo<TcpStream>, _>(BoxError::from("no certificate that we trust"))
        })
    });
    assert_not_sent(untrusting, &reached).await;
}

#[tokio::test]
async fn over_http_2_calls_share_a_connection_and_streams_end_alone() -> Result<(), BoxError> {
    let url = serve(Router::new().fallback(whence)).await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let stack = layers(Profile::generic(), ample());
    let handle = stack.handle();
    let service = stack.layer(client);
    let calls = (0..20).map(|_| service.clone().oneshot(get(&url)));
    let mut answers = futures::future::try_join_all(calls).await?;
    assert!(
        answers
            .iter()
            .all(|answer| answer.version() == Version::HTTP_2)
    );
    assert_eq!(handle.snapshot().active(), 20);
    // One is dropped; the others, on the same connection, go on.
    drop(answers.pop());
    let mut connections = HashSet::new();
    for answer in answers {
        connections.insert(answer.into_body().collect().await?.to_bytes());
    }
    assert_eq!(connections.len(), 1);
    assert_eq!(handle.snapshot().active(), 0);
    Ok(())
}

#[tokio::test]
async fn a_dropped_stream_gives_its_place_back_and_is_broken_off_upstream() -> Result<(), BoxError>
{
    let slow = Latency {
        per_token: Duration::from_secs(60),
        ..quick()
    };
    let api = provider(Limits::default(), slow).await;
    let stack = layers(Profile::anthropic(), one_at_a_time());
    let handle = stack.handle();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let body =
        r#"{"model": "m", "max_tokens": 9, "stream": true, "messages": [{"content": "Hi!"}]}"#;
    let request = http::Request::post(api.url() + "/v1/messages");
    let request = request.body(Full::<Bytes>::from(body))?;
    let mut stream = stack.layer(client).oneshot(request).await?;
    assert!(stream.body_mut().frame().await.expect("a frame")?.is_data());
    assert_eq!(handle.snapshot().active(), 1);
    drop(stream);
    assert_eq!(handle.snapshot().active(), 0);
    eventually("the provider sees it", || api.counters().disconnected == 1).await;
    Ok(())
}
