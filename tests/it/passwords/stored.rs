//! Stored hashes of other parameters, and those that cannot be read.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use doorward::{
    config::Config,
    domain::passwords::{self, ARGON2ID, Stored},
    store::credentials::Credential,
};

use crate::{
    harness::*,
    login::{
        DOORS, attempt,
        races::{Held, hashes_done},
        snapshot, strings,
    },
    on_both,
};

/// What the hashes of a test's configuration begin with.
const CURRENT: &str = "$argon2id$v=19$m=64,t=1,p=1$";
const NEW: &str = "quite another long password";

/// A stored hash as another configuration would have made it: (KiB, passes, lanes, bytes).
pub fn hashed(password: &str, (memory, passes, lanes, length): (u32, u32, u32, usize)) -> String {
    let salt = b"0123456789abcdef";
    let parameters = Params::new(memory, passes, lanes, Some(length)).unwrap();
    let mut hash = vec![0; length];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters).hash_password_into(password.as_bytes(), salt, &mut hash).unwrap();
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}")
}

async fn store(sql: &Sql, hash: &str) {
    assert_eq!(sql.execute(&format!("UPDATE password_credentials SET hash = '{hash}'")).await, 1);
}

async fn stored(sql: &Sql) -> String {
    strings(sql, "SELECT hash AS c FROM password_credentials").await.remove(0)
}

/// From now on counts how often a credential is written.
async fn count_writes(world: &World, sql: &Sql) {
    sql.execute("CREATE TABLE credential_writes (n INTEGER)").await;
    let write = "INSERT INTO credential_writes VALUES (1)";
    match world.backend {
        Backend::Sqlite => {
            sql.execute(&format!("CREATE TRIGGER count_writes AFTER UPDATE ON password_credentials BEGIN {write}; END")).await;
        }
        Backend::Postgres => {
            let function = format!("BEGIN {write}; RETURN NULL; END");
            sql.execute(&format!("CREATE FUNCTION count_writes() RETURNS trigger LANGUAGE plpgsql AS '{function}'")).await;
            sql.execute("CREATE TRIGGER count_writes AFTER UPDATE ON password_credentials FOR EACH ROW EXECUTE FUNCTION count_writes()")
                .await;
        }
    }
}

async fn writes(sql: &Sql) -> i64 {
    sql.count("SELECT count(*) AS n FROM credential_writes").await
}

