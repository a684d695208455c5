//! Roles: those that a tenant is born with, and that another tenant's cannot be linked.

use doorward::{error::Error, store::roles::Role};
use sea_orm::{ConnectionTrait, SqlErr, Statement};

use super::*;
use crate::access::ask_for;

async fn find_role(world: &World, tenant: &Tenant, name: &str) -> Role {
    let roles = domain::roles::list(world.app(), tenant.id).await.unwrap();
    roles.into_iter().find(|role| role.name == name).unwrap()
}

on_both! {
    async fn names_of_roles_that_no_token_could_carry_are_refused(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        let names: Vec<String> = (0..32).map(|n| format!("{n:02}{}", "\u{5f79}".repeat(60))).collect();
        for name in &names {
            world.role(&acme, name, &[]).await;
        }
        let refused = domain::memberships::add(world.app(), &acme, &ann, names, cli()).await.unwrap_err();
        assert!(matches!(&refused, Error::InvalidField(violations) if violations[0].field == "roles"), "{refused:?}");
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM memberships").await, 0);
    }

    async fn a_custom_role_that_looks_like_a_system_role_is_refused(world: World) {
        let acme = world.tenant("acme").await;
        for name in ["Owner", "ADMIN", "mEMBER"] {
            let request = domain::roles::NewRoleRequest {
                name: name.to_owned(), level: 1, permissions: Vec::new(), description: String::new(),
            };
            let refused = domain::roles::create(world.app(), &acme, request, cli()).await.unwrap_err();
            assert!(matches!(refused, Error::Taken(doorward::error::Taken::RoleName)), "{name}: {refused:?}");
        }
        assert_eq!(world.count_events("role.created").await, 0);
    }

    async fn whoever_is_deleted_becomes_no_member(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        domain::users::set_state(world.app(), &ann, doorward::store::users::UserState::Deleted, cli()).await.unwrap();
        // As the caller knew her before.
        let refused = domain::memberships::add(world.app(), &acme, &ann, vec!["member".to_owned()], cli()).await.unwrap_err();
        assert!(matches!(refused, Error::NotFound("user")), "{refused:?}");
        assert_eq!(world.count_events("member.added").await, 0);
    }

    async fn a_tenant_is_born_with_owner_admin_and_member(world: World) {
        let acme = world.tenant("acme").await;
        let roles = domain::roles::list(world.app(), acme.id).await.unwrap();
        let summary: Vec<_> = roles.iter().map(|role| (role.name.as_str(), role.level, role.system)).collect();
        assert_eq!(summary, [("owner", 100, true), ("admin", 60, true), ("member", 20, true)]);
        assert!(roles.iter().all(|role| role.tenant_id == acme.id));
        assert_eq!(roles[0].permissions.to_strings(), ["*:*"]);
        assert_eq!(roles[2].permissions.to_strings(), Vec::<String>::new());
        // An administrator runs the tenant in Doorward, does nothing in applications, and does not delete it.
        let admin = roles[1].permissions.to_strings();
        assert_eq!(admin, domain::roles::ADMIN_PERMISSIONS);
        assert!(admin.iter().all(|permission| permission.starts_with("doorward.") && !permission.contains('*')));
        assert!(!admin.iter().any(|permission| permission.ends_with(":delete")));
    }

    async fn system_roles_mean_the_same_over_the_wire(world: World) {
        let acme = world.tenant("acme").await;
        for (name, level, can, cannot) in [
            ("owner", 100, &["sales:write", "doorward.tenant:delete", "*:*"][..], &[][..]),
            ("admin", 60, &["doorward.members:write", "doorward.tenant:write"], &["sales:read", "doorward.tenant:delete", "*:*", "doorward.members:*"]),
            ("member", 20, &[], &["sales:read", "doorward.members:read"]),
        ] {
            let email = format!("{name}@example.com");
            let person = world.person(&email).await;
            world.member(&acme, &person, &[name]).await;
            let token = world.login(&email).await.access_token;
            let entry = world.validate_with(ask_for(&token, &acme, can)).await.unwrap().tenant.unwrap();
            assert_eq!((entry.roles[0].name.as_str(), entry.roles[0].level, entry.roles.len()), (name, level, 1));
            for permission in cannot {
                assert_eq!(refused(world.validate_with(ask_for(&token, &acme, &[permission])).await), "PERMISSION_MISSING", "{name}");
            }
        }
    }

    async fn a_custom_role_may_not_take_a_system_roles_name(world: World) {
        let acme = world.tenant("acme").await;
        for name in ["owner", "admin", "member"] {
            let request = domain::roles::NewRoleRequest {
                name: name.to_owned(), level: 1, permissions: texts(&["*:*"]), description: String::new(),
            };
            let error = domain::roles::create(world.app(), &acme, request, cli()).await.unwrap_err();
            assert_eq!(error.reason().0, "ROLE_NAME_TAKEN", "{name}");
        }
    }

    async fn a_role_of_another_tenant_does_not_exist_for_the_domain(world: World) {
        let ann = world.person("ann@example.com").await;
        let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
        world.role(&globex, "seller", &["sales:write"]).await;
        let foreign = find_role(&world, &globex, "seller").await;
        let before = world.count_events("member.added").await;
        for role in ["seller".to_owned(), foreign.id.to_string(), "nothing".to_owned()] {
            let added = domain::memberships::add(world.app(), &acme, &ann, vec!["owner".to_owned(), role], cli()).await;
            assert_eq!(added.unwrap_err().reason().0, "NOT_FOUND");
        }
        // Nothing of it is left.
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM memberships").await, 0);
        assert_eq!(world.count_events("member.added").await, before);
        // And past the domain, the store says the same.
        let app = world.app();
        let (id, now) = (MembershipId::generate(&app.entropy, &app.clock), app.clock.now());
        let unit = move |tx, (tenant, user, role)| async move { memberships::add(&tx, id, tenant, user, &[role], now).await };
        let added = app.store.write("test", (acme.id, ann.id, foreign.id), unit).await;
        assert!(matches!(added, Err(Error::NotFound("role"))), "{added:?}");
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM memberships").await, 0);
    }

    async fn the_database_itself_refuses_to_link_a_role_of_another_tenant(world: World) {
        let (ann, bob) = (world.person("ann@example.com").await, world.person("bob@example.com").await);
        let (acme, globex) = (world.tenant("acme").await, world.tenant("globex").await);
        world.member(&acme, &ann, &["member"]).await;
        world.member(&globex, &bob, &["member"]).await;
        let own = literal(&world, find_role(&world, &acme, "owner").await.id.as_uuid());
        let foreign = literal(&world, find_role(&world, &globex, "owner").await.id.as_uuid());
        let (acme_id, globex_id) = (literal(&world, acme.id.as_uuid()), literal(&world, globex.id.as_uuid()));
        let membership = format!("(SELECT id FROM memberships WHERE tenant_id = {acme_id})");
        let link = |tenant: &str, role: &str| {
            format!("INSERT INTO membership_roles (tenant_id, membership_id, role_id) VALUES ({tenant}, {membership}, {role})")
        };
        let sql = world.sql().await;
        for statement in [
            link(&acme_id, &foreign),
            link(&globex_id, &foreign),
            link(&globex_id, &own),
            format!("UPDATE membership_roles SET role_id = {foreign} WHERE membership_id = {membership}"),
            // Nor is a role that is held, or a membership that holds one, carried over.
            format!("UPDATE roles SET tenant_id = {acme_id}, name = 'stolen' WHERE tenant_id = {globex_id} AND name = 'member'"),
            format!("UPDATE memberships SET tenant_id = {globex_id} WHERE tenant_id = {acme_id}"),
        ] {
            let outcome = sql.0.execute_raw(Statement::from_string(sql.0.get_database_backend(), &statement)).await;
            let error = outcome.expect_err(&statement).sql_err();
            assert!(matches!(error, Some(SqlErr::ForeignKeyConstraintViolation(_))), "{statement}: {error:?}");
        }
        // Its own it links.
        assert_eq!(sql.execute(&link(&acme_id, &own)).await, 1);
    }
}
