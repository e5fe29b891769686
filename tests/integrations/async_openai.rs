//! An async-openai client over the layers: what its callers get.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::async_openai::{
    Client,
    config::OpenAIConfig,
    error::OpenAIError,
    types::{
        InputSource,
        chat::{
            ChatCompletionRequestUserMessage, ChatCompletionStreamOptions,
            CreateChatCompletionRequest, CreateChatCompletionRequestArgs,
        },
        files::{CreateFileRequestArgs, FileInput, FilePurpose},
    },
};
use ::axum::{
    Router,
    body::Bytes,
    extract::DefaultBodyLimit,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::post,
};
use embedded_provider::{Latency, Limits};
use futures::StreamExt;
use tower::ServiceBuilder;
use tower_relay::{
    async_openai::AsyncOpenAiLayer, error::BoxError, http::StackLayer, provider::Profile,
};

use crate::{
    reqwest::client,
    support::{ample, assert_no_secret, eventually, layers, one_at_a_time, provider, quick, serve},
};

pub(crate) type OpenAi = Client<OpenAIConfig>;

/// A client of the API at `url` over `stack`; its own key is one that nobody accepts.
pub(crate) fn openai(url: &str, stack: StackLayer) -> OpenAi {
    let service = ServiceBuilder::new()
        .layer(AsyncOpenAiLayer::new())
        .layer(stack)
        .service(client());
    let config = OpenAIConfig::new()
        .with_api_base(format!("{url}/v1"))
        .with_api_key("sk-own-s3cret");
    Client::with_config(config).with_http_service(service)
}

pub(crate) fn question() -> CreateChatCompletionRequest {
    CreateChatCompletionRequestArgs::default()
        .model("m")
        .max_completion_tokens(20_u32)
        .messages([ChatCompletionRequestUserMessage::from("Hello!").into()])
        .build()
        .expect("a valid request")
}

#[tokio::test]
async fn a_plain_call_is_answered_with_a_key_of_the_pool() -> Result<(), OpenAIError> {
    let api = provider(Limits::default(), quick()).await;
    let stack = layers(Profile::openai(), ample());
    let handle = stack.handle();
    let answer = openai(&api.url(), stack).chat().create(question()).await?;
    let usage = answer.usage.expect("it says");
    assert!(answer.choices[0].message.content.is_some());
    // Of what was reserved, what the answer did not use came back.
    assert!((2..=20).contains(&usage.completion_tokens));
    assert_eq!(
        (handle.snapshot().completed(), handle.snapshot().active()),
        (1, 0)
    );
    assert_eq!(
        (api.counters().answered, api.counters().unauthorized),
        (1, 0)
    );
    Ok(())
}

#[tokio::test]
async fn a_stream_passes_chunk_by_chunk_and_holds_its_place_to_its_end() -> Result<(), OpenAIError>
{
    let api = provider(Limits::default(), quick()).await;
    let stack = layers(Profile::openai(), one_at_a_time());
    let handle = stack.handle();
    let openai = openai(&api.url(), stack);
    let mut question = question();
    question.stream_options = Some(ChatCompletionStreamOptions {
        include_usage: Some(true),
        include_obfuscation: None,
    });
    let mut stream = openai.chat().create_stream(question).await?;
    assert_eq!(handle.snapshot().active(), 1);
    let (mut chunks, mut used) = (0, None);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        chunks += chunk.choices.len() as u32;
        used = chunk.usage.or(used);
    }
    let used = used.expect("the last chunk says").completion_tokens;
    assert!(
        chunks > used,
        "a chunk a token, and one for the role: {chunks}"
    );
    assert_eq!(handle.snapshot().active(), 0);
    Ok(())
}

