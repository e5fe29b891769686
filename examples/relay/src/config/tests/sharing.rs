//! Classes of callers, sessions and estimates.

use tower_relay::{http::Class, policy::pool, provider};

use super::{assert_wrong, parse, upstream};

#[test]
fn shares() {
    for (lines, problem) in [
        (
            "shares = 20",
            "relay.toml:4:10: upstream.shares is a whole number; write a table",
        ),
        (
            "shares = {}",
            "relay.toml:4:10: upstream.shares names no class; write { interactive = 20, batch = 80 }",
        ),
        (
            "shares = { others = 5 }",
            "relay.toml:4:10: upstream.shares names no class; write { interactive = 20, batch = 80 }",
        ),
        (
            "shares = { batch = 0 }",
            "relay.toml:4:20: upstream.shares is 0, which admits nothing; use at least 1, or leave \
             it out",
        ),
        (
            "shares = { batch = 1_000_001 }",
            "relay.toml:4:20: upstream.shares is out of range; use a whole number from 1 to 1000000",
        ),
        (
            "shares = { batch = \"SECRET\" }",
            "relay.toml:4:20: upstream.shares is a text; write a whole number",
        ),
        (
            "shares = { \"SECRET a\" = 5 }",
            "relay.toml:4:36: upstream.shares has a class whose name fits no header; use visible \
             ASCII without blanks",
        ),
        (
            "shares = { \"\" = 5 }",
            "relay.toml:4:17: upstream.shares has a class whose name fits no header; use visible \
             ASCII without blanks",
        ),
    ] {
        assert_wrong(&upstream(lines), problem);
    }
    let classes: Vec<_> = (0..33).map(|class| format!("c{class} = 1")).collect();
    let many = format!("shares = {{ {} }}", classes.join(", "));
    let problem = "relay.toml:4:10: upstream.shares cannot be: 33 are more than 32; put callers \
                   together";
    assert_wrong(&upstream(&many), problem);

    let config = parse(&upstream(
        "shares = { interactive = 20, batch = 80, others = 5 }",
    ));
    let config = config.expect("it is right");
    let classes = config.upstreams[0].classes.as_ref().expect("there are");
    let weights: Vec<_> = classes.shares.classes().collect();
    let named = [(Some("batch"), 80), (Some("interactive"), 20)];
    assert_eq!(weights[0], (None, 5));
    assert!(named.iter().all(|class| weights[1..].contains(class)));
    assert_eq!(classes.find(b"batch"), Some(&Class::new("batch")));
    assert_eq!(classes.find(b"others"), None, "they are of no class");
}

#[test]
fn a_tokens_class_is_one_that_some_upstream_has() {
    let top = |lines: &str, own: &str| format!("{lines}\n{}", upstream(own));
    for (text, problem) in [
        (
            top(
                "caller_token = { value = \"SECRET\", class = \"batch\" }",
                "",
            ),
            "relay.toml:1:55: caller_token.class names a class `batch`, and no upstream has shares; \
             add them there",
        ),
        (
            top(
                "caller_token = { value = \"SECRET\", class = \"bach\" }",
                "shares = { batch = 1, a = 2 }",
            ),
            "relay.toml:1:55: caller_token.class names a class `bach` that no upstream's shares \
             have; use one of a, batch",
        ),
        (
            top(
                "caller_token = { value = \"x\", class = \"SECRET\" }",
                "shares = { batch = 1 }",
            ),
            "relay.toml:1:39: caller_token.class names a class that no upstream's shares have; use \
             one of batch",
        ),
    ] {
        assert_wrong(&text, problem);
    }
    let right = top(
        "caller_token = [{ value = \"x\", class = \"batch\" }, { value = \"y\" }]",
        "shares = { batch = 1 }",
    );
    let tokens = parse(&right).expect("it is right").front.tokens;
    let classes: Vec<_> = tokens.into_iter().map(|token| token.class).collect();
    assert_eq!(classes, [Some(Class::new("batch")), None]);
}

#[test]
fn affinity_estimates_and_breakers_of_keys() {
    for (lines, problem) in [
        (
            "affinity = true",
            "relay.toml:4:12: upstream.affinity is a boolean; write a text in quotes",
        ),
        (
            "affinity = \"sessions\"",
            "relay.toml:4:12: upstream.affinity is an unknown affinity `sessions`; use one of \
             prompt, session, off",
        ),
        (
            "affinity = { by = \"SECRET\" }",
            "relay.toml:4:19: upstream.affinity.by is an unknown affinity; use one of prompt, \
             session, off",
        ),
        (
            "affinity = { bound = 2 }",
            "relay.toml:4:14: unknown field `bound` in upstream.affinity; use one of by, load",
        ),
        (
            "affinity = { load = 1 }",
            "relay.toml:4:21: upstream.affinity.load is not from 1.01 to 100 times the mean; 1.25 \
             is usual",
        ),
        (
            "affinity = { load = nan }",
            "relay.toml:4:21: upstream.affinity.load is not from 1.01 to 100 times the mean; 1.25 \
             is usual",
        ),
        (
            "estimate = 0.95",
            "relay.toml:4:12: upstream.estimate is a fraction; write true or false",
        ),
        (
            "estimate = { safety = 1 }",
            "relay.toml:4:23: upstream.estimate.safety is not from 0.5 to 0.99 of the answers; \
             0.95 is usual",
        ),
        (
            "estimate = { safety = \"SECRET\" }",
            "relay.toml:4:23: upstream.estimate.safety is a text; write a number",
        ),
        (
            "key_breaker = \"off\"",
            "relay.toml:4:15: upstream.key_breaker is a text; write true or false",
        ),
    ] {
        assert_wrong(&upstream(lines), problem);
    }

    let read = |lines: &str| {
        parse(&upstream(lines))
            .expect("it is right")
            .upstreams
            .remove(0)
    };
    let plain = read("");
    assert_eq!(plain.affinity.facts(), provider::Affinity::Session);
    assert_eq!(plain.affinity.policy(), Some(pool::Affinity::new()));
    assert!(plain.estimate.policy().is_some() && plain.key_breaker);
    let other = read(
        "affinity = { by = \"prompt\", load = 2.5 }\nestimate = { safety = 0.8 }\nkey_breaker = false",
    );
    assert_eq!(other.affinity.facts(), provider::Affinity::Prompt);
    let policy = pool::Affinity::new().load_per_mille(2_500);
    assert_eq!(other.affinity.policy(), Some(policy));
    assert_ne!(other.estimate, plain.estimate);
    assert!(!other.key_breaker);
    let off = read("affinity = \"off\"\nestimate = false");
    assert_eq!(off.affinity.facts(), provider::Affinity::Nothing);
    assert_eq!(off.affinity.policy(), None);
    assert!(off.estimate.policy().is_none());
}
