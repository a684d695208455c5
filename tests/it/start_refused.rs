//! What is refused at start. Each text says what to do, and a refused start leaves everything as it was.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use doorward::{
    config::Config,
    domain::start::{self, StartError},
    values::{entropy::Entropy, secret},
};
use secrecy::ExposeSecret;

use crate::{
    harness::*,
    start::{Ground, on_new, run},
};

fn generate_root() -> String {
    secret::generate_root(&Entropy::system())
}

/// A refused start of a new SQLite ground, after `given` was done to it; nothing in its folder changed.
fn refused_on_sqlite(given: impl AsyncFnOnce(&mut Ground), expected: &[&str]) {
    run(Backend::Sqlite, |mut ground| async move {
        given(&mut ground).await;
        let before = contents(ground.folder.path());
        let refusal = ground.refusal().await;
        for part in expected {
            assert!(refusal.contains(part), "`{part}` is not in: {refusal}");
        }
        assert_eq!(contents(ground.folder.path()), before, "a refused start changed something");
    });
}

/// Every file of a folder with its mode and the digest of its content, but for SQLite's own that come and go and the empty lock file.
fn contents(folder: &Path) -> Vec<(String, u32, String)> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| ![".db-wal", ".db-shm", ".db.lock"].iter().any(|suffix| name.ends_with(suffix)))
        .map(|(name, path)| {
            (name, fs::metadata(&path).unwrap().permissions().mode(), secret::hex(&secret::sha256(&fs::read(path).unwrap_or_default())))
        })
        .collect();
    all.sort();
    all
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_file_that_others_can_read() {
    for mode in [0o640, 0o604, 0o620, 0o666] {
        refused_on_sqlite(
            async |ground| {
                ground.open_and_close().await;
                chmod(&ground.file(".key"), mode);
            },
            &["doorward.db.key is open to others", "run chmod 600", &format!("{mode:o}")],
        );
    }
}

#[test]
fn a_database_without_its_key_file() {
    refused_on_sqlite(
        async |ground| {
            ground.open_and_close().await;
            fs::remove_file(ground.file(".key")).unwrap();
        },
        &["doorward.db.key is not", "put it back"],
    );
}

#[test]
fn a_key_file_that_holds_no_key() {
    // The last two: a known default, and 32 bytes of text.
    for text in ["", "\n", "not a key!", "c2hvcnQ", "AAAA AAAA", "MY_SECRET_KEY", "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZSE_IQ"] {
        refused_on_sqlite(
            async |ground| {
                ground.open_and_close().await;
                fs::write(ground.file(".key"), text).unwrap();
            },
            &["the key file", "doorward.db.key: ", "root secret", "Put it back as it was"],
        );
    }
}

#[test]
fn a_key_file_of_another_database() {
    refused_on_sqlite(
        async |ground| {
            ground.open_and_close().await;
            fs::write(ground.file(".key"), generate_root()).unwrap();
        },
        &["belongs to another root secret", "secrets.root", "key file"],
    );
}

#[test]
fn a_file_that_is_no_database() {
    for text in [&b"user = admin\n"[..], b"SQLite format 2\0", b"x"] {
        refused_on_sqlite(
            async |ground| fs::write(ground.file(""), text).unwrap(),
            &["doorward.db is no SQLite database", "name another file in database.url"],
        );
    }
}

#[test]
fn a_file_that_only_begins_like_a_database() {
    let broken = [&b"SQLite format 3\0"[..], &[0xff; 8192]].concat();
    refused_on_sqlite(
        async |ground| {
            fs::write(ground.file(""), &broken).unwrap();
            fs::write(ground.file(".key"), generate_root()).unwrap();
            chmod(&ground.file(".key"), 0o600);
        },
        &["doorward.db cannot be opened"],
    );
}

#[test]
fn a_folder_in_the_place_of_the_database() {
    refused_on_sqlite(async |ground| fs::create_dir(ground.file("")).unwrap(), &["doorward.db is no file", "database.url"]);
}

#[test]
fn a_read_only_database() {
    refused_on_sqlite(
        async |ground| {
            ground.open_and_close().await;
            chmod(&ground.file(""), 0o444);
        },
        &["doorward.db is read-only", "make it writable"],
    );
}

