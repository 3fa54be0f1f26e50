//! Settings as an operator meets them: the whole program, its flags, its environment and its files.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

use crate::support::Process;

/// Runs `serve` to an end that comes by itself.
fn serve(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command: Command = Process::command();
    command.arg("serve").args(args).envs(env.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn the_configuration_is_printed_with_its_origins_and_nothing_is_served() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("gate.env"), dir.path().join("data"));
    fs::write(&file, "# ours\nTIDEGATE_CORE_1_READ_BUDGET=4096\nTIDEGATE_WORKERS=2\n").unwrap();
    let args = ["--env-file", file.to_str().unwrap(), "--max-in-flight", "7", "--print-config"];
    let env = [("TIDEGATE_LISTEN", address.as_str()), ("TIDEGATE_DATA_DIR", data.to_str().unwrap())];
    let (code, told, errors) = serve(&args, &env);
    assert_eq!((code, errors.as_str(), data.exists()), (Some(0), "", false));
    let at = |line: usize| format!("{}, line {line}", file.display());
    for (name, value, origin) in [
        ("TIDEGATE_LISTEN", address.as_str(), "environment".to_owned()),
        ("TIDEGATE_MAX_IN_FLIGHT", "7", "flag".to_owned()),
        ("TIDEGATE_CORE_READ_BUDGET", "262144", "default".to_owned()),
        ("TIDEGATE_CORE_1_READ_BUDGET", "4096", at(2)),
        ("TIDEGATE_WORKERS", "2", at(3)),
    ] {
        let line = told.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
        let mut words = line.split_whitespace().skip(1);
        assert_eq!(words.next(), Some(value), "{line}");
        assert!(line.ends_with(&origin), "{line}");
    }
}

#[test]
fn what_is_printed_as_a_file_configures_the_next_one_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gate.env");
    let (_, printed, _) = serve(&["--print-config=env", "--backlog", "9", "--set", "CORE_0_MAILBOX=5"], &[]);
    fs::write(&file, &printed).unwrap();
    let (code, again, errors) = serve(&["--env-file", file.to_str().unwrap(), "--print-config=env"], &[]);
    assert_eq!((code, &again), (Some(0), &printed), "{errors}");
    assert!(printed.contains("TIDEGATE_BACKLOG=9\n") && printed.contains("TIDEGATE_CORE_0_MAILBOX=5\n"), "{printed}");
}

#[test]
fn everything_that_is_wrong_is_told_at_once_and_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gate.env");
    fs::write(&file, "TIDEGATE_MAX_PAYLOAD=70000\nTIDEGATE_HEARTBAET_MS=1\n").unwrap();
    let env = [("TIDEGATE_LISTEN", "127.0.0.1:0"), ("TIDEGATE_CORE_900_READ_BUDGET", "4096")];
    let (code, told, errors) = serve(&["--env-file", file.to_str().unwrap(), "--workers", "none"], &env);
    assert_eq!((code, told.as_str()), (Some(2), ""));
    for wanted in [
        "TIDEGATE_MAX_PAYLOAD=\"70000\" in ",
        "gate.env, line 1: expected a number of bytes, 512 to 65535",
        "TIDEGATE_HEARTBAET_MS is none, the nearest is TIDEGATE_HEARTBEAT_MS",
        "TIDEGATE_WORKERS=\"none\": expected auto, or a number",
        "TIDEGATE_CORE_900_READ_BUDGET=\"4096\": expected one of the",
    ] {
        assert!(errors.contains(wanted), "{wanted}\nis missing in\n{errors}");
    }
    assert_eq!(errors.lines().count(), 4, "{errors}");
}

#[test]
fn a_file_that_is_not_there_is_named_and_exits_with_2() {
    let (code, _, errors) = serve(&["--env-file", "/nowhere/gate.env"], &[]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("--env-file /nowhere/gate.env: No such file"), "{errors}");
}

#[test]
fn the_clients_variables_and_a_clusters_are_no_mistake_of_the_servers() {
    let env = [
        ("TIDEGATE_CONNECT", "127.0.0.1:1"),
        ("TIDEGATE_TOKEN", "tg_secret"),
        ("TIDEGATE_PORT", "tcp://10.0.0.1:7400"),
        ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
    ];
    let (code, told, errors) = serve(&["--print-config"], &env);
    assert_eq!(code, Some(0), "{errors}");
    assert!(!told.contains("tg_secret"), "{told}");
}
