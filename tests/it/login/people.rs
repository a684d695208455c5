//! Who is one person: which spellings name the same one, and that a new one inherits nothing.

use crate::{harness::*, on_both};
use doorward::{
    domain::users::{self, NewUserRequest, set_state},
    pb::v1,
    store::users::UserState,
    values::secret::Password,
};

/// Makes a person where the names may be taken; answers the reason if so.
async fn create(world: &World, email: Option<&str>, username: Option<&str>) -> Result<String, &'static str> {
    let password = Some((Password::new(PASSWORD.to_owned()), false));
    let (email, username) = (email.map(str::to_owned), username.map(str::to_owned));
    let request = NewUserRequest { email, username, full_name: String::new(), superuser: false, password };
    users::create(world.app(), request, cli()).await.map(|user| user.id.to_string()).map_err(|error| error.reason().0)
}

/// Who is logged in by an identifier and [`PASSWORD`].
async fn who(world: &World, identifier: &str) -> String {
    world.try_login(identifier, PASSWORD, "").await.unwrap_or_else(|e| panic!("{identifier:?}: {e}")).user.unwrap().id
}

on_both! {
    async fn an_email_address_in_any_case_is_one_person(world: World) {
        let ann = create(&world, Some("ann@example.com"), None).await.unwrap();
        let zoe = create(&world, Some("ZO\u{cb}@b\u{fc}cher.example"), None).await.unwrap();
        for other in ["ANN@example.com", "Ann@Example.COM", "ann@EXAMPLE.com", "aNN@\u{ff45}xample.com"] {
            assert_eq!(create(&world, Some(other), None).await, Err("EMAIL_TAKEN"), "{other}");
            assert_eq!(who(&world, other).await, ann);
        }
        for other in ["zoe\u{308}@b\u{fc}cher.example", "Zo\u{eb}@BU\u{308}CHER.example", "zo\u{eb}@xn--bcher-kva.example"] {
            assert_eq!(create(&world, Some(other), None).await, Err("EMAIL_TAKEN"), "{other}");
            assert_eq!(who(&world, other).await, zoe);
        }
    }

    async fn of_parallel_registrations_of_one_address_one_is_made(world: World) {
        let other = world.another_replica().await;
        let spellings = ["ann@example.com", "ANN@example.com", "Ann@Example.com", "aNn@EXAMPLE.com", "anN@example.com", "ann@example.COM"];
        let mut tasks = Vec::new();
        for (turn, spelling) in spellings.into_iter().enumerate() {
            let app = std::sync::Arc::clone(if turn % 2 == 0 { &world.replica.app } else { &other.app });
            tasks.push(tokio::spawn(async move {
                let email = Some(spelling.to_owned());
                let request = NewUserRequest { email, username: None, full_name: String::new(), superuser: false, password: None };
                users::create(&app, request, cli()).await.map(drop).map_err(|error| error.reason().0)
            }));
        }
        let mut made = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(()) => made += 1,
                Err(reason) => assert_eq!(reason, "EMAIL_TAKEN"),
            }
        }
        assert_eq!((made, world.sql().await.count("SELECT count(*) AS n FROM users").await), (1, 1));
    }

    async fn a_user_name_is_one_in_any_case_and_compatible_form(world: World) {
        let ann = create(&world, None, Some("Ann M\u{fc}ller \u{fb01}n")).await.unwrap();
        for other in ["ann m\u{fc}ller fin", "ANN MU\u{308}LLER FIN", "\u{ff21}nn m\u{fc}ller \u{fb01}n", "ann m\u{fc}ller \u{ff46}in"] {
            assert_eq!(create(&world, None, Some(other)).await, Err("USERNAME_TAKEN"), "{other}");
            assert_eq!(who(&world, other).await, ann);
        }
    }

    async fn what_only_looks_alike_is_two_people(world: World) {
        let families: [&[&str]; 5] = [
            // Dotless i, its Turkish capital, Cyrillic a, sharp s, an accent.
            &["dilan@example.com", "d\u{131}lan@example.com", "d\u{130}lan@example.com"],
            &["ann@example.org", "\u{430}nn@example.org", "\u{e5}nn@example.org", "\u{ff41}nn@example.org"],
            &["strasse@example.com", "stra\u{df}e@example.com"],
            &["a.nn@example.net", "ann@example.net", "ann+x@example.net"],
            &["dilan", "d\u{131}lan", "d\u{130}lan", "d\u{456}lan", "d\u{ed}lan"],
        ];
        for family in families {
            let mut ids = Vec::new();
            for name in family {
                let (email, username) = if name.contains('@') { (Some(*name), None) } else { (None, Some(*name)) };
                ids.push(create(&world, email, username).await.unwrap_or_else(|reason| panic!("{name}: {reason}")));
            }
            for (name, id) in family.iter().zip(&ids) {
                assert_eq!(who(&world, name).await, *id, "{name}");
            }
        }
        let dilan = who(&world, "DILAN@example.com").await;
        assert_eq!(dilan, who(&world, "dilan@example.com").await, "ASCII capitals are the plain letters, whatever the locale");
    }

    async fn a_user_name_is_never_an_email_address(world: World) {
        for name in ["ann@example.com", "ann\u{ff20}example.com", "ann\u{fe6b}example.com"] {
            assert_eq!(create(&world, None, Some(name)).await, Err("INVALID_FIELD"), "{name}");
        }
    }

    async fn who_registers_the_names_of_a_deleted_person_inherits_nothing(world: World) {
        let names = || Person { email: Some("ann@example.com"), username: Some("ann"), superuser: true, ..Person::default() };
        let old = world.new_person(names()).await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        world.member(&acme, &old, &["seller"]).await;
        let sets = [world.login("ann@example.com").await, world.login_to("ann", &acme).await];
        set_state(world.app(), &old, UserState::Deleted, cli()).await.unwrap();

        let new_password = "quite another long password";
        let new = world.new_person(Person { password: Some(new_password), superuser: false, ..names() }).await;
        assert_ne!(new.id, old.id);
        assert_eq!(refused(world.try_login("ann@example.com", PASSWORD, "").await), "INVALID_CREDENTIALS", "the old password");
        let login = world.try_login("ann@example.com", new_password, "").await.unwrap();
        let user = login.user.unwrap();
        assert_eq!((user.id.as_str(), user.superuser), (new.id.to_string().as_str(), false));
        assert!(login.tenants.is_empty());
        assert_eq!(refused(world.try_login("ann", new_password, &acme.id.to_string()).await), "NOT_A_MEMBER");
        let access = login.tokens.unwrap().access_token;
        let list = world.client().list_tenants(bearer(v1::ListTenantsRequest::default(), &access)).await.unwrap().into_inner();
        assert!(list.tenants.is_empty());

        // Not even when the new person has the same password, membership and epoch as the old one had.
        users::set_password(world.app(), &new, &Password::new(PASSWORD.to_owned()), false, cli()).await.unwrap();
        world.member(&acme, &new, &["seller"]).await;
        for set in &sets {
            assert_eq!(refused(world.validate(&set.access_token).await), "PRINCIPAL_DISABLED");
            assert_eq!(refused(world.refresh(&set.refresh_token).await), "PRINCIPAL_DISABLED");
            assert_eq!(refused(world.client().get_me(bearer(v1::GetMeRequest {}, &set.access_token)).await), "PRINCIPAL_DISABLED");
            assert_eq!(refused(world.change_password(&set.access_token, PASSWORD, new_password).await), "PRINCIPAL_DISABLED");
        }
        world.login_to("ann", &acme).await;
    }
}