#[test]
fn a_database_in_a_folder_that_does_not_exist() {
    refused_on_sqlite(
        async |ground| {
            let missing = ground.folder.path().join("missing/doorward.db");
            ground.config.database.url = format!("sqlite://{}", missing.display()).into();
        },
        &["missing of the database does not exist", "make it first"],
    );
}

/// Nobody makes files in the kernel's own folder, not even root.
#[cfg(target_os = "linux")]
#[test]
fn a_database_in_a_folder_that_is_not_writable() {
    for root in [None, Some(generate_root())] {
        refused_on_sqlite(
            async |ground| {
                ground.config.database.url = "sqlite:///sys/doorward.db".into();
                ground.config.secrets.root = root.into_iter().map(Into::into).collect();
            },
            &["doorward.db", "cannot be made", "folder /sys is", "writable", "name another folder in database.url"],
        );
    }
}

#[test]
fn no_database_where_migrating_is_off() {
    refused_on_sqlite(
        async |ground| ground.config.database.migrate_on_start = Some(false),
        &["there is no database", "database.migrate_on_start is off", "doorward migrate up"],
    );
}

#[test]
fn a_database_in_memory() {
    for url in ["sqlite::memory:", "sqlite://file.db?mode=memory"] {
        refused_on_sqlite(async |ground| ground.config.database.url = url.into(), &["in memory is not supported", "name a file"]);
    }
}

on_new! {
    async fn a_required_migration_that_is_missing_where_migrating_is_off(ground: Ground) {
        let mut ground = ground;
        ground.open_and_close().await;
        let sql = ground.sql().await;
        sql.execute("DELETE FROM seaql_migrations WHERE version LIKE '%_audit_events'").await;
        ground.config.database.migrate_on_start = Some(false);

        let refusal = ground.refusal().await;

        assert!(refusal.contains("lacks migrations (m20261124_000007_audit_events)"), "{refusal}");
        assert!(refusal.contains("doorward migrate up"), "{refusal}");
    }

    async fn another_root_than_the_databases(ground: Ground) {
        let mut ground = ground;
        ground.config.secrets.root = vec![generate_root().into()];
        ground.open_and_close().await;
        ground.config.secrets.root = vec![generate_root().into(), generate_root().into()];

        let refused = ground.open().await.unwrap_err();

        assert!(matches!(&refused, StartError::RootSecret(text) if text.contains("belongs to another root secret")), "{refused}");
        assert_eq!(ground.sql().await.count("SELECT count(*) AS n FROM signing_keys").await, 1);
    }

    /// As if it came out of a dump of the tables without the instance's row.
    async fn people_without_a_root_check(ground: Ground) {
        let app = ground.open().await.unwrap();
        crate::start::person(&app, "ann@example.com").await;
        app.store.close().await;
        ground.sql().await.execute("UPDATE instance SET root_check = NULL").await;

        let refusal = ground.refusal().await;

        assert!(refusal.contains("belongs to another root secret"), "{refusal}");
        assert_eq!(ground.sql().await.count("SELECT count(*) AS n FROM instance WHERE root_check IS NULL").await, 1);
    }

    async fn a_root_that_is_too_short_or_no_base64url(ground: Ground) {
        let mut ground = ground;
        for (root, why) in [("c2hvcnQ", "is shorter than 32 bytes"), ("not base64url!", "is not base64url")] {
            ground.config.secrets.root = vec![generate_root().into(), root.into()];
            let refusal = ground.refusal().await;
            assert!(refusal.contains("secrets.root: root secret 2") && refusal.contains(why), "{refusal}");
            assert!(!refusal.contains(root));
        }
    }

    async fn somebody_elses_tables(ground: Ground) {
        let mut ground = ground;
        ground.config.secrets.root = vec![generate_root().into()];
        if ground.backend == Backend::Sqlite {
            fs::write(ground.file(""), "").unwrap();
        }
        // Also the tables of another service that uses the same migrator.
        for (sql, undo) in [
            ("CREATE TABLE articles (id integer)", "DROP TABLE articles"),
            ("CREATE TABLE seaql_migrations (version text, applied_at bigint)", "SELECT 1"),
            ("CREATE TABLE articles (id integer)", "SELECT 1"),
        ] {
            ground.sql().await.execute(sql).await;
            if sql.contains("articles") {
                let refusal = ground.refusal().await;
                assert!(refusal.contains("tables that are not Doorward's") && refusal.contains("a database of its own"), "{refusal}");
            }
            ground.sql().await.execute(undo).await;
        }
        let count = match ground.backend {
            Backend::Sqlite => "SELECT count(*) AS n FROM sqlite_master WHERE type = 'table'",
            Backend::Postgres => "SELECT count(*) AS n FROM pg_tables WHERE schemaname = 'public'",
        };
        assert_eq!(ground.sql().await.count(count).await, 2, "nothing was made among them");
    }
}

