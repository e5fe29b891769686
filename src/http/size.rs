//! Tokens guessed from bytes.

use std::num::NonZeroU32;

use http::Request;
use http_body::Body;

use crate::policy::InvalidConfig;

/// How many bytes of a request make one token of the prompt, on the average.
///
/// ```
/// use tower_relay::http::BytesPerToken;
///
/// assert_eq!(BytesPerToken::DEFAULT.tokens(4_801), 1_201);
/// assert_eq!(BytesPerToken::new(2.5)?.tokens(10), 4);
/// assert!(BytesPerToken::new(0.0).is_err());
/// # Ok::<(), tower_relay::policy::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytesPerToken {
    thousandths: NonZeroU32,
}

impl BytesPerToken {
    /// Four bytes: the usual ratio of English text. JSON's own syntax and other scripts have
    /// fewer, so that a real prompt costs about what its whole request body says.
    pub const DEFAULT: Self = Self {
        thousandths: NonZeroU32::new(4_000).expect("four thousand is not zero"),
    };

    /// A ratio of `bytes` to one token, kept to three decimals.
    ///
    /// # Errors
    ///
    /// If `bytes` is not between 0.001 and 1,000,000.
    pub fn new(bytes: f64) -> Result<Self, InvalidConfig> {
        let thousandths = (bytes * 1_000.0).round();
        let sensible = (1.0..=1e9).contains(&thousandths);
        // A float that is none of these becomes 0 here.
        match NonZeroU32::new(thousandths as u32) {
            Some(thousandths) if sensible => Ok(Self { thousandths }),
            _ => Err(InvalidConfig::new(
                "bytes_per_token",
                "must lie between 0.001 and 1,000,000: English text has about 4",
            )),
        }
    }

    /// The tokens in `bytes`, rounded up.
    #[must_use]
    pub fn tokens(self, bytes: u64) -> u64 {
        let thousandths = u128::from(bytes) * 1_000;
        let tokens = thousandths.div_ceil(u128::from(self.thousandths.get()));
        u64::try_from(tokens).unwrap_or(u64::MAX)
    }
}

impl Default for BytesPerToken {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// An estimate of the input tokens of `request`: its body's size over `ratio`, rounded up.
///
/// Nothing is read. A body that does not know its size counts with the least it can be, which
/// may be nothing; images and other attachments in it count as if they were text, so for them
/// this is far too much.
///
/// ```
/// use http_body_util::Full;
/// use tower_relay::http::{BytesPerToken, input_tokens_by_size};
///
/// let request = http::Request::new(Full::<bytes::Bytes>::from("{\"model\":\"m\"}"));
/// assert_eq!(input_tokens_by_size(&request, BytesPerToken::DEFAULT), 4);
/// ```
#[must_use]
pub fn input_tokens_by_size<B: Body>(request: &Request<B>, ratio: BytesPerToken) -> u64 {
    ratio.tokens(request.body().size_hint().lower())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_rounds_up_and_never_overflows() {
        let four = BytesPerToken::DEFAULT;
        assert_eq!([0, 1, 4, 5].map(|bytes| four.tokens(bytes)), [0, 1, 1, 2]);
        let least = BytesPerToken::new(0.001).expect("it is allowed");
        assert_eq!(least.tokens(u64::MAX), u64::MAX);
        assert_eq!(least.tokens(3), 3_000);
    }

    #[test]
    fn a_ratio_that_makes_no_sense_is_refused() {
        for bytes in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e308, 0.000_1, 2e6] {
            assert!(BytesPerToken::new(bytes).is_err(), "{bytes}");
        }
    }
}
