//! The bodies of errors: none makes their classifier panic, a failure is never a success, and a
//! hint is never zero.
//!
//! The first two bytes are the status, the third is the provider.
#![no_main]

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use libfuzzer_sys::fuzz_target;
use tower_relay::{
    outcome::{Hint, Outcome},
    provider::Profile,
};

const PROVIDERS: [&str; 10] = [
    "anthropic",
    "openai",
    "azure-openai",
    "gemini",
    "bedrock",
    "groq",
    "mistral",
    "deepseek",
    "openrouter",
    "generic",
];

fuzz_target!(|data: &[u8]| {
    let [high, low, provider, body @ ..] = data else {
        return;
    };
    let status = 400 + u16::from_be_bytes([*high, *low]) % 200;
    let status = StatusCode::from_u16(status).expect("a status below 600");
    let provider = PROVIDERS[usize::from(*provider) % PROVIDERS.len()];
    let profile = Profile::of(provider).expect("a provider that is known");
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    check(profile.classify(status, &HeaderMap::new(), body, now));
    for event in [None, Some("error")] {
        check(profile.error_rules().classify_inside(event, body, now));
    }
});

fn check(outcome: Outcome) {
    assert!(!outcome.is_success());
    assert_ne!(outcome.hint(), Some(Hint::After(Duration::ZERO)));
}
