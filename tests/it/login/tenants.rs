//! A login to a tenant: without the right password nobody learns anything about one.

use super::{DOORS, Door, attempt, audit_rows, claims, snapshot};
use crate::{harness::*, on_both};
use doorward::{domain, pb::v1};
use tonic_types::StatusExt;

const RANDOM: &str = "01890000-0000-7000-8000-000000000000";

async fn suspend(world: &World, tenant: &doorward::store::tenants::Tenant) {
    domain::tenants::set_suspended(world.app(), tenant, true, cli()).await.unwrap();
}

/// Puts all memberships of a tenant into a state that no call of this version makes.
async fn set_membership(sql: &Sql, slug: &str, state: &str) {
    let members = format!("UPDATE memberships SET state = '{state}' WHERE tenant_id = (SELECT id FROM tenants WHERE slug = '{slug}')");
    assert_eq!(sql.execute(&members).await, 1);
}

on_both! {
    async fn a_wrong_password_hides_every_tenant(world: World) {
        let ann = world.person("ann@example.com").await;
        let (own, foreign, suspended) = (world.tenant("own").await, world.tenant("foreign").await, world.tenant("suspended").await);
        world.member(&own, &ann, &[]).await;
        world.member(&suspended, &ann, &[]).await;
        suspend(&world, &suspended).await;
        let ids = [own.id.to_string(), foreign.id.to_string(), suspended.id.to_string(), "x".repeat(5_000)];
        let named = ["ext:crm-own", "ext:nothing", "ext:", "garbage", "\0", RANDOM];
        for door in DOORS {
            let plain = attempt(&world, door, "ann@example.com", "a wrong password", "").await;
            assert_eq!(plain.reason(), "INVALID_CREDENTIALS");
            for tenant in ids.iter().map(String::as_str).chain(named) {
                for identifier in ["ann@example.com", "nobody@example.com", ""] {
                    let seen = attempt(&world, door, identifier, "a wrong password", tenant).await;
                    assert_eq!(seen, plain, "{door:?}, {identifier}, {tenant:?}");
                }
            }
        }
    }

    async fn a_tenant_id_that_is_none_is_a_bad_field_and_leaves_no_trace(world: World) {
        world.person("ann@example.com").await;
        let sql = world.sql().await;
        let long = format!("ext:{}", "x".repeat(256));
        for tenant in ["garbage", "ext:", "ext: ", "ext:\0", "EXT:crm-own", "\0", " ", &format!("{RANDOM}0"), &format!(" {RANDOM}"), &long] {
            for door in DOORS {
                let (before, events) = (snapshot(&world, &sql).await, audit_rows(&sql).await);
                let seen = attempt(&world, door, "ann@example.com", PASSWORD, tenant).await;
                assert_eq!(seen.reason(), "INVALID_FIELD", "{door:?}, {tenant:?}");
                assert_eq!((snapshot(&world, &sql).await, audit_rows(&sql).await), (before, events), "{door:?}, {tenant:?}");
            }
            let status = world.try_login("ann@example.com", PASSWORD, tenant).await.unwrap_err();
            let fields: Vec<_> = status.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
            assert_eq!(fields, ["tenant_id"]);
            assert!(tenant.trim().len() < 5 || !status.message().contains(tenant), "the value is not repeated");
        }
    }

    async fn a_foreign_tenant_is_one_that_does_not_exist(world: World) {
        let ann = world.person("ann@example.com").await;
        let sql = world.sql().await;
        let mut ids = vec![RANDOM.to_owned(), "ext:nothing".to_owned(), "ext:crm-foreign".to_owned()];
        ids.push(world.tenant("foreign").await.id.to_string());
        let shut = world.tenant("shut").await;
        suspend(&world, &shut).await;
        ids.push(shut.id.to_string());
        for state in ["invited", "removed", "frozen"] {
            let tenant = world.tenant(state).await;
            world.member(&tenant, &ann, &[]).await;
            set_membership(&sql, state, state).await;
            ids.push(tenant.id.to_string());
        }
        let gone = world.tenant("gone").await;
        world.member(&gone, &ann, &[]).await;
        sql.execute("UPDATE tenants SET state = 'deleted' WHERE slug = 'gone'").await;
        ids.push(gone.id.to_string());

        let refusals = "SELECT count(*) AS n FROM audit_events WHERE event = 'login.failed' AND reason = 'NOT_A_MEMBER'";
        let before = snapshot(&world, &sql).await;
        let first = attempt(&world, Door::Login, "ann@example.com", PASSWORD, RANDOM).await;
        assert_eq!(first.reason(), "NOT_A_MEMBER");
        for door in DOORS {
            for tenant in &ids {
                let (events, refused, hashes) = (audit_rows(&sql).await, sql.count(refusals).await, world.app().hasher.hashes());
                assert_eq!(attempt(&world, door, "ann@example.com", PASSWORD, tenant).await, first, "{door:?}, {tenant}");
                assert_eq!((audit_rows(&sql).await - events, sql.count(refusals).await - refused), (1, 1), "{door:?}, {tenant}");
                assert_eq!(world.app().hasher.hashes() - hashes, 1);
            }
        }
        assert_eq!(snapshot(&world, &sql).await, before, "no session was opened");
    }

    async fn members_learn_what_is_suspended_the_membership_first(world: World) {
        let ann = world.person("ann@example.com").await;
        let sql = world.sql().await;
        let cases = [("tenant", false, true, "TENANT_SUSPENDED"), ("member", true, false, "MEMBERSHIP_SUSPENDED"), ("both", true, true, "MEMBERSHIP_SUSPENDED")];
        for (slug, member_suspended, tenant_suspended, expected) in cases {
            let tenant = world.tenant(slug).await;
            world.member(&tenant, &ann, &[]).await;
            world.login_to("ann@example.com", &tenant).await;
            if member_suspended {
                set_membership(&sql, slug, "suspended").await;
            }
            if tenant_suspended {
                suspend(&world, &tenant).await;
            }
            for door in DOORS {
                let before = (snapshot(&world, &sql).await, audit_rows(&sql).await + 1);
                assert_eq!(attempt(&world, door, "ann@example.com", PASSWORD, &tenant.id.to_string()).await.reason(), expected, "{slug}");
                assert_eq!((snapshot(&world, &sql).await, audit_rows(&sql).await), before, "{door:?}, {slug}");
            }
        }
        world.login("ann@example.com").await;
        assert_eq!(world.count_events("login.failed").await, 6);
    }

    async fn a_login_binds_to_the_tenant_by_either_of_its_names(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &[]).await;
        for tenant in [acme.id.to_string(), "ext:crm-acme".to_owned()] {
            let login = world.try_login("ann@example.com", PASSWORD, &tenant).await.unwrap();
            assert_eq!(login.session.unwrap().tenant_id, acme.id.to_string());
            assert_eq!(claims(&login.tokens.unwrap().access_token)["tid"], acme.id.to_string());
        }
    }

    async fn a_superuser_acts_in_tenants_that_exist_and_are_active(world: World) {
        world.superuser("root@example.com").await;
        let sql = world.sql().await;
        let (acme, shut, gone) = (world.tenant("acme").await, world.tenant("shut").await, world.tenant("gone").await);
        suspend(&world, &shut).await;
        sql.execute("UPDATE tenants SET state = 'deleted' WHERE slug = 'gone'").await;

        let tokens = world.login_to("root@example.com", &acme).await;
        assert!(world.validate(&tokens.access_token).await.unwrap().superuser_access);
        for (tenant, expected) in [
            (RANDOM.to_owned(), "NOT_A_MEMBER"),
            ("ext:nothing".to_owned(), "NOT_A_MEMBER"),
            (gone.id.to_string(), "NOT_A_MEMBER"),
            (shut.id.to_string(), "TENANT_SUSPENDED"),
        ] {
            for door in DOORS {
                assert_eq!(attempt(&world, door, "root@example.com", PASSWORD, &tenant).await.reason(), expected, "{door:?}, {tenant}");
            }
        }
        assert_eq!(sql.count("SELECT count(*) AS n FROM sessions").await, 1);
    }

    async fn a_capped_login_is_no_superusers(world: World) {
        world.superuser("root@example.com").await;
        let acme = world.tenant("acme").await;
        let grant = v1::PasswordGrant { username: "root@example.com".to_owned(), password: PASSWORD.to_owned() };
        let request = v1::IssueTokenRequest {
            grant: Some(v1::issue_token_request::Grant::Password(grant)),
            scope: "sales:read".to_owned(),
            tenant_id: acme.id.to_string(),
            ..Default::default()
        };
        assert_eq!(refused(world.client().issue_token(request).await), "NOT_A_MEMBER");
    }
}
