//! Files that are in the way, are changed, or cannot be written.

use std::{process::Stdio, thread, time::Duration};

use crate::{
    program::{Folder, Ran, line, lines},
    provider::{Answer, Scripted, config, ok},
};

async fn ready(count: usize) -> (Scripted, Folder) {
    let upstream = Scripted::start(|_| ok()).await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(count));
    (upstream, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_input_and_other_ways_to_go_on_are_refused() {
    let (upstream, folder) = ready(2).await;
    folder.run(&[]).ends(0, "2 of 2");
    let before = folder.read("out.jsonl");
    folder.write("in.jsonl", lines(2).replace("doc-2", "doc-3"));
    folder.run(&[]).refused(
        "out.jsonl is of another input, or the input was changed since: 2 requests then, 2 now; go \
         on as it was begun, or to begin anew name another --output, or remove out.jsonl with its \
         .state and .dead",
    );
    folder.write("in.jsonl", lines(2));
    folder
        .run(&["--order", "input"])
        .refused("was begun with --order finished");
    assert_eq!(folder.read("out.jsonl"), before);
    assert_eq!(upstream.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_batchs_is_not_touched() {
    let (upstream, folder) = ready(1).await;
    folder.write("out.jsonl", "mine\n");
    folder
        .run(&[])
        .refused("out.jsonl is there and was not begun by a batch");
    assert_eq!(folder.read("out.jsonl"), "mine\n");
    assert!(!folder.has("out.jsonl.state"));
    assert_eq!(upstream.asked().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_written_between_the_lines_is_named() {
    let (_upstream, folder) = ready(3).await;
    folder.run(&["--order", "input"]).ends(0, "3 of 3");
    let whole = folder.read("out.jsonl");
    folder.write("out.jsonl", whole.replacen('\n', "\nmine\n", 1));
    folder
        .run(&["--order", "input"])
        .refused("out.jsonl:2: is no line of a batch's");
    let first = whole.lines().next().expect("three");
    folder.write("out.jsonl", format!("{whole}{first}\n"));
    let twice = "out.jsonl:4: answers a line that is answered already";
    folder.run(&["--order", "input"]).refused(twice);
    folder.write("out.jsonl", whole.replace("line-3", "line-4"));
    let other = "out.jsonl:3: answers a line that the input has not";
    folder.run(&["--order", "input"]).refused(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_never_write_one_output() {
    let upstream = Scripted::start(|_| Answer(200, "{}".to_owned(), 1_500)).await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(2));
    let first = folder.start(&[]);
    while upstream.asked().is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    folder
        .run(&[])
        .refused("another run writes out.jsonl; wait for it");
    let first = Ran::of(&first.wait_with_output().expect("it ends"));
    first.ends(0, "2 of 2");
    assert_eq!(upstream.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_input_is_never_the_output_and_the_output_is_a_file() {
    let (_upstream, folder) = ready(1).await;
    let before = folder.read("in.jsonl");
    let ran = |output: &str| {
        let mut command = folder.command(&["in.jsonl"]);
        let arguments = [
            "batch",
            "in.jsonl",
            "--config",
            "relay.toml",
            "--output",
            output,
        ];
        let mut other = std::process::Command::new(command.get_program());
        command.stdin(Stdio::null());
        other.args(arguments).current_dir(folder.path());
        Ran::of(&other.output().expect("it is built"))
    };
    ran("./in.jsonl").refused("in.jsonl is the input and would be written");
    assert_eq!(folder.read("in.jsonl"), before);
    ran(".").refused(". is no regular file");
    ran("nowhere/out.jsonl").refused("nowhere/out.jsonl.state cannot be written: No such file");
}

/// A disk that is full in the middle of a line.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_run_and_the_next_one_goes_on() {
    let (upstream, folder) = ready(40).await;
    // In blocks of 512 bytes or of 1,024, as the shell has it; a signal would end the program.
    let script = "trap '' XFSZ; ulimit -f 4; exec \"$@\"";
    let program = env!("CARGO_BIN_EXE_relay");
    let arguments = [
        "batch",
        "in.jsonl",
        "--output",
        "out.jsonl",
        "--config",
        "relay.toml",
    ];
    let limited = std::process::Command::new("sh")
        .args(["-c", script, "sh", program])
        .args(arguments)
        .current_dir(folder.path())
        .output();
    let ran = Ran::of(&limited.expect("there is a shell"));
    ran.ends(1, "out.jsonl cannot be written: File too large");
    let before = folder.lines("out.jsonl").len();
    assert!((1..40).contains(&before), "{before}");
    assert_eq!(
        ran.stderr.matches("File too large").count(),
        1,
        "{}",
        ran.stderr
    );

    folder.run(&[]).ends(0, "40 of 40");
    assert_eq!(folder.lines("out.jsonl").len(), 40);
    assert!(
        upstream.asked().len() < 40 + 40,
        "only what was not written is asked again"
    );
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_no_output() {
    let (_upstream, folder) = ready(1).await;
    std::os::unix::fs::symlink("/dev/full", folder.at("out.jsonl")).expect("a link");
    folder.run(&[]).refused("out.jsonl is no regular file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_input_or_configuration_is_one_line() {
    let (_upstream, folder) = ready(1).await;
    let missing = Ran::of(
        &folder
            .command(&["nothing.jsonl"])
            .output()
            .expect("it is built"),
    );
    missing.refused("nothing.jsonl cannot be read: No such file");
    let folder = Folder::new();
    folder.write("in.jsonl", line(1));
    folder
        .run(&[])
        .refused("relay.toml: the configuration cannot be read");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_is_changed_while_it_is_read_ends_the_run() {
    let upstream = Scripted::start(|_| Answer(200, "{}".to_owned(), 5)).await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(6_000));
    let child = folder.start(&["--in-flight", "50"]);
    while upstream.asked().is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
    folder.write(
        "in.jsonl",
        lines(6_000).replace("\"doc-6000\"", "\"doc-7000\""),
    );
    let ran = Ran::of(&child.wait_with_output().expect("it ends"));
    ran.ends(
        1,
        "in.jsonl was changed while it was read; what is written belongs to what it was",
    );
}
