//! Tenants as their members see them: what an entry holds, which ones a list has. Below: `pages` (paging of `ListTenants`), `seats`,
//! `roles` (system roles, and roles of other tenants).

use doorward::{
    domain,
    pb::v1,
    store::{
        memberships,
        tenants::{self, NewTenant, Tenant},
        users::User,
    },
    values::ids::{MembershipId, TenantId},
};

use crate::{
    access::{ask, ask_in, literal, set_member_state, set_tenant_state, texts},
    harness::*,
    on_both,
};

mod pages;
mod roles;
mod seats;

/// Everything that a tenant can be made of.
pub async fn tenant_of(world: &World, slug: &str, seat_limit: Option<i32>) -> Tenant {
    let request =
        domain::tenants::NewTenantRequest { slug: slug.to_owned(), name: slug.to_uppercase(), tax_id: None, external_id: None, seat_limit };
    domain::tenants::create(world.app(), request, cli()).await.unwrap()
}

/// Makes a user a member of so many new tenants, a second after one another, past the domain: quickly. Answers the slugs in that order.
pub async fn many_memberships(world: &World, user: &User, slug: &str, count: usize) -> Vec<String> {
    let app = world.app();
    let mut made = Vec::new();
    for number in 0..count {
        world.pass(std::time::Duration::from_secs(1));
        let tenant = NewTenant {
            id: TenantId::generate(&app.entropy, &app.clock),
            slug: format!("{slug}-{number}"),
            name: format!("{slug} {number}"),
            tax_id: None,
            external_id: None,
            seat_limit: None,
            now: app.clock.now(),
        };
        made.push((tenant, MembershipId::generate(&app.entropy, &app.clock)));
    }
    let slugs = made.iter().map(|(tenant, _)| tenant.slug.clone()).collect();
    let unit = |tx, (made, user): (Vec<(NewTenant, MembershipId)>, _)| async move {
        for (new, membership) in made {
            let (now, tenant) = (new.now, tenants::insert(&tx, new).await?);
            memberships::add(&tx, membership, tenant.id, user, &[], now).await?;
        }
        Ok(())
    };
    app.store.write("many_memberships", (made, user.id), unit).await.unwrap();
    slugs
}

/// All tenants of a token's subject by `ListTenants`, in one page.
pub async fn listed(world: &World, token: &str) -> Vec<v1::TenantMembership> {
    let request = v1::ListTenantsRequest { page_size: 100, page_token: String::new() };
    let answer = world.client().list_tenants(bearer(request, token)).await.unwrap().into_inner();
    assert_eq!(answer.next_page_token, "");
    answer.tenants
}

pub fn slugs(tenants: &[v1::TenantMembership]) -> Vec<String> {
    tenants.iter().map(|tenant| tenant.slug.clone()).collect()
}

async fn with_tenants(world: &World, token: &str) -> v1::ValidateSessionResponse {
    world.validate_with(v1::ValidateSessionRequest { include_tenants: true, ..ask(token) }).await.unwrap()
}

