//! `doorward config`: it tells what is set, touches nothing, and says the same as a start would.

use std::{
    ffi::OsString,
    fs,
    io::Read,
    os::unix::{ffi::OsStringExt, fs::PermissionsExt},
    process::Stdio,
};

use doorward::config::{Config, keys};

use super::{PASSWORD, Place, Ran, terminal};

const CANARY: &str = "hunter2canary";

/// A place with a settings file, a root in a file, and a PostgreSQL with a password.
fn place() -> Place {
    let place = Place::new().set("secrets.root_file", "root").set("tokens.refresh_grace", "10s");
    let url = format!("postgres://doorward:{CANARY}@db.invalid/doorward");
    fs::write(place.file("doorward.toml"), format!("[database]\nurl = \"{url}\"\n[log]\nlevel = \"debug\"\n")).unwrap();
    fs::write(place.file("root"), place.run(&["secret", "generate"]).done().out).unwrap();
    place
}

fn files(place: &Place) -> usize {
    fs::read_dir(place.folder.path()).unwrap().count()
}

#[test]
fn a_good_configuration_is_checked_in_one_line_without_a_database() {
    let place = place();
    let words = ["--config", "doorward.toml", "config", "check"];
    let checked = place.run(&words).done();
    let count = keys().len();
    let expected = format!("the configuration is good: {count} keys, 2 set by doorward.toml, 5 by variables, the rest defaults\n");
    assert_eq!(checked.out, expected);
    let json = place.run(&[&words[..], &["--format", "json"]].concat()).done().json();
    assert_eq!((&json["file"], &json["set_by_file"], &json["set_by_variables"]), (&"doorward.toml".into(), &2.into(), &5.into()));
    let plain = Place::new().run(&["config", "check"]).done().out;
    assert_eq!(plain, format!("the configuration is good: {count} keys, 3 by variables, the rest defaults\n"));
    assert_eq!(files(&place), 2, "it touches nothing");
}

#[test]
fn an_issuer_that_leads_elsewhere_is_told_of() {
    let elsewhere = Place::new().set("server.http_addr", "127.0.0.1:18080");
    let told = "but the keys are published on 127.0.0.1:18080, and tokens.issuer";
    assert!(elsewhere.run(&["config", "check"]).done().out.contains(told));
    assert_eq!(elsewhere.run(&["config", "check", "--format", "json"]).done().json()["advice"].as_array().unwrap().len(), 1);
    let named = elsewhere.set("tokens.issuer", "https://auth.example.com");
    assert!(!named.run(&["config", "check"]).done().out.contains("issuer"));
    let default = Place::new().set("server.http_addr", "127.0.0.1:8080");
    assert!(!default.run(&["config", "check"]).done().out.contains("issuer"));
}

#[test]
fn every_problem_is_told_by_both() {
    let place = place().set("log.format", "xml").set("server.gprc_addr", "127.0.0.1:1").set("callers.mode", "maybe");
    fs::remove_file(place.file("root")).unwrap();
    for command in ["check", "show"] {
        for format in ["text", "json"] {
            place.run(&["--config", "doorward.toml", "config", command, "--format", format]).refused(&[
                "log.format: must be text or json (DOORWARD__LOG__FORMAT)",
                "server.gprc_addr: is no known key: did you mean `DOORWARD__SERVER__GRPC_ADDR`? (DOORWARD__SERVER__GPRC_ADDR)",
                "callers.mode: ",
                "secrets.root_file: names a file that cannot be read",
            ]);
        }
    }
    // What only a server refuses, too.
    let without_root = Place::new().set("database.url", "postgres://db.invalid/x");
    without_root.run(&["config", "check"]).refused(&["secrets.root: must be set on PostgreSQL", "doorward secret generate"]);
    let check = |value: OsString| Ran::new(Place::new().command(&["config", "check"]).env("DOORWARD__LOG__LEVEL", value).output().unwrap());
    check(OsString::from_vec(b"in\xfffo".to_vec())).refused(&["log.level: is not UTF-8 text (DOORWARD__LOG__LEVEL)"]);
    check("info".into()).done();
}

#[test]
fn an_empty_name_of_a_settings_file_is_an_error_that_says_what_to_do() {
    let place = Place::new();
    let by_variable = place.command(&["config", "check"]).env("DOORWARD_CONFIG", "").output().unwrap();
    Ran::new(by_variable).refused(&["configuration file: ", "name a file", "DOORWARD_CONFIG"]);
    place.run(&["--config", "", "config", "check"]).refused(&["--config"]);
}

