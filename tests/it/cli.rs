//! The command `doorward`, as it is typed: the real program, in a folder of its own, with an environment of its own.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::{
        fd::AsFd,
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use doorward::{cli::desk::NEW_DATABASE, config::Config, values::secret::RootSecrets};
use nix::{
    fcntl::OFlag,
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use serde_json::Value;
use tempfile::TempDir;

use crate::golden;

mod answers;
mod backup;
mod config;
mod demo;
mod health;
mod help;
mod key;
mod place;
mod service_account;
mod serving;
mod session;
mod tenant_policy;
mod tls;

use place::{Place, Ran, on_database, terminal, text};
use serving::Serving;

const PASSWORD: &str = "correct horse battery staple";

// Users.

#[test]
fn a_user_is_made_with_a_password_from_standard_input_and_listed_with_the_names_of_the_proto() {
    let place = Place::new();
    let made = place.user("Ann@Example.com");
    let keys: Vec<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
    let proto = [
        "attributes",
        "create_time",
        "email",
        "email_verified",
        "external_id",
        "family_name",
        "full_name",
        "given_name",
        "id",
        "state",
        "superuser",
        "username",
    ];
    assert_eq!(keys, proto, "a given password is not printed");
    assert_eq!((text(&made, "email"), text(&made, "state")), ("Ann@Example.com", "active"));
    assert_eq!(made["superuser"], false);
    let users = place.users();
    assert_eq!(users, [made]);
    assert!(!place.run(&["user", "list"]).done().out.contains(PASSWORD));
}

#[test]
fn a_given_password_is_final_and_one_line_end_is_not_part_of_it() {
    let place = Place::new();
    let create = |name: &str, input: &[u8]| place.run_with(&["user", "create", "--username", name, "--password-stdin"], input);
    create("final", format!("{PASSWORD}\n").as_bytes()).done();
    let shown = place.run(&["user", "show", "final", "--format", "json"]).done().json();
    assert_eq!((&shown["has_password"], &shown["must_change"]), (&Value::Bool(true), &Value::Bool(false)));
    // 15 characters are the least: with 14, line ends show whether they count.
    create("crlf", b"12345678901234\r\n").refused(&["at least 15 characters"]);
    create("two", b"12345678901234\n\n").refused(&["more than one line"]);
    create("lines", format!("{PASSWORD}\nand a note\n").as_bytes()).refused(&["more than one line"]);
    create("empty", b"\n").refused(&["holds no password"]);
    create("binary", b"\xff\xfe0123456789012345").refused(&["not UTF-8"]);
    create("long", &[b'a'; 2000]).refused(&["at most 1024 bytes"]);
}

#[test]
fn without_a_terminal_a_password_is_made_printed_once_and_must_be_changed() {
    let place = Place::new();
    let made = place.run(&["user", "create", "--username", "ann", "--format", "json"]).done().json();
    let again = place.run(&["user", "set-password", "ann", "--yes", "--format", "json"]).done().json();
    for password in [text(&made, "password"), text(&again, "password")] {
        assert!(password.len() >= 20, "{password}");
    }
    assert_ne!(made["password"], again["password"]);
    let shown = place.run(&["user", "show", "ann", "--format", "json"]).done().json();
    assert_eq!(shown["must_change"], true);
    assert_eq!(shown.get("password"), None);
    // A longer minimum is kept too.
    let strict = Place::new().set("passwords.min_length", "64");
    let made = strict.run(&["user", "create", "--username", "ann", "--format", "json"]).done().json();
    assert!(text(&made, "password").len() >= 64);
}

#[test]
fn a_password_file_is_read_and_others_who_can_read_it_are_warned_of() {
    let place = Place::new();
    fs::write(place.file("pw"), format!("{PASSWORD}\n")).unwrap();
    let create = |name: &str| place.run(&["user", "create", "--username", name, "--password-file", "pw"]);
    fs::set_permissions(place.file("pw"), fs::Permissions::from_mode(0o600)).unwrap();
    create("ann").done();
    fs::set_permissions(place.file("pw"), fs::Permissions::from_mode(0o644)).unwrap();
    let warned = create("ben");
    assert_eq!(warned.code, 0, "{warned:?}");
    assert!(warned.err.contains("open to others"), "{warned:?}");
    place.run(&["user", "create", "--username", "cat", "--password-file", "absent"]).refused(&["absent cannot be read"]);
}

#[test]
fn another_spelling_of_an_address_or_a_user_name_is_taken() {
    let place = Place::new();
    place.user("ann@example.com");
    let words = ["user", "create", "--email", "ANN@Example.COM", "--password-stdin"];
    place.run_with(&words, PASSWORD.as_bytes()).refused(&["the e-mail address is taken"]);
    place.run(&["user", "create", "--username", "Bob"]).done();
    place.run(&["user", "create", "--username", "bOB"]).refused(&["the user name is taken"]);
    assert_eq!(place.users().len(), 2);
}

#[test]
fn bad_fields_are_named_as_flags() {
    let place = Place::new();
    place.run(&["user", "create", "--email", "not an address", "--no-password"]).refused(&["--email: "]);
    place.run(&["user", "create", "--username", "a@b", "--no-password"]).refused(&["--username: "]);
    place.run(&["user", "create", "--username", "a", "--full-name", "tab\there", "--no-password"]).refused(&["--full-name: "]);
    place.run(&["tenant", "create", "--slug", "Acme", "--name", "Acme"]).refused(&["--slug: "]);
    place.run(&["tenant", "create", "--slug", "acme", "--name", "Acme", "--seat-limit", "-1"]).refused(&["--seat-limit: "]);
    place.tenant("acme");
    let role =
        |level, permission| place.run(&["role", "create", "--tenant", "acme", "--name", "r", "--level", level, "--permission", permission]);
    role("101", "a:b").refused(&["--level: "]);
    role("1", "nonsense").refused(&["--permission: "]);
}

#[test]
fn users_are_disabled_enabled_and_deleted_and_a_deleted_ones_address_makes_another_user() {
    let place = Place::new();
    let ann = place.user("ann@example.com");
    let id = text(&ann, "id");
    let state = || text(&place.run(&["user", "show", id, "--format", "json"]).done().json(), "state").to_owned();

    place.run(&["user", "disable", "ANN@example.com", "--yes"]).done();
    assert_eq!(state(), "disabled");
    place.run(&["user", "enable", id]).done();
    assert_eq!(state(), "active");
    place.run(&["user", "delete", "ann@example.com", "--yes"]).done();
    assert_eq!(state(), "deleted");

    place.run(&["user", "show", "ann@example.com"]).refused(&["no user", "doorward user list"]);
    for change in [vec!["enable", id], vec!["disable", id, "--yes"], vec!["delete", id, "--yes"], vec!["set-password", id, "--yes"]] {
        place.run(&[vec!["user"], change].concat()).refused(&["no user"]);
    }
    place.tenant("acme");
    place.run(&["member", "add", "--tenant", "acme", "--user", id]).refused(&["no user"]);

    let again = place.user("ann@example.com");
    assert_ne!(again["id"], ann["id"]);
    assert_eq!(state(), "deleted");
}

#[test]
fn what_ends_something_needs_yes_where_nobody_can_be_asked() {
    let place = Place::new();
    place.user("ann@example.com");
    place.tenant("acme");
    place.run(&["member", "add", "--tenant", "acme", "--user", "ann@example.com"]).done();
    let before = (place.users(), place.members("acme"), place.sql("SELECT hash FROM password_credentials"));
    for words in [
        &["user", "disable", "ann@example.com"][..],
        &["user", "delete", "ann@example.com"],
        &["user", "set-password", "ann@example.com"],
        &["tenant", "suspend", "acme"],
        &["member", "remove", "--tenant", "acme", "--user", "ann@example.com"],
        &["session", "revoke", "--user", "ann@example.com"],
        &["session", "revoke", "--tenant", "acme"],
        &["session", "revoke", "--everything"],
    ] {
        place.run(words).refused(&["doorward: this ", "--yes"]);
    }
    assert_eq!((place.users(), place.members("acme"), place.sql("SELECT hash FROM password_credentials")), before);
}

// Tenants, roles, members.

#[test]
fn a_tenant_gets_roles_and_members() {
    let place = Place::new();
    place.user("ann@example.com");
    let words =
        ["tenant", "create", "--slug", "acme", "--name", "Acme Ltd", "--tax-id", "76.1-K", "--external-id", "9", "--seat-limit", "2"];
    let acme = place.run(&[&words[..], &["--format", "json"]].concat()).done().json();
    assert_eq!((text(&acme, "tax_id"), text(&acme, "external_id"), &acme["seat_limit"]), ("76.1-K", "9", &Value::from(2)));
    place.run(&["tenant", "create", "--slug", "acme", "--name", "Other"]).refused(&["the slug is taken"]);
    place.run(&["tenant", "create", "--slug", "other", "--name", "Other", "--tax-id", "76.1-K"]).refused(&["the tax id is taken"]);
    place.run(&["tenant", "create", "--slug", "other", "--name", "Other", "--external-id", "9"]).refused(&["the external id is taken"]);

    let words = ["role", "create", "--tenant", "acme", "--name", "sales", "--level", "30", "--permission", "sales:write", "sales:read"];
    let sales = place.run(&[&words[..], &["--format", "json"]].concat()).done().json();
    assert_eq!(sales["permissions"], serde_json::json!(["sales:read", "sales:write"]));
    place.run(&words).refused(&["role of this name"]);
    let roles = place.run(&["role", "list", "--tenant", text(&acme, "id"), "--format", "json"]).done().json();
    let names: Vec<&str> = roles["roles"].as_array().unwrap().iter().map(|role| text(role, "name")).collect();
    assert_eq!(names, ["owner", "admin", "sales", "member"]);

    let add = ["member", "add", "--tenant", "acme", "--user", "ann@example.com", "--role", "sales", "--role", "admin"];
    place.run(&add).done();
    place.run(&add).refused(&["member of the tenant already"]);
    let members = place.members("acme");
    let roles: Vec<&str> = members[0]["roles"].as_array().unwrap().iter().map(|role| text(role, "name")).collect();
    assert_eq!((text(&members[0]["user"], "email"), text(&members[0], "membership_state")), ("ann@example.com", "active"));
    assert_eq!(roles, ["admin", "sales"]);

    place.user("ben@example.com");
    place.user("cat@example.com");
    let ben = place.run(&["member", "add", "--tenant", "acme", "--user", "ben@example.com", "--format", "json"]).done().json();
    assert_eq!(text(&ben["roles"][0], "name"), "member", "the role where none is named");
    place.run(&["member", "add", "--tenant", "acme", "--user", "cat@example.com"]).refused(&["seats"]);
    place.run(&["member", "remove", "--tenant", "acme", "--user", "ann@example.com", "--yes"]).done();
    place.run(&["member", "remove", "--tenant", "acme", "--user", "ann@example.com", "--yes"]).refused(&["no member"]);
    place.run(&["member", "add", "--tenant", "acme", "--user", "cat@example.com"]).done();
}

#[test]
fn a_role_of_another_tenant_cannot_be_given() {
    let place = Place::new();
    place.user("ann@example.com");
    place.tenant("acme");
    place.tenant("umbrella");
    place.run(&["role", "create", "--tenant", "umbrella", "--name", "chief", "--level", "90"]).done();
    let words = ["member", "add", "--tenant", "acme", "--user", "ann@example.com", "--role", "chief"];
    place.run(&words).refused(&["the tenant acme has no role chief", "it has owner, admin, member", "doorward role create --tenant acme"]);
    assert_eq!(place.members("acme"), Vec::<Value>::new());
}

#[test]
fn a_tenant_is_suspended_and_activated() {
    let place = Place::new();
    place.tenant("acme");
    let state = || text(&place.run(&["tenant", "list", "--format", "json"]).done().json()["tenants"][0], "state").to_owned();
    place.run(&["tenant", "suspend", "acme", "--yes"]).done();
    assert_eq!(state(), "suspended");
    place.run(&["tenant", "activate", "acme", "--yes"]).done();
    assert_eq!(state(), "active");
    place.run(&["tenant", "suspend", "nobody", "--yes"]).refused(&["no tenant", "doorward tenant list"]);
}

#[test]
fn every_write_is_audited_once_with_the_operators_name() {
    let place = Place::new();
    place.user("ann@example.com");
    place.tenant("acme");
    place.run(&["role", "create", "--tenant", "acme", "--name", "sales", "--level", "1"]).done();
    place.run(&["member", "add", "--tenant", "acme", "--user", "ann@example.com"]).done();
    place.run(&["member", "remove", "--tenant", "acme", "--user", "ann@example.com", "--yes"]).done();
    place.run(&["tenant", "suspend", "acme", "--yes"]).done();
    place.run(&["tenant", "suspend", "acme", "--yes"]).done();
    place.run(&["tenant", "activate", "acme"]).done();
    place.run(&["tenant", "set-policy", "acme", "--access-lifetime", "10m", "--yes"]).done();
    place.run(&["user", "set-password", "ann@example.com", "--yes"]).done();
    place.run(&["user", "disable", "ann@example.com", "--yes"]).done();
    place.run(&["user", "enable", "ann@example.com"]).done();
    place.run(&["user", "delete", "ann@example.com", "--yes"]).done();
    let events = place.sql("SELECT actor_id || ' ' || event FROM audit_events WHERE actor_kind <> 'system' ORDER BY id");
    let expected = [
        "user.created",
        "tenant.created",
        "role.created",
        "member.added",
        "member.removed",
        "tenant.suspended",
        "tenant.activated",
        "tenant.policy_changed",
        "user.password_set",
        "user.disabled",
        "user.enabled",
        "user.deleted",
    ];
    // Whoever the system says, not a variable.
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    assert_eq!(events, expected.map(|event| format!("cli:{} {event}", user.trim())));
}

#[test]
fn tables_are_aligned_and_cannot_steer_the_terminal() {
    let place = Place::new();
    place.user("ann@example.com");
    place.run(&["user", "create", "--username", "Bob Example", "--full-name", "Bob", "--superuser", "--no-password"]).done();
    place.sql_write("doorward.db", "UPDATE users SET full_name = char(27) || '[31m' WHERE full_name = 'Bob'");
    let out = place.run(&["user", "list"]).done().out;
    let lines: Vec<&str> = out.lines().collect();
    let column = lines[0].find("STATE").unwrap();
    assert_eq!(lines.len(), 3);
    assert!(lines[1..].iter().all(|line| line[column..].starts_with("active")), "{out}");
    assert!(lines[2].contains("\\u{1b}[31m") && lines[2].ends_with("yes"), "{out}");
    assert_eq!(place.run(&["tenant", "list"]).done().out, "There are no tenants.\n");
}

// Secrets, configuration, usage.

#[test]
fn generated_secrets_differ_and_are_accepted() {
    let place = Place::new();
    let made: Vec<String> = (0..2).map(|_| place.run(&["secret", "generate"]).done().out.trim_end().to_owned()).collect();
    assert_ne!(made[0], made[1]);
    for secret in &made {
        assert_eq!(secret.len(), 43);
        RootSecrets::parse(&[secret]).unwrap();
        Config::load(None, [("DOORWARD__SECRETS__ROOT".to_owned(), secret.clone())]).unwrap();
    }
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 0, "it touches nothing");
}

