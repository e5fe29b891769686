//! What is wrong with an input is said before anything is sent, and what is odd is understood.

use std::process::Stdio;

use crate::{
    program::{Folder, Ran, line, lines, named},
    provider::{Scripted, config, ok},
};

async fn ready() -> (Scripted, Folder) {
    let upstream = Scripted::start(|_| ok()).await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    (upstream, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_line_is_named_by_its_number_and_nothing_is_sent() {
    let (upstream, folder) = ready().await;
    for (wrong, said) in [
        ("nonsense", "in.jsonl:2: is no JSON: "),
        ("[]", "in.jsonl:2: is no JSON object; "),
        (
            "{\"custom_id\":\"x\"}",
            "in.jsonl:2: is no request: missing field `url`",
        ),
        (
            "{\"model\":\"m\"}",
            "in.jsonl:2: looks like a request's body alone; ",
        ),
        (
            "{\"custom_id\":\"x\",\"url\":\"/v1/x\",\"body\":{},\"tags\":1}",
            "in.jsonl:2: is no request: unknown field `tags`, expected one of",
        ),
        (
            "{\"custom_id\":\"x\",\"url\":\"/v2/x\",\"body\":{}}",
            "in.jsonl:2: is for /v2/x, which no upstream serves; `up` serves /v1/*",
        ),
        (
            "{\"custom_id\":\"x\",\"url\":\"/v1/x\",\"body\":{\"stream\":true}}",
            "in.jsonl:2: asks for a stream; ",
        ),
    ] {
        folder.write("in.jsonl", format!("{}\n{wrong}\n{}\n", line(1), line(2)));
        folder.run(&[]).refused(said);
    }
    folder.write("in.jsonl", b"\xff{}\n");
    folder
        .run(&[])
        .refused("in.jsonl:1: is no UTF-8, from byte 1 on; ");
    folder.write("in.jsonl", "x\n\ny\nz\n");
    folder.run(&[]).refused("(2 more lines are wrong)");
    assert_eq!(upstream.asked().len(), 0);
    let left: Vec<_> = folder.path().read_dir().expect("it is there").collect();
    assert_eq!(
        left.len(),
        2,
        "only the input and the configuration: {left:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_there_twice_is_refused_with_both_lines() {
    let (upstream, folder) = ready().await;
    let twice = format!("{}{}\n{}\n", lines(300), named("doc-7"), named("doc-9"));
    folder.write("in.jsonl", twice);
    folder
        .run(&[])
        .refused("in.jsonl:301: has the `custom_id` of line 7, \"doc-7\"; ");
    assert_eq!(upstream.asked().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_ends_of_lines_blanks_and_a_missing_end_are_understood() {
    let (upstream, folder) = ready().await;
    let odd = format!("\u{feff}{}\r\n\r\n  \n\t{} \n{}", line(1), line(2), line(3));
    folder.write("in.jsonl", odd);
    folder
        .run(&["--order", "input"])
        .ends(0, "3 of 3 requests done");
    assert_eq!(folder.ids("out.jsonl"), ["doc-1", "doc-2", "doc-3"]);
    let ids: Vec<_> = folder
        .lines("out.jsonl")
        .iter()
        .map(|line| line["id"].clone())
        .collect();
    assert_eq!(ids, ["line-1", "line-4", "line-5"]);
    assert_eq!(upstream.asked().len(), 3);
    folder
        .run(&["--order", "input"])
        .ends(0, "3 requests, of which all are done");
    assert_eq!(upstream.asked().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_mebibyte_is_sent_byte_for_byte() {
    let (upstream, folder) = ready().await;
    let body = format!(
        "{{\"model\":\"m\", \"n\" : 1.50,\"long\":\"{}\"}}",
        "é".repeat(1 << 19)
    );
    let line = format!("{{\"custom_id\":\"long\",\"url\":\"/v1/x?y=1\",\"body\":{body}}}\n");
    folder.write("in.jsonl", &line);
    folder.run(&[]).ends(0, "1 of 1");
    let asked = upstream.asked();
    assert_eq!(asked[0].body, body);
    assert_eq!(asked[0].path, "/v1/x?y=1");
    assert_eq!(asked[0].headers["content-type"], "application/json");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_too_long_is_refused() {
    let (_upstream, folder) = ready().await;
    folder.write("in.jsonl", "x".repeat((32 << 20) + 1));
    folder.run(&[]).refused("in.jsonl:1: is longer than 32 MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_done() {
    let (_upstream, folder) = ready().await;
    folder.write("in.jsonl", "");
    folder.run(&[]).ends(0, "in.jsonl has no requests");
    assert_eq!(folder.read("out.jsonl"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_alone_go_to_one_path_and_are_known_by_their_lines() {
    let (upstream, folder) = ready().await;
    folder.write("in.jsonl", "{\"model\":\"a\"}\n\n{\"model\":\"b\"}\n");
    let path = ["--path", "/v1/messages", "--order", "input"];
    folder.run(&path).ends(0, "2 of 2");
    assert_eq!(folder.ids("out.jsonl"), ["1", "3"]);
    let mut asked: Vec<_> = upstream
        .asked()
        .into_iter()
        .map(|asked| (asked.path, asked.body))
        .collect();
    asked.sort();
    assert_eq!(
        asked,
        [
            ("/v1/messages".to_owned(), "{\"model\":\"a\"}".to_owned()),
            ("/v1/messages".to_owned(), "{\"model\":\"b\"}".to_owned()),
        ]
    );
    folder
        .run(&["--path", "v1"])
        .ends(2, "it is no path; leave out the host");
    folder.write("in.jsonl", line(1));
    folder
        .run(&path)
        .refused("in.jsonl:1: is in OpenAI's batch format");
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_kept_until_all_is_done() {
    use std::{fs::File, io::Write as _};

    let upstream =
        Scripted::start(
            |asked| match asked.body.contains("doc-2") && asked.before < 9 {
                true => crate::provider::Answer(500, "{}".to_owned(), 0),
                false => ok(),
            },
        )
        .await;
    let folder = Folder::new();
    let breaker = "[breaker]\nenabled = false\n";
    folder.write(
        "relay.toml",
        breaker.to_owned() + &config(&upstream.url, ""),
    );
    folder.write("given", lines(3));
    let mut child = folder
        .command(&["-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it is built");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(lines(3).as_bytes()).expect("it is read");
    drop(stdin);
    let ran = Ran::of(&child.wait_with_output().expect("it ends"));
    ran.ends(0, "standard input: 3 requests, all right");
    assert_eq!(folder.lines("out.jsonl").len(), 3);
    assert!(!folder.has("out.jsonl.stdin"));

    // The same again, and another.
    let given = |name| File::open(folder.at(name)).expect("it is there");
    let run = |name| {
        let child = folder
            .command(&["-"])
            .stdin(given(name))
            .spawn()
            .expect("it is built");
        Ran::of(&child.wait_with_output().expect("it ends"))
    };
    run("given").ends(0, "of which all are done");
    folder.write("other", lines(2));
    run("other").ends(
        2,
        "is of another input, or the input was changed since: 3 requests then, 2 now",
    );
}
