//! What can never succeed, and what only looks like it.

use serde_json::json;

use crate::{
    program::{Folder, id, lines, named},
    provider::{Answer, SECRET, Scripted, config, ok},
};

fn wrong(message: &str) -> String {
    json!({ "error": { "message": message, "type": "invalid_request_error" } }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_calls_wrong_is_a_dead_letter_with_its_request_and_asked_once() {
    let upstream = Scripted::start(|asked| match asked.body.contains("doc-2") {
        true => Answer(400, wrong("no such parameter"), 0),
        false => ok(),
    })
    .await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(3));
    folder
        .run(&["--order", "input"])
        .ends(3, "1 can never succeed, in out.jsonl.dead");
    assert_eq!(folder.ids("out.jsonl"), ["doc-1", "doc-3"]);
    let dead = folder.lines("out.jsonl.dead");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["id"], "line-2");
    assert_eq!(dead[0]["custom_id"], "doc-2");
    assert_eq!(dead[0]["response"]["status_code"], 400);
    assert_eq!(
        dead[0]["response"]["body"]["error"]["message"],
        "no such parameter"
    );
    assert_eq!(dead[0]["error"]["code"], "refused");
    assert_eq!(
        dead[0]["request"].to_string(),
        lines(3)
            .lines()
            .nth(1)
            .expect("three")
            .parse::<serde_json::Value>()
            .expect("JSON")
            .to_string()
    );
    assert_eq!(upstream.asked().len(), 3);
    // It stays dead.
    folder
        .run(&["--order", "input"])
        .ends(3, "3 requests, of which all are done");
    assert_eq!(upstream.asked().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_quota_ever_admits_is_a_dead_letter_and_is_not_sent() {
    let upstream = Scripted::start(|_| ok()).await;
    let folder = Folder::new();
    let quota = "[[upstream.scope.quota]]\ntokens_per_minute = 5\nburst = { tokens = 5 }\n";
    folder.write("relay.toml", config(&upstream.url, quota));
    folder.write("in.jsonl", lines(1));
    folder.run(&[]).ends(3, "0 answered");
    let dead = folder.lines("out.jsonl.dead");
    assert_eq!(dead[0]["error"]["code"], "too_large");
    assert_eq!(dead[0]["response"], json!(null));
    assert_eq!(upstream.asked().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_denied_to_every_key_is_a_dead_letter() {
    let denied = json!({ "error": {
        "message": "The model `m` does not exist or you do not have access to it.",
        "type": "invalid_request_error", "code": "model_not_found",
    }});
    let upstream = Scripted::start(move |_| Answer(404, denied.to_string(), 0)).await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(4));
    folder
        .run(&["--in-flight", "1"])
        .ends(3, "4 can never succeed");
    for dead in folder.lines("out.jsonl.dead") {
        assert_eq!(dead["error"]["code"], "denied", "{dead}");
    }
    // The others are not even asked.
    assert_eq!(upstream.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_key_stops_the_run_and_costs_no_line() {
    let said = wrong(&format!("Incorrect API key provided: {SECRET}."));
    let upstream = Scripted::start(move |asked| match asked.before {
        0..5 => ok(),
        _ => Answer(401, said.clone(), 0),
    })
    .await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(50));
    let ran = folder.run(&["--in-flight", "2"]);
    ran.ends(
        1,
        "no key can serve the call: a1 was rejected by the server",
    );
    assert!(ran.stderr.contains("45 left"), "{}", ran.stderr);
    assert_eq!(folder.lines("out.jsonl").len(), 5);
    assert!(!folder.has("out.jsonl.dead"));
    no_secret(&folder, &ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_fails_when_no_other_is_left_is_left_when_patience_ends() {
    let upstream = Scripted::start(|asked| match asked.body.contains("doc-1\"") {
        true => Answer(500, "{}".to_owned(), 0),
        false => Answer(200, "{}".to_owned(), 30),
    })
    .await;
    let folder = Folder::new();
    let breaker = "[breaker]\nenabled = false\n";
    folder.write(
        "relay.toml",
        breaker.to_owned() + &config(&upstream.url, ""),
    );
    folder.write("in.jsonl", lines(3));
    // With nobody else to succeed, nobody can tell it from an outage.
    let ran = folder.run(&["--patience", "2s"]);
    ran.ends(4, "1 left; the same command goes on");
    ran.ends(
        4,
        "nothing has succeeded for 2s (--patience): the provider answered 500",
    );
    assert_eq!(folder.lines("out.jsonl").len(), 2);
    assert!(!folder.has("out.jsonl.dead"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_json_or_holds_an_error_is_asked_for_again() {
    let upstream = Scripted::start(|asked| match asked.before {
        0 => Answer(200, "<html>".to_owned(), 0),
        1 => Answer(
            200,
            "{\"error\":{\"code\":502,\"message\":\"Upstream error\"}}".to_owned(),
            0,
        ),
        _ => ok(),
    })
    .await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(1));
    folder
        .run(&[])
        .ends(0, "line 1: the answer is no JSON; it is tried again");
    assert_eq!(
        folder.lines("out.jsonl")[0]["response"]["body"]["usage"]["prompt_tokens"],
        3
    );
    assert_eq!(upstream.asked().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_not_there_is_told_and_left_when_patience_ends() {
    let folder = Folder::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = format!("http://{}", port.local_addr().expect("it is bound"));
    drop(port);
    folder.write("relay.toml", config(&closed, ""));
    folder.write("in.jsonl", lines(3));
    let ran = folder.run(&["--patience", "4s"]);
    ran.ends(4, "; it is tried again");
    ran.ends(4, "3 left; the same command goes on with them");
    ran.ends(
        4,
        "stopping: nothing has succeeded for 4s (--patience): client error (Connect): tcp connect",
    );
    assert!(!folder.has("out.jsonl.dead"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_credit_is_told_and_waited_for() {
    let said = json!({ "error": {
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "type": "insufficient_quota", "code": "insufficient_quota",
    }});
    let upstream = Scripted::start(move |_| Answer(429, said.to_string(), 0)).await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(3));
    let mut child = folder.start(&[]);
    let stderr = child.stderr.take().expect("it is piped");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    let told = lines.any(|line| {
        line.expect("UTF-8")
            .contains("scope org-a has no credit left")
    });
    assert!(told);
    child.kill().expect("it is ours");
    child.wait().expect("it has ended");
    assert_eq!(folder.read("out.jsonl"), "");
    assert!(!folder.has("out.jsonl.dead"));
    assert!(
        upstream.asked().len() <= 3,
        "an empty account is left alone"
    );
}

/// What a provider repeats of a key is in no file and no message.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_the_provider_repeats_is_nowhere() {
    let upstream = Scripted::start(|asked| {
        let key = asked.headers["authorization"].to_str().expect("ASCII");
        assert_eq!(key, format!("Bearer {SECRET}"));
        let body = json!({ "you": key, "error": null }).to_string();
        match asked.body.contains("doc-2") {
            true => Answer(400, wrong(key), 0),
            false => Answer(200, body, 0),
        }
    })
    .await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(2));
    let ran = folder.run(&["--json"]);
    ran.ends(3, "");
    assert_eq!(
        folder.lines("out.jsonl")[0]["response"]["body"]["you"],
        "Bearer [key]"
    );
    no_secret(&folder, &(ran.stderr + &ran.stdout));
}

fn no_secret(folder: &Folder, said: &str) {
    assert!(!said.contains(SECRET), "{said}");
    for name in ["out.jsonl", "out.jsonl.dead", "out.jsonl.state"] {
        if folder.has(name) {
            assert!(!folder.read(name).contains(SECRET), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_any_kind_are_kept() {
    let upstream = Scripted::start(|_| ok()).await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    let ids = ["a\"b\\", "é\n", &id(3)];
    let text: String = ids.iter().map(|id| named(id) + "\n").collect();
    folder.write("in.jsonl", text);
    folder.run(&["--order", "input"]).ends(0, "3 of 3");
    assert_eq!(folder.ids("out.jsonl"), ids);
}
