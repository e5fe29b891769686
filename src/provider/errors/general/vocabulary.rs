//! The families of codes and of wordings, as data.
//!
//! A group lists what is said in one sense; a table of several groups wants one of each in the
//! same clause. Codes and clauses are matched by the same means, but their families are apart:
//! a code is meant for programs and can be shorter.

use crate::provider::errors::words::Words;

pub(super) const RESOURCE: Words = &[
    &["resource exhausted"],
];

/// Money that is gone.
pub(super) const MONEY: Words = &[
    &["credit", "balance$", "balances$", "funds$", "fund$", "prepa", "spend limit",
        "spending limit", "spend cap", "spending cap", "spending quota", "payment$", "payments$",
        "invoice", "余额", "欠费", "充值"],
    &["deplet", "exhaust", "insufficient", "too low", "run out", "ran out", "out of",
        "no remaining", "remaining credits 0", "not enough", "reached", "reaching", "exceed", "used all",
        "used up", "all available", "overdue", "negative", "more credit", "afford", "past due",
        "expired", "lack", "zero$", "below", "hit", "不足", "欠费", "充值"],
];

pub(super) const PAYMENT: Words = &[
    &["payment", "credit card", "invoice"],
    &["invalid", "fail", "required", "declined", "missing", "overdue", "unpaid", "past due"],
];

pub(super) const MONEY_CODES: Words = &[
    &["insufficient quota", "insufficient balance", "insufficient credit", "insufficient fund",
        "insufficient user quota", "balance insufficient", "not enough balance",
        "not enough credit", "credit balance", "credits exhausted", "credit exhausted",
        "credits depleted", "out of credits", "no credit", "spend limit", "spending limit",
        "spend cap", "spending cap", "usage limit reached", "usage limit exceeded", "usage limits",
        "payment required", "payment instrument", "payment failed", "payment overdue", "arrear", "negative balance",
        "overdue", "budget exceeded", "exceeded budget", "exceeded current quota",
        "current quota exceeded", "hard limit", "billing hard", "billing error",
        "billing not active", "billing disabled", "billing required", "billing inactive",
        "billing issue", "blocked api access", "prepaid", "prepay", "free quota", "free tier only",
        "subscription expired", "trial expired", "plan limit", "quota used up", "no quota",
        "out of quota", "set limit exceeded"],
];

pub(super) const MONEY_PHRASES: Words = &[
    &["billing hard limit", "payment required", "api usage limit", "usage limit * reached",
        "reached * usage limit", "exceeded * usage limit", "usage limit exceeded",
        "hit * usage limit", "budget has been exceeded", "budget exceeded", "exceeded * budget",
        "max budget", "insufficient quota", "insufficient * quota", "out of quota",
        "out of * quota", "quota * used up", "quota is used up", "monthly quota", "daily quota",
        "weekly quota", "billing to be enabled", "billing is disabled", "billing is not enabled",
        "requires billing", "billing * disabled", "billing not active", "billing is not active",
        "check your billing", "organizations billing", "issue with * billing",
        "key limit exceeded", "key limit reached", "free quota", "free tier * exhausted",
        "service has been paused", "good standing", "in arrears", "trial * ended", "trial * expired",
        "trial is over", "subscription * ended", "subscription * expired", "subscription * cancel",
        "额度", "配额已", "欠费", "余额不足"],
];

pub(super) const LONG_CODES: Words = &[
    &["per day", "per month", "per week", "daily limit", "daily quota", "daily request",
        "daily token", "monthly limit", "monthly quota", "weekly limit"],
];

pub(super) const LONG_PERIODS: Words = &[
    &["per day", "daily", "per month", "monthly", "month$", "per week", "weekly", "tpd$", "rpd$",
        "day$", "每日", "每天", "每月", "当日", "今日"],
    &["exceed", "limit", "too many", "quota", "reached", "used", "超", "上限", "限额"],
];

pub(super) const TOO_LARGE: Words = &[
    &["request too large", "request is too large", "request exceeds the maximum", "weight exceeds",
        "prompt is too long", "prompt too long", "input is too long", "input too long",
        "context length", "context window", "maximum context", "token count * exceeds",
        "exceeds the maximum number of tokens", "reduce your message size",
        "larger than the maximum"],
];

pub(super) const TOO_LARGE_CODES: Words = &[
    &["context length", "context window", "request too large", "weight exceeds", "prompt too long",
        "above max", "max length", "payload too large", "entity too large",
        "tokens limit exceeded", "token limit exceeded", "max tokens"],
];

pub(super) const CONCURRENCY: Words = &[
    &["concurren", "in flight", "parallel request", "simultaneous", "并发"],
    &["limit", "exceed", "too many", "max", "reached", "exhaust", "过", "超"],
];

