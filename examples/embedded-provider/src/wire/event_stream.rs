//! The binary framing of AWS event streams: lengths, headers, payload, and a checksum after the
//! lengths and after the whole.

use bytes::Bytes;
use serde_json::Value;

/// A header's value that is a string.
const STRING: u8 = 7;

/// An event of this type.
pub(super) fn event(kind: &str, payload: &Value) -> Bytes {
    frame(
        &[(":message-type", "event"), (":event-type", kind)],
        payload,
    )
}

/// The exception of this type that ends a stream.
pub(super) fn exception(kind: &str, payload: &Value) -> Bytes {
    let headers = [(":message-type", "exception"), (":exception-type", kind)];
    frame(&headers, payload)
}

fn frame(own: &[(&str, &str)], payload: &Value) -> Bytes {
    let payload = payload.to_string();
    let mut headers = Vec::new();
    for (name, value) in own.iter().chain(&[(":content-type", "application/json")]) {
        headers.push(u8::try_from(name.len()).expect("names are short"));
        headers.extend(name.as_bytes());
        headers.push(STRING);
        let length = u16::try_from(value.len()).expect("values are short");
        headers.extend(length.to_be_bytes());
        headers.extend(value.as_bytes());
    }
    let length = |bytes: usize| {
        u32::try_from(bytes)
            .expect("a frame is small")
            .to_be_bytes()
    };
    let mut frame = Vec::new();
    // Lengths and their checksum are 12 bytes, the last checksum 4.
    frame.extend(length(16 + headers.len() + payload.len()));
    frame.extend(length(headers.len()));
    frame.extend(crc32(&frame).to_be_bytes());
    frame.extend(headers);
    frame.extend(payload.into_bytes());
    frame.extend(crc32(&frame).to_be_bytes());
    frame.into()
}

/// The CRC-32 of ISO 3309, as in Ethernet and gzip.
fn crc32(bytes: &[u8]) -> u32 {
    let rest = bytes.iter().fold(u32::MAX, |rest, byte| {
        (0..8).fold(rest ^ u32::from(*byte), |rest, _| {
            (rest >> 1) ^ if rest & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    });
    !rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_checksum_is_that_of_everybody() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_frame_tells_its_own_length_and_that_of_its_headers() {
        let frame = event("messageStart", &json!({ "role": "assistant" }));
        let number = |at: usize| {
            let bytes = frame[at..at + 4].try_into().expect("four bytes");
            u32::from_be_bytes(bytes) as usize
        };
        assert_eq!(number(0), frame.len());
        let headers = number(4);
        assert_eq!(number(8), crc32(&frame[..8]) as usize);
        let payload = &frame[12 + headers..frame.len() - 4];
        assert_eq!(payload, br#"{"role":"assistant"}"#);
        let end = frame.len() - 4;
        assert_eq!(number(end), crc32(&frame[..end]) as usize);
    }
}
