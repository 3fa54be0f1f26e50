//! The server's control: its ledger and its audit log.

pub mod audit;
pub mod ledger;

pub use audit::{AuditError, AuditLog};
pub use ledger::{Cut, Ledger, PhaseDurations};
