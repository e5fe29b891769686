//! The rules that hold for all providers: families of codes and words, the first that matches.
//!
//! None of them is about one response. A code is believed under any status it makes sense with;
//! words are believed where the status leaves open what happened, and a clause that blames a
//! parameter of the request, quotes it or gives advice is not read at all.

#[rustfmt::skip]
mod vocabulary;

use self::vocabulary::{
    CAPACITY, CAPACITY_CODES, CONCURRENCY, KEY, KEY_CODES, KEY_PHRASES, LONG_CODES, LONG_PERIODS,
    MODEL, MODEL_CODES, MONEY, MONEY_CODES, MONEY_PHRASES, OWNER, OWNER_CODES, PAYMENT, PLACE,
    PLACE_CODES, POLICY, POLICY_CODES, RAMP, RAMP_PHRASES, RATE, RATE_CODES, RATE_PHRASES,
    RESOURCE, TOO_LARGE, TOO_LARGE_CODES, UNAVAILABLE, UNAVAILABLE_CODES,
};
use super::{
    said::{Parameter, Said},
    words::{Lines, Words},
};
use crate::outcome::Verdict;

/// A set of kinds of status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct On(u16);

impl On {
    /// 400 and other refusals of the request.
    const BAD: Self = Self(1);
    const AUTH: Self = Self(2);
    const PAY: Self = Self(4);
    const DENY: Self = Self(8);
    const MISSING: Self = Self(16);
    const RATE: Self = Self(32);
    /// 5xx, 408, 409, 424.
    const FAULT: Self = Self(64);
    /// 498, 503, 529.
    const BUSY: Self = Self(128);
    /// No status: an error inside an answer that does not say which it would have had.
    const INSIDE: Self = Self(256);
    const ANY: Self = Self(511);

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn not(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn of(status: Option<u16>) -> Self {
        match status {
            None => Self::INSIDE,
            Some(401) => Self::AUTH,
            Some(402) => Self::PAY,
            Some(403 | 451) => Self::DENY,
            Some(404 | 410) => Self::MISSING,
            Some(429) => Self::RATE,
            // Some have it for capacity, some for tokens.
            Some(498) => Self::BUSY.and(Self::BAD),
            Some(503 | 529) => Self::BUSY,
            Some(408 | 409 | 424 | 500..) => Self::FAULT,
            Some(_) => Self::BAD,
        }
    }
}

/// What else must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum If {
    Always,
    /// The server names no short wait: then a long quota is what is spent.
    NoShortWait,
    /// No code says `RESOURCE_EXHAUSTED`, which is said of minutes and of days.
    NotResource,
    /// The body asked for more than the whole limit.
    NeverFits,
    Page,
}

struct Rule {
    verdict: Verdict,
    on: On,
    codes: Words,
    text: Words,
    only: If,
    /// Whether the hint in the body's `RetryInfo` is of another, smaller window.
    long: bool,
}

const fn rule(verdict: Verdict, on: On) -> Rule {
    Rule {
        verdict,
        on,
        codes: &[],
        text: &[],
        only: If::Always,
        long: false,
    }
}

impl Rule {
    const fn codes(mut self, codes: Words) -> Self {
        self.codes = codes;
        self
    }

    const fn text(mut self, text: Words) -> Self {
        self.text = text;
        self
    }

    const fn only(mut self, condition: If) -> Self {
        self.only = condition;
        self
    }

    const fn long(mut self) -> Self {
        self.long = true;
        self
    }
}

/// What the rules made of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) verdict: Verdict,
    /// It is a quota of a day or more.
    pub(super) is_long: bool,
}

/// What `said`, under a status, means. `has_short_wait` is asked at most twice.
pub(super) fn classify(
    said: &Said,
    status: Option<u16>,
    has_short_wait: impl Fn() -> bool,
) -> Option<Match> {
    let on = On::of(status);
    // Under 400 and its like, what names a parameter is about the parameter.
    let names_parameter =
        said.parameter == Parameter::Other && on.has(On::BAD.and(On::MISSING).and(On::INSIDE));
    // A page's title repeats the status, but for that of a firewall.
    let is_read = !said.is_page || on.has(On::DENY);
    let reads_text = is_read && !names_parameter;
    let holds = |rule: &&Rule| {
        let matches = |lines: &Lines, words| lines.have(words);
        rule.on.has(on)
            && (rule.only != If::Page || said.is_page)
            && (rule.only != If::NeverFits || never_fits(&said.text))
            && (rule.only != If::NotResource || !said.codes.have(RESOURCE))
            && (matches!(rule.only, If::Page | If::NeverFits)
                || matches(&said.codes, rule.codes)
                || (reads_text && matches(&said.text, rule.text)))
            && (rule.only != If::NoShortWait || !has_short_wait())
    };
    let rule = RULES.iter().find(holds)?;
    Some(Match {
        verdict: rule.verdict,
        is_long: rule.long,
    })
}

