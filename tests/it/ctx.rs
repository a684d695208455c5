//! `Ctx::tenant`, the only way of a TENANT method to a tenant's data. The contract has no such method yet, so the calls are made up.

use std::time::{Duration, Instant};

use crate::{
    access::{random_id, set_member_state, set_permissions, set_tenant_state},
    harness::*,
    on_both,
    probe::{Ask, grant},
};
use doorward::{
    ctx::{Bearer, Ctx, Identity, RequestId},
    domain::{
        access::{self, Accepts, Principal, TenantScope},
        memory::Freshness,
        users,
    },
    error::{Error, Result},
    methods::{Access, Method, Policy},
    store::{facts::About, tenants::Tenant, users::UserState},
};

/// A TENANT method that demands a permission.
fn method(permission: &'static str) -> &'static Method {
    let policy = Policy {
        access: Access::Tenant,
        permission,
        recent_auth: false,
        accepts_narrowed: false,
        accepts_must_change: false,
        accepts_service_accounts: false,
        accepts_instance: false,
        proves_caller: false,
        needs_no_caller: false,
    };
    Box::leak(Box::new(Method { path: "/test/Write", service: "test", name: "Write", input: "test.In", output: "test.Out", policy }))
}

/// What the gate would have made of a call with this token.
async fn subject(world: &World, token: &str) -> Principal {
    access::authenticate(world.app(), token, Accepts::default(), About::Own, Freshness::latest(), world.clock.now()).await.unwrap()
}

fn call(world: &World, permission: &'static str, principal: Option<Principal>) -> Ctx {
    let app = world.app();
    let id = RequestId::take(None, &app.entropy, &app.clock);
    Ctx::new(
        method(permission),
        id,
        app.clock.now(),
        Instant::now() + Duration::from_mins(1),
        Bearer::Missing,
        Identity { principal, caller: None },
    )
}

/// A whole call of a method that demands `sales:write`.
async fn enter(world: &World, token: &str, tenant_id: &str) -> Result<TenantScope> {
    call(world, "sales:write", Some(subject(world, token).await)).tenant(world.app(), tenant_id).await
}

async fn why(world: &World, token: &str, tenant_id: &str) -> &'static str {
    enter(world, token, tenant_id).await.expect_err("should have been refused").reason().0
}

/// Two tenants; ann sells in `acme`, and is nobody in `globex`.
async fn given(world: &World) -> (Tenant, Tenant) {
    let ann = world.person("ann@example.com").await;
    let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
    world.role(&acme, "seller", &["sales:*"]).await;
    world.member(&acme, &ann, &["seller"]).await;
    (acme, globex)
}