#[test]
fn every_problem_of_the_configuration_is_told_at_once() {
    let place = Place::new().set("database.url", "mysql://x").set("server.gprc_addr", "1.2.3.4:5");
    place.run(&["user", "list"]).refused(&["database.url: ", "server.gprc_addr: ", "DOORWARD__SERVER__GPRC_ADDR"]);
    let place = Place::new();
    fs::write(place.file("settings.toml"), "[passwords]\nmin_length = 40\n").unwrap();
    let words = ["user", "create", "--username", "ann", "--password-stdin"];
    place.run_with(&[&["--config", "settings.toml"], &words[..]].concat(), PASSWORD.as_bytes()).refused(&["at least 40 characters"]);
    let by_variable = place.command(&words).env("DOORWARD_CONFIG", "absent.toml").output().unwrap();
    Ran::new(by_variable).refused(&["absent.toml"]);
}

#[test]
fn what_is_typed_wrongly_exits_with_2() {
    let place = Place::new();
    for words in [
        &["user", "create"][..],
        &["user", "create", "--email", "a@b.example", "--password", "secret"],
        &["user", "create", "--email", "a@b.example", "--no-password", "--must-change"],
        &["user", "list", "--format", "yaml"],
        &["tenant", "create", "--slug", "acme"],
        &["role", "create", "--tenant", "acme", "--name", "x", "--level", "high"],
        &["frobnicate"],
    ] {
        let ran = place.run(words);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{words:?}: {ran:?}");
    }
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(Place::new().run(&["--version"]).done().out, format!("doorward {}\n", env!("CARGO_PKG_VERSION")));
}

