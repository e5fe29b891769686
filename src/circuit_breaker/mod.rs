//! Keeping calls away from an endpoint that is down.

mod future;
mod gate;
mod handle;
mod layer;
mod service;

pub use self::{
    future::{Permit, ResponseFuture},
    gate::{Gate, GateFuture, GateLayer},
    handle::CircuitBreakerHandle,
    layer::CircuitBreakerLayer,
    service::CircuitBreaker,
};
