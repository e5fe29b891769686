//! Who may call.

use http::{HeaderMap, Uri, header::AUTHORIZATION};
use secrecy::ExposeSecret;
use subtle::{ConditionallySelectable, ConstantTimeEq};
use tower_relay::http::Class;

use crate::{
    config::Token,
    headers::{CREDENTIALS, query_key},
};

/// Somebody who may call, and the class that their token has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'t> {
    pub(super) class: Option<&'t Class>,
}

/// Who calls: one of `tokens` has to come with a request, in whatever header callers of any provider
/// put their credential, or as the query's `key`. Without tokens everybody may call.
pub(super) fn caller<'t>(
    tokens: &'t [Token],
    headers: &HeaderMap,
    uri: &Uri,
) -> Option<Caller<'t>> {
    if tokens.is_empty() {
        return Some(Caller { class: None });
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
    // The place of the one that fits, counted from one.
    let mut known = 0;
    for shown in named.chain(in_query) {
        // Each is compared with all, so that time tells neither which nor how much of it fits. Its
        // length alone is no secret worth keeping.
        for (place, token) in (1_u64..).zip(tokens) {
            let fits = shown.ct_eq(token.secret.expose_secret().as_bytes());
            known.conditional_assign(&place, fits);
        }
    }
    let token = tokens.get((known as usize).checked_sub(1)?)?;
    Some(Caller {
        class: token.class.as_ref(),
    })
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
        let tokens =
            [("first-token", None), ("second-token", Some("batch"))].map(|(secret, class)| Token {
                secret: secret.into(),
                class: class.map(Class::new),
            });
        let may = |name: &'static str, value: &str, path: &str| {
            let headers = [(
                name.parse().expect("a name"),
                value.parse().expect("a value"),
            )];
            let headers = headers.into_iter().collect();
            let path = path.parse().expect("a path");
            caller(&tokens, &headers, &path).map(|caller| caller.class.map(Class::name))
        };
        let of_batch = Some(Some("batch"));
        for (name, value, path, expected) in [
            ("authorization", "Bearer second-token", "/", of_batch),
            ("authorization", "bearer  first-token", "/", Some(None)),
            ("x-api-key", "first-token", "/", Some(None)),
            ("api-key", "first-token", "/", Some(None)),
            ("x-goog-api-key", "second-token", "/", of_batch),
            ("x-other", "x", "/?a=b&key=first-token", Some(None)),
            ("authorization", "first-token", "/", None),
            ("authorization", "Basic first-token", "/", None),
            ("x-api-key", "first-toke", "/", None),
            ("x-api-key", "first-tokens", "/", None),
            ("x-api-key", "", "/", None),
            ("x-other", "first-token", "/?token=first-token", None),
        ] {
            assert_eq!(may(name, value, path), expected, "{name}: {value} {path}");
        }
        let anybody = caller(&[], &HeaderMap::new(), &Uri::default());
        assert!(anybody.is_some_and(|anybody| anybody.class.is_none()));
    }
}
