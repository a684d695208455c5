//! Who ends sessions at the same moment as others end, refresh or open them. The row of the user is the queue: whatever the order was, it
//! was one.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use super::*;

type Client = v1::auth_service_client::AuthServiceClient<tonic::transport::Channel>;

async fn end_others(mut client: Client, tokens: v1::TokenSet, delay: Duration) -> (v1::TokenSet, Result<i32, String>) {
    tokio::time::sleep(delay).await;
    let request = v1::RevokeAllSessionsRequest { keep_current: true };
    let answer = client.revoke_all_sessions(bearer(request, &tokens.access_token)).await;
    (tokens, answer.map(|answer| answer.into_inner().revoked_sessions).map_err(|status| reason(&status)))
}

/// Refreshes until it is refused; answers the reason and the last tokens that it got.
async fn refresh_on(mut client: Client, mut tokens: v1::TokenSet, stop: std::sync::Arc<AtomicBool>) -> (v1::TokenSet, Option<String>) {
    while !stop.load(Ordering::SeqCst) {
        match refresh_with(&mut client, &tokens.refresh_token).await {
            Ok(next) => tokens = next,
            Err(status) => return (tokens, Some(reason(&status))),
        }
    }
    (tokens, None)
}

on_both! {
    async fn of_many_that_end_each_other_one_lives(world: World) {
        let other = world.another_replica().await;
        let mut chance = Chance::new();
        world.person("ann@example.com").await;
        for round in 1..=5 {
            let mut sets = Vec::new();
            for _ in 0..8 {
                sets.push(world.login("ann@example.com").await);
            }
            let mut calls = JoinSet::new();
            for (number, tokens) in sets.into_iter().enumerate() {
                let client = if number % 2 == 0 { world.client() } else { other.client() };
                let delay = Duration::from_micros(chance.next() % 8_000);
                calls.spawn(async move { end_others(client, tokens, delay).await });
            }
            let (mut winners, mut losers) = (Vec::new(), Vec::new());
            for (tokens, answer) in calls.join_all().await {
                match answer {
                    Ok(ended) => winners.push((tokens, ended)),
                    Err(reason) => losers.push((tokens, reason)),
                }
            }
            // The one whose turn was first ended the others, so none of them had a turn. Those of the round before are ended too.
            let [(winner, ended)] = winners.as_slice() else { panic!("{} of them ended others", winners.len()) };
            assert_eq!(*ended, if round == 1 { 7 } else { 8 });
            world.validate(&winner.access_token).await.unwrap();
            for (tokens, reason) in &losers {
                assert_eq!(reason, "SESSION_REVOKED");
                assert_dead(&[&world.replica, &other], tokens).await;
            }
            assert_eq!(world.count_events("user.sessions_revoked").await, round);
        }
        other.stop().await;
    }

    async fn what_is_refreshed_or_opened_meanwhile_ends_too_or_is_of_afterwards(world: World) {
        let other = world.another_replica().await;
        let mut chance = Chance::new();
        for (round, keep_current) in [true, false, true, false].into_iter().enumerate() {
            let email = format!("person-{round}@example.com");
            world.person(&email).await;
            let asking = world.login(&email).await;
            let stop = std::sync::Arc::new(AtomicBool::new(false));
            let mut refreshes = JoinSet::new();
            for number in 0..4 {
                let client = if number % 2 == 0 { world.client() } else { other.client() };
                refreshes.spawn(refresh_on(client, world.login(&email).await, std::sync::Arc::clone(&stop)));
            }
            let mut logins = JoinSet::new();
            for number in 0..4 {
                let mut client = if number % 2 == 0 { world.client() } else { other.client() };
                let request = v1::LoginRequest { identifier: email.clone(), password: PASSWORD.to_owned(), ..Default::default() };
                let delay = Duration::from_micros(chance.next() % 10_000);
                logins.spawn(async move {
                    tokio::time::sleep(delay).await;
                    client.login(request).await.map(|answer| answer.into_inner().tokens.unwrap()).map_err(|status| reason(&status))
                });
            }
            tokio::time::sleep(Duration::from_micros(chance.next() % 10_000)).await;
            revoke_all_sessions(&world, &asking.access_token, keep_current).await.unwrap();

            // Whoever was there is out: what they refreshed before is refused, and so is what they refresh now.
            for (tokens, refusal) in refreshes.join_all().await {
                assert_eq!(refusal.as_deref(), Some("SESSION_REVOKED"));
                assert_dead(&[&world.replica, &other], &tokens).await;
            }
            stop.store(true, Ordering::SeqCst);
            let mut live = i64::from(keep_current);
            for login in logins.join_all().await {
                match login {
                    Ok(tokens) => live += i64::from(world.validate(&tokens.access_token).await.is_ok()),
                    // Verified before, and its turn came after.
                    Err(reason) => assert!(!keep_current && reason == "INVALID_CREDENTIALS", "{reason}"),
                }
            }
            let id = crate::access::literal(&world, payload(&asking.access_token)["sub"].as_str().unwrap().parse().unwrap());
            let good = format!(
                "SELECT count(*) AS n FROM sessions s JOIN users u ON u.id = s.user_id \
                 WHERE u.id = {id} AND s.revoked_at IS NULL AND s.user_epoch = u.epoch"
            );
            assert_eq!(world.sql().await.count(&good).await, live);
            assert_eq!(world.validate(&asking.access_token).await.is_ok(), keep_current);
        }
        other.stop().await;
    }
}
