//! The live page in a real browser: what it shows at rest, under load and in a drain.
//!
//! `scripts/status-page.sh` runs these; they need Chromium. `PICTURES` names a directory for pictures.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tidegate::config::{AdminAuth, AuthMode, Config, Core, Secret};
use tidegate::proto::{Command, ErrorCode, GoAwayReason, GoAwayStage};

use crate::support::{Browser, Client, Latch, Load, Process, config, start};

/// Width, dark, name.
const VIEWS: [(u32, bool, &str); 4] =
    [(1280, false, "light"), (1280, true, "dark"), (360, false, "phone"), (360, true, "phone-dark")];

const ALL_THE_CONNECTIONS: &str = "Number(document.getElementById('connections').textContent.replaceAll(',', ''))";

/// Looks at the page as it is from all sides.
fn look_at(browser: &mut Browser, name: &str) {
    let mut grounds = Vec::new();
    for (width, dark, view) in VIEWS {
        browser.look(width, 900, dark);
        let scrolls = browser.value("document.documentElement.scrollWidth");
        assert!(scrolls.as_u64() <= Some(u64::from(width)), "{name}, {view}: {scrolls} wide");
        let cut_off = browser.value(
            "[...document.querySelectorAll('h1, h2, dt, dd, .verdict p')].filter((node) => node.clientWidth && \
             node.getBoundingClientRect().right > innerWidth).map((node) => node.textContent).join(', ')",
        );
        assert_eq!(cut_off, "", "{name}, {view}: beyond the window");
        let tables =
            "[...document.querySelectorAll('.frame')].filter((frame) => frame.scrollWidth > frame.clientWidth)";
        let too_wide = browser.value(&format!("{tables}.map((frame) => frame.firstElementChild.id).join(', ')"));
        assert_eq!(too_wide, "", "{name}, {view}: tables wider than the window");
        grounds.push(browser.value("getComputedStyle(document.body).backgroundColor").to_string());
        if let Some(dir) = std::env::var_os("PICTURES") {
            browser.picture(&PathBuf::from(dir).join(format!("{name}-{view}.png")));
        }
    }
    assert!(grounds[0] != grounds[1] && grounds[0] == grounds[2], "{name}: dark is dark: {grounds:?}");
    browser.look(1280, 900, false);
}

/// No script has failed, and nobody but the admin port was asked.
fn assert_quiet(browser: &mut Browser, admin: SocketAddr) {
    assert_eq!(browser.errors(), Vec::<String>::new());
    let home = format!("http://{admin}/");
    let requests = browser.requests();
    assert!(requests.iter().any(|address| *address == format!("{home}status")), "{requests:?}");
    let outside: Vec<_> = requests.iter().filter(|url| !url.starts_with(&home) && !url.starts_with("data:")).collect();
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
#[ignore = "needs a browser; scripts/status-page.sh runs it"]
fn at_rest_and_under_load_the_page_shows_what_the_server_does() {
    let dir = tempfile::tempdir().unwrap();
    let hostile = "<img/src=x/onerror=alert(1)>";
    let (token, line) = tidegate::auth::generate_token(hostile).unwrap();
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, line).unwrap();
    let process = Process::serve(&[
        ("SERVICE_ID", "<b>gate</b>-7"),
        ("AUTH", "tokens"),
        ("TOKENS_FILE", tokens.to_str().unwrap()),
    ]);
    let mut browser = Browser::start();
    browser.look(1280, 900, false);
    browser.open(&format!("http://{}/", process.admin));
    browser.until("document.getElementById('verdict-head')?.textContent === 'Serving'");
    assert_eq!(browser.text("name"), "<b>gate</b>-7");
    assert_eq!(browser.value("document.querySelectorAll('#cores tbody tr').length"), 2);
    browser.until("document.getElementById('errors').textContent === '0'");
    assert_eq!(browser.text("connections"), "0");
    assert!(browser.text("verdict-text").contains("Nothing wants attention"));
    assert_eq!(browser.value("document.getElementById('drain').hidden"), true);
    look_at(&mut browser, "rest");

    let mut idle = Client::connect(process.address);
    idle.auth(token.as_bytes());
    let token_file = dir.path().join("token");
    std::fs::write(&token_file, &token).unwrap();
    let load = Load::start(
        process.address,
        &[
            "rate",
            "--rate",
            "400",
            "--connections",
            "40",
            "--duration",
            "3600",
            "--token-file",
            token_file.to_str().unwrap(),
        ],
    );
    browser.until(&format!("{ALL_THE_CONNECTIONS} === 41"));
    browser.until("Number(document.getElementById('rate').textContent) > 100");
    // A line of several points: the page goes on asking.
    browser.until("document.querySelector('#rate-line .line').getAttribute('d').split('L').length > 4");
    let rows = browser.value("[...document.querySelectorAll('#cores tbody tr')].map((row) => row.innerText).join()");
    assert!(!rows.as_str().unwrap().contains("NaN"), "{rows}");
    browser.until(
        "[...document.querySelectorAll('#cores tbody tr')].reduce((sum, row) => \
         sum + Number(row.cells[2].textContent), 0) === 41",
    );
    browser.until("document.getElementById('requests').innerText.includes('ECHO')");
    let all = browser.text("data");
    assert!(["NaN", "undefined", "null", "Infinity"].iter().all(|wrong| !all.contains(wrong)), "{all}");

    browser.value("document.querySelector('#who button').click()");
    browser.until("document.querySelectorAll('#list tbody tr').length === 41");
    assert!(browser.text("list").contains(hostile));
    browser
        .value("document.getElementById('principal').value = 'nobody'; document.querySelector('#who button').click()");
    browser.until("document.getElementById('who-note').textContent === '0 connections.'");
    browser.value("document.getElementById('principal').value = ''; document.querySelector('#who button').click()");
    browser.until("document.querySelectorAll('#list tbody tr').length === 41");
    assert_eq!(browser.value("document.querySelectorAll('main img, main b:not(#phases b, .left b)').length"), 0);
    look_at(&mut browser, "load");
    assert_quiet(&mut browser, process.admin);
    load.signal(Signal::KILL);
}

