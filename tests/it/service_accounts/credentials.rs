//! What a secret buys: a token for the audiences asked for and no more than the account holds; and that whatever is not the account's own
//! good secret is refused alike.

use std::{collections::HashSet, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::{
    domain::{service_accounts, tenants},
    store::{service_accounts::AccountState, tenants::TenantState},
    values::{
        entropy::Entropy,
        ids::ServiceAccountSecretId,
        opaque::{ClientSecret, Kind},
        secret::{self, RootSecrets},
    },
};
use secrecy::ExposeSecret as _;

use super::*;
use crate::{
    access::{fields, set_tenant_state},
    wire::{Answer, Wire, encode},
};

const ISSUE: &str = "/doorward.v1.AuthService/IssueToken";

/// Everything that whoever asks can see of an answer.
async fn seen(wire: &Wire, client_id: &str, client_secret: &str) -> Answer {
    let grant = serde_json::json!({ "client_credentials": { "client_id": client_id, "client_secret": client_secret } });
    let mut answer = wire.call(ISSUE, &[("x-request-id", "the-same")], &encode("doorward.v1.IssueTokenRequest", grant)).await;
    answer.headers.remove("date");
    answer
}

/// Every near miss of a secret: cut, lengthened, in another case, of another kind, and with one bit changed.
fn near_misses(text: &str) -> Vec<String> {
    let mut misses: Vec<String> = (0..text.len()).map(|length| text[..length].to_owned()).collect();
    misses.extend((1..text.len()).map(|start| text[start..].to_owned()));
    misses.extend(["A", "=", "==", " ", "\n", "\0", ".", "AAAA", "\u{e9}"].iter().map(|more| format!("{text}{more}")));
    misses.extend([" ", "\n", "\u{feff}", "dw_cs_", "Bearer "].iter().map(|more| format!("{more}{text}")));
    misses.extend([text.to_uppercase(), text.to_lowercase(), text.replace('_', "-"), format!("{text}{text}")]);
    for (at, letter) in text.char_indices().filter(|(_, letter)| letter.is_ascii_alphabetic()) {
        let other = if letter.is_ascii_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
        misses.push(format!("{}{other}{}", &text[..at], &text[at + 1..]));
    }
    let (prefix, body) = text.split_at(6);
    let bytes = URL_SAFE_NO_PAD.decode(body).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        misses.push(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(flipped)));
    }
    misses.extend(Kind::ALL.iter().map(|kind| format!("{}{body}", kind.prefix())));
    misses.retain(|miss| miss != text);
    misses
}

