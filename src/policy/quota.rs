/// Stub.
#[derive(Clone, Debug)]
pub struct Quota;
/// Stub.
#[derive(Clone, Debug)]
pub struct QuotaBuilder;