#[tokio::test]
async fn a_dropped_stream_gives_its_place_back_and_is_broken_off_upstream()
-> Result<(), OpenAIError> {
    let slow = Latency {
        per_token: Duration::from_secs(60),
        ..quick()
    };
    let api = provider(Limits::default(), slow).await;
    let stack = layers(Profile::openai(), one_at_a_time());
    let handle = stack.handle();
    let mut stream = openai(&api.url(), stack)
        .chat()
        .create_stream(question())
        .await?;
    assert!(stream.next().await.is_some_and(|chunk| chunk.is_ok()));
    assert_eq!(
        (handle.snapshot().active(), api.counters().in_flight),
        (1, 1)
    );
    drop(stream);
    eventually("the place is free", || handle.snapshot().active() == 0).await;
    eventually("the provider sees it", || api.counters().disconnected == 1).await;
    assert_eq!(api.counters().in_flight, 0);
    Ok(())
}

#[tokio::test]
async fn a_call_dropped_before_its_answer_is_broken_off_upstream() -> Result<(), BoxError> {
    let hung = Latency {
        first_token: Duration::from_secs(3_600),
        ..quick()
    };
    let api = provider(Limits::default(), hung).await;
    let stack = layers(Profile::openai(), one_at_a_time());
    let handle = stack.handle();
    let openai = openai(&api.url(), stack);
    let call = tokio::spawn(async move { openai.chat().create(question()).await });
    eventually("it is there", || api.counters().in_flight == 1).await;
    call.abort();
    assert!(call.await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(handle.snapshot().active(), 0);
    eventually("the provider sees it", || api.counters().disconnected == 1).await;
    Ok(())
}

#[tokio::test]
async fn with_more_to_do_than_the_quota_allows_nothing_is_refused() -> Result<(), OpenAIError> {
    let limits = Limits {
        requests_per_minute: Some(3_000),
        ..Limits::default()
    };
    let api = provider(limits, quick()).await;
    let quota = tower_relay::policy::Quota::builder().requests_per_minute(3_000);
    let stack = layers(Profile::openai(), quota.build().expect("a valid quota"));
    let openai = openai(&api.url(), stack);
    let chat = openai.chat();
    let calls = (0..60).map(|_| chat.create(question()));
    let answers = futures::future::try_join_all(calls).await?;
    assert_eq!(answers.len(), 60);
    let seen = api.counters();
    assert_eq!((seen.calls, seen.answered), (60, 60));
    Ok(())
}

/// Fails the first upload, and says what it has seen.
async fn files(status: StatusCode) -> (String, Arc<Mutex<Vec<(HeaderMap, Bytes)>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let uploads = seen.clone();
    let store = async move |headers: HeaderMap, body: Bytes| {
        let mut uploads = uploads.lock().expect("nobody panics");
        uploads.push((headers, body));
        if uploads.len() == 1 {
            return status.into_response();
        }
        let stored = r#"{"id": "file-1", "object": "file", "bytes": 3, "created_at": 0,
            "filename": "a.jsonl", "purpose": "batch", "status": "processed"}"#;
        ([(header::CONTENT_TYPE, "application/json")], stored).into_response()
    };
    let app = Router::new().route("/v1/files", post(store));
    (serve(app.layer(DefaultBodyLimit::disable())).await, seen)
}

fn upload(source: InputSource) -> ::async_openai::types::files::CreateFileRequest {
    CreateFileRequestArgs::default()
        .file(FileInput { source })
        .purpose(FilePurpose::Batch)
        .build()
        .expect("a valid request")
}

