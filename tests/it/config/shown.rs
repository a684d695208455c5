//! What is told of the configuration in force.

use std::fs;

use doorward::config::{Config, InForce, Problems, Setting, Shown, duration};

use super::{ROOT, toml};

fn explain(variables: &[(&str, &str)]) -> Result<Vec<Setting>, Problems> {
    Config::explain(None, variables.iter().map(|(name, value)| (format!("DOORWARD__{name}"), (*value).to_owned())))
        .map(|(_, settings)| settings)
}

fn find<'s>(settings: &'s [Setting], key: &str) -> &'s Setting {
    settings.iter().find(|setting| setting.key == key).unwrap()
}

fn text(text: &str) -> InForce {
    InForce::Shown(Shown::Text(text.to_owned()))
}

#[test]
fn every_key_tells_what_holds_and_where_it_comes_from() {
    let (_folder, path) = toml("[tokens]\naccess_lifetime = \"300s\"\nrefresh_grace = \"10s\"\n");
    let environment = [("DOORWARD__TOKENS__REFRESH_GRACE".to_owned(), "0s".to_owned())];
    let settings = Config::explain(Some(&path), environment).unwrap().1;
    let found = |key| {
        let setting = find(&settings, key);
        (setting.value.clone(), setting.origin.clone())
    };
    assert_eq!(found("tokens.access_lifetime"), (text("5m"), path.to_str().unwrap().to_owned()));
    assert_eq!(found("tokens.refresh_grace"), (text("0s"), "DOORWARD__TOKENS__REFRESH_GRACE".to_owned()));
    assert_eq!(found("tokens.max_access_lifetime"), (text("1h"), "default".to_owned()));
    assert_eq!(settings.iter().map(|setting| setting.key.clone()).collect::<Vec<_>>(), doorward::config::keys());
}

#[test]
fn what_depends_on_other_settings_is_told_as_it_is_in_force() {
    let found = |variables: &[(&str, &str)], key: &str| find(&explain(variables).unwrap(), key).value.clone();
    assert_eq!(found(&[], "database.migrate_on_start"), InForce::Shown(Shown::Truth(true)));
    let postgres = [("DATABASE__URL", "postgres://db/x"), ("SECRETS__ROOT", ROOT)];
    assert_eq!(found(&postgres, "database.migrate_on_start"), InForce::Shown(Shown::Truth(false)));
    assert_eq!(found(&[], "callers.mode"), text("optional"));
    assert_eq!(found(&[("CALLERS__MODE", "required")], "callers.mode"), text("required"));
    assert!(matches!(found(&[], "passwords.hash_threads"), InForce::Shown(Shown::Number(1..))));
    assert_eq!(found(&[("PASSWORDS__HASH_THREADS", "3")], "passwords.hash_threads"), InForce::Shown(Shown::Number(3)));
    assert_eq!(found(&[("TOKENS__AUDIENCE", "a, b")], "tokens.audience"), InForce::Shown(Shown::List(vec!["a".into(), "b".into()])));
    assert_eq!(found(&[], "bootstrap.email"), InForce::Unset);
}

#[test]
fn no_secret_is_told() {
    for (url, shown) in [
        ("postgres://doorward:canary@db/x", "postgres://doorward:***@db/x"),
        ("postgres://doorward:can%40ary@db:5432/x?sslmode=require", "postgres://doorward:***@db:5432/x?sslmode=require"),
        ("postgres:///x?host=db&password=canary&sslkey=canary", "postgres:///x?host=db&password=***&sslkey=***"),
        ("postgres://:canary@db/x", "postgres://:***@db/x"),
        ("postgres:///x?host=postgres://u:canary@h", "postgres:///x?host=***"),
        ("postgres://u%3Acanary@h/d", "postgres://***@h/d"),
        ("postgres://h:5432/u:canary", "postgres://h:5432/***"),
        ("postgres:///x?options[canary]=1", "postgres:///x?***=***"),
        ("sqlite://u:canary@h/d", "sqlite:***"),
        ("postgres:///x?application_name=a;password=canary", "postgres:///x?application_name=***"),
    ] {
        let settings = explain(&[("DATABASE__URL", url), ("SECRETS__ROOT", ROOT)]).expect(url);
        assert_eq!(find(&settings, "database.url").value, InForce::Hidden(shown.to_owned()));
        assert_eq!(find(&settings, "secrets.root").value, InForce::Hidden("1 in all".to_owned()));
        let all = format!("{settings:?}");
        assert!(!all.contains("canary") && !all.contains("can%40ary") && !all.contains(ROOT), "{all}");
    }
    let open = explain(&[("DATABASE__URL", "postgres://doorward@db/x?sslmode=require"), ("SECRETS__ROOT", ROOT)]).unwrap();
    assert_eq!(find(&open, "database.url").value, text("postgres://doorward@db/x?sslmode=require"));
}

#[test]
fn a_secret_from_a_file_is_told_by_the_files_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root");
    fs::write(&path, ROOT).unwrap();
    let path = path.to_str().unwrap();
    let settings = explain(&[("SECRETS__ROOT_FILE", path)]).unwrap();
    assert_eq!(find(&settings, "secrets.root").origin, "DOORWARD__SECRETS__ROOT_FILE");
    assert_eq!(find(&settings, "secrets.root_file").value, text(path));
    // A file whose secret does not count is not told.
    let (_folder, toml) = toml(&format!("[secrets]\nroot_file = \"{path}\"\n"));
    let settings = Config::explain(Some(&toml), [("DOORWARD__SECRETS__ROOT".to_owned(), ROOT.to_owned())]).unwrap().1;
    assert_eq!(find(&settings, "secrets.root").origin, "DOORWARD__SECRETS__ROOT");
    assert_eq!(find(&settings, "secrets.root_file").value, InForce::Unset);
}

#[test]
fn what_a_server_would_refuse_for_its_configuration_alone_is_a_problem() {
    let problems = explain(&[("DATABASE__URL", "postgres://db/x")]).unwrap_err();
    assert_eq!(problems.0.len(), 1);
    assert!(problems.to_string().starts_with("secrets.root: must be set on PostgreSQL"), "{problems}");
    // Looking at the schema needs none.
    Config::load(None, [("DOORWARD__DATABASE__URL".to_owned(), "postgres://db/x".to_owned())]).unwrap();
    let bad = explain(&[("DATABASE__URL", "postgres://db/x"), ("SECRETS__ROOT", "short")]).unwrap_err();
    assert_eq!(bad.0.len(), 1, "said once: {bad}");
}

#[test]
fn lengths_are_written_as_they_are_read() {
    for text in ["0s", "1s", "59s", "1m", "90m", "1h", "36h", "1d", "3650d"] {
        assert_eq!(duration::write(duration::parse(text).unwrap()), text);
    }
    assert_eq!(duration::write(duration::parse("3600s").unwrap()), "1h");
}

#[test]
fn shown_values_are_toml() {
    let nasty = "a\"b\\c\u{202e}\u{1b}[31m é";
    let toml = format!("x = {}\n", Shown::List(vec![nasty.to_owned()]));
    assert!(toml.is_ascii() || toml.chars().all(|c| c.is_ascii() || c == 'é'), "{toml}");
    assert!(!toml.contains('\u{1b}'));
    // Read back by the same parser.
    let (_folder, path) = super::toml(&format!("[bootstrap]\nusername = {}\n", Shown::Text("a\"b\\c".to_owned())));
    let problems = Config::load(Some(&path), []).unwrap_err().to_string();
    assert!(problems.starts_with("bootstrap.username: needs"), "{problems}");
}
