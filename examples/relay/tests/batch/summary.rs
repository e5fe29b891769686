//! Without a configuration, and what is said of it.

use std::process::Command;

use serde_json::Value;

use crate::program::{Folder, Ran};

fn relay(folder: &Folder, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    command.args(arguments).current_dir(folder.path());
    Ran::of(
        &command
            .output()
            .expect("the program was built for this test"),
    )
}

#[test]
fn what_is_generated_is_answered_by_the_pretend_provider_without_a_refusal() {
    let folder = Folder::new();
    let generated = relay(&folder, &["batch", "--generate", "300"]);
    generated.ends(0, "");
    assert_eq!(generated.stdout.lines().count(), 300);
    folder.write("in.jsonl", &generated.stdout);
    let ran = relay(&folder, &["batch", "in.jsonl", "-o", "out.jsonl"]);
    ran.ends(0, "no --config: answers are made up by a pretend provider");
    ran.ends(0, "in.jsonl: 300 requests, all right");
    ran.ends(0, "300 of 300 requests done");
    ran.ends(
        0,
        "the pretend provider counted 300 calls, of which it refused 0",
    );
    assert_eq!(folder.lines("out.jsonl").len(), 300);

    let again = relay(&folder, &["batch", "in.jsonl", "-o", "out.jsonl", "--json"]);
    again.ends(0, "300 requests, of which all are done");
    let summary: Value = again.json();
    assert_eq!(summary["answered_before"], 300);
    assert_eq!(summary["calls"], 0);
}

#[test]
fn what_was_made_up_is_not_gone_on_with_in_earnest() {
    let folder = Folder::new();
    let generated = relay(&folder, &["batch", "--generate", "1"]);
    folder.write("in.jsonl", &generated.stdout);
    relay(&folder, &["batch", "in.jsonl", "-o", "out.jsonl"]).ends(0, "1 of 1");
    folder.write(
        "relay.toml",
        crate::provider::config("http://127.0.0.1:9", ""),
    );
    folder
        .run(&[])
        .refused("was begun without --config, by the pretend provider");
}

#[test]
fn a_mistake_is_one_line_and_exit_code_2() {
    let folder = Folder::new();
    for (arguments, said) in [
        (&["batch"][..], "required arguments were not provided"),
        (
            &["batch", "in.jsonl"],
            "required arguments were not provided: --output <FILE>",
        ),
        (
            &["batch", "in.jsonl", "-o", "o", "--in-flight", "0"],
            "0 is not in 1..=10000",
        ),
        (
            &["batch", "in.jsonl", "-o", "o", "--timeout", "soon"],
            "it is no time above zero",
        ),
        (
            &["batch", "in.jsonl", "-o", "o", "--order", "any"],
            "invalid value 'any' for '--order",
        ),
        (
            &["batch", "--generate", "2", "-o", "o"],
            "cannot be used with",
        ),
    ] {
        relay(&folder, arguments).refused(said);
    }
}

#[test]
fn help_explains_files_kills_and_exit_codes() {
    let folder = Folder::new();
    let ran = relay(&folder, &["batch", "--help"]);
    ran.ends(0, "");
    for said in [
        "FILE.dead",
        "a power cut loses",
        "The provider is asked at least",
        "Exit codes",
    ] {
        assert!(ran.stdout.contains(said), "{said}: {}", ran.stdout);
    }
}
