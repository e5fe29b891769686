//! The page that shows how it is. It has nothing to hide itself: it asks for what it shows, and sends
//! the caller's token with that.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body_util::{BodyExt, Full};
use ring::rand::{SecureRandom, SystemRandom};

use crate::upstream::Body;

const PAGE: &str = include_str!("page.html");
/// Where the page has the nonce.
const PLACE: &str = "{{nonce}}";

const ISOLATION: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// The page, whose style and script are run by a nonce that is told once.
pub(in crate::serve) fn answer() -> Response<Body> {
    let nonce = random();
    let page = Full::new(Bytes::from(PAGE.replace(PLACE, &nonce)));
    let mut response = Response::new(page.map_err(|never| match never {}).boxed_unsync());
    *response.headers_mut() = headers(&nonce);
    response
}

fn headers(nonce: &str) -> HeaderMap {
    // Whatever somebody got into the page by a name, it would neither run nor be sent anywhere. The
    // icon is in the page, or the browser would ask an upstream for one.
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let policy = HeaderValue::try_from(policy).expect("the nonce is in hexadecimal digits");
    let fixed = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (ISOLATION, "same-origin"),
    ];
    let fixed = fixed.map(|(name, value)| (name, HeaderValue::from_static(value)));
    let policy = (CONTENT_SECURITY_POLICY, policy);
    fixed.into_iter().chain([policy]).collect()
}

/// 128 bits that nobody can guess, in hexadecimal digits.
pub(in crate::serve) fn random() -> String {
    let mut bytes = [0; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.expect("TLS works on this system, which takes the same randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_and_script_have_the_nonce_and_nothing_in_the_page_is_asked_of_others() {
        assert_eq!(PAGE.matches("<style").count(), 1);
        assert_eq!(PAGE.matches("<script").count(), 1);
        assert!(PAGE.contains("<style nonce=\"{{nonce}}\">"));
        assert!(PAGE.contains("<script nonce=\"{{nonce}}\">"));
        assert_eq!(PAGE.matches(PLACE).count(), 2);
        for of_others in [
            "https://",
            "src=",
            "@import",
            "url(",
            "innerHTML",
            "Storage",
        ] {
            assert!(!PAGE.contains(of_others), "{of_others}");
        }
        let namespace = "http://www.w3.org/2000/svg";
        let addresses = PAGE.matches("http://").count();
        assert_eq!(addresses, PAGE.matches(namespace).count());
    }

    #[test]
    fn no_nonce_is_told_twice() {
        let policy = || answer().headers()[CONTENT_SECURITY_POLICY].clone();
        assert_ne!(policy(), policy());
        assert_eq!(random().len(), 32);
    }
}