pub(super) const RAMP: Words = &[
    &["increas", "grow", "grew", "ramp", "spike", "spiking", "surge", "accelerat", "burst"],
    &["too quick", "too fast", "too sharp", "too rapid", "too sudden", "too steep", "sharply",
        "suddenly", "abrupt", "gradual", "accelerat", "ramp up", "burst rate"],
];

pub(super) const RAMP_PHRASES: Words = &[
    &["slow down$", "^reduce your request rate", "scale requests more smoothly",
        "acceleration limit"],
];

pub(super) const PLACE: Words = &[
    &["your country", "your region", "your location", "your territory", "your area",
        "your jurisdiction", "user location", "unsupported countr", "unsupported region",
        "unsupported location", "unsupported territor", "countries regions", "country region",
        "this country", "this territory", "this location", "from * country", "from * location",
        "country or region", "geographic", "geo location", "sanction", "embargo",
        "virtual network", "firewall", "ip address", "your ip", "vpn", "vpns$", "proxies$", "tor exit", "ip$", "client ip", "source ip",
        "public access", "public network", "private endpoint", "private link", "network access",
        "network acl", "unknown network", "地区", "所在国家"],
    &["support", "unsupported", "available", "unavailable", "restrict", "block", "allow",
        "disallow", "prohibit", "forbidden", "denied", "deny", "disabled", "banned", "reject",
        "access", "whitelist", "permitted", "offer", "serve", "服务", "支持"],
];

pub(super) const PLACE_CODES: Words = &[
    &["unsupported countr", "unsupported region", "unsupported location", "unsupported territor",
        "country not", "region not", "location not", "geo block", "geo restrict", "geoblock",
        "ip not a", "ip address not", "ip address block", "ip block", "ip denied", "ip restrict",
        "network acl", "request forbidden"],
];

pub(super) const KEY: Words = &[
    &["api key", "apikey", "access key", "secret key", "subscription key", "api token",
        "access token", "security token", "auth token", "bearer token", "id token", "jwt",
        "credential", "request signature", "consumer$", "令牌", "密钥"],
    &["invalid", "incorrect", "not valid", "isnt valid", "no valid", "expired", "revoked",
        "disabled", "blocked", "leaked", "suspended", "missing", "not found", "no api key",
        "deactivated", "no longer", "unknown", "unrecognized", "wrong", "rejected", "deleted",
        "does not exist", "doesnt exist", "required", "not provided", "does not match",
        "malformed", "inactive", "compromised", "无效", "过期", "错误", "不存在", "失效"],
];

pub(super) const KEY_PHRASES: Words = &[
    &["authentication fail", "authentication fails", "failed to authenticate", "not authenticated",
        "unregistered callers", "unauthenticated", "no auth credentials", "invalid authentication",
        "authentication required", "missing authentication", "account * deactivated",
        "account * disabled", "account has been disabled", "account has been deactivated",
        "could not validate credentials", "unable to authenticate", "must authenticate",
        "invalid bearer", "invalid token$", "token expired", "token has expired",
        "token is expired", "login required", "provide a valid api key", "provide your api key",
        "signature * expired", "token has been revoked", "token was revoked", "token is revoked",
        "token revoked", "authorization fail", "身份验证失败", "鉴权失败"],
];

/// Whose the key is.
pub(super) const OWNER: Words = &[
    &["organization has been", "organization is", "organization was", "account has been",
        "account is", "account was", "workspace has been", "workspace is", "team has been",
        "user has been", "account may be", "account suspended", "account disabled"],
    &["disabled", "restricted", "suspended", "deactivated", "terminated", "banned", "closed",
        "locked", "frozen", "blocked"],
];

pub(super) const OWNER_CODES: Words = &[
    &["organization", "account", "workspace", "user"],
    &["disabled", "restricted", "suspended", "deactivated", "terminated", "banned", "locked"],
];

pub(super) const KEY_CODES: Words = &[
    &["api key", "apikey", "invalid key", "authenticat", "unauthenticated", "unauthorized",
        "unauthorised", "expired token", "token expired", "invalid token", "token invalid",
        "invalid signature", "incomplete signature", "signature does not match",
        "signature expired", "unrecognized client", "invalid client", "invalid access key",
        "access token", "account deactivated", "account disabled", "account suspended",
        "consumer suspended", "consumer invalid", "credential", "opt in required", "auth error",
        "invalid auth", "auth failed", "no auth"],
];

pub(super) const POLICY: Words = &[
    &["flagged", "content policy", "content policies", "usage polic", "content management",
        "safety system", "moderation", "content filter", "sensitive content",
        "inappropriate content", "敏感"],
];

