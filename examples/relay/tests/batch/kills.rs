//! What is left when a run is killed, at any moment and at any byte.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader},
    thread,
    time::Duration,
};

use crate::{
    program::{Folder, id, lines},
    provider::{Scripted, config, embedded, ok},
};

/// Marsaglia's xorshift, so that the moments are the same in every run of the test.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

const REQUESTS: usize = 500;
const KILLS: usize = 10;

async fn ten_kills(order: &str, seed: u64) {
    let provider = embedded(20).await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&provider.url(), ""));
    folder.write("in.jsonl", lines(REQUESTS));
    let more = ["--order", order, "--in-flight", "4"];
    let (mut chance, mut cut_short, mut written) = (Chance(seed), 0, Vec::new());
    for kill in 0..KILLS {
        let mut child = folder.start(&more);
        if kill % 2 == 1 {
            // However slowly it starts here, it is at work then.
            let mut said = String::new();
            let stderr = child.stderr.as_mut().expect("it is piped");
            BufReader::new(stderr)
                .read_line(&mut said)
                .expect("it says something");
        }
        thread::sleep(Duration::from_millis(30 + chance.below(250)));
        child.kill().expect("it is ours");
        let ended = child.wait_with_output().expect("it has ended");
        cut_short += usize::from(!ended.status.success());
        if folder.has("out.jsonl") {
            // What was there is there, and only the last line may be cut.
            let now = folder.read("out.jsonl");
            let whole: Vec<_> = now
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
                .map(str::to_owned)
                .collect();
            assert!(whole.starts_with(&written), "lines were lost or changed");
            written = whole;
        }
    }
    assert_eq!(cut_short, KILLS, "the batch is too short to be killed");
    assert!(
        written.len() > REQUESTS / 20 && written.len() < REQUESTS,
        "{} lines were there after the kills",
        written.len()
    );
    folder.run(&more).ends(0, "500 of 500 requests done");

    let ids = folder.ids("out.jsonl");
    assert_eq!(ids.len(), REQUESTS);
    let expected: Vec<_> = (1..=REQUESTS).map(id).collect();
    match order {
        "input" => assert_eq!(ids, expected),
        _ => assert_eq!(
            ids.into_iter().collect::<HashSet<_>>(),
            expected.into_iter().collect::<HashSet<_>>()
        ),
    }
    assert!(!folder.has("out.jsonl.dead"));
    // At least once to the provider: again only what was under way, four at a time.
    let answered = provider.counters().answered as usize;
    let again = answered - REQUESTS;
    let most = match order {
        // And what waited for those before it.
        "input" => KILLS * 4 * 4,
        _ => KILLS * 4,
    };
    assert!(again <= most, "{again} were asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_at_any_moment_leave_each_line_once() {
    ten_kills("finished", 0x5eed_0001).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_leave_each_line_once_and_in_order() {
    ten_kills("input", 0x5eed_0002).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_cut_at_any_byte_is_written_again_and_no_other_is_touched() {
    let upstream = Scripted::start(|_| ok()).await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(3));
    folder.run(&["--order", "input"]).ends(0, "3 of 3");
    let whole = folder.read("out.jsonl");
    let state = folder.read("out.jsonl.state");
    let last = whole[..whole.len() - 1].rfind('\n').expect("three lines") + 1;
    let cuts: Vec<_> = (last..whole.len()).collect();
    let calls = upstream.asked().len();
    // Several folders at a time.
    let (url, whole, state) = (&upstream.url, &whole, &state);
    thread::scope(|scope| {
        for part in cuts.chunks(cuts.len().div_ceil(4)) {
            scope.spawn(move || {
                let folder = Folder::new();
                folder.write("relay.toml", config(url, ""));
                folder.write("in.jsonl", lines(3));
                for &cut in part {
                    folder.write("out.jsonl", &whole[..cut]);
                    folder.write("out.jsonl.state", state);
                    let said = if cut == last {
                        "2 are done"
                    } else {
                        "cut off the"
                    };
                    folder.run(&["--order", "input"]).ends(0, said);
                    assert_eq!(&folder.read("out.jsonl"), whole, "cut at {cut}");
                }
            });
        }
    });
    // The last line alone, each time.
    assert_eq!(upstream.asked().len(), calls + cuts.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_cut_at_any_byte_is_begun_anew_where_nothing_was_written() {
    let upstream = Scripted::start(|_| ok()).await;
    let folder = Folder::new();
    folder.write("relay.toml", config(&upstream.url, ""));
    folder.write("in.jsonl", lines(1));
    folder.run(&[]).ends(0, "1 of 1");
    let state = folder.read("out.jsonl.state");
    for cut in [0, 1, state.len() / 2, state.len() - 2] {
        folder.write("out.jsonl", "");
        folder.write("out.jsonl.state", &state[..cut]);
        folder.run(&[]).ends(0, "1 of 1");
        assert_eq!(folder.read("out.jsonl.state"), state);
    }
    // Where something was, nobody knows of what.
    folder.write("out.jsonl.state", &state[..4]);
    folder.run(&[]).ends(2, "its .state is lost");
}
