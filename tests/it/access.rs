//! `ValidateSession`: whose token, which tenant, and in which order it refuses. What a token may do in the tenant is below:
//! `requirements` (permissions and roles), `superusers`, `capped` (tokens with a scope), `narrowed` (tokens without the issuer).

use doorward::{
    pb::v1,
    store::{tenants::Tenant, users::User},
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::{harness::*, on_both};

mod capped;
mod narrowed;
mod requirements;
mod superusers;

/// A question about a token and nothing else.
pub fn ask(access_token: &str) -> v1::ValidateSessionRequest {
    v1::ValidateSessionRequest { access_token: access_token.to_owned(), ..Default::default() }
}

/// A question about a token in a tenant.
pub fn ask_in(access_token: &str, tenant_id: &impl ToString) -> v1::ValidateSessionRequest {
    v1::ValidateSessionRequest { tenant_id: tenant_id.to_string(), ..ask(access_token) }
}

/// The same, for permissions too.
pub fn ask_for(access_token: &str, tenant: &Tenant, permissions: &[&str]) -> v1::ValidateSessionRequest {
    v1::ValidateSessionRequest { permissions: texts(permissions), ..ask_in(access_token, &tenant.id) }
}

pub fn texts(items: &[&str]) -> Vec<String> {
    items.iter().map(|&item| item.to_owned()).collect()
}

/// The fields that a refusal names.
pub fn fields(status: &Status) -> Vec<String> {
    assert_eq!(reason(status), "INVALID_FIELD");
    status.get_details_bad_request().unwrap().field_violations.into_iter().map(|violation| violation.field).collect()
}

/// Everything of a refusal that its caller can see, but for the time of day.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub message: String,
    pub details: Vec<u8>,
    pub metadata: Vec<(String, Vec<u8>)>,
}

impl Refusal {
    pub fn of(status: &Status) -> Self {
        let headers = status.metadata().clone().into_headers();
        let mut metadata: Vec<_> = headers
            .iter()
            .filter(|(name, _)| name.as_str() != "date")
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect();
        metadata.sort();
        Self { code: status.code(), message: status.message().to_owned(), details: status.details().to_vec(), metadata }
    }
}

/// What the asker of a question that must be refused sees. The request id is always the same one.
pub async fn refusal(world: &World, question: v1::ValidateSessionRequest) -> Refusal {
    let mut request = Request::new(question);
    request.metadata_mut().insert("x-request-id", "the-same".parse().unwrap());
    Refusal::of(&world.client().validate_session(request).await.expect_err("should have been refused"))
}

/// An id that nothing has.
pub fn random_id() -> Uuid {
    Uuid::now_v7()
}

/// An id as it stands in a statement written by hand.
pub fn literal(world: &World, id: Uuid) -> String {
    match world.backend {
        Backend::Sqlite => format!("X'{}'", id.simple()),
        Backend::Postgres => format!("'{id}'"),
    }
}

/// Changes a tenant's state by hand.
pub async fn set_tenant_state(world: &World, tenant: &Tenant, state: &str) {
    let sql = format!("UPDATE tenants SET state = '{state}' WHERE id = {}", literal(world, tenant.id.as_uuid()));
    assert_eq!(world.sql().await.execute(&sql).await, 1);
}

/// Changes a membership's state by hand.
pub async fn set_member_state(world: &World, tenant: &Tenant, user: &User, state: &str) {
    let (tenant, user) = (literal(world, tenant.id.as_uuid()), literal(world, user.id.as_uuid()));
    let sql = format!("UPDATE memberships SET state = '{state}' WHERE tenant_id = {tenant} AND user_id = {user}");
    assert_eq!(world.sql().await.execute(&sql).await, 1);
}

/// Changes what a role allows by hand.
pub async fn set_permissions(world: &World, tenant: &Tenant, role: &str, permissions: &[&str]) {
    let json = serde_json::to_string(permissions).unwrap();
    let tenant = literal(world, tenant.id.as_uuid());
    let sql = format!("UPDATE roles SET permissions = '{json}' WHERE tenant_id = {tenant} AND name = '{role}'");
    assert_eq!(world.sql().await.execute(&sql).await, 1);
}

