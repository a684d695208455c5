//! What changes between the look-up of a password and the opening of the session: the change wins, and the login opens nothing.
//!
//! The moment is held with the database's own means: a transaction of the test holds the row (on SQLite: the file), so that the service
//! verifies the password and then waits. That the password was verified is seen by the count of hashes.

use std::time::Duration;

use super::{DOORS, Seen, attempt, audit_rows};
use crate::{harness::*, on_both};
use doorward::{pb::v1, values::entropy::Entropy};
use sea_orm::{ConnectionTrait, DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait};

/// A transaction that keeps the service from opening sessions.
pub struct Held(DatabaseTransaction);

impl Held {
    /// Takes the lock that opening a session of anybody needs.
    pub async fn new(sql: &Sql) -> Self {
        let options =
            TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..TransactionOptions::default() };
        let held = Self(sql.0.begin_with_options(options).await.unwrap());
        // On SQLite the transaction alone is the lock.
        held.execute("UPDATE users SET full_name = full_name").await;
        held
    }

    /// Changes something that will be there when the lock is gone.
    pub async fn execute(&self, statement: &str) {
        self.0.execute_unprepared(statement).await.unwrap();
    }

    /// Gives the lock back.
    pub async fn release(self) {
        self.0.commit().await.unwrap();
    }
}

