//! The rules that hold for all providers: families of codes and words, the first that matches.
//!
//! None of them is about one response. A code is believed under any status it makes sense with;
//! words are believed where the status leaves open what happened, and a clause that blames a
//! parameter of the request, quotes it or gives advice is not read at all.

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
    let reads_text = match said.parameter {
        Parameter::Other => !on.has(On::BAD.and(On::MISSING).and(On::INSIDE)),
        Parameter::Model | Parameter::Unsaid => true,
    };
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

const RESOURCE: Words = &[&["resource exhausted"]];

/// Money that is gone.
const MONEY: Words = &[
    &[
        "credit",
        "balance$",
        "balances$",
        "funds$",
        "fund$",
        "prepa",
        "spend limit",
        "spending limit",
        "spend cap",
        "spending cap",
        "spending quota",
        "payment$",
        "payments$",
        "invoice",
        "余额",
        "欠费",
        "充值",
    ],
    &[
        "deplet",
        "exhaust",
        "insufficient",
        "too low",
        "run out",
        "ran out",
        "out of",
        "no remaining",
        "remaining credits 0",
        "not enough",
        "reach",
        "exceed",
        "used all",
        "used up",
        "all available",
        "overdue",
        "negative",
        "more credit",
        "afford",
        "past due",
        "expired",
        "lack",
        "zero$",
        "below",
        "hit",
        "不足",
        "欠费",
        "充值",
    ],
];
const PAYMENT: Words = &[
    &["payment", "credit card", "invoice"],
    &[
        "invalid", "fail", "required", "declined", "missing", "overdue", "unpaid", "past due",
    ],
];
const MONEY_CODES: Words = &[&[
    "insufficient quota",
    "insufficient balance",
    "insufficient credit",
    "insufficient fund",
    "insufficient user quota",
    "balance insufficient",
    "not enough balance",
    "not enough credit",
    "credit balance",
    "credits exhausted",
    "credit exhausted",
    "credits depleted",
    "out of credits",
    "no credit",
    "spend limit",
    "spending limit",
    "spend cap",
    "spending cap",
    "usage limit reached",
    "usage limit exceeded",
    "usage limits",
    "payment required",
    "payment instrument",
    "payment failed",
    "payment overdue",
    "arrear",
    "overdue",
    "budget exceeded",
    "exceeded budget",
    "exceeded current quota",
    "current quota exceeded",
    "hard limit",
    "billing hard",
    "billing error",
    "billing not active",
    "billing disabled",
    "billing required",
    "billing inactive",
    "billing issue",
    "blocked api access",
    "prepaid",
    "prepay",
    "free quota",
    "free tier only",
    "subscription expired",
    "trial expired",
    "plan limit",
    "quota used up",
    "no quota",
    "out of quota",
    "set limit exceeded",
]];
const MONEY_PHRASES: Words = &[&[
    "billing hard limit",
    "payment required",
    "api usage limit",
    "usage limit * reached",
    "reached * usage limit",
    "exceeded * usage limit",
    "usage limit exceeded",
    "hit * usage limit",
    "budget has been exceeded",
    "budget exceeded",
    "exceeded * budget",
    "max budget",
    "insufficient quota",
    "insufficient * quota",
    "out of quota",
    "out of * quota",
    "quota * used up",
    "quota is used up",
    "monthly quota",
    "daily quota",
    "weekly quota",
    "billing to be enabled",
    "billing is disabled",
    "billing is not enabled",
    "requires billing",
    "billing * disabled",
    "billing not active",
    "billing is not active",
    "check your billing",
    "organizations billing",
    "issue with * billing",
    "key limit exceeded",
    "key limit reached",
    "free quota",
    "free tier * exhausted",
    "service has been paused",
    "good standing",
    "trial * ended",
    "trial * expired",
    "trial is over",
    "subscription * ended",
    "subscription * expired",
    "subscription * cancel",
    "额度",
    "配额已",
    "欠费",
    "余额不足",
]];
const LONG_CODES: Words = &[&[
    "per day",
    "per month",
    "per week",
    "daily limit",
    "daily quota",
    "daily request",
    "daily token",
    "monthly limit",
    "monthly quota",
    "weekly limit",
]];
const LONG_PERIODS: Words = &[
    &[
        "per day",
        "daily",
        "per month",
        "monthly",
        "month$",
        "per week",
        "weekly",
        "tpd$",
        "rpd$",
        "day$",
        "每日",
        "每天",
        "每月",
        "当日",
        "今日",
    ],
    &[
        "exceed", "limit", "too many", "quota", "reached", "used", "超", "上限", "限额",
    ],
];

