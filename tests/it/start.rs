//! Starting on a database: what the first start makes, what every later one leaves alone, and many that start at once. What is refused is
//! in `start_refused.rs`.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Stdio, time::Duration};

use doorward::{
    app::App,
    config::Config,
    domain::{
        start::{self, StartError},
        users::{self, NewUserRequest},
    },
    pb::v1,
    store::schema,
    values::{
        entropy::Entropy,
        opaque::RefreshToken,
        secret::{self, Password, RootSecrets},
        time::{Clock, Timestamp},
    },
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{harness::*, on_both};

/// A database that nobody has started on, and the configuration that names it.
pub struct Ground {
    pub backend: Backend,
    pub config: Config,
    pub clock: Clock,
    pub folder: TempDir,
}

impl Ground {
    pub fn new(backend: Backend) -> Self {
        let folder = TempDir::new().unwrap();
        let config = test_config(backend, &folder);
        Self { backend, config, clock: Clock::manual(Timestamp::from_unix(START)), folder }
    }

    /// A start.
    pub async fn open(&self) -> Result<App, StartError> {
        start::open(self.config.clone(), self.clock.clone(), Entropy::system()).await
    }

    /// A start that is over before the next line.
    pub async fn open_and_close(&self) {
        self.open().await.unwrap().store.close().await;
    }

    /// What a refused start says.
    pub async fn refusal(&self) -> String {
        self.open().await.expect_err("should have been refused").to_string()
    }

    pub async fn sql(&self) -> Sql {
        Sql(connection(database_url(&self.config)).await, None)
    }

    /// A file beside the SQLite database, by what comes after its name; with nothing, the database.
    pub fn file(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("doorward.db{suffix}"))
    }

    /// Everything that a start makes, in words: a start that changed something would change these.
    async fn made(&self) -> Vec<String> {
        let sql = self.sql().await;
        let mut all = Vec::new();
        for query in [
            "SELECT version || ' ' || applied_at AS n FROM seaql_migrations ORDER BY version",
            "SELECT 'instance ' || root_check || ' ' || epoch || ' ' || created_at AS n FROM instance",
            "SELECT 'key ' || kid || ' ' || state || ' ' || created_at AS n FROM signing_keys ORDER BY id",
        ] {
            all.extend(sql.query(query).await.iter().map(|row| row.try_get::<String>("", "n").unwrap()));
        }
        if self.backend == Backend::Sqlite {
            all.push(format!("file {}", fs::read_to_string(self.file(".key")).unwrap()));
        }
        all
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Makes two tests of a scenario that begins before the first start.
macro_rules! on_new {
    ($($(#[$meta:meta])* async fn $name:ident($ground:ident: Ground) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn scenario($ground: Ground) $body

            #[test]
            fn sqlite() {
                $crate::start::run(Backend::Sqlite, scenario);
            }

            #[test]
            fn postgres() {
                $crate::start::run(Backend::Postgres, scenario);
            }
        }
    )+};
}
pub(crate) use on_new;

/// Runs a scenario on a new database; on PostgreSQL only where it is.
pub fn run<F, Fut>(backend: Backend, scenario: F)
where
    F: FnOnce(Ground) -> Fut,
    Fut: Future<Output = ()>,
{
    if backend == Backend::Postgres && postgres::cluster().is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { scenario(Ground::new(backend)).await });
}

/// A person with [`PASSWORD`], made past the wire.
pub async fn person(app: &App, email: &str) {
    let request = NewUserRequest {
        email: Some(email.to_owned()),
        username: None,
        full_name: "Ann Example".to_owned(),
        superuser: false,
        password: Some((Password::new(PASSWORD.to_owned()), false)),
    };
    users::create(app, request, cli()).await.unwrap();
}

pub fn login_request(email: &str) -> v1::LoginRequest {
    v1::LoginRequest { identifier: email.to_owned(), password: PASSWORD.to_owned(), ..Default::default() }
}

/// Whether a token is good by what the database has now.
pub fn validate_request(access_token: &str) -> v1::ValidateSessionRequest {
    v1::ValidateSessionRequest { access_token: access_token.to_owned(), freshness: v1::Freshness::Latest.into(), ..Default::default() }
}

on_new! {
    async fn an_empty_database_is_made_whole(ground: Ground) {
        let app = ground.open().await.unwrap();

        let migrations = schema::look(&app.config.database).await.unwrap().1;
        assert!(!migrations.is_empty() && migrations.iter().all(|migration| migration.applied));
        let sql = ground.sql().await;
        assert_eq!(sql.count("SELECT count(*) AS n FROM instance WHERE root_check IS NOT NULL AND epoch = 0 AND NOT bootstrapped").await, 1);
        assert_eq!(sql.count("SELECT count(*) AS n FROM instance").await, 1);
        assert_eq!(sql.count("SELECT count(*) AS n FROM signing_keys WHERE state = 'active' AND algorithm = 'ES256'").await, 1);
        assert_eq!(sql.count("SELECT count(*) AS n FROM signing_keys").await, 1);
        assert_eq!(sql.count("SELECT count(*) AS n FROM users").await, 0, "nobody is made without being asked for");
        let stored = format!("key {} active {START}", app.keys.latest().signer().unwrap().kid);
        assert!(ground.made().await.contains(&stored));
        let check = format!("instance {} 0 {START}", app.roots.first().check());
        assert!(ground.made().await.contains(&check));
    }

    async fn a_second_start_changes_nothing(ground: Ground) {
        let first = ground.open().await.unwrap();
        person(&first, "ann@example.com").await;
        let made = ground.made().await;
        first.store.close().await;

        ground.clock.advance(Duration::from_hours(1));
        let second = ground.open().await.unwrap();

        assert_eq!(second.keys.latest().signer().unwrap().kid, first.keys.latest().signer().unwrap().kid);
        assert_eq!(ground.made().await, made);
        assert_eq!(ground.sql().await.count("SELECT count(*) AS n FROM users").await, 1);
    }

    async fn replicas_that_start_at_once_make_one_of_everything(ground: Ground) {
        for round in 0..4 {
            let ground = Ground::new(ground.backend);
            let mut starting = JoinSet::new();
            for _ in 0..4 {
                starting.spawn(Replica::start(ground.config.clone(), ground.clock.clone()));
            }
            let replicas = starting.join_all().await;

            let sql = ground.sql().await;
            for table in ["instance", "signing_keys"] {
                assert_eq!(sql.count(&format!("SELECT count(*) AS n FROM {table}")).await, 1, "{table} of round {round}");
            }
            let known = i64::try_from(schema::look(&replicas[0].app.config.database).await.unwrap().1.len()).unwrap();
            assert_eq!(sql.count("SELECT count(*) AS n FROM seaql_migrations").await, known);
            let check = replicas[0].app.roots.first().check();
            assert!(replicas.iter().all(|replica| replica.app.roots.first().check() == check), "one key file");

            person(&replicas[0].app, "ann@example.com").await;
            for issuer in &replicas {
                let tokens = issuer.client().login(login_request("ann@example.com")).await.unwrap().into_inner().tokens.unwrap();
                for verifier in &replicas {
                    verifier.client().validate_session(validate_request(&tokens.access_token)).await.unwrap();
                }
            }
            for replica in replicas {
                replica.stop().await;
            }
        }
    }

    async fn a_migration_is_applied_where_it_is_missing(ground: Ground) {
        ground.open_and_close().await;
        let sql = ground.sql().await;
        sql.execute("DROP TABLE audit_events").await;
        sql.execute("DELETE FROM seaql_migrations WHERE version LIKE '%_audit_events'").await;

        let app = ground.open().await.unwrap();

        assert!(schema::look(&app.config.database).await.unwrap().1.iter().all(|migration| migration.applied));
        person(&app, "ann@example.com").await;
        assert_eq!(sql.count("SELECT count(*) AS n FROM audit_events").await, 1);
    }

    async fn a_migration_that_fails_midway_leaves_nothing_of_itself(ground: Ground) {
        ground.open_and_close().await;
        let sql = ground.sql().await;
        sql.execute("DROP TABLE audit_events").await;
        sql.execute("DELETE FROM seaql_migrations WHERE version LIKE '%_audit_events'").await;
        let applied = sql.count("SELECT count(*) AS n FROM seaql_migrations").await;
        // Its last step finds its name taken.
        sql.execute("CREATE INDEX audit_events_object_id_id_idx ON users (full_name)").await;

        let refusal = ground.refusal().await;

        assert!(refusal.contains("migration"), "the operator learns nothing from: {refusal}");
        let table = match ground.backend {
            Backend::Sqlite => "SELECT count(*) AS n FROM sqlite_master WHERE name = 'audit_events'",
            Backend::Postgres => "SELECT count(*) AS n FROM pg_tables WHERE tablename = 'audit_events'",
        };
        assert_eq!(sql.count(table).await, 0);
        assert_eq!(sql.count("SELECT count(*) AS n FROM seaql_migrations").await, applied);
        // With the obstacle gone, the next start goes on where this one was.
        sql.execute("DROP INDEX audit_events_object_id_id_idx").await;
        ground.open().await.unwrap();
        assert_eq!(sql.count(table).await, 1);
    }

    async fn a_newer_database_serves(ground: Ground) {
        ground.open_and_close().await;
        let sql = ground.sql().await;
        sql.execute("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m20991231_000001_of_a_newer_version', 0)").await;
        sql.execute("CREATE TABLE of_a_newer_version (id integer)").await;

        for migrate_on_start in [true, false] {
            let mut config = ground.config.clone();
            config.database.migrate_on_start = Some(migrate_on_start);
            let replica = Replica::start(config, ground.clock.clone()).await;
            let email = format!("ann-{migrate_on_start}@example.com");
            person(&replica.app, &email).await;
            replica.client().login(login_request(&email)).await.unwrap();
            replica.stop().await;
        }
        let newer = "SELECT count(*) AS n FROM seaql_migrations WHERE version = 'm20991231_000001_of_a_newer_version'";
        assert_eq!(sql.count(newer).await, 1);
    }
}

#[test]
fn processes_that_start_at_once_on_sqlite_make_one_key() {
    for round in 0..3 {
        let ground = Ground::new(Backend::Sqlite);
        let children: Vec<_> = (0..3)
            .map(|_| {
                std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "start::one_of_the_processes", "--ignored", "--nocapture"])
                    .env("DOORWARD_TEST_DATABASE", database_url(&ground.config))
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let mut kids: Vec<String> = children
            .into_iter()
            .map(|child| {
                let output = child.wait_with_output().unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success(), "round {round}: {text}{}", String::from_utf8_lossy(&output.stderr));
                let kid = text.split_whitespace().find_map(|word| word.strip_prefix("kid="));
                kid.unwrap_or_else(|| panic!("no key id in {text}")).to_owned()
            })
            .collect();
        assert_eq!(kids.len(), 3);
        kids.dedup();
        assert_eq!(kids.len(), 1, "round {round}: {kids:?}");
        assert_eq!(ground.files().iter().filter(|name| name.contains(".key")).count(), 1, "no draft is left: {:?}", ground.files());
    }
}

