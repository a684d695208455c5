//! Logout: who may end which session with what, and that the rest is success without effect (RFC 7009, section 2.2).

use std::time::Duration;

use doorward::pb::v1::{self, logout_request::Credential};
use tonic::{Request, Status};

use crate::{harness::*, on_both, probe::*};

const DAY: Duration = Duration::from_hours(24);

async fn call(world: &World, request: Request<v1::LogoutRequest>) -> Result<(), Status> {
    world.client().logout(request).await.map(drop)
}

fn access(token: &str) -> v1::LogoutRequest {
    v1::LogoutRequest { credential: Some(Credential::AccessToken(token.to_owned())) }
}

fn refresh(token: &str) -> v1::LogoutRequest {
    v1::LogoutRequest { credential: Some(Credential::RefreshToken(token.to_owned())) }
}

/// That the session is over for its tokens, by one event of its own.
async fn assert_over(world: &World, tokens: &v1::TokenSet, events: i64) {
    assert_eq!(refused(world.refresh(&tokens.refresh_token).await), "SESSION_REVOKED");
    assert_eq!(world.count_events("session.revoked").await, events);
}

on_both! {
    async fn an_access_token_ends_its_session_once(world: World) {
        world.person("ann@example.com").await;
        let (tokens, other) = (world.login("ann@example.com").await, world.login("ann@example.com").await);
        for _ in 0..3 {
            world.logout(&tokens.access_token).await.unwrap();
            assert_eq!(refused(world.validate(&tokens.access_token).await), "SESSION_REVOKED");
            assert_over(&world, &tokens, 1).await;
        }
        world.validate(&other.access_token).await.unwrap();
        world.refresh(&other.refresh_token).await.unwrap();
    }

    async fn an_expired_access_token_ends_its_session(world: World) {
        world.person("ann@example.com").await;
        let tokens = world.login("ann@example.com").await;
        world.pass(DAY);
        assert_eq!(refused(world.validate(&tokens.access_token).await), "TOKEN_EXPIRED");
        world.logout(&tokens.access_token).await.unwrap();
        assert_over(&world, &tokens, 1).await;
    }

    async fn a_refresh_token_of_any_generation_ends_its_session(world: World) {
        world.person("ann@example.com").await;
        for (back, events) in [(0, 1), (1, 2), (3, 3)] {
            let first = world.login("ann@example.com").await;
            let mut chain = vec![first];
            for _ in 0..4 {
                world.pass(Duration::from_mins(1));
                chain.push(world.refresh(&chain.last().unwrap().refresh_token).await.unwrap());
            }
            let newest = chain.last().unwrap();
            for _ in 0..2 {
                logout_by_refresh(&world, &chain[4 - back].refresh_token).await.unwrap();
            }
            assert_eq!(refused(world.validate(&newest.access_token).await), "SESSION_REVOKED");
            assert_eq!(world.count_events("session.revoked").await, events);
            assert_eq!(world.count_events("session.refresh_token_reused").await, 0);
        }
    }

    async fn parallel_logouts_are_one_event(world: World) {
        world.person("ann@example.com").await;
        let tokens = world.login("ann@example.com").await;
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..16 {
            let mut client = world.client();
            let request = if n % 2 == 0 { access(&tokens.access_token) } else { refresh(&tokens.refresh_token) };
            calls.spawn(async move { client.logout(request).await.map(drop).unwrap() });
        }
        calls.join_all().await;
        assert_over(&world, &tokens, 1).await;
    }

    async fn unknown_garbage_and_foreign_tokens_are_success_and_end_nothing(world: World) {
        world.person("ann@example.com").await;
        let tokens = world.login("ann@example.com").await;
        let foreign = World::start(world.backend).await;
        foreign.person("ann@example.com").await;
        let theirs = foreign.login("ann@example.com").await;
        let (head, signature) = tokens.access_token.rsplit_once('.').unwrap();
        let cut = &tokens.access_token[..tokens.access_token.len() - 4];
        let swapped = format!("{head}.{}", signature.chars().rev().collect::<String>());
        for garbage in [theirs.access_token.as_str(), cut, &swapped, "garbage", "a.b.c", "..", "\0", " ", &"x".repeat(5_000)] {
            call(&world, Request::new(access(garbage))).await.unwrap();
            call(&world, Request::new(refresh(garbage))).await.unwrap();
        }
        let (all_but_one, last) = tokens.refresh_token.split_at(101);
        let bent = format!("{all_but_one}{}", if last == "A" { "B" } else { "A" });
        for garbage in [theirs.refresh_token.as_str(), &tokens.refresh_token[..80], &bent, "dw_rt_", "dw_ak_x"] {
            call(&world, Request::new(refresh(garbage))).await.unwrap();
        }
        assert_eq!(world.count_events("session.revoked").await, 0);
        world.validate(&tokens.access_token).await.unwrap();
        foreign.validate(&theirs.access_token).await.unwrap();
    }

    async fn a_token_of_the_other_kind_is_refused_and_lives_on(world: World) {
        world.person("ann@example.com").await;
        let tokens = world.login("ann@example.com").await;
        let narrowed = grant(&world, "ann@example.com", Ask { audience: &["doorward-clients"], ..Ask::default() }).await.unwrap();
        for _ in 0..2 {
            assert_eq!(refused(call(&world, Request::new(access(&tokens.refresh_token))).await), "TOKEN_INVALID");
            assert_eq!(refused(call(&world, Request::new(refresh(&tokens.access_token))).await), "TOKEN_INVALID");
            assert_eq!(refused(call(&world, Request::new(refresh(&narrowed.access_token))).await), "TOKEN_INVALID");
            assert_eq!(refused(call(&world, bearer(v1::LogoutRequest::default(), &tokens.refresh_token)).await), "TOKEN_INVALID");
            world.pass(DAY);
        }
        world.refresh(&tokens.refresh_token).await.unwrap();
        assert_eq!(world.count_events("session.revoked").await, 0);
    }

    async fn a_narrowed_token_may_not_end_the_session_that_it_was_made_from(world: World) {
        world.person("ann@example.com").await;
        let narrowed = grant(&world, "ann@example.com", Ask { audience: &["doorward-clients"], ..Ask::default() }).await.unwrap();
        for _ in 0..2 {
            assert_eq!(refused(world.logout(&narrowed.access_token).await), "AUDIENCE_MISMATCH");
            assert_eq!(refused(call(&world, bearer(v1::LogoutRequest::default(), &narrowed.access_token)).await), "AUDIENCE_MISMATCH");
            world.pass(DAY);
        }
        assert_eq!(world.count_events("session.revoked").await, 0);
        world.refresh(&narrowed.refresh_token).await.unwrap();
    }

    async fn the_token_may_stand_in_the_header(world: World) {
        world.person("ann@example.com").await;
        for (request, events) in [(v1::LogoutRequest::default(), 1), (access(""), 2), (refresh(""), 3)] {
            let tokens = world.login("ann@example.com").await;
            assert_eq!(refused(call(&world, Request::new(request.clone())).await), "TOKEN_MISSING");
            call(&world, bearer(request, &tokens.access_token)).await.unwrap();
            assert_over(&world, &tokens, events).await;
        }
    }

    async fn the_message_goes_before_the_header(world: World) {
        world.person("ann@example.com").await;
        let (ends, stays) = (world.login("ann@example.com").await, world.login("ann@example.com").await);
        call(&world, bearer(access(&ends.access_token), &stays.access_token)).await.unwrap();
        assert_over(&world, &ends, 1).await;
        world.validate(&stays.access_token).await.unwrap();
    }

    async fn whoever_must_change_the_password_may_log_out(world: World) {
        world.new_person(Person { email: Some("ann@example.com"), must_change: true, ..Person::default() }).await;
        let tokens = world.login("ann@example.com").await;
        assert!(tokens.refresh_token.is_empty());
        assert_eq!(refused(call(&world, Request::new(refresh(&tokens.access_token))).await), "TOKEN_INVALID");
        for _ in 0..2 {
            world.logout(&tokens.access_token).await.unwrap();
        }
        assert_eq!(world.count_events("session.revoked").await, 1);
        assert_eq!(refused(world.change_password(&tokens.access_token, PASSWORD, "another good long password").await), "SESSION_REVOKED");
    }

    async fn what_is_over_already_makes_no_event(world: World) {
        world.person("ann@example.com").await;
        let expired = world.login("ann@example.com").await;
        world.pass(31 * DAY);
        world.logout(&expired.access_token).await.unwrap();
        logout_by_refresh(&world, &expired.refresh_token).await.unwrap();

        let replaced = world.login("ann@example.com").await;
        world.change_password(&replaced.access_token, PASSWORD, "another good long password").await.unwrap();
        world.logout(&replaced.access_token).await.unwrap();
        logout_by_refresh(&world, &replaced.refresh_token).await.unwrap();
        assert_eq!(world.count_events("session.revoked").await, 0);
    }

    async fn a_token_that_does_not_fit_its_session_ends_nothing(world: World) {
        let (ann, bob) = (world.person("ann@example.com").await, world.person("bob@example.com").await);
        let tokens = world.login("ann@example.com").await;
        let mut claims = payload(&tokens.access_token);
        assert_eq!(claims["sub"], ann.id.to_string());
        claims["sub"] = bob.id.to_string().into();
        let hostile = mint(world.app(), "at+jwt", &claims);
        assert_eq!(refused(world.validate(&hostile).await), "TOKEN_INVALID");
        world.logout(&hostile).await.unwrap();
        world.validate(&tokens.access_token).await.unwrap();
    }
}
