//! Nobody gives what they do not hold (invariant 22): whoever makes or enables an account, or adds a secret to it, could act as it.

use std::time::Duration;

use doorward::{
    domain::{roles, service_accounts},
    store::{service_accounts::AccountState, tenants::Tenant},
};

use super::*;

const KEEPER: &str = "doorward.service_accounts:*";

async fn role(world: &World, tenant: &Tenant, name: &str, level: i32, permissions: &[&str]) {
    let permissions = permissions.iter().map(|&permission| permission.to_owned()).collect();
    let request = roles::NewRoleRequest { name: name.to_owned(), level, permissions, description: String::new() };
    roles::create(world.app(), tenant, request, cli()).await.unwrap();
}

/// What a caller gets on every path by which they could act as an account with these rights: to make one, to enable one, to add a secret.
/// Then on those that only take away, which must be open.
async fn giving(desk: &Desk<'_>, roles: &[&str], permissions: &[&str]) -> Vec<String> {
    let world = desk.world;
    let list = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let request = v1::CreateServiceAccountRequest { roles: list(roles), permissions: list(permissions), ..desk.new_account() };
    let tenant = match desk.tenant_id.as_str() {
        "" => None,
        _ => Some(doorward::domain::tenants::resolve(world.app(), &desk.tenant_id).await.unwrap()),
    };
    let account = match &tenant {
        Some(tenant) => tenant_account(world, tenant, roles).await,
        None => instance_account(world, permissions).await,
    };
    let disabled = service_accounts::set_state(world.app(), operator(world, tenant.as_ref()), account.key(), AccountState::Disabled);
    disabled.await.unwrap();
    let before = trail(world).await.len();
    let outcomes = vec![word(desk.create(request).await), word(desk.enable(&account.id).await), word(desk.add_secret(&account.id).await)];
    let granted = outcomes.iter().filter(|outcome| *outcome == "OK").count();
    assert_eq!(trail(world).await.len() - before, granted, "what is refused leaves no event");
    desk.disable(&account.id).await.unwrap();
    desk.remove_secret(&account.id, &account.secret_id, true).await.unwrap();
    desk.delete(&account.id).await.unwrap();
    outcomes
}

#[track_caller]
fn all(outcomes: &[String], expected: &str) {
    assert_eq!(outcomes, [expected; 3].map(str::to_owned));
}

const EXCEEDS: &str = "GRANT_EXCEEDS_OWN";