#[test]
#[ignore = "a part of `processes_that_start_at_once_on_sqlite_make_one_key`, which starts it in processes of their own"]
fn one_of_the_processes() {
    let Ok(url) = std::env::var("DOORWARD_TEST_DATABASE") else { return };
    run(Backend::Sqlite, |mut ground| async move {
        ground.config.database.url = url.into();
        println!("kid={}", ground.open().await.unwrap().keys.latest().signer().unwrap().kid);
    });
}

#[test]
fn the_key_file_is_for_its_owner_alone_and_made_with_the_database() {
    run(Backend::Sqlite, |ground| async move {
        ground.open_and_close().await;

        for suffix in ["", ".key"] {
            let mode = fs::metadata(ground.file(suffix)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "doorward.db{suffix}");
        }
        let text = fs::read_to_string(ground.file(".key")).unwrap();
        let roots = RootSecrets::parse(&[text.trim_end()]).unwrap();
        let stored = format!("instance {} 0 {START}", roots.first().check());
        assert!(ground.made().await.contains(&stored));
        assert_eq!(ground.files().iter().filter(|name| name.contains(".key")).count(), 1, "no draft is left: {:?}", ground.files());
    });
}

#[test]
fn a_configured_root_needs_no_key_file() {
    run(Backend::Sqlite, |mut ground| async move {
        ground.config.secrets.root = vec![secret::generate_root(&Entropy::system()).into()];
        ground.open_and_close().await;
        assert!(!ground.file(".key").exists());
    });
}