#[test]
#[ignore = "needs a browser; scripts/status-page.sh runs it"]
fn what_is_wrong_is_said_first() {
    let config = Config { admin: Some("127.0.0.1:0".parse().unwrap()), workers: 1, ..config() };
    let config = Config { core: Core { max_connections: 2, ..config.core.clone() }, ..config };
    let (server, address) = start(config, |builder| builder);
    let admin = server.admin_addr().unwrap();
    let mut browser = Browser::start();
    browser.look(1280, 900, false);
    browser.open(&format!("http://{admin}/"));
    browser.until("document.getElementById('verdict-head')?.textContent === 'Serving'");
    let _served = [Client::ready(address), Client::ready(address)];
    let mut refused: Vec<Client> = (0..3).map(|_| Client::connect(address)).collect();
    refused.iter_mut().for_each(|client| client.expect_end(0, ErrorCode::Overloaded));
    browser.until("document.getElementById('verdict-head').textContent === 'Serving, but look at this'");
    browser.until(
        "document.getElementById('verdict-notes').textContent === '3 connections turned away in the last minute.'",
    );
    browser.until("document.getElementById('causes').tBodies[0].innerText.trim() === 'limit (turned away)\\t3\\t3'");
    look_at(&mut browser, "trouble");
    assert_quiet(&mut browser, admin);
}

