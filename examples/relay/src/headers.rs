//! What of a message is forwarded, and what belongs to one connection or one caller alone.

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri, Version,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE, VIA,
    },
    uri::PathAndQuery,
};

/// Where callers put their credential, whatever the provider.
pub(crate) const CREDENTIALS: [HeaderName; 4] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// RFC 9110 7.6.1: what an intermediary removes even if `Connection` does not name it. `Trailer`
/// is none of them: it goes to the message's reader.
const HOP_BY_HOP: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Where callers of a relay say which class they are of.
pub(crate) const CLASS: HeaderName = HeaderName::from_static("x-relay-class");

/// The query parameter in which Gemini takes a key.
const QUERY_KEY: &str = "key";

/// Whether callers put credentials in this header.
pub(crate) fn is_credential(name: &HeaderName) -> bool {
    CREDENTIALS.contains(name)
}

/// Whether this header says how a message is sent rather than what it says.
pub(crate) fn is_framing(name: &HeaderName) -> bool {
    is_hop_by_hop(name) || [HOST, CONTENT_LENGTH, EXPECT, TRAILER, VIA].contains(name)
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name) || name.as_str().starts_with("proxy-")
}

/// Removes what is meant for this connection alone, in either direction.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // RFC 9110 7.6.1: "Intermediaries MUST parse a received Connection header field before a
    // message is forwarded and, for each connection-option in this field, remove any header or
    // trailer field(s) from the message with the same name".
    let options = headers.get_all(CONNECTION).iter();
    let named: Vec<HeaderName> = options
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    let meant_for_us: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name))
        .cloned()
        .collect();
    for name in meant_for_us {
        headers.remove(name);
    }
}

