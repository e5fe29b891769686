//! AWS's event stream, written byte by byte: a prelude of two lengths and their checksum, headers,
//! the payload, and the checksum of all.

/// The events of a text in the form of server-sent events, as the wire has them.
pub(crate) fn encode(events: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for event in events
        .split("\n\n")
        .filter(|event| !event.trim().is_empty())
    {
        let field = |name: &str| {
            let mut lines = event.lines();
            lines
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let kind = field("event:").expect("an event has a name");
        wire.extend(message(kind, field("data:").unwrap_or("")));
    }
    wire
}

fn message(kind: &str, payload: &str) -> Vec<u8> {
    let (class, key) = match kind.ends_with("Exception") {
        true => ("exception", ":exception-type"),
        false => ("event", ":event-type"),
    };
    let mut headers = Vec::new();
    for (name, value) in [
        (":message-type", class),
        (key, kind),
        (":content-type", "application/json"),
    ] {
        headers.push(name.len() as u8);
        headers.extend(name.bytes());
        // Type 7 is a text, with its length in two bytes.
        headers.push(7);
        headers.extend((value.len() as u16).to_be_bytes());
        headers.extend(value.bytes());
    }
    let length = 12 + headers.len() + payload.len() + 4;
    let mut message = Vec::new();
    message.extend((length as u32).to_be_bytes());
    message.extend((headers.len() as u32).to_be_bytes());
    message.extend(crc32(&message).to_be_bytes());
    message.extend(headers);
    message.extend(payload.bytes());
    message.extend(crc32(&message).to_be_bytes());
    message
}

/// CRC-32 as in IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| match crc & 1 {
            0 => crc >> 1,
            _ => crc >> 1 ^ 0xEDB8_8320,
        })
    })
}

#[test]
fn the_checksum_is_the_known_one() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
}
