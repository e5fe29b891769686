//! An upstream that tells what it was sent.

use std::{io, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{
    BodyExt, Either, Full,
    channel::{Channel, Sender},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::AbortHandle};

pub(crate) type Frames = Sender<Bytes, io::Error>;

/// What the test learns of a call while it is under way.
pub(crate) enum Event {
    /// `/stream` was called; the body is what is sent here.
    Stream(Frames),
    /// `/hang` was called, and will not be answered.
    Hangs,
    /// The one who called `/hang` has gone.
    Gone,
}

/// The upstream:
///
/// | path | answer |
/// |---|---|
/// | `/stream` | what the test sends |
/// | `/hang` | none |
/// | `/teapot` | 418 with headers of all kinds |
/// | any other | the request, as JSON |
pub(crate) struct Echo {
    addr: SocketAddr,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    server: AbortHandle,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("it is bound");
        let (sender, events) = mpsc::unbounded_channel();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("it listens");
                let sender = sender.clone();
                let service = service_fn(move |request| answer(request, sender.clone()));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self {
            addr,
            events,
            server: server.abort_handle(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn host(&self) -> String {
        self.addr.to_string()
    }

    /// A configuration with one key, `secret-a`, and more lines of the upstream's.
    pub(crate) fn config(&self, provider: &str, lines: &str) -> String {
        format!(
            "[[upstream]]\nname = \"echo\"\nprovider = \"{provider}\"\nbase_url = \"{}\"\n{lines}\n\
             [[upstream.scope]]\nname = \"org-a\"\n\
             key = [{{ alias = \"a1\", value = \"secret-a\" }}]\n",
            self.url()
        )
    }

    pub(crate) async fn event(&mut self) -> Event {
        let event = crate::client::soon(self.events.recv()).await;
        event.expect("it is running")
    }

    pub(crate) async fn frames(&mut self) -> Frames {
        match self.event().await {
            Event::Stream(frames) => frames,
            _ => panic!("`/stream` was to be called"),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Hanging(mpsc::UnboundedSender<Event>);

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = self.0.send(Event::Gone);
    }
}

type Body = Either<Full<Bytes>, Channel<Bytes, io::Error>>;

async fn answer(
    request: Request<Incoming>,
    events: mpsc::UnboundedSender<Event>,
) -> Result<Response<Body>, hyper::Error> {
    match request.uri().path() {
        "/stream" => {
            let (frames, body) = Channel::new(1);
            let _ = events.send(Event::Stream(frames));
            let response = Response::builder().header("content-type", "text/event-stream");
            Ok(response
                .body(Either::Right(body))
                .expect("a valid response"))
        }
        "/hang" => {
            let _ = events.send(Event::Hangs);
            let _hanging = Hanging(events);
            std::future::pending().await
        }
        "/teapot" => Ok(Response::builder()
            .status(StatusCode::IM_A_TEAPOT)
            .header("retry-after", "7")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("proxy-authenticate", "Basic")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .body(Either::Left("short and stout".into()))
            .expect("a valid response")),
        _ => Ok(Response::new(Either::Left(
            told(request).await?.to_string().into(),
        ))),
    }
}

async fn told(request: Request<Incoming>) -> hyper::Result<Value> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")))
        .collect();
    headers.sort();
    Ok(json!({
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "headers": headers,
        "length": body.len(),
        "body": String::from_utf8_lossy(&body[..body.len().min(100)]),
    }))
}