// Databases that are refused, and migrations.

#[test]
fn migrations_are_listed_and_applied_where_start_may_not() {
    let place = Place::new().set("database.migrate_on_start", "false");
    place.run(&["user", "list"]).refused(&["doorward.db", "doorward migrate up"]);
    let status = || {
        let ran = place.run(&["migrate", "status", "--format", "json"]);
        let states = ran.json();
        let pending = states["migrations"].as_array().unwrap().iter().any(|state| state["applied"] == false);
        assert_eq!(ran.code, i32::from(pending), "{ran:?}");
        states["migrations"].as_array().unwrap().iter().map(|state| state["applied"].as_bool().unwrap()).collect::<Vec<_>>()
    };
    let before = status();
    assert!(!before.is_empty() && before.iter().all(|applied| !applied));
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 0, "looking makes nothing");
    let pending = place.run(&["migrate", "status"]);
    assert!(pending.code == 1 && pending.out.contains("pending") && pending.err.contains("run `doorward migrate up`"), "{pending:?}");

    let applied = place.run(&["migrate", "up", "--format", "json"]).done().json();
    assert_eq!(applied["applied"].as_array().unwrap().len(), before.len());
    assert!(status().iter().all(|&applied| applied));
    assert_eq!(fs::metadata(place.file("doorward.db.key")).unwrap().permissions().mode() & 0o777, 0o600);
    place.user("ann@example.com");
    assert_eq!(place.run(&["migrate", "up"]).done().out, "The schema is up to date.\n");

    // A version with one migration more.
    place.sql_write("doorward.db", "DELETE FROM seaql_migrations WHERE version LIKE '%_audit_events'");
    place.run(&["user", "list"]).refused(&["audit_events", "doorward migrate up"]);
    assert_eq!(status().iter().filter(|applied| !**applied).count(), 1);
}

