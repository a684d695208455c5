//! What operators are told of refreshes: each one is counted once, under a word that says more than the caller hears, and two kinds of
//! them are in the log.

use std::{collections::BTreeMap, time::Duration};

use doorward::{
    config::LogFormat,
    domain::{tenants, users},
    store::users::UserState,
    values::time::Timestamp,
};
use serde_json::json;

use crate::{
    harness::*,
    leaks::logged,
    life::{eventually, get},
    metrics::Samples,
    on_both,
    probe::*,
    wire::{Wire, encode},
};

const OUTCOMES: [&str; 10] =
    ["rotated", "healed", "reused", "expired", "idle", "revoked", "principal_gone", "tenant", "client_mismatch", "invalid"];

async fn counts(world: &World) -> BTreeMap<&'static str, String> {
    let samples = Samples::of(&world.replica).await;
    OUTCOMES.iter().map(|&outcome| (outcome, samples.sum("doorward_refreshes_total", &[("outcome", outcome)]).to_string())).collect()
}

/// Refreshes and demands that exactly this was counted, once; nothing where there is no word.
async fn expect(world: &World, token: &str, answer: &str, outcome: &str) {
    let mut before = counts(world).await;
    assert_eq!(word(world.refresh(token).await), answer, "{outcome}");
    if let Some(count) = before.get_mut(outcome) {
        *count = (count.parse::<u64>().unwrap() + 1).to_string();
    }
    assert_eq!(counts(world).await, before, "after {answer}, which should count as {outcome:?}");
}

on_both! {
    async fn every_outcome_is_there_from_zero_on(world: World) {
        eventually("the service's metrics", async || Samples::of(&world.replica).await.sum("doorward_hash_threads", &[]) > 0.0).await;
        let page = get(world.replica.ops_addr, "/metrics").await;
        for outcome in OUTCOMES {
            assert!(page.contains(&format!("doorward_refreshes_total{{outcome=\"{outcome}\"}} 0")), "{outcome}: {page}");
        }
        assert_eq!(page.matches("doorward_refreshes_total{").count(), OUTCOMES.len());
    }

    async fn every_refresh_is_counted_once(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["member"]).await;
        let sql = world.sql().await;
        let login = async || world.login_to("ann@example.com", &acme).await.refresh_token;

        let first = login().await;
        expect(&world, &first, "OK", "rotated").await;
        expect(&world, &first, "OK", "healed").await;
        world.pass(Duration::from_secs(31));
        expect(&world, &first, "REFRESH_TOKEN_REUSED", "reused").await;
        expect(&world, &first, "SESSION_REVOKED", "revoked").await;

        let token = login().await;
        sql.execute("UPDATE sessions SET client_id = 'another'").await;
        expect(&world, &token, "TOKEN_INVALID", "client_mismatch").await;
        sql.execute("UPDATE sessions SET client_id = 'doorward'").await;
        tenants::set_suspended(world.app(), &acme, true, cli()).await.unwrap();
        expect(&world, &token, "TENANT_SUSPENDED", "tenant").await;
        tenants::set_suspended(world.app(), &acme, false, cli()).await.unwrap();
        sql.execute("UPDATE memberships SET state = 'suspended'").await;
        expect(&world, &token, "MEMBERSHIP_SUSPENDED", "tenant").await;
        sql.execute("UPDATE memberships SET state = 'removed'").await;
        expect(&world, &token, "NOT_A_MEMBER", "tenant").await;
        sql.execute("UPDATE memberships SET state = 'active'").await;
        users::set_state(world.app(), &ann, UserState::Disabled, cli()).await.unwrap();
        expect(&world, &token, "PRINCIPAL_DISABLED", "principal_gone").await;
        users::set_state(world.app(), &ann, UserState::Active, cli()).await.unwrap();
        // By the epoch that moved.
        expect(&world, &token, "SESSION_REVOKED", "revoked").await;

        let token = login().await;
        sql.execute(&format!("UPDATE sessions SET refresh_digest = {}", bytes_literal(&sql, &[7; 32]))).await;
        expect(&world, &token, "TOKEN_INVALID", "invalid").await;
        let token = login().await;
        world.clock.set(Timestamp::from_unix(START + 8 * 86_400));
        expect(&world, &token, "SESSION_EXPIRED", "idle").await;
        world.clock.set(Timestamp::from_unix(START + 31 * 86_400));
        expect(&world, &token, "SESSION_EXPIRED", "expired").await;
        sql.execute("DELETE FROM sessions").await;
        expect(&world, &token, "SESSION_REVOKED", "revoked").await;
    }

    async fn what_is_no_judgement_of_a_token_is_not_counted(world: World) {
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.refresh_token;
        let before = counts(&world).await;
        expect(&world, "garbage", "TOKEN_INVALID", "").await;
        expect(&world, &format!("{token}A"), "TOKEN_INVALID", "").await;
        let ask = Ask { tenant_id: "ext:nobody", ..Ask::default() };
        assert_eq!(refused(refresh_asking(&world, &token, ask).await), "INVALID_FIELD");
        world.app().store.close().await;
        assert_eq!(refused(world.refresh(&token).await), "UNAVAILABLE");
        assert_eq!(counts(&world).await, before);
    }

    async fn what_is_asked_for_beside_it_changes_no_word(world: World) {
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.refresh_token;
        let mut expected = counts(&world).await;
        let ask = || Ask { scope: "sales:read", ..Ask::default() };
        refresh_asking(&world, &token, ask()).await.unwrap();
        refresh_asking(&world, &token, ask()).await.unwrap();
        world.pass(Duration::from_secs(31));
        assert_eq!(refused(refresh_asking(&world, &token, ask()).await), "REFRESH_TOKEN_REUSED");
        for outcome in ["rotated", "healed", "reused"] {
            expected.insert(outcome, "1".to_owned());
        }
        assert_eq!(counts(&world).await, expected);
    }
}

