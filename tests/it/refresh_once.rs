//! A refresh as one statement: that it is one, that its answer says what the slow way would say, that a step which was not committed is no
//! answer, and how long the session goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use doorward::{
    domain::roles::NewRoleRequest,
    pb::v1::TokenSet,
    store::tenants::Tenant,
    values::{ids::SessionId, opaque::RefreshToken},
};
use sea_orm::{ConnectionTrait as _, DbBackend};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    access::{literal, set_tenant_state},
    harness::*,
    on_both,
    probe::*,
};

/// A role with any name, at a level.
async fn role_at(world: &World, tenant: &Tenant, name: &str, level: i32, permissions: &[&str]) {
    let permissions = permissions.iter().map(|&permission| permission.to_owned()).collect();
    let request = NewRoleRequest { name: name.to_owned(), level, permissions, description: String::new() };
    doorward::domain::roles::create(world.app(), tenant, request, cli()).await.unwrap();
}

/// What an access token says of its session and tenant, without what is of its own moment.
fn said(tokens: &TokenSet) -> Value {
    let mut claims = payload(&tokens.access_token);
    for own in ["jti", "iat", "nbf", "exp"] {
        claims.as_object_mut().unwrap().remove(own).unwrap();
    }
    claims
}

/// How many statements the refresh of a token sends to the database.
async fn statements(world: &World, token: &str, ask: Ask<'_>) -> (TokenSet, u64) {
    let before = world.app().store.statements();
    let tokens = refresh_asking(world, token, ask).await.unwrap();
    (tokens, world.app().store.statements() - before)
}

/// The policy of every tenant, as an operator would set it.
async fn set_policy(world: &World, policy: &str) {
    world.sql().await.execute(&format!("UPDATE tenants SET policy = '{policy}'")).await;
}

/// Makes every commit of a refresh fail: its last check, of a reference that is checked late, finds nothing.
async fn let_commits_fail(sql: &Sql) {
    let trigger = match sql.0.get_database_backend() {
        DbBackend::Postgres => {
            "CREATE FUNCTION refer() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO late VALUES (1); RETURN NEW; END';
             CREATE TRIGGER fail AFTER UPDATE OF refresh_generation ON sessions FOR EACH ROW EXECUTE FUNCTION refer()"
        }
        _ => "CREATE TRIGGER fail AFTER UPDATE OF refresh_generation ON sessions BEGIN INSERT INTO late VALUES (1); END",
    };
    sql.0.execute_unprepared("CREATE TABLE early (id INTEGER PRIMARY KEY)").await.unwrap();
    sql.0.execute_unprepared("CREATE TABLE late (id INTEGER REFERENCES early (id) DEFERRABLE INITIALLY DEFERRED)").await.unwrap();
    sql.0.execute_unprepared(trigger).await.unwrap();
}

