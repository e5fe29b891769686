//! What the tests against real servers share: requests in both formats, and an innermost service
//! that reads what errors say.

use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Response;
use http_body::Body;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tower::Service;
use tower_relay::{
    error::BoxError,
    http::classify_head,
    outcome::{Outcome, Verdict},
    provider::Profile,
};

pub(crate) type Request = http::Request<Full<Bytes>>;
pub(crate) type HttpClient = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

/// The two formats that the provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Messages,
    Chat,
}

impl Format {
    pub(crate) fn profile(self) -> Profile {
        match self {
            Self::Messages => Profile::anthropic(),
            Self::Chat => Profile::openai(),
        }
    }

    pub(crate) fn request(self, base: &str, model: &str, is_stream: bool) -> Request {
        let path = match self {
            Self::Messages => "/v1/messages",
            Self::Chat => "/v1/chat/completions",
        };
        let body = format!(
            r#"{{"model":"{model}","max_tokens":20,"stream":{is_stream},"messages":[{{"role":"user","content":"Hi!"}}]}}"#
        );
        http::Request::post(format!("{base}{path}"))
            .header("content-type", "application/json")
            .body(Full::from(body))
            .expect("a valid request")
    }
}

/// Reads the bodies of errors, if they are small and there is an end to them, and says beside the
/// response what its head does not.
#[derive(Clone, Debug)]
pub(crate) struct ReadErrors<S>(pub(crate) S);

/// No provider explains an error at greater length.
const LARGEST_ERROR: u64 = 16 << 10;

impl<S> Service<Request> for ReadErrors<S>
where
    S: Service<Request, Response = Response<Incoming>, Error: Into<BoxError>>,
    S::Future: Send + 'static,
{
    type Response = Response<Either<Incoming, Full<Bytes>>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let response = answer.await.map_err(Into::into)?;
            let size = response.body().size_hint().upper();
            let outcome = classify_head(response.status(), response.headers());
            if outcome.is_success() || size.is_none_or(|size| size > LARGEST_ERROR) {
                return Ok(response.map(Either::Left));
            }
            let (mut head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            if let Some(verdict) = explained(&body) {
                head.extensions.insert(Outcome::new(verdict));
            }
            Ok(Response::from_parts(head, Either::Right(body.into())))
        })
    }
}

fn explained(body: &[u8]) -> Option<Verdict> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let said = |name| answer["error"][name].as_str().unwrap_or_default();
    let (code, kind, message) = (said("code"), said("type"), said("message"));
    if code == "insufficient_quota" || message.contains("credit balance is too low") {
        Some(Verdict::Exhausted)
    } else if code == "model_not_found"
        || (kind == "not_found_error" && message.starts_with("model:"))
    {
        Some(Verdict::ModelDenied)
    } else {
        None
    }
}
