//! Token exchange: a token for one that can do less. It never widens, never outlives, and changes nothing.

use std::time::Duration;

use doorward::{
    domain::{self, revocation},
    methods::{Access, METHODS},
    pb::v1::{self, issue_token_request::Grant},
    store::{facts::Whose, tenants::Tenant, users::User},
};
use tonic::{Request, Status};

use crate::{
    access::{fields, set_member_state, set_tenant_state, texts},
    harness::*,
    on_both,
    probe::{Ask, get_me, grant, list_tenants, payload, refresh_asking},
    recipes::{Caller, recipes},
    wire::{Wire, encode},
    workloads::{called_by, tenant_account, token},
};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

fn request(subject_token: &str, ask: Ask<'_>) -> v1::IssueTokenRequest {
    let grant = v1::TokenExchangeGrant {
        subject_token: subject_token.to_owned(),
        subject_token_type: ACCESS_TOKEN.to_owned(),
        requested_token_type: String::new(),
    };
    v1::IssueTokenRequest {
        grant: Some(Grant::TokenExchange(grant)),
        tenant_id: ask.tenant_id.to_owned(),
        scope: ask.scope.to_owned(),
        audience: texts(ask.audience),
        client_info: None,
    }
}

async fn exchange(world: &World, subject_token: &str, ask: Ask<'_>) -> Result<v1::TokenSet, Status> {
    world.client().issue_token(request(subject_token, ask)).await.map(|answer| answer.into_inner().tokens.unwrap())
}

/// Asks about a token where its audience is named.
async fn at(world: &World, token: &str, audience: &str) -> Result<v1::ValidateSessionResponse, Status> {
    let question = v1::ValidateSessionRequest { access_token: token.to_owned(), audience: audience.to_owned(), ..Default::default() };
    world.validate_with(question).await
}

/// A world with the audiences `shop` and `till`; ann sells in acme and owns beta.
async fn given(world: World) -> (World, User, Tenant, Tenant) {
    let world = world.restart_with(|config| config.tokens.audience = texts(&["shop", "till"])).await;
    let ann = world.person("ann@example.com").await;
    let (acme, beta) = (world.tenant("acme").await, world.tenant("beta").await);
    world.role(&acme, "seller", &["sales:read", "sales:write"]).await;
    world.member(&acme, &ann, &["seller"]).await;
    world.member(&beta, &ann, &["owner"]).await;
    (world, ann, acme, beta)
}

