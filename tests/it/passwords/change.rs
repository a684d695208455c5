//! `ChangePassword`.

use super::{logs_in, person_with};
use crate::{
    harness::*,
    login::{audit_rows, claims, snapshot, strings},
    on_both,
};
use doorward::pb::v1;
use tonic_types::StatusExt;

const NEW: &str = "quite another long password";

/// Asks for a new password that must be refused for itself: the field is named, and nothing is written or hashed.
async fn rejected(world: &World, token: &str, current: &str, new: &str) {
    let sql = world.sql().await;
    let (before, events, hashes) = (snapshot(world, &sql).await, audit_rows(&sql).await, world.app().hasher.hashes());
    let status = world.change_password(token, current, new).await.expect_err("should have been rejected");
    assert_eq!(reason(&status), "PASSWORD_REJECTED");
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert!(!violations.is_empty() && violations.iter().all(|v| v.field == "new_password" && !v.description.is_empty()));
    assert!(new.len() < 3 || !format!("{status:?}").contains(new), "the password is not repeated");
    assert_eq!((snapshot(world, &sql).await, audit_rows(&sql).await), (before, events));
    assert_eq!(world.app().hasher.hashes(), hashes);
}

on_both! {
    async fn a_new_password_has_a_least_and_a_greatest_length(world: World) {
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.access_token;
        // Characters are counted after NFKC; bytes as typed.
        let decomposed = "e\u{301}".repeat(14);
        for new in ["", "x", &"x".repeat(14), &"\u{1f600}".repeat(14), &decomposed, &"x".repeat(1025), &"\u{ff41}".repeat(342), &"x".repeat(50_000)] {
            rejected(&world, &token, PASSWORD, new).await;
        }
        let (mut token, mut current) = (token, PASSWORD.to_owned());
        for new in ["x".repeat(15), "\u{1f600}".repeat(15), "\u{fb03}".repeat(5), "x".repeat(1024), "with a \0 inside of it".to_owned()] {
            token = world.change_password(&token, &current, &new).await.unwrap().tokens.unwrap().access_token;
            assert!(logs_in(&world, "ann@example.com", &new).await);
            current = new;
        }
    }

    async fn a_new_password_is_not_the_current_one(world: World) {
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.access_token;
        rejected(&world, &token, PASSWORD, PASSWORD).await;
        let capitals = PASSWORD.to_uppercase();
        world.change_password(&token, PASSWORD, &capitals).await.expect("another case is another password");
    }

    async fn a_new_password_is_not_the_current_one_in_another_spelling(world: World) {
        let (composed, decomposed) = ("\u{e9}lan vital of the fin", "e\u{301}lan vital of the \u{fb01}n");
        person_with(&world, "ann@example.com", composed).await;
        let token = world.try_login("ann@example.com", composed, "").await.unwrap().tokens.unwrap().access_token;
        rejected(&world, &token, composed, decomposed).await;
    }

    async fn a_wrong_current_password_changes_nothing_and_is_one_event(world: World) {
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.access_token;
        let sql = world.sql().await;
        let before = snapshot(&world, &sql).await;
        let nul = format!("{PASSWORD}\0");
        for wrong in ["", "x", "a wrong password", &"x".repeat(1024), &"x".repeat(1025), &nul, NEW] {
            let (events, failures) = (audit_rows(&sql).await, world.count_events("password.change_failed").await);
            let hashes = world.app().hasher.hashes();
            let new = if wrong == NEW { "a third good long password" } else { NEW };
            assert_eq!(refused(world.change_password(&token, wrong, new).await), "INVALID_CREDENTIALS", "{} bytes", wrong.len());
            assert_eq!(world.app().hasher.hashes() - hashes, 1, "{} bytes", wrong.len());
            let now = (audit_rows(&sql).await - events, world.count_events("password.change_failed").await - failures);
            assert_eq!(now, (1, 1), "{} bytes", wrong.len());
        }
        assert_eq!(snapshot(&world, &sql).await, before);
        world.validate(&token).await.unwrap();
    }

    async fn a_change_is_for_those_with_a_password_that_logs_in(world: World) {
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.access_token;
        let sql = world.sql().await;
        for (break_it, mend_it) in [
            ("UPDATE password_credentials SET reset_required = TRUE", "UPDATE password_credentials SET reset_required = FALSE"),
            ("UPDATE password_credentials SET scheme = 'rot13'", "UPDATE password_credentials SET scheme = 'argon2id'"),
            ("DELETE FROM password_credentials", "SELECT 1"),
        ] {
            sql.execute(break_it).await;
            let hashes = world.app().hasher.hashes();
            assert_eq!(refused(world.change_password(&token, PASSWORD, NEW).await), "INVALID_CREDENTIALS", "{break_it}");
            assert_eq!(world.app().hasher.hashes() - hashes, 1);
            sql.execute(mend_it).await;
        }
    }

    async fn a_change_ends_every_other_session_and_answers_a_new_one(world: World) {
        world.person("ann@example.com").await;
        world.person("bob@example.com").await;
        let bob = world.login("bob@example.com").await;
        let mut old = Vec::new();
        for _ in 0..3 {
            old.push(world.login("ann@example.com").await);
        }
        let refreshed = world.refresh(&old[1].refresh_token).await.unwrap();
        let asking = old[0].access_token.clone();
        let changed = world.change_password(&asking, PASSWORD, NEW).await.unwrap();
        let (fresh, session) = (changed.tokens.unwrap(), changed.session.unwrap());

        old.push(refreshed);
        for set in &old {
            assert_eq!(refused(world.validate(&set.access_token).await), "SESSION_REVOKED");
            assert_eq!(refused(world.refresh(&set.refresh_token).await), "SESSION_REVOKED");
            assert_eq!(refused(world.change_password(&set.access_token, NEW, PASSWORD).await), "SESSION_REVOKED");
            assert_ne!(claims(&set.access_token)["sid"], session.id);
        }
        assert_eq!(claims(&fresh.access_token)["sid"], session.id);
        assert!(session.current);
        world.validate(&fresh.access_token).await.unwrap();
        world.refresh(&fresh.refresh_token).await.unwrap();
        world.validate(&bob.access_token).await.unwrap();
        assert!(logs_in(&world, "ann@example.com", NEW).await);
        assert!(!logs_in(&world, "ann@example.com", PASSWORD).await);
        assert!(logs_in(&world, "bob@example.com", PASSWORD).await, "somebody else's password is as it was");
        assert_eq!(world.count_events("password.changed").await, 1);
    }

    async fn of_parallel_changes_one_wins(world: World) {
        world.person("ann@example.com").await;
        let sets = [world.login("ann@example.com").await, world.login("ann@example.com").await, world.login("ann@example.com").await];
        let new = ["the first new password", "the second new password", "the third new password"];
        let (one, two, three) = tokio::join!(
            world.change_password(&sets[0].access_token, PASSWORD, new[0]),
            world.change_password(&sets[1].access_token, PASSWORD, new[1]),
            world.change_password(&sets[2].access_token, PASSWORD, new[2]),
        );
        let mut won = Vec::new();
        for (answer, new) in [one, two, three].into_iter().zip(new) {
            match answer {
                Ok(changed) => won.push((changed.tokens.unwrap(), new)),
                Err(status) => assert!(["SESSION_REVOKED", "INVALID_CREDENTIALS"].contains(&reason(&status).as_str())),
            }
        }
        assert_eq!((won.len(), world.count_events("password.changed").await), (1, 1));
        world.validate(&won[0].0.access_token).await.unwrap();
        for password in new {
            assert_eq!(logs_in(&world, "ann@example.com", password).await, password == won[0].1);
        }
    }

    async fn a_change_keeps_tenant_client_and_scope(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:read", "sales:write"]).await;
        world.member(&acme, &ann, &["seller"]).await;
        let client_info = v1::ClientInfo {
            ip_address: "192.0.2.1".to_owned(),
            user_agent: "Browser/1".to_owned(),
            device_name: "Ann's telephone".to_owned(),
            ..Default::default()
        };
        let grant = v1::PasswordGrant { username: "ann@example.com".to_owned(), password: PASSWORD.to_owned() };
        let login = v1::IssueTokenRequest {
            grant: Some(v1::issue_token_request::Grant::Password(grant)),
            tenant_id: acme.id.to_string(),
            scope: "sales:read".to_owned(),
            client_info: Some(client_info),
            ..Default::default()
        };
        let token = world.client().issue_token(login).await.unwrap().into_inner().tokens.unwrap().access_token;
        // As if another client had opened it.
        assert_eq!(world.sql().await.execute("UPDATE sessions SET client_id = 'imported'").await, 1);

        let told = v1::ClientInfo { ip_address: "2001:DB8::1".to_owned(), user_agent: "Browser/2".to_owned(), ..Default::default() };
        let change = v1::ChangePasswordRequest {
            current_password: PASSWORD.to_owned(),
            new_password: NEW.to_owned(),
            client_info: Some(told),
        };
        let changed = world.client().change_password(bearer(change, &token)).await.unwrap().into_inner();
        let (tokens, session) = (changed.tokens.unwrap(), changed.session.unwrap());
        assert_eq!((session.tenant_id, session.client_id.as_str()), (acme.id.to_string(), "imported"));
        let device = (session.ip_address.as_str(), session.user_agent.as_str(), session.device_name.as_str());
        assert_eq!(device, ("2001:db8::1", "Browser/2", "Ann's telephone"), "told anew, told anew, kept");
        assert_eq!(tokens.scope, "sales:read");
        let claims = claims(&tokens.access_token);
        assert_eq!((&claims["tid"], &claims["client_id"]), (&acme.id.to_string().into(), &"imported".into()));
        assert_eq!((&claims["scope"], &claims["permissions"]), (&"sales:read".into(), &serde_json::json!(["sales:read"])));
        let answer = world.validate(&tokens.access_token).await.unwrap();
        assert_eq!(answer.tenant.unwrap().permissions, ["sales:read"]);
        let rows = strings(&world.sql().await, "SELECT client_id || ' ' || scope AS c FROM sessions ORDER BY id").await;
        assert_eq!(rows, ["imported sales:read", "imported sales:read"]);
    }

    async fn a_change_opens_nothing_in_a_tenant_that_shut_meanwhile(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &[]).await;
        let token = world.login_to("ann@example.com", &acme).await.access_token;
        let sql = world.sql().await;
        let (held, hashes) = (crate::login::races::Held::new(&sql).await, world.app().hasher.hashes());
        let meanwhile = async {
            crate::login::races::hashes_done(&world, hashes + 2).await;
            held.execute("UPDATE tenants SET state = 'suspended', epoch = epoch + 1").await;
            held.release().await;
        };
        let (change, ()) = tokio::join!(world.change_password(&token, PASSWORD, NEW), meanwhile);
        assert_eq!(refused(change), "TENANT_SUSPENDED");
        assert!(logs_in(&world, "ann@example.com", PASSWORD).await, "it is whole or absent");
        assert_eq!(world.count_events("password.changed").await, 0);
    }

    async fn a_change_after_its_own_logout_opens_nothing(world: World) {
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.access_token;
        let sql = world.sql().await;
        let (held, hashes) = (crate::login::races::Held::new(&sql).await, world.app().hasher.hashes());
        let meanwhile = async {
            crate::login::races::hashes_done(&world, hashes + 2).await;
            held.execute("UPDATE sessions SET revoked_at = created_at, revoked_reason = 'logout'").await;
            held.release().await;
        };
        let (change, ()) = tokio::join!(world.change_password(&token, PASSWORD, NEW), meanwhile);
        assert_eq!(refused(change), "SESSION_REVOKED");
        assert!(logs_in(&world, "ann@example.com", PASSWORD).await);
    }
}
