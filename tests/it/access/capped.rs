//! Capped tokens: a scope takes away. Rights = facts ∩ scope, no roles, no superuser.

use doorward::values::{entropy::Entropy, permission::PermissionSet};

use super::*;
use crate::probe::{Ask, grant};

/// A token of `username` with this scope, bound to no tenant.
async fn capped(world: &World, username: &str, scope: &str) -> String {
    let set = grant(world, username, Ask { scope, ..Ask::default() }).await.unwrap();
    assert_eq!(set.scope, scope);
    set.access_token
}

/// Every permission over two resources, two actions and the wildcard.
const ALPHABET: [&str; 9] = ["a:x", "a:y", "b:x", "b:y", "a:*", "b:*", "*:x", "*:y", "*:*"];

/// Those of the alphabet whose bits are set.
fn pick(bits: u16) -> Vec<&'static str> {
    ALPHABET.into_iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1).map(|(_, permission)| permission).collect()
}

/// The reference: a set covers a permission if one of it does so in both parts. No code in common with the service.
fn covers(set: &[&str], required: &str) -> bool {
    let part = |held: &str, asked: &str| held == "*" || held == asked;
    let (resource, action) = required.split_once(':').unwrap();
    set.iter().any(|held| held.split_once(':').is_some_and(|(r, a)| part(r, resource) && part(a, action)))
}

