//! Callers: who they are, what they are refused for, and what their sessions are.

use std::time::Duration;

use doorward::{
    config::CallersMode,
    methods::METHODS,
    pb::v1::{self, auth_service_client::AuthServiceClient},
    store::{service_accounts, tenants::Tenant},
};
use tonic::Request;

use crate::{
    access::{set_tenant_state, texts},
    harness::{
        pki::{self, Authority, Issued, TlsFiles},
        *,
    },
    on_both,
    probe::{Ask, grant, payload, rows},
    recipes::{Caller, recipes},
    wire::{Wire, encode},
    workloads::{self, Account, called_by, credentials, instance_account, narrow_token, tenant_account},
};

const REFUSED: &str = "UNAUTHENTICATED CALLER_UNAUTHENTICATED";

fn login() -> v1::LoginRequest {
    v1::LoginRequest { identifier: "ann@example.com".to_owned(), password: PASSWORD.to_owned(), ..Default::default() }
}

async fn given(world: &World) -> (Tenant, Account, String) {
    world.person("ann@example.com").await;
    let acme = world.tenant("acme").await;
    let shop = tenant_account(world, &acme, &["member"]).await;
    let token = workloads::token(world, &shop).await;
    (acme, shop, token)
}

/// What a login by this caller gets.
async fn login_by(world: &World, caller_token: &str) -> Result<v1::LoginResponse, tonic::Status> {
    world.client().login(called_by(Request::new(login()), caller_token)).await.map(tonic::Response::into_inner)
}

async fn set_account(world: &World, change: &str) {
    assert_eq!(world.sql().await.execute(&format!("UPDATE service_accounts SET {change}")).await, 1);
}

/// Lets a name in certificates stand for an account.
async fn map_certificate(world: &World, name: &'static str, account: &Account) {
    let unit = |tx, (id, name, now)| async move { service_accounts::add_certificate(&tx, id, name, now).await };
    assert!(world.app().store.write("given_certificate", (account.key(), name, world.clock.now()), unit).await.unwrap());
}