on_both! {
    async fn a_token_is_for_the_issuer_or_for_exactly_the_audiences_asked_for(world: World) {
        let known = ["shop", "billing"].map(str::to_owned);
        let world = world.restart_with(|config| config.tokens.audience = known.into()).await;
        let account = instance_account(&world, &[]).await;
        let issuer = world.config.tokens.issuer.as_str();
        let ask = async |audience: &[&str]| credentials(&world, &account.id, &account.secret, Ask { audience, ..Ask::default() }).await;
        let of = |token: &str| payload(token)["aud"].clone();
        let own = ask(&[]).await.unwrap().access_token;
        assert_eq!(of(&own), serde_json::json!([issuer]));
        assert_eq!(of(&ask(&[issuer]).await.unwrap().access_token), serde_json::json!([issuer]));
        let narrowed = ask(&["shop", "billing"]).await.unwrap().access_token;
        assert_eq!(of(&narrowed), serde_json::json!(["shop", "billing"]));
        for mixed in [&[issuer, "shop"][..], &["shop", issuer]] {
            assert_eq!(fields(&ask(mixed).await.unwrap_err()), ["audience"]);
        }
        // A narrowed one is good where its audience is named, and nowhere to act.
        assert_eq!(refused(world.validate(&narrowed).await), "AUDIENCE_MISMATCH");
        let about = |audience: &str| v1::ValidateSessionRequest {
            access_token: narrowed.clone(),
            audience: audience.to_owned(),
            ..Default::default()
        };
        world.validate_with(about("shop")).await.unwrap();
        assert_eq!(refused(world.validate_with(about("other")).await), "AUDIENCE_MISMATCH");
        let call = by_caller(v1::LoginRequest::default(), &narrowed);
        assert_eq!(refused(world.client().login(call).await), "CALLER_UNAUTHENTICATED");
        world.validate(&own).await.unwrap();
    }

    async fn the_claims_are_those_of_a_workload(world: World) {
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        let account = tenant_account(&world, &acme, &["seller"]).await;
        let bound = payload(&token(&world, &account).await);
        assert_eq!((&bound["sub"], &bound["client_id"]), (&account.id.as_str().into(), &account.id.as_str().into()));
        assert_eq!((&bound["sub_kind"], &bound["tid"]), (&"service_account".into(), &acme.id.to_string().into()));
        assert_eq!((&bound["roles"], &bound["permissions"]), (&serde_json::json!(["seller"]), &serde_json::json!(["sales:write"])));
        let wide = payload(&token(&world, &instance_account(&world, &BOTH).await).await);
        for claims in [&bound, &wide] {
            for absent in ["sid", "auth_time", "amr", "scope"] {
                assert!(claims.get(absent).is_none(), "{absent}: {claims}");
            }
        }
        for absent in ["tid", "roles", "permissions"] {
            assert!(wide.get(absent).is_none(), "{absent}: {wide}");
        }
        assert_eq!((bound["ver"].as_array().unwrap().len(), wide["ver"].as_array().unwrap().len()), (4, 2));
    }

    async fn a_scope_caps_what_the_account_holds(world: World) {
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:*"]).await;
        let account = tenant_account(&world, &acme, &["seller"]).await;
        let ask = Ask { scope: "sales:read purchases:read", tenant_id: "ext:crm-acme", ..Ask::default() };
        let set = credentials(&world, &account.id, &account.secret, ask).await.unwrap();
        assert_eq!(set.scope, "purchases:read sales:read");
        let about = |permission: &str| v1::ValidateSessionRequest {
            access_token: set.access_token.clone(),
            permissions: vec![permission.to_owned()],
            ..Default::default()
        };
        let tenant = world.validate_with(about("sales:read")).await.unwrap().tenant.unwrap();
        assert_eq!((tenant.roles.len(), tenant.permissions.as_slice()), (0, ["sales:read".to_owned()].as_slice()));
        for missing in ["sales:write", "purchases:read"] {
            assert_eq!(refused(world.validate_with(about(missing)).await), "PERMISSION_MISSING");
        }
        // Another tenant than its own; and one that is asked of an account that has none.
        let beta = world.tenant("beta").await;
        for tenant_id in [beta.id.to_string(), "ext:nobody".to_owned(), "01890000-0000-7000-8000-000000000000".to_owned()] {
            let ask = Ask { tenant_id: &tenant_id, ..Ask::default() };
            assert_eq!(refused(credentials(&world, &account.id, &account.secret, ask).await), "NOT_A_MEMBER");
            let wide = instance_account(&world, &[]).await;
            assert_eq!(refused(credentials(&world, &wide.id, &wide.secret, ask).await), "NOT_A_MEMBER");
        }
        for (ask, field) in [
            (Ask { scope: "sales", ..Ask::default() }, "scope"), (Ask { tenant_id: "acme", ..Ask::default() }, "tenant_id"),
            (Ask { audience: &[""], ..Ask::default() }, "audience[0]"),
        ] {
            let refusal = credentials(&world, &account.id, &account.secret, ask).await.unwrap_err();
            assert!(fields(&refusal)[0].starts_with(&field[..5]), "{refusal:?}");
        }
    }

    async fn whatever_is_wrong_is_answered_alike(world: World) {
        let acme = world.tenant("acme").await;
        let by = || operator(&world, Some(&acme));
        let account = tenant_account(&world, &acme, &["member"]).await;
        let other = tenant_account(&world, &acme, &["member"]).await;
        let (disabled, deleted) = (tenant_account(&world, &acme, &["member"]).await, tenant_account(&world, &acme, &["member"]).await);
        service_accounts::set_state(world.app(), by(), disabled.key(), AccountState::Disabled).await.unwrap();
        service_accounts::set_state(world.app(), by(), deleted.key(), AccountState::Deleted).await.unwrap();
        let (removed, removed_text) = service_accounts::add_secret(world.app(), by(), account.key(), None).await.unwrap();
        service_accounts::remove_secret(world.app(), by(), account.key(), removed.id, false).await.unwrap();
        let in_a_second = world.clock.now().plus(Duration::from_secs(1));
        let (_, expired) = service_accounts::add_secret(world.app(), by(), account.key(), Some(in_a_second)).await.unwrap();
        world.pass(Duration::from_secs(1));
        // Well made, of a row that there never was; and of a row that there is, with another secret.
        let roots = &world.app().roots;
        let nowhere = ServiceAccountSecretId::generate(&Entropy::system(), &world.clock);
        let text = |secret: ClientSecret| secret.encode(roots).unwrap().expose_secret().to_owned();
        let unknown = text(ClientSecret::generate(roots, nowhere, &Entropy::system()));
        let guessed = text(ClientSecret::generate(roots, account.secret_id.parse().unwrap(), &Entropy::system()));
        let wire = Wire::connect(world.replica.grpc_addr).await;
        let expected = seen(&wire, "nobody", "nothing").await;
        assert_eq!(expected.outcome(), "UNAUTHENTICATED INVALID_CREDENTIALS");
        for (what, id, secret) in [
            ("empty", "", ""), ("no secret", account.id.as_str(), ""), ("no id", "", account.secret.as_str()),
            ("another account's secret", &account.id, &other.secret), ("a removed secret", &account.id, removed_text.expose_secret()),
            ("an expired secret", &account.id, expired.expose_secret()), ("a disabled account", &disabled.id, &disabled.secret),
            ("a deleted account", &deleted.id, &deleted.secret), ("a secret that never was", &account.id, &unknown),
            ("a guessed secret", &account.id, &guessed),
            ("an unknown account", "01890000-0000-7000-8000-000000000000", &account.secret), ("a person's name", "ann@example.com", &account.secret),
            ("the secret's id", &account.secret_id, &account.secret), ("dots", &account.id, &".".repeat(60_000)),
        ] {
            assert_eq!(seen(&wire, id, secret).await, expected, "{what}");
        }
        let long = seen(&wire, &account.id, &".".repeat(1 << 20)).await;
        assert_eq!(long.outcome(), "INVALID_ARGUMENT INVALID_FIELD");
        assert!(seen(&wire, &account.id, &account.secret).await.is_ok());
        // Each is counted; none is an event.
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM audit_events WHERE outcome = 'failure'").await, 0);
    }

    async fn what_is_no_secret_of_ours_costs_the_database_nothing(world: World) {
        let world = world.quiet().await;
        world.person("ann@example.com").await;
        let account = instance_account(&world, &[]).await;
        let tokens = world.login("ann@example.com").await;
        let own = token(&world, &account).await;
        let stranger = RootSecrets::parse(&[secret::generate_root(&Entropy::system())]).unwrap();
        let forged = ClientSecret::generate(&stranger, account.secret_id.parse().unwrap(), &Entropy::system());
        let mut misses = near_misses(&account.secret);
        misses.extend([tokens.access_token, tokens.refresh_token, own, forged.encode(&stranger).unwrap().expose_secret().to_owned()]);
        misses.extend([".".repeat(60_000), account.id.clone(), account.secret_id.clone(), PASSWORD.to_owned()]);
        let wire = Wire::connect(world.replica.grpc_addr).await;
        // The probe of readiness goes on beside.
        let before = world.app().store.statements();
        let begin = std::time::Instant::now();
        for miss in &misses {
            assert_eq!(seen(&wire, &account.id, miss).await.outcome(), "UNAUTHENTICATED INVALID_CREDENTIALS", "{miss:?}");
        }
        let probes = u64::try_from(begin.elapsed().as_millis() / 500).unwrap() + 1;
        let asked = world.app().store.statements() - before;
        assert!(misses.len() > 800 && asked <= probes, "{} misses, {asked} statements", misses.len());
        assert!(seen(&wire, &account.id, &account.secret).await.is_ok());
    }

    async fn the_state_of_the_tenant_is_told_only_after_the_secret_was_right(world: World) {
        let acme = world.tenant("acme").await;
        let account = tenant_account(&world, &acme, &["member"]).await;
        let bought = token(&world, &account).await;
        tenants::set_suspended(world.app(), &acme, true, cli()).await.unwrap();
        assert_eq!(refused(credentials(&world, &account.id, &account.secret, Ask::default()).await), "TENANT_SUSPENDED");
        assert_eq!(refused(credentials(&world, &account.id, "wrong", Ask::default()).await), "INVALID_CREDENTIALS");
        assert_eq!(refused(world.validate(&bought).await), "TENANT_SUSPENDED");
        assert_eq!(refused(get_me(&world, &bought).await), "TENANT_SUSPENDED");
        assert_eq!(refused(world.client().login(by_caller(v1::LoginRequest::default(), &bought)).await), "CALLER_UNAUTHENTICATED");
        tenants::set_suspended(world.app(), &acme, false, cli()).await.unwrap();
        credentials(&world, &account.id, &account.secret, Ask::default()).await.unwrap();
        set_tenant_state(&world, &acme, TenantState::Deleted.as_str()).await;
        assert_eq!(refused(credentials(&world, &account.id, &account.secret, Ask::default()).await), "NOT_A_MEMBER");
        assert_eq!(refused(get_me(&world, &bought).await), "NOT_A_MEMBER");
    }

    async fn a_token_dies_with_every_epoch_that_it_was_made_under(world: World) {
        let acme = world.tenant("acme").await;
        let (own, wide) = (tenant_account(&world, &acme, &["member"]).await, instance_account(&world, &[]).await);
        let sql = world.sql().await;
        for (moved, kills_wide) in [("service_accounts", true), ("tenants", false), ("instance", true)] {
            let (bound, free) = (token(&world, &own).await, token(&world, &wide).await);
            sql.execute(&format!("UPDATE {moved} SET epoch = epoch + 1")).await;
            assert_eq!(refused(world.validate(&bound).await), "SESSION_REVOKED", "{moved}");
            assert_eq!(word(world.validate(&free).await), if kills_wide { "SESSION_REVOKED" } else { "OK" }, "{moved}");
        }
        // A word in the row that nobody knows is not active.
        let bound = token(&world, &own).await;
        sql.execute("UPDATE service_accounts SET state = 'frozen'").await;
        assert_eq!(refused(world.validate(&bound).await), "PRINCIPAL_DISABLED");
        assert_eq!(refused(credentials(&world, &own.id, &own.secret, Ask::default()).await), "INVALID_CREDENTIALS");
    }

    async fn the_last_use_is_kept_to_the_minute(world: World) {
        let account = instance_account(&world, &[]).await;
        let root = Desk::superuser(&world).await;
        let used = async || root.get(&account.id).await.unwrap().secrets[0].last_used_time.map(|time| time.seconds - START);
        assert_eq!(used().await, None);
        for (pass, expected) in [(0, 0), (59, 0), (1, 60), (30, 60), (30, 120)] {
            world.pass(Duration::from_secs(pass));
            token(&world, &account).await;
            assert_eq!(used().await, Some(expected));
        }
        credentials(&world, &account.id, &near_misses(&account.secret)[90], Ask::default()).await.unwrap_err();
        world.clock.set(doorward::values::time::Timestamp::from_unix(START));
        token(&world, &account).await;
        assert_eq!(used().await, Some(120), "time never goes back");
    }

    async fn tokens_of_one_second_all_differ(world: World) {
        let account = instance_account(&world, &[]).await;
        let mut seen = HashSet::new();
        for _ in 0..64 {
            let token = token(&world, &account).await;
            assert!(seen.insert(payload(&token)["jti"].as_str().unwrap().to_owned()) && seen.insert(token));
        }
    }

    async fn good_and_refused_secrets_are_counted(world: World) {
        let account = instance_account(&world, &[]).await;
        token(&world, &account).await;
        for secret in ["", "wrong"] {
            credentials(&world, &account.id, secret, Ask::default()).await.unwrap_err();
        }
        let page = crate::life::get(world.replica.ops_addr, "/metrics").await;
        for line in ["doorward_client_credentials_total{outcome=\"issued\"} 1", "doorward_client_credentials_total{outcome=\"refused\"} 2"] {
            assert!(page.contains(line), "{line}");
        }
    }
}