#[test]
fn settings_are_shown_with_their_origins_and_no_secret() {
    let place = place();
    let root = fs::read_to_string(place.file("root")).unwrap();
    let words = ["--config", "doorward.toml", "config", "show"];
    let text = place.run(&words).done().out;
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start} in {text}"));
    let ends = |start: &str, origin: &str| assert!(line(start).ends_with(&format!("  # {origin}")), "{}", line(start));
    ends("grpc_addr = \"127.0.0.1:0\"", "DOORWARD__SERVER__GRPC_ADDR");
    ends("http_addr = \"127.0.0.1:0\"", "DOORWARD__SERVER__HTTP_ADDR");
    ends("# url is not shown: postgres://doorward:***@db.invalid/doorward", "doorward.toml");
    ends("# root is not shown: 1 in all", "DOORWARD__SECRETS__ROOT_FILE");
    ends("root_file = \"root\"", "DOORWARD__SECRETS__ROOT_FILE");
    ends("migrate_on_start = false", "default");
    ends("refresh_grace = \"10s\"", "DOORWARD__TOKENS__REFRESH_GRACE");
    ends("level = \"debug\"", "doorward.toml");
    ends("# email is not set", "default");

    let json = place.run(&[&words[..], &["--format", "json"]].concat()).done();
    let settings = json.json()["settings"].as_array().unwrap().clone();
    assert_eq!(settings.iter().map(|setting| setting["key"].as_str().unwrap()).collect::<Vec<_>>(), keys());
    let found = |key: &str| settings.iter().find(|setting| setting["key"] == key).unwrap().clone();
    assert_eq!(
        found("database.url"),
        serde_json::json!({
            "key": "database.url", "variable": "DOORWARD__DATABASE__URL", "redacted": true, "origin": "doorward.toml",
            "value": "postgres://doorward:***@db.invalid/doorward",
        })
    );
    assert_eq!(found("server.max_connections")["value"], 10_000);
    assert_eq!(found("tokens.audience")["value"], serde_json::json!(["doorward-clients"]));
    assert_eq!(found("bootstrap.email")["value"], serde_json::Value::Null);
    for shown in [&text, &json.out] {
        assert!(!shown.contains(CANARY) && !shown.contains(root.trim_end()), "{shown}");
    }
    assert_eq!(files(&place), 2, "it touches nothing");
}

/// A secret is not in it, so that it is to be set again.
#[test]
fn what_is_shown_is_a_settings_file_of_the_same_configuration() {
    let place = Place::new().set("tokens.audience", "a,b").set("passwords.hash_threads", "3");
    let shown = place.run(&["config", "show"]).done().out;
    fs::write(place.file("shown.toml"), &shown).unwrap();
    let read = Config::load(Some(&place.file("shown.toml")), []).unwrap();
    let meant = Config::load(None, place.settings.clone()).unwrap();
    // What has no fixed default is now set.
    let settled = |mut config: Config| {
        config.database.migrate_on_start = Some(config.database.migrate_on_start());
        config.callers.mode = Some(config.callers.mode());
        format!("{config:#?}")
    };
    assert_eq!(settled(read), settled(meant));
}

#[test]
fn colours_are_for_terminals_of_people_who_want_them() {
    let place = Place::new();
    fs::write(place.file("pw"), PASSWORD).unwrap();
    fs::set_permissions(place.file("pw"), fs::Permissions::from_mode(0o644)).unwrap();
    // What the command warns of, on a terminal.
    let warned = |name: &str, no_color: Option<&str>| {
        let (mut master, slave) = terminal();
        let mut command = place.command(&["user", "create", "--username", name, "--password-file", "pw"]);
        command.envs(no_color.map(|value| ("NO_COLOR", value))).stderr(Stdio::from(slave));
        assert!(command.status().unwrap().success());
        drop(command);
        let (mut log, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(1..) = master.read(&mut buffer).inspect(|read| log.extend_from_slice(&buffer[..*read])) {}
        let log = String::from_utf8(log).unwrap();
        assert!(log.contains("open to others"), "{log:?}");
        log
    };
    assert!(warned("ann", None).contains("\u{1b}[33m WARN"));
    assert!(warned("ben", Some("")).contains("\u{1b}["), "empty is unset");
    assert!(!warned("cat", Some("1")).contains('\u{1b}'));
}