fn user_of(answer: v1::ValidateSessionResponse) -> v1::User {
    match answer.principal.unwrap().kind.unwrap() {
        v1::principal::Kind::User(user) => user,
        v1::principal::Kind::ServiceAccount(account) => panic!("{account:?}"),
    }
}

on_both! {
    async fn the_token_in_the_message_wins_over_the_one_in_authorization(world: World) {
        let (ann, bob) = (world.person("ann@example.com").await, world.person("bob@example.com").await);
        let (of_ann, of_bob) = (world.login("ann@example.com").await.access_token, world.login("bob@example.com").await.access_token);
        let mut client = world.client();

        let both = client.validate_session(bearer(ask(&of_ann), &of_bob)).await.unwrap().into_inner();
        assert_eq!(user_of(both).id, ann.id.to_string());
        let header = client.validate_session(bearer(ask(""), &of_bob)).await.unwrap().into_inner();
        assert_eq!(user_of(header).id, bob.id.to_string());
        let message = client.validate_session(ask(&of_ann)).await.unwrap().into_inner();
        assert_eq!(user_of(message).id, ann.id.to_string());
        let beside_garbage = client.validate_session(bearer(ask(&of_ann), "garbage")).await.unwrap().into_inner();
        assert_eq!(user_of(beside_garbage).id, ann.id.to_string());

        // What a proxy or the backend itself put there is nobody's business then.
        let mut basic = Request::new(ask(&of_ann));
        basic.metadata_mut().insert("authorization", "Basic YW5uOnNlY3JldA==".parse().unwrap());
        assert_eq!(user_of(client.validate_session(basic).await.unwrap().into_inner()).id, ann.id.to_string());

        // A bad one in the message is not made good by a good one in the header.
        assert_eq!(refused(client.validate_session(bearer(ask("garbage"), &of_bob)).await), "TOKEN_INVALID");
        assert_eq!(refused(client.validate_session(bearer(ask(" "), &of_bob)).await), "TOKEN_INVALID");
        assert_eq!(refused(client.validate_session(bearer(ask(""), "garbage")).await), "TOKEN_INVALID");
        assert_eq!(refused(client.validate_session(ask("")).await), "TOKEN_MISSING");
        for header in [of_bob.as_str(), "Basic YW5uOnNlY3JldA==", "Bearer"] {
            let mut request = Request::new(ask(""));
            request.metadata_mut().insert("authorization", header.parse().unwrap());
            let status = client.validate_session(request).await.unwrap_err();
            assert!(status.message().contains("holds no bearer token"), "{status:?}");
            assert_eq!(reason(&status), "TOKEN_INVALID");
        }
    }

    async fn a_tenant_is_named_by_its_id_by_its_external_id_or_by_the_token(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        world.member(&acme, &ann, &["seller"]).await;
        let unbound = world.login("ann@example.com").await.access_token;
        let bound = world.login_to("ann@example.com", &acme).await.access_token;
        let by_external = world.try_login("ann@example.com", PASSWORD, "ext:crm-acme").await.unwrap();
        assert_eq!(by_external.session.unwrap().tenant_id, acme.id.to_string());

        let entry = world.validate_with(ask_in(&unbound, &acme.id)).await.unwrap().tenant.unwrap();
        assert_eq!((entry.id.as_str(), entry.permissions.as_slice()), (acme.id.to_string().as_str(), &texts(&["sales:write"])[..]));
        for (token, tenant_id) in [
            (&unbound, acme.id.to_string().to_uppercase()),
            (&unbound, "ext:crm-acme".to_owned()),
            (&bound, acme.id.to_string()),
            (&bound, "ext:crm-acme".to_owned()),
            (&bound, String::new()),
        ] {
            let answer = world.validate_with(ask_in(token, &tenant_id)).await.unwrap();
            assert_eq!(answer.tenant.as_ref(), Some(&entry), "{tenant_id:?}");
            assert!(!answer.superuser_access);
        }
        // About no tenant at all.
        assert_eq!(world.validate(&unbound).await.unwrap().tenant, None);
    }

    async fn a_tenant_id_of_another_form_is_an_invalid_field(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["owner"]).await;
        let unbound = world.login("ann@example.com").await.access_token;
        let bound = world.login_to("ann@example.com", &acme).await.access_token;
        let id = acme.id.to_string();
        let malformed = [
            "acme".to_owned(), "crm-acme".to_owned(), "ext:".to_owned(), "ext: ".to_owned(), "ext:a\0b".to_owned(), "EXT:crm-acme".to_owned(),
            " ".to_owned(), format!(" {id}"), format!("{id} "), format!("{{{id}}}"), format!("urn:uuid:{id}"), id.replace('-', ""),
            format!("ext:{}", "x".repeat(256)), "*".to_owned(), "x".repeat(5_000),
        ];
        for tenant_id in malformed {
            for token in [&unbound, &bound] {
                let status = world.validate_with(ask_in(token, &tenant_id)).await.unwrap_err();
                assert_eq!(fields(&status), ["tenant_id"], "{tenant_id:?}");
            }
        }
    }

    async fn a_token_of_a_tenant_says_nothing_about_another_one(world: World) {
        let ann = world.person("ann@example.com").await;
        let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
        world.member(&acme, &ann, &["owner"]).await;
        world.member(&globex, &ann, &["owner"]).await;
        let bound = world.login_to("ann@example.com", &acme).await.access_token;

        let random = refusal(&world, ask_in(&bound, &random_id())).await;
        assert!(random.metadata.contains(&("doorward-reason".to_owned(), b"NOT_A_MEMBER".to_vec())));
        for tenant_id in [globex.id.to_string(), "ext:crm-globex".to_owned(), "ext:nothing".to_owned()] {
            assert_eq!(refusal(&world, ask_in(&bound, &tenant_id)).await, random, "{tenant_id}");
        }
        set_tenant_state(&world, &globex, "suspended").await;
        assert_eq!(refusal(&world, ask_in(&bound, &globex.id)).await, random);
        // Its own it does.
        world.validate_with(ask_in(&bound, &acme.id)).await.unwrap();
    }

    async fn strangers_cannot_tell_a_tenant_from_none(world: World) {
        let (ann, eve) = (world.person("ann@example.com").await, world.person("eve@example.com").await);
        let home = world.tenant("home").await;
        world.member(&home, &ann, &["owner"]).await;
        let tokens = [world.login("ann@example.com").await.access_token, world.login_to("ann@example.com", &home).await.access_token];
        let mut hidden = Vec::new();
        for slug in ["foreign", "suspended", "deleted", "odd", "left", "invited", "forgotten"] {
            let tenant = world.tenant(slug).await;
            world.member(&tenant, &eve, &["owner"]).await;
            if !["foreign", "suspended"].contains(&slug) {
                world.member(&tenant, &ann, &["owner"]).await;
            }
            hidden.push(tenant);
        }
        set_tenant_state(&world, &hidden[1], "suspended").await;
        set_tenant_state(&world, &hidden[2], "deleted").await;
        set_member_state(&world, &hidden[3], &ann, "a word of tomorrow").await;
        set_member_state(&world, &hidden[4], &ann, "removed").await;
        set_member_state(&world, &hidden[5], &ann, "invited").await;
        doorward::domain::memberships::remove(world.app(), &hidden[6], &ann, cli()).await.unwrap();

        let question = |token: &String, tenant_id: String| v1::ValidateSessionRequest {
            permissions: texts(&["sales:write"]),
            any_role: texts(&["owner"]),
            superuser: true,
            include_tenants: true,
            ..ask_in(token, &tenant_id)
        };
        for token in &tokens {
            let random = refusal(&world, question(token, random_id().to_string())).await;
            assert_eq!(random.code, Code::PermissionDenied);
            assert!(random.metadata.contains(&("doorward-reason".to_owned(), b"NOT_A_MEMBER".to_vec())));
            for tenant in &hidden {
                for tenant_id in [tenant.id.to_string(), format!("ext:crm-{}", tenant.slug)] {
                    assert_eq!(refusal(&world, question(token, tenant_id)).await, random, "{}", tenant.slug);
                }
            }
            assert_eq!(refusal(&world, question(token, "ext:crm-nothing".to_owned())).await, random);
        }
    }

    async fn refusals_come_in_an_order_that_tells_members_only(world: World) {
        let (ann, _) = (world.person("ann@example.com").await, world.person("eve@example.com").await);
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &[]).await;
        world.member(&acme, &ann, &["seller"]).await;
        let (of_ann, of_eve) = (world.login("ann@example.com").await.access_token, world.login("eve@example.com").await.access_token);
        let all = |token: &str, superuser| v1::ValidateSessionRequest {
            any_role: texts(&["boss"]),
            superuser,
            ..ask_for(token, &acme, &["sales:write"])
        };
        set_tenant_state(&world, &acme, "suspended").await;
        set_member_state(&world, &acme, &ann, "suspended").await;

        assert_eq!(refused(world.validate_with(all(&of_eve, true)).await), "NOT_A_MEMBER");
        assert_eq!(refused(world.validate_with(all(&of_ann, true)).await), "MEMBERSHIP_SUSPENDED");
        set_member_state(&world, &acme, &ann, "active").await;
        assert_eq!(refused(world.validate_with(all(&of_ann, true)).await), "TENANT_SUSPENDED");
        set_tenant_state(&world, &acme, "a word of tomorrow").await;
        assert_eq!(refused(world.validate_with(all(&of_ann, true)).await), "TENANT_SUSPENDED");
        assert_eq!(refused(world.validate_with(all(&of_eve, true)).await), "NOT_A_MEMBER");
        set_tenant_state(&world, &acme, "active").await;
        assert_eq!(refused(world.validate_with(all(&of_ann, true)).await), "SUPERUSER_REQUIRED");
        assert_eq!(refused(world.validate_with(all(&of_ann, false)).await), "PERMISSION_MISSING");
        set_permissions(&world, &acme, "seller", &["sales:write"]).await;
        assert_eq!(refused(world.validate_with(all(&of_ann, false)).await), "ROLE_MISSING");
        world.sql().await.execute("UPDATE roles SET name = 'boss' WHERE name = 'seller'").await;
        world.validate_with(all(&of_ann, false)).await.unwrap();
        // The token itself comes before all of it, and so does its audience.
        let elsewhere = v1::ValidateSessionRequest { audience: "elsewhere".to_owned(), ..all(&of_eve, true) };
        assert_eq!(refused(world.validate_with(elsewhere).await), "AUDIENCE_MISMATCH");
        world.logout(&of_eve).await.unwrap();
        assert_eq!(refused(world.validate_with(all(&of_eve, true)).await), "SESSION_REVOKED");
    }

    async fn changes_by_hand_are_seen_by_the_next_call_on_every_replica(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        world.member(&acme, &ann, &["seller"]).await;
        let other = world.another_replica().await;
        let mut clients = [world.client(), other.client()];
        for token in [world.login("ann@example.com").await.access_token, world.login_to("ann@example.com", &acme).await.access_token] {
            let latest = v1::Freshness::Latest.into();
            let question = || v1::ValidateSessionRequest { freshness: latest, ..ask_for(&token, &acme, &["sales:write"]) };
            for client in &mut clients {
                client.validate_session(question()).await.unwrap();
            }
            set_permissions(&world, &acme, "seller", &["sales:read"]).await;
            for client in &mut clients {
                assert_eq!(refused(client.validate_session(question()).await), "PERMISSION_MISSING");
            }
            set_permissions(&world, &acme, "seller", &["sales:write"]).await;
            set_tenant_state(&world, &acme, "suspended").await;
            for client in &mut clients {
                assert_eq!(refused(client.validate_session(question()).await), "TENANT_SUSPENDED");
            }
            set_tenant_state(&world, &acme, "active").await;
            set_member_state(&world, &acme, &ann, "suspended").await;
            for client in &mut clients {
                assert_eq!(refused(client.validate_session(question()).await), "MEMBERSHIP_SUSPENDED");
            }
            set_member_state(&world, &acme, &ann, "active").await;
            let (sql, link) = (world.sql().await, literal(&world, acme.id.as_uuid()));
            let role = format!("SELECT id FROM roles WHERE tenant_id = {link} AND name = 'seller'");
            assert_eq!(sql.execute(&format!("DELETE FROM membership_roles WHERE role_id = ({role})")).await, 1);
            for client in &mut clients {
                assert_eq!(refused(client.validate_session(question()).await), "PERMISSION_MISSING");
            }
            let link_again = "INSERT INTO membership_roles (tenant_id, membership_id, role_id)
                              SELECT m.tenant_id, m.id, r.id FROM memberships m JOIN roles r ON r.tenant_id = m.tenant_id
                              WHERE r.name = 'seller'";
            assert_eq!(sql.execute(link_again).await, 1);
        }
        other.stop().await;
    }

    async fn a_membership_that_is_made_again_revives_no_old_token(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["owner"]).await;
        let unbound = world.login("ann@example.com").await;
        let bound = world.login_to("ann@example.com", &acme).await;
        world.validate(&bound.access_token).await.unwrap();

        doorward::domain::memberships::remove(world.app(), &acme, &ann, cli()).await.unwrap();
        assert_eq!(refused(world.validate(&bound.access_token).await), "NOT_A_MEMBER");
        assert_eq!(refused(world.refresh(&bound.refresh_token).await), "NOT_A_MEMBER");
        assert_eq!(refused(world.validate_with(ask_in(&unbound.access_token, &acme.id)).await), "NOT_A_MEMBER");

        world.member(&acme, &ann, &["member"]).await;
        assert_eq!(refused(world.validate(&bound.access_token).await), "SESSION_REVOKED");
        assert_eq!(refused(world.validate_with(ask_in(&bound.access_token, &acme.id)).await), "SESSION_REVOKED");
        assert_eq!(refused(world.client().get_me(bearer(v1::GetMeRequest {}, &bound.access_token)).await), "SESSION_REVOKED");
        assert_eq!(refused(world.refresh(&bound.refresh_token).await), "SESSION_REVOKED");
        // The new membership has its own roles, and nothing of the earlier ones.
        let entry = world.validate_with(ask_in(&unbound.access_token, &acme.id)).await.unwrap().tenant.unwrap();
        assert_eq!(entry.roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>(), ["member"]);
        let again = world.login_to("ann@example.com", &acme).await;
        world.validate(&again.access_token).await.unwrap();
    }

    async fn a_suspended_tenants_tokens_are_good_again_with_it_unless_its_epoch_moved(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["owner"]).await;
        let bound = world.login_to("ann@example.com", &acme).await;
        doorward::domain::tenants::set_suspended(world.app(), &acme, true, cli()).await.unwrap();
        assert_eq!(refused(world.validate(&bound.access_token).await), "TENANT_SUSPENDED");
        doorward::domain::tenants::set_suspended(world.app(), &acme, false, cli()).await.unwrap();
        world.validate(&bound.access_token).await.unwrap();

        world.sql().await.execute("UPDATE tenants SET epoch = epoch + 1").await;
        assert_eq!(refused(world.validate(&bound.access_token).await), "SESSION_REVOKED");
        assert_eq!(refused(world.refresh(&bound.refresh_token).await), "SESSION_REVOKED");
    }
}
