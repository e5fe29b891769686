//! What `/-/metrics` tells, and that Prometheus can read it.

use std::collections::{BTreeMap, BTreeSet};

use embedded_provider::{Limits, Provider, Scope};
use http::StatusCode;
use serde_json::json;

use crate::{
    client::{get, post},
    echo::Echo,
    relay::{File, Relay},
};

type Labels = BTreeMap<String, String>;

/// What was scraped: the type of each family, and each series with its value.
struct Scrape {
    text: String,
    types: BTreeMap<String, String>,
    series: BTreeMap<(String, Labels), f64>,
}

impl Scrape {
    async fn of(relay: &Relay) -> Self {
        let answer = get(relay.at("/-/metrics")).await;
        assert_eq!(answer.status, StatusCode::OK);
        let kind = &answer.headers["content-type"];
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        Self::read(answer.text)
    }

    /// Reads the text as strictly as the format is written down: a family is told of once, its help,
    /// type and samples in one piece.
    fn read(text: String) -> Self {
        let mut types = BTreeMap::new();
        let mut series = BTreeMap::new();
        let mut family = String::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a help");
                assert!(!help.is_empty());
                name.clone_into(&mut family);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert_eq!(name, family, "every family has a help");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                let known = types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(known, None, "{name} is told of twice");
            } else {
                let (name, labels, value) = sample(line);
                let is_of_family = match types[&family].as_str() {
                    "histogram" => ["_bucket", "_sum", "_count"]
                        .iter()
                        .any(|end| name.strip_suffix(end) == Some(&family)),
                    _ => name == family,
                };
                assert!(is_of_family, "{name} among {family}");
                let known = series.insert((name, labels), value);
                assert_eq!(known, None, "twice: {line}");
            }
        }
        let scrape = Self {
            text,
            types,
            series,
        };
        scrape.check_histograms();
        scrape
    }

    fn check_histograms(&self) {
        let mut buckets = BTreeMap::<_, Vec<(f64, f64)>>::new();
        for ((name, labels), count) in &self.series {
            if let Some(family) = name.strip_suffix("_bucket") {
                let mut labels = labels.clone();
                let bound = labels.remove("le").expect("a bound");
                let bound = bound.parse().expect("a number, or +Inf");
                buckets
                    .entry((family, labels))
                    .or_default()
                    .push((bound, *count));
            }
        }
        for ((family, labels), mut buckets) in buckets {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.windows(2).all(|two| two[0].1 <= two[1].1));
            let (last, all) = buckets[buckets.len() - 1];
            assert_eq!(last, f64::INFINITY);
            let count = &self.series[&(format!("{family}_count"), labels)];
            assert_eq!(all, *count);
        }
    }

    /// The sum of the series with these labels; an empty value is a label that is not there.
    fn sum(&self, name: &str, wanted: &[(&str, &str)]) -> f64 {
        let found: Vec<_> = self
            .series
            .iter()
            .filter(|((of, labels), _)| {
                let has = |(label, value): &(&str, &str)| {
                    labels.get(*label).map_or("", String::as_str) == *value
                };
                of == name && wanted.iter().all(has)
            })
            .map(|(_, value)| *value)
            .collect();
        assert!(!found.is_empty(), "no {name}{wanted:?} in\n{}", self.text);
        found.into_iter().sum()
    }

    fn values(&self, label: &str) -> BTreeSet<&str> {
        let labels = self
            .series
            .keys()
            .filter_map(|(_, labels)| labels.get(label));
        labels.map(String::as_str).collect()
    }
}

fn is_name(name: &str) -> bool {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(is_start) && name.chars().all(|c| is_start(c) || c.is_ascii_digit())
}

