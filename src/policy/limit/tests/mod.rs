mod rules;
mod server;
mod trajectories;
