//! Beginning, change and end.

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};

use crate::{
    client::{get, send, soon},
    echo::Echo,
    relay::Relay,
};

#[tokio::test]
async fn it_says_what_it_serves_and_where() {
    let echo = Echo::start().await;
    let config = echo.config("openai", "") + "[[upstream.scope]]\nname = \"org-b\"\n";
    let config =
        config + "key = [{ alias = \"b1\", value = \"b\" }, { alias = \"b2\", value = \"c\" }]\n";
    let (relay, _file) = Relay::with(&config).await;
    let said: Vec<_> = relay.said.iter().map(String::as_str).collect();
    let upstream = format!(
        "relay: upstream echo: openai at {} for all paths; 2 scopes, 3 keys: org-a (a1), org-b \
         (b1, b2)",
        echo.url()
    );
    let listening = format!("relay: listening on {}", relay.url);
    assert_eq!(said[said.len() - 2..], [upstream, listening]);
    assert!(!said.join("\n").contains("secret-a"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_with_keys_that_everybody_may_read_is_warned_of() {
    use std::{fs, os::unix::fs::PermissionsExt};

    let echo = Echo::start().await;
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        let file = crate::relay::File::new(&echo.config("openai", ""));
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).expect("it is ours");
        let relay = Relay::start(&["--config", file.path()], &[]).await;
        assert_eq!(relay.said[0].contains("every user may read it"), warned);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn sigterm_lets_what_is_in_flight_end_and_takes_nothing_new() {
    let mut echo = Echo::start().await;
    let (mut relay, _file) = Relay::with(&echo.config("openai", "")).await;
    let request = Request::get(relay.at("/stream")).body(Full::default());
    let mut body = send(request.expect("a request")).await.into_body();
    let mut frames = echo.frames().await;
    relay.signal("TERM").await;
    relay.hears("relay: stopping").await;

    let address = relay.url.strip_prefix("http://").expect("it has one");
    let refused = tokio::net::TcpStream::connect(address);
    assert!(soon(refused).await.is_err(), "it still listens");
    frames.send_data("late".into()).await.expect("it is read");
    let frame = soon(body.frame()).await.expect("there is one");
    let data = frame.expect("it is whole").into_data().expect("data");
    assert_eq!(data, "late");
    drop(frames);
    assert!(soon(body.frame()).await.is_none());

    assert_eq!(relay.ended().await.code(), Some(0));
    assert_eq!(relay.line().await, "relay: stopped");
}

#[cfg(unix)]
#[tokio::test]
async fn a_second_signal_waits_for_nothing() {
    let mut echo = Echo::start().await;
    let (mut relay, _file) = Relay::with(&echo.config("openai", "")).await;
    let request = Request::get(relay.at("/stream")).body(Full::default());
    let _response = send(request.expect("a request")).await;
    let _frames = echo.frames().await;
    relay.signal("INT").await;
    relay.hears("relay: stopping").await;
    relay.signal("INT").await;
    assert_eq!(relay.ended().await.code(), Some(0));
    let last = relay.line().await;
    assert_eq!(last, "relay: stopped, with calls still in flight");
}

#[cfg(unix)]
#[tokio::test]
async fn sighup_reads_the_configuration_again_and_a_bad_one_changes_nothing() {
    let echo = Echo::start().await;
    let config = echo.config("openai", "");
    let (mut relay, file) = Relay::with(&config).await;
    let key = async |relay: &Relay| {
        let told = get(relay.at("/v1/x")).await.json();
        told["headers"][0].as_str().expect("a text").to_owned()
    };
    assert_eq!(key(&relay).await, "authorization: Bearer secret-a");

    file.write(&config.replace("secret-a", "secret-b"));
    relay.signal("HUP").await;
    relay.hears("relay: reloaded").await;
    assert_eq!(key(&relay).await, "authorization: Bearer secret-b");

    file.write(&config.replace("value", "vaule"));
    relay.signal("HUP").await;
    let complaint = relay.hears("relay: not reloaded").await;
    assert_eq!(
        complaint,
        format!(
            "relay: not reloaded, the old configuration stays: {}:8:24: unknown field `vaule` in \
             upstream.scope.key; use one of alias, env, file, value, weight",
            file.path()
        )
    );
    assert_eq!(key(&relay).await, "authorization: Bearer secret-b");

    file.write(&format!("[breaker]\nprobes = 1\n{config}"));
    relay.signal("HUP").await;
    let warning = relay.hears("relay: warning: upstream").await;
    assert_eq!(
        warning,
        "relay: warning: upstream echo: another `breaker` or `concurrency` takes a restart; the \
         rest is reloaded"
    );
    relay.hears("relay: reloaded").await;

    let other = config.replace("openai\"", "openai\"\npaths = [\"/v2/*\"]");
    file.write(&other);
    relay.signal("HUP").await;
    relay.hears("relay: reloaded").await;
    let gone = get(relay.at("/v1/x")).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_example_configuration_is_right() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/relay.example.toml");
    let variables = [
        ("ANTHROPIC_KEY_1", "secret-1"),
        ("ANTHROPIC_KEY_2", "secret-2"),
        ("AZURE_KEY_WEST", "secret-3"),
        ("AZURE_KEY_EAST", "secret-4"),
    ];
    let relay = Relay::start(&["--config", example], &variables).await;
    assert_eq!(
        relay.said[..2],
        [
            "relay: upstream anthropic: anthropic at https://api.anthropic.com for /v1/messages* \
             /v1/models; 1 scope, 2 keys: org-a (a1, a2)",
            "relay: upstream azure: azure-openai at https://example.openai.azure.com for \
             /openai/*; 2 scopes, 2 keys: west (west-1), east (east-1)",
        ]
    );
    assert_eq!(get(relay.at("/-/health")).await.status, StatusCode::OK);
    let status = get(relay.at("/-/status")).await.text;
    assert!(!status.contains("secret-"), "{status}");
}
