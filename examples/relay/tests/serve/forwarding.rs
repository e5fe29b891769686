//! What of a request and of its answer is the same on the other side.

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::json;

use crate::{
    client::{ask, get, raw},
    echo::Echo,
    relay::Relay,
};

#[tokio::test]
async fn a_request_is_forwarded_as_it_is_with_exactly_one_credential() {
    let echo = Echo::start().await;
    for (provider, credential, target) in [
        ("anthropic", "x-api-key: secret-a", "/v1/x?key=c&b=%20"),
        (
            "openai",
            "authorization: Bearer secret-a",
            "/v1/x?key=c&b=%20",
        ),
        ("azure-openai", "api-key: secret-a", "/v1/x?key=c&b=%20"),
        ("gemini", "x-goog-api-key: secret-a", "/v1/x?b=%20"),
        (
            "generic",
            "authorization: Bearer secret-a",
            "/v1/x?key=c&b=%20",
        ),
    ] {
        let (relay, _file) = Relay::with(&echo.config(provider, "")).await;
        let request = Request::put(relay.at("/v1/x?key=c&b=%20"))
            .header("authorization", "Bearer callers-own")
            .header("x-api-key", "callers-own")
            .header("api-key", "callers-own")
            .header("x-goog-api-key", "callers-own")
            .header("proxy-authorization", "callers-own")
            .header("connection", "x-hop, keep-alive")
            .header("x-hop", "1")
            .header("te", "trailers")
            .header("expect", "100-continue")
            .header("accept-encoding", "gzip")
            .header("x-twice", "1")
            .header("x-twice", "2");
        let answer = ask(request.body(Full::from("{} ")).expect("a request")).await;
        assert_eq!(answer.status, StatusCode::OK);
        let mut headers = vec![
            "accept-encoding: identity".to_owned(),
            "content-length: 3".to_owned(),
            format!("host: {}", echo.host()),
            "via: 1.1 tower-relay".to_owned(),
            "x-twice: 1".to_owned(),
            "x-twice: 2".to_owned(),
            credential.to_owned(),
        ];
        headers.sort();
        let told = json!({
            "method": "PUT",
            "target": target,
            "headers": headers,
            "length": 3,
            "body": "{} ",
        });
        assert_eq!(answer.json(), told, "{provider}");
    }
}

#[tokio::test]
async fn an_answer_is_passed_back_as_it_is_also_when_it_is_a_refusal() {
    let echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;
    let answer = get(relay.at("/teapot")).await;
    assert_eq!(answer.status, StatusCode::IM_A_TEAPOT);
    assert_eq!(answer.text, "short and stout");
    assert_eq!(answer.headers["retry-after"], "7");
    assert_eq!(answer.headers["content-length"], "15");
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    for hop in ["x-hop", "connection", "proxy-authenticate"] {
        assert!(!answer.headers.contains_key(hop), "{hop}");
    }
}

#[tokio::test]
async fn any_method_is_forwarded_and_head_has_no_body() {
    let echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;
    for method in ["GET", "DELETE", "PATCH", "OPTIONS", "PURGE"] {
        let request = Request::builder().method(method).uri(relay.at("/"));
        let answer = ask(request.body(Full::default()).expect("a request")).await;
        assert_eq!(answer.json()["method"], method);
        assert_eq!(answer.json()["length"], 0);
    }
    let request = Request::builder()
        .method(Method::HEAD)
        .uri(relay.at("/teapot"));
    let answer = ask(request.body(Full::default()).expect("a request")).await;
    assert_eq!(answer.status, StatusCode::IM_A_TEAPOT);
    assert_eq!(answer.headers["content-length"], "15");
    assert_eq!(answer.text, "");
}

#[tokio::test]
async fn an_answer_without_a_body_stays_one_and_its_connection_goes_on() {
    let echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;
    let requests = ["204", "304", "v1/x"].map(|path| {
        let close = if path == "v1/x" {
            "connection: close\r\n"
        } else {
            ""
        };
        format!("GET /{path} HTTP/1.1\r\nhost: relay\r\n{close}\r\n")
    });
    let answer = raw(&relay, &[requests.concat().as_bytes()]).await;
    let heads: Vec<_> = answer.split("HTTP/1.1 ").skip(1).collect();
    let [empty, same, told] = &*heads else {
        panic!("three answers: {answer}");
    };
    assert!(empty.starts_with("204 ") && same.starts_with("304 "));
    for head in [empty, same] {
        assert!(head.contains("etag: \"a\"\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        assert!(!head.contains("transfer-encoding"), "{head}");
    }
    assert!(told.starts_with("200 ") && told.ends_with('}'), "{told}");
}

#[tokio::test]
async fn the_closest_path_finds_its_upstream_and_a_scope_has_its_own_url_and_headers() {
    let (one, two) = (Echo::start().await, Echo::start().await);
    let config = one.config("anthropic", "paths = [\"/v1/*\"]")
        + &two.config("openai", "paths = [\"/v1/chat/*\"]").replace(
            "\"echo\"",
            "\"other\"",
        )
        // Of the last scope.
        + &format!(
            "base_url = \"{}/api/\"\nheaders = {{ x-team = \"ours\" }}\n",
            two.url()
        );
    let (relay, _file) = Relay::with(&config).await;
    let request = Request::get(relay.at("/v1/chat/x?y")).header("x-team", "theirs");
    let told = ask(request.body(Full::default()).expect("a request")).await;
    let told = told.json();
    assert_eq!(told["target"], "/api/v1/chat/x?y");
    assert_eq!(
        told["headers"],
        json!([
            "authorization: Bearer secret-a",
            &format!("host: {}", two.host()),
            "via: 1.1 tower-relay",
            "x-team: ours"
        ])
    );
    let told = get(relay.at("/v1/models")).await.json();
    assert_eq!(told["target"], "/v1/models");
    assert_eq!(
        told["headers"],
        json!([
            &format!("host: {}", one.host()),
            "via: 1.1 tower-relay",
            "x-api-key: secret-a"
        ])
    );
}