/// Removes what a request says to the relay rather than to the provider: hop-by-hop headers, the
/// relay's own host, the class, and every credential. Answers are asked for as they are, because what is
/// compressed tells the relay neither its usage nor its error.
pub(crate) fn remove_callers_own(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.remove(HOST);
    // The body is here already, whole and without its trailers; its length is that of what is sent.
    for name in [EXPECT, TRAILER, CONTENT_LENGTH] {
        headers.remove(name);
    }
    for name in CREDENTIALS {
        headers.remove(name);
    }
    headers.remove(CLASS);
    if headers.contains_key(ACCEPT_ENCODING) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// What the relay is called in `Via`.
const PSEUDONYM: &str = "tower-relay";
/// Relays may stand one behind the other, but not many.
const MOST_RELAYS: usize = 5;

/// RFC 9110 7.6.3: "An HTTP-to-HTTP gateway MUST send an appropriate Via header field in each
/// inbound request message". Answers it may leave alone, and so they are the provider's own.
pub(crate) fn add_via(headers: &mut HeaderMap, received: Version) {
    let via = match received {
        Version::HTTP_10 => "1.0 tower-relay",
        Version::HTTP_2 => "2.0 tower-relay",
        _ => "1.1 tower-relay",
    };
    headers.append(VIA, HeaderValue::from_static(via));
}

/// Whether a request has come through so many relays that one of them must be its own upstream.
pub(crate) fn goes_in_circles(headers: &HeaderMap) -> bool {
    let values = headers.get_all(VIA).iter();
    let hops = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let relays = hops.filter(|hop| hop.trim_ascii().ends_with(PSEUDONYM.as_bytes()));
    relays.count() >= MOST_RELAYS
}

/// Versions of Anthropic's API from this one on are called with a bearer token.
const BEARER_SINCE: &[u8] = b"2026-10-21";

/// Puts the pool's key where clients of the version that a request for Anthropic names have it:
/// older ones in `x-api-key`, current ones in `authorization`.
pub(crate) fn fit_credential(headers: &mut HeaderMap) {
    const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
    const OLDER: HeaderName = HeaderName::from_static("x-api-key");

    // Dates in this form are ordered as texts.
    let is_newer = |version: &HeaderValue| version.as_bytes() >= BEARER_SINCE;
    if !headers.get(VERSION).is_some_and(is_newer) {
        return;
    }
    let Some(key) = headers.remove(OLDER) else {
        return;
    };
    let bearer = [b"Bearer ", key.as_bytes()].concat();
    let mut bearer = HeaderValue::from_bytes(&bearer).expect("it was a header's value before");
    bearer.set_sensitive(true);
    headers.insert(AUTHORIZATION, bearer);
}

/// The key that some callers put into the query.
pub(crate) fn query_key(uri: &Uri) -> Option<&str> {
    let mut pairs = uri.query()?.split('&').map(|pair| pair.split_once('='));
    let key = pairs.find_map(|pair| pair.filter(|(name, _)| *name == QUERY_KEY));
    key.map(|(_, key)| key)
}

/// The path and query of a request, without the key that some callers put there.
pub(crate) fn without_key(uri: &Uri) -> PathAndQuery {
    let path = uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let Some(query) = path.query() else {
        return path;
    };
    let is_key = |pair: &&str| pair.split('=').next() == Some(QUERY_KEY);
    if !query.split('&').any(|pair| is_key(&pair)) {
        return path;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_key(pair)).collect();
    let whole = match kept.is_empty() {
        true => path.path().to_owned(),
        false => format!("{}?{}", path.path(), kept.join("&")),
    };
    whole.parse().expect("a part of a valid query is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, value.parse().expect("a header value"))
        });
        pairs.collect()
    }

    #[test]
    fn what_belongs_to_a_connection_is_removed_with_what_it_names() {
        let mut map = headers(&[
            ("connection", "keep-alive, X-Mine"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "secret"),
            ("proxy-connection", "close"),
            ("x-theirs", "2"),
            ("host", "h"),
        ]);
        remove_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("x-theirs", "2"), ("host", "h")]));
    }

    #[test]
    fn no_credential_of_the_callers_is_left() {
        let mut map = headers(&[
            ("authorization", "Bearer a"),
            ("x-api-key", "b"),
            ("api-key", "c"),
            ("x-goog-api-key", "d"),
            ("host", "relay"),
            ("expect", "100-continue"),
            ("content-length", "7"),
            ("trailer", "x"),
            ("te", "gzip"),
            ("x-relay-class", "batch"),
            ("anthropic-version", "2023-06-01"),
        ]);
        remove_callers_own(&mut map);
        assert_eq!(map, headers(&[("anthropic-version", "2023-06-01")]));
    }

    #[test]
    fn the_key_goes_where_clients_of_the_version_have_it() {
        for (version, name, value) in [
            ("2023-06-01", "x-api-key", "secret"),
            ("2026-10-20", "x-api-key", "secret"),
            ("2026-10-21", "authorization", "Bearer secret"),
            ("2027-01-01", "authorization", "Bearer secret"),
        ] {
            let mut map = headers(&[("x-api-key", "secret")]);
            let version: HeaderValue = version.parse().expect("a value");
            map.insert("anthropic-version", version.clone());
            fit_credential(&mut map);
            assert_eq!(map.len(), 2, "{version:?}");
            assert_eq!(map[name], value, "{version:?}");
        }
        let mut none = headers(&[("x-api-key", "secret")]);
        fit_credential(&mut none);
        assert_eq!(none, headers(&[("x-api-key", "secret")]));
    }

    #[test]
    fn a_request_that_has_come_through_many_relays_goes_in_circles() {
        let mut map = headers(&[("via", "1.1 other, 1.1 tower-relay")]);
        for relays in 2..=5 {
            assert!(!goes_in_circles(&map), "{relays}");
            add_via(&mut map, Version::HTTP_2);
        }
        assert!(goes_in_circles(&map));
        assert_eq!(
            map.get_all("via").iter().next_back().expect("one"),
            "2.0 tower-relay"
        );
    }

    #[test]
    fn the_key_alone_leaves_the_query() {
        for (path, left) in [
            ("/v1?key=a", "/v1"),
            ("/v1?alt=sse&key=a&x=%20", "/v1?alt=sse&x=%20"),
            ("/v1?keys=a&monkey=b", "/v1?keys=a&monkey=b"),
            ("/v1?key", "/v1"),
            ("/v1?", "/v1?"),
        ] {
            let uri = path.parse().expect("a path");
            assert_eq!(without_key(&uri).as_str(), left);
        }
    }
}