/// `name{label="value",..} value`
fn sample(line: &str) -> (String, Labels, f64) {
    let mut labels = Labels::new();
    let end = line.find(['{', ' ']).expect("a value");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            rest = rest.strip_prefix(',').unwrap_or(rest);
            let (label, quoted) = rest.split_once("=\"").expect("a label");
            assert!(is_name(label), "{line}");
            let mut value = String::new();
            let mut chars = quoted.chars();
            loop {
                match chars.next().expect("the value ends") {
                    '"' => break,
                    '\\' => value.push(match chars.next() {
                        Some('n') => '\n',
                        Some(escaped @ ('"' | '\\')) => escaped,
                        other => panic!("{other:?} after a backslash: {line}"),
                    }),
                    plain => value.push(plain),
                }
            }
            rest = chars.as_str();
            assert_eq!(labels.insert(label.to_owned(), value), None, "{line}");
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').expect("a space").parse();
    (name.to_owned(), labels, value.expect("a number"))
}

/// A request whose answer tells its usage.
async fn ask(relay: &Relay, model: &str) -> StatusCode {
    let question = json!({
        "model": model,
        "max_tokens": 5,
        "messages": [{ "role": "user", "content": "Hello!" }],
    });
    post(relay.at("/v1/messages"), &question).await.status
}

fn config(url: &str, scope: &str) -> File {
    File::new(&format!(
        "[[upstream]]\nname = \"claude\"\nprovider = \"anthropic\"\nbase_url = \"{url}\"\n\
         [[upstream.scope]]\nname = '{scope}'\n\
         key = [{{ alias = \"k1\", value = \"secret-one\" }}, \
         {{ alias = \"k2\", value = \"secret-two\" }}]\n\
         [[upstream.scope.quota]]\nmodels = [\"large-*\"]\nrequests_per_minute = 60_000\n\
         [[upstream.scope.quota]]\ninput_tokens_per_minute = 1_000_000\n"
    ))
}

async fn provider() -> Provider {
    let scope = Scope::new("s", ["secret-one", "secret-two"], Limits::default());
    Provider::builder()
        .scope(scope)
        .start()
        .await
        .expect("a port")
}

#[tokio::test]
async fn every_call_is_in_the_metrics_of_its_upstream_scope_key_and_class() {
    let provider = provider().await;
    let file = config(&provider.url(), "org-a");
    let relay = Relay::start(&["--config", file.path()], &[]).await;
    for number in 0..8 {
        assert_eq!(ask(&relay, "large-1").await, StatusCode::OK);
        assert_eq!(
            ask(&relay, &format!("invented-{number}")).await,
            StatusCode::OK
        );
    }
    provider.revoke_key("secret-two").expect("it is there");
    while provider_has_not_refused(&relay).await {
        assert_eq!(ask(&relay, "large-1").await, StatusCode::OK);
    }
    let scrape = Scrape::of(&relay).await;
    let sum = |name, labels: &[_]| scrape.sum(name, labels);
    let answered = sum("tower_relay_key_calls_total", &[("error_type", "")]);
    assert!(answered >= 17.0, "{answered}");
    for key in ["k1", "k2"] {
        let labels = [
            ("scope", "org-a"),
            ("key_alias", key),
            ("upstream", "claude"),
        ];
        assert!(sum("tower_relay_key_calls_total", &labels) >= 1.0);
        assert!(sum("tower_relay_key_tokens_total", &labels) > 0.0);
        assert_eq!(sum("tower_relay_key_in_flight", &labels), 0.0);
    }
    let rejected = [("error_type", "key_rejected"), ("key_alias", "k2")];
    assert_eq!(sum("tower_relay_key_calls_total", &rejected), 1.0);
    let state = |key, state| {
        sum(
            "tower_relay_key_state",
            &[("key_alias", key), ("state", state)],
        )
    };
    assert_eq!((state("k1", "usable"), state("k2", "usable")), (1.0, 0.0));
    assert_eq!(state("k2", "rejected"), 1.0);
    assert_eq!(sum("tower_relay_scope_state", &[("state", "open")]), 1.0);
    assert_eq!(sum("tower_relay_retry_succeeded_total", &[]), answered);
    assert_eq!(sum("tower_relay_retry_waited_out_total", &[]), 1.0);
    assert_eq!(sum("tower_relay_queue_succeeded_total", &[]), answered);
    assert_eq!(sum("tower_relay_queue_failed_total", &[]), 1.0);
    assert_eq!(sum("tower_relay_queue_waiting", &[]), 0.0);
    assert_eq!(sum("tower_relay_queue_in_flight", &[]), 0.0);
    assert!(sum("tower_relay_concurrency_limit", &[]) >= 1.0);
    let host = [("server_address", "127.0.0.1"), ("state", "closed")];
    assert_eq!(sum("tower_relay_breaker_state", &host), 1.0);
    let duration = "gen_ai_client_operation_duration_seconds_count";
    assert_eq!(sum(duration, &[("error_type", "")]), answered);
    assert_eq!(sum(duration, &[("gen_ai_request_model", "*")]), 8.0);
    let provider = [("gen_ai_provider_name", "anthropic")];
    assert_eq!(sum(duration, &provider), answered);
    let first = "tower_relay_call_time_to_first_byte_seconds_count";
    assert_eq!(sum(first, &[]), answered);
    let tokens = sum("tower_relay_key_tokens_total", &[]);
    assert_eq!(sum("gen_ai_client_token_usage_sum", &[]), tokens);
    let left = [("gen_ai_request_model", "*"), ("unit", "input_tokens")];
    let left = sum("tower_relay_quota_remaining", &left);
    assert!((0.0..=1_000_000.0).contains(&left), "{left}");
    let headroom = sum(
        "tower_relay_quota_headroom",
        &[("gen_ai_request_model", "large-*")],
    );
    assert!((0.9..=1.0).contains(&headroom), "{headroom}");
    // Whatever callers invent, there is one more.
    assert_eq!(
        Vec::from_iter(scrape.values("gen_ai_request_model")),
        ["*", "large-*"]
    );
    assert!(!scrape.text.contains("secret"), "{}", scrape.text);
    assert!(!scrape.text.contains("invented"), "{}", scrape.text);
}

