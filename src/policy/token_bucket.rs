/// Stub.
#[derive(Clone, Debug)]
pub struct TokenBucket;
/// Stub.
#[derive(Clone, Debug)]
pub struct Reservation;