/// What a crash between the two leaves, and what `touch` or a mounted empty file looks like.
#[test]
fn a_key_without_a_database_or_an_empty_file_is_a_first_start() {
    run(Backend::Sqlite, |ground| async move {
        let root = secret::generate_root(&Entropy::system());
        fs::write(ground.file(".key"), &root).unwrap();
        fs::set_permissions(ground.file(".key"), fs::Permissions::from_mode(0o600)).unwrap();
        let app = ground.open().await.unwrap();
        assert_eq!(app.roots.first().check(), RootSecrets::parse(&[root]).unwrap().first().check());
    });
    run(Backend::Sqlite, |ground| async move {
        fs::write(ground.file(""), "").unwrap();
        ground.open().await.unwrap();
    });
}

/// The key id of the root that a refresh token names.
fn named_root(token: &str, config: &Config) -> [u8; 4] {
    let roots = roots(config);
    let all: Vec<_> = roots.all().map(secret::Root::key_id).collect();
    // Only with the root that it names is a token readable.
    let mut able = all.into_iter().filter(|key_id| {
        let alone: Vec<String> = texts(config).into_iter().filter(|text| key_id_of(text) == *key_id).collect();
        RefreshToken::parse(token, &RootSecrets::parse(&alone).unwrap()).is_ok()
    });
    let named = able.next().unwrap();
    assert_eq!(able.next(), None);
    named
}

