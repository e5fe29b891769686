//! Rules of one's own.

use http::{HeaderMap, StatusCode};
use tower_relay::{
    outcome::Verdict::{self, *},
    provider::{Errors, Profile, Rule},
};

use crate::now;

const BODY: &str = r#"{"error":{"type":"invalid_request_error","code":"house_limit","message":"Tenant 'x' is frozen: quota exceeded"}}"#;

fn verdict(errors: &Errors, status: u16, body: &str) -> Verdict {
    let status = StatusCode::from_u16(status).expect("it is a status");
    errors
        .classify(status, &HeaderMap::new(), body.as_bytes(), now())
        .verdict()
}

#[test]
fn a_rule_of_ones_own_comes_first_and_the_first_of_several_decides() {
    let code = Rule::code("HOUSE-LIMIT", RampLimit);
    assert_eq!(
        verdict(&Errors::default().rule(code.clone()), 400, BODY),
        RampLimit
    );
    let status = Rule::status(400, Region);
    let errors = Errors::default().rule(status.clone()).rule(code.clone());
    assert_eq!(verdict(&errors, 400, BODY), Region);
    let errors = Errors::default().rule(code).rule(status);
    assert_eq!(verdict(&errors, 400, BODY), RampLimit);
    assert_eq!(verdict(&errors, 400, "{}"), Region);
}

#[test]
fn all_conditions_of_a_rule_must_hold() {
    let rule = Rule::code("house_limit", Exhausted)
        .and_status(400)
        .and_message("tenant 'x' is FROZEN");
    let errors = Errors::by_status().rule(rule);
    assert_eq!(verdict(&errors, 400, BODY), Exhausted);
    assert_eq!(verdict(&errors, 422, BODY), CallerFault);
    assert_eq!(
        verdict(&errors, 400, &BODY.replace("frozen", "fine")),
        CallerFault
    );
    assert_eq!(
        verdict(&errors, 400, &BODY.replace("house_limit", "other")),
        CallerFault
    );
}

#[test]
fn a_code_is_the_whole_of_a_field_and_words_begin_where_words_begin() {
    let errors = Errors::by_status().rule(Rule::code("house", Exhausted));
    assert_eq!(verdict(&errors, 400, BODY), CallerFault);
    let errors = Errors::by_status().rule(Rule::message("enant", Exhausted));
    assert_eq!(verdict(&errors, 400, BODY), CallerFault);
    let errors = Errors::by_status().rule(Rule::message("quota exceed", Exhausted));
    assert_eq!(verdict(&errors, 400, BODY), Exhausted);
}

#[test]
fn the_general_rules_can_be_left_out() {
    let body = r#"{"error":{"code":"insufficient_quota"}}"#;
    assert_eq!(verdict(&Errors::default(), 429, body), Exhausted);
    assert_eq!(verdict(&Errors::by_status(), 429, body), Throttled);
}

#[test]
fn a_rule_of_ones_own_comes_before_those_of_the_profile() {
    let profile = Profile::groq();
    assert_eq!(verdict(profile.error_rules(), 498, ""), Overloaded);
    let errors = profile
        .error_rules()
        .clone()
        .rule(Rule::status(498, KeyRejected));
    assert_eq!(verdict(&errors, 498, ""), KeyRejected);
}

#[test]
fn a_rule_can_say_that_a_failure_is_none() {
    let errors = Errors::default().rule(Rule::status(404, Success));
    assert_eq!(verdict(&errors, 404, r#"{"retry_after":5}"#), Success);
}

#[test]
fn a_rule_shows_its_conditions() {
    let rule = Rule::message("Tenant is frozen", Exhausted).and_status(400);
    let shown = r#"Rule { status: 400, message: "tenant is frozen", verdict: Exhausted }"#;
    assert_eq!(format!("{rule:?}"), shown);
}
