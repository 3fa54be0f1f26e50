//! What the service manager is told. The socket here is where systemd's would be.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;
use tidegate::proto::{GoAwayReason, GoAwayStage};

use crate::support::{Client, PATIENCE, Process};

/// Where messages of a process arrive.
struct Manager {
    dir: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Manager {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { dir, socket }
    }

    /// Starts a process that it manages.
    fn start(&self, mut command: Command, settings: &[(&str, &str)]) -> Process {
        command.env("NOTIFY_SOCKET", self.dir.path().join("notify"));
        Process::start(command, settings)
    }

    /// The lines of the next message.
    fn message(&self) -> Vec<String> {
        let mut message = [0; 1024];
        let n = self.socket.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..n]).lines().map(str::to_owned).collect()
    }

    /// The lines of the next message that has one which begins like this.
    fn message_with(&self, beginning: &str) -> Vec<String> {
        loop {
            let message = self.message();
            if message.iter().any(|line| line.starts_with(beginning)) {
                return message;
            }
        }
    }
}

#[test]
fn it_is_ready_once_connections_are_accepted_and_says_how_many_there_are() {
    let manager = Manager::new();
    let process = manager.start(Process::command(), &[]);
    let ready = manager.message_with("READY=1");
    assert_eq!(ready, ["READY=1".to_owned(), format!("MAINPID={}", process.id())]);
    assert_eq!(manager.message(), ["STATUS=serving: 0 connections on 2 workers"]);
    let (client, _) = Client::ready(process.address);
    assert_eq!(manager.message(), ["STATUS=serving: 1 connections on 2 workers"]);
    drop(client);
}

#[test]
fn the_stop_is_told_while_new_connections_are_still_served_and_the_drain_gets_its_time() {
    let manager = Manager::new();
    let process = manager.start(Process::command(), &[("DRAIN_ANNOUNCE_MS", "30000"), ("DRAIN_TIMEOUT_MS", "60000")]);
    process.signal(Signal::TERM);
    assert_eq!(manager.message_with("STOPPING"), ["STOPPING=1"]);
    let drain = manager.message();
    assert!(drain[0].starts_with("EXTEND_TIMEOUT_USEC="), "{drain:?}");
    let status = "STATUS=draining (signal:SIGTERM), announce: 0 connections left, 0 requests in flight, ";
    assert!(drain[1].starts_with(status), "{drain:?}");
    let (mut late, _) = Client::ready(process.address);
    late.assert_alive();
    let next = manager.message();
    assert!(next[0].starts_with("EXTEND_TIMEOUT_USEC=") && next[1].contains("1 connections left"), "{next:?}");
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code, Some(3), "the second signal cuts it");
}

#[test]
fn a_drain_tells_its_phase() {
    let manager = Manager::new();
    let process = manager.start(Process::command(), &[("DRAIN_NOTICE_MS", "60000"), ("DRAIN_TIMEOUT_MS", "90000")]);
    let (mut client, _) = Client::ready(process.address);
    process.signal(Signal::TERM);
    client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    let told = manager.message_with("STATUS=draining (signal:SIGTERM), notice: 1 connections left");
    assert!(told[0].starts_with("EXTEND_TIMEOUT_USEC="), "{told:?}");
    drop(client);
    manager.message_with("STATUS=drained");
    assert_eq!(process.wait().code, Some(0));
}

#[test]
fn a_reload_is_told_from_its_beginning_to_its_end() {
    let manager = Manager::new();
    let process = manager.start(Process::command(), &[]);
    manager.message_with("READY=1");
    process.signal(Signal::HUP);
    let reloading = manager.message_with("RELOADING=1");
    let since = reloading[1].strip_prefix("MONOTONIC_USEC=").and_then(|usec| usec.parse::<u64>().ok());
    assert!(since.is_some_and(|usec| usec > 0), "{reloading:?}");
    assert_eq!(manager.message(), ["READY=1"]);
}

#[test]
fn the_watchdog_hears_from_live_workers_as_often_as_it_asks_to() {
    let manager = Manager::new();
    let command = || Process::command_under_shell("export WATCHDOG_PID=$$ WATCHDOG_USEC=200000");
    let process = manager.start(command(), &[]);
    for _ in 0..5 {
        manager.message_with("WATCHDOG=1");
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code, Some(0));
}

#[test]
fn a_watchdog_that_waits_for_another_process_is_not_answered() {
    let manager = Manager::new();
    let mut command = Process::command();
    command.env("WATCHDOG_USEC", "200000").env("WATCHDOG_PID", "1");
    let _process = manager.start(command, &[]);
    // A sign of life comes along with the first status, where one is wanted.
    assert_eq!(manager.message_with("STATUS="), ["STATUS=serving: 0 connections on 2 workers"]);
}

#[test]
fn a_manager_that_is_gone_does_not_hold_up_the_service() {
    let manager = Manager::new();
    let process = manager.start(Process::command(), &[]);
    manager.message_with("READY=1");
    drop(manager);
    Client::ready(process.address).0.assert_alive();
    process.signal(Signal::TERM);
    let exit = process.wait();
    assert!(exit.code == Some(0) && exit.stderr.contains("systemd could not be told"), "{exit:?}");
}
