use std::{fs, time::Duration};

use embedded_provider::{Book, Books, Counters};
use fastrand::Rng;
use http_body::Body;

use super::{
    figures::{Figures, Reading, Verdict},
    load::Sizes,
    report,
    row::{self, Format, Row},
    run::{self, Secrets},
};

fn row(name: &str) -> Row {
    let mut rows = row::all().into_iter();
    rows.find(|row| row.name == name).expect("a row")
}

#[test]
fn a_run_is_decided_by_its_seed() {
    let row = row("openai requests");
    let told = |seed| {
        let figures = run::run(&row, seed, 1);
        let Reading { books, counters } = figures.last;
        (books, counters, figures.p99)
    };
    assert_eq!(told(4), told(4));
    assert_ne!(told(4), told(3));
}

#[test]
fn names_tell_rows_apart() {
    let names: Vec<_> = row::all().iter().map(|row| row.name).collect();
    for name in &names {
        assert_eq!(
            names.iter().filter(|other| *other == name).count(),
            1,
            "{name}"
        );
        assert!(!name.contains(','), "it would be two for --row");
    }
}

#[test]
fn sizes_have_heavy_tails_within_their_bounds() {
    let mut rng = Rng::with_seed(1);
    let row = row("generic tokens");
    let mut lengths: Vec<_> = (0..2_000)
        .map(|_| {
            let request = Sizes::draw(&mut rng, &row).request(Format::OpenAi);
            request.body().size_hint().exact().expect("a whole body")
        })
        .collect();
    lengths.sort_unstable();
    assert!(lengths[0] >= 400 && lengths[1_999] <= 33_000);
    assert!(lengths[1_900] > 4 * lengths[1_000], "{lengths:?}");
}

#[test]
fn secrets_stay_within_what_is_promised_and_have_both_extremes() {
    for seed in 0..50 {
        let secrets = Secrets::of(seed);
        assert!(secrets.drift.abs() <= 0.01);
        assert!((1..=60).contains(&secrets.burst.as_secs()));
    }
    assert_eq!([0, 1].map(|seed| Secrets::of(seed).drift), [-0.01, 0.01]);
}

/// A run of ten minutes after the warm-up in which 1,000 flowed in.
fn figures(charged: f64, refused: u64, held: f64, lost: u64) -> Figures {
    let reading = |book: Book, calls: u64, refused: u64| {
        let mut books = Books::default();
        books.dimensions.push(("tokens_per_minute", book));
        let mut counters = Counters::default();
        counters.calls = calls;
        counters.refused = refused;
        counters.answered = calls - refused;
        Reading { books, counters }
    };
    let mut book = Book::default();
    (book.refilled, book.charged, book.held) = (100.0, 100.0, held);
    let warm = reading(book, 100, 50);
    (book.refilled, book.charged) = (1_100.0, 100.0 + charged);
    Figures {
        seed: 7,
        secrets: Secrets::of(7),
        warm,
        last: reading(book, 10_100, 50 + refused),
        answered: 10_000,
        lost,
        first_loss: (lost > 0).then(|| "status 500".to_owned()),
        p50: Duration::ZERO,
        p99: Duration::ZERO,
    }
}

#[test]
fn the_warm_up_does_not_count() {
    let figures = figures(970.0, 10, 0.0, 0);
    assert_eq!(figures.binding(), ("tokens_per_minute", 0.97));
    assert_eq!(figures.refused(), 0.001);
    assert_eq!(figures.refused_while_warming(), 0.5);
    assert!((figures.used_as_a_whole() - 1_070.0 / 1_100.0).abs() < 1e-12);
}

#[test]
fn every_missed_target_is_named_with_its_row_and_seed() {
    let row = row("generic tokens");
    let misses = |figures| Verdict::new(&row, vec![figures]).misses();
    assert_eq!(misses(figures(970.0, 10, 0.0, 0)), [""; 0]);
    for (figures, miss) in [
        (figures(960.0, 0, 0.0, 0), "used 96.000 %, at least 97 %"),
        (
            figures(1_000.0, 11, 0.0, 0),
            "refused 0.110 %, at most 0.1 %",
        ),
        (
            figures(1_011.0, 0, 0.0, 0),
            "overshoot 1.000 %, at most 0 %",
        ),
        (
            figures(1_000.0, 0, 0.0, 2),
            "2 answers lost, the first to: status 500",
        ),
    ] {
        assert_eq!(misses(figures), [format!("generic tokens, seed 7: {miss}")]);
    }
    assert_eq!(
        misses(figures(1_011.0, 0, 11.0, 0)),
        [""; 0],
        "that was held at first"
    );
}

#[test]
fn the_table_replaces_the_one_between_the_marks() {
    let path = std::env::temp_dir().join(format!("accuracy-{}.md", std::process::id()));
    let verdict = |used| {
        vec![Verdict::new(
            &row("generic tokens"),
            vec![figures(used, 0, 0.0, 0)],
        )]
    };
    report::write(&path, &verdict(980.0)).expect("a new file");
    let new = fs::read_to_string(&path).expect("it is there");
    fs::write(&path, format!("# Before\n\n{new}\nAfter.\n")).expect("a file of our own");
    report::write(&path, &verdict(990.0)).expect("the same file");
    let again = fs::read_to_string(&path).expect("it is there");
    fs::remove_file(&path).expect("it is there");
    assert!(again.starts_with("# Before\n\n") && again.ends_with("\nAfter.\n"));
    assert!(again.contains("99.00 %") && !again.contains("98.00 %"));
    assert_eq!(again.matches("generic tokens").count(), 1);
}
