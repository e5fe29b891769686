//! Ctrl-c, once and twice.

use std::{
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use crate::{
    program::{Folder, Ran, lines},
    provider::{Answer, Scripted, config},
};

fn tell(child: &Child, signal: &str) {
    let told = Command::new("sh")
        .args(["-c", &format!("kill -{signal} {}", child.id())])
        .status();
    assert!(told.expect("there is a shell").success());
}

/// Ten lines, two at a time, each of which takes `millis`; returned when two are under way.
async fn under_way(millis: u64, more: &[&str]) -> (Scripted, Folder, Child) {
    let upstream = Scripted::start(move |_| Answer(200, "{}".to_owned(), millis)).await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(10));
    let child = folder.start(&[&["--in-flight", "2"], more].concat());
    while upstream.asked().len() < 2 {
        thread::sleep(Duration::from_millis(5));
    }
    (upstream, folder, child)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_is_finished_and_the_rest_is_left() {
    for order in ["finished", "input"] {
        let (upstream, folder, child) = under_way(700, &["--order", order]).await;
        tell(&child, "INT");
        let ran = Ran::of(&child.wait_with_output().expect("it ends"));
        ran.ends(4, "8 left; the same command goes on with them");
        assert_eq!(folder.lines("out.jsonl").len(), 2);
        assert_eq!(upstream.asked().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_quota_is_not_waited_for() {
    let upstream = Scripted::start(|_| Answer(200, "{}".to_owned(), 0)).await;
    let folder = Folder::new();
    let quota = "[[upstream.scope.quota]]\nrequests_per_hour = 1\n";
    folder.write("relay.toml", config(&upstream.url, quota));
    folder.write("in.jsonl", lines(5));
    let child = folder.start(&[]);
    while upstream.asked().is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    tell(&child, "TERM");
    let ran = Ran::of(&child.wait_with_output().expect("it ends"));
    ran.ends(4, "4 left");
    assert_eq!(folder.lines("out.jsonl").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_leaves_what_is_under_way_too() {
    let (_upstream, folder, child) = under_way(60_000, &[]).await;
    let began = Instant::now();
    tell(&child, "INT");
    thread::sleep(Duration::from_millis(200));
    tell(&child, "INT");
    let ran = Ran::of(&child.wait_with_output().expect("it ends"));
    assert!(began.elapsed() < Duration::from_secs(10));
    ran.ends(4, "10 left");
    assert_eq!(folder.read("out.jsonl"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_terminal_ends_nothing() {
    let (_upstream, folder, child) = under_way(100, &[]).await;
    tell(&child, "HUP");
    let ran = Ran::of(&child.wait_with_output().expect("it ends"));
    ran.ends(0, "10 of 10");
    assert_eq!(folder.lines("out.jsonl").len(), 10);
}
