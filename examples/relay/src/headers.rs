//! What of a message is forwarded, and what belongs to one connection or one caller alone.

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE,
    },
    uri::PathAndQuery,
};

/// Where callers put their credential, whatever the provider.
const CREDENTIALS: [HeaderName; 4] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// RFC 9110 7.6.1: what an intermediary removes even if `Connection` does not name it.
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The query parameter in which Gemini takes a key.
const QUERY_KEY: &str = "key";

/// Whether callers put credentials in this header.
pub(crate) fn is_credential(name: &HeaderName) -> bool {
    CREDENTIALS.contains(name)
}

/// Whether this header says how a message is sent rather than what it says.
pub(crate) fn is_framing(name: &HeaderName) -> bool {
    is_hop_by_hop(name) || [HOST, CONTENT_LENGTH, EXPECT].contains(name)
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
/// relay's own host, and every credential. Answers are asked for as they are, because what is
/// compressed tells the relay neither its usage nor its error.
pub(crate) fn remove_callers_own(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.remove(HOST);
    // The body is here already.
    headers.remove(EXPECT);
    for name in CREDENTIALS {
        headers.remove(name);
    }
    if headers.contains_key(ACCEPT_ENCODING) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
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
            ("trailer", "x"),
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
            ("anthropic-version", "2023-06-01"),
        ]);
        remove_callers_own(&mut map);
        assert_eq!(map, headers(&[("anthropic-version", "2023-06-01")]));
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