on_both! {
    async fn a_token_becomes_one_for_a_tenant_an_audience_and_fewer_permissions(world: World) {
        let (world, ann, acme, _) = given(world).await;
        let login = world.try_login("ann@example.com", PASSWORD, "").await.unwrap();
        let tokens = login.tokens.unwrap();

        let ask = Ask { tenant_id: "ext:crm-acme", scope: "sales:read", audience: &["shop"] };
        let narrow = exchange(&world, &tokens.access_token, ask).await.unwrap();

        assert_eq!((narrow.refresh_token.as_str(), narrow.scope.as_str(), narrow.token_type.as_str()), ("", "sales:read", "Bearer"));
        let answer = at(&world, &narrow.access_token, "shop").await.unwrap();
        let facts = answer.token.unwrap();
        assert_eq!((facts.audience, facts.tenant_id, facts.scope), (texts(&["shop"]), acme.id.to_string(), "sales:read".to_owned()));
        assert_eq!(answer.session.unwrap().id, login.session.unwrap().id);
        assert_eq!(answer.tenant.unwrap().permissions, ["sales:read"]);
        for elsewhere in ["", "till", &world.config.tokens.issuer] {
            assert_eq!(refused(at(&world, &narrow.access_token, elsewhere).await), "AUDIENCE_MISMATCH");
        }
        let (old, new) = (payload(&tokens.access_token), payload(&narrow.access_token));
        assert_ne!(old["jti"], new["jti"]);
        for kept in ["iss", "sub", "sid", "auth_time", "amr"] {
            assert_eq!(old[kept], new[kept], "{kept}");
        }
        // It knows of no other tenant.
        assert_eq!(list_tenants(&world, &narrow.access_token, "").await.unwrap().tenants[0].id, acme.id.to_string());
        assert_eq!(get_me(&world, &narrow.access_token).await.unwrap().token.unwrap().tenant_id, acme.id.to_string());
        // The old one is as good as before, and nothing was written of it.
        world.validate(&tokens.access_token).await.unwrap();
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM sessions").await, 1);
        assert_eq!(world.sql().await.count(&format!("SELECT count(*) AS n FROM audit_events WHERE object_id = '{}'", ann.id)).await, 2);
    }

    async fn what_is_not_asked_for_is_the_token_s_but_never_the_issuer(world: World) {
        let (world, _, acme, _) = given(world).await;
        let bound = grant(&world, "ann@example.com", Ask { tenant_id: &acme.id.to_string(), scope: "sales:*", audience: &[] }).await.unwrap();
        let plain = exchange(&world, &bound.access_token, Ask::default()).await.unwrap();
        let said = payload(&plain.access_token);
        assert_eq!(said["aud"], serde_json::json!(["shop", "till"]));
        assert_eq!((&said["tid"], &said["scope"]), (&serde_json::json!(acme.id.to_string()), &serde_json::json!("sales:*")));
        // Its own tenant may be named.
        exchange(&world, &bound.access_token, Ask { tenant_id: "ext:crm-acme", ..Ask::default() }).await.unwrap();
    }

    async fn an_exchange_never_widens(world: World) {
        let (world, _, acme, beta) = given(world).await;
        let (acme_id, beta_id, issuer) = (acme.id.to_string(), beta.id.to_string(), world.config.tokens.issuer.clone());
        let everything = Ask { tenant_id: &acme_id, scope: "sales:read sales:write", audience: &["shop", &issuer] };
        let bound = grant(&world, "ann@example.com", everything).await.unwrap().access_token;
        let one_back = exchange(&world, &bound, Ask { scope: "sales:read", ..Ask::default() }).await.unwrap().access_token;
        for (token, name) in [(&bound, "a session's"), (&one_back, "an exchanged one")] {
            for (ask, field) in [
                (Ask { audience: &["till"], ..Ask::default() }, "audience[0]"),
                (Ask { audience: &["shop", &issuer], ..Ask::default() }, "audience[1]"),
                (Ask { scope: "sales:*", ..Ask::default() }, "scope"),
                (Ask { scope: "sales:read hr:read", ..Ask::default() }, "scope"),
                (Ask { tenant_id: &beta_id, ..Ask::default() }, "tenant_id"),
                (Ask { tenant_id: "ext:nobody", ..Ask::default() }, "tenant_id"),
                (Ask { tenant_id: "acme", ..Ask::default() }, "tenant_id"),
            ] {
                assert_eq!(fields(&exchange(&world, token, ask).await.unwrap_err()), [field], "{name}");
            }
        }
        assert_eq!(fields(&exchange(&world, &one_back, Ask { scope: "sales:write", ..Ask::default() }).await.unwrap_err()), ["scope"]);
        let for_us_alone = grant(&world, "ann@example.com", Ask { audience: &[&issuer], ..Ask::default() }).await.unwrap().access_token;
        assert_eq!(fields(&exchange(&world, &for_us_alone, Ask::default()).await.unwrap_err()), ["audience"]);
    }

    async fn an_exchanged_token_carries_no_superuser(world: World) {
        let (world, _, acme, _) = given(world).await;
        let root = world.superuser("root@example.com").await;
        let token = world.login("root@example.com").await.access_token;
        let acme_id = acme.id.to_string();
        // Nobody's member gets in by the flag; a member gets in as one.
        assert_eq!(refused(exchange(&world, &token, Ask { tenant_id: &acme_id, ..Ask::default() }).await), "NOT_A_MEMBER");
        let by_flag = world.login_to("root@example.com", &acme).await.access_token;
        assert_eq!(refused(exchange(&world, &by_flag, Ask::default()).await), "NOT_A_MEMBER");
        world.member(&acme, &root, &["seller"]).await;
        let narrow = exchange(&world, &token, Ask { tenant_id: &acme_id, audience: &["shop"], ..Ask::default() }).await.unwrap();
        let question = v1::ValidateSessionRequest {
            access_token: narrow.access_token,
            audience: "shop".to_owned(),
            permissions: texts(&["hr:read"]),
            ..Default::default()
        };
        assert_eq!(refused(world.validate_with(question).await), "PERMISSION_MISSING");
    }

    async fn the_tenant_is_judged_as_for_everybody(world: World) {
        let (world, ann, acme, _) = given(world).await;
        let token = world.login("ann@example.com").await.access_token;
        let (acme_id, foreign) = (acme.id.to_string(), world.tenant("foreign").await.id.to_string());
        let random = "01890000-0000-7000-8000-000000000000";
        let into = async |tenant_id: &str| refused(exchange(&world, &token, Ask { tenant_id, ..Ask::default() }).await);
        assert_eq!((into(&foreign).await, into(random).await), ("NOT_A_MEMBER".to_owned(), "NOT_A_MEMBER".to_owned()));
        set_tenant_state(&world, &acme, "suspended").await;
        assert_eq!(into(&acme_id).await, "TENANT_SUSPENDED");
        set_member_state(&world, &acme, &ann, "suspended").await;
        assert_eq!(into(&acme_id).await, "MEMBERSHIP_SUSPENDED");
    }

    async fn an_exchanged_token_never_outlives_the_one_it_came_from(world: World) {
        let (world, ..) = given(world).await;
        let token = world.login("ann@example.com").await.access_token;
        world.pass(Duration::from_mins(10));
        let narrow = exchange(&world, &token, Ask::default()).await.unwrap();
        assert_eq!(narrow.expires_in, 300);
        assert_eq!(payload(&narrow.access_token)["exp"], payload(&token)["exp"]);
        world.pass(Duration::from_secs(299));
        assert_eq!(exchange(&world, &narrow.access_token, Ask::default()).await.unwrap().expires_in, 1);
        // In the leeway the old one is good, and there is no time left to give.
        world.pass(Duration::from_secs(2));
        world.validate(&token).await.unwrap();
        assert_eq!(refused(exchange(&world, &token, Ask::default()).await), "TOKEN_EXPIRED");
        world.pass(Duration::from_secs(10));
        assert_eq!(refused(at(&world, &narrow.access_token, "shop").await), "TOKEN_EXPIRED");
        assert_eq!(refused(exchange(&world, &token, Ask::default()).await), "TOKEN_EXPIRED");
    }

    async fn an_exchanged_token_dies_with_all_that_it_stands_on(world: World) {
        let (world, ann, acme, _) = given(world).await;
        let acme_id = acme.id.to_string();
        // Not bound to the tenant by its session: the token alone says so.
        let fresh = async || {
            let token = world.login("ann@example.com").await.access_token;
            let narrow = exchange(&world, &token, Ask { tenant_id: &acme_id, ..Ask::default() }).await.unwrap().access_token;
            at(&world, &narrow, "shop").await.unwrap();
            (token, narrow)
        };
        let dead = async |narrow: &str, reason: &str| {
            assert_eq!(refused(at(&world, narrow, "shop").await), reason);
            assert_eq!(refused(get_me(&world, narrow).await), reason);
            assert_eq!(refused(exchange(&world, narrow, Ask::default()).await), reason);
        };
        let (token, narrow) = fresh().await;
        world.logout(&token).await.unwrap();
        dead(&narrow, "SESSION_REVOKED").await;

        let (_, narrow) = fresh().await;
        revocation::revoke_all(world.app(), Whose::Tenant(acme.id), cli()).await.unwrap();
        dead(&narrow, "SESSION_REVOKED").await;

        let (_, narrow) = fresh().await;
        domain::tenants::set_suspended(world.app(), &acme, true, cli()).await.unwrap();
        dead(&narrow, "TENANT_SUSPENDED").await;
        domain::tenants::set_suspended(world.app(), &acme, false, cli()).await.unwrap();
        at(&world, &narrow, "shop").await.unwrap();
        domain::memberships::remove(world.app(), &acme, &ann, cli()).await.unwrap();
        dead(&narrow, "NOT_A_MEMBER").await;
        world.member(&acme, &ann, &["seller"]).await;
        dead(&narrow, "SESSION_REVOKED").await;

        let (_, narrow) = fresh().await;
        revocation::revoke_all(world.app(), Whose::User(ann.id), cli()).await.unwrap();
        dead(&narrow, "SESSION_REVOKED").await;
    }

    async fn an_exchanged_token_is_good_at_no_method_that_changes_anything(world: World) {
        let (world, _, acme, _) = given(world).await;
        let token = world.login("ann@example.com").await.access_token;
        let narrow = exchange(&world, &token, Ask { tenant_id: &acme.id.to_string(), ..Ask::default() }).await.unwrap().access_token;
        let caller = Caller { access_token: narrow, tenant: acme.id.to_string(), ..Caller::default() };
        let wire = Wire::connect(world.replica.grpc_addr).await;
        for method in METHODS.iter().filter(|method| method.policy.access != Access::Public && !method.policy.accepts_narrowed) {
            let bearer = caller.bearer();
            let request = encode(method.input, recipes(method, &caller).swap_remove(0).json);
            let outcome = wire.call(method.path, &[("authorization", &bearer)], &request).await.outcome();
            assert_eq!(outcome, "UNAUTHENTICATED AUDIENCE_MISMATCH", "{}", method.path);
        }
        world.validate(&token).await.unwrap();
    }

    async fn the_types_are_the_rfc_s(world: World) {
        let (world, ..) = given(world).await;
        let token = world.login("ann@example.com").await.access_token;
        let with = async |subject: &str, requested: &str| {
            let grant = v1::TokenExchangeGrant {
                subject_token: token.clone(),
                subject_token_type: subject.to_owned(),
                requested_token_type: requested.to_owned(),
            };
            let request = v1::IssueTokenRequest { grant: Some(Grant::TokenExchange(grant)), ..Default::default() };
            world.client().issue_token(request).await
        };
        with(ACCESS_TOKEN, ACCESS_TOKEN).await.unwrap();
        with(ACCESS_TOKEN, "").await.unwrap();
        for other in ["", "access_token", "urn:ietf:params:oauth:token-type:refresh_token", "urn:ietf:params:oauth:token-type:id_token"] {
            assert_eq!(fields(&with(other, "").await.unwrap_err()), ["token_exchange.subject_token_type"], "{other:?}");
            if !other.is_empty() {
                assert_eq!(fields(&with(ACCESS_TOKEN, other).await.unwrap_err()), ["token_exchange.requested_token_type"], "{other:?}");
            }
        }
    }

    async fn the_new_token_names_the_client_that_asked(world: World) {
        let (world, _, acme, _) = given(world).await;
        let shop = tenant_account(&world, &acme, &["member"]).await;
        let caller = token(&world, &shop).await;
        let token = world.login("ann@example.com").await.access_token;
        let mut client = world.client();
        let asked = called_by(Request::new(request(&token, Ask::default())), &caller);
        let narrow = client.issue_token(asked).await.unwrap().into_inner().tokens.unwrap().access_token;
        assert_eq!(payload(&narrow)["client_id"], shop.id);
        assert_eq!(payload(&token)["client_id"], "doorward");
        // A workload's own token is no person's.
        assert_eq!(refused(exchange(&world, &caller, Ask::default()).await), "TOKEN_INVALID");
    }

    async fn a_session_s_refresh_gives_a_whole_token_again(world: World) {
        let (world, ..) = given(world).await;
        let tokens = world.login("ann@example.com").await;
        exchange(&world, &tokens.access_token, Ask::default()).await.unwrap();
        let next = refresh_asking(&world, &tokens.refresh_token, Ask::default()).await.unwrap();
        world.validate(&next.access_token).await.unwrap();
    }
}
