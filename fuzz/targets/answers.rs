//! The reader of answers: no bytes make it panic, and cuts between them change nothing.
//!
//! The first byte chooses what the head declares, the second where the cuts are.
#![no_main]

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use libfuzzer_sys::fuzz_target;
use tower_relay::provider::{Answer, AnswerReader, Profile};

fuzz_target!(|data: &[u8]| {
    let [declared, cut, body @ ..] = data else {
        return;
    };
    let mut headers = HeaderMap::new();
    let types = [
        "text/event-stream",
        "application/json",
        "application/vnd.amazon.eventstream",
    ];
    if let Some(name) = types.get(usize::from(declared % 4)) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(name));
    }
    let size = usize::from(*cut).max(1);
    let whole = read(&headers, [body]);
    assert_eq!(
        whole,
        read(&headers, body.chunks(size)),
        "cut at every {size}"
    );
});

fn read<'a>(headers: &HeaderMap, pieces: impl IntoIterator<Item = &'a [u8]>) -> Answer {
    let now = || SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let mut reader = AnswerReader::new(&Profile::generic(), headers);
    for piece in pieces {
        reader.feed(piece, now);
    }
    reader.finish(now);
    reader.answer()
}
