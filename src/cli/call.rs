//! `tidegate call`: a request from the command line.

use std::process::ExitCode;

/// What to send, and to whom.
#[derive(Debug, clap::Args)]
pub struct CallArgs {}

/// Sends the request and prints its reply.
pub fn run(_args: CallArgs) -> ExitCode {
    super::failed(&"this build has no client")
}