on_both! {
    async fn a_known_caller_is_the_client_of_the_sessions_it_opens(world: World) {
        let (_, shop, token) = given(&world).await;
        let answer = login_by(&world, &token).await.unwrap();
        assert_eq!(answer.session.unwrap().client_id, shop.id);
        let access = answer.tokens.unwrap().access_token;
        assert_eq!(payload(&access)["client_id"], shop.id);
        // The trail says so too, for a good login and for a bad one.
        let wrong = v1::LoginRequest { password: "wrong".to_owned(), ..login() };
        assert_eq!(refused(world.client().login(called_by(Request::new(wrong), &token)).await), "INVALID_CREDENTIALS");
        let trail = rows(&world.sql().await, "audit_events").await;
        let of_shop = trail.iter().filter(|row| row.contains("login.") && row.contains(&shop.id)).count();
        assert_eq!(of_shop, 2, "{trail:#?}");
    }

    async fn a_caller_must_be_whoever_it_says_in_both_modes(world: World) {
        let (acme, _, token) = given(&world).await;
        let narrowed = narrow_token(&world, &tenant_account(&world, &acme, &[]).await).await;
        let person = world.login("ann@example.com").await;
        let expired = workloads::token(&world, &tenant_account(&world, &acme, &[]).await).await;
        let mut world = world;
        for mode in [CallersMode::Optional, CallersMode::Required] {
            world = world.restart_with(|config| config.callers.mode = Some(mode)).await;
            let bad = [
                ("narrowed", narrowed.as_str()),
                ("a person's", &person.access_token),
                ("a refresh token", &person.refresh_token),
                ("a cut one", &token[..token.len() - 1]),
                ("garbage", "nobody"),
            ];
            for (name, bad) in bad {
                assert_eq!(refused(login_by(&world, bad).await), "CALLER_UNAUTHENTICATED", "{name}, {mode:?}");
            }
        }
        world.pass(Duration::from_mins(16));
        assert_eq!(refused(login_by(&world, &expired).await), "CALLER_UNAUTHENTICATED");
    }

    async fn a_caller_whose_account_is_out_of_use_is_refused_at_once(world: World) {
        let (acme, shop, token) = given(&world).await;
        login_by(&world, &token).await.unwrap();
        for out in ["disabled", "deleted", "resting"] {
            set_account(&world, &format!("state = '{out}'")).await;
            assert_eq!(refused(login_by(&world, &token).await), "CALLER_UNAUTHENTICATED", "{out}");
            assert_eq!(refused(credentials(&world, &shop.id, &shop.secret, Ask::default()).await), "INVALID_CREDENTIALS", "{out}");
            assert_eq!(refused(world.validate(&token).await), "PRINCIPAL_DISABLED", "{out}");
        }
        set_account(&world, "state = 'active'").await;
        login_by(&world, &token).await.unwrap();
        for (state, reason) in [("suspended", "TENANT_SUSPENDED"), ("deleted", "NOT_A_MEMBER"), ("resting", "TENANT_SUSPENDED")] {
            set_tenant_state(&world, &acme, state).await;
            assert_eq!(refused(login_by(&world, &token).await), "CALLER_UNAUTHENTICATED", "{state}");
            assert_eq!(refused(credentials(&world, &shop.id, &shop.secret, Ask::default()).await), reason);
            assert_eq!(refused(world.validate(&token).await), reason);
        }
        set_tenant_state(&world, &acme, "active").await;
        for moved in ["UPDATE service_accounts SET epoch = epoch + 1", "UPDATE tenants SET epoch = epoch + 1", "UPDATE instance SET epoch = epoch + 1"] {
            let token = workloads::token(&world, &shop).await;
            login_by(&world, &token).await.unwrap();
            assert_eq!(world.sql().await.execute(moved).await, 1);
            assert_eq!(refused(login_by(&world, &token).await), "CALLER_UNAUTHENTICATED", "{moved}");
            assert_eq!(refused(world.validate(&token).await), "SESSION_REVOKED", "{moved}");
        }
    }

    async fn where_callers_must_be_known_a_known_one_gets_what_it_gets_elsewhere(world: World) {
        let (acme, shop, _) = given(&world).await;
        world.role(&acme, "seller", &["sales:write"]).await;
        let ann = Caller::member(&world, &acme, "bob@example.com", &["seller"]).await;
        let world = world.restart_with(|config| config.callers.mode = Some(CallersMode::Required)).await;
        // The secret is the proof: this grant alone needs no other.
        let token = workloads::token(&world, &shop).await;
        let wire = Wire::connect(world.replica.grpc_addr).await;
        for method in METHODS {
            for recipe in recipes(method, &ann) {
                let request = encode(method.input, recipe.json);
                let by = format!("Bearer {token}");
                let unknown = wire.call(method.path, &[("authorization", &ann.bearer())], &request).await.outcome();
                let expected = match (method.name, recipe.way) {
                    (_, "client_credentials") => "UNAUTHENTICATED INVALID_CREDENTIALS",
                    ("GetKeySet", _) => "OK",
                    _ => REFUSED,
                };
                assert_eq!(unknown, expected, "{} {}", method.path, recipe.way);
                let known = wire.call(method.path, &[("authorization", &ann.bearer()), ("doorward-caller", &by)], &request).await.outcome();
                assert_ne!(known, REFUSED, "{} {}", method.path, recipe.way);
            }
        }
        let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        assert_eq!(wire.call(reflection, &[], &[0x3a, 0]).await.outcome(), REFUSED);
        assert!(wire.call(reflection, &[("doorward-caller", &format!("Bearer {token}"))], &[0x3a, 0]).await.is_ok());
    }

    async fn a_service_account_is_a_principal_of_its_own(world: World) {
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        let (shop, ops) = (tenant_account(&world, &acme, &["seller"]).await, instance_account(&world, &["doorward.service_accounts:read"]).await);
        for (account, tenant_id) in [(&shop, acme.id.to_string()), (&ops, String::new())] {
            let token = workloads::token(&world, account).await;
            let me = world.client().get_me(bearer(v1::GetMeRequest {}, &token)).await.unwrap().into_inner();
            let asked = v1::ValidateSessionRequest { access_token: token.clone(), include_tenants: true, ..Default::default() };
            let answer = world.validate_with(asked).await.unwrap();
            for principal in [me.principal, answer.principal] {
                let Some(v1::principal::Kind::ServiceAccount(said)) = principal.unwrap().kind else { panic!("no service account") };
                assert_eq!((said.id.clone(), said.tenant_id.as_str()), (account.id.clone(), tenant_id.as_str()));
                assert_eq!(said.state(), v1::ServiceAccountState::Active);
            }
            assert_eq!((me.session, answer.session), (None, None));
            let facts = answer.token.unwrap();
            assert_eq!((facts.auth_time, facts.client_id, facts.audience), (None, account.id.clone(), vec![world.config.tokens.issuer.clone()]));
            assert_eq!(answer.tenants.len(), usize::from(!tenant_id.is_empty()));
            assert_eq!(answer.tenant.map(|tenant| tenant.permissions), (!tenant_id.is_empty()).then(|| texts(&["sales:write"])));
            // What is for people alone.
            let superuser = v1::ValidateSessionRequest { access_token: token.clone(), superuser: true, ..Default::default() };
            assert_eq!(refused(world.validate_with(superuser).await), "SUPERUSER_REQUIRED");
            assert_eq!(refused(world.client().list_tenants(bearer(v1::ListTenantsRequest::default(), &token)).await), "TOKEN_INVALID");
            assert_eq!(refused(world.change_password(&token, PASSWORD, "another good long password").await), "TOKEN_INVALID");
        }
        let (own, other) = (workloads::token(&world, &shop).await, world.tenant("other").await);
        let ask = |tenant_id: String, permissions: &[&str]| v1::ValidateSessionRequest {
            access_token: own.clone(), tenant_id, permissions: texts(permissions), any_role: texts(&["seller"]), ..Default::default()
        };
        world.validate_with(ask(acme.id.to_string(), &["sales:write"])).await.unwrap();
        world.validate_with(ask("ext:crm-acme".to_owned(), &["sales:write"])).await.unwrap();
        assert_eq!(refused(world.validate_with(ask(acme.id.to_string(), &["hr:read"])).await), "PERMISSION_MISSING");
        for elsewhere in [other.id.to_string(), "ext:crm-other".to_owned(), "ext:none".to_owned()] {
            assert_eq!(refused(world.validate_with(ask(elsewhere, &[])).await), "NOT_A_MEMBER");
        }
        let instance = v1::ValidateSessionRequest { access_token: workloads::token(&world, &ops).await, tenant_id: acme.id.to_string(), ..Default::default() };
        assert_eq!(refused(world.validate_with(instance).await), "NOT_A_MEMBER");
    }

    async fn a_workload_s_token_is_for_doorward_or_for_others_never_for_both(world: World) {
        let world = world.restart_with(|config| config.tokens.audience = texts(&["shop", "till"])).await;
        let (_, shop, _) = given(&world).await;
        let issuer = world.config.tokens.issuer.clone();
        let aud = async |audience: &[&str]| credentials(&world, &shop.id, &shop.secret, Ask { audience, ..Ask::default() }).await;
        for (asked, expected) in [(&[][..], &[issuer.as_str()][..]), (&[issuer.as_str()], &[issuer.as_str()]), (&["till"], &["till"]), (&["till", "shop"], &["till", "shop"])] {
            assert_eq!(payload(&aud(asked).await.unwrap().access_token)["aud"], serde_json::json!(expected));
        }
        for bad in [&["till", issuer.as_str()][..], &["nobody"], &["till", "till"]] {
            assert_eq!(refused(aud(bad).await), "INVALID_FIELD", "{bad:?}");
        }
        // A scope caps it; in answers and in the claims for those who verify offline.
        let capped = credentials(&world, &shop.id, &shop.secret, Ask { scope: "sales:read", ..Ask::default() }).await.unwrap();
        assert_eq!((capped.scope.as_str(), capped.refresh_token.as_str()), ("sales:read", ""));
        assert_eq!(payload(&capped.access_token)["roles"], serde_json::json!([]));
    }

    async fn a_narrowed_scope_of_a_caller_caps_what_it_may_do(world: World) {
        use doorward::domain::callers::{self, Proof};
        let ops = instance_account(&world, &["doorward.deliveries:read", "doorward.service_accounts:read"]).await;
        let capped = credentials(&world, &ops.id, &ops.secret, Ask { scope: "doorward.deliveries:*", ..Ask::default() }).await.unwrap().access_token;
        let proof = Proof { certificate: &[], token: Some(&capped) };
        let caller = callers::authenticate(world.app(), proof, doorward::domain::memory::Freshness::Bounded, world.clock.now()).await.unwrap().unwrap();
        assert_eq!(caller.instance_permissions().to_strings(), ["doorward.deliveries:read"]);
    }

    async fn certificates_stand_for_the_accounts_they_are_mapped_to(world: World) {
        use doorward::domain::callers::{self, Proof};
        let (acme, shop, token) = given(&world).await;
        let till = tenant_account(&world, &acme, &[]).await;
        let of = async |certificate: &[&str], token: Option<&str>| {
            let names = texts(certificate);
            let proof = Proof { certificate: &names, token };
            let caller = callers::authenticate(world.app(), proof, doorward::domain::memory::Freshness::Bounded, world.clock.now()).await;
            caller.map(|caller| caller.map(|caller| caller.account().id)).map_err(|error| error.reason().0)
        };
        for (name, account) in [("spiffe://prod/shop", &shop), ("dns:shop.internal", &shop), ("spiffe://prod/till", &till)] {
            map_certificate(&world, name, account).await;
        }
        assert_eq!(of(&["spiffe://prod/shop"], None).await, Ok(Some(shop.key())));
        assert_eq!(of(&["spiffe://prod/shop", "dns:shop.internal", "dns:elsewhere"], None).await, Ok(Some(shop.key())));
        // Whom nobody knows is nobody; a name is not part of another.
        for unmapped in ["spiffe://prod/sho", "spiffe://prod/shop/", "SPIFFE://prod/shop", "shop.internal", "dns:elsewhere"] {
            assert_eq!(of(&[unmapped], None).await, Ok(None), "{unmapped}");
        }
        assert_eq!(of(&["dns:elsewhere"], Some(&token)).await, Ok(Some(shop.key())));
        assert_eq!(of(&["spiffe://prod/shop"], Some(&token)).await, Ok(Some(shop.key())));
        // Two identities are none.
        assert_eq!(of(&["spiffe://prod/till"], Some(&token)).await, Err("CALLER_UNAUTHENTICATED"));
        assert_eq!(of(&["spiffe://prod/shop", "spiffe://prod/till"], None).await, Err("CALLER_UNAUTHENTICATED"));
        assert_eq!(of(&["spiffe://prod/shop"], Some("nobody")).await, Err("CALLER_UNAUTHENTICATED"));
        world.sql().await.execute("UPDATE service_accounts SET state = 'disabled'").await;
        assert_eq!(of(&["spiffe://prod/shop"], None).await, Err("CALLER_UNAUTHENTICATED"));
    }

    async fn a_client_certificate_makes_its_account_the_caller(world: World) {
        let (acme, shop, token) = given(&world).await;
        let till = tenant_account(&world, &acme, &[]).await;
        map_certificate(&world, "spiffe://prod/shop", &shop).await;
        map_certificate(&world, "dns:till.internal", &till).await;
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let files = TlsFiles::new(&ours.server(), Some(&ours));
        let world = world
            .restart_with(|config| {
                files.set(config);
                config.callers.mode = Some(CallersMode::Required);
            })
            .await;
        let client = |certificate: Option<&Issued>| {
            AuthServiceClient::new(pki::channel(world.replica.grpc_addr, &pki::trusting(&ours, certificate)))
        };
        let client_of = async |certificate: Option<&Issued>, by: Option<&str>| {
            let mut request = Request::new(login());
            if let Some(token) = by {
                request = called_by(request, token);
            }
            let answer = client(certificate).login(request).await.map(tonic::Response::into_inner);
            answer.map(|answer| answer.session.unwrap().client_id).map_err(|status| reason(&status))
        };
        let of_shop = ours.client(&["spiffe://prod/shop", "dns:shop.internal"]);
        assert_eq!(client_of(Some(&of_shop), None).await, Ok(shop.id.clone()));
        assert_eq!(client_of(Some(&of_shop), Some(&token)).await, Ok(shop.id.clone()));
        assert_eq!(client_of(Some(&ours.client(&["dns:Till.Internal"])), None).await, Ok(till.id.clone()));
        // Nobody's certificate counts as none, a token besides it counts.
        assert_eq!(client_of(Some(&ours.client(&["spiffe://prod/other"])), None).await, Err("CALLER_UNAUTHENTICATED".to_owned()));
        assert_eq!(client_of(Some(&ours.client(&["spiffe://prod/other"])), Some(&token)).await, Ok(shop.id.clone()));
        assert_eq!(client_of(None, None).await, Err("CALLER_UNAUTHENTICATED".to_owned()));
        assert_eq!(client_of(None, Some(&token)).await, Ok(shop.id.clone()));
        // Two identities are none.
        assert_eq!(client_of(Some(&ours.client(&["dns:till.internal"])), Some(&token)).await, Err("CALLER_UNAUTHENTICATED".to_owned()));
        let both = ours.client(&["spiffe://prod/shop", "dns:till.internal"]);
        assert_eq!(client_of(Some(&both), None).await, Err("CALLER_UNAUTHENTICATED".to_owned()));
        // Whoever made the certificate matters, not what it says.
        assert!(client(Some(&theirs.client(&["spiffe://prod/shop"]))).login(Request::new(login())).await.is_err());
        world.sql().await.execute("UPDATE service_accounts SET state = 'disabled'").await;
        assert_eq!(client_of(Some(&of_shop), None).await, Err("CALLER_UNAUTHENTICATED".to_owned()));
    }

    async fn every_token_of_a_workload_is_another(world: World) {
        let (_, shop, _) = given(&world).await;
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..8 {
            assert!(seen.insert(workloads::token(&world, &shop).await));
        }
        let anns = [grant(&world, "ann@example.com", Ask::default()).await, grant(&world, "ann@example.com", Ask::default()).await];
        let [one, other] = anns.map(|set| payload(&set.unwrap().access_token));
        assert!(one["jti"] != other["jti"] && one["sid"] != other["sid"]);
    }
}
