//! Where events go.

pub mod kafka;
pub mod lake;
