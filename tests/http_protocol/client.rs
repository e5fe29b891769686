//! What a real client makes of a server, and what the protocol makes of that.

use std::{
    future, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::{TcpListener, TcpStream};
use tower_relay::{
    error::BoxError,
    http::ResponseBody,
    outcome::{Effect, Ending, Usage},
    protocol::Guard,
};

use super::*;

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

fn effect(error: impl Into<BoxError>) -> Effect {
    let outcome = http().classify(Err(&error.into()));
    assert_eq!(outcome.verdict(), Verdict::ServerFault);
    outcome.effect()
}

async fn listen() -> io::Result<(TcpListener, http::Uri)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}/", listener.local_addr()?);
    Ok((listener, uri.parse().expect("an address makes a URI")))
}

#[tokio::test]
async fn a_connection_that_fails_for_any_reason_had_no_effect() {
    let connector = tower::service_fn(|_: http::Uri| {
        future::ready(Err::<TokioIo<TcpStream>, _>("no certificate that we trust"))
    });
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
    let uri = http::Uri::from_static("http://api.example/");
    let error = client.get(uri).await.expect_err("nothing connects");
    assert_eq!(effect(error), Effect::None);
}

#[tokio::test]
async fn a_refused_connection_had_no_effect() -> io::Result<()> {
    let (listener, uri) = listen().await?;
    drop(listener);
    let error = client().get(uri).await.expect_err("nobody listens");
    assert_eq!(effect(error), Effect::None);
    Ok(())
}

#[tokio::test]
async fn a_server_that_hangs_up_after_the_request_may_have_acted() -> io::Result<()> {
    let (listener, uri) = listen().await?;
    let answer = tokio::spawn(client().get(uri));
    let (connection, _) = listener.accept().await?;
    connection.readable().await?;
    while connection
        .try_read(&mut [0; 1024])
        .is_ok_and(|read| read > 0)
    {}
    drop(connection);
    let error = answer.await?.expect_err("the server hung up");
    assert_eq!(effect(error), Effect::Possible);
    Ok(())
}

/// Counts answers that were complete, from the lowest bit up, and others, from bit 16 up.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicUsize>);

impl Counter {
    fn complete(&self) -> usize {
        self.0.load(Ordering::SeqCst) & 0xffff
    }

    fn partial(&self) -> usize {
        self.0.load(Ordering::SeqCst) >> 16
    }
}

impl Guard for Counter {
    fn finish(self, ending: Ending) {
        let complete = ending == Ending::complete(Usage::UNKNOWN);
        let one = if complete { 1 } else { 1 << 16 };
        self.0.fetch_add(one, Ordering::SeqCst);
    }
}

type Held = Response<ResponseBody<Incoming, Counter>>;

/// The response to `method` from a server that says `said` and keeps the connection open.
async fn exchange(
    method: Method,
    said: &'static str,
    counter: &Counter,
) -> Result<(Held, TcpStream), BoxError> {
    let (listener, uri) = listen().await?;
    let question = Request::builder().method(method).uri(uri);
    let answer = tokio::spawn(client().request(question.body(Full::default())?));
    let (connection, _) = listener.accept().await?;
    connection.readable().await?;
    assert_eq!(connection.try_write(said.as_bytes())?, said.len());
    let answer = answer.await??;
    let hold = <Http as Protocol<Question, Response<Incoming>>>::hold::<Counter>;
    Ok((hold(&Http, answer, counter.clone()), connection))
}

#[tokio::test]
async fn answers_without_a_body_release_their_guard_at_the_head() -> Result<(), BoxError> {
    for (method, said) in [
        (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            Method::GET,
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        ),
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        (
            Method::GET,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        ),
    ] {
        let counter = Counter::default();
        let _held = exchange(method, said, &counter).await?;
        assert_eq!(counter.complete(), 1, "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn answers_with_a_body_release_their_guard_with_its_last_frame() -> Result<(), BoxError> {
    for said in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n\
         5\r\nhello\r\n0\r\nx: y\r\n\r\n",
    ] {
        let counter = Counter::default();
        let (mut held, _connection) = exchange(Method::GET, said, &counter).await?;
        assert_eq!(counter.complete(), 0, "{said}");
        let body = held.body_mut().collect().await?.to_bytes();
        assert_eq!(body, "hello");
        assert_eq!(counter.complete(), 1, "{said}");
        drop(held);
        assert_eq!((counter.complete(), counter.partial()), (1, 0), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_body_cut_off_or_dropped_is_partial() -> Result<(), BoxError> {
    let said = "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello";
    let counter = Counter::default();
    let (mut held, connection) = exchange(Method::GET, said, &counter).await?;
    drop(connection);
    assert!(held.body_mut().collect().await.is_err());
    assert_eq!(counter.partial(), 1);

    let (held, _connection) = exchange(Method::GET, said, &counter).await?;
    drop(held);
    assert_eq!((counter.complete(), counter.partial()), (0, 2));
    Ok(())
}