#[rustfmt::skip]
const RULES: &[Rule] = {
    use On as O;
    use Verdict as V;
    const REFUSED: On = O::BAD.and(O::DENY).and(O::INSIDE).and(O::FAULT);
    &[
        // Codes of capacity come with words of every kind.
        rule(V::Overloaded, O::RATE).codes(CAPACITY_CODES),
        // A request larger than a whole limit never fits, whatever else the limit is called.
        rule(V::CallerFault, O::RATE.and(O::PAY).and(O::BAD).and(O::DENY).and(O::INSIDE)).codes(TOO_LARGE_CODES).text(TOO_LARGE),
        rule(V::CallerFault, O::RATE.and(O::PAY).and(O::INSIDE)).only(If::NeverFits),
        // Of what is counted while it runs, waiting returns it, even where it is called a budget.
        rule(V::Throttled, O::ANY.not(O::AUTH).not(O::MISSING)).codes(CONCURRENCY).text(CONCURRENCY),
        rule(V::RampLimit, O::ANY.not(O::AUTH).not(O::MISSING)).codes(&[&["slow down", "burst rate", "accelerat", "ramp"]]).text(RAMP),
        rule(V::RampLimit, O::ANY.not(O::AUTH).not(O::MISSING)).text(RAMP_PHRASES),
        rule(V::Region, O::ANY.not(O::RATE).not(O::BUSY)).codes(PLACE_CODES).text(PLACE),
        // Long quotas and money, whatever the status.
        rule(V::Exhausted, O::ANY).codes(MONEY_CODES).text(MONEY),
        rule(V::Exhausted, O::ANY.not(O::BUSY)).text(PAYMENT),
        rule(V::Exhausted, O::ANY.not(O::BUSY)).text(MONEY_PHRASES),
        rule(V::Exhausted, O::BAD.and(O::DENY).and(O::PAY)).text(&[&["quota"], &["exhaust", "used up", "deplet"]]).only(If::NotResource),
        rule(V::Exhausted, O::ANY).codes(LONG_CODES).long(),
        rule(V::Exhausted, O::ANY.not(O::FAULT).not(O::BUSY).not(O::MISSING)).text(LONG_PERIODS).only(If::NoShortWait).long(),
        rule(V::Exhausted, O::RATE.and(O::INSIDE)).text(&[&["limit 0$"], &["quota"]]).long(),
        rule(V::Exhausted, O::RATE.and(O::AUTH).and(O::DENY).and(O::INSIDE).and(O::FAULT)).text(&[&["exceeded your current quota"]]).only(If::NotResource),
        // Credentials.
        rule(V::KeyRejected, REFUSED.and(O::MISSING)).codes(KEY_CODES).text(KEY),
        rule(V::KeyRejected, REFUSED).text(KEY_PHRASES),
        rule(V::KeyRejected, REFUSED.not(O::FAULT)).codes(OWNER_CODES).text(OWNER),
        // What a request contains or refers to.
        rule(V::CallerFault, REFUSED).codes(POLICY_CODES).text(POLICY),
        rule(V::CallerFault, O::DENY).text(&[&["cachedcontent", "cached content", "file$", "batch"], &["not found", "does not exist"]]),
        // Models.
        rule(V::ModelDenied, O::BAD.and(O::DENY).and(O::MISSING).and(O::INSIDE)).codes(MODEL_CODES).text(MODEL),
        rule(V::ModelDenied, O::MISSING).text(&[&["^model "]]),
        // Capacity comes as 429, too.
        rule(V::Overloaded, O::ANY.not(O::AUTH).not(O::PAY).not(O::MISSING).not(O::DENY).not(O::BAD)).codes(CAPACITY_CODES).text(CAPACITY),
        rule(V::Overloaded, O::BAD.and(O::DENY)).codes(&[&["overload", "capacity exceeded", "no capacity"]]).text(&[&["overloaded", "over capacity", "繁忙"]]),
        // Rates, where the status is not theirs.
        rule(V::Throttled, O::DENY.and(O::FAULT).and(O::BUSY).and(O::INSIDE)).codes(RATE_CODES),
        rule(V::Throttled, O::BAD).codes(&[&["rate limit", "ratelimit", "too many request", "throttl", "request limit exceeded", "service quota exceeded", "throughput exceeded", "limit requests", "per second exceeded", "per minute exceeded"]]),
        rule(V::Throttled, REFUSED.and(O::BUSY)).text(RATE),
        rule(V::Throttled, REFUSED.and(O::BUSY).and(O::PAY)).text(RATE_PHRASES),
        rule(V::Overloaded, O::FAULT.and(O::INSIDE)).codes(UNAVAILABLE_CODES).text(UNAVAILABLE),
        // Pages of a firewall, and the words that callers from some places get.
        rule(V::Region, O::DENY).only(If::Page),
        rule(V::Region, O::DENY).text(&[&["^request not allowed "]]),
        // Without a status its classes have to be told apart.
        rule(V::CallerFault, O::INSIDE).codes(&[&["invalid request", "invalid argument", "invalid value", "invalid image", "invalid param", "validation", "bad request", "unsupported", "too large", "too long", "unprocessable", "failed precondition", "out of range"]]),
        rule(V::ModelDenied, O::INSIDE).codes(&[&["permission", "access denied", "forbidden"]]),
        rule(V::CallerFault, O::INSIDE).codes(&[&["not found"]]),
    ]
};

/// Whether a text says that more was asked for than the whole limit: "Limit 30000, Requested
/// 30872".
fn never_fits(text: &Lines) -> bool {
    let number = |line: &str, word: &str| -> Option<u64> {
        let (_, rest) = line.split_once(word)?;
        rest.split(' ').next()?.parse().ok()
    };
    text.lines().any(|line| {
        let asked = number(line, " requested ");
        asked.is_some() && number(line, " limit ").is_some_and(|limit| asked > Some(limit))
    })
}
