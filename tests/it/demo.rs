//! The demo: whole on an empty database, nothing on another.

use std::collections::BTreeMap;

use doorward::{
    domain::demo::{self, Demo},
    values::secret::Password,
};

use crate::{bad_input, harness::*, on_both};

async fn fill(world: &World) -> Option<Demo> {
    demo::fill(world.app(), &Password::new(PASSWORD.to_owned()), &cli()).await.unwrap()
}

on_both! {
    async fn everybody_logs_in_and_may_what_the_table_says(world: World) {
        assert!(demo::is_empty(world.app()).await.unwrap());
        let demo = fill(&world).await.unwrap();

        assert_eq!((demo.tenants.len(), demo.users.len()), (2, 5));
        assert!(demo.tenants.iter().all(|tenant| tenant.tax_id.is_some()) && demo.tenants.iter().any(|tenant| tenant.seat_limit.is_some()));
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for user in &demo.users {
            let email = user.email.clone().unwrap();
            let login = world.try_login(&email, PASSWORD, "").await.unwrap();
            assert!(!login.tokens.unwrap().refresh_token.is_empty(), "nobody must change the password");
            let tenants = login.tenants.iter().map(|entry| {
                let roles: Vec<&str> = entry.roles.iter().map(|role| role.name.as_str()).collect();
                format!("{} {} {}", entry.slug, roles.join(","), entry.permissions.join(","))
            });
            // Made within one millisecond, they are in no certain order.
            let mut tenants: Vec<String> = tenants.collect();
            tenants.sort();
            found.insert(email, tenants);
        }
        let expected = BTreeMap::from([
            ("olivia@acme.example".to_owned(), vec!["acme owner *:*".to_owned()]),
            ("sam@acme.example".to_owned(), vec![
                "acme seller invoices:read,sales:read,sales:write".to_owned(),
                "globex analyst reports:*,sales:read".to_owned(),
            ]),
            ("grace@globex.example".to_owned(), vec!["globex owner *:*".to_owned()]),
            // Listed, but not usable: without rights.
            ("max@acme.example".to_owned(), vec!["acme  ".to_owned()]),
        ]);
        let admin = found.remove("adam@acme.example").unwrap();
        assert!(admin.len() == 1 && admin[0].starts_with("acme admin doorward."), "{admin:?}");
        assert_eq!(found, expected);
        let acme = &demo.tenants[0].id.to_string();
        assert_eq!(refused(world.try_login("max@acme.example", PASSWORD, acme).await), "MEMBERSHIP_SUSPENDED");
        world.try_login("sam@acme.example", PASSWORD, acme).await.unwrap();
        for (event, count) in [("tenant.created", 2), ("role.created", 2), ("user.created", 5), ("member.added", 6)] {
            assert_eq!(world.count_events(event).await, count, "{event}");
        }
    }

    async fn a_database_that_is_not_empty_is_left_as_it_is(world: World) {
        world.person("ann@example.com").await;
        let before = bad_input::rows(&world).await;
        assert!(!demo::is_empty(world.app()).await.unwrap());
        assert!(fill(&world).await.is_none());
        assert_eq!(bad_input::rows(&world).await, before);
    }

    async fn a_tenant_alone_is_not_empty_either(world: World) {
        world.tenant("mine").await;
        assert!(fill(&world).await.is_none());
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM users").await, 0);
    }

    async fn of_two_at_once_one_fills_it(world: World) {
        let other = world.another_replica().await;
        let password = Password::new(PASSWORD.to_owned());
        let actor = cli();
        let (one, two) = tokio::join!(demo::fill(world.app(), &password, &actor), demo::fill(&other.app, &password, &actor));
        assert_eq!([one.unwrap(), two.unwrap()].iter().flatten().count(), 1);
        assert_eq!(world.sql().await.count("SELECT count(*) AS n FROM users").await, 5);
    }

    async fn a_password_that_breaks_a_rule_fills_nothing(world: World) {
        let refused = demo::fill(world.app(), &Password::new("short".to_owned()), &cli()).await;
        assert!(matches!(refused, Err(doorward::error::Error::PasswordRejected(_))), "{refused:?}");
        assert!(demo::is_empty(world.app()).await.unwrap());
    }
}