async fn provider_has_not_refused(relay: &Relay) -> bool {
    !get(relay.at("/-/metrics"))
        .await
        .text
        .contains("key_rejected")
}

#[tokio::test]
async fn a_name_with_quotes_and_backslashes_is_read_back_as_it_is_written() {
    let provider = provider().await;
    let name = r#"our "first" \n\ account"#;
    let file = config(&provider.url(), name);
    let relay = Relay::start(&["--config", file.path()], &[]).await;
    let scrape = Scrape::of(&relay).await;
    assert_eq!(Vec::from_iter(scrape.values("scope")), [name]);
}

#[tokio::test]
async fn what_a_reload_has_removed_is_in_the_metrics_no_more() {
    let provider = provider().await;
    let file = config(&provider.url(), "old");
    let mut relay = Relay::start(&["--config", file.path()], &[]).await;
    assert_eq!(
        Vec::from_iter(Scrape::of(&relay).await.values("scope")),
        ["old"]
    );
    let after = config(&provider.url(), "new");
    file.write(&std::fs::read_to_string(after.path()).expect("it was written"));
    relay.signal("HUP").await;
    relay.hears("relay: reloaded").await;
    // The exporter forgets after a second: so long, both are there.
    loop {
        let scrape = Scrape::of(&relay).await;
        let scopes = scrape.values("scope");
        assert!(scopes.contains("new"), "{scopes:?}");
        if !scopes.contains("old") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn metrics_are_only_read_and_are_there_before_the_first_call() {
    let echo = Echo::start().await;
    let (relay, _file) = Relay::with(&echo.config("openai", "")).await;
    let scrape = Scrape::of(&relay).await;
    assert_eq!(scrape.sum("tower_relay_queue_admitted_total", &[]), 0.0);
    assert!(scrape.types.len() > 10, "{:?}", scrape.types);
    let answer = post(relay.at("/-/metrics"), &json!({})).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}
