//! What a service manager, a shell and a packager meet.

use std::process::Output;

use tidegate::build;

use crate::support::Process;

fn tidegate(args: &[&str]) -> Output {
    Process::command().args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_version_tells_commit_and_features_where_there_is_room_and_a_word_where_there_is_not() {
    assert_eq!(stdout(&tidegate(&["-V"])), format!("tidegate {}\n", build::VERSION));
    let long = stdout(&tidegate(&["--version"]));
    assert_eq!(long, format!("tidegate {}\n", build::describe()));
    assert!(long.contains(build::COMMIT) && build::FEATURES.iter().all(|feature| long.contains(feature)), "{long}");
}

#[test]
fn the_commit_is_that_of_the_repository() {
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        output.ok().filter(|output| output.status.success()).map(|output| stdout(&output).trim().to_owned())
    };
    let named = option_env!("SOURCE_COMMIT").or(option_env!("GIT_COMMIT")).is_some();
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        Some(head) if !named && std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".git").exists() => {
            assert_eq!(build::COMMIT.strip_suffix("-dirty").unwrap_or(build::COMMIT), head);
        }
        _ => assert!(named || build::COMMIT == "unknown", "{}", build::COMMIT),
    }
}

#[test]
fn completions_and_manual_pages_know_every_setting() {
    let bash = tidegate(&["completions", "bash"]);
    let page = tidegate(&["man", "serve"]);
    assert!(bash.status.success() && page.status.success());
    // roff escapes hyphens.
    let (bash, page) = (stdout(&bash), stdout(&page).replace("\\-", "-"));
    for setting in tidegate::config::SETTINGS.iter() {
        let flag = format!("--{}", setting.flag());
        assert!(bash.contains(&flag), "{flag} is not among bash's completions");
        assert!(page.contains(&flag) && page.contains(setting.env), "{flag} is not on the page");
    }
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(stdout(&tidegate(&["completions", shell])).contains("tidegate"), "{shell}");
    }
    let page = stdout(&tidegate(&["man", "journal"]));
    for name in ["ls", "cat", "verify", "repair"] {
        assert!(page.contains(&format!("tidegate\\-journal\\-{name}(1)")), "{page}");
        let own = stdout(&tidegate(&["man", &format!("journal-{name}")]));
        assert!(own.contains(&format!("tidegate\\-journal\\-{name}")) && own.contains("data\\-dir"), "{own}");
    }
    let page = stdout(&tidegate(&["man"]));
    assert!(page.starts_with(".ie") && page.contains("tidegate\\-serve(1)") && !page.contains("help(1)"), "{page}");
}

#[test]
fn a_shell_or_a_command_that_there_is_not_exits_with_2() {
    for wrong in [
        &["completions", "dos"][..],
        &["completions"],
        &["man", "nonsense"],
        &["man", "help"],
        &["man", "journal-help"],
    ] {
        let output = tidegate(wrong);
        assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{wrong:?}: {output:?}");
    }
}

#[test]
fn the_example_of_an_environment_file_is_taken_as_it_stands() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/deploy/tidegate.env");
    let mut command = Process::command();
    command.args(["serve", "--env-file", file, "--print-config"]).env("CREDENTIALS_DIRECTORY", "/run/credentials/x");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let table = stdout(&output);
    let given = std::fs::read_to_string(file).unwrap();
    for line in given.lines().filter(|line| line.starts_with("TIDEGATE_")) {
        let (name, value) = line.split_once('=').unwrap();
        let shown = table.lines().find(|row| row.split_whitespace().next() == Some(name)).unwrap();
        let value = value.replace("credential:", "/run/credentials/x/");
        assert!(shown.contains(&value) && shown.contains("tidegate.env"), "{line}: {shown}");
    }
}
