//! The algorithms that people use today, written from their papers and documentation, with their
//! documented defaults.

mod aws;
mod envoy;
mod netflix;
mod sre;
mod vector;

pub(crate) use self::{
    aws::AwsCubic,
    envoy::Envoy,
    netflix::{NetflixAimd, NetflixGradient2, NetflixVegas, Raw, Windowed},
    sre::AdaptiveThrottling,
    vector::VectorArc,
};
