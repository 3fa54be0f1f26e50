//! What the layers of settings promise.

use std::fs;
use std::os::unix::ffi::OsStringExt;

use super::*;
use crate::config::Core;

fn machine() -> Machine {
    Machine { cpus: vec![0, 1, 2, 3], parallelism: 4 }
}

fn lines(settings: &Settings) -> Vec<String> {
    settings.config_on(&machine()).unwrap_err().iter().map(ToString::to_string).collect()
}

fn environment(pairs: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::default();
    settings.environment(pairs.iter().map(|(name, text)| (OsString::from(name), OsString::from(text))));
    settings
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gate.env");
    fs::write(&file, "TIDEGATE_BACKLOG=1\nTIDEGATE_MAX_IN_FLIGHT=1\nTIDEGATE_HEARTBEAT_MISSES=1\nPATH=/\n").unwrap();
    let mut settings = Settings::default();
    settings.file(&file).unwrap();
    let variable = |name: &str, text: &str| (OsString::from(name), OsString::from(text));
    settings.environment([variable("TIDEGATE_BACKLOG", "2"), variable("TIDEGATE_MAX_IN_FLIGHT", "2")]);
    settings.flag("TIDEGATE_BACKLOG", "3");
    let config = settings.config_on(&machine()).unwrap();
    assert_eq!((config.backlog, config.max_in_flight, config.heartbeat_misses), (3, 2, 1));
    let origins = ["BACKLOG", "MAX_IN_FLIGHT", "HEARTBEAT_MISSES", "LISTEN"];
    let origins = origins.map(|name| settings.origin(&format!("TIDEGATE_{name}")));
    assert_eq!(origins, [Origin::Flag, Origin::Environment, Origin::File(file, 3), Origin::Default]);
}

#[test]
fn one_worker_may_have_another_measure_than_its_neighbours() {
    let settings: Settings =
        [("TIDEGATE_CORE_READ_BUDGET", "4096"), ("TIDEGATE_CORE_3_READ_BUDGET", "8192")].into_iter().collect();
    let config = settings.config_on(&machine()).unwrap();
    assert_eq!((0..4).map(|i| config.core(i).read_budget).collect::<Vec<_>>(), [4096, 4096, 4096, 8192]);
    assert_eq!(config.core(3).mailbox, Core::default().mailbox);
}

#[test]
fn a_worker_that_there_is_not_and_a_bad_value_for_one_are_named_in_full() {
    let settings: Settings = [
        ("TIDEGATE_CORE_4_READ_BUDGET", "8192"),
        ("TIDEGATE_CORE_1_READ_BUDGET", "1"),
        ("TIDEGATE_CORE_01_MAILBOX", "5"),
        ("TIDEGATE_CORE_1_BACKLOG", "5"),
    ]
    .into_iter()
    .collect();
    let unknown =
        |name, nearest| format!("{name}=\"…\": expected a setting's name; {name} is none, the nearest is {nearest}");
    assert_eq!(
        lines(&settings),
        [
            unknown("TIDEGATE_CORE_01_MAILBOX", "TIDEGATE_CORE_MAILBOX"),
            unknown("TIDEGATE_CORE_1_BACKLOG", "TIDEGATE_BACKLOG"),
            r#"TIDEGATE_CORE_1_READ_BUDGET="1": expected a number of bytes, 1024 to 67108864"#.to_owned(),
            r#"TIDEGATE_CORE_4_READ_BUDGET="8192": expected one of the 4 workers, 0 to 3"#.to_owned(),
        ]
    );
}

#[test]
fn an_unknown_variable_is_named_with_the_nearest_and_its_value_is_not_shown() {
    let settings = environment(&[("TIDEGATE_LISTNE", "secret"), ("TIDEGATE_TOKEN", "x"), ("LISTEN", "nowhere")]);
    let expected = "expected a setting's name; TIDEGATE_LISTNE is none, the nearest is TIDEGATE_LISTEN";
    assert_eq!(lines(&settings), [format!("TIDEGATE_LISTNE=\"…\": {expected}")]);
}

