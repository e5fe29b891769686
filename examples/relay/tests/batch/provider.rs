//! Who answers: the embedded provider, or a server that follows a script.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use embedded_provider::{Latency, Limits, Provider, Scope};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::AbortHandle};

pub(crate) const SECRET: &str = "secret-of-org-a";

/// One upstream with one key.
pub(crate) fn config(url: &str, more: &str) -> String {
    format!(
        "[[upstream]]\nname = \"up\"\nprovider = \"openai\"\nbase_url = \"{url}\"\n\
         concurrency = {{ enabled = false }}\npaths = [\"/v1/*\"]\n\
         [[upstream.scope]]\nname = \"org-a\"\nkey = [{{ alias = \"a1\", value = \"{SECRET}\" }}]\n\
         {more}"
    )
}

/// Without limits; an answer takes so many milliseconds.
pub(crate) async fn embedded(millis: u64) -> Provider {
    let latency = Latency {
        first_token: Duration::from_millis(millis),
        ..Latency::default()
    };
    Provider::builder()
        .scope(Scope::new("org-a", [SECRET], Limits::NONE))
        .latency(latency)
        .start()
        .await
        .expect("a port")
}

/// What a scripted server is asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// How many were before it.
    pub(crate) before: usize,
    pub(crate) headers: http::HeaderMap,
    pub(crate) path: String,
    pub(crate) body: String,
}

/// What it answers, after so many milliseconds.
pub(crate) struct Answer(pub(crate) u16, pub(crate) String, pub(crate) u64);

pub(crate) fn ok() -> Answer {
    let usage = "{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}";
    Answer(200, usage.to_owned(), 0)
}

/// A server that answers by a function.
pub(crate) struct Scripted {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: AbortHandle,
}

impl Scripted {
    pub(crate) async fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, script) = (Arc::clone(&asked), Arc::new(script));
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("it listens");
                let (noted, script) = (Arc::clone(&noted), Arc::clone(&script));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (noted, script) = (Arc::clone(&noted), Arc::clone(&script));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.expect("a body").to_bytes();
                        let answer = {
                            let mut noted = noted.lock().expect("not poisoned");
                            let asked = Asked {
                                before: noted.len(),
                                headers: head.headers,
                                path: head.uri.to_string(),
                                body: String::from_utf8(body.to_vec()).expect("UTF-8"),
                            };
                            noted.push(asked.clone());
                            script(&asked)
                        };
                        let Answer(status, body, millis) = answer;
                        tokio::time::sleep(Duration::from_millis(millis)).await;
                        let response = Response::builder()
                            .status(status)
                            .header("content-type", "application/json")
                            .header("x-request-id", "req-1");
                        let response = response.body(Full::<Bytes>::from(body));
                        Ok::<_, Infallible>(response.expect("a valid response"))
                    }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self {
            url,
            asked,
            server: server.abort_handle(),
        }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}
