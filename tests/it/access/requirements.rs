//! What a question may require of its subject: permissions, roles, being a superuser.

use doorward::pb::v1;
use tonic_types::StatusExt;

use super::*;

/// A member of `acme` with one role of these permissions; answers the tenant and a token.
async fn holder(world: &World, permissions: &[&str]) -> (Tenant, String) {
    let ann = world.person("ann@example.com").await;
    let acme = world.tenant("acme").await;
    world.role(&acme, "seller", permissions).await;
    world.member(&acme, &ann, &["seller"]).await;
    (acme, world.login("ann@example.com").await.access_token)
}

/// The permission that a refusal names in `ErrorInfo.metadata`.
fn missing(status: &Status) -> String {
    assert_eq!(reason(status), "PERMISSION_MISSING");
    let metadata = status.get_details_error_info().unwrap().metadata;
    assert_eq!(metadata.len(), 1);
    metadata["permission"].clone()
}

on_both! {
    async fn every_permission_is_required_and_the_first_missing_one_is_named(world: World) {
        let (acme, token) = holder(&world, &["sales:write", "sales:read", "stock:read"]).await;
        for good in [&[][..], &["sales:read"], &["sales:read", "sales:write"], &["stock:read", "sales:read", "sales:write", "stock:read"]] {
            world.validate_with(ask_for(&token, &acme, good)).await.unwrap();
        }
        for (required, first) in [
            (&["stock:write"][..], "stock:write"),
            (&["sales:read", "z:z", "a:a"], "z:z"),
            (&["a:a", "z:z", "sales:read"], "a:a"),
            (&["sales:read", "sales:write", "sales:delete"], "sales:delete"),
        ] {
            assert_eq!(missing(&world.validate_with(ask_for(&token, &acme, required)).await.unwrap_err()), first);
        }
    }

    async fn permissions_are_joined_over_all_roles_of_the_tenant_and_of_no_other(world: World) {
        let ann = world.person("ann@example.com").await;
        let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
        world.role(&acme, "seller", &["sales:write"]).await;
        world.role(&acme, "packer", &["stock:write"]).await;
        world.role(&globex, "seller", &["cash:write"]).await;
        world.member(&acme, &ann, &["seller", "packer"]).await;
        world.member(&globex, &ann, &["seller"]).await;
        let token = world.login("ann@example.com").await.access_token;
        let entry = world.validate_with(ask_for(&token, &acme, &["sales:write", "stock:write"])).await.unwrap().tenant.unwrap();
        assert_eq!(entry.permissions, ["sales:write", "stock:write"]);
        assert_eq!(missing(&world.validate_with(ask_for(&token, &acme, &["cash:write"])).await.unwrap_err()), "cash:write");
        assert_eq!(missing(&world.validate_with(ask_for(&token, &globex, &["sales:write"])).await.unwrap_err()), "sales:write");
        let packer = |tenant: &Tenant| v1::ValidateSessionRequest { any_role: texts(&["packer"]), ..ask_in(&token, &tenant.id) };
        world.validate_with(packer(&acme)).await.unwrap();
        assert_eq!(refused(world.validate_with(packer(&globex)).await), "ROLE_MISSING");
    }

    async fn a_wildcard_stands_for_a_whole_part_only(world: World) {
        let (acme, token) = holder(&world, &[]).await;
        let table: [(&str, &[&str], &[&str]); 5] = [
            ("sales:*", &["sales:read", "sales:write", "sales:*"], &["sale:read", "sales.eu:read", "salesx:read", "*:read", "*:*"]),
            ("*:read", &["sales:read", "stock.eu:read", "*:read"], &["sales:reads", "sales:read.all", "sales:write", "sales:*", "*:*"]),
            ("*:*", &["sales:read", "doorward.tenant:write", "sales:*", "*:read", "*:*"], &[]),
            ("sales:read", &["sales:read"], &["sales:*", "*:read", "*:*", "sales:rea", "sales:read-all"]),
            ("sales.eu:read", &["sales.eu:read"], &["sales:read", "sales.us:read"]),
        ];
        for (held, covered, not) in table {
            set_permissions(&world, &acme, "seller", &[held]).await;
            for required in covered {
                let answer = world.validate_with(ask_for(&token, &acme, &[required])).await;
                assert!(answer.is_ok(), "{held} covers {required}: {answer:?}");
            }
            for required in not {
                assert_eq!(missing(&world.validate_with(ask_for(&token, &acme, &[required])).await.unwrap_err()), *required, "{held}");
            }
        }
    }

    async fn one_of_the_roles_is_enough_by_its_exact_name(world: World) {
        let (acme, token) = holder(&world, &["sales:write"]).await;
        world.role(&acme, "boss", &[]).await;
        let question = |roles: &[&str]| v1::ValidateSessionRequest { any_role: texts(roles), ..ask_in(&token, &acme.id) };
        for good in [&["seller"][..], &["boss", "seller"], &["seller", "seller"], &["nobody", "owner", "seller"]] {
            world.validate_with(question(good)).await.unwrap();
        }
        for bad in [&["boss"][..], &["Seller"], &["sell"], &["sellers"], &["owner", "admin", "member"], &["*"]] {
            assert_eq!(refused(world.validate_with(question(bad)).await), "ROLE_MISSING", "{bad:?}");
        }
        // Permissions and roles are both required.
        let both = |permission| v1::ValidateSessionRequest { any_role: texts(&["boss"]), ..ask_for(&token, &acme, &[permission]) };
        assert_eq!(refused(world.validate_with(both("sales:write")).await), "ROLE_MISSING");
        assert_eq!(refused(world.validate_with(both("sales:delete")).await), "PERMISSION_MISSING");
    }

    async fn rights_without_a_tenant_to_have_them_in_are_an_invalid_field(world: World) {
        let (acme, unbound) = holder(&world, &["sales:write"]).await;
        let bound = world.login_to("ann@example.com", &acme).await.access_token;
        let permissions = |token: &str| v1::ValidateSessionRequest { permissions: texts(&["sales:write"]), ..ask(token) };
        let role = |token: &str| v1::ValidateSessionRequest { any_role: texts(&["seller"]), ..ask(token) };
        for question in [permissions(&unbound), role(&unbound)] {
            assert_eq!(fields(&world.validate_with(question).await.unwrap_err()), ["tenant_id"]);
        }
        for question in [permissions(&bound), role(&bound)] {
            assert_eq!(world.validate_with(question).await.unwrap().tenant.unwrap().slug, "acme");
        }
        // Nor does being a superuser give a tenant.
        world.superuser("root@example.com").await;
        let root = world.login("root@example.com").await.access_token;
        for question in [permissions(&root), role(&root)] {
            assert_eq!(fields(&world.validate_with(question).await.unwrap_err()), ["tenant_id"]);
        }
    }

    async fn malformed_requirements_name_their_field(world: World) {
        let (acme, token) = holder(&world, &["*:*"]).await;
        let malformed = [
            "", "sales", "sales:", ":write", "sales:write:now", "Sales:write", "sales :write", " sales:write", "sales:write ", "sales*:write",
            "sales:w*", "**:write", "s\u{e4}les:write", "sales:write\0", "sales\n:write", "sales/eu:write",
        ];
        for permission in malformed {
            let status = world.validate_with(ask_for(&token, &acme, &["sales:write", permission])).await.unwrap_err();
            assert_eq!(fields(&status), ["permissions[1]"], "{permission:?}");
        }
        let long = "x".repeat(65);
        let status = world.validate_with(ask_for(&token, &acme, &[&format!("{long}:x")])).await.unwrap_err();
        assert_eq!(fields(&status), ["permissions[0]"]);
        for role in ["", " ", " seller", "a\0b", "a\nb", long.as_str()] {
            let question = v1::ValidateSessionRequest { any_role: texts(&["owner", "seller", role]), ..ask_in(&token, &acme.id) };
            assert_eq!(fields(&world.validate_with(question).await.unwrap_err()), ["any_role[2]"], "{role:?}");
        }
    }

    async fn a_hundred_requirements_are_the_most(world: World) {
        let (acme, token) = holder(&world, &["sales:*"]).await;
        let permissions = |count| v1::ValidateSessionRequest {
            permissions: (0..count).map(|n| format!("sales:p{n}")).collect(),
            ..ask_in(&token, &acme.id)
        };
        let roles = |count| v1::ValidateSessionRequest {
            any_role: (1..count).map(|n| format!("role {n}")).chain(["seller".to_owned()]).collect(),
            ..ask_in(&token, &acme.id)
        };
        world.validate_with(permissions(100)).await.unwrap();
        world.validate_with(roles(100)).await.unwrap();
        assert_eq!(fields(&world.validate_with(permissions(101)).await.unwrap_err()), ["permissions"]);
        assert_eq!(fields(&world.validate_with(roles(101)).await.unwrap_err()), ["any_role"]);
    }

    async fn both_kinds_of_freshness_are_accepted_and_no_unknown_number(world: World) {
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.access_token;
        let question = |freshness| v1::ValidateSessionRequest { freshness, ..ask(&token) };
        for (known, earliest) in [(v1::Freshness::Unspecified, 1), (v1::Freshness::Bounded, 1), (v1::Freshness::Latest, 1_000)] {
            let until = world.validate_with(question(known.into())).await.unwrap().fresh_until.unwrap();
            let millis = (until.seconds - START) * 1_000 + i64::from(until.nanos / 1_000_000);
            assert!((earliest..=1_000).contains(&millis), "{known:?}: good for {millis} ms, of a second since it was known");
        }
        for unknown in [3, 99, -1, i32::MAX, i32::MIN] {
            assert_eq!(fields(&world.validate_with(question(unknown)).await.unwrap_err()), ["freshness"]);
        }
    }

    async fn a_superuser_is_required_only_of_those_who_are_none(world: World) {
        let (acme, token) = holder(&world, &["*:*"]).await;
        world.superuser("root@example.com").await;
        let root = world.login("root@example.com").await.access_token;
        let question = |token: &str| v1::ValidateSessionRequest { superuser: true, ..ask(token) };
        assert_eq!(refused(world.validate_with(question(&token)).await), "SUPERUSER_REQUIRED");
        let in_tenant = v1::ValidateSessionRequest { superuser: true, ..ask_in(&token, &acme.id) };
        assert_eq!(refused(world.validate_with(in_tenant).await), "SUPERUSER_REQUIRED");
        let answer = world.validate_with(question(&root)).await.unwrap();
        assert!(!answer.superuser_access, "no tenant, no access by the flag");
        assert!(user_of(answer).superuser);
        assert!(!user_of(world.validate(&token).await.unwrap()).superuser);
    }
}
