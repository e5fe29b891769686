//! A limit of calls in flight that learns what the server can take.

mod future;
mod handle;
mod layer;
mod service;

pub use self::{
    future::{Permit, ResponseFuture},
    handle::AdaptiveConcurrencyHandle,
    layer::AdaptiveConcurrencyLayer,
    service::AdaptiveConcurrency,
};
