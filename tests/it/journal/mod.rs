//! The journal: nothing acknowledged is lost, whatever the disk does.

mod disk;
mod faults;
mod inode;