const TOO_LARGE: Words = &[&[
    "request too large",
    "request is too large",
    "request exceeds the maximum",
    "weight exceeds",
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "input too long",
    "context length",
    "context window",
    "maximum context",
    "token count * exceeds",
    "exceeds the maximum number of tokens",
    "reduce your message size",
    "larger than the maximum",
]];
const TOO_LARGE_CODES: Words = &[&[
    "context length",
    "context window",
    "request too large",
    "weight exceeds",
    "prompt too long",
    "above max",
    "max length",
    "payload too large",
    "entity too large",
    "tokens limit exceeded",
    "token limit exceeded",
    "max tokens",
]];

const CONCURRENCY: Words = &[
    &[
        "concurren",
        "in flight",
        "parallel request",
        "simultaneous",
        "并发",
    ],
    &[
        "limit", "exceed", "too many", "max", "reached", "exhaust", "过", "超",
    ],
];

const RAMP: Words = &[
    &[
        "increas",
        "grow",
        "grew",
        "ramp",
        "spike",
        "spiking",
        "surge",
        "accelerat",
        "burst",
    ],
    &[
        "too quick",
        "too fast",
        "too sharp",
        "too rapid",
        "too sudden",
        "too steep",
        "sharply",
        "suddenly",
        "abrupt",
        "gradual",
        "accelerat",
        "ramp up",
        "burst rate",
    ],
];
const RAMP_PHRASES: Words = &[&[
    "slow down$",
    "^reduce your request rate",
    "scale requests more smoothly",
    "acceleration limit",
]];

const PLACE: Words = &[
    &[
        "your country",
        "your region",
        "your location",
        "your territory",
        "your area",
        "your jurisdiction",
        "user location",
        "unsupported countr",
        "unsupported region",
        "unsupported location",
        "unsupported territor",
        "countries regions",
        "country region",
        "this country",
        "this territory",
        "this location",
        "from * country",
        "from * location",
        "country or region",
        "geographic",
        "geo location",
        "sanction",
        "embargo",
        "virtual network",
        "firewall",
        "ip address",
        "your ip",
        "client ip",
        "source ip",
        "public access",
        "public network",
        "private endpoint",
        "private link",
        "network access",
        "network acl",
        "unknown network",
        "地区",
        "所在国家",
    ],
    &[
        "support",
        "unsupported",
        "available",
        "unavailable",
        "restrict",
        "block",
        "allow",
        "disallow",
        "prohibit",
        "forbidden",
        "denied",
        "deny",
        "disabled",
        "banned",
        "reject",
        "access",
        "whitelist",
        "permitted",
        "offer",
        "serve",
        "服务",
        "支持",
    ],
];
const PLACE_CODES: Words = &[&[
    "unsupported countr",
    "unsupported region",
    "unsupported location",
    "unsupported territor",
    "country not",
    "region not",
    "location not",
    "geo block",
    "geo restrict",
    "geoblock",
    "ip not a",
    "ip address not",
    "ip address block",
    "ip block",
    "ip denied",
    "ip restrict",
    "network acl",
    "request forbidden",
]];

