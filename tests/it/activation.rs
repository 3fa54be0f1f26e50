//! Sockets that somebody else keeps: systemd's socket activation.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Output;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tidegate::config::Config;
use tidegate::proto::{Command, GoAwayReason, GoAwayStage};
use tidegate::server::Server;

use crate::support::{Client, Latch, PATIENCE, Process, config};

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// An instance, as systemd would start it now that somebody waits in the backlog.
fn instance(socket: &TcpListener) -> Process {
    let settings = [("WORKERS", "1"), ("DRAIN_NOTICE_MS", "60000"), ("DRAIN_TIMEOUT_MS", "90000")];
    let process = Process::start(Process::command_activated_by(socket.try_clone().unwrap(), &settings), &settings);
    assert_eq!(process.address, socket.local_addr().unwrap(), "TIDEGATE_LISTEN is not bound");
    process
}

#[test]
fn whoever_connects_during_a_drain_or_after_it_waits_for_the_next_process() {
    let socket = listener();
    let address = socket.local_addr().unwrap();
    let mut first = Client::connect(address);
    let one = instance(&socket);
    first.auth(b"");
    first.assert_alive();

    one.signal(Signal::TERM);
    first.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    let mut during = Client::connect(address);
    let asked = [during.request(Command::AUTH, b""), during.request(Command::ECHO, b"during")];
    first.assert_alive();
    drop(first);
    let exit = one.wait();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(exit.stdout.contains("1 served, 0 refused"), "{exit:?}");
    let mut after = Client::connect(address);

    let two = instance(&socket);
    during.expect_ready(asked[0]);
    assert_eq!(during.expect_reply(asked[1], Command::ECHO), b"during");
    after.auth(b"");
    after.assert_alive();
    two.signal(Signal::TERM);
    for mut client in [during, after] {
        client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    }
    assert_eq!(two.wait().code, Some(0));
}

/// What a process says that was passed this in place of a listening socket.
fn refused(passed: impl Into<OwnedFd>) -> Output {
    let mut command = Process::command_under_shell("exec 3<&0; export LISTEN_FDS=1 LISTEN_PID=$$");
    command.args(["serve", "--admin", "off"]).stdin(passed.into());
    command.output().unwrap()
}

#[test]
fn what_is_not_a_listening_tcp_socket_is_refused_by_name_and_exits_with_2() {
    let unix = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unbound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    for passed in [OwnedFd::from(unix), udp.into(), unbound.into(), file.into()] {
        let output = refused(passed);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{output:?}");
        assert!(told.contains("ListenStream="), "{told}");
    }
}

#[test]
fn sockets_that_were_passed_to_another_process_are_let_be() {
    let mut command = Process::command();
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    let process = Process::start(command, &[]);
    Client::ready(process.address).0.assert_alive();
}

#[test]
fn nobody_gets_in_unasked_by_a_socket_that_is_open_to_all() {
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let error = Server::builder().config(config()).listeners(vec![everywhere]).start().unwrap_err().to_string();
    assert!(error.contains("TIDEGATE_INSECURE"), "{error}");
}

#[test]
fn every_worker_accepts_from_a_socket_that_they_share() {
    let socket = listener();
    let address = socket.local_addr().unwrap();
    let latch = Latch::new();
    let held = latch.clone();
    let config = Config { workers: 3, ..config() };
    let server = Server::builder().config(config).listeners(vec![socket.try_clone().unwrap()]);
    let server = server
        .route(0x20, move |_, responder| {
            held.pass();
            responder.reply(b"");
        })
        .start()
        .unwrap();
    assert_eq!(server.local_addrs(), [address]);
    // Each keeps its worker busy: the next one is for another.
    let mut clients: Vec<(Client, u32)> = Vec::new();
    for busy in 1..=3 {
        let (mut client, _) = Client::ready(address);
        let asked = client.request(Command(0x20), b"");
        clients.push((client, asked));
        latch.wait_for(busy);
    }
    latch.open();
    for (mut client, asked) in clients {
        client.expect_reply(asked, Command(0x20));
    }
    assert!(server.stats().iter().all(|stats| stats.connections_accepted.get() == 1));
    drop(server);
    TcpStream::connect(address).expect("the socket is its keeper's, and still open");
}

#[test]
fn sockets_on_one_port_are_dealt_out_and_none_is_forgotten() {
    let reuse = |address: std::net::SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(64).unwrap();
        TcpListener::from(socket)
    };
    let first = reuse("127.0.0.1:0".parse().unwrap());
    let address = first.local_addr().unwrap();
    let sockets = vec![first, reuse(address), reuse(address)];
    let server = Server::builder().config(config()).listeners(sockets).start().unwrap();
    assert_eq!(server.local_addrs(), [address]);
    // The kernel spreads them over the sockets: one that nobody polls would keep its share waiting.
    let clients: Vec<Client> = (0..64).map(|_| Client::connect(address)).collect();
    for mut client in clients {
        client.auth(b"");
    }
}

#[test]
fn who_waits_for_the_next_process_does_not_keep_this_one_awake() {
    let socket = listener();
    let address = socket.local_addr().unwrap();
    let config = Config { workers: 1, drain_notice: PATIENCE, drain_timeout: 2 * PATIENCE, ..config() };
    let server = Server::builder().config(config).listeners(vec![socket.try_clone().unwrap()]).start().unwrap();
    let (mut client, _) = Client::ready(address);
    server.drain();
    client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
    client.assert_alive();
    let before = server.stats()[0].ticks.get();
    let mut waiting = Vec::new();
    for _ in 0..100 {
        waiting.push(Client::connect(address));
        client.assert_alive();
    }
    let turns = server.stats()[0].ticks.get() - before;
    assert!(turns <= 110, "{turns} turns for 100 requests, and {} connections that are not its own", waiting.len());
}