/// Waits until the service has done so many hashes.
pub async fn hashes_done(world: &World, hashes: u64) {
    let reached = async {
        while world.app().hasher.hashes() < hashes {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("the password was not verified");
}

/// Logs Ann in by each door while `change` happens between the verification and the opening; answers what was seen.
async fn log_in_during(world: &World, tenant: &str, change: &[&str]) -> Vec<Seen> {
    let mut all = Vec::new();
    for door in DOORS {
        let sql = world.sql().await;
        let hashes = world.app().hasher.hashes();
        let held = Held::new(&sql).await;
        let login = attempt(world, door, "ann@example.com", PASSWORD, tenant);
        let meanwhile = async {
            hashes_done(world, hashes + 1).await;
            for statement in change {
                held.execute(statement).await;
            }
            held.release().await;
        };
        all.push(tokio::join!(login, meanwhile).0);
    }
    all
}

/// A refused login that opened nothing and left one event.
async fn opens_nothing(world: World, change: &[&str]) {
    world.person("ann@example.com").await;
    let sql = world.sql().await;
    let plain = attempt(&world, DOORS[0], "ann@example.com", "a wrong password", "").await;
    let events = audit_rows(&sql).await;
    for seen in log_in_during(&world, "", change).await {
        assert_eq!(seen, plain, "{change:?}");
    }
    assert_eq!(sql.count("SELECT count(*) AS n FROM sessions").await, 0, "{change:?}");
    assert_eq!((audit_rows(&sql).await - events, world.count_events("login.succeeded").await), (2, 0), "{change:?}");
}

on_both! {
    async fn a_login_during_which_nothing_changes_succeeds(world: World) {
        // The givens of the tests below do not refuse by themselves.
        world.person("ann@example.com").await;
        log_in_during(&world, "", &[]).await;
        log_in_during(&world, "", &["UPDATE users SET full_name = 'Ann Other', revision = revision + 1"]).await;
        assert_eq!(world.count_events("login.succeeded").await, 4);
    }

    async fn a_login_opens_nothing_when_the_password_changes(world: World) {
        opens_nothing(world, &["UPDATE users SET epoch = epoch + 1", "UPDATE password_credentials SET version = version + 1"]).await;
    }

    async fn a_login_opens_nothing_when_only_the_credential_moves(world: World) {
        opens_nothing(world, &["UPDATE password_credentials SET version = version + 1"]).await;
    }

    async fn a_login_opens_nothing_when_all_sessions_are_ended(world: World) {
        opens_nothing(world, &["UPDATE users SET epoch = epoch + 1"]).await;
    }

    async fn a_login_opens_nothing_when_everybodys_sessions_are_ended(world: World) {
        opens_nothing(world, &["UPDATE instance SET epoch = epoch + 1"]).await;
    }

    async fn a_login_to_a_tenant_opens_nothing_when_its_sessions_or_the_members_are_ended(world: World) {
        let ann = world.person("ann@example.com").await;
        let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
        world.member(&acme, &ann, &[]).await;
        world.member(&globex, &ann, &[]).await;
        let sql = world.sql().await;
        let mut refused = 0;
        for (change, opens) in [
            ("UPDATE tenants SET epoch = epoch + 1 WHERE slug = 'acme'", false),
            ("UPDATE memberships SET epoch = epoch + 1 WHERE tenant_id = (SELECT id FROM tenants WHERE slug = 'acme')", false),
            // Another tenant's, and what ends nothing.
            ("UPDATE tenants SET epoch = epoch + 1 WHERE slug = 'globex'", true),
            ("UPDATE memberships SET epoch = epoch + 1 WHERE tenant_id = (SELECT id FROM tenants WHERE slug = 'globex')", true),
            ("UPDATE tenants SET name = 'Acme', revision = revision + 1", true),
        ] {
            for tenant in [acme.id.to_string(), "ext:crm-acme".to_owned()] {
                let before = sql.count("SELECT count(*) AS n FROM sessions").await;
                let plain = attempt(&world, DOORS[0], "ann@example.com", "a wrong password", "").await;
                for seen in log_in_during(&world, &tenant, &[change]).await {
                    assert_eq!(seen == plain, !opens, "{change}, {tenant}: {seen:?}");
                }
                refused += if opens { 1 } else { 3 };
                let opened = sql.count("SELECT count(*) AS n FROM sessions").await - before;
                assert_eq!(opened, if opens { 2 } else { 0 }, "{change}, {tenant}");
                assert_eq!(world.count_events("login.failed").await, refused, "{change}, {tenant}");
            }
        }
    }

    async fn a_login_goes_on_when_its_person_becomes_a_member_meanwhile(world: World) {
        let ann = world.person("ann@example.com").await;
        let root = world.superuser("root@example.com").await;
        let acme = world.tenant("acme").await;
        for person in [&ann, &root] {
            world.member(&acme, person, &[]).await;
        }
        let sql = world.sql().await;
        sql.execute("UPDATE memberships SET state = 'removed', epoch = 5").await;
        // A superuser needs no membership, and nothing of a former one stops them.
        for door in DOORS {
            attempt(&world, door, "root@example.com", PASSWORD, &acme.id.to_string()).await;
        }
        assert_eq!(sql.count("SELECT count(*) AS n FROM sessions WHERE membership_epoch IS NULL").await, 2);
        let join = "INSERT INTO memberships (id, tenant_id, user_id, state, epoch, revision, created_at) \
                    SELECT id, tenant_id, user_id, 'active', 0, 0, 0 FROM memberships_kept";
        sql.execute("CREATE TABLE memberships_kept AS SELECT * FROM memberships").await;
        sql.execute("DELETE FROM memberships").await;
        let held = Held::new(&sql).await;
        let hashes = world.app().hasher.hashes();
        let id = acme.id.to_string();
        let login = attempt(&world, DOORS[0], "ann@example.com", PASSWORD, &id);
        let meanwhile = async {
            hashes_done(&world, hashes + 1).await;
            held.execute(join).await;
            held.release().await;
        };
        tokio::join!(login, meanwhile);
        assert_eq!(sql.count("SELECT count(*) AS n FROM sessions WHERE membership_epoch IS NOT NULL").await, 1);
    }

    async fn a_login_opens_nothing_when_the_person_is_disabled(world: World) {
        world.person("ann@example.com").await;
        let seen = log_in_during(&world, "", &["UPDATE users SET state = 'disabled'"]).await;
        assert_eq!(seen[0].reason(), "INVALID_CREDENTIALS");
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM sessions").await, 0);
    }

    async fn a_login_opens_nothing_when_the_person_is_deleted(world: World) {
        world.person("ann@example.com").await;
        let delete = "UPDATE users SET state = 'deleted', email = NULL, email_canonical = NULL";
        let seen = log_in_during(&world, "", &["DELETE FROM password_credentials", delete]).await;
        assert_eq!(seen[0].reason(), "INVALID_CREDENTIALS");
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM sessions").await, 0);
    }

    async fn a_login_opens_nothing_when_the_password_is_taken_away(world: World) {
        world.person("ann@example.com").await;
        let seen = log_in_during(&world, "", &["DELETE FROM password_credentials"]).await;
        assert_eq!(seen[0].reason(), "INVALID_CREDENTIALS");
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM sessions").await, 0);
    }

    async fn a_login_opens_nothing_when_a_reset_becomes_due(world: World) {
        world.person("ann@example.com").await;
        let seen = log_in_during(&world, "", &["UPDATE password_credentials SET reset_required = TRUE"]).await;
        assert_eq!(seen[0].reason(), "INVALID_CREDENTIALS");
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM sessions").await, 0);
    }

    async fn a_login_to_a_tenant_sees_it_as_it_is_at_the_opening(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &[]).await;
        let id = acme.id.to_string();
        for (change, expected) in [
            ("UPDATE tenants SET state = 'suspended', epoch = epoch + 1", "TENANT_SUSPENDED"),
            ("UPDATE memberships SET state = 'suspended', epoch = epoch + 1", "MEMBERSHIP_SUSPENDED"),
            ("UPDATE memberships SET state = 'removed', epoch = epoch + 1", "NOT_A_MEMBER"),
        ] {
            for seen in log_in_during(&world, &id, &[change]).await {
                assert_eq!(seen.reason(), expected);
            }
        }
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM sessions").await, 0);
    }

    async fn no_login_with_the_old_password_outlives_a_change(world: World) {
        let mut dice = Dice::new();
        world.person("ann@example.com").await;
        let other = world.another_replica().await;
        let mut password = PASSWORD.to_owned();
        let (mut opened, mut failed) = (0, 0);
        for round in 0..8 {
            let new = format!("the password of round {round}");
            let session = world.try_login("ann@example.com", &password, "").await.unwrap().tokens.unwrap();
            opened += 1;
            let mut logins = Vec::new();
            for turn in 0..8 {
                let client = if turn % 2 == 0 { world.client() } else { other.client() };
                let (password, is_new) = if turn < 6 { (password.clone(), false) } else { (new.clone(), true) };
                logins.push(tokio::spawn(log_in_later(client, password, is_new, dice.delay())));
            }
            tokio::time::sleep(dice.delay()).await;
            world.change_password(&session.access_token, &password, &new).await.unwrap();

            assert_eq!(refused(world.try_login("ann@example.com", &password, "").await), "INVALID_CREDENTIALS", "round {round}");
            failed += 1;
            for login in logins {
                let (is_new, answer) = login.await.unwrap();
                let Ok(tokens) = answer.map_err(|status| assert_eq!(reason(&status), "INVALID_CREDENTIALS")) else {
                    failed += 1;
                    continue;
                };
                opened += 1;
                if is_new {
                    world.validate(&tokens.access_token).await.unwrap();
                } else {
                    assert_eq!(refused(world.validate(&tokens.access_token).await), "SESSION_REVOKED", "round {round}");
                    assert_eq!(refused(refresh_with(&mut other.client(), &tokens.refresh_token).await), "SESSION_REVOKED", "round {round}");
                }
            }
            password = new;
        }
        assert_eq!((world.count_events("login.succeeded").await, world.count_events("login.failed").await), (opened, failed));
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM sessions").await, opened + 8);
    }
}

type Channel = tonic::transport::Channel;
type Client = v1::auth_service_client::AuthServiceClient<Channel>;

async fn log_in_later(mut client: Client, password: String, is_new: bool, delay: Duration) -> (bool, Result<v1::TokenSet, tonic::Status>) {
    tokio::time::sleep(delay).await;
    let request = v1::LoginRequest { identifier: "ann@example.com".to_owned(), password, ..Default::default() };
    (is_new, client.login(request).await.map(|answer| answer.into_inner().tokens.unwrap()))
}

/// Small random delays from a seed that is printed; `DOORWARD_SEED` repeats a run.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let given = std::env::var("DOORWARD_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from_be_bytes(Entropy::system().bytes()));
        eprintln!("DOORWARD_SEED={seed}");
        Self(seed)
    }

    /// Up to 12 ms: a login or a change takes a few.
    fn delay(&mut self) -> Duration {
        // Knuth's multiplier for 64 bits; the upper bits are the random ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_micros((self.0 >> 33) % 12_000)
    }
}
