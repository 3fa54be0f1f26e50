//! A server with commands of its own, set by the environment as `tidegate serve` is:
//! `TIDEGATE_WORKERS=2 cargo run --example handlers`. It prints where it listens, serves until a signal
//! has drained it, and exits with its ledger's code.

use std::process::ExitCode;
use std::time::Duration;

use tidegate::config::Settings;
use tidegate::proto::ErrorCode;
use tidegate::server::Server;
use tidegate::service::Failure;

fn main() -> ExitCode {
    let mut settings = Settings::default();
    settings.environment(std::env::vars_os());
    let config = match settings.config() {
        Ok(config) => config,
        Err(errors) => {
            errors.iter().for_each(|error| eprintln!("{error}"));
            return ExitCode::from(2);
        }
    };
    let server = Server::builder()
        .config(config)
        .signals(true)
        // In place: microseconds, no waiting.
        .route(0x20, |request, responder| responder.reply(request.payload()))
        // On the blocking pool: a file.
        .route_blocking(0x21, |_request, responder| match std::fs::read("/etc/hostname") {
            Ok(name) => responder.reply(&name),
            Err(_) => responder.fail(Failure::of(ErrorCode::Unavailable)),
        })
        // Later, from another thread.
        .route(0x22, |_request, responder| {
            if let Some(later) = responder.defer() {
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(5));
                    later.reply("done");
                });
            }
        })
        // Never well.
        .route(0x23, |_request, responder| responder.fail(Failure::of(ErrorCode::NotFound)))
        .start();
    let server = match server {
        Ok(server) => server,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let admin = server.admin_addr().map_or("off".to_owned(), |address| format!("http://{address}"));
    println!("handlers listens on {}; admin {admin}", server.local_addrs()[0]);
    let ended = server.wait();
    println!("{}", ended.ledger);
    ExitCode::from(ended.exit_code())
}
