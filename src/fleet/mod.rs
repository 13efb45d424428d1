//! Do all proxies of a fleet agree on who owns what: each tells the others through a store, for as long as it runs. What follows
//! from a disagreement is a person's business.
pub mod board;
pub mod keeper;
pub mod notice;
pub mod peers;
pub mod settings;
pub mod starts;