#[tokio::test]
async fn an_upload_is_sent_again_byte_by_byte() -> Result<(), OpenAIError> {
    let content = Bytes::from(vec![b'x'; 300_000]);
    let path = std::env::temp_dir().join(format!("tower-relay-upload-{}", std::process::id()));
    std::fs::write(&path, &content).expect("a file");
    let filename = "a.jsonl".to_owned();
    let bytes = content.clone();
    for source in [
        InputSource::Bytes { filename, bytes },
        InputSource::Path { path: path.clone() },
    ] {
        let (url, seen) = files(StatusCode::SERVICE_UNAVAILABLE).await;
        let openai = openai(&url, layers(Profile::openai(), ample()));
        assert_eq!(openai.files().create(upload(source)).await?.id, "file-1");

        let seen = seen.lock().expect("nobody panics");
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].1, seen[1].1);
        assert!(seen[0].1.windows(content.len()).any(|part| part == content));
        for (headers, body) in &*seen {
            let kind = headers[header::CONTENT_TYPE].to_str().expect("text");
            assert!(kind.starts_with("multipart/form-data; boundary="), "{kind}");
            assert_eq!(headers[header::CONTENT_LENGTH], body.len().to_string());
            let key = headers[header::AUTHORIZATION].to_str().expect("text");
            assert!(key == "Bearer sk-first-s3cret" || key == "Bearer sk-second-s3cret");
        }
    }
    std::fs::remove_file(path).expect("it was there");
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_not_there_reaches_no_layer() {
    let (url, seen) = files(StatusCode::OK).await;
    let stack = layers(Profile::openai(), ample());
    let handle = stack.handle();
    let path = std::env::temp_dir().join("tower-relay-has-no-such-file");
    let error = openai(&url, stack)
        .files()
        .create(upload(InputSource::Path { path }))
        .await;
    assert!(
        matches!(error, Err(OpenAIError::FileReadError(_))),
        "{error:?}"
    );
    assert_eq!(handle.snapshot().completed(), 0);
    assert!(seen.lock().expect("nobody panics").is_empty());
}

#[tokio::test]
async fn the_factory_is_built_once_however_often_the_call_is_sent() {
    use ::async_openai::middleware::HttpRequestFactory;
    use tower::ServiceExt;

    let (built, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = sent.clone();
    let url = serve(Router::new().fallback(async move || {
        seen.fetch_add(1, Ordering::SeqCst);
        StatusCode::SERVICE_UNAVAILABLE
    }))
    .await;
    let service = ServiceBuilder::new()
        .layer(AsyncOpenAiLayer::new())
        .layer(layers(Profile::openai(), ample()))
        .service(client());
    let (count, request) = (built.clone(), format!("{url}/v1/models?after=1"));
    let factory = HttpRequestFactory::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(
            ::reqwest::Client::new()
                .get(&request)
                .build()
                .map_err(Into::into),
        )
    });
    let response = service.oneshot(factory).await.expect("an answer");
    assert_eq!(response.status(), 503);
    // Where it is from, as the client has it without layers.
    assert_eq!(response.url().as_str(), format!("{url}/v1/models?after=1"));
    assert_eq!(
        (built.load(Ordering::SeqCst), sent.load(Ordering::SeqCst)),
        (1, 2)
    );
}

#[tokio::test]
async fn what_is_inside_is_called_once_it_is_ready_and_its_failure_to_be_is_an_error() {
    use ::async_openai::middleware::HttpRequestFactory;
    use http_body_util::Full;
    use tower::ServiceExt;

    type Question = http::Request<Full<Bytes>>;
    let (inside, mut server) = tower_test::mock::pair::<Question, http::Response<String>>();
    server.allow(0);
    let service = ServiceBuilder::new()
        .layer(AsyncOpenAiLayer::new())
        .service(inside);
    let factory = HttpRequestFactory::new(|| {
        let request = ::reqwest::Client::new().get("http://localhost/v1/models");
        std::future::ready(request.build().map_err(Into::into))
    });
    let mut call = std::pin::pin!(service.clone().oneshot(factory.clone()));
    assert!(futures::poll!(&mut call).is_pending());
    server.allow(1);
    assert!(futures::poll!(&mut call).is_pending());
    let (request, answer) = server.next_request().await.expect("a call");
    assert_eq!(request.uri().path(), "/v1/models");
    answer.send_response(http::Response::new("all of them".into()));
    let response = call.await.expect("an answer");
    assert_eq!(response.text().await.expect("text"), "all of them");

    server.send_error("out of order");
    let error = service.oneshot(factory).await.expect_err("it fails");
    assert!(matches!(&error, OpenAIError::Boxed(error) if error.to_string() == "out of order"));
}

#[tokio::test]
async fn nothing_of_it_prints_a_secret() {
    let layer = AsyncOpenAiLayer::new();
    let service = ServiceBuilder::new()
        .layer(layer)
        .layer(layers(Profile::openai(), ample()))
        .service(client());
    assert_no_secret(&format!("{layer:?} {service:?}"));
}
