//! A client as plain as can be.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::relay::Relay;

/// Nothing here takes a second; what is not there by now never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What `future` comes to, which it has to in time.
#[track_caller]
pub(crate) fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        let output = tokio::time::timeout(PATIENCE, future).await;
        output.unwrap_or_else(|_| panic!("nothing came in {PATIENCE:?} at {caller}"))
    }
}

pub(crate) async fn send(request: Request<Full<Bytes>>) -> Response<Incoming> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = soon(client.request(request)).await;
    response.expect("the relay answers")
}

/// Over HTTP/2 without asking which version is spoken.
pub(crate) fn http2() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http()
}

/// What comes back for bytes that no usual client sends, until the connection ends.
pub(crate) async fn raw(relay: &Relay, parts: &[&[u8]]) -> String {
    let address = relay.url.strip_prefix("http://").expect("it has one");
    let answered = async {
        let mut stream = TcpStream::connect(address).await?;
        for part in parts {
            stream.write_all(part).await?;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    soon(answered).await.expect("the relay answers or closes")
}

/// An answer with its whole body.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("the body is JSON")
    }

    /// The name and the message of one of the relay's own refusals.
    pub(crate) fn refusal(&self) -> (String, String) {
        assert_eq!(self.headers["content-type"], "application/json");
        let name = self.headers["x-relay-error"].to_str().expect("ASCII");
        let message = self.json()["error"]["message"].clone();
        (
            name.to_owned(),
            message.as_str().expect("a text").to_owned(),
        )
    }
}

pub(crate) async fn ask(request: Request<Full<Bytes>>) -> Answer {
    Answer::of(send(request).await).await
}

impl Answer {
    pub(crate) async fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = soon(body.collect()).await.expect("the body ends");
        Self {
            status: head.status,
            headers: head.headers,
            text: String::from_utf8(body.to_bytes().into()).expect("UTF-8"),
        }
    }
}

pub(crate) async fn get(url: String) -> Answer {
    ask(Request::get(url).body(Full::default()).expect("a request")).await
}

pub(crate) async fn post(url: String, body: &Value) -> Answer {
    let request = Request::post(url).header("content-type", "application/json");
    ask(request
        .body(Full::from(body.to_string()))
        .expect("a request"))
    .await
}
