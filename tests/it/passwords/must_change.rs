//! A login with a password that must be changed first: good for `ChangePassword` and `Logout`, and for nothing else.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::logs_in;
use crate::{harness::*, login::claims, on_both};
use doorward::pb::v1;

const NEW: &str = "quite another long password";

/// Ann, who must change her password, with a tenant.
async fn ann_must_change(world: &World) -> doorward::store::tenants::Tenant {
    let ann = world.new_person(Person { email: Some("ann@example.com"), must_change: true, ..Person::default() }).await;
    let acme = world.tenant("acme").await;
    world.member(&acme, &ann, &[]).await;
    acme
}

/// A login by the password grant that asks for all that can be asked for.
async fn greedy_grant(world: &World, tenant_id: String) -> v1::TokenSet {
    let grant = v1::PasswordGrant { username: "ann@example.com".to_owned(), password: PASSWORD.to_owned() };
    let request = v1::IssueTokenRequest {
        grant: Some(v1::issue_token_request::Grant::Password(grant)),
        tenant_id,
        scope: "sales:read".to_owned(),
        audience: vec!["doorward-clients".to_owned()],
        ..Default::default()
    };
    world.client().issue_token(request).await.unwrap().into_inner().tokens.unwrap()
}

fn is_good_for_the_change_only(world: &World, tokens: &v1::TokenSet) {
    let header = URL_SAFE_NO_PAD.decode(tokens.access_token.split('.').next().unwrap()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header["typ"], "pwc+jwt");
    let claims = claims(&tokens.access_token);
    assert_eq!(claims["aud"], serde_json::json!([world.config.tokens.issuer]));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
    for absent in ["tid", "roles", "permissions"] {
        assert!(claims.get(absent).is_none(), "{absent}");
    }
    assert_eq!(claims.get("scope").map_or("", |scope| scope.as_str().unwrap()), tokens.scope);
    assert_eq!((tokens.expires_in, tokens.refresh_token.as_str()), (600, ""));
}

