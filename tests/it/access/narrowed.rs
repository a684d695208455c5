//! Narrowed tokens: without the issuer among its audiences, a token is good where its audience is named, and for little.

use super::*;
use crate::probe::{Ask, grant};

/// The same world, serving the audiences `shop` and `till`.
async fn with_audiences(world: World) -> World {
    world.restart_with(|config| config.tokens.audience = texts(&["shop", "till"])).await
}

async fn narrowed(world: &World, username: &str, tenant_id: &str) -> v1::TokenSet {
    grant(world, username, Ask { tenant_id, audience: &["shop"], ..Ask::default() }).await.unwrap()
}

fn at(token: &str, audience: &str) -> v1::ValidateSessionRequest {
    v1::ValidateSessionRequest { audience: audience.to_owned(), ..ask(token) }
}

on_both! {
    async fn a_narrowed_token_is_good_only_where_its_audience_is_named(world: World) {
        let world = with_audiences(world).await;
        world.person("ann@example.com").await;
        let issuer = world.config.tokens.issuer.clone();
        let token = narrowed(&world, "ann@example.com", "").await.access_token;
        assert_eq!(world.validate_with(at(&token, "shop")).await.unwrap().token.unwrap().audience, ["shop"]);
        for elsewhere in ["", "till", &issuer, "Shop", "shop ", "sho", "shop,till"] {
            assert_eq!(refused(world.validate_with(at(&token, elsewhere)).await), "AUDIENCE_MISMATCH", "{elsewhere:?}");
        }
    }

    async fn the_audience_of_a_question_must_be_one_of_the_tokens(world: World) {
        let world = with_audiences(world).await;
        world.person("ann@example.com").await;
        let issuer = world.config.tokens.issuer.clone();
        let full = world.login("ann@example.com").await.access_token;
        let both = grant(&world, "ann@example.com", Ask { audience: &["till", &issuer], ..Ask::default() }).await.unwrap().access_token;
        for (token, good, bad) in [
            (&full, &["", "shop", "till", issuer.as_str()][..], &["hr", "SHOP", "doorward-clients"][..]),
            (&both, &["", "till", issuer.as_str()], &["shop", "hr"]),
        ] {
            for audience in good {
                world.validate_with(at(token, audience)).await.unwrap();
            }
            for audience in bad {
                assert_eq!(refused(world.validate_with(at(token, audience)).await), "AUDIENCE_MISMATCH", "{audience:?}");
            }
        }
        for malformed in ["shop\0", "shop\n", &"x".repeat(513)] {
            assert_eq!(fields(&world.validate_with(at(&full, malformed)).await.unwrap_err()), ["audience"]);
        }
    }

    async fn only_audiences_of_the_server_can_be_asked_for(world: World) {
        let world = with_audiences(world).await;
        world.person("ann@example.com").await;
        let issuer = world.config.tokens.issuer.clone();
        for (audience, field) in [
            (&["hr"][..], "audience[0]"),
            (&["shop", ""], "audience[1]"),
            (&["shop", "till", "shop"], "audience[2]"),
            (&[&issuer, "SHOP"], "audience[1]"),
        ] {
            let status = grant(&world, "ann@example.com", Ask { audience, ..Ask::default() }).await.unwrap_err();
            assert_eq!(fields(&status), [field], "{audience:?}");
        }
    }

    async fn a_narrowed_token_is_accepted_by_readers_and_refused_by_all_else(world: World) {
        let world = with_audiences(world).await;
        world.person("ann@example.com").await;
        let set = narrowed(&world, "ann@example.com", "").await;
        let token = set.access_token.as_str();
        let mut client = world.client();
        let me = client.get_me(bearer(v1::GetMeRequest {}, token)).await.unwrap().into_inner();
        assert_eq!(me.token.unwrap().audience, ["shop"]);
        client.list_tenants(bearer(v1::ListTenantsRequest::default(), token)).await.unwrap();
        client.validate_session(bearer(at("", "shop"), token)).await.unwrap();

        // Whatever the message says.
        for (current, new) in [(PASSWORD, "another good long password"), ("wrong", "another good long password"), (PASSWORD, "short")] {
            assert_eq!(refused(world.change_password(token, current, new).await), "AUDIENCE_MISMATCH");
        }
        assert_eq!(refused(world.logout(token).await), "AUDIENCE_MISMATCH");
        assert_eq!(refused(client.logout(bearer(v1::LogoutRequest::default(), token)).await), "AUDIENCE_MISMATCH");
        world.validate_with(at(token, "shop")).await.unwrap();
        world.login("ann@example.com").await;
        // The session behind it is whole: its refresh token answers a full one again.
        world.validate(&world.refresh(&set.refresh_token).await.unwrap().access_token).await.unwrap();
    }

    async fn a_narrowed_token_carries_no_superuser_neither_as_flag_nor_as_power(world: World) {
        let world = with_audiences(world).await;
        let root = world.superuser("root@example.com").await;
        let (foreign, own) = (world.tenant("foreign").await, world.tenant("own").await);
        world.role(&own, "seller", &["sales:read"]).await;
        world.member(&own, &root, &["seller"]).await;
        let issuer = world.config.tokens.issuer.clone();
        let token = narrowed(&world, "root@example.com", "").await.access_token;
        let ask_there = |tenant: &Tenant, permissions: &[&str]| v1::ValidateSessionRequest {
            audience: "shop".to_owned(),
            ..ask_for(&token, tenant, permissions)
        };
        assert!(!user_of(world.validate_with(at(&token, "shop")).await.unwrap()).superuser);
        let me = world.client().get_me(bearer(v1::GetMeRequest {}, &token)).await.unwrap().into_inner();
        let v1::principal::Kind::User(me) = me.principal.unwrap().kind.unwrap() else { panic!("a user") };
        assert!(!me.superuser);
        let flag = v1::ValidateSessionRequest { superuser: true, ..at(&token, "shop") };
        assert_eq!(refused(world.validate_with(flag).await), "SUPERUSER_REQUIRED");
        assert_eq!(refused(world.validate_with(ask_there(&foreign, &[])).await), "NOT_A_MEMBER");
        assert!(!world.validate_with(ask_there(&own, &["sales:read"])).await.unwrap().superuser_access);
        assert_eq!(refused(world.validate_with(ask_there(&own, &["sales:write"])).await), "PERMISSION_MISSING");
        // A session that was opened in a tenant by the flag gives no narrowed token that is good there.
        let bound = narrowed(&world, "root@example.com", &foreign.id.to_string()).await.access_token;
        assert_eq!(refused(world.validate_with(at(&bound, "shop")).await), "NOT_A_MEMBER");
        // With the issuer it is no narrowed one.
        let full = grant(&world, "root@example.com", Ask { audience: &["shop", &issuer], ..Ask::default() }).await.unwrap().access_token;
        assert!(user_of(world.validate(&full).await.unwrap()).superuser);
    }

    async fn a_narrowed_token_lists_its_own_tenant_only(world: World) {
        let world = with_audiences(world).await;
        let ann = world.person("ann@example.com").await;
        let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
        for tenant in [&acme, &globex] {
            world.member(tenant, &ann, &["owner"]).await;
        }
        let issuer = world.config.tokens.issuer.clone();
        let globex_id = globex.id.to_string();
        let everything = Ask { tenant_id: &globex_id, audience: &["shop", &issuer], ..Ask::default() };
        for (token, expected) in [
            (narrowed(&world, "ann@example.com", "").await, &[][..]),
            (narrowed(&world, "ann@example.com", &globex_id).await, &["globex"]),
            (grant(&world, "ann@example.com", everything).await.unwrap(), &["acme", "globex"]),
        ] {
            let token = token.access_token;
            let question = v1::ValidateSessionRequest { include_tenants: true, ..at(&token, "shop") };
            let answer = world.validate_with(question).await.unwrap();
            assert!(!answer.more_tenants);
            let list = v1::ListTenantsRequest::default();
            let listed = world.client().list_tenants(bearer(list, &token)).await.unwrap().into_inner();
            assert_eq!(listed.next_page_token, "");
            for tenants in [answer.tenants, listed.tenants] {
                let mut slugs: Vec<_> = tenants.into_iter().map(|tenant| tenant.slug).collect();
                slugs.sort();
                assert_eq!(slugs, expected);
            }
        }
    }

    async fn a_narrowed_token_keeps_the_rights_that_it_was_not_told_to_lose(world: World) {
        let world = with_audiences(world).await;
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["owner"]).await;
        let token = narrowed(&world, "ann@example.com", "ext:crm-acme").await.access_token;
        let question = v1::ValidateSessionRequest { any_role: texts(&["owner"]), permissions: texts(&["a:b"]), ..at(&token, "shop") };
        let entry = world.validate_with(question).await.unwrap().tenant.unwrap();
        assert_eq!((entry.roles[0].name.as_str(), entry.permissions), ("owner", texts(&["*:*"])));
    }
}
