//! The immutable view of one moment: how it is made and how it is used is not known here.
pub mod settings;
