//! Who may call.

use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tokio::process::Command;

use crate::{
    client::{Answer, ask, get, soon},
    echo::Echo,
    relay::{File, Relay},
};

const TOKENS: &str = "caller_token = [{ env = \"TOKEN_ONE\" }, { value = \"token-two\" }]\n";

async fn with_tokens(echo: &Echo, provider: &str) -> (Relay, File) {
    let file = File::new(&(TOKENS.to_owned() + &echo.config(provider, "")));
    let variables = [("TOKEN_ONE", "token-one")];
    let relay = Relay::start(&["--config", file.path()], &variables).await;
    (relay, file)
}

async fn with_header(relay: &Relay, path: &str, header: (&str, &str)) -> Answer {
    let request = Request::get(relay.at(path)).header(header.0, header.1);
    ask(request.body(Full::default()).expect("a request")).await
}

#[tokio::test]
async fn a_token_is_taken_from_where_sdks_put_the_key_and_never_reaches_the_provider() {
    let echo = Echo::start().await;
    let (relay, _file) = with_tokens(&echo, "anthropic").await;
    for header in [
        ("authorization", "Bearer token-one"),
        ("authorization", "bearer token-two"),
        ("x-api-key", "token-one"),
        ("x-goog-api-key", "token-two"),
    ] {
        let answer = with_header(&relay, "/v1/x", header).await;
        assert_eq!(answer.status, StatusCode::OK, "{header:?}");
        assert!(!answer.text.contains("token-"), "{}", answer.text);
        assert!(
            answer.text.contains("x-api-key: secret-a"),
            "{}",
            answer.text
        );
    }
    for header in [
        ("authorization", "Bearer token-three"),
        ("authorization", "token-one"),
        ("x-api-key", "secret-a"),
        ("x-other", "token-one"),
    ] {
        let answer = with_header(&relay, "/v1/x", header).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{header:?}");
        assert!(!answer.text.contains("token-"), "{}", answer.text);
    }
}

#[tokio::test]
async fn without_a_token_only_health_is_told() {
    let echo = Echo::start().await;
    let (relay, _file) = with_tokens(&echo, "openai").await;
    assert_eq!(get(relay.at("/-/health")).await.status, StatusCode::OK);
    for path in [
        "/-/status",
        "/-/history",
        "/-/metrics",
        "/-/nothing",
        "/v1/x",
    ] {
        let answer = get(relay.at(path)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
    }
    let answer = with_header(&relay, "/-/status", ("x-api-key", "token-one")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!answer.text.contains("token-"), "{}", answer.text);
}

#[tokio::test]
async fn nobody_listens_beyond_this_machine_without_a_token() {
    let upstream = "[[upstream]]\nname = \"u\"\nprovider = \"openai\"\n[[upstream.scope]]\n\
                    name = \"s\"\nkey = [{ alias = \"a1\", value = \"secret-a\" }]\n";
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"] {
        let file = File::new(&format!("listen = \"{listen}\"\n{upstream}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
        let command = command.args(["serve", "--config", file.path()]);
        let output = soon(command.kill_on_drop(true).output()).await;
        let output = output.expect("the program was built for this test");
        assert_eq!(output.status.code(), Some(2), "{listen}");
        let complaint = String::from_utf8_lossy(&output.stderr);
        let expected = format!(
            "relay: {listen} is open to other machines, and whoever reaches it would spend these \
             keys; add caller_token = {{ env = \"RELAY_TOKEN\" }}, listen on 127.0.0.1, or write \
             unprotected = true if something else keeps others away\n"
        );
        assert_eq!(complaint, expected);
    }
}

#[tokio::test]
async fn it_listens_anywhere_with_a_token_or_when_told_that_none_is_wanted() {
    let echo = Echo::start().await;
    for (line, is_warned) in [
        ("caller_token = { value = \"token-two\" }\n", false),
        ("unprotected = true\n", true),
    ] {
        let file = File::new(&(line.to_owned() + &echo.config("openai", "")));
        let arguments = ["--listen", "0.0.0.0:0", "--config", file.path()];
        let relay = Relay::start_at(&arguments).await;
        let said = relay.said.join("\n");
        assert_eq!(
            said.contains("whoever reaches it spends"),
            is_warned,
            "{said}"
        );
    }
}

/// What current and older SDKs of Anthropic send.
#[tokio::test]
async fn a_caller_of_anthropics_is_served_in_the_form_of_its_version() {
    let echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("anthropic", "")).await;
    for (version, credential, sent) in [
        (
            "2023-06-01",
            ("x-api-key", "callers-own"),
            "x-api-key: secret-a",
        ),
        (
            "2026-10-21",
            ("authorization", "Bearer callers-own"),
            "authorization: Bearer secret-a",
        ),
    ] {
        let request = Request::get(relay.at("/v1/models"))
            .header("anthropic-version", version)
            .header(credential.0, credential.1);
        let told = ask(request.body(Full::default()).expect("a request")).await;
        let mut headers = vec![
            format!("anthropic-version: {version}"),
            format!("host: {}", echo.host()),
            "via: 1.1 tower-relay".to_owned(),
            sent.to_owned(),
        ];
        headers.sort();
        assert_eq!(told.json()["headers"], json!(headers));
    }
}