on_both! {
    async fn a_hash_of_other_parameters_logs_in_and_is_rewritten_once(world: World) {
        world.person("ann@example.com").await;
        let sql = world.sql().await;
        count_writes(&world, &sql).await;
        for parameters in [(128, 1, 1, 32), (64, 3, 1, 32), (64, 1, 4, 32), (32, 1, 1, 32), (64, 1, 1, 64), (64, 1, 1, 16)] {
            store(&sql, &hashed(PASSWORD, parameters)).await;
            let (before, hashes) = (writes(&sql).await, world.app().hasher.hashes());
            let session = world.login("ann@example.com").await;
            assert_eq!(world.app().hasher.hashes() - hashes, 1, "one hash of the current parameters: {parameters:?}");
            let renewed = stored(&sql).await;
            assert!(renewed.starts_with(CURRENT), "{parameters:?}: {renewed}");
            world.login("ann@example.com").await;
            assert_eq!((stored(&sql).await, writes(&sql).await - before), (renewed, 1), "{parameters:?}");
            world.validate(&session.access_token).await.unwrap();
        }
        let moved = sql.count("SELECT count(*) AS n FROM password_credentials WHERE version <> 1 OR scheme <> 'argon2id'").await;
        assert_eq!(moved, 0, "it is no change of the password");
    }

    async fn a_login_that_opens_nothing_rewrites_nothing(world: World) {
        world.person("ann@example.com").await;
        let foreign = world.tenant("foreign").await.id.to_string();
        let sql = world.sql().await;
        store(&sql, &hashed(PASSWORD, (128, 1, 1, 32))).await;
        let before = snapshot(&world, &sql).await;
        let hashes = world.app().hasher.hashes();
        for (password, tenant, expected) in [("a wrong password", "", "INVALID_CREDENTIALS"), (PASSWORD, foreign.as_str(), "NOT_A_MEMBER")] {
            for door in DOORS {
                assert_eq!(attempt(&world, door, "ann@example.com", password, tenant).await.reason(), expected);
            }
        }
        assert_eq!(world.app().hasher.hashes() - hashes, 4);
        assert_eq!(snapshot(&world, &sql).await, before);
    }

    async fn of_parallel_logins_one_rewrites_and_all_succeed(world: World) {
        world.person("ann@example.com").await;
        let sql = world.sql().await;
        count_writes(&world, &sql).await;
        store(&sql, &hashed(PASSWORD, (128, 1, 1, 32))).await;
        let before = writes(&sql).await;
        // All verify the old hash before the first can store a new one.
        let (held, hashes) = (Held::new(&sql).await, world.app().hasher.hashes());
        let mut logins = Vec::new();
        for _ in 0..6 {
            let mut client = world.client();
            let request = doorward::pb::v1::LoginRequest {
                identifier: "ann@example.com".to_owned(),
                password: PASSWORD.to_owned(),
                ..Default::default()
            };
            logins.push(tokio::spawn(async move { client.login(request).await.unwrap().into_inner().tokens.unwrap() }));
        }
        hashes_done(&world, hashes + 6).await;
        held.release().await;
        for login in logins {
            world.validate(&login.await.unwrap().access_token).await.unwrap();
        }
        assert_eq!(writes(&sql).await - before, 1);
        assert!(stored(&sql).await.starts_with(CURRENT));
        world.login("ann@example.com").await;
    }

    async fn a_rewrite_never_undoes_a_password_change(world: World) {
        world.person("ann@example.com").await;
        let sql = world.sql().await;
        store(&sql, &hashed(PASSWORD, (128, 1, 1, 32))).await;
        let changed = hashed(NEW, (64, 1, 1, 32));
        let (held, hashes) = (Held::new(&sql).await, world.app().hasher.hashes());
        let meanwhile = async {
            hashes_done(&world, hashes + 1).await;
            held.execute(&format!("UPDATE password_credentials SET hash = '{changed}', version = version + 1")).await;
            held.release().await;
        };
        let (login, ()) = tokio::join!(world.try_login("ann@example.com", PASSWORD, ""), meanwhile);
        assert_eq!(refused(login), "INVALID_CREDENTIALS");
        assert_eq!(stored(&sql).await, changed);
        world.try_login("ann@example.com", NEW, "").await.unwrap();
    }

    async fn a_password_change_wins_over_a_rewrite_under_way(world: World) {
        world.person("ann@example.com").await;
        let sql = world.sql().await;
        let session = world.login("ann@example.com").await;
        store(&sql, &hashed(PASSWORD, (128, 1, 1, 32))).await;
        let rewritten = hashed(PASSWORD, (64, 1, 1, 32));
        let (held, hashes) = (Held::new(&sql).await, world.app().hasher.hashes());
        let meanwhile = async {
            // The current password and the new one.
            hashes_done(&world, hashes + 2).await;
            held.execute(&format!("UPDATE password_credentials SET hash = '{rewritten}'")).await;
            held.release().await;
        };
        let (change, ()) = tokio::join!(world.change_password(&session.access_token, PASSWORD, NEW), meanwhile);
        change.unwrap();
        assert_ne!(stored(&sql).await, rewritten);
        assert_eq!(refused(world.try_login("ann@example.com", PASSWORD, "").await), "INVALID_CREDENTIALS");
        world.try_login("ann@example.com", NEW, "").await.unwrap();
    }

    async fn a_stored_hash_that_cannot_be_read_is_a_wrong_password(world: World) {
        world.person("ann@example.com").await;
        let sql = world.sql().await;
        let good = hashed(PASSWORD, (64, 1, 1, 32));
        let with = |from: &str, to: &str| good.replacen(from, to, 1);
        let (salt, digest) = (good.split('$').nth(4).unwrap(), good.split('$').nth(5).unwrap());
        let bad = [
            String::new(), " ".to_owned(), "$".to_owned(), "$$$$$".to_owned(), "x".repeat(5_000), PASSWORD.to_owned(),
            with("argon2id", "argon2i"), with("argon2id", "argon2d"), with("argon2id", "argon2"), with("argon2id", "ARGON2ID"),
            with("v=19", "v=16"), with("$v=19", ""), with("v=19", "v=99"),
            with("m=64", "m=4294967295"), with("m=64", "m=262145"), with("m=64", "m=0"), with("m=64", "m=1"), with("m=64", "m=-1"),
            with("t=1", "t=4294967295"), with("t=1", "t=17"), with("t=1", "t=0"), with("p=1", "p=0"), with("p=1", "p=17"),
            with("p=1", "p=16777215"), with("m=64,", ""), with("p=1", "p=1,x=1"), with("p=1", "p=1,data=AAAA"),
            with(salt, "YWJj"), with(salt, ""), with(salt, "!!!!"), with(salt, &"A".repeat(200)),
            with(digest, ""), with(digest, "YWJj"), with(digest, &digest[..14]), with(digest, &"A".repeat(200)),
            good.trim_end_matches(digest).trim_end_matches('$').to_owned(), format!("{good}$"), format!("{good}\n"), format!(" {good}"),
        ];
        // The right password, but at a cost that no configuration asks for.
        let dear = [hashed(PASSWORD, (64, 33, 1, 32)), hashed(PASSWORD, (8 * 17, 1, 17, 32)), hashed(PASSWORD, (64, 1, 1, 10))];
        let wrong = attempt(&world, DOORS[0], "ann@example.com", "a wrong password", "").await;
        for hash in bad.into_iter().chain(dear) {
            store(&sql, &hash).await;
            for door in DOORS {
                let hashes = world.app().hasher.hashes();
                assert_eq!(attempt(&world, door, "ann@example.com", PASSWORD, "").await, wrong, "{door:?}, {hash:?}");
                assert_eq!(world.app().hasher.hashes() - hashes, 1, "{hash:?}");
            }
            assert_eq!(stored(&sql).await, hash, "nothing is mended by a guess");
        }
        store(&sql, &good).await;
        world.login("ann@example.com").await;
    }

    async fn a_password_logs_in_under_its_own_scheme_only(world: World) {
        world.person("ann@example.com").await;
        let sql = world.sql().await;
        let wrong = attempt(&world, DOORS[0], "ann@example.com", "a wrong password", "").await;
        for scheme in ["", "plain", "ARGON2ID", "argon2id ", "argon2", "argon2i", "bcrypt", "unusable"] {
            sql.execute(&format!("UPDATE password_credentials SET scheme = '{scheme}'")).await;
            assert_eq!(attempt(&world, DOORS[0], "ann@example.com", PASSWORD, "").await, wrong, "{scheme:?}");
        }
    }
}

#[test]
fn whatever_a_configuration_may_ask_for_can_be_read_back() {
    // Otherwise every password that is set under it locks its owner out.
    let mut accepted = 0;
    for (memory, passes, lanes) in
        [(19_456, 2, 1), (262_144, 16, 16), (262_145, 2, 1), (19_456, 17, 1), (1_048_576, 32, 16), (19_456, 2, 17)]
    {
        let variables = [("MEMORY_KIB", memory), ("ITERATIONS", passes), ("PARALLELISM", lanes)];
        let variables = variables.map(|(key, value)| (format!("DOORWARD__PASSWORDS__{key}"), value.to_string()));
        let Ok(config) = Config::load(None, variables) else { continue };
        accepted += 1;
        assert!(passwords::parameters(&config.passwords).is_ok());
        let hash =
            format!("$argon2id$v=19$m={memory},t={passes},p={lanes}$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY");
        let credential = Credential { scheme: ARGON2ID.to_owned(), hash, must_change: false, reset_required: false, version: 1 };
        assert!(Stored::read(&credential).is_some(), "m={memory}, t={passes}, p={lanes} is accepted, and what it makes is refused");
    }
    assert!(accepted >= 2);
}