on_both! {
    async fn an_entry_is_the_same_in_every_answer_and_has_every_field(world: World) {
        let ann = world.person("ann@example.com").await;
        let request = domain::tenants::NewTenantRequest {
            slug: "acme".to_owned(),
            name: "Acme S.A. \u{d1}u\u{f1}oa".to_owned(),
            tax_id: Some("76.123.456-K".to_owned()),
            external_id: Some("crm:1/\u{e9}".to_owned()),
            seat_limit: Some(7),
        };
        let acme = domain::tenants::create(world.app(), request, cli()).await.unwrap();
        world.role(&acme, "seller", &["sales:write", "sales:read"]).await;
        world.role(&acme, "a packer", &["stock:*", "sales:read"]).await;
        world.member(&acme, &ann, &["seller", "member", "a packer"]).await;
        world.sql().await.execute(r#"UPDATE roles SET attributes = '{"color":"red","n":[3,null,true]}' WHERE name = 'seller'"#).await;

        let login = world.try_login("ann@example.com", PASSWORD, "").await.unwrap();
        let token = login.tokens.unwrap().access_token;
        let entry = world.validate_with(ask_in(&token, &"ext:crm:1/\u{e9}")).await.unwrap().tenant.unwrap();
        assert_eq!(login.tenants, std::slice::from_ref(&entry));
        assert_eq!(with_tenants(&world, &token).await.tenants, std::slice::from_ref(&entry));
        assert_eq!(listed(&world, &token).await, std::slice::from_ref(&entry));

        assert_eq!((entry.id.clone(), entry.slug.as_str(), entry.name.as_str()), (acme.id.to_string(), "acme", "Acme S.A. \u{d1}u\u{f1}oa"));
        assert_eq!((entry.tax_id.as_str(), entry.external_id.as_str(), entry.seat_limit), ("76.123.456-K", "crm:1/\u{e9}", Some(7)));
        assert_eq!((entry.state(), entry.membership_state()), (v1::TenantState::Active, v1::MembershipState::Active));
        assert_eq!(entry.permissions, ["sales:read", "sales:write", "stock:*"], "sorted, none twice");
        // The highest level first, then by name.
        let roles: Vec<_> = entry.roles.iter().map(|role| (role.name.as_str(), role.level)).collect();
        assert_eq!(roles, [("member", 20), ("a packer", 10), ("seller", 10)]);
        assert!(entry.roles.iter().all(|role| role.id.parse::<uuid::Uuid>().is_ok()));
        let attributes = entry.roles[2].attributes.clone().unwrap();
        assert_eq!(attributes.fields.keys().collect::<Vec<_>>(), ["color", "n"]);
        assert_eq!(attributes.fields["color"].kind, Some(prost_types::value::Kind::StringValue("red".to_owned())));
        assert_eq!(entry.roles[0].attributes, Some(prost_types::Struct::default()));
    }

    async fn no_seat_limit_is_absent_and_a_limit_of_none_is_zero(world: World) {
        let ann = world.person("ann@example.com").await;
        for (slug, limit) in [("unlimited", None), ("none", Some(0)), ("one", Some(1)), ("most", Some(i32::MAX))] {
            let tenant = tenant_of(&world, slug, None).await;
            world.member(&tenant, &ann, &[]).await;
            // Lowered afterwards: nobody becomes a member of a tenant without a seat.
            if let Some(limit) = limit {
                world.sql().await.execute(&format!("UPDATE tenants SET seat_limit = {limit} WHERE slug = '{slug}'")).await;
            }
            let entry = world.try_login("ann@example.com", PASSWORD, "").await.unwrap().tenants.into_iter().find(|t| t.slug == slug).unwrap();
            assert_eq!((entry.seat_limit, entry.tax_id.as_str(), entry.external_id.as_str()), (limit, "", ""), "{slug}");
        }
    }

    async fn suspended_ones_are_listed_with_their_state_and_without_rights(world: World) {
        let ann = world.person("ann@example.com").await;
        let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
        world.member(&acme, &ann, &["owner"]).await;
        world.pass(std::time::Duration::from_secs(1));
        world.member(&globex, &ann, &["owner"]).await;
        set_tenant_state(&world, &acme, "suspended").await;
        set_member_state(&world, &globex, &ann, "suspended").await;

        let login = world.try_login("ann@example.com", PASSWORD, "").await.unwrap();
        let token = login.tokens.unwrap().access_token;
        for tenants in [login.tenants, with_tenants(&world, &token).await.tenants, listed(&world, &token).await] {
            assert_eq!(slugs(&tenants), ["acme", "globex"]);
            let states: Vec<_> = tenants.iter().map(|tenant| (tenant.state(), tenant.membership_state())).collect();
            assert_eq!(states, [
                (v1::TenantState::Suspended, v1::MembershipState::Active),
                (v1::TenantState::Active, v1::MembershipState::Suspended),
            ]);
            assert!(tenants.iter().all(|tenant| tenant.roles.is_empty() && tenant.permissions.is_empty()));
            assert_eq!((tenants[0].tax_id.as_str(), tenants[0].external_id.as_str()), ("acme-76.123.456-7", "crm-acme"));
        }
    }

    async fn those_who_are_not_members_have_no_entry(world: World) {
        let (ann, eve) = (world.person("ann@example.com").await, world.person("eve@example.com").await);
        let mut all = Vec::new();
        for slug in ["good", "removed", "invited", "deleted", "odd", "odder", "left", "foreign"] {
            world.pass(std::time::Duration::from_secs(1));
            let tenant = world.tenant(slug).await;
            world.member(&tenant, if slug == "foreign" { &eve } else { &ann }, &["owner"]).await;
            all.push(tenant);
        }
        set_member_state(&world, &all[1], &ann, "removed").await;
        set_member_state(&world, &all[2], &ann, "invited").await;
        set_tenant_state(&world, &all[3], "deleted").await;
        set_tenant_state(&world, &all[4], "a word of tomorrow").await;
        set_member_state(&world, &all[5], &ann, "a word of tomorrow").await;
        domain::memberships::remove(world.app(), &all[6], &ann, cli()).await.unwrap();

        let login = world.try_login("ann@example.com", PASSWORD, "").await.unwrap();
        let token = login.tokens.unwrap().access_token;
        for tenants in [login.tenants, with_tenants(&world, &token).await.tenants, listed(&world, &token).await] {
            assert_eq!(slugs(&tenants), ["good"]);
        }
    }

    async fn tenants_are_listed_in_the_order_in_which_they_were_joined(world: World) {
        let ann = world.person("ann@example.com").await;
        let mut tenants = Vec::new();
        for slug in ["a", "b", "c", "d"] {
            tenants.push(tenant_of(&world, slug, None).await);
        }
        for index in [2, 0, 3, 1] {
            world.pass(std::time::Duration::from_secs(1));
            world.member(&tenants[index], &ann, &[]).await;
        }
        let token = world.login("ann@example.com").await.access_token;
        for _ in 0..3 {
            assert_eq!(slugs(&listed(&world, &token).await), ["c", "a", "d", "b"]);
            assert_eq!(slugs(&with_tenants(&world, &token).await.tenants), ["c", "a", "d", "b"]);
        }
        // Routine changes move nothing.
        world.sql().await.execute("UPDATE memberships SET revision = revision + 1").await;
        world.sql().await.execute("UPDATE tenants SET name = 'z' WHERE slug = 'c'").await;
        assert_eq!(slugs(&listed(&world, &token).await), ["c", "a", "d", "b"]);
    }

    async fn an_answer_lists_a_hundred_tenants_and_says_that_there_are_more(world: World) {
        let (ann, bob) = (world.person("ann@example.com").await, world.person("bob@example.com").await);
        let joined = many_memberships(&world, &ann, "t", 100).await;
        many_memberships(&world, &bob, "other", 3).await;
        let login = world.try_login("ann@example.com", PASSWORD, "").await.unwrap();
        let token = login.tokens.unwrap().access_token;
        let answer = with_tenants(&world, &token).await;
        assert_eq!((slugs(&login.tenants), login.more_tenants), (joined.clone(), false));
        assert_eq!((slugs(&answer.tenants), answer.more_tenants), (joined.clone(), false));

        many_memberships(&world, &ann, "late", 1).await;
        let login = world.try_login("ann@example.com", PASSWORD, "").await.unwrap();
        let answer = with_tenants(&world, &token).await;
        assert_eq!((slugs(&login.tenants), login.more_tenants), (joined.clone(), true));
        assert_eq!((slugs(&answer.tenants), answer.more_tenants), (joined, true));
        // Only who asks for them gets them.
        let answer = world.validate(&token).await.unwrap();
        assert!(answer.tenants.is_empty() && !answer.more_tenants);
        // One that is none of hers does not count.
        let sql = world.sql().await;
        sql.execute(&format!("UPDATE memberships SET state = 'removed' WHERE user_id = {} AND tenant_id = (SELECT id FROM tenants WHERE slug = 't-0')",
            literal(&world, ann.id.as_uuid()))).await;
        let answer = with_tenants(&world, &token).await;
        assert_eq!((answer.tenants.len(), answer.more_tenants), (100, false));
    }
}