on_both! {
    async fn who_holds_the_permission_gets_in(world: World) {
        let (acme, _) = given(&world).await;
        let (unbound, bound) = (world.login("ann@example.com").await, world.login_to("ann@example.com", &acme).await);
        for token in [&unbound.access_token, &bound.access_token] {
            for tenant_id in [acme.id.to_string(), "ext:crm-acme".to_owned()] {
                let scope = enter(&world, token, &tenant_id).await.unwrap();
                assert_eq!(scope.tenant().id, acme.id);
                assert_eq!((scope.role_names(), scope.permissions().to_strings()), (vec!["seller".to_owned()], vec!["sales:*".to_owned()]));
                assert!(scope.membership().is_some());
            }
        }
    }

    async fn who_is_no_member_gets_the_answer_of_a_tenant_that_does_not_exist(world: World) {
        let (acme, globex) = given(&world).await;
        let gone = world.tenant("gone").await;
        let ann = users::resolve(world.app(), "ann@example.com").await.unwrap();
        for tenant in [&globex, &gone] {
            world.role(tenant, "seller", &["sales:*"]).await;
        }
        world.member(&gone, &ann, &["seller"]).await;
        set_tenant_state(&world, &gone, "deleted").await;
        let token = world.login("ann@example.com").await.access_token;
        for tenant_id in [globex.id, gone.id].map(|id| id.to_string()).iter().chain(&[random_id().to_string(), "ext:crm-globex".to_owned(), "ext:none".to_owned()]) {
            assert_eq!(why(&world, &token, tenant_id).await, "NOT_A_MEMBER", "{tenant_id}");
        }
        for state in ["removed", "invited", "a word of tomorrow"] {
            set_member_state(&world, &acme, &ann, state).await;
            assert_eq!(why(&world, &token, "ext:crm-acme").await, "NOT_A_MEMBER", "{state}");
        }
    }

    async fn a_token_of_a_tenant_gets_into_no_other(world: World) {
        let (acme, globex) = given(&world).await;
        let ann = users::resolve(world.app(), "ann@example.com").await.unwrap();
        world.member(&globex, &ann, &["owner"]).await;
        let bound = world.login_to("ann@example.com", &acme).await.access_token;
        enter(&world, &bound, &acme.id.to_string()).await.unwrap();
        assert_eq!(why(&world, &bound, &globex.id.to_string()).await, "NOT_A_MEMBER");
        assert_eq!(why(&world, &bound, "ext:crm-globex").await, "NOT_A_MEMBER");
        assert_eq!(why(&world, &bound, "ext:none").await, "NOT_A_MEMBER");
    }

    async fn states_are_refused_before_the_permission_is_looked_at(world: World) {
        let (acme, _) = given(&world).await;
        let ann = users::resolve(world.app(), "ann@example.com").await.unwrap();
        let token = world.login("ann@example.com").await.access_token;
        let id = acme.id.to_string();
        set_permissions(&world, &acme, "seller", &["sales:read", "sale:write"]).await;
        set_tenant_state(&world, &acme, "suspended").await;
        set_member_state(&world, &acme, &ann, "suspended").await;
        assert_eq!(why(&world, &token, &id).await, "MEMBERSHIP_SUSPENDED");
        set_member_state(&world, &acme, &ann, "active").await;
        assert_eq!(why(&world, &token, &id).await, "TENANT_SUSPENDED");
        set_tenant_state(&world, &acme, "active").await;
        let missing = enter(&world, &token, &id).await;
        assert!(matches!(&missing, Err(Error::PermissionMissing(name)) if name == "sales:write"), "{missing:?}");
        set_permissions(&world, &acme, "seller", &["*:write"]).await;
        enter(&world, &token, &id).await.unwrap();
    }

    async fn a_tenant_must_be_named_also_with_a_token_of_one(world: World) {
        let (acme, _) = given(&world).await;
        let bound = world.login_to("ann@example.com", &acme).await.access_token;
        for tenant_id in ["", "acme", "ext:", " "] {
            let Err(Error::InvalidField(violations)) = enter(&world, &bound, tenant_id).await else { panic!("{tenant_id:?}") };
            assert_eq!(violations[0].field, "tenant_id");
        }
    }

    async fn a_cap_counts_here_too(world: World) {
        let (acme, _) = given(&world).await;
        let id = acme.id.to_string();
        for (scope, expected) in [("sales:write", None), ("*:*", None), ("sales:read", Some("PERMISSION_MISSING"))] {
            let token = grant(&world, "ann@example.com", Ask { scope, ..Ask::default() }).await.unwrap().access_token;
            assert_eq!(enter(&world, &token, &id).await.err().map(|error| error.reason().0), expected, "{scope}");
        }
    }

    async fn a_superuser_gets_in_where_a_tenant_is_active(world: World) {
        let (acme, globex) = given(&world).await;
        let root = world.superuser("root@example.com").await;
        world.member(&acme, &root, &["member"]).await;
        let token = world.login("root@example.com").await.access_token;
        let (acme_id, globex_id) = (acme.id.to_string(), globex.id.to_string());
        // As no member, and as one whose roles do not do.
        assert!(enter(&world, &token, &globex_id).await.unwrap().membership().is_none());
        assert!(enter(&world, &token, &acme_id).await.unwrap().membership().is_some());
        assert_eq!(why(&world, &token, &random_id().to_string()).await, "NOT_A_MEMBER");
        let capped = grant(&world, "root@example.com", Ask { scope: "*:*", ..Ask::default() }).await.unwrap().access_token;
        assert_eq!(why(&world, &capped, &globex_id).await, "NOT_A_MEMBER");
        assert_eq!(why(&world, &capped, &acme_id).await, "PERMISSION_MISSING");
        set_tenant_state(&world, &globex, "suspended").await;
        assert_eq!(why(&world, &token, &globex_id).await, "TENANT_SUSPENDED");
        set_member_state(&world, &acme, &root, "suspended").await;
        assert_eq!(why(&world, &token, &acme_id).await, "MEMBERSHIP_SUSPENDED");
        set_tenant_state(&world, &globex, "deleted").await;
        assert_eq!(why(&world, &token, &globex_id).await, "NOT_A_MEMBER");
    }

    async fn a_call_without_a_subject_or_a_method_without_a_permission_gets_nowhere(world: World) {
        let (acme, _) = given(&world).await;
        let id = acme.id.to_string();
        let nobody = call(&world, "sales:write", None).tenant(world.app(), &id).await;
        assert!(matches!(nobody, Err(Error::TokenMissing)), "{nobody:?}");
        let token = world.login("ann@example.com").await.access_token;
        for permission in ["", "sales", "sales:write:all"] {
            let ctx = call(&world, permission, Some(subject(&world, &token).await));
            let outcome = ctx.tenant(world.app(), &id).await;
            assert!(matches!(outcome, Err(Error::Internal(_))), "{permission:?}: {outcome:?}");
        }
    }

    async fn what_ends_between_gate_and_handler_ends_the_call(world: World) {
        let (acme, _) = given(&world).await;
        let ann = users::resolve(world.app(), "ann@example.com").await.unwrap();
        let id = acme.id.to_string();
        let held = async || {
            let token = world.login("ann@example.com").await.access_token;
            (call(&world, "sales:write", Some(subject(&world, &token).await)), token)
        };
        // The tenant's side of the facts.
        let (ctx, _) = held().await;
        set_tenant_state(&world, &acme, "suspended").await;
        assert_eq!(ctx.tenant(world.app(), &id).await.unwrap_err().reason().0, "TENANT_SUSPENDED");
        set_tenant_state(&world, &acme, "active").await;
        ctx.tenant(world.app(), &id).await.unwrap();
        // The person's side, which the same statement reads.
        let (ctx, token) = held().await;
        world.logout(&token).await.unwrap();
        assert_eq!(ctx.tenant(world.app(), &id).await.map(drop).map_err(|error| error.reason().0), Err("SESSION_REVOKED"));
        // A token of the tenant under an epoch that has moved on.
        let bound = world.login_to("ann@example.com", &acme).await.access_token;
        let ctx = call(&world, "sales:write", Some(subject(&world, &bound).await));
        world.sql().await.execute("UPDATE tenants SET epoch = epoch + 1").await;
        assert_eq!(ctx.tenant(world.app(), &id).await.map(drop).map_err(|error| error.reason().0), Err("SESSION_REVOKED"));
        let (ctx, _) = held().await;
        users::set_state(world.app(), &ann, UserState::Disabled, cli()).await.unwrap();
        assert_eq!(ctx.tenant(world.app(), &id).await.map(drop).map_err(|error| error.reason().0), Err("PRINCIPAL_DISABLED"));
    }
}