#[test]
#[ignore = "needs a browser; scripts/status-page.sh runs it"]
fn in_a_drain_the_page_shows_its_phases_what_is_left_and_the_ledger() {
    let latch = Latch::new();
    let held = latch.clone();
    let config = Config {
        admin: Some("127.0.0.1:0".parse().unwrap()),
        service_id: "gate-7".to_owned(),
        // Longer than the page takes from one look to the next.
        drain_announce: Duration::from_secs(4),
        drain_notice: Duration::from_secs(4),
        drain_timeout: Duration::from_secs(120),
        linger: Duration::from_secs(60),
        ..config()
    };
    let (server, address) = start(config, |builder| {
        builder.route_blocking(0x20, move |_, responder| {
            held.pass();
            responder.reply(b"");
        })
    });
    let admin = server.admin_addr().unwrap();
    let mut clients: Vec<Client> = (0..6).map(|_| Client::ready(address).0).collect();
    clients.iter_mut().for_each(Client::assert_alive);
    let seq = clients[0].request(Command(0x20), b"");
    latch.wait_for(1);
    let mut browser = Browser::start();
    browser.look(1280, 900, false);
    browser.open(&format!("http://{admin}/"));
    browser.until("document.getElementById('verdict-head')?.textContent === 'Serving'");
    browser.until(&format!("{ALL_THE_CONNECTIONS} === 6"));
    server.drain();
    let now = "document.querySelector('#phases [aria-current=step]')?.dataset.phase";
    browser.until(&format!("{now} === 'announce'"));
    assert_eq!(browser.text("verdict-head"), "Draining: announce");
    browser.until(&format!("{now} === 'notice'"));
    let ledger = |browser: &mut Browser| {
        let cells =
            browser.value("[...document.querySelectorAll('#ledger dd')].map((cell) => cell.textContent).join(' ')");
        cells.as_str().unwrap().to_owned()
    };
    // Six AUTHs and six ECHOs are answered, one request is in its handler.
    assert_eq!(ledger(&mut browser), "13 12 0 0 0 1");
    assert_eq!(browser.text("left-connections"), "6");
    look_at(&mut browser, "notice");
    for client in &mut clients {
        client.expect_goaway(GoAwayStage::Notice, GoAwayReason::Drain);
        client.expect_goaway(GoAwayStage::Final, GoAwayReason::Drain);
    }
    clients.truncate(2);
    browser.until(&format!("{now} === 'finish'"));
    browser.until("document.getElementById('left-connections').textContent === '2'");
    assert!(browser.text("left-connections-text").contains("of 6 connections left, 1 request in flight"));
    look_at(&mut browser, "finish");
    latch.open();
    clients[0].expect_reply(seq, Command(0x20));
    browser.until(&format!("{now} === 'flush'"));
    assert_eq!(ledger(&mut browser), "13 13 0 0 0 0");
    assert_eq!(browser.text("ledger-state"), "it balances");
    assert_quiet(&mut browser, admin);
    drop(clients);
    assert!(server.wait().ledger.clean());
    browser.until("document.getElementById('verdict-head').textContent === 'The server has gone'");
    assert!(
        browser.text("verdict-text").contains("Last seen: 13 accepted = 13 answered + 0 failed + 0 pending + 0 cut.")
    );
    look_at(&mut browser, "gone");
}

#[test]
#[ignore = "needs a browser; scripts/status-page.sh runs it"]
fn where_a_token_is_wanted_the_page_asks_for_it_and_keeps_it_in_its_tab() {
    let token = "correct-horse-battery";
    let open = Some("0.0.0.0:0".parse().unwrap());
    let auth = AdminAuth::Token(Secret::new(token));
    let (server, _) = start(Config { admin: open, admin_auth: auth, auth: AuthMode::None, ..config() }, |b| b);
    let admin = SocketAddr::from(([127, 0, 0, 1], server.admin_addr().unwrap().port()));
    let mut browser = Browser::start();
    browser.look(1280, 900, false);
    browser.open(&format!("http://{admin}/"));
    browser.until("document.getElementById('door')?.hidden === false");
    assert_eq!(browser.value("document.getElementById('data').hidden"), true);
    look_at(&mut browser, "door");
    let enter = |browser: &mut Browser, text: &str| {
        browser.value(&format!(
            "document.getElementById('token').value = {text:?}; document.querySelector('#door button').click()"
        ));
    };
    enter(&mut browser, "wrong-horse-battery");
    browser.until("document.getElementById('door-note').textContent.includes('not the token')");
    assert_eq!(browser.value("sessionStorage.length"), 0);
    enter(&mut browser, token);
    browser.until("document.getElementById('verdict-head').textContent === 'Serving'");
    assert_eq!(browser.value("document.getElementById('door').hidden"), true);
    let kept = browser.value("[sessionStorage.length, localStorage.length, document.cookie].join('/')");
    assert_eq!(kept, "1/0/");
    // The answers 401 are told of in the browser's own log, as they should be; nothing else is.
    let errors = browser.errors();
    assert!(errors.iter().all(|error| error.contains("status of 401")), "{errors:?}");
}

#[test]
#[ignore = "needs a browser; scripts/status-page.sh runs it"]
fn a_server_that_is_killed_is_missed_and_one_that_comes_back_is_shown_anew() {
    let process = Process::serve(&[]);
    let admin = process.admin;
    let mut browser = Browser::start();
    browser.open(&format!("http://{admin}/"));
    browser.until("document.getElementById('verdict-head')?.textContent === 'Serving'");
    process.signal(Signal::KILL);
    drop(process);
    browser.until("document.getElementById('verdict-head').textContent === 'No answer'");
    let port = admin.to_string();
    let again = Process::serve(&[("ADMIN", &port), ("SERVICE_ID", "second")]);
    browser.until("document.getElementById('verdict-head').textContent === 'Serving'");
    assert_eq!(browser.text("name"), "second");
    drop(again);
}
