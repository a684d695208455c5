//! A database that is gone without a word: what is remembered is answered as long as it may be, then nothing is, and it comes back.

use std::time::{Duration, Instant};

use doorward::pb::v1;

use super::{ask, question};
use crate::{
    harness::{
        proxy::{Fault, Proxy},
        *,
    },
    life::Life,
    start::{login_request, person, run, validate_request},
};

/// Long enough for an answer or two, however busy the machine is.
const MAX_STALENESS: Duration = Duration::from_secs(3);
/// As long as a recovery may take.
const RECOVERY: Duration = Duration::from_secs(5);

#[test]
fn memory_is_answered_until_it_is_too_old_and_then_nothing_is() {
    run(Backend::Postgres, |mut ground| async move {
        ground.config.freshness.max_staleness = MAX_STALENESS;
        let mut proxy = Proxy::before(&mut ground.config).await;
        let life = Life::start(&ground).await;
        person(&life.app, "ann@example.com").await;
        let mut client = life.client();
        let token = client.login(login_request("ann@example.com")).await.unwrap().into_inner().tokens.unwrap().access_token;
        for fault in [Fault::BlackHole, Fault::Cut] {
            ask(&mut client, &question(&token)).await.unwrap();
            proxy.set(fault).await;
            let gone = Instant::now();
            let mut answered = 0;
            let refusal = loop {
                let asked = Instant::now();
                match client.validate_session(question(&token)).await {
                    Ok(_) => assert!(asked < gone + MAX_STALENESS, "{fault:?}: still a yes after {:?}", asked - gone),
                    Err(status) => break status,
                }
                answered += 1;
            };
            assert_eq!(reason(&refusal), "UNAVAILABLE", "{fault:?}");
            assert!(answered > 0, "{fault:?}: what was remembered was not answered");
            assert_eq!(reason(&client.validate_session(validate_request(&token)).await.unwrap_err()), "UNAVAILABLE");
            assert_eq!(reason(&client.validate_session(question(&token)).await.unwrap_err()), "UNAVAILABLE");
            let published = life.app.keys.latest().published.len();
            assert_eq!(published, 1, "the key set is answered all the same");

            proxy.set(Fault::None).await;
            let back = Instant::now();
            while ask(&mut client, &question(&token)).await.is_err() {
                assert!(back.elapsed() < RECOVERY, "{fault:?}: not back within five seconds");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // And what changed meanwhile is known: nothing of before is trusted.
            crate::life::eventually("a replica that follows again", async || life.app.store.feed().is_followed()).await;
        }
    });
}

/// The connection that follows is gone while calls have theirs: what is written here is not answered from memory.
#[test]
fn what_is_written_while_nobody_follows_is_seen_all_the_same() {
    run(Backend::Postgres, |mut ground| async move {
        ground.config.freshness.max_staleness = Duration::from_hours(1);
        let life = Life::start(&ground).await;
        person(&life.app, "ann@example.com").await;
        let mut client = life.client();
        let sql = ground.sql().await;
        for round in 0..10 {
            crate::life::eventually("a replica that follows", async || life.app.store.feed().is_followed()).await;
            let token = client.login(login_request("ann@example.com")).await.unwrap().into_inner().tokens.unwrap().access_token;
            ask(&mut client, &question(&token)).await.unwrap();
            let ended = sql
                .count(
                    "SELECT count(pg_terminate_backend(pid)) AS n FROM pg_stat_activity
                     WHERE datname = current_database()
                     AND (query LIKE 'SELECT pg_current_snapshot()::text%' OR query LIKE 'NOTIFY%')",
                )
                .await;
            assert!(ended > 0, "round {round}: nobody follows");
            let credential = Some(v1::logout_request::Credential::AccessToken(token.clone()));
            client.logout(v1::LogoutRequest { credential }).await.unwrap();
            assert_eq!(reason(&client.validate_session(question(&token)).await.unwrap_err()), "SESSION_REVOKED", "round {round}");
        }
    });
}

#[test]
fn what_changed_while_nobody_looked_is_known_afterwards() {
    run(Backend::Postgres, |mut ground| async move {
        let direct = ground.config.clone();
        ground.config.freshness.max_staleness = MAX_STALENESS;
        let mut proxy = Proxy::before(&mut ground.config).await;
        let life = Life::start(&ground).await;
        person(&life.app, "ann@example.com").await;
        let mut client = life.client();
        let token = client.login(login_request("ann@example.com")).await.unwrap().into_inner().tokens.unwrap().access_token;
        ask(&mut client, &question(&token)).await.unwrap();
        proxy.set(Fault::Cut).await;
        Sql(connection(database_url(&direct)).await, None).execute("UPDATE users SET state = 'disabled'").await;
        // Also where the table of changes forgot it.
        Sql(connection(database_url(&direct)).await, None).execute("DELETE FROM changes").await;
        proxy.set(Fault::None).await;
        let begin = Instant::now();
        loop {
            match client.validate_session(v1::ValidateSessionRequest { ..question(&token) }).await {
                Err(status) if reason(&status) == "PRINCIPAL_DISABLED" => break,
                Err(status) => assert_eq!(reason(&status), "UNAVAILABLE"),
                Ok(_) => assert!(begin.elapsed() < MAX_STALENESS, "it is not known"),
            }
            assert!(begin.elapsed() < RECOVERY);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
