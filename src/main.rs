//! The `tidegate` program: `serve`, `call`, `journal`, `load`, `token`, `doctor`, `completions`, `man`.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os(), std::env::vars_os())
}
