//! What is written of an answer, and when.

use serde_json::json;

use crate::{
    program::{Folder, lines},
    provider::{Answer, Scripted, config, ok},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_a_line_of_openais_shape() {
    let pretty = "{\r\n \"n\": 1.50,\n \"text\": \"a\\nb\"\n}";
    let upstream = Scripted::start(move |_| Answer(200, pretty.to_owned(), 0)).await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(1));
    folder.run(&[]).ends(0, "1 of 1");
    assert_eq!(
        folder.read("out.jsonl"),
        "{\"id\":\"line-1\",\"custom_id\":\"doc-1\",\"response\":{\"status_code\":200,\
         \"request_id\":\"req-1\",\"body\":{ \"n\": 1.50, \"text\": \"a\\nb\"}},\"error\":null}\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_is_said_to_a_relay_behind_it() {
    let upstream = Scripted::start(|_| ok()).await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(2));
    folder.run(&["--class", "batch"]).ends(0, "2 of 2");
    let asked = upstream.asked();
    assert_eq!(asked.len(), 2);
    assert!(
        asked
            .iter()
            .all(|asked| asked.headers["x-relay-class"] == "batch")
    );

    let output = folder.command(&["in.jsonl", "--class", "of two"]).output();
    let output = output.expect("the program was built for this test");
    assert_eq!(output.status.code(), Some(2));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        complaint.contains("it fits no header; use visible ASCII"),
        "{complaint}"
    );
}

/// The first answer takes longest.
async fn slow_first() -> (Scripted, Folder) {
    let upstream = Scripted::start(|asked| match asked.body.contains("doc-1\"") {
        true => Answer(200, "{}".to_owned(), 400),
        false => ok(),
    })
    .await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(40));
    (upstream, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_as_they_are_finished_unless_asked_for_in_order() {
    let (_upstream, folder) = slow_first().await;
    folder.run(&[]).ends(0, "40 of 40");
    let ids = folder.ids("out.jsonl");
    assert_eq!(ids.last().map(String::as_str), Some("doc-1"));
    assert_eq!(ids.len(), 40);

    let (upstream, folder) = slow_first().await;
    folder
        .run(&["--order", "input", "--in-flight", "2"])
        .ends(0, "40 of 40");
    let expected: Vec<_> = (1..=40).map(|number| format!("doc-{number}")).collect();
    assert_eq!(folder.ids("out.jsonl"), expected);
    assert_eq!(upstream.asked().len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_are_as_many_as_may_be() {
    let provider = crate::provider::embedded(20).await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&provider.url(), ""));
    folder.write("in.jsonl", lines(40));
    folder.run(&["--in-flight", "7"]).ends(0, "40 of 40");
    assert_eq!(provider.counters().peak_in_flight, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_a_moment_is_sent_again_and_counted() {
    let upstream = Scripted::start(|asked| match asked.before {
        0 => Answer(
            429,
            json!({ "error": { "message": "slow down" } }).to_string(),
            0,
        ),
        1 => Answer(503, "{}".to_owned(), 0),
        _ => ok(),
    })
    .await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(1));
    let ran = folder.run(&["--json"]);
    ran.ends(0, "");
    let summary = ran.json();
    for (field, value) in [
        ("requests", json!(1)),
        ("answered", json!(1)),
        ("dead", json!(0)),
        ("left", json!(0)),
        ("calls", json!(3)),
        ("calls_sent_again", json!(2)),
        ("calls_refused", json!(1)),
        ("calls_failed", json!(1)),
        ("input_tokens", json!(3)),
        ("output_tokens", json!(4)),
        ("output", json!("out.jsonl")),
        ("dead_letters", json!(null)),
        ("problem", json!(null)),
        ("exit_code", json!(0)),
    ] {
        assert_eq!(summary[field], value, "{field}: {summary}");
    }
}
