//! The program as its user runs it, small and fast.

use std::process::{Command, Output};

use serde_json::Value;

fn relay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(arguments)
        .output()
        .expect("the program was built for this test")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the program writes UTF-8")
}

#[test]
fn json_has_a_row_per_line_with_the_promised_fields_and_books_that_agree() {
    let small = ["--documents", "60", "--workers", "20", "--time-scale", "60"];
    let output = relay(&[&["demo", "--json", "--seed", "7"], &small[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");

    let rows: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let names: Vec<_> = rows.iter().map(|row| &row["name"]).collect();
    assert_eq!(
        names,
        [
            "one key, sequential",
            "one key, 20 workers, blind",
            "one key, 20 workers, through the layers",
            "five keys, 100 workers, blind",
            "pool of five, 100 workers",
            "pool of ten, 200 workers",
        ]
    );
    for row in &rows {
        for field in [
            "throughput_rps",
            "p50_ms",
            "p99_ms",
            "refused_share",
            "quota_used_share",
        ] {
            let value = row[field].as_f64();
            assert!(value.is_some_and(|value| value >= 0.0), "{field}: {row}");
        }
        assert!(row["p50_ms"].as_f64() <= row["p99_ms"].as_f64(), "{row}");
        assert_eq!(row["books_agree"], true, "{row}");
        assert_eq!(row["answered"], row["documents"], "{row}");
        let number = |field: &str| row[field].as_u64().expect("a whole number");
        assert_eq!(
            number("upstream_calls"),
            number("answered") + number("upstream_refused"),
            "{row}"
        );
    }
}

#[test]
fn the_table_names_its_rows_and_the_scale() {
    let output = relay(&["demo", "--documents", "8", "--time-scale", "200"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains("200 times faster"), "{shown}");
    assert!(shown.contains("50 workers, through the layers"), "{shown}");
    assert!(shown.contains("books agree"), "{shown}");
}

#[test]
fn a_mistake_is_one_line_and_exit_code_2() {
    for arguments in [
        &["demo", "--documents", "0"][..],
        &["demo", "--workers", "201"],
        &["demo", "--time-scale", "0.5"],
        &["demo", "--seed"],
        &["dmeo"],
        &[],
    ] {
        let output = relay(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let complaint = text(&output.stderr);
        assert!(complaint.starts_with("relay: "), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert_eq!(text(&output.stdout), "");
    }
}
