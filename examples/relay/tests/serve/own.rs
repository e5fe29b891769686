//! What the relay answers itself.

use std::net::TcpListener;

use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{ask, get, post, soon},
    echo::{Echo, Event},
    relay::Relay,
};

#[tokio::test]
async fn health_is_ok_and_is_only_read() {
    let echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;
    let answer = get(relay.at("/-/health")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.text, r#"{"status":"ok"}"#);
    let answer = post(relay.at("/-/health"), &json!({})).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers["allow"], "GET, HEAD");
    let answer = get(relay.at("/-/nothing")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let (kind, message) = answer.refusal();
    assert_eq!(kind, "not_found");
    assert_eq!(
        message,
        "the relay has no /-/nothing; it has /-/, /-/health, /-/status, /-/history and \
         /-/metrics"
    );
}

#[tokio::test]
async fn status_tells_all_but_secrets() {
    let echo = Echo::start().await;
    let quota = "[[upstream.scope.quota]]\nmodels = [\"m*\"]\nrequests_per_minute = 60000\n";
    let config = echo.config("openai", "paths = [\"/v1/*\"]") + quota;
    let (relay, _file) = Relay::with(&config).await;
    for _ in 0..3 {
        assert_eq!(get(relay.at("/v1/x")).await.status, StatusCode::OK);
    }
    let answer = get(relay.at("/-/status")).await;
    assert!(!answer.text.contains("secret"), "{}", answer.text);
    let status = answer.json();
    let upstream = &status["upstreams"][0];
    assert_eq!(upstream["name"], "echo");
    assert_eq!(upstream["provider"], "openai");
    assert_eq!(upstream["base_url"], echo.url());
    assert_eq!(upstream["paths"], json!(["/v1/*"]));
    let queue = &upstream["queue"];
    for (field, value) in [
        ("waiting", 0),
        ("active", 0),
        ("admitted", 3),
        ("refused", 0),
        ("completed", 3),
    ] {
        assert_eq!(queue[field], value, "{field}: {queue}");
    }
    assert_eq!(queue["success_share"], 1.0);
    let scope = &upstream["scopes"][0];
    assert_eq!(scope["name"], "org-a");
    assert_eq!(scope["state"], "open");
    let class = &scope["classes"][0];
    assert_eq!(class["models"], json!(["m*"]));
    assert!(class["headroom"].is_number(), "{class}");
    assert!(class["remaining"]["requests"].is_i64(), "{class}");
    let key = &scope["keys"][0];
    assert_eq!(key["alias"], "a1");
    assert_eq!(key["state"], "usable");
    assert_eq!(key["denied_models"], json!([]));
}

#[tokio::test]
async fn a_path_that_nobody_serves_is_a_404_that_names_those_that_are() {
    let echo = Echo::start().await;
    let config = echo.config("openai", "paths = [\"/v1/chat/*\", \"/v1/models\"]");
    let (relay, _file) = Relay::with(&config).await;
    let answer = get(relay.at("/v1/models/x?key=mine")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let (kind, message) = answer.refusal();
    assert_eq!(kind, "not_found");
    assert_eq!(
        message,
        "no upstream serves /v1/models/x; `echo` serves /v1/chat/*, /v1/models"
    );
}

#[tokio::test]
async fn what_would_give_a_key_away_or_is_no_path_is_not_forwarded() {
    let echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;
    let request = Request::builder().method("TRACE").uri(relay.at("/v1/x"));
    let answer = ask(request.body(Full::default()).expect("a request")).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.refusal().1, "the relay forwards no TRACE");
    assert_eq!(raw(&relay, "CONNECT elsewhere:80 HTTP/1.1").await, 404);
    assert_eq!(raw(&relay, "OPTIONS * HTTP/1.1").await, 404);
}

/// The status of the answer to a request line that no usual client writes.
async fn raw(relay: &Relay, line: &str) -> u16 {
    let address = relay.url.strip_prefix("http://").expect("it has one");
    let answered = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("{line}\r\nhost: relay\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = soon(answered).await.expect("the relay answers");
    let status = answer.split(' ').nth(1).expect("a status line");
    status.parse().expect("a status")
}

#[tokio::test]
async fn a_body_as_large_as_it_may_be_is_forwarded_and_a_larger_one_is_a_413() {
    const MOST: usize = 32 << 20;
    let echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;
    let request = |length| {
        let body = Full::from(vec![b'.'; length]);
        Request::post(relay.at("/v1/x"))
            .body(body)
            .expect("a request")
    };
    let answer = ask(request(MOST)).await;
    assert_eq!(answer.json()["length"], MOST);
    let answer = ask(request(MOST + 1)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let (kind, message) = answer.refusal();
    assert_eq!(kind, "too_large");
    assert_eq!(message, "the body is larger than 32 MiB");
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_502_without_its_key() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = port.local_addr().expect("it is bound");
    drop(port);
    let echo = Echo::start().await;
    let config = echo
        .config("openai", "")
        .replace(&echo.host(), &closed.to_string());
    let (relay, _file) = Relay::with(&config).await;
    let answer = get(relay.at("/v1/x")).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(!answer.text.contains("secret"));
    let (kind, message) = answer.refusal();
    assert_eq!(kind, "unreachable");
    let beginning = "upstream `echo` gave no answer: client error (Connect): tcp connect error";
    assert!(message.starts_with(beginning), "{message}");
}

#[tokio::test]
async fn a_call_that_cannot_be_served_in_time_is_a_429_and_is_not_sent() {
    let mut echo = Echo::start().await;
    let quota = "[[upstream.scope.quota]]\nrequests_per_hour = 1\n";
    let config = echo.config("openai", "max_wait = \"1s\"") + quota;
    let (relay, _file) = Relay::with(&config).await;
    assert_eq!(get(relay.at("/v1/x")).await.status, StatusCode::OK);
    let answer = get(relay.at("/hang")).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = answer.headers["retry-after"]
        .to_str()
        .expect("ASCII")
        .parse()
        .expect("whole seconds");
    assert!((3_000..=3_600).contains(&wait), "{wait}");
    let (kind, message) = answer.refusal();
    assert_eq!(kind, "refused");
    assert!(message.starts_with("upstream `echo`: "), "{message}");
    let sent = echo.events.try_recv();
    assert!(!matches!(sent, Ok(Event::Hangs)), "it was sent");
}
