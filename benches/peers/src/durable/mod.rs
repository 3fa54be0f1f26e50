//! Work that is on the disk before it is answered: what it costs tidegate, other servers, and a bare loop.

pub mod disk;
pub mod load;
pub mod speak;
