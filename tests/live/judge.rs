//! What the tests against real servers share: a client, and requests in both formats.

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower_relay::provider::Profile;

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