const KEY: Words = &[
    &[
        "api key",
        "apikey",
        "access key",
        "secret key",
        "subscription key",
        "api token",
        "access token",
        "security token",
        "auth token",
        "bearer token",
        "id token",
        "jwt",
        "credential",
        "request signature",
        "consumer$",
        "令牌",
        "密钥",
    ],
    &[
        "invalid",
        "incorrect",
        "not valid",
        "isnt valid",
        "no valid",
        "expired",
        "revoked",
        "disabled",
        "blocked",
        "leaked",
        "suspended",
        "missing",
        "not found",
        "no api key",
        "deactivated",
        "no longer",
        "unknown",
        "unrecognized",
        "wrong",
        "rejected",
        "deleted",
        "does not exist",
        "doesnt exist",
        "required",
        "not provided",
        "does not match",
        "malformed",
        "inactive",
        "compromised",
        "无效",
        "过期",
        "错误",
        "不存在",
        "失效",
    ],
];
const KEY_PHRASES: Words = &[&[
    "authentication fail",
    "authentication fails",
    "failed to authenticate",
    "not authenticated",
    "unregistered callers",
    "unauthenticated",
    "no auth credentials",
    "invalid authentication",
    "authentication required",
    "missing authentication",
    "account * deactivated",
    "account * disabled",
    "account has been disabled",
    "account has been deactivated",
    "could not validate credentials",
    "unable to authenticate",
    "must authenticate",
    "invalid bearer",
    "invalid token$",
    "token expired",
    "token has expired",
    "token is expired",
    "login required",
    "provide a valid api key",
    "provide your api key",
    "signature * expired",
    "token has been revoked",
    "token was revoked",
    "token is revoked",
    "token revoked",
    "authorization fail",
    "身份验证失败",
    "鉴权失败",
]];
/// Whose the key is.
const OWNER: Words = &[
    &[
        "organization has been",
        "organization is",
        "organization was",
        "account has been",
        "account is",
        "account was",
        "workspace has been",
        "workspace is",
        "team has been",
        "user has been",
        "account may be",
        "account suspended",
        "account disabled",
    ],
    &[
        "disabled",
        "restricted",
        "suspended",
        "deactivated",
        "terminated",
        "banned",
        "closed",
        "locked",
        "frozen",
        "blocked",
    ],
];
const OWNER_CODES: Words = &[
    &["organization", "account", "workspace", "user"],
    &[
        "disabled",
        "restricted",
        "suspended",
        "deactivated",
        "terminated",
        "banned",
        "locked",
    ],
];
const KEY_CODES: Words = &[&[
    "api key",
    "apikey",
    "invalid key",
    "authenticat",
    "unauthenticated",
    "unauthorized",
    "unauthorised",
    "expired token",
    "token expired",
    "invalid token",
    "token invalid",
    "invalid signature",
    "incomplete signature",
    "signature does not match",
    "signature expired",
    "unrecognized client",
    "invalid client",
    "invalid access key",
    "access token",
    "account deactivated",
    "account disabled",
    "account suspended",
    "consumer suspended",
    "consumer invalid",
    "credential",
    "opt in required",
    "auth error",
    "invalid auth",
    "auth failed",
    "no auth",
]];

const POLICY: Words = &[&[
    "flagged",
    "content policy",
    "content policies",
    "usage polic",
    "content management",
    "safety system",
    "moderation",
    "content filter",
    "sensitive content",
    "inappropriate content",
    "敏感",
]];
const POLICY_CODES: Words = &[&[
    "content policy",
    "content filter",
    "moderation",
    "invalid prompt",
    "policy violation",
    "responsible ai",
    "data inspection",
    "prohibited content",
    "blocklist",
    "sensitive",
    "safety$",
    "cyber policy",
    "inappropriate",
]];

