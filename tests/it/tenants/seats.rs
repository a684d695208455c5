//! Seats: never more members than the limit says.

use doorward::error::{Error, Result};

use super::*;

async fn add(world: &World, tenant: &Tenant, email: &str) -> Result<MembershipId> {
    let user = world.new_person(Person { email: Some(email), password: None, ..Person::default() }).await;
    domain::memberships::add(world.app(), tenant, &user, Vec::new(), cli()).await.map(|(membership, _)| membership.id)
}

async fn members(world: &World) -> i64 {
    world.sql().await.count("SELECT count(*) AS n FROM memberships WHERE state <> 'removed'").await
}

on_both! {
    async fn the_limit_is_the_last_seat(world: World) {
        let acme = tenant_of(&world, "acme", Some(2)).await;
        add(&world, &acme, "a@example.com").await.unwrap();
        add(&world, &acme, "b@example.com").await.unwrap();
        let events = world.count_events("member.added").await;
        let full = add(&world, &acme, "c@example.com").await.unwrap_err();
        assert_eq!(full.reason().0, "SEAT_LIMIT");
        assert_eq!((members(&world).await, world.count_events("member.added").await), (2, events));
        // The limit is the tenant's, as the database has it now, not as it was when somebody looked it up.
        world.sql().await.execute("UPDATE tenants SET seat_limit = 3").await;
        add(&world, &acme, "d@example.com").await.unwrap();
        assert_eq!(add(&world, &acme, "e@example.com").await.unwrap_err().reason().0, "SEAT_LIMIT");
    }

    async fn no_limit_is_no_limit_and_zero_is_no_seat(world: World) {
        let (free, closed) = (tenant_of(&world, "free", None).await, tenant_of(&world, "closed", Some(0)).await);
        for number in 0..5 {
            add(&world, &free, &format!("{number}@example.com")).await.unwrap();
        }
        assert!(matches!(add(&world, &closed, "a@example.com").await, Err(Error::SeatLimit)));
        assert_eq!(members(&world).await, 5, "those of the one tenant do not count in the other");
    }

    async fn a_limit_below_zero_is_refused(world: World) {
        let request = domain::tenants::NewTenantRequest {
            slug: "acme".to_owned(), name: "Acme".to_owned(), tax_id: None, external_id: None, seat_limit: Some(-1),
        };
        let error = domain::tenants::create(world.app(), request, cli()).await.unwrap_err();
        assert_eq!(error.reason().0, "INVALID_FIELD");
    }

    async fn suspended_and_invited_members_sit_and_removed_ones_do_not(world: World) {
        let acme = tenant_of(&world, "acme", Some(3)).await;
        let ann = world.person("ann@example.com").await;
        world.member(&acme, &ann, &[]).await;
        for state in ["suspended", "invited"] {
            add(&world, &acme, &format!("{state}@example.com")).await.unwrap();
            world.sql().await.execute(&format!("UPDATE memberships SET state = '{state}' WHERE user_id = (SELECT id FROM users WHERE email = '{state}@example.com')")).await;
        }
        assert!(matches!(add(&world, &acme, "late@example.com").await, Err(Error::SeatLimit)));
        domain::memberships::remove(world.app(), &acme, &ann, cli()).await.unwrap();
        add(&world, &acme, "next@example.com").await.unwrap();
        // Who left queues like everybody else.
        let again = domain::memberships::add(world.app(), &acme, &ann, Vec::new(), cli()).await;
        assert!(matches!(again, Err(Error::SeatLimit)), "{again:?}");
        assert_eq!(members(&world).await, 3);
    }

    async fn twenty_parallel_adds_over_two_replicas_take_no_seat_too_many(world: World) {
        let acme = tenant_of(&world, "acme", Some(7)).await;
        let other = world.another_replica().await;
        let mut people = Vec::new();
        for number in 0..20 {
            people.push(world.new_person(Person { email: Some(&format!("{number}@example.com")), password: None, ..Person::default() }).await);
        }
        let adds: Vec<_> = people
            .into_iter()
            .enumerate()
            .map(|(number, user)| {
                let app = std::sync::Arc::clone(if number % 2 == 0 { &world.replica.app } else { &other.app });
                let acme = acme.clone();
                tokio::spawn(async move { domain::memberships::add(&app, &acme, &user, vec!["member".to_owned()], cli()).await })
            })
            .collect();
        let (mut seated, mut refused) = (0, 0);
        for add in adds {
            match add.await.unwrap() {
                Ok(_) => seated += 1,
                Err(Error::SeatLimit) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!((seated, refused), (7, 13));
        assert_eq!((members(&world).await, world.count_events("member.added").await), (7, 7));
        other.stop().await;
    }
}