on_both! {
    async fn in_a_tenant_nobody_gives_a_level_or_a_permission_that_they_do_not_hold(world: World) {
        let acme = world.tenant("acme").await;
        role(&world, &acme, "keeper", 50, &[KEEPER, "sales:*"]).await;
        role(&world, &acme, "peer", 50, &["sales:read"]).await;
        role(&world, &acme, "above", 51, &[]).await;
        role(&world, &acme, "below", 49, &["sales:read", "sales:write"]).await;
        role(&world, &acme, "wider", 10, &["sales:read", "purchases:read"]).await;
        role(&world, &acme, "widest", 10, &["*:read"]).await;
        role(&world, &acme, "twin", 49, &[KEEPER]).await;
        let ann = Desk::member(&world, &acme, "ann@example.com", &["keeper"]).await;
        for fine in [&[][..], &["below"], &["member", "below"], &["twin"]] {
            all(&giving(&ann, fine, &[]).await, "OK");
        }
        for much in [&["peer"][..], &["above"], &["wider"], &["widest"], &["admin"], &["owner"], &["keeper"], &["below", "wider"], &["owner", "below"]] {
            all(&giving(&ann, much, &[]).await, EXCEEDS);
        }
        // Two roles together: the highest level, and all permissions.
        role(&world, &acme, "buyer", 5, &["purchases:read"]).await;
        let bob = Desk::member(&world, &acme, "bob@example.com", &["keeper", "buyer"]).await;
        all(&giving(&bob, &["wider"], &[]).await, "OK");
        // An owner gives all, their own role too.
        let olga = Desk::member(&world, &acme, "olga@example.com", &["owner"]).await;
        for roles in [&["owner"][..], &["admin", "keeper"]] {
            all(&giving(&olga, roles, &[]).await, "OK");
        }
        let root = Desk::superuser(&world).await;
        all(&giving(&root.at(&acme.id.to_string()), &["owner"], &[]).await, "OK");
    }

    async fn a_token_with_a_scope_gives_no_role(world: World) {
        let acme = world.tenant("acme").await;
        let olga = Desk::member(&world, &acme, "olga@example.com", &["owner"]).await;
        let capped = grant(&world, "olga@example.com", Ask { scope: "*:*", ..Ask::default() }).await.unwrap().access_token;
        let capped = olga.with_token(capped);
        all(&giving(&capped, &["member"], &[]).await, EXCEEDS);
        all(&giving(&capped, &[], &[]).await, "OK");
        let reader = grant(&world, "olga@example.com", Ask { scope: "doorward.service_accounts:read", ..Ask::default() }).await.unwrap();
        let reader = olga.with_token(reader.access_token);
        let account = olga.made(&[]).await;
        reader.get(&account.id).await.unwrap();
        assert_eq!(refused(reader.disable(&account.id).await), "PERMISSION_MISSING");
        let narrowed = grant(&world, "olga@example.com", Ask { audience: &["doorward-clients"], ..Ask::default() }).await.unwrap();
        assert_eq!(refused(olga.with_token(narrowed.access_token).get(&account.id).await), "AUDIENCE_MISMATCH");
    }

    async fn an_account_gives_no_more_than_a_person_would(world: World) {
        let acme = world.tenant("acme").await;
        role(&world, &acme, "keeper", 50, &[KEEPER]).await;
        let keeper = tenant_account(&world, &acme, &["keeper"]).await;
        let by_keeper = Desk { world: &world, token: token(&world, &keeper).await, tenant_id: acme.id.to_string() };
        all(&giving(&by_keeper, &["member"], &[]).await, "OK");
        all(&giving(&by_keeper, &["keeper"], &[]).await, EXCEEDS);
        all(&giving(&by_keeper, &["admin"], &[]).await, EXCEEDS);
        // Itself it can look at and end, but give no further secret: its level is not below its own.
        by_keeper.get(&keeper.id).await.unwrap();
        assert_eq!(refused(by_keeper.add_secret(&keeper.id).await), EXCEEDS);
        let capped = credentials(&world, &keeper.id, &keeper.secret, Ask { scope: KEEPER, ..Ask::default() }).await.unwrap();
        all(&giving(&by_keeper.with_token(capped.access_token), &["member"], &[]).await, EXCEEDS);
        by_keeper.disable(&keeper.id).await.unwrap();
        assert_eq!(refused(by_keeper.get(&keeper.id).await), "PRINCIPAL_DISABLED");
        // An owner's is an owner.
        let owner = tenant_account(&world, &acme, &["owner"]).await;
        let by_owner = by_keeper.with_token(token(&world, &owner).await);
        by_owner.add_secret(&owner.id).await.unwrap();
        // Without the permission it does nothing, not to itself either.
        let member = tenant_account(&world, &acme, &["member"]).await;
        let by_member = by_keeper.with_token(token(&world, &member).await);
        assert_eq!(refused(by_member.get(&member.id).await), "PERMISSION_MISSING");
        assert_eq!(refused(by_member.remove_secret(&member.id, &member.secret_id, false).await), "PERMISSION_MISSING");
    }

    async fn of_the_instance_nobody_gives_a_permission_that_they_do_not_hold(world: World) {
        world.tenant("acme").await;
        let keeper = instance_account(&world, &[KEEPER, "doorward.audit:read"]).await;
        let by_keeper = Desk { world: &world, token: token(&world, &keeper).await, tenant_id: String::new() };
        for fine in [&[][..], &["doorward.audit:read"], &[KEEPER, "doorward.audit:read"], &BOTH] {
            all(&giving(&by_keeper, &[], fine).await, "OK");
        }
        for much in [&["doorward.deliveries:read"][..], &["doorward.audit:*"], &["doorward.audit:read", "doorward.deliveries:read"]] {
            all(&giving(&by_keeper, &[], much).await, EXCEEDS);
        }
        // It holds what it holds: itself a further secret, but not by a token that is capped.
        by_keeper.add_secret(&keeper.id).await.unwrap();
        let capped = credentials(&world, &keeper.id, &keeper.secret, Ask { scope: KEEPER, ..Ask::default() }).await.unwrap();
        let capped = by_keeper.with_token(capped.access_token);
        assert_eq!(refused(capped.add_secret(&keeper.id).await), EXCEEDS);
        all(&giving(&capped, &[], &["doorward.audit:read"]).await, EXCEEDS);
        all(&giving(&capped, &[], &BOTH).await, "OK");
        let root = Desk::superuser(&world).await;
        all(&giving(&root, &[], &["doorward.deliveries:read", "doorward.audit:*"]).await, "OK");
    }

    async fn each_right_is_for_its_own_half_and_place(world: World) {
        let acme = world.tenant("acme").await;
        let account = instance_account(&world, &[]).await;
        let of = async |permissions: &[&str]| {
            let workload = instance_account(&world, permissions).await;
            Desk { world: &world, token: token(&world, &workload).await, tenant_id: String::new() }
        };
        let (reader, writer, nobody) = (of(&BOTH[..1]).await, of(&BOTH[1..]).await, of(&["doorward.audit:read"]).await);
        reader.get(&account.id).await.unwrap();
        reader.list(0, "").await.unwrap();
        writer.disable(&account.id).await.unwrap();
        for answer in [
            reader.disable(&account.id).await.map(drop), reader.create(reader.new_account()).await.map(drop), reader.delete(&account.id).await,
            writer.get(&account.id).await.map(drop), writer.list(0, "").await.map(drop), nobody.get(&account.id).await.map(drop),
            nobody.add_secret(&account.id).await.map(drop),
        ] {
            assert_eq!(refused(answer), "PERMISSION_MISSING");
        }
        // An instance-wide account is a member of no tenant, and a tenant's is nobody at the instance.
        assert_eq!(refused(writer.at(&acme.id.to_string()).list(0, "").await), "NOT_A_MEMBER");
        let owner = tenant_account(&world, &acme, &["owner"]).await;
        let by_owner = Desk { world: &world, token: token(&world, &owner).await, tenant_id: String::new() };
        assert_eq!(refused(by_owner.list(0, "").await), "PERMISSION_MISSING");
        assert_eq!(refused(by_owner.create(by_owner.new_account()).await), "PERMISSION_MISSING");
        let ann = Desk::member(&world, &acme, "ann@example.com", &["owner"]).await;
        assert_eq!(refused(ann.at("").create(by_owner.new_account()).await), "SUPERUSER_REQUIRED");
        assert_eq!(refused(ann.at("").list(0, "").await), "SUPERUSER_REQUIRED");
    }

    async fn an_instance_wide_caller_needs_no_subject_and_lends_its_rights_to_none(world: World) {
        let acme = world.tenant("acme").await;
        let keeper = instance_account(&world, &BOTH).await;
        let caller = token(&world, &keeper).await;
        let request = || v1::ListServiceAccountsRequest::default();
        accounts(&world).list_service_accounts(by_caller(request(), &caller)).await.unwrap();
        // A person behind the caller is judged as the person.
        let ann = Desk::member(&world, &acme, "ann@example.com", &["owner"]).await;
        let mut both = by_caller(request(), &caller);
        both.metadata_mut().insert("authorization", format!("Bearer {}", ann.token).parse().unwrap());
        assert_eq!(refused(accounts(&world).list_service_accounts(both).await), "SUPERUSER_REQUIRED");
        // Nor is the caller anybody in a tenant.
        let owner = tenant_account(&world, &acme, &["owner"]).await;
        let in_acme = v1::ListServiceAccountsRequest { tenant_id: acme.id.to_string(), ..request() };
        let owner = token(&world, &owner).await;
        assert_eq!(refused(accounts(&world).list_service_accounts(by_caller(in_acme.clone(), &owner)).await), "TOKEN_MISSING");
        accounts(&world).list_service_accounts(bearer(in_acme, &owner)).await.unwrap();
        assert_eq!(refused(accounts(&world).list_service_accounts(by_caller(request(), &owner)).await), "PERMISSION_MISSING");
        assert_eq!(refused(accounts(&world).list_service_accounts(request()).await), "TOKEN_MISSING");
    }

    async fn what_changes_the_instance_needs_a_login_of_the_last_ten_minutes(world: World) {
        let acme = world.tenant("acme").await;
        let root = Desk::superuser(&world).await;
        let (wide, own) = (instance_account(&world, &[]).await, tenant_account(&world, &acme, &["member"]).await);
        world.pass(Duration::from_mins(10));
        root.disable(&wide.id).await.unwrap();
        world.pass(Duration::from_secs(1));
        for answer in [
            root.create(root.new_account()).await.map(drop), root.disable(&wide.id).await.map(drop), root.enable(&wide.id).await.map(drop),
            root.add_secret(&wide.id).await.map(drop), root.remove_secret(&wide.id, &wide.secret_id, false).await, root.delete(&wide.id).await,
        ] {
            assert_eq!(refused(answer), "REAUTHENTICATION_REQUIRED");
        }
        root.get(&wide.id).await.unwrap();
        root.list(0, "").await.unwrap();
        let in_acme = root.at(&acme.id.to_string());
        in_acme.disable(&own.id).await.unwrap();
        in_acme.create(in_acme.new_account()).await.unwrap();
        // A workload has no login that could be old.
        let keeper = instance_account(&world, &BOTH).await;
        let by_keeper = root.with_token(token(&world, &keeper).await);
        world.pass(Duration::from_mins(14));
        by_keeper.disable(&wide.id).await.unwrap();
    }
}