/// A refused start on PostgreSQL.
fn refused_on_postgres(given: impl FnOnce(&mut Config), expected: &[&str]) {
    run(Backend::Postgres, |mut ground| async move {
        given(&mut ground.config);
        let refused = start::open(ground.config.clone(), ground.clock.clone(), Entropy::system()).await.unwrap_err().to_string();
        for part in expected {
            assert!(refused.contains(part), "`{part}` is not in: {refused}");
        }
        let password = "hunter2-canary";
        assert!(!refused.contains(password), "{refused}");
    });
}

#[test]
fn postgres_without_a_root() {
    refused_on_postgres(|config| config.secrets.root.clear(), &["secrets.root must be set", "doorward secret generate"]);
}

#[test]
fn an_empty_postgres_database_where_migrating_is_off() {
    // Off is the default there.
    refused_on_postgres(
        |config| config.database.migrate_on_start = None,
        &["lacks migrations", "m20261124_000001_instance", "doorward migrate up"],
    );
}

#[test]
fn a_postgres_that_does_not_answer() {
    // The port is closed, and nothing listens on it while this test runs.
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    drop(held);
    refused_on_postgres(
        |config| config.database.url = format!("postgres://doorward:hunter2-canary@127.0.0.1:{port}/x").into(),
        &["the database does not answer", &format!("127.0.0.1:{port} (Connection refused"), "in database.url"],
    );
}

#[test]
fn a_postgres_parameter_that_the_driver_would_pass_over() {
    for query in ["sslmod=require", "sslmode=prefer&SSLMODE=require", "ssl_mode=require"] {
        refused_on_postgres(
            |config| config.database.url = format!("{}?{query}", config.database.url.expose_secret()).into(),
            &["database.url", "behind its ?"],
        );
    }
}

#[test]
fn a_postgres_database_or_user_that_does_not_exist() {
    for (from, to, expected) in [
        ("/test_", "/absent_", ["the PostgreSQL server 127.0.0.1:", "has no database \"absent_"]),
        ("doorward@", "nobody:hunter2-canary@", ["the PostgreSQL server 127.0.0.1:", "refuses the user or the password"]),
    ] {
        refused_on_postgres(
            |config| config.database.url = config.database.url.expose_secret().replacen(from, to, 1).into(),
            &[&expected[..], &["database.url"]].concat(),
        );
    }
}

/// A server that answers the wish for TLS with one byte, and after it nothing that is TLS.
fn answers_tls_with(byte: u8) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut wish = [0; 8];
            if connection.read_exact(&mut wish).is_ok() {
                drop(connection.write_all(&[byte]));
                drop(connection.read(&mut wish));
            }
        }
    });
    place
}

#[test]
fn a_postgres_whose_tls_is_not_what_was_asked_for() {
    let (with, without) = (answers_tls_with(b'S'), answers_tls_with(b'N'));
    let not_there = "sslrootcert of database.url names the file \"/nowhere/root ca.pem\", which cannot be read: No such file";
    for (place, query, expected) in [
        (&without, "sslmode=verify-full", &["no TLS to the PostgreSQL server", "does not support TLS", "sslmode"][..]),
        (&with, "sslmode=verify-full&sslrootcert=/nowhere/root+ca.pem", &[not_there]),
        (&with, "sslmode=verify-full&ssl-ca=%2Fnowhere%2Fca.pem", &["ssl-ca of database.url", "/nowhere/ca.pem"]),
    ] {
        let url = format!("postgres://doorward:hunter2-canary@{place}/x?{query}");
        refused_on_postgres(|config| config.database.url = url.into(), expected);
    }
}

#[test]
fn a_postgres_host_that_nobody_knows_or_that_is_silent() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    for (place, why) in [("db.invalid:5432", "lookup"), (&*silent.to_string(), "no answer in time")] {
        let url = format!("postgres://doorward:hunter2-canary@{place}/x");
        refused_on_postgres(|config| config.database.url = url.into(), &["the database does not answer", place, why, "database.url"]);
    }
}