on_both! {
    async fn a_capped_token_has_what_both_its_roles_and_its_scope_allow(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:*", "stock:read", "cash:write"]).await;
        world.member(&acme, &ann, &["seller"]).await;
        for (scope, shown, good, missing) in [
            ("sales:read", &["sales:read"][..], &["sales:read"][..], &["sales:write", "sales:*", "stock:read"][..]),
            ("*:read", &["sales:read", "stock:read"], &["sales:read", "stock:read"], &["*:read", "cash:read", "sales:write"]),
            ("*:*", &["cash:write", "sales:*", "stock:read"], &["sales:*", "cash:write"], &["*:*", "stock:write"]),
            ("sales:* sales:read", &["sales:*"], &["sales:*", "sales:delete"], &["stock:read"]),
            ("cash:* stock:write", &["cash:write"], &["cash:write"], &["cash:*", "stock:write", "stock:read"]),
            ("hr:write", &[], &[], &["hr:write", "sales:read"]),
        ] {
            let token = capped(&world, "ann@example.com", scope).await;
            let answer = world.validate_with(ask_for(&token, &acme, good)).await.unwrap();
            assert_eq!(answer.tenant.unwrap().permissions, shown, "{scope}");
            assert_eq!(answer.token.unwrap().scope, scope);
            for required in missing {
                let refused = refused(world.validate_with(ask_for(&token, &acme, &[required])).await);
                assert_eq!(refused, "PERMISSION_MISSING", "{scope}, {required}");
            }
        }
    }

    async fn rights_are_facts_and_scope_whatever_both_are(world: World) {
        let seed = u64::from_le_bytes(Entropy::system().bytes());
        eprintln!("seed {seed}");
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &[]).await;
        world.member(&acme, &ann, &["seller"]).await;
        let mut state = seed | 1;
        for _ in 0..20 {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let low = |bits: u64| u16::try_from(bits & 511).unwrap();
            // Two draws and-ed: sparse sets meet in more ways than dense ones.
            let (held, scope) = (pick(low(state & (state >> 9))), pick(low((state >> 18) & (state >> 27))));
            let scope = if scope.is_empty() { vec!["a:*", "*:y"] } else { scope };
            set_permissions(&world, &acme, "seller", &held).await;
            let token = grant(&world, "ann@example.com", Ask { scope: &scope.join(" "), ..Ask::default() }).await.unwrap().access_token;
            let shown = world.validate_with(ask_in(&token, &acme.id)).await.unwrap().tenant.unwrap().permissions;
            let shown_set = PermissionSet::parse(&shown).unwrap();
            for required in ALPHABET {
                let expected = covers(&held, required) && covers(&scope, required);
                let answer = world.validate_with(ask_for(&token, &acme, &[required])).await;
                assert_eq!(answer.is_ok(), expected, "held {held:?}, scope {scope:?}, required {required}, seed {seed}");
                assert_eq!(shown_set.covers(&required.parse().unwrap()), expected, "shown {shown:?}, held {held:?}, scope {scope:?}");
            }
        }
    }

    async fn a_capped_token_has_no_roles(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["owner"]).await;
        // Also where the cap takes nothing away.
        for scope in ["*:*", "sales:read"] {
            let token = capped(&world, "ann@example.com", scope).await;
            let question = v1::ValidateSessionRequest { include_tenants: true, ..ask_in(&token, &acme.id) };
            let answer = world.validate_with(question).await.unwrap();
            let listed = world.client().list_tenants(bearer(v1::ListTenantsRequest::default(), &token)).await.unwrap().into_inner().tenants;
            for entry in [&answer.tenant.unwrap(), &answer.tenants[0], &listed[0]] {
                assert_eq!((entry.roles.len(), entry.permissions.as_slice()), (0, &texts(&[scope])[..]));
            }
            let question = v1::ValidateSessionRequest { any_role: texts(&["owner"]), ..ask_in(&token, &acme.id) };
            assert_eq!(refused(world.validate_with(question).await), "ROLE_MISSING");
        }
    }

    async fn a_capped_token_carries_no_superuser_neither_as_flag_nor_as_power(world: World) {
        let root = world.superuser("root@example.com").await;
        let (foreign, own) = (world.tenant("foreign").await, world.tenant("own").await);
        world.role(&own, "seller", &["sales:read"]).await;
        world.member(&own, &root, &["seller"]).await;
        let token = capped(&world, "root@example.com", "*:*").await;

        assert!(!user_of(world.validate(&token).await.unwrap()).superuser);
        let me = world.client().get_me(bearer(v1::GetMeRequest {}, &token)).await.unwrap().into_inner();
        let v1::principal::Kind::User(me) = me.principal.unwrap().kind.unwrap() else { panic!("a user") };
        assert!(!me.superuser);
        let question = v1::ValidateSessionRequest { superuser: true, ..ask(&token) };
        assert_eq!(refused(world.validate_with(question).await), "SUPERUSER_REQUIRED");
        let random = refusal(&world, ask_in(&token, &random_id())).await;
        assert_eq!(refusal(&world, ask_in(&token, &foreign.id)).await, random);
        assert_eq!(refused(world.validate_with(ask_in(&token, &foreign.id)).await), "NOT_A_MEMBER");
        // A member it is, with what the roles give.
        assert!(!world.validate_with(ask_for(&token, &own, &["sales:read"])).await.unwrap().superuser_access);
        assert_eq!(refused(world.validate_with(ask_for(&token, &own, &["sales:write"])).await), "PERMISSION_MISSING");
        // Nor does a session with a scope open in a tenant by the flag.
        let wish = Ask { tenant_id: &foreign.id.to_string(), scope: "*:*", audience: &[] };
        assert_eq!(refused(grant(&world, "root@example.com", wish).await), "NOT_A_MEMBER");
    }

    async fn a_cap_stays_over_refreshes_and_can_only_become_tighter(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["owner"]).await;
        let wish = Ask { tenant_id: "ext:crm-acme", scope: "sales:* stock:read", audience: &[] };
        let first = grant(&world, "ann@example.com", wish).await.unwrap();
        let refresh = async |token: &str, scope: &str| {
            let grant = v1::issue_token_request::Grant::RefreshToken(v1::RefreshTokenGrant { refresh_token: token.to_owned() });
            let request = v1::IssueTokenRequest { grant: Some(grant), scope: scope.to_owned(), ..Default::default() };
            world.client().issue_token(request).await.map(|answer| answer.into_inner().tokens.unwrap())
        };
        let shown = async |set: &v1::TokenSet| world.validate(&set.access_token).await.unwrap().tenant.unwrap().permissions;
        for wider in ["*:*", "sales:* stock:*", "hr:read", "*:read"] {
            assert_eq!(fields(&refresh(&first.refresh_token, wider).await.unwrap_err()), ["scope"], "{wider}");
        }
        let tighter = refresh(&first.refresh_token, "sales:read").await.unwrap();
        assert_eq!((tighter.scope.as_str(), shown(&tighter).await), ("sales:read", texts(&["sales:read"])));
        let again = refresh(&tighter.refresh_token, "").await.unwrap();
        assert_eq!((again.scope.as_str(), shown(&again).await), ("sales:* stock:read", texts(&["sales:*", "stock:read"])));
    }
}
