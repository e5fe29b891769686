mod losses;
mod rules;
mod server;
mod trajectories;
