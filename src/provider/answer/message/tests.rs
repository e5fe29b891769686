use std::time::SystemTime;

use super::*;

fn fed(json: &str) -> Message {
    let mut message = Message::new();
    message.feed_all(json.as_bytes(), &mut Account::new(Profile::generic()));
    message
}

#[test]
fn the_rules_of_errors_are_shown_the_message() {
    let mut message = fed("  {\"error\":{\"code\":502}}   ");
    assert!(message.found.is_error);
    assert_eq!(message.error_payload(), b"{\"error\":{\"code\":502}}");
}

#[test]
fn of_a_message_too_long_they_are_shown_the_error_alone() {
    let filler = "x".repeat(2 * MOST_PAYLOAD);
    let json = format!(
        "{{\"response\":{{\"instructions\":\"{filler}\",\"error\":{{\"code\": \"a}}\"}},\"usage\":null}}}}"
    );
    let mut whole = fed(&json);
    assert!(whole.found.is_error);
    assert_eq!(whole.error_payload(), b"{\"error\":{\"code\": \"a}\"}}");
    let mut in_pieces = Message::new();
    let mut account = Account::new(Profile::generic());
    for byte in json.bytes() {
        in_pieces.feed_all(&[byte], &mut account);
    }
    assert_eq!(in_pieces.error_payload(), whole.error_payload());
}

#[test]
fn of_an_error_that_is_too_long_as_well_they_are_shown_the_beginning() {
    let filler = "x".repeat(MOST_PAYLOAD);
    let mut message = fed(&format!("{{\"error\":{{\"message\":\"{filler}\"}}}}"));
    let payload = message.error_payload();
    assert_eq!(payload.len(), MOST_PAYLOAD);
    assert!(payload.starts_with(b"{\"error\":{\"message\":\"xxx"));
}

#[test]
fn an_element_is_shown_without_the_array_around_it() {
    let mut account = Account::new(Profile::generic());
    let mut message = Message::new();
    let json: &[u8] = b"[{\"a\":1},\n{\"error\":{\"code\":8}}]";
    let (read, place) = message.feed(json, &mut account);
    assert_eq!((read, place), (8, Place::ElementEnd));
    message.end_element(&mut account, &|| SystemTime::UNIX_EPOCH);
    let (_, place) = message.feed(&json[read..], &mut account);
    assert_eq!(place, Place::ElementEnd);
    assert_eq!(message.error_payload(), b"{\"error\":{\"code\":8}}");
}

#[test]
fn base64_is_read_wherever_it_is_cut() {
    let mut wrapped = Wrapped::new();
    for part in ["e", "", "yJ0eX", "BlIjo", "gICAi+\\/\\/+In0="] {
        wrapped.decode(part.as_bytes(), &Profile::generic());
    }
    let expected = [b"{\"type\":   \"".as_slice(), &[0xFB, 0xFF, 0xFE], b"\"}"].concat();
    let plain = wrapped.message.payload.bytes;
    assert_eq!(plain, expected);
}
