//! What an async-openai client's callers see when a call fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::async_openai::error::{ApiErrorResponse, OpenAIError};
use ::axum::{Router, body::Bytes, http::StatusCode};
use embedded_provider::{Denial, Limits};
use futures::StreamExt;
use tower_relay::{
    error::{BoxError, Rejected},
    policy::{Quota, breaker::BreakerConfig},
    provider::Profile,
};

use crate::{
    async_openai::{openai, question},
    support::{
        SECRETS, ample, assert_no_secret, hasty, layers, nobody, one_at_a_time, provider, quick,
        serve,
    },
};

fn api_error(error: OpenAIError) -> ApiErrorResponse {
    assert_no_secret(&format!("{error} {error:?}"));
    match error {
        OpenAIError::ApiError(error) => error,
        other => panic!("not the API's: {other:?}"),
    }
}

/// The refusal in `error`, found in both ways that there are.
fn rejected(error: &OpenAIError) -> &Rejected {
    assert_no_secret(&format!("{error} {error:?}"));
    let rejected = Rejected::find(error).expect("a refusal");
    let OpenAIError::Boxed(boxed) = error else {
        panic!("not a layer's: {error:?}");
    };
    assert_eq!(boxed.downcast_ref::<Rejected>(), Some(rejected));
    assert_eq!(error.to_string(), rejected.to_string());
    rejected
}

#[tokio::test]
async fn a_429_that_outlasts_the_attempts_is_the_apis_own_error() {
    let limits = Limits {
        requests_per_minute: Some(60),
        ..Limits::default()
    };
    let api = provider(limits, quick()).await;
    let pool = layers(Profile::openai(), ample()).retry(|layer| layer.policy(hasty(1)));
    let openai = openai(&api.url(), pool);
    let chat = openai.chat();
    let calls = (0..3).map(|_| chat.create(question()));
    let answers = futures::future::join_all(calls).await;
    let refused = answers.into_iter().find_map(Result::err);
    // Both accounts have answered one; what came third was refused by whichever it met.
    let error = api_error(refused.expect("two accounts answer one each"));
    assert_eq!(error.status_code, 429);
    assert_eq!(error.api_error.code.as_deref(), Some("rate_limit_exceeded"));
    assert!(!error.api_error.message.is_empty());
}

#[tokio::test]
async fn a_429_that_another_account_makes_good_is_seen_by_nobody() -> Result<(), OpenAIError> {
    let api = provider(Limits::default(), quick()).await;
    api.set_credit(SECRETS[0], Some(0)).expect("it is known");
    let stack = layers(Profile::openai(), ample());
    let (handle, openai) = (stack.handle(), openai(&api.url(), stack));
    for _ in 0..8 {
        let mut stream = openai.chat().create_stream(question()).await?;
        while let Some(chunk) = stream.next().await {
            chunk?;
        }
    }
    let seen = api.counters();
    assert_eq!(seen.answered, 8);
    assert!(seen.exhausted <= 1, "it is asked no more: {seen:?}");
    assert_eq!(handle.snapshot().active(), 0);
    Ok(())
}

#[tokio::test]
async fn a_401_of_every_key_is_the_apis_error_once_and_then_a_refusal() {
    let api = provider(Limits::default(), quick()).await;
    for secret in SECRETS {
        api.revoke_key(secret).expect("it is known");
    }
    let stack = layers(Profile::openai(), ample());
    let handle = stack.handle();
    let openai = openai(&api.url(), stack);
    let call = || async {
        openai
            .chat()
            .create_stream(question())
            .await
            .err()
            .expect("it fails")
    };

    let error = api_error(call().await);
    assert_eq!(error.status_code, 401);
    assert_eq!(error.api_error.code.as_deref(), Some("invalid_api_key"));

    let error = call().await;
    let rejected = rejected(&error);
    assert!(
        matches!(rejected, Rejected::NobodyCanServe(_)),
        "{rejected:?}"
    );
    assert_eq!(rejected.retry_after(), None);
    assert_eq!(api.counters().unauthorized, 2);
    assert_eq!(handle.snapshot().active(), 0);
}

#[tokio::test]
async fn a_denied_model_is_the_apis_error() {
    let api = provider(Limits::default(), quick()).await;
    for scope in SECRETS {
        api.deny_model(scope, "m", Denial::NotFound)
            .expect("it is known");
    }
    let openai = openai(&api.url(), layers(Profile::openai(), ample()));
    let error = openai
        .chat()
        .create_stream(question())
        .await
        .err()
        .expect("it fails");
    let error = api_error(error);
    assert_eq!(error.status_code, 404);
    assert_eq!(error.api_error.code.as_deref(), Some("model_not_found"));
}

