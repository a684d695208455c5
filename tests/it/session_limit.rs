//! The most live sessions of one user: a login beyond them ends the oldest, in its own transaction and with an event each.

use std::time::Duration;

use doorward::pb::v1;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    harness::*,
    life::eventually,
    login::races::Held,
    on_both,
    own_sessions::sid,
    probe::{Ask, get_me, grant, list_sessions, word},
};

async fn limited(world: World, most: u32) -> World {
    world.restart_with(|config| config.tokens.max_sessions = most).await
}

/// What each token gets now.
async fn words(world: &World, sets: &[v1::TokenSet]) -> Vec<String> {
    let mut words = Vec::new();
    for set in sets {
        words.push(word(world.validate(&set.access_token).await));
    }
    words
}

async fn logins(world: &World, email: &str, count: usize) -> Vec<v1::TokenSet> {
    let mut sets = Vec::new();
    for _ in 0..count {
        world.pass(Duration::from_secs(1));
        sets.push(world.login(email).await);
    }
    sets
}

const OVER: &str = "SESSION_REVOKED";

on_both! {
    async fn the_oldest_session_ends_where_there_is_one_too_many(world: World) {
        let world = limited(world, 3).await;
        let other = world.another_replica().await;
        let acme = world.tenant("acme").await;
        let ann = world.person("ann@example.com").await;
        world.member(&acme, &ann, &["member"]).await;
        world.pass(Duration::from_secs(1));
        let bound = world.login_to("ann@example.com", &acme).await;
        let mut sets = vec![bound];
        sets.extend(logins(&world, "ann@example.com", 2).await);
        assert_eq!(words(&world, &sets).await, ["OK"; 3]);
        assert_eq!(world.count_events("session.revoked").await, 0);

        sets.extend(logins(&world, "ann@example.com", 1).await);
        assert_eq!(words(&world, &sets).await, [OVER, "OK", "OK", "OK"]);
        // By the other door too; and on another replica at once, with its refresh token.
        world.pass(Duration::from_secs(1));
        sets.push(grant(&world, "ann@example.com", Ask::default()).await.unwrap());
        assert_eq!(words(&world, &sets).await, [OVER, OVER, "OK", "OK", "OK"]);
        assert_eq!(refused(refresh_with(&mut other.client(), &sets[1].refresh_token).await), OVER);

        let sql = world.sql().await;
        let rows = sql.query("SELECT * FROM audit_events WHERE event = 'session.revoked' ORDER BY id").await;
        let mut told: Vec<_> = rows
            .iter()
            .map(|row| {
                let text = |column: &str| row.try_get::<Option<String>>("", column).unwrap().unwrap_or_default();
                let session: uuid::Uuid = row.try_get("", "session_id").unwrap();
                let tenant: Option<uuid::Uuid> = row.try_get("", "tenant_id").unwrap();
                assert_eq!((text("object_kind").as_str(), text("object_id")), ("session", session.to_string()));
                assert_eq!((text("actor_kind").as_str(), text("actor_id")), ("user", ann.id.to_string()));
                assert!(!text("request_id").is_empty());
                (session.to_string(), tenant, row.try_get::<serde_json::Value>("", "details").unwrap())
            })
            .collect();
        told.sort_by_key(|(session, ..)| sets.iter().position(|set| sid(set) == *session));
        let cause = |by: &v1::TokenSet| json!({ "cause": "session_limit", "by_session": sid(by) });
        assert_eq!(told, [(sid(&sets[0]), Some(acme.id.as_uuid()), cause(&sets[3])), (sid(&sets[1]), None, cause(&sets[4]))]);
        other.stop().await;
    }

    async fn only_live_sessions_of_that_user_count(world: World) {
        let world = limited(world, 3).await;
        let acme = world.tenant("acme").await;
        let ann = world.person("ann@example.com").await;
        world.person("bob@example.com").await;
        world.member(&acme, &ann, &["member"]).await;
        let bobs = logins(&world, "bob@example.com", 3).await;
        let kept = logins(&world, "ann@example.com", 2).await;
        // Ended, of a tenant whose sessions were ended, idle for too long, expired: none of them takes a place.
        let out = logins(&world, "ann@example.com", 1).await;
        world.logout(&out[0].access_token).await.unwrap();
        world.login_to("ann@example.com", &acme).await;
        let sql = world.sql().await;
        sql.execute("UPDATE tenants SET epoch = epoch + 1").await;
        for column in ["idle_expires_at", "expires_at"] {
            let late = logins(&world, "ann@example.com", 1).await;
            let id = crate::access::literal(&world, sid(&late[0]).parse().unwrap());
            sql.execute(&format!("UPDATE sessions SET {column} = {START} WHERE id = {id}")).await;
        }
        let last = logins(&world, "ann@example.com", 1).await;
        assert_eq!(words(&world, &[kept.clone(), last.clone()].concat()).await, ["OK"; 3]);
        assert_eq!(words(&world, &bobs).await, ["OK"; 3]);
        // What opens nothing ends nothing.
        world.try_login("ann@example.com", "not the right password", "").await.unwrap_err();
        world.try_login("ann@example.com", PASSWORD, "ext:nobody").await.unwrap_err();
        assert_eq!(words(&world, &[kept.clone(), last].concat()).await, ["OK"; 3]);
        assert_eq!(list_sessions(&world, &kept[0].access_token, "").await.unwrap().sessions.len(), 3);
        logins(&world, "ann@example.com", 1).await;
        assert_eq!(words(&world, &kept).await, [OVER, "OK"]);
        assert_eq!(world.count_events("session.revoked").await, 2, "the logout, and the one that was too many");
    }

    async fn a_lower_limit_ends_what_is_beyond_it_at_the_next_login(world: World) {
        world.person("ann@example.com").await;
        let mut sets = logins(&world, "ann@example.com", 7).await;
        let world = limited(world, 1).await;
        assert_eq!(words(&world, &sets).await, ["OK"; 7], "nothing ends without a login");
        sets.extend(logins(&world, "ann@example.com", 1).await);
        assert_eq!(words(&world, &sets).await, [[OVER; 7].as_slice(), &["OK"]].concat());
        assert_eq!(world.count_events("session.revoked").await, 7);
    }

    async fn a_new_session_is_never_the_one_that_ends(world: World) {
        let world = limited(world, 1).await;
        world.person("ann@example.com").await;
        let sets = logins(&world, "ann@example.com", 1).await;
        // As a replica opened it whose clock is ahead.
        let sql = world.sql().await;
        sql.execute("UPDATE sessions SET created_at = created_at + 60").await;
        let new = world.login("ann@example.com").await;
        assert_eq!(words(&world, &[sets[0].clone(), new]).await, [OVER, "OK"]);
    }

    async fn a_login_that_must_change_its_password_takes_a_place_like_any(world: World) {
        let world = limited(world, 1).await;
        world.new_person(Person { email: Some("ann@example.com"), must_change: true, ..Person::default() }).await;
        let sets = logins(&world, "ann@example.com", 2).await;
        assert_eq!(word(get_me(&world, &sets[0].access_token).await), "PASSWORD_CHANGE_REQUIRED");
        let new = "another good long password";
        assert_eq!(refused(world.change_password(&sets[0].access_token, PASSWORD, new).await), OVER);
        let changed = world.change_password(&sets[1].access_token, PASSWORD, new).await.unwrap().tokens.unwrap();
        world.validate(&changed.access_token).await.unwrap();
    }

    async fn parallel_logins_on_two_replicas_leave_exactly_so_many(world: World) {
        const LOGINS: i64 = 32;
        const MOST: i64 = 5;
        let world = limited(world, u32::try_from(MOST).unwrap()).await;
        let other = world.another_replica().await;
        world.person("ann@example.com").await;
        let mut calls = JoinSet::new();
        for number in 0..LOGINS {
            let mut client = if number % 2 == 0 { world.client() } else { other.client() };
            let request = v1::LoginRequest {
                identifier: "ann@example.com".to_owned(), password: PASSWORD.to_owned(), ..Default::default()
            };
            calls.spawn(async move { client.login(request).await.unwrap().into_inner().tokens.unwrap() });
        }
        let sets = calls.join_all().await;
        let good = words(&world, &sets).await.iter().filter(|word| *word == "OK").count();
        assert_eq!(i64::try_from(good).unwrap(), MOST);
        let sql = world.sql().await;
        assert_eq!(sql.count("SELECT count(*) AS n FROM sessions").await, LOGINS);
        assert_eq!(sql.count("SELECT count(*) AS n FROM sessions WHERE revoked_at IS NULL").await, MOST);
        assert_eq!(world.count_events("login.succeeded").await, LOGINS);
        let ended = "SELECT count(DISTINCT object_id) AS n FROM audit_events WHERE event = 'session.revoked'";
        assert_eq!((world.count_events("session.revoked").await, sql.count(ended).await), (LOGINS - MOST, LOGINS - MOST));
        other.stop().await;
    }

    /// All of them have verified their password and wait for the row of the user; then they are let go at one moment.
    async fn logins_of_one_moment_count_one_another(world: World) {
        const EACH: u64 = 6;
        let world = limited(world, 2).await;
        let other = world.another_replica().await;
        world.person("ann@example.com").await;
        let sql = world.sql().await;
        for round in 1..=3 {
            // So that those of the round before are the older ones, which within one millisecond chance decides.
            world.pass(Duration::from_secs(1));
            let before = [&world.replica, &other].map(|replica| replica.app.hasher.hashes());
            let held = Held::new(&sql).await;
            let mut calls = JoinSet::new();
            for replica in [&world.replica, &other] {
                for _ in 0..EACH {
                    let mut client = replica.client();
                    let request = v1::LoginRequest {
                        identifier: "ann@example.com".to_owned(), password: PASSWORD.to_owned(), ..Default::default()
                    };
                    calls.spawn(async move { client.login(request).await.unwrap().into_inner().tokens.unwrap() });
                }
            }
            eventually("all passwords are verified", async || {
                let now = [&world.replica, &other].map(|replica| replica.app.hasher.hashes());
                now.iter().zip(before).all(|(now, before)| *now == before + EACH)
            }).await;
            held.release().await;
            let sets = calls.join_all().await;
            let good = words(&world, &sets).await.iter().filter(|word| *word == "OK").count();
            assert_eq!(good, 2, "round {round}");
            let ended = i64::try_from(2 * EACH).unwrap() * round - 2;
            assert_eq!(world.count_events("session.revoked").await, ended, "round {round}");
        }
        other.stop().await;
    }
}
