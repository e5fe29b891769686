//! Readers, and the frames of an AWS event stream.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use tower_relay::provider::{Answer, AnswerReader, Profile};

pub(crate) const SSE: &str = "text/event-stream; charset=utf-8";
pub(crate) const JSON: &str = "application/json";
pub(crate) const AWS: &str = "application/vnd.amazon.eventstream";

pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

pub(crate) fn reader(profile: &Profile, content_type: &str) -> AnswerReader {
    let mut headers = HeaderMap::new();
    if !content_type.is_empty() {
        let value = HeaderValue::from_str(content_type).expect("a content type");
        headers.insert(CONTENT_TYPE, value);
    }
    AnswerReader::new(profile, &headers)
}

/// What a reader of any provider makes of these pieces.
pub(crate) fn read<'a>(content_type: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> Answer {
    let mut reader = reader(&Profile::generic(), content_type);
    for piece in pieces {
        reader.feed(piece, now);
    }
    reader.finish(now);
    reader.answer()
}

pub(crate) fn events(text: &str) -> Answer {
    read(SSE, [text.as_bytes()])
}

pub(crate) fn json(text: &str) -> Answer {
    read(JSON, [text.as_bytes()])
}

/// A frame with its kind (`event` or `exception`), its type and its payload.
pub(crate) fn frame(kind: &str, name: &str, payload: &str) -> Vec<u8> {
    let mut headers = Vec::new();
    let of_type = format!(":{kind}-type");
    for (header, value) in [
        (&*of_type, name),
        (":content-type", JSON),
        (":message-type", kind),
    ] {
        headers.push(u8::try_from(header.len()).expect("a short name"));
        headers.extend(header.as_bytes());
        headers.push(7);
        headers.extend(
            u16::try_from(value.len())
                .expect("a short value")
                .to_be_bytes(),
        );
        headers.extend(value.as_bytes());
    }
    let number = |size: usize| u32::try_from(size).expect("a small frame").to_be_bytes();
    let mut frame = Vec::new();
    frame.extend(number(16 + headers.len() + payload.len()));
    frame.extend(number(headers.len()));
    frame.extend(crc32(&frame).to_be_bytes());
    frame.extend(headers);
    frame.extend(payload.as_bytes());
    frame.extend(crc32(&frame).to_be_bytes());
    frame
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= 0xEDB8_8320;
            }
        }
    }
    !crc
}

#[test]
fn the_checksum_is_that_of_the_standard() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
}
