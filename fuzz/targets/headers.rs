//! The headers of hints and quotas: no values make their readers panic, and a hint is never zero.
//!
//! Lines of a name, a colon and a value.
#![no_main]

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use libfuzzer_sys::fuzz_target;
use tower_relay::{http::retry_hint, outcome::Hint, provider::Profile};

fuzz_target!(|data: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in data.split(|&byte| byte == b'\n').take(64) {
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    assert_ne!(retry_hint(&headers, now), Some(Duration::ZERO));
    for profile in [Profile::generic(), Profile::groq(), Profile::openai()] {
        let outcome = profile.classify(StatusCode::TOO_MANY_REQUESTS, &headers, b"", now);
        assert_ne!(outcome.hint(), Some(Hint::After(Duration::ZERO)));
        let _ = format!("{:?}", profile.rate_header_rules());
    }
});