#[test]
fn foreign_files_are_refused_by_every_command_and_left_as_they_are() {
    let place = Place::new();
    place.sql_write("doorward.db", "CREATE TABLE songs (title TEXT)");
    let before = fs::read(place.file("doorward.db")).unwrap();
    for words in [&["serve"][..], &["user", "list"], &["migrate", "up"]] {
        place.run(words).refused(&["another program's database"]);
    }
    place.run(&["migrate", "status"]).refused(&["tables that are not Doorward's"]);
    let place = place.set("secrets.root", Place::new().run(&["secret", "generate"]).out.trim_end());
    for words in [&["serve"][..], &["user", "list"], &["migrate", "up"], &["migrate", "status"]] {
        place.run(words).refused(&["tables that are not Doorward's"]);
    }
    assert_eq!(fs::read(place.file("doorward.db")).unwrap(), before, "not one byte of it, not even its journal mode");
    let names: Vec<_> = fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["doorward.db"], "nothing is made beside it");

    let place = Place::new();
    fs::write(place.file("doorward.db"), "dear diary, …").unwrap();
    for words in [&["serve"][..], &["user", "list"], &["migrate", "up"], &["migrate", "status"]] {
        place.run(words).refused(&["no SQLite database"]);
    }
    assert_eq!(fs::read_to_string(place.file("doorward.db")).unwrap(), "dear diary, …");
    assert!(!place.file("doorward.db.key").exists());

    let place = Place::new().set("database.url", "sqlite://no/such/folder/doorward.db");
    place.run(&["user", "list"]).refused(&["the folder no/such/folder"]);
}

