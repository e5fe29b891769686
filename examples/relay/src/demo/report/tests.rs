use super::*;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A client that sent three calls for two documents.
fn load() -> Load {
    Load {
        calls: 3,
        answered: 2,
        refused: 1,
        failed: 0,
        input_tokens: 2_400,
        output_tokens: 900,
        latencies: vec![seconds(3), seconds(1)],
        elapsed: seconds(4),
        problem: None,
    }
}

/// The provider that answered it.
fn counters(change: impl FnOnce(&mut Counters)) -> Counters {
    let mut counters = Counters::default();
    counters.calls = 3;
    counters.answered = 2;
    counters.refused = 1;
    counters.input_tokens_charged = 2_400;
    counters.output_tokens_produced = 900;
    change(&mut counters);
    counters
}

fn setting(way: Way) -> Setting {
    Setting {
        name: "a row".to_owned(),
        way,
        accounts: 1,
        workers: 2,
        documents: 2,
        time_scale: 10,
    }
}

fn row(load: &Load, counters: &Counters) -> Row {
    Row::new(&setting(Way::Layers), load, counters, 0.987_654_321)
}

#[test]
fn a_row_is_in_the_time_of_the_provider() {
    let row = row(&load(), &counters(|_| {}));
    assert_eq!(row.throughput_rps, 0.05);
    assert_eq!((row.p50_ms, row.p99_ms), (10_000.0, 30_000.0));
    assert_eq!(row.seconds, 40.0);
    assert_eq!(row.refused_share, 0.33333);
    assert_eq!(row.quota_used_share, 0.98765);
    assert_eq!(row.calls_per_answer, 1.5);
    assert!(row.books_agree);
}

#[test]
fn json_begins_with_the_fields_that_are_promised() {
    let line = serde_json::to_string(&row(&load(), &counters(|_| {}))).expect("a row is JSON");
    let promised = concat!(
        r#"{"name":"a row","throughput_rps":0.05,"p50_ms":10000.0,"p99_ms":30000.0,"#,
        r#""refused_share":0.33333,"quota_used_share":0.98765,"#,
        r#""upstream_calls":3,"upstream_refused":1,"#,
    );
    assert!(line.starts_with(promised), "{line}");
    assert!(!line.contains('\n'));
}

#[test]
fn every_difference_between_the_books_is_told() {
    let provider = counters(|counters| {
        counters.calls = 4;
        counters.overloaded = 1;
        counters.output_tokens_produced = 901;
        counters.disconnected = 1;
    });
    let mut client = load();
    client.latencies.pop();
    client.problem = Some("connection reset".to_owned());
    let row = row(&client, &provider);
    assert!(!row.books_agree);
    assert_eq!(
        verdict(&[row]),
        "books differ:\n  a row: calls: client 3, provider 4; \
         other failures: client 0, provider 1; \
         output tokens: client 900, provider 901; \
         answers not read to the end: client 0, provider 1; \
         1 of 2 documents were answered; connection reset"
    );
}

#[test]
fn nothing_answered_is_no_division_by_zero() {
    let nothing = Load {
        calls: 0,
        answered: 0,
        refused: 0,
        failed: 0,
        input_tokens: 0,
        output_tokens: 0,
        latencies: Vec::new(),
        elapsed: Duration::ZERO,
        problem: None,
    };
    let mut none = setting(Way::Layers);
    none.documents = 0;
    let row = Row::new(&none, &nothing, &Counters::default(), 0.0);
    assert_eq!((row.throughput_rps, row.p99_ms), (0.0, 0.0));
    assert_eq!((row.refused_share, row.calls_per_answer), (0.0, 0.0));
    assert!(row.books_agree);
}

#[test]
fn percentiles_are_of_the_nearest_rank() {
    let hundred: Vec<_> = (1..=100).map(seconds).collect();
    assert_eq!(percentile(&hundred, 50), seconds(50));
    assert_eq!(percentile(&hundred, 99), seconds(99));
    assert_eq!(percentile(&hundred[..3], 50), seconds(2));
    assert_eq!(percentile(&hundred[..3], 99), seconds(3));
    assert_eq!(percentile(&hundred[..1], 1), seconds(1));
}

#[test]
fn every_row_through_the_layers_stands_beside_the_blind_one() {
    let good = row(&load(), &counters(|counters| counters.refused = 0));
    let books = counters(|counters| counters.calls = 6);
    let bad = Row::new(&setting(Way::Blind), &load(), &books, 0.5);
    let shown = comparison(&[bad, good]);
    assert_eq!(
        shown,
        "a row: 0 refused, 98.8 % of the quota, 1.50 calls per answer\n  \
         beside \"a row\": 1.00x the throughput, 1.00x the P99, 0.50x the calls per answer, \
         1 calls wasted instead of 4"
    );
    assert_eq!(comparison(&[]), "");
}

#[test]
fn the_books_of_a_pool_are_compared_account_by_account() {
    let account = |name: &str, by_pool, by_provider| Account {
        name: name.to_owned(),
        by_pool,
        by_provider,
    };
    let row = || row(&load(), &counters(|_| {}));
    assert!(row().pool_books(&[account("org-1", 2, 2)]).books_agree);
    let differs = row().pool_books(&[account("org-1", 1, 1), account("org-2", 1, 0)]);
    assert!(!differs.books_agree);
    assert_eq!(
        differs.differences,
        ["answers of org-2: pool 1, provider 0"]
    );
}

#[test]
fn a_narrow_table_is_no_wider_than_its_terminal() {
    let rows = [row(&load(), &counters(|_| {}))];
    for width in [60, 80, 100] {
        let mut table = table(&rows);
        table.set_width(width);
        let widest = table.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(width.into()), "{widest:?} in {width}");
    }
}

#[test]
fn numbers_are_shown_in_groups() {
    assert_eq!(counted(0), "0");
    assert_eq!(counted(999), "999");
    assert_eq!(counted(1_200), "1,200");
    assert_eq!(counted(1_234_567), "1,234,567");
    assert_eq!(percent(0.997_4), "99.7 %");
}
