//! The chain of refresh tokens: what moves it on, what heals, what ends it (DESIGN 4; invariants 6 to 8, 10).

use std::{collections::BTreeSet, time::Duration};

use doorward::values::time::Timestamp;
use tokio::task::JoinSet;

use crate::{harness::*, metrics::Samples, on_both, probe::*};

const DAY: i64 = 86_400;
const GRACE: i64 = 30;

fn at(world: &World, seconds: i64) {
    world.clock.set(Timestamp::from_unix(START + seconds));
}

async fn generation(world: &World) -> i64 {
    world.sql().await.count("SELECT refresh_generation AS n FROM sessions").await
}

on_both! {
    async fn every_use_moves_the_chain_on_and_every_set_works(world: World) {
        world.person("ann@example.com").await;
        let mut tokens = world.login("ann@example.com").await;
        let session = world.validate(&tokens.access_token).await.unwrap().session.unwrap().id;
        for step in 1..=5 {
            world.pass(Duration::from_secs(31));
            let next = world.refresh(&tokens.refresh_token).await.unwrap();

            assert_ne!(next.refresh_token, tokens.refresh_token);
            assert_ne!(next.access_token, tokens.access_token);
            assert_eq!((next.token_type.as_str(), next.expires_in), ("Bearer", 900));
            assert_eq!(generation(&world).await, step);
            // Of one session: the set before goes on until it expires.
            for token in [&tokens.access_token, &next.access_token] {
                assert_eq!(world.validate(token).await.unwrap().session.unwrap().id, session);
            }
            assert_eq!(get_me(&world, &next.access_token).await.unwrap().session.unwrap().id, session);
            tokens = next;
        }
    }

    async fn two_steps_in_one_second_give_different_sets(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        let second = world.refresh(&first.refresh_token).await.unwrap();
        let third = world.refresh(&second.refresh_token).await.unwrap();
        assert_eq!(BTreeSet::from([&first.access_token, &second.access_token, &third.access_token]).len(), 3);
        assert_eq!(BTreeSet::from([&first.refresh_token, &second.refresh_token, &third.refresh_token]).len(), 3);
    }

    async fn a_refresh_extends_the_idle_lifetime_to_the_second(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        at(&world, 7 * DAY - 1);
        let second = world.refresh(&first.refresh_token).await.unwrap();
        at(&world, 14 * DAY - 2);
        let third = world.refresh(&second.refresh_token).await.unwrap();

        at(&world, 21 * DAY - 2);
        let before = rows(&world.sql().await, "sessions").await;
        assert_eq!(refused(world.refresh(&third.refresh_token).await), "SESSION_EXPIRED");
        assert_eq!(refused(world.refresh(&first.refresh_token).await), "SESSION_EXPIRED");
        assert_eq!(rows(&world.sql().await, "sessions").await, before);

        at(&world, 21 * DAY - 3);
        world.refresh(&third.refresh_token).await.unwrap();
    }

    async fn nothing_extends_the_absolute_lifetime(world: World) {
        world.person("ann@example.com").await;
        let sql = world.sql().await;
        let mut tokens = world.login("ann@example.com").await;
        for seconds in [6 * DAY, 12 * DAY, 18 * DAY, 24 * DAY, 30 * DAY - 1] {
            at(&world, seconds);
            tokens = world.refresh(&tokens.refresh_token).await.unwrap();
            assert_eq!(sql.count("SELECT expires_at AS n FROM sessions").await, START + 30 * DAY);
            assert_eq!(sql.count("SELECT idle_expires_at AS n FROM sessions").await, START + (seconds + 7 * DAY).min(30 * DAY));
        }
        // The last second: the access token ends with its session.
        assert_eq!(tokens.expires_in, 1);
        world.validate(&tokens.access_token).await.unwrap();

        at(&world, 30 * DAY);
        assert_eq!(refused(world.refresh(&tokens.refresh_token).await), "SESSION_EXPIRED");
        assert_eq!(refused(world.validate(&tokens.access_token).await), "SESSION_EXPIRED", "the leeway is not the session's");
        assert_eq!(refused(get_me(&world, &tokens.access_token).await), "SESSION_EXPIRED");
    }

    async fn an_access_token_has_five_seconds_of_leeway(world: World) {
        world.person("ann@example.com").await;
        let tokens = world.login("ann@example.com").await;
        for (seconds, answer) in
            [(-6, "TOKEN_INVALID"), (-5, "OK"), (0, "OK"), (899, "OK"), (904, "OK"), (905, "TOKEN_EXPIRED"), (DAY, "TOKEN_EXPIRED")]
        {
            at(&world, seconds);
            assert_eq!(word(world.validate(&tokens.access_token).await), answer, "after {seconds} s");
            assert_eq!(word(get_me(&world, &tokens.access_token).await), answer, "after {seconds} s");
            assert_eq!(word(list_tenants(&world, &tokens.access_token, "").await), answer, "after {seconds} s");
        }
    }

    async fn a_lost_answer_heals_within_the_grace_and_writes_nothing(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        let second = world.refresh(&first.refresh_token).await.unwrap();
        let sql = world.sql().await;
        let before = (rows(&sql, "sessions").await, rows(&sql, "audit_events").await);
        for seconds in [0, 1, GRACE - 1, GRACE] {
            at(&world, seconds);
            let healed = world.refresh(&first.refresh_token).await.unwrap();
            assert_eq!(healed.refresh_token, second.refresh_token, "after {seconds} s");
            assert_ne!(healed.access_token, second.access_token);
            world.validate(&healed.access_token).await.unwrap();
        }
        assert_eq!((rows(&sql, "sessions").await, rows(&sql, "audit_events").await), before);
        world.refresh(&second.refresh_token).await.unwrap();
    }

    async fn healing_does_not_lengthen_the_grace(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        world.refresh(&first.refresh_token).await.unwrap();
        at(&world, GRACE);
        world.refresh(&first.refresh_token).await.unwrap();
        at(&world, GRACE + 1);
        assert_eq!(refused(world.refresh(&first.refresh_token).await), "REFRESH_TOKEN_REUSED");
    }

    async fn reuse_after_the_grace_ends_the_session_for_everybody(world: World) {
        world.person("ann@example.com").await;
        world.person("bob@example.com").await;
        let bystander = [world.login("ann@example.com").await, world.login("bob@example.com").await];
        let first = world.login("ann@example.com").await;
        let second = world.refresh(&first.refresh_token).await.unwrap();
        at(&world, GRACE + 1);

        assert_eq!(refused(world.refresh(&first.refresh_token).await), "REFRESH_TOKEN_REUSED");

        let world = world.restart_with(|_| {}).await;
        for token in [&first.access_token, &second.access_token] {
            assert_eq!(refused(world.validate(token).await), "SESSION_REVOKED");
            assert_eq!(refused(get_me(&world, token).await), "SESSION_REVOKED");
        }
        for _ in 0..5 {
            assert_eq!(refused(world.refresh(&second.refresh_token).await), "SESSION_REVOKED");
            assert_eq!(refused(world.refresh(&first.refresh_token).await), "SESSION_REVOKED");
        }
        assert_eq!(world.count_events("session.refresh_token_reused").await, 1);
        for other in bystander {
            world.validate(&other.access_token).await.unwrap();
            world.refresh(&other.refresh_token).await.unwrap();
        }
    }

    async fn a_token_two_back_is_reuse_also_within_the_grace(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        let second = world.refresh(&first.refresh_token).await.unwrap();
        let third = world.refresh(&second.refresh_token).await.unwrap();
        assert_eq!(refused(world.refresh(&first.refresh_token).await), "REFRESH_TOKEN_REUSED");
        assert_eq!(refused(world.refresh(&third.refresh_token).await), "SESSION_REVOKED");
        assert_eq!(refused(world.validate(&third.access_token).await), "SESSION_REVOKED");
        assert_eq!(world.count_events("session.refresh_token_reused").await, 1);
    }

    async fn generations_decide_and_not_times(world: World) {
        world.person("ann@example.com").await;
        let mut world = world;
        // Seconds to which the clock goes between the steps and the old token, and whether the server starts anew in between.
        for (number, (seconds, is_restarted)) in [(0, false), (0, true), (-3_600, false), (-3_600, true), (GRACE, true)].into_iter().enumerate() {
            at(&world, 0);
            let first = world.login("ann@example.com").await;
            let second = world.refresh(&first.refresh_token).await.unwrap();
            let third = world.refresh(&second.refresh_token).await.unwrap();
            if is_restarted {
                world = world.restart_with(|_| {}).await;
            }
            at(&world, seconds);
            // The one before heals, whatever the clock says, as long as it says less than the grace.
            assert_eq!(world.refresh(&second.refresh_token).await.unwrap().refresh_token, third.refresh_token);
            assert_eq!(refused(world.refresh(&first.refresh_token).await), "REFRESH_TOKEN_REUSED", "{seconds} {is_restarted}");
            for token in [&third, &second, &first] {
                assert_eq!(refused(world.refresh(&token.refresh_token).await), "SESSION_REVOKED");
            }
            assert_eq!(world.count_events("session.refresh_token_reused").await, i64::try_from(number).unwrap() + 1);
        }
    }

    async fn parallel_reuse_is_one_event(world: World) {
        let ann = world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        let session = world.validate(&first.access_token).await.unwrap().session.unwrap().id;
        world.refresh(&first.refresh_token).await.unwrap();
        at(&world, GRACE + 1);
        let mut uses = JoinSet::new();
        for _ in 0..16 {
            let (mut client, token) = (world.client(), first.refresh_token.clone());
            uses.spawn(async move { refused(refresh_with(&mut client, &token).await) });
        }
        let answers = uses.join_all().await;
        // Who looked before the first one's commit hears the same reason, and writes nothing.
        assert!(answers.iter().any(|answer| answer == "REFRESH_TOKEN_REUSED"), "{answers:?}");
        assert!(answers.iter().all(|answer| ["REFRESH_TOKEN_REUSED", "SESSION_REVOKED"].contains(&answer.as_str())), "{answers:?}");
        let counted = Samples::of(&world.replica).await.sum("doorward_refreshes_total", &[("outcome", "reused")]);
        assert_eq!(counted.to_string(), "1", "one ends the session, and one is counted");
        let events = rows(&world.sql().await, "audit_events").await;
        let reuse: Vec<_> = events.iter().filter(|event| event.contains("session.refresh_token_reused")).collect();
        assert_eq!(reuse.len(), 1);
        assert!(reuse[0].contains("REFRESH_TOKEN_REUSED") && reuse[0].contains(&session) && reuse[0].contains(&ann.id.to_string()));
    }

    async fn a_grace_of_zero_heals_nothing(world: World) {
        let world = world.restart_with(|config| config.tokens.refresh_grace = Duration::ZERO).await;
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        let second = world.refresh(&first.refresh_token).await.unwrap();
        assert_eq!(refused(world.refresh(&first.refresh_token).await), "REFRESH_TOKEN_REUSED");
        assert_eq!(refused(world.refresh(&second.refresh_token).await), "SESSION_REVOKED");
    }

    async fn sixty_four_parallel_uses_over_two_replicas_have_one_successor(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        let other = world.another_replica().await;
        let clients = [world.client(), other.client()];
        let mut uses = JoinSet::new();
        for client in clients.iter().cycle().take(64) {
            let (mut client, token) = (client.clone(), first.refresh_token.clone());
            uses.spawn(async move { refresh_with(&mut client, &token).await.unwrap() });
        }
        let sets = uses.join_all().await;

        let successors: BTreeSet<_> = sets.iter().map(|set| set.refresh_token.clone()).collect();
        assert_eq!(successors.len(), 1, "more than one successor");
        assert_eq!(sets.iter().map(|set| &set.access_token).collect::<BTreeSet<_>>().len(), 64);
        assert_eq!(generation(&world).await, 1);
        world.validate(&sets[0].access_token).await.unwrap();
        world.validate(&sets[63].access_token).await.unwrap();
        refresh_with(&mut other.client(), successors.first().unwrap()).await.unwrap();
        assert_eq!(world.count_events("session.refresh_token_reused").await, 0);
        other.stop().await;
    }
}
