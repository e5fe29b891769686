//! Requests that are too large or too slow, and too many connections.

use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::{
    client::{Answer, ask, get, http2, raw, soon},
    echo::Echo,
    relay::{File, Relay},
};

async fn relay(echo: &Echo, provider: &str, limits: &str) -> (Relay, File) {
    let config = format!("[limits]\n{limits}\n{}", echo.config(provider, ""));
    Relay::with(&config).await
}

#[tokio::test]
async fn the_bound_of_bodies_is_what_the_configuration_says() {
    let echo = Echo::start().await;
    let (relay, _file) = relay(&echo, "anthropic", "body_mib = 1").await;
    let request = |length| {
        let body = Full::from(vec![b'.'; length]);
        let request = Request::post(relay.at("/v1/x"));
        request.body(body).expect("a request")
    };
    assert_eq!(ask(request(1 << 20)).await.json()["length"], 1 << 20);
    for answer in [
        ask(request((1 << 20) + 1)).await,
        Answer::of(
            soon(http2().request(request((1 << 20) + 1)))
                .await
                .expect("it is answered"),
        )
        .await,
    ] {
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(answer.json()["error"]["type"], "request_too_large");
        assert_eq!(answer.refusal().1, "the body is larger than 1 MiB");
    }
}

#[tokio::test]
async fn who_asks_before_sending_too_much_is_told_without_having_sent_it() {
    let echo = Echo::start().await;
    let (relay, _file) = relay(&echo, "openai", "body_mib = 1").await;
    let head = b"POST /v1/x HTTP/1.1\r\nhost: relay\r\nexpect: 100-continue\r\n\
                 content-length: 2000000\r\nconnection: close\r\n\r\n";
    let answer = raw(&relay, &[head]).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    let address = relay.url.strip_prefix("http://").expect("it has one");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let head = String::from_utf8_lossy(head).replace("2000000", "2");
    let written = tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes());
    soon(written).await.expect("it reads");
    let mut answer = [0; 25];
    soon(stream.read_exact(&mut answer))
        .await
        .expect("it answers");
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
}

#[tokio::test]
async fn heads_are_bounded_in_the_providers_words() {
    let echo = Echo::start().await;
    let limits = "headers = 20\nheader_kib = 1\nuri_bytes = 100";
    let (relay, _file) = relay(&echo, "anthropic", limits).await;
    let long = format!("/v1/x?{}", "a".repeat(95));
    let answer = get(relay.at(&long)).await;
    assert_eq!(answer.status, StatusCode::URI_TOO_LONG);
    assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    assert_eq!(get(relay.at(&long[..100])).await.status, StatusCode::OK);

    let with = |many: usize, long: usize| {
        let headers = (0..many).map(|number| (format!("x-{number}"), ".".repeat(long)));
        let request = headers.fold(Request::get(relay.at("/v1/x")), |request, (name, value)| {
            request.header(name, value)
        });
        ask(request.body(Full::default()).expect("a request"))
    };
    // One more is the client's own `host`.
    assert_eq!(with(19, 1).await.status, StatusCode::OK);
    for (many, long) in [(20, 1), (1, 1_025)] {
        let answer = with(many, long).await;
        assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(answer.refusal().0, "headers_too_large");
    }
}

#[tokio::test]
async fn a_head_or_preface_that_never_ends_closes_its_connection() {
    let echo = Echo::start().await;
    let (relay, _file) = relay(&echo, "openai", "head_time = \"200ms\"").await;
    for beginning in ["", "PRI * HT", "GET /v1/x HTTP/1.1\r\nhost: rel"] {
        let answer = raw(&relay, &[beginning.as_bytes()]).await;
        assert!(!answer.contains(" 200 "), "{beginning}: {answer}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_a_408_and_closes_its_connection() {
    let echo = Echo::start().await;
    let (relay, _file) = relay(&echo, "openai", "body_time = \"200ms\"").await;
    let answer = raw(
        &relay,
        &[b"POST /v1/x HTTP/1.1\r\nhost: relay\r\ncontent-length: 5\r\n\r\nhalf"],
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.contains("x-relay-error: slow\r\n"), "{answer}");
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_the_others_go_on() {
    let echo = Echo::start().await;
    let (relay, _file) = relay(&echo, "openai", "connections = 1").await;
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<Full<bytes::Bytes>>();
    let call = || {
        let request = Request::get(relay.at("/v1/x")).body(Full::default());
        client.request(request.expect("a request"))
    };
    let first = soon(call()).await.expect("it is answered");
    assert_eq!(Answer::of(first).await.status, StatusCode::OK);
    // The client keeps its connection.
    let answer = get(relay.at("/v1/x")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.refusal().0, "busy");
    let again = soon(call()).await.expect("it is answered");
    assert_eq!(Answer::of(again).await.status, StatusCode::OK);
}

/// What one reader takes for a body and another for the next request.
#[tokio::test]
async fn a_request_of_two_lengths_smuggles_nothing() {
    let echo = Echo::start().await;
    let (relay, _file) = relay(&echo, "openai", "").await;
    for (head, status) in [
        ("content-length: 4\r\ntransfer-encoding: chunked\r\n", 200),
        ("transfer-encoding: chunked\r\ncontent-length: 4\r\n", 200),
        ("content-length: 4\r\ncontent-length: 5\r\n", 400),
        ("content-length: 4, 5\r\n", 400),
        ("content-length: +4\r\n", 400),
        ("transfer-encoding: xchunked\r\n", 400),
        ("transfer-encoding: chunked, identity\r\n", 400),
        ("transfer-encoding : chunked\r\n", 400),
        ("x: y\r\n transfer-encoding: chunked\r\n", 400),
    ] {
        let request = format!(
            "POST /v1/x HTTP/1.1\r\nhost: relay\r\n{head}\r\n0\r\n\r\n\
             GET /smuggled HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n"
        );
        let answer = raw(&relay, &[request.as_bytes()]).await;
        let line = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&line), "{head}: {answer}");
        // The first answer closes the connection; what follows is nobody's request.
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head}: {answer}");
        assert!(!answer.contains("smuggled"), "{head}: {answer}");
        if status == 200 {
            assert!(answer.contains("\"length\":0"), "{head}: {answer}");
        }
    }
}