#[test]
fn a_read_only_file_is_refused() {
    let place = Place::new();
    place.user("ann@example.com");
    fs::set_permissions(place.file("doorward.db"), fs::Permissions::from_mode(0o444)).unwrap();
    for words in [&["serve"][..], &["user", "list"], &["migrate", "up"]] {
        place.run(words).refused(&["is read-only"]);
    }
}

#[test]
fn a_database_without_its_key_or_with_another_ones_is_refused() {
    let place = Place::new();
    place.user("ann@example.com");
    let key = place.file("doorward.db.key");
    let own = fs::read(&key).unwrap();

    fs::remove_file(&key).unwrap();
    for words in [&["serve"][..], &["user", "list"], &["migrate", "up"]] {
        place.run(words).refused(&["key file doorward.db.key is not: put it back"]);
    }
    assert!(!key.exists(), "none is made");

    let write = |bytes: &[u8], mode| {
        fs::write(&key, bytes).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    };
    write(place.run(&["secret", "generate"]).done().out.as_bytes(), 0o600);
    for words in [&["serve"][..], &["user", "list"], &["migrate", "up"]] {
        place.run(words).refused(&["belongs to another root secret"]);
    }
    write(&own, 0o640);
    place.run(&["user", "list"]).refused(&["is open to others", "chmod 600"]);
    write(&own, 0o600);
    assert_eq!(place.users().len(), 1);
}