fn texts(config: &Config) -> Vec<String> {
    use secrecy::ExposeSecret;
    config.secrets.root.iter().map(|root| root.expose_secret().to_owned()).collect()
}

fn roots(config: &Config) -> RootSecrets {
    RootSecrets::parse(&texts(config)).unwrap()
}

fn key_id_of(root: &str) -> [u8; 4] {
    RootSecrets::parse(&[root]).unwrap().first().key_id()
}

on_both! {
    async fn a_new_root_in_front_makes_while_the_old_one_is_accepted(world: World) {
        let (old, new) = (secret::generate_root(&Entropy::system()), secret::generate_root(&Entropy::system()));
        let (old_id, new_id) = (key_id_of(&old), key_id_of(&new));
        let fresh = Ground::new(world.backend);
        let mut config = fresh.config.clone();
        let set = |config: &mut Config, roots: &[&String]| config.secrets.root = roots.iter().map(|root| root.as_str().into()).collect();

        // Given a database of the old root, with a session.
        set(&mut config, &[&old]);
        let replica = Replica::start(config.clone(), fresh.clock.clone()).await;
        person(&replica.app, "ann@example.com").await;
        let first = replica.client().login(login_request("ann@example.com")).await.unwrap().into_inner().tokens.unwrap();
        assert_eq!(named_root(&first.refresh_token, &config), old_id);
        replica.stop().await;

        // The new one is appended everywhere: the old one still makes.
        set(&mut config, &[&old, &new]);
        let replica = Replica::start(config.clone(), fresh.clock.clone()).await;
        let first = refresh_with(&mut replica.client(), &first.refresh_token).await.unwrap();
        assert_eq!(named_root(&first.refresh_token, &config), old_id);
        replica.stop().await;

        // It is moved to the front: it makes, and what is old goes on under the old one.
        set(&mut config, &[&new, &old]);
        let replica = Replica::start(config.clone(), fresh.clock.clone()).await;
        replica.client().validate_session(validate_request(&first.access_token)).await.unwrap();
        let second = refresh_with(&mut replica.client(), &first.refresh_token).await.unwrap();
        assert_eq!(named_root(&second.refresh_token, &config), old_id);
        let young = replica.client().login(login_request("ann@example.com")).await.unwrap().into_inner().tokens.unwrap();
        assert_eq!(named_root(&young.refresh_token, &config), new_id);
        let young = refresh_with(&mut replica.client(), &young.refresh_token).await.unwrap();
        assert_eq!(named_root(&young.refresh_token, &config), new_id);
        replica.stop().await;

        // It alone does not open this database.
        set(&mut config, &[&new]);
        let refused = start::open(config, fresh.clock.clone(), Entropy::system()).await.unwrap_err();
        assert!(matches!(&refused, StartError::RootSecret(text) if text.contains("secrets.root")), "{refused}");
    }

    async fn a_state_that_nobody_knows_counts_as_not_active(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["member"]).await;
        let tokens = world.login_to("ann@example.com", &acme).await;
        let sql = world.sql().await;

        for (table, login, check) in [
            ("memberships", "NOT_A_MEMBER", "NOT_A_MEMBER"),
            ("tenants", "TENANT_SUSPENDED", "TENANT_SUSPENDED"),
            ("users", "INVALID_CREDENTIALS", "PRINCIPAL_DISABLED"),
        ] {
            sql.execute(&format!("UPDATE {table} SET state = 'hibernating'")).await;
            let answer = world.try_login("ann@example.com", PASSWORD, &acme.id.to_string()).await;
            assert_eq!(refused(answer), login, "{table} at login");
            assert_eq!(refused(world.validate(&tokens.access_token).await), check, "{table} at validation");
            assert_eq!(refused(world.refresh(&tokens.refresh_token).await), check, "{table} at refresh");
            sql.execute(&format!("UPDATE {table} SET state = 'active'")).await;
            world.validate(&tokens.access_token).await.unwrap();
        }
        let listed = world.login("ann@example.com").await;
        sql.execute("UPDATE memberships SET state = 'hibernating'").await;
        let page = world.client().list_tenants(bearer(v1::ListTenantsRequest::default(), &listed.access_token)).await.unwrap().into_inner();
        assert_eq!(page.tenants, []);
        sql.execute("UPDATE memberships SET state = 'active'").await;

        // A key of an unknown state verifies nothing: the next start makes another.
        sql.execute("UPDATE signing_keys SET state = 'hibernating'").await;
        let world = world.restart_with(|_| {}).await;
        assert_eq!(refused(world.validate(&tokens.access_token).await), "TOKEN_INVALID");
        world.login("ann@example.com").await;
        assert_eq!(sql.count("SELECT count(*) AS n FROM signing_keys WHERE state = 'active'").await, 1);
    }
}
