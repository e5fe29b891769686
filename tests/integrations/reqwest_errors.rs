//! What a reqwest client's errors mean to the layers, and what they say.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use ::axum::{Router, body::Bytes};
use ::reqwest::dns::{Name, Resolve, Resolving};
use http_body_util::Full;
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_relay::{
    error::{BoxError, KeyFailed},
    http::{Http, classify_error},
    outcome::{Effect, Outcome, Verdict},
    policy::Quota,
    provider::Profile,
    rate_limit::RateLimitLayer,
    reqwest::ReqwestClient,
    retry::RetryLayer,
};

use crate::{
    reqwest::{builder, client},
    support::{ample, assert_no_secret, hasty, layers, nobody, serve},
};

async fn failure(client: ReqwestClient, url: &str) -> (Outcome, ::reqwest::Error) {
    let request = http::Request::post(url).body(Full::<Bytes>::default());
    let error = client.oneshot(request.expect("a valid request")).await;
    let error: BoxError = Box::new(error.expect_err("it fails"));
    let outcome = classify_error(&error);
    (outcome, *error.downcast().expect("it is reqwest's"))
}

/// Never answers, or says that there is no such name.
struct NoName {
    hangs: bool,
}

impl Resolve for NoName {
    fn resolve(&self, _: Name) -> Resolving {
        match self.hangs {
            true => Box::pin(std::future::pending()),
            false => Box::pin(std::future::ready(Err("no such name".into()))),
        }
    }
}

#[tokio::test]
async fn where_no_connection_came_about_nothing_was_sent() -> Result<(), BoxError> {
    let unknown = ReqwestClient::build(builder().dns_resolver(NoName { hangs: false }))?;
    let slow = builder().connect_timeout(Duration::from_millis(10));
    let slow = ReqwestClient::build(slow.dns_resolver(NoName { hangs: true }))?;
    let here = nobody().await;
    for (client, url) in [
        (client(), &*here),
        (unknown, "http://api.example/"),
        (slow, "http://api.example/"),
        // Without a feature for TLS there is no connection either.
        (client(), "https://127.0.0.1:9/"),
    ] {
        let (outcome, error) = failure(client, url).await;
        assert!(error.is_connect(), "{error:?}");
        assert_eq!(outcome.verdict(), Verdict::ServerFault, "{error:?}");
        assert_eq!(outcome.effect(), Effect::None, "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_handshake_that_is_refused_was_not_a_request() -> Result<(), BoxError> {
    /// Reaches the server, and does not like its certificate.
    #[derive(Clone)]
    struct Untrusting<S>(S);
    impl<S: Service<R, Error = BoxError, Future: Send + 'static>, R> Service<R> for Untrusting<S> {
        type Response = S::Response;
        type Error = BoxError;
        type Future = futures::future::BoxFuture<'static, Result<S::Response, BoxError>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            self.0.poll_ready(cx)
        }

        fn call(&mut self, target: R) -> Self::Future {
            let connecting = self.0.call(target);
            Box::pin(async {
                drop(connecting.await?);
                Err("no certificate that we trust".into())
            })
        }
    }

    let url = serve(Router::new().fallback(async || "hello")).await;
    let layer = tower::layer::layer_fn(Untrusting);
    let client = ReqwestClient::build(builder().connector_layer(layer))?;
    let (outcome, error) = failure(client, &url).await;
    assert!(format!("{error:?}").contains("no certificate that we trust"));
    assert_eq!(outcome.effect(), Effect::None);
    Ok(())
}

#[tokio::test]
async fn a_server_that_hangs_up_after_the_request_may_have_acted() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let answer = tokio::spawn(async move { failure(client(), &url).await });
    let (connection, _) = listener.accept().await?;
    connection.readable().await?;
    while connection
        .try_read(&mut [0; 1024])
        .is_ok_and(|read| read > 0)
    {}
    drop(connection);
    let (outcome, error) = answer.await?;
    assert!(!error.is_connect());
    assert_eq!(outcome.verdict(), Verdict::ServerFault);
    assert_eq!(outcome.effect(), Effect::Possible);
    Ok(())
}

#[tokio::test]
async fn a_call_that_was_not_sent_is_sent_again_whatever_its_method_and_costs_nothing()
-> Result<(), BoxError> {
    let quota = Quota::builder().requests_per_hour(10);
    let limit = RateLimitLayer::http(
        quota
            .burst(tower_relay::policy::Unit::REQUESTS, 10)
            .build()?,
    );
    let handle = limit.handle();
    let retry = RetryLayer::new(hasty(3)).protocol(Http);
    let tried = retry.handle();
    let service = ServiceBuilder::new()
        .layer(retry)
        .layer(limit)
        .service(client());
    let request = http::Request::post(nobody().await).body(Full::<Bytes>::default())?;
    let error = service.oneshot(request).await.expect_err("nobody listens");
    assert!(
        error
            .downcast_ref::<::reqwest::Error>()
            .is_some_and(::reqwest::Error::is_connect)
    );
    assert_eq!(tried.snapshot().retries(), 2);
    assert_eq!(handle.snapshot().active(), 0);
    Ok(())
}

#[tokio::test]
async fn a_request_that_cannot_be_built_is_the_callers_fault_and_tried_once() -> Result<(), BoxError>
{
    for url in ["/without/a/host", "ftp://127.0.0.1/"] {
        let (outcome, error) = failure(client(), url).await;
        assert!(error.is_builder(), "{error:?}");
        assert_eq!(outcome.verdict(), Verdict::CallerFault);

        let stack = layers(Profile::generic(), ample());
        let (retries, pool) = (stack.retry_handle(), stack.handle());
        let request = http::Request::post(url).body(Full::<Bytes>::default())?;
        let error = stack.layer(client()).oneshot(request).await;
        let error = error.expect_err("whom to ask?");
        assert!(KeyFailed::find(&*error).is_none(), "no key is to blame");
        assert_eq!(retries.snapshot().retries(), 0, "{url}");
        assert_eq!(pool.snapshot().active(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn its_errors_name_whom_they_are_of_and_no_secret() {
    let here = nobody().await;
    let host = here.strip_prefix("http://").expect("it is HTTP");
    let url = format!("http://user:s3cret@{host}/v1/models?key=sk-s3cret");
    let (_, error) = failure(client(), &url).await;
    let text = format!("{error} {error:?}");
    assert_no_secret(&text);
    assert!(!text.contains("user"), "{text}");
    assert!(text.contains(&format!("http://{host}/v1/models")), "{text}");

    let (_, unbuilt) = failure(client(), "ftp://user:s3cret@host/path?key=sk-s3cret").await;
    assert_no_secret(&format!("{unbuilt} {unbuilt:?}"));
}

#[tokio::test]
async fn a_limit_of_the_whole_call_may_have_let_it_act() -> Result<(), BoxError> {
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = asked.clone();
    let url = serve(Router::new().fallback(async move || {
        seen.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
    }))
    .await;
    let client = ReqwestClient::build(builder().timeout(Duration::from_millis(100)))?;
    let (outcome, error) = failure(client, &url).await;
    assert!(error.is_timeout());
    assert_eq!(outcome.effect(), Effect::Possible);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    Ok(())
}