/// Reuse, a client mismatch and everything that is no reason for a line; answers the two sessions' ids.
async fn suspicious(world: World) -> [String; 2] {
    world.person("ann@example.com").await;
    let wire = Wire::connect(world.replica.grpc_addr).await;
    let refresh = async |token: &str, request_id: &str| {
        let grant = encode("doorward.v1.IssueTokenRequest", json!({ "refresh_token": { "refresh_token": token } }));
        wire.call("/doorward.v1.AuthService/IssueToken", &[("x-request-id", request_id)], &grant).await.outcome()
    };
    let (reused, mismatched) = (world.login("ann@example.com").await, world.login("ann@example.com").await);
    let id = |tokens: &doorward::pb::v1::TokenSet| payload(&tokens.access_token)["sid"].as_str().unwrap().to_owned();
    assert_eq!(refresh(&reused.refresh_token, "rotated-call").await, "OK");
    assert_eq!(refresh(&reused.refresh_token, "healed-call").await, "OK");
    world.pass(Duration::from_secs(31));
    assert_eq!(refresh(&reused.refresh_token, "reused-call").await, "UNAUTHENTICATED REFRESH_TOKEN_REUSED");
    assert_eq!(refresh(&reused.refresh_token, "revoked-call").await, "UNAUTHENTICATED SESSION_REVOKED");
    let sql = world.sql().await;
    sql.execute("UPDATE sessions SET client_id = 'another' WHERE revoked_at IS NULL").await;
    assert_eq!(refresh(&mismatched.refresh_token, "mismatched-call").await, "UNAUTHENTICATED TOKEN_INVALID");
    [id(&reused), id(&mismatched)]
}

#[test]
fn reuse_and_another_client_are_in_the_log() {
    if !is_alone("refresh_told::reuse_and_another_client_are_in_the_log") {
        return;
    }
    let mut ids = Default::default();
    let log = logged(Backend::Sqlite, LogFormat::Json, async |world| ids = suspicious(world).await).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let security: Vec<_> = lines.iter().filter(|line| line["target"] == "doorward::security").map(|line| &line["fields"]).collect();
    assert_eq!(security.len(), 2, "{security:?}");
    let [reused, mismatched] = ids;
    let at = |index: usize, field: &str| security[index][field].as_str().unwrap_or_default().to_owned();
    assert_eq!((at(0, "session_id"), at(0, "request_id").as_str(), at(0, "client_id").as_str()), (reused, "reused-call", "doorward"));
    assert_eq!(security[0]["generation"].to_string() + &security[0]["current_generation"].to_string(), "01");
    assert_eq!(security[0]["seconds_since_rotation"], 31);
    assert_eq!((at(1, "session_id"), at(1, "request_id").as_str()), (mismatched, "mismatched-call"));
}