pub(super) const POLICY_CODES: Words = &[
    &["content policy", "content filter", "moderation", "invalid prompt", "policy violation",
        "responsible ai", "data inspection", "prohibited content", "blocklist", "sensitive",
        "safety$", "cyber policy", "inappropriate"],
];

pub(super) const MODEL_CODES: Words = &[
    &["model", "deployment", "engine$", "inference profile"],
    &["not found", "not exist", "not available", "not support", "not active", "not open",
        "decommission", "deprecat", "retired", "unsupported", "invalid", "denied", "blocked",
        "access", "unknown", "no access", "permission", "does not"],
];

pub(super) const MODEL: Words = &[
    &["model * does not exist", "model * doesnt exist", "model * not exist", "model * not found",
        "model not found", "model not exist", "model does not exist", "models * is not found",
        "model * was not found", "model * could not be found", "model * isnt found",
        "model is not available", "model * is not available", "model * not available for your",
        "model is not supported", "model * is not supported for", "model it is not supported",
        "model * isnt supported", "model id * isnt supported", "invalid model$",
        "invalid model name", "invalid model id", "^invalid model", "unknown model",
        "unsupported model", "no such model", "no model named", "no model with", "no model called",
        "inference profile identifier is invalid", "inference profile * not found",
        "inference profile * does not exist", "not a valid model", "not valid model",
        "not a supported model", "not a known model", "model identifier is invalid",
        "model name is invalid", "model is invalid", "model id is invalid", "model * decommission",
        "model * deprecated", "model * retired", "model * has been removed", "model * end of life",
        "model * reached the end of", "model * no longer", "have access to * model",
        "access to * model", "access to the model", "access to model", "access model",
        "verified to use the model", "use this model", "no endpoints found",
        "no allowed providers", "deployment * does not exist", "deployment * not found",
        "deployment not found", "model * not allowed", "not allowed to access model",
        "not allowed to use * model", "model * not servable", "model * not deployed",
        "model * not enabled", "model * not accessible", "model * is blocked", "model is blocked",
        "模型不存在", "无权访问模型"],
];

pub(super) const RATE_CODES: Words = &[
    &["rate limit", "ratelimit", "rate exceeded", "too many request", "throttl",
        "request limit exceeded", "requests limit", "request limit", "limit requests",
        "service quota exceeded", "throughput exceeded", "quota exceeded", "tpm limit",
        "rpm limit", "tokens per minute", "requests per minute", "resource exhausted",
        "rate quota", "per second exceeded", "per minute exceeded"],
];

pub(super) const RATE: Words = &[
    &["rate limit$", "rate limits$", "rate limited$", "ratelimit$", "rate limiting$", "request limit", "requests limit", "requests rate",
        "request rate", "quota", "per minute", "per second", "tpm$", "rpm$", "throughput"],
    &["exceed", "reached", "reaching", "hit$", "too many", "too high", "over the", "limited", "is full"],
];

pub(super) const RATE_PHRASES: Words = &[
    &["too many requests", "more than * requests in", "more than * requests per", "rate exceeded", "rate limited", "throttled", "rate limit error",
        "ratelimiterror", "error code 429", "status code 429", "http 429", "请求过于频繁", "速率限制", "限流",
        "频率", "请求过多"],
];

pub(super) const CAPACITY_CODES: Words = &[
    &["overload", "over capacity", "no capacity", "capacity exceeded", "capacity exhausted",
        "insufficient capacity", "out of capacity", "at capacity", "capacity error",
        "tier capacity", "not ready", "engine busy", "server busy", "service busy", "system busy",
        "system resource", "high demand", "high load", "queue exceeded", "queue full"],
];

pub(super) const CAPACITY: Words = &[
    &["overloaded", "over capacity", "at capacity", "full capacity", "saturated", "high demand",
        "heavy load", "high load", "high traffic", "heavy traffic", "no capacity",
        "capacity exceeded", "capacity * exceeded", "insufficient capacity",
        "capacity is exhausted", "not enough capacity", "out of capacity", "lack of capacity",
        "capacity constraint", "limited capacity", "not ready for inference", "model is not ready",
        "server is busy", "server busy", "servers are busy", "too busy", "currently busy",
        "currently loading", "is loading", "queue is full", "繁忙", "负载", "过载", "饱和", "访问量过大"],
];

pub(super) const UNAVAILABLE_CODES: Words = &[
    &["unavailable", "capacity", "no healthy", "model not ready", "busy", "no available"],
];

pub(super) const UNAVAILABLE: Words = &[
    &["service unavailable", "temporarily unavailable", "currently unavailable",
        "no healthy upstream", "no available channel", "no available server",
        "no instances available", "service is not available"],
];