on_both! {
    async fn an_ordinary_refresh_is_one_statement(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        world.member(&acme, &ann, &["seller"]).await;
        let own = acme.id.to_string();
        let plain = world.login("ann@example.com").await;
        let bound = world.login_to("ann@example.com", &acme).await;
        let capped = grant(&world, "ann@example.com", Ask { tenant_id: &own, scope: "sales:write", ..Ask::default() }).await.unwrap();
        for first in [plain, bound, capped] {
            let mut tokens = first.clone();
            for _ in 0..3 {
                let (next, sent) = statements(&world, &tokens.refresh_token, Ask::default()).await;
                assert_eq!(sent, 1);
                assert_eq!((said(&next), &next.scope), (said(&first), &first.scope));
                tokens = next;
            }
            let (narrow, sent) =
                statements(&world, &tokens.refresh_token, Ask { audience: &["doorward-clients"], ..Ask::default() }).await;
            assert_eq!((sent, said(&narrow)["aud"].clone()), (1, serde_json::json!(["doorward-clients"])));
        }
    }

    async fn a_wrong_hint_costs_statements_and_decides_nothing(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["member"]).await;
        let (plain, bound) = (world.login("ann@example.com").await, world.login_to("ann@example.com", &acme).await);
        let sql = world.sql().await;
        for (first, is_bound) in [(plain, false), (bound, true)] {
            let right = RefreshToken::parse(&first.refresh_token, &world.app().roots).unwrap();
            assert_eq!(right.session.hints_bound(), is_bound);
            let wrong = SessionId::from_uuid(Uuid::from_u128(right.session.as_uuid().as_u128() ^ 1));
            let (old, new) = (literal(&world, right.session.as_uuid()), literal(&world, wrong.as_uuid()));
            assert_eq!(sql.execute(&format!("UPDATE sessions SET id = {new} WHERE id = {old}")).await, 1);
            let mut token = RefreshToken { session: wrong, ..right }.encode(&world.app().roots).unwrap().expose_secret().to_owned();
            for _ in 0..2 {
                let (next, sent) = statements(&world, &token, Ask::default()).await;
                // Nothing asked in vain, or the plain statement before.
                assert_eq!(sent, 1 + u64::from(is_bound));
                let (mut now, mut before) = (said(&next), said(&first));
                assert_eq!(now["sid"].take(), wrong.to_string());
                before["sid"].take();
                assert_eq!(now, before);
                token = next.refresh_token;
            }
            set_tenant_state(&world, &acme, "suspended").await;
            let answer = if is_bound { "TENANT_SUSPENDED" } else { "OK" };
            assert_eq!(word(world.refresh(&token).await), answer);
            set_tenant_state(&world, &acme, "active").await;
        }
    }

    async fn every_way_tells_the_same_of_the_roles(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        let names = ["12:x[\"a:b\"]", "Ünïcode ✓ \u{1f512}", "quote\"'\\", "0", "plain", "none at all", "[\"x:y\"]", "9:"];
        for (index, name) in names.into_iter().enumerate() {
            let permission = format!("thing{index}:do");
            let permissions: &[&str] = if index == 5 { &[] } else { &["sales:read", &permission, "*:list"] };
            role_at(&world, &acme, name, [3, 9, 3, 7, 3, 0, 9, 1][index], permissions).await;
        }
        for (index, held) in [&[][..], &names[5..6], &names[..1], &names[..]].into_iter().enumerate() {
            let email = format!("person{index}@example.com");
            let person = world.person(&email).await;
            world.member(&acme, &person, held).await;
            let first = world.login_to(&email, &acme).await;
            let at_once = world.refresh(&first.refresh_token).await.unwrap();
            let own = acme.id.to_string();
            let judged = refresh_asking(&world, &at_once.refresh_token, Ask { tenant_id: &own, ..Ask::default() }).await.unwrap();
            let healed = world.refresh(&at_once.refresh_token).await.unwrap();
            assert_eq!(said(&first)["roles"].as_array().unwrap().len(), held.len());
            for later in [&at_once, &judged, &healed] {
                assert_eq!(said(later), said(&first), "{held:?}");
            }
        }
        // What changed since the login is said at once.
        world.member(&acme, &ann, &["plain"]).await;
        let first = world.login_to("ann@example.com", &acme).await;
        world.sql().await.execute("DELETE FROM membership_roles").await;
        let second = world.refresh(&first.refresh_token).await.unwrap();
        assert_eq!((said(&second)["roles"].clone(), said(&second)["permissions"].clone()), (serde_json::json!([]), serde_json::json!([])));
        world.sql().await.execute("UPDATE roles SET permissions = '[\"new:one\"]'").await;
        let owners = "INSERT INTO membership_roles SELECT m.tenant_id, m.id, r.id FROM memberships m, roles r WHERE r.name = 'owner'";
        world.sql().await.execute(owners).await;
        let third = world.refresh(&second.refresh_token).await.unwrap();
        assert_eq!(said(&third)["permissions"], serde_json::json!(["new:one"]));
    }

    async fn a_superuser_who_is_no_member_has_no_roles(world: World) {
        let root = world.superuser("root@example.com").await;
        let acme = world.tenant("acme").await;
        let first = world.login_to("root@example.com", &acme).await;
        let second = world.refresh(&first.refresh_token).await.unwrap();
        assert_eq!((said(&second), said(&second)["roles"].clone()), (said(&first), serde_json::json!([])));

        // A member by now: like everybody, in roles and in suspension.
        world.member(&acme, &root, &["member"]).await;
        let third = world.refresh(&second.refresh_token).await.unwrap();
        assert_eq!(said(&third)["roles"], serde_json::json!(["member"]));
        let sql = world.sql().await;
        sql.execute("UPDATE memberships SET state = 'suspended'").await;
        let before = rows(&sql, "sessions").await;
        assert_eq!(refused(world.refresh(&third.refresh_token).await), "MEMBERSHIP_SUSPENDED");
        assert_eq!(rows(&sql, "sessions").await, before);
        sql.execute("UPDATE memberships SET state = 'removed'").await;
        let fourth = world.refresh(&third.refresh_token).await.unwrap();
        assert_eq!(said(&fourth)["roles"], serde_json::json!([]));
    }

    async fn a_row_that_cannot_be_read_does_not_use_the_token_up(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        world.member(&acme, &ann, &["seller"]).await;
        let capped = grant(&world, "ann@example.com", Ask { scope: "sales:write", ..Ask::default() }).await.unwrap();
        let bound = world.login_to("ann@example.com", &acme).await;
        let sql = world.sql().await;
        for (set, broken, right) in [
            (&bound, "roles SET permissions = '[\"nonsense\"]'", "roles SET permissions = '[\"sales:write\"]'"),
            (&bound, "tenants SET policy = '{\"access_lifetime\": \"x\"}'", "tenants SET policy = '{}'"),
            (&bound, "tenants SET policy = '{\"idle_lifetime\": -5}'", "tenants SET policy = '{}'"),
            (&bound, "tenants SET policy = '[]'", "tenants SET policy = '{}'"),
            (&capped, "sessions SET scope = 'nonsense' WHERE scope <> ''", "sessions SET scope = 'sales:write' WHERE scope <> ''"),
        ] {
            sql.execute(&format!("UPDATE {broken}")).await;
            let before = rows(&sql, "sessions").await;
            assert_eq!(refused(world.refresh(&set.refresh_token).await), "INTERNAL", "{broken}");
            assert_eq!(rows(&sql, "sessions").await, before, "{broken}");
            sql.execute(&format!("UPDATE {right}")).await;
        }
        world.pass(Duration::from_mins(2));
        for set in [bound, capped] {
            world.refresh(&set.refresh_token).await.unwrap();
        }
    }

    async fn whoever_reads_gets_a_turn_beside_refreshes(world: World) {
        let world = world.restart_with(|config| config.database.max_connections = 1).await;
        world.person("ann@example.com").await;
        let reader = world.login("ann@example.com").await;
        let (mut refreshing, is_over) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        for _ in 0..8 {
            let (mut client, mut token, is_over) = (world.client(), world.login("ann@example.com").await.refresh_token, Arc::clone(&is_over));
            refreshing.spawn(async move {
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) {
                    token = refresh_with(&mut client, &token).await.unwrap().refresh_token;
                    count += 1;
                }
                count
            });
        }
        for _ in 0..50 {
            world.validate(&reader.access_token).await.unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        let counts: Vec<u32> = refreshing.join_all().await;
        assert!(!counts.contains(&0), "{counts:?}");
    }

    async fn a_step_that_was_not_committed_is_no_answer(world: World) {
        world.person("ann@example.com").await;
        let tokens = world.login("ann@example.com").await;
        let sql = world.sql().await;
        let before = rows(&sql, "sessions").await;
        let_commits_fail(&sql).await;
        for _ in 0..2 {
            assert_eq!(refused(world.refresh(&tokens.refresh_token).await), "INTERNAL");
            assert_eq!(rows(&sql, "sessions").await, before);
        }
        let drop = if world.backend == Backend::Postgres { "DROP TRIGGER fail ON sessions" } else { "DROP TRIGGER fail" };
        sql.execute(drop).await;
        world.refresh(&tokens.refresh_token).await.unwrap();
    }

    async fn a_tenant_s_lifetimes_go_before_the_configured_ones(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["member"]).await;
        let sql = world.sql().await;
        let (mut plain, mut bound) = (world.login("ann@example.com").await, world.login_to("ann@example.com", &acme).await);
        let idle = async |bound: bool| {
            let which = if bound { "NOT NULL" } else { "NULL" };
            sql.count(&format!("SELECT idle_expires_at AS n FROM sessions WHERE tenant_id IS {which}")).await
        };
        let (week, month) = (7 * 86_400, 30 * 86_400);
        let own = acme.id.to_string();
        for (step, (policy, idle_lifetime, access_lifetime)) in [
            ("{}", week, 900),
            (r#"{"idle_lifetime": 7200, "access_lifetime": 60, "absolute_lifetime": 7200}"#, 7_200, 60),
            (r#"{"idle_lifetime": 1201, "access_lifetime": 900, "absolute_lifetime": 86400, "later": {}}"#, 1_201, 900),
            // Never beyond the session's end, and never beyond what verification lets through.
            (r#"{"idle_lifetime": 315360000, "access_lifetime": 43200, "absolute_lifetime": 315360000}"#, month, 3_600),
            ("{}", week, 900),
        ]
        .into_iter()
        .enumerate()
        {
            set_policy(&world, policy).await;
            world.pass(Duration::from_mins(1));
            let now = START + 60 * (i64::try_from(step).unwrap() + 1);
            plain = world.refresh(&plain.refresh_token).await.unwrap();
            // By both ways in turn.
            let tenant_id = if step % 2 == 0 { "" } else { own.as_str() };
            let next = refresh_asking(&world, &bound.refresh_token, Ask { tenant_id, ..Ask::default() }).await.unwrap();
            let healed = world.refresh(&bound.refresh_token).await.unwrap();
            bound = next;
            assert_eq!((idle(false).await, plain.expires_in), (now + week, 900), "{policy}");
            assert_eq!((idle(true).await, bound.expires_in), ((now + idle_lifetime).min(START + month), access_lifetime), "{policy}");
            assert_eq!((&healed.refresh_token, healed.expires_in), (&bound.refresh_token, access_lifetime), "{policy}");
            assert_eq!(payload(&bound.access_token)["exp"], now + i64::from(access_lifetime), "{policy}");
            world.validate(&bound.access_token).await.unwrap();
        }
        set_policy(&world, r#"{"idle_lifetime": 7200, "access_lifetime": 900, "absolute_lifetime": 7200}"#).await;
        bound = world.refresh(&bound.refresh_token).await.unwrap();
        world.pass(Duration::from_secs(7_199));
        bound = world.refresh(&bound.refresh_token).await.unwrap();
        world.pass(Duration::from_hours(2));
        assert_eq!(refused(world.refresh(&bound.refresh_token).await), "SESSION_EXPIRED");
        world.refresh(&plain.refresh_token).await.unwrap();
    }
}