#[tokio::test]
async fn a_5xx_is_the_apis_error_with_its_text() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let url = serve(Router::new().fallback(async move || {
        seen.fetch_add(1, Ordering::SeqCst);
        (StatusCode::BAD_GATEWAY, "<html>a proxy's page</html>")
    }))
    .await;
    let openai = openai(&url, layers(Profile::openai(), ample()));
    let error = openai
        .chat()
        .create_stream(question())
        .await
        .err()
        .expect("it fails");
    let error = api_error(error);
    assert_eq!(error.status_code, 502);
    assert_eq!(error.api_error.message, "<html>a proxy's page</html>");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_call_that_would_wait_too_long_is_a_refusal_that_says_when() -> Result<(), OpenAIError> {
    let api = provider(Limits::default(), quick()).await;
    let hourly = Quota::builder()
        .requests_per_hour(1)
        .build()
        .expect("a valid quota");
    let stack = layers(Profile::openai(), hourly)
        .key_rotation(|layer| layer.max_wait(Duration::from_secs(1)));
    let openai = openai(&api.url(), stack);
    for _ in SECRETS {
        let stream = openai.chat().create_stream(question()).await?;
        assert!(stream.collect::<Vec<_>>().await.iter().all(Result::is_ok));
    }
    let error = openai
        .chat()
        .create_stream(question())
        .await
        .err()
        .expect("it fails");
    let rejected = rejected(&error);
    assert!(matches!(rejected, Rejected::TooLate(_)), "{rejected:?}");
    let wait = rejected.retry_after().expect("it can be served then");
    assert!(wait > Duration::from_secs(3_000), "{wait:?}");
    assert_eq!(api.counters().calls, 2);
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_a_refusal_once_the_breaker_is_open() {
    let config = BreakerConfig::builder().consecutive_failures(2);
    let config = config
        .open(Duration::from_secs(60), Duration::from_secs(60))
        .build();
    let stack = layers(Profile::openai(), ample())
        .circuit_breaker(|layer| layer.config(config.expect("a valid config")));
    let handle = stack.handle();
    let openai = openai(&nobody().await, stack);
    let error = openai
        .chat()
        .create_stream(question())
        .await
        .err()
        .expect("it fails");
    assert!(
        matches!(&error, OpenAIError::Reqwest(error) if error.is_connect()),
        "{error:?}"
    );
    assert_no_secret(&format!("{error} {error:?}"));

    let error = openai.chat().create_stream(question()).await;
    let error = error.err().expect("it is open");
    let rejected = rejected(&error);
    assert!(matches!(rejected, Rejected::BreakerOpen(_)), "{rejected:?}");
    let wait = rejected.retry_after().expect("it says when");
    assert!(wait > Duration::from_secs(50), "{wait:?}");
    assert_eq!(handle.snapshot().active(), 0);
}

#[tokio::test]
async fn a_stream_that_breaks_upstream_is_an_error_and_no_end() -> Result<(), BoxError> {
    let (break_off, broken) = tokio::sync::oneshot::channel::<()>();
    let broken = Arc::new(std::sync::Mutex::new(Some(broken)));
    let url = serve(Router::new().fallback(async move || {
        let broken = broken.lock().expect("nobody panics").take();
        let chunk = "data: {\"id\": \"1\", \"choices\": [], \"created\": 0, \"model\": \"m\", \
                     \"object\": \"chat.completion.chunk\"}\n\n";
        let begin = futures::stream::once(async move { Ok(Bytes::from(chunk)) });
        let end = futures::stream::once(async {
            drop(broken.expect("one call").await);
            Err("gone")
        });
        ::axum::body::Body::from_stream(begin.chain(end))
    }))
    .await;
    let stack = layers(Profile::openai(), one_at_a_time());
    let handle = stack.handle();
    let mut stream = openai(&url, stack).chat().create_stream(question()).await?;
    assert!(stream.next().await.is_some_and(|chunk| chunk.is_ok()));
    drop(break_off);
    let end = stream.next().await.expect("more than an end");
    assert!(matches!(end, Err(OpenAIError::StreamError(_))), "{end:?}");
    crate::support::eventually("the place is free", || handle.snapshot().active() == 0).await;
    Ok(())
}
