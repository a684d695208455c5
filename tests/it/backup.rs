//! Backups of an SQLite database that is served and written to meanwhile.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use doorward::{
    config::Config,
    domain::{
        backup::{self, BackupError},
        revocation,
    },
    store::facts::Whose,
    values::entropy::Entropy,
};

use crate::{harness::*, life::eventually};

/// Bytes of a page of an SQLite database.
const PAGE: usize = 4096;

async fn back_up(config: &Config, to: &Path) -> Result<backup::Backup, BackupError> {
    backup::make(config, to, &Entropy::system()).await
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn ok(sql: &Sql) -> bool {
    let rows = sql.query("PRAGMA integrity_check").await;
    rows.len() == 1 && rows[0].try_get_by_index::<String>(0).unwrap() == "ok"
}

#[test]
fn a_copy_under_write_load_is_whole_and_serves() {
    run(Backend::Sqlite, |world: World| async move {
        world.person("ann@example.com").await;
        let old = world.login("ann@example.com").await;
        let (go, logins) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let mut load = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (mut client, go, logins) = (world.client(), Arc::clone(&go), Arc::clone(&logins));
            load.spawn(async move {
                while go.load(Ordering::Relaxed) {
                    client.login(crate::start::login_request("ann@example.com")).await.unwrap();
                    logins.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let target = world.folder().join("copies");
        fs::create_dir(&target).unwrap();
        for round in 0..5 {
            let before = logins.load(Ordering::Relaxed);
            eventually("there is load", async || logins.load(Ordering::Relaxed) > before + 3).await;
            let copy = target.join(format!("{round}.db"));
            let made = back_up(&world.config, &copy).await.unwrap();
            assert_eq!(made.bytes, fs::metadata(&copy).unwrap().len());
            assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        }
        go.store(false, Ordering::Relaxed);
        load.join_all().await;
        assert_eq!(names(&target), ["0.db", "1.db", "2.db", "3.db", "4.db"], "no draft and no journal");

        // Restored: the copy in the place of a database, the key file beside it.
        let place = world.folder().join("restored");
        fs::create_dir(&place).unwrap();
        fs::copy(target.join("4.db"), place.join("doorward.db")).unwrap();
        fs::copy(world.folder().join("doorward.db.key"), place.join("doorward.db.key")).unwrap();
        let mut config = world.config.clone();
        config.database.url = format!("sqlite://{}", place.join("doorward.db").display()).into();
        let restored = Replica::start(config.clone(), world.clock.clone()).await;
        let sql = Sql(connection(database_url(&config)).await, None);
        assert!(ok(&sql).await);
        let opened = sql.count("SELECT count(*) AS n FROM sessions").await;
        let recorded = sql.count("SELECT count(*) AS n FROM audit_events WHERE event = 'login.succeeded'").await;
        assert!(opened > 15, "{opened}");
        assert_eq!(opened, recorded, "a session and its event are of one transaction");
        let request = || crate::start::validate_request(&old.access_token);
        restored.client().validate_session(request()).await.unwrap();
        revocation::revoke_all(&restored.app, Whose::Everybody, cli()).await.unwrap();
        assert_eq!(refused(restored.client().validate_session(request()).await), "SESSION_REVOKED");
        restored.client().login(crate::start::login_request("ann@example.com")).await.unwrap();
        restored.stop().await;
    });
}

#[test]
fn what_is_there_is_not_written_over_and_a_failure_leaves_nothing() {
    run(Backend::Sqlite, |world: World| async move {
        let target = world.folder().join("copies");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("mine"), "mine").unwrap();
        std::os::unix::fs::symlink("nowhere", target.join("link")).unwrap();
        let refusal = async |path: &str| back_up(&world.config, &target.join(path)).await.unwrap_err().to_string();

        for taken in ["mine", "link"] {
            assert!(refusal(taken).await.contains("is there already, and is not written over"));
        }
        assert!(refusal("no/such/file.db").await.contains("no/such does not exist: make it first"));
        assert!(refusal("..").await.contains(" is "), "a folder is no file");
        assert_eq!(fs::read_to_string(target.join("mine")).unwrap(), "mine");
        assert_eq!(names(&target), ["link", "mine"]);

        // Broken off in the middle: the one who waits for it is gone.
        let copy = target.join("half.db");
        let entropy = Entropy::system();
        for polls in 0..40 {
            let mut making = Box::pin(backup::make(&world.config, &copy, &entropy));
            for _ in 0..polls {
                if futures_poll(making.as_mut()).await {
                    break;
                }
            }
            drop(making);
            // Long enough, it is done.
            drop(fs::remove_file(&copy));
            assert_eq!(names(&target), ["link", "mine"], "after {polls} polls");
        }
    });
}

/// Polls once; whether it is done.
async fn futures_poll(future: std::pin::Pin<&mut impl Future>) -> bool {
    let mut future = Some(future);
    let done = std::future::poll_fn(|context| std::task::Poll::Ready(future.take().is_some_and(|future| future.poll(context).is_ready())));
    let done = done.await;
    tokio::task::yield_now().await;
    done
}

#[test]
fn a_damaged_database_is_not_copied() {
    crate::start::run(Backend::Sqlite, |ground| async move {
        let app = ground.open().await.unwrap();
        for index in 0..50 {
            crate::start::person(&app, &format!("person-{index}@example.com")).await;
        }
        app.store.close().await;
        let copy = ground.folder.path().join("copy");
        let sound = fs::read(ground.file("")).unwrap();

        // A page of noise in the place of people, which SQLite stumbles over while it copies.
        let mut bytes = sound.clone();
        let someone = bytes.windows(21).position(|text| text == b"person-25@example.com").unwrap();
        let page = someone / PAGE * PAGE;
        bytes[page..page + PAGE].fill(0x5a);
        fs::write(ground.file(""), bytes).unwrap();
        let refusal = back_up(&ground.config, &copy).await.unwrap_err().to_string();
        assert!(refusal.contains("(database error 11)"), "{refusal}");

        // Rows that break the schema's rules, which only a look at the copy finds.
        fs::write(ground.file(""), sound).unwrap();
        let sql = ground.sql().await;
        sql.execute("PRAGMA writable_schema = ON").await;
        let (from, to) = ("\"full_name\" text NOT NULL", "\"full_name\" text");
        let rewrite = |from: &str, to: &str| format!("UPDATE sqlite_master SET sql = replace(sql, '{from}', '{to}') WHERE name = 'users'");
        assert_eq!(sql.execute(&rewrite(from, to)).await, 1);
        sql.0.clone().close().await.unwrap();
        let sql = ground.sql().await;
        assert_eq!(sql.execute("UPDATE users SET full_name = NULL WHERE email = 'person-7@example.com'").await, 1);
        sql.execute("PRAGMA writable_schema = ON").await;
        sql.execute(&rewrite(to, from)).await;
        sql.0.close().await.unwrap();
        let refusal = back_up(&ground.config, &copy).await.unwrap_err().to_string();
        assert!(refusal.contains("is damaged"), "{refusal}");

        assert!(names(ground.folder.path()).iter().all(|name| !name.starts_with("copy")));
    });
}

#[test]
fn another_programs_database_and_none_are_refused() {
    run(Backend::Sqlite, |world: World| async move {
        let target = world.folder().join("copy.db");
        let mut config = world.config.clone();
        let other = world.folder().join("other.db");
        config.database.url = format!("sqlite://{}", other.display()).into();
        let refusal = back_up(&config, &target).await.unwrap_err().to_string();
        assert!(refusal.contains("there is no database") && refusal.contains("database.url"), "{refusal}");
        assert!(!other.exists(), "none is made");
        let sql = Sql(connection(format!("{}?mode=rwc", database_url(&config))).await, None);
        sql.execute("CREATE TABLE songs (title TEXT)").await;
        let refusal = back_up(&config, &target).await.unwrap_err().to_string();
        assert!(refusal.contains("tables that are not Doorward's"), "{refusal}");
        assert!(!target.exists());
    });
}

#[test]
fn postgres_has_its_own_tool() {
    run(Backend::Postgres, |world: World| async move {
        let target = world.folder().join("copy.db");
        let refusal = back_up(&world.config, &target).await.unwrap_err().to_string();
        assert!(refusal.contains("pg_dump") && !refusal.contains(&database_url(&world.config)), "{refusal}");
        assert!(!target.exists());
    });
}
