//! Superusers: they act in every tenant that exists and is active, and the answer says so (invariant 25, first sentence).

use super::*;
use crate::probe::{Ask, grant};

/// A superuser who is no member of anything, with a token that is bound to no tenant.
async fn root(world: &World) -> (User, String) {
    let root = world.superuser("root@example.com").await;
    (root, world.login("root@example.com").await.access_token)
}

fn demanding(token: &str, tenant: &Tenant) -> v1::ValidateSessionRequest {
    v1::ValidateSessionRequest { any_role: texts(&["owner"]), superuser: true, ..ask_for(token, tenant, &["sales:write", "*:*"]) }
}

on_both! {
    async fn a_superuser_acts_in_an_active_tenant_and_the_answer_says_so(world: World) {
        let (_, token) = root(&world).await;
        let acme = world.tenant("acme").await;
        for question in [ask_in(&token, &acme.id), ask_in(&token, &"ext:crm-acme"), demanding(&token, &acme)] {
            let answer = world.validate_with(question).await.unwrap();
            assert!(answer.superuser_access);
            let entry = answer.tenant.unwrap();
            // Nothing is made up for who is no member.
            assert_eq!((entry.slug.as_str(), entry.membership_state()), ("acme", v1::MembershipState::Unspecified));
            assert_eq!((entry.roles.len(), entry.permissions.len()), (0, 0));
        }
        // Lists are of memberships; nothing is listed for want of one.
        let answer = world.validate_with(v1::ValidateSessionRequest { include_tenants: true, ..ask(&token) }).await.unwrap();
        assert!(answer.tenants.is_empty() && !answer.more_tenants && !answer.superuser_access);
        assert!(world.try_login("root@example.com", PASSWORD, "").await.unwrap().tenants.is_empty());
    }

    async fn a_superuser_acts_in_no_tenant_that_does_not_exist(world: World) {
        let (_, token) = root(&world).await;
        let gone = world.tenant("gone").await;
        set_tenant_state(&world, &gone, "deleted").await;
        let random = random_id().to_string();
        let expected = refusal(&world, ask_in(&token, &random)).await;
        assert!(expected.metadata.contains(&("doorward-reason".to_owned(), b"NOT_A_MEMBER".to_vec())));
        for tenant_id in [gone.id.to_string(), "ext:crm-gone".to_owned(), "ext:nothing".to_owned()] {
            assert_eq!(refusal(&world, ask_in(&token, &tenant_id)).await, expected, "{tenant_id}");
        }
        assert_eq!(refusal(&world, demanding(&token, &gone)).await, expected);
        for tenant_id in [&random, &gone.id.to_string(), "ext:nothing"] {
            assert_eq!(refused(world.try_login("root@example.com", PASSWORD, tenant_id).await), "NOT_A_MEMBER");
            let wish = Ask { tenant_id, ..Ask::default() };
            assert_eq!(refused(grant(&world, "root@example.com", wish).await), "NOT_A_MEMBER");
        }
    }

    async fn a_superuser_acts_in_no_suspended_tenant_member_or_not(world: World) {
        let (root, token) = root(&world).await;
        let acme = world.tenant("acme").await;
        for member in [false, true] {
            if member {
                world.member(&acme, &root, &["owner"]).await;
            }
            for state in ["suspended", "a word of tomorrow"] {
                set_tenant_state(&world, &acme, state).await;
                for question in [ask_in(&token, &acme.id), demanding(&token, &acme)] {
                    assert_eq!(refused(world.validate_with(question).await), "TENANT_SUSPENDED");
                }
                let login = world.try_login("root@example.com", PASSWORD, &acme.id.to_string()).await;
                assert_eq!(refused(login), "TENANT_SUSPENDED");
            }
        }
    }

    async fn a_suspended_member_is_suspended_superuser_or_not(world: World) {
        let (root, token) = root(&world).await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &root, &["owner"]).await;
        set_member_state(&world, &acme, &root, "suspended").await;
        for question in [ask_in(&token, &acme.id), demanding(&token, &acme)] {
            assert_eq!(refused(world.validate_with(question).await), "MEMBERSHIP_SUSPENDED");
        }
        assert_eq!(refused(world.try_login("root@example.com", PASSWORD, &acme.id.to_string()).await), "MEMBERSHIP_SUSPENDED");
    }

    async fn a_superuser_who_is_no_member_any_more_or_not_yet_acts_as_one_who_never_was(world: World) {
        let (root, token) = root(&world).await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &root, &["owner"]).await;
        for state in ["removed", "invited", "a word of tomorrow"] {
            set_member_state(&world, &acme, &root, state).await;
            let answer = world.validate_with(ask_in(&token, &acme.id)).await.unwrap();
            let entry = answer.tenant.unwrap();
            assert!(answer.superuser_access, "{state}");
            assert_eq!((entry.roles.len(), entry.permissions.len(), entry.membership_state()), (0, 0, v1::MembershipState::Unspecified));
        }
    }

    async fn a_member_is_told_to_use_the_flag_only_where_the_roles_do_not_do(world: World) {
        let (root, unbound) = root(&world).await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:*"]).await;
        world.member(&acme, &root, &["seller"]).await;
        let bound = world.login_to("root@example.com", &acme).await.access_token;
        for token in [&unbound, &bound] {
            let by_flag = async |question| world.validate_with(question).await.unwrap().superuser_access;
            let role = |name| v1::ValidateSessionRequest { any_role: texts(&[name]), ..ask_for(token, &acme, &["sales:read"]) };
            assert!(!by_flag(ask_in(token, &acme.id)).await);
            assert!(!by_flag(ask_for(token, &acme, &["sales:read", "sales:*"])).await);
            assert!(!by_flag(role("seller")).await);
            assert!(by_flag(ask_for(token, &acme, &["stock:read"])).await);
            assert!(by_flag(ask_for(token, &acme, &["sales:read", "stock:read"])).await);
            assert!(by_flag(role("owner")).await);
            // What the roles give is told as it is.
            let entry = world.validate_with(ask_for(token, &acme, &["stock:read"])).await.unwrap().tenant.unwrap();
            assert_eq!((entry.permissions, entry.membership_state), (texts(&["sales:*"]), v1::MembershipState::Active.into()));
        }
    }

    async fn a_superusers_session_in_a_tenant_lives_and_dies_with_flag_and_tenant(world: World) {
        let (root, _) = root(&world).await;
        let acme = world.tenant("acme").await;
        let bound = world.login_to("root@example.com", &acme).await;
        let answer = world.validate(&bound.access_token).await.unwrap();
        assert!(answer.superuser_access);
        assert_eq!((answer.tenant.unwrap().slug.as_str(), answer.session.unwrap().tenant_id), ("acme", acme.id.to_string()));
        let bound = world.refresh(&bound.refresh_token).await.unwrap();

        set_tenant_state(&world, &acme, "suspended").await;
        assert_eq!(refused(world.validate(&bound.access_token).await), "TENANT_SUSPENDED");
        assert_eq!(refused(world.refresh(&bound.refresh_token).await), "TENANT_SUSPENDED");
        set_tenant_state(&world, &acme, "active").await;
        world.validate(&bound.access_token).await.unwrap();

        let flag = format!("UPDATE users SET superuser = NOT superuser WHERE id = {}", literal(&world, root.id.as_uuid()));
        world.sql().await.execute(&flag).await;
        assert_eq!(refused(world.validate(&bound.access_token).await), "NOT_A_MEMBER");
        assert_eq!(refused(world.client().get_me(bearer(v1::GetMeRequest {}, &bound.access_token)).await), "NOT_A_MEMBER");
        world.sql().await.execute(&flag).await;
        set_tenant_state(&world, &acme, "deleted").await;
        assert_eq!(refused(world.validate(&bound.access_token).await), "NOT_A_MEMBER");
    }

    async fn a_lost_flag_is_lost_with_the_next_call(world: World) {
        let (root, token) = root(&world).await;
        let acme = world.tenant("acme").await;
        world.validate_with(demanding(&token, &acme)).await.unwrap();
        let sql = format!("UPDATE users SET superuser = NOT superuser WHERE id = {}", literal(&world, root.id.as_uuid()));
        world.sql().await.execute(&sql).await;
        assert_eq!(refused(world.validate_with(ask_in(&token, &acme.id)).await), "NOT_A_MEMBER");
        let question = v1::ValidateSessionRequest { superuser: true, ..ask(&token) };
        assert_eq!(refused(world.validate_with(question).await), "SUPERUSER_REQUIRED");
    }

    async fn the_audit_trail_says_who_entered_a_tenant_by_the_flag_alone(world: World) {
        let (root, _) = root(&world).await;
        let (foreign, own) = (world.tenant("foreign").await, world.tenant("own").await);
        world.member(&own, &root, &["member"]).await;
        let marked = async |event: &str, tenant: &Tenant| {
            let tenant = literal(&world, tenant.id.as_uuid());
            let details = format!(
                "SELECT CAST(details AS TEXT) AS details FROM audit_events WHERE event = '{event}' AND tenant_id = {tenant} ORDER BY id"
            );
            let rows = world.sql().await.query(&details).await;
            let details = rows.iter().map(|row| row.try_get::<String>("", "details").unwrap());
            let details = details.map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap());
            details.map(|details| details["superuser_access"] == true).collect::<Vec<_>>()
        };
        let in_own = world.login_to("root@example.com", &own).await.access_token;
        assert_eq!(marked("login.succeeded", &own).await, [false]);
        let new = "another good long password";
        world.change_password(&in_own, PASSWORD, new).await.unwrap();
        assert_eq!(marked("password.changed", &own).await, [false]);

        let foreign_id = foreign.id.to_string();
        let in_foreign = world.try_login("root@example.com", new, &foreign_id).await.unwrap().tokens.unwrap().access_token;
        assert_eq!(marked("login.succeeded", &foreign).await, [true]);
        world.change_password(&in_foreign, new, PASSWORD).await.unwrap();
        assert_eq!(marked("password.changed", &foreign).await, [true]);
        grant(&world, "root@example.com", Ask { tenant_id: "ext:crm-foreign", ..Ask::default() }).await.unwrap();
        assert_eq!(marked("login.succeeded", &foreign).await, [true, true]);
    }
}