on_both! {
    async fn the_token_is_short_and_bound_to_the_issuer_alone(world: World) {
        let acme = ann_must_change(&world).await;
        for tenant in [String::new(), acme.id.to_string()] {
            let login = world.try_login("ann@example.com", PASSWORD, &tenant).await.unwrap();
            is_good_for_the_change_only(&world, &login.tokens.unwrap());
            assert!(login.tenants.is_empty() && !login.more_tenants);
            assert_eq!(login.session.unwrap().tenant_id, tenant);
            is_good_for_the_change_only(&world, &greedy_grant(&world, tenant).await);
        }
        let rows = "SELECT count(*) AS n FROM sessions WHERE must_change AND refresh_digest IS NULL";
        assert_eq!(world.sql().await.count(rows).await, 4);
        for (tenant, expected) in [("ext:nothing", "NOT_A_MEMBER"), ("nothing", "INVALID_FIELD")] {
            assert_eq!(refused(world.try_login("ann@example.com", PASSWORD, tenant).await), expected);
        }
    }

    async fn the_tenant_that_was_asked_for_is_that_of_the_tokens_after_the_change(world: World) {
        let acme = ann_must_change(&world).await;
        let token = world.login_to("ann@example.com", &acme).await.access_token;
        let changed = world.change_password(&token, PASSWORD, NEW).await.unwrap();
        assert_eq!(changed.session.unwrap().tenant_id, acme.id.to_string());
        assert_eq!(claims(&changed.tokens.unwrap().access_token)["tid"], acme.id.to_string());
    }

    async fn the_cap_that_was_asked_for_outlives_the_change(world: World) {
        ann_must_change(&world).await;
        let token = greedy_grant(&world, String::new()).await.access_token;
        let changed = world.change_password(&token, PASSWORD, NEW).await.unwrap().tokens.unwrap();
        assert_eq!((changed.scope.as_str(), &claims(&changed.access_token)["scope"]), ("sales:read", &serde_json::json!("sales:read")));
    }

    async fn a_short_maximum_for_access_tokens_shuts_nobody_out(world: World) {
        let short = Duration::from_mins(5);
        let world = world
            .restart_with(|config| {
                config.tokens.access_lifetime = short;
                config.tokens.max_access_lifetime = short;
            })
            .await;
        ann_must_change(&world).await;
        let token = world.login("ann@example.com").await.access_token;
        world.change_password(&token, PASSWORD, NEW).await.unwrap();
    }

    async fn the_token_is_good_nowhere_else(world: World) {
        ann_must_change(&world).await;
        let token = world.login("ann@example.com").await.access_token;
        let mut client = world.client();
        assert_eq!(refused(client.get_me(bearer(v1::GetMeRequest {}, &token)).await), "PASSWORD_CHANGE_REQUIRED");
        assert_eq!(refused(client.list_tenants(bearer(v1::ListTenantsRequest::default(), &token)).await), "PASSWORD_CHANGE_REQUIRED");
        assert_eq!(refused(world.validate(&token).await), "PASSWORD_CHANGE_REQUIRED");
        let by_header = bearer(v1::ValidateSessionRequest::default(), &token);
        assert_eq!(refused(client.validate_session(by_header).await), "PASSWORD_CHANGE_REQUIRED");
        assert_eq!(refused(world.refresh(&token).await), "TOKEN_INVALID");
        world.change_password(&token, PASSWORD, NEW).await.expect("it is good here");
    }

    async fn the_token_logs_out(world: World) {
        ann_must_change(&world).await;
        let token = world.login("ann@example.com").await.access_token;
        world.logout(&token).await.unwrap();
        assert_eq!(refused(world.change_password(&token, PASSWORD, NEW).await), "SESSION_REVOKED");
        assert_eq!(world.count_events("session.revoked").await, 1);
    }

    async fn the_token_lives_ten_minutes(world: World) {
        ann_must_change(&world).await;
        let token = world.login("ann@example.com").await.access_token;
        world.pass(Duration::from_secs(599));
        assert_eq!(refused(world.change_password(&token, "a wrong password", NEW).await), "INVALID_CREDENTIALS");
        // The session is over with its token; the leeway of the token is not its own.
        world.pass(Duration::from_secs(1));
        assert!(["SESSION_EXPIRED", "TOKEN_EXPIRED"].contains(&refused(world.change_password(&token, PASSWORD, NEW).await).as_str()));
        world.pass(Duration::from_secs(6));
        assert_eq!(refused(world.change_password(&token, PASSWORD, NEW).await), "TOKEN_EXPIRED");
    }

    async fn after_the_change_all_is_as_for_everybody(world: World) {
        let acme = ann_must_change(&world).await;
        let token = world.login("ann@example.com").await.access_token;
        assert_eq!(refused(world.change_password(&token, PASSWORD, PASSWORD).await), "PASSWORD_REJECTED");
        let changed = world.change_password(&token, PASSWORD, NEW).await.unwrap();
        let tokens = changed.tokens.unwrap();
        assert_eq!(tokens.expires_in, 900);
        world.validate(&tokens.access_token).await.unwrap();
        let refreshed = world.refresh(&tokens.refresh_token).await.unwrap();
        world.client().get_me(bearer(v1::GetMeRequest {}, &refreshed.access_token)).await.unwrap();
        // The token of before is of a session that is over. That it asks for a change is no news any more.
        assert_eq!(refused(world.change_password(&token, NEW, "a third good long password").await), "SESSION_REVOKED");
        let login = world.try_login("ann@example.com", NEW, &acme.id.to_string()).await.unwrap();
        assert_eq!((login.tenants.len(), login.session.unwrap().tenant_id), (1, acme.id.to_string()));
        assert!(!logs_in(&world, "ann@example.com", PASSWORD).await);
    }

    async fn the_flag_in_the_database_does_not_widen_a_token(world: World) {
        ann_must_change(&world).await;
        let token = world.login("ann@example.com").await.access_token;
        let sql = world.sql().await;
        sql.execute("UPDATE sessions SET must_change = FALSE").await;
        assert_eq!(refused(world.validate(&token).await), "PASSWORD_CHANGE_REQUIRED");
        sql.execute("UPDATE sessions SET must_change = TRUE").await;
        sql.execute("UPDATE password_credentials SET must_change = FALSE").await;
        let normal = world.login("ann@example.com").await.access_token;
        sql.execute("UPDATE sessions SET must_change = TRUE").await;
        assert_eq!(refused(world.validate(&normal).await), "TOKEN_INVALID", "a token and its session are of one kind");
    }
}
