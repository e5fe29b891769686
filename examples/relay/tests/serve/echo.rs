//! An upstream that tells what it was sent.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{
    BodyExt, Either, Full,
    channel::{Channel, Sender},
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
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
/// | `/trailers` | a body with trailers |
/// | `/204`, `/304` | that status with an `etag`, and no body |
/// | `/version` | the version of HTTP that was spoken |
/// | `/teapot` | 418 with headers of all kinds |
/// | any other | the request, as JSON |
pub(crate) struct Echo {
    addr: SocketAddr,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    connections: Arc<AtomicUsize>,
    server: AbortHandle,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("it is bound");
        let (sender, events) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::clone(&connections);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("it listens");
                accepted.fetch_add(1, Relaxed);
                let sender = sender.clone();
                let service = service_fn(move |request| answer(request, sender.clone()));
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    drop(
                        builder
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        });
        Self {
            addr,
            events,
            connections,
            server: server.abort_handle(),
        }
    }

    /// How many connections it was asked for.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Relaxed)
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
        "/trailers" => {
            let (mut frames, body) = Channel::new(2);
            tokio::spawn(async move {
                let trailers = [("x-sum", "7")].map(|(name, value)| {
                    (
                        name.parse().expect("a name"),
                        value.parse().expect("a value"),
                    )
                });
                let _ = frames.send_data("data".into()).await;
                let _ = frames.send_trailers(trailers.into_iter().collect()).await;
            });
            let response = Response::builder().header("trailer", "x-sum");
            Ok(response
                .body(Either::Right(body))
                .expect("a valid response"))
        }
        path @ ("/204" | "/304") => Ok(Response::builder()
            .status(&path[1..])
            .header("etag", "\"a\"")
            .body(Either::Left(Full::default()))
            .expect("a valid response")),
        "/version" => {
            let version = format!("{:?}", request.version());
            Ok(Response::new(Either::Left(version.into())))
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
