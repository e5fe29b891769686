//! Who may call.

use http::{HeaderMap, Uri, header::AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString};
use subtle::{Choice, ConstantTimeEq};

use crate::headers::{CREDENTIALS, query_key};

/// Whether one of `tokens` comes with a request, in whatever header callers of any provider put
/// their credential, or as the query's `key`. Without tokens everybody may call.
pub(super) fn may_call(tokens: &[SecretString], headers: &HeaderMap, uri: &Uri) -> bool {
    if tokens.is_empty() {
        return true;
    }
    let places = CREDENTIALS;
    let named = places.iter().flat_map(|name| {
        let values = headers.get_all(name).iter();
        values.filter_map(move |value| match *name == AUTHORIZATION {
            true => bearer(value.as_bytes()),
            false => Some(value.as_bytes()),
        })
    });
    let in_query = query_key(uri).map(str::as_bytes);
    let mut is_known = Choice::from(0);
    for shown in named.chain(in_query) {
        // Each is compared with all, so that time tells neither which nor how much of it fits. Its
        // length alone is no secret worth keeping.
        for token in tokens {
            is_known |= shown.ct_eq(token.expose_secret().as_bytes());
        }
    }
    is_known.into()
}

/// RFC 9110 11.1: the scheme is case-insensitive, and blanks follow it.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_in_every_place_where_callers_put_it_and_nothing_else_is() {
        let tokens = ["first-token", "second-token"].map(SecretString::from);
        let may = |name: &'static str, value: &str, path: &str| {
            let headers = [(
                name.parse().expect("a name"),
                value.parse().expect("a value"),
            )];
            may_call(
                &tokens,
                &headers.into_iter().collect(),
                &path.parse().expect("a path"),
            )
        };
        for (name, value, path, expected) in [
            ("authorization", "Bearer second-token", "/", true),
            ("authorization", "bearer  first-token", "/", true),
            ("x-api-key", "first-token", "/", true),
            ("api-key", "first-token", "/", true),
            ("x-goog-api-key", "second-token", "/", true),
            ("x-other", "x", "/?a=b&key=first-token", true),
            ("authorization", "first-token", "/", false),
            ("authorization", "Basic first-token", "/", false),
            ("x-api-key", "first-toke", "/", false),
            ("x-api-key", "first-tokens", "/", false),
            ("x-api-key", "", "/", false),
            ("x-other", "first-token", "/?token=first-token", false),
        ] {
            assert_eq!(may(name, value, path), expected, "{name}: {value} {path}");
        }
        assert!(may_call(&[], &HeaderMap::new(), &Uri::default()));
    }
}