#[test]
fn what_kubernetes_sets_for_a_service_called_tidegate_is_not_ours() {
    let links = [
        "TIDEGATE_SERVICE_HOST",
        "TIDEGATE_SERVICE_PORT",
        "TIDEGATE_SERVICE_PORT_MCP",
        "TIDEGATE_PORT",
        "TIDEGATE_PORT_7400_TCP",
        "TIDEGATE_PORT_7400_TCP_ADDR",
        "TIDEGATE_ADMIN_SERVICE_HOST",
        "TIDEGATE_ADMIN_PORT_7401_TCP_PROTO",
    ];
    let settings = environment(&links.map(|name| (name, "tcp://10.0.0.1:7400")));
    assert_eq!(settings.config_on(&machine()).unwrap(), Settings::default().config_on(&machine()).unwrap());
    assert_eq!(lines(&environment(&[("TIDEGATE_PORTS", "1")])).len(), 1);
    // None of our own is mistaken for one.
    assert!(SETTINGS.iter().all(|setting| !is_service_link(setting.env)));
}

#[test]
fn everything_wrong_in_a_file_is_told_at_once_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gate.env");
    fs::write(&file, "TIDEGATE_BACKLOG=1\nTIDEGATE_BACKLOG=2\nTIDEGATE_LOG=\"info\"\nTIDEGATE_WORKERS=none\n").unwrap();
    let mut settings = Settings::default();
    settings.file(&file).unwrap();
    let told = lines(&settings);
    let at = |line: usize| format!(" in {}, line {line}: expected ", file.display());
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with(&format!("TIDEGATE_BACKLOG=\"2\"{}each variable once; line 1 has it too", at(2))));
    assert!(told[1].contains(&at(3)) && told[1].contains("without quotes"), "{told:?}");
    assert!(told[2].starts_with(&format!("TIDEGATE_WORKERS=\"none\"{}auto, or a number", at(4))), "{told:?}");
}

#[test]
fn a_variable_that_is_not_utf_8_is_refused_among_all_others() {
    let mut settings = Settings::default();
    settings.environment([(OsString::from("TIDEGATE_DATA_DIR"), OsString::from_vec(b"/d\xff".to_vec()))]);
    settings.flag("TIDEGATE_WORKERS", "0");
    let told = lines(&settings);
    assert_eq!(told[0], "TIDEGATE_DATA_DIR=\"/d\u{fffd}\": expected the path of a directory, in UTF-8");
    assert!(told[1].starts_with("TIDEGATE_WORKERS=\"0\""), "{told:?}");
}

#[test]
fn a_secrets_path_may_be_one_of_systemds_credentials() {
    let tokens = [("TIDEGATE_AUTH", "tokens"), ("TIDEGATE_TOKENS_FILE", "credential:tokens")];
    let mut settings = environment(&tokens);
    assert!(lines(&settings)[0].contains("$CREDENTIALS_DIRECTORY is not set"), "{:?}", lines(&settings));
    settings.environment([(OsString::from("CREDENTIALS_DIRECTORY"), OsString::from("/run/credentials/gate"))]);
    let config = settings.config_on(&machine()).unwrap();
    assert_eq!(config.auth.tokens_file(), Some(Path::new("/run/credentials/gate/tokens")));
    for name in ["credential:", "credential:a/b", "credential:.."] {
        settings.flag("TIDEGATE_TOKENS_FILE", name);
        assert_eq!(lines(&settings).len(), 1, "{name}");
    }
}

#[test]
fn the_printed_configuration_names_every_value_and_its_origin_and_can_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gate.env");
    fs::write(&file, "TIDEGATE_CORE_3_READ_BUDGET=8192\n").unwrap();
    let mut settings = environment(&[("TIDEGATE_BACKLOG", "512")]);
    settings.file(&file).unwrap();
    let config = settings.config_on(&machine()).unwrap();
    let table = settings.table(&config);
    let row = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("TIDEGATE_BACKLOG"), ["TIDEGATE_BACKLOG", "512", "environment"]);
    assert_eq!(row("TIDEGATE_WORKERS"), ["TIDEGATE_WORKERS", "4", "default: auto"]);
    assert_eq!(row("TIDEGATE_DATA_DIR"), ["TIDEGATE_DATA_DIR", "not set", "default"]);
    let origin = format!("{}, line 1", file.display());
    assert_eq!(row("TIDEGATE_CORE_3_READ_BUDGET"), ["TIDEGATE_CORE_3_READ_BUDGET", "8192", &origin]);
    let again = dir.path().join("again.env");
    fs::write(&again, settings.env_file(&config)).unwrap();
    let mut settings = Settings::default();
    settings.file(&again).unwrap();
    assert_eq!(settings.config_on(&machine()), Ok(config));
}
