//! The tables in MariaDB: created, checked, or made by somebody else.

use tidegate::session::store::Written;

use super::{claim, open, pair, put, store};
use crate::support::MariaDb;

const SCHEMA: &str = include_str!("../../../src/session/store/mysql/schema.sql");

#[test]
fn tables_are_created_once_and_found_again() {
    let server = MariaDb::shared();
    let url = server.database("created");
    // Many gateways may start at the same time.
    let starters: Vec<_> = (0..4)
        .map(|n| {
            let url = url.clone();
            std::thread::spawn(move || store(&url).commit(&[open(n, vec![pair(b"k", b"v")])]))
        })
        .collect();
    for starter in starters {
        assert_eq!(starter.join().unwrap().unwrap(), [Written::Done]);
    }
    assert!(claim(&mut *store(&url), 3).is_some());
    let engines: Vec<(String, String)> =
        server.query("SELECT ENGINE, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'created'");
    assert!(engines.len() == 3 && engines.iter().all(|(engine, _)| engine == "InnoDB"), "{engines:?}");
    assert_eq!(server.query::<u32>("SELECT version FROM created.tidegate_schema"), [1]);
}

#[test]
fn tables_of_another_version_are_left_alone_and_told_of() {
    let server = MariaDb::shared();
    let url = server.database("version");
    store(&url).commit(&[open(1, vec![pair(b"k", b"v")])]).unwrap();
    server.query::<u32>("UPDATE version.tidegate_schema SET version = 7");
    let why = store(&url).commit(&[put(1, 1, b"k", b"w")]).unwrap_err().0;
    assert!(why.contains("version 7") && why.contains("version 1") && why.contains("database of its own"), "{why}");
    assert_eq!(server.query::<String>("SELECT value FROM version.tidegate_state"), ["v"]);
}

#[test]
fn a_user_who_may_create_nothing_works_with_tables_that_are_there() {
    let server = MariaDb::shared();
    server.query::<u32>("CREATE DATABASE bare");
    server.query::<u32>("GRANT SELECT, INSERT, UPDATE, DELETE ON bare.* TO gate@'%'");
    let url = server.url("bare");
    let why = store(&url).commit(&[open(1, Vec::new())]).unwrap_err().0;
    assert!(why.contains("schema.sql") && why.contains("CREATE"), "{why}");
    server.query::<u32>(&format!("USE bare; {SCHEMA}"));
    assert_eq!(store(&url).commit(&[open(1, vec![pair(b"k", b"v")])]).unwrap(), [Written::Done]);
    assert!(claim(&mut *store(&url), 1).is_some());
}

#[test]
fn a_database_that_is_not_there_is_named() {
    let server = MariaDb::shared();
    let why = store(&server.url("nowhere")).commit(&[open(1, Vec::new())]).unwrap_err().0;
    assert!(why.contains("nowhere"), "{why}");
}