const MODEL_CODES: Words = &[
    &["model", "deployment", "engine$", "inference profile"],
    &[
        "not found",
        "not exist",
        "not available",
        "not support",
        "not active",
        "not open",
        "decommission",
        "deprecat",
        "retired",
        "unsupported",
        "invalid",
        "denied",
        "blocked",
        "access",
        "unknown",
        "no access",
        "permission",
        "does not",
    ],
];
const MODEL: Words = &[&[
    "model * does not exist",
    "model * doesnt exist",
    "model * not exist",
    "model * not found",
    "model not found",
    "model not exist",
    "model does not exist",
    "models * is not found",
    "model * was not found",
    "model * could not be found",
    "model * isnt found",
    "model is not available",
    "model * is not available",
    "model * not available for your",
    "model is not supported",
    "model * is not supported for",
    "model it is not supported",
    "model * isnt supported",
    "model id * isnt supported",
    "invalid model$",
    "invalid model name",
    "invalid model id",
    "^invalid model",
    "unknown model",
    "unsupported model",
    "no such model",
    "not a valid model",
    "not valid model",
    "not a supported model",
    "not a known model",
    "model identifier is invalid",
    "model name is invalid",
    "model is invalid",
    "model id is invalid",
    "model * decommission",
    "model * deprecated",
    "model * retired",
    "model * has been removed",
    "model * end of life",
    "model * reached the end of",
    "model * no longer",
    "have access to * model",
    "access to * model",
    "access to the model",
    "access to model",
    "access model",
    "verified to use the model",
    "use this model",
    "no endpoints found",
    "no allowed providers",
    "deployment * does not exist",
    "deployment * not found",
    "deployment not found",
    "model * not allowed",
    "not allowed to access model",
    "not allowed to use * model",
    "model * not servable",
    "model * not deployed",
    "model * not enabled",
    "model * not accessible",
    "model * is blocked",
    "model is blocked",
    "模型不存在",
    "无权访问模型",
]];

const RATE_CODES: Words = &[&[
    "rate limit",
    "ratelimit",
    "rate exceeded",
    "too many request",
    "throttl",
    "request limit exceeded",
    "requests limit",
    "request limit",
    "limit requests",
    "service quota exceeded",
    "throughput exceeded",
    "quota exceeded",
    "tpm limit",
    "rpm limit",
    "tokens per minute",
    "requests per minute",
    "resource exhausted",
    "rate quota",
]];
const RATE: Words = &[
    &[
        "rate limit",
        "ratelimit",
        "request limit",
        "requests limit",
        "requests rate",
        "request rate",
        "quota",
        "per minute",
        "per second",
        "tpm$",
        "rpm$",
        "throughput",
    ],
    &[
        "exceed", "reach", "hit$", "too many", "too high", "over the", "limited", "is full",
    ],
];
const RATE_PHRASES: Words = &[&[
    "too many requests",
    "rate exceeded",
    "rate limited",
    "throttled",
    "rate limit error",
    "ratelimiterror",
    "error code 429",
    "status code 429",
    "http 429",
    "请求过于频繁",
    "速率限制",
    "限流",
    "频率",
    "请求过多",
]];

const CAPACITY_CODES: Words = &[&[
    "overload",
    "over capacity",
    "no capacity",
    "capacity exceeded",
    "capacity exhausted",
    "insufficient capacity",
    "out of capacity",
    "at capacity",
    "capacity error",
    "tier capacity",
    "not ready",
    "engine busy",
    "server busy",
    "service busy",
    "system busy",
    "system resource",
    "high demand",
    "high load",
    "queue exceeded",
    "queue full",
]];
const CAPACITY: Words = &[&[
    "overloaded",
    "over capacity",
    "at capacity",
    "full capacity",
    "saturated",
    "high demand",
    "heavy load",
    "high load",
    "high traffic",
    "heavy traffic",
    "no capacity",
    "capacity exceeded",
    "capacity * exceeded",
    "insufficient capacity",
    "capacity is exhausted",
    "not enough capacity",
    "out of capacity",
    "lack of capacity",
    "capacity constraint",
    "limited capacity",
    "not ready for inference",
    "model is not ready",
    "server is busy",
    "server busy",
    "servers are busy",
    "too busy",
    "currently busy",
    "currently loading",
    "is loading",
    "queue is full",
    "繁忙",
    "负载",
    "过载",
    "饱和",
    "访问量过大",
]];
const UNAVAILABLE_CODES: Words = &[&[
    "unavailable",
    "capacity",
    "no healthy",
    "model not ready",
    "busy",
    "no available",
]];
const UNAVAILABLE: Words = &[&[
    "service unavailable",
    "temporarily unavailable",
    "currently unavailable",
    "no healthy upstream",
    "no available channel",
    "no available server",
    "no instances available",
    "service is not available",
]];

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
        rule(V::Throttled, O::BAD).codes(&[&["rate limit", "ratelimit", "too many request", "throttl", "request limit exceeded", "service quota exceeded", "throughput exceeded", "limit requests"]]),
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
