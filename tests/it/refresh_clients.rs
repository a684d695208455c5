//! Whose a session is: it works for its client only, and one of nobody in particular becomes that of the first known caller that refreshes
//! it (invariant 10).

use std::time::Duration;

use doorward::{
    app::App,
    domain::{
        access::Accepts,
        audit::Origin,
        callers::Client,
        refresh::{self, Request},
        sessions::{self, Ending},
        tokens::{TokenSet, Wanted},
    },
    error::{Error, Result},
    values::permission::Scope,
};
use secrecy::ExposeSecret as _;
use tokio::task::JoinSet;

use crate::{harness::*, on_both, probe::*};

const SHOP: &str = "018f0000-0000-7000-8000-000000000001";
const BANK: &str = "018f0000-0000-7000-8000-000000000002";

fn known(id: &str) -> Client {
    Client { id: id.to_owned(), is_known: true }
}

fn origin(app: &App, client: &Client) -> Origin {
    Origin { request_id: Some("seen".to_owned()), client_id: Some(client.id.clone()), ..Origin::local(app) }
}

async fn refresh_for(app: &App, client: &Client, token: &str, scope: &str) -> Result<TokenSet> {
    let wanted = Wanted { scope: Scope::parse(scope).unwrap(), audience: Vec::new() };
    let origin = origin(app, client);
    let request = Request { token: token.to_owned(), tenant_id: String::new(), wanted, client: client.clone(), origin };
    refresh::refresh(app, request).await
}

/// A refresh that must be good: the refresh token, and the client that the access token names.
async fn good(app: &App, client: &Client, token: &str) -> (String, String) {
    let set = refresh_for(app, client, token, "").await.unwrap();
    let client_id = payload(set.access_token.expose_secret())["client_id"].as_str().unwrap().to_owned();
    (set.refresh_token.unwrap().expose_secret().to_owned(), client_id)
}

async fn logout_for(app: &App, client: &Client, token: &str) -> Result<()> {
    sessions::end(app, Ending::RefreshToken(token.to_owned()), Accepts::default(), client, origin(app, client)).await
}

/// The reason of a refusal.
fn why<T>(answer: Result<T>) -> &'static str {
    answer.err().expect("should have been refused").reason().0
}

async fn client_of(world: &World) -> String {
    strings(&world.sql().await, "SELECT client_id AS line FROM sessions").await.remove(0)
}

async fn set_client(world: &World, client_id: &str) {
    world.sql().await.execute(&format!("UPDATE sessions SET client_id = '{client_id}'")).await;
}

on_both! {
    async fn a_session_works_for_its_client_only(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await.refresh_token;
        set_client(&world, SHOP).await;
        let (second, client_id) = good(world.app(), &known(SHOP), &first).await;
        assert_eq!(client_id, SHOP);
        world.pass(Duration::from_mins(1));
        let sql = world.sql().await;
        let before = (rows(&sql, "sessions").await, rows(&sql, "audit_events").await);
        let unknown = Client::of(world.app(), None);
        let strangers = [known(BANK), unknown, known("doorward"), known("imported"), Client { id: BANK.to_owned(), is_known: false }];
        for stranger in &strangers {
            // The old one too: reuse by a stranger must not end the owner's session.
            for token in [&second, &first] {
                assert_eq!(why(refresh_for(world.app(), stranger, token, "").await), "TOKEN_INVALID", "{stranger:?}");
                assert_eq!(why(refresh_for(world.app(), stranger, token, "sales:read").await), "TOKEN_INVALID", "{stranger:?}");
                assert_eq!(why(logout_for(world.app(), stranger, token).await), "TOKEN_INVALID", "{stranger:?}");
            }
        }
        assert_eq!((rows(&sql, "sessions").await, rows(&sql, "audit_events").await), before);

        let (_, client_id) = good(world.app(), &known(SHOP), &second).await;
        assert_eq!(client_id, SHOP);
        logout_for(world.app(), &known(SHOP), &first).await.unwrap();
        // What is over is over for everybody.
        logout_for(world.app(), &known(BANK), &first).await.unwrap();
        assert_eq!(world.count_events("session.revoked").await, 1);
    }

    async fn a_session_of_nobody_becomes_the_first_known_caller_s(world: World) {
        world.person("ann@example.com").await;
        for (owner, scope) in [("doorward", ""), ("imported", ""), ("doorward", "sales:read"), ("imported", "sales:read")] {
            let sql = world.sql().await;
            sql.execute("DELETE FROM sessions").await;
            let first = world.login("ann@example.com").await;
            assert_eq!(payload(&first.access_token)["client_id"], "doorward");
            set_client(&world, owner).await;

            let set = refresh_for(world.app(), &known(SHOP), &first.refresh_token, scope).await.unwrap();

            assert_eq!(payload(set.access_token.expose_secret())["client_id"], SHOP, "{owner} {scope}");
            assert_eq!(client_of(&world).await, SHOP);
            assert_eq!(sql.count("SELECT refresh_generation AS n FROM sessions").await, 1, "in the same update");
            let second = set.refresh_token.unwrap().expose_secret().to_owned();
            for stranger in [known(BANK), Client::of(world.app(), None)] {
                assert_eq!(why(refresh_for(world.app(), &stranger, &second, "").await), "TOKEN_INVALID");
                // Not healed either: the one before is the new client's too.
                assert_eq!(why(refresh_for(world.app(), &stranger, &first.refresh_token, "").await), "TOKEN_INVALID");
            }
            assert_eq!(good(world.app(), &known(SHOP), &first.refresh_token).await, (second.clone(), SHOP.to_owned()));
            world.pass(Duration::from_mins(1));
            assert_eq!(why(refresh_for(world.app(), &Client::of(world.app(), None), &first.refresh_token, "").await), "TOKEN_INVALID");
            good(world.app(), &known(SHOP), &second).await;
        }
        assert_eq!(world.count_events("session.refresh_token_reused").await, 0);
    }

    async fn who_has_no_identity_takes_nothing_over(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await.refresh_token;
        let unknown = Client::of(world.app(), None);
        let (second, client_id) = good(world.app(), &unknown, &first).await;
        assert_eq!((client_id.as_str(), client_of(&world).await.as_str()), ("doorward", "doorward"));
        set_client(&world, "imported").await;
        for token in [&second, &first] {
            assert_eq!(why(refresh_for(world.app(), &unknown, token, "").await), "TOKEN_INVALID");
        }
        assert_eq!(why(logout_for(world.app(), &unknown, &second).await), "TOKEN_INVALID");
        assert_eq!(client_of(&world).await, "imported");
        logout_for(world.app(), &known(SHOP), &second).await.unwrap();
        assert_eq!(world.count_events("session.revoked").await, 1);
    }

    async fn a_refused_refresh_takes_nothing_over(world: World) {
        world.person("ann@example.com").await;
        let capped = grant(&world, "ann@example.com", Ask { scope: "sales:read", ..Ask::default() }).await.unwrap();
        let sql = world.sql().await;
        let before = rows(&sql, "sessions").await;
        assert_eq!(why(refresh_for(world.app(), &known(SHOP), &capped.refresh_token, "sales:write").await), "INVALID_FIELD");
        assert_eq!(rows(&sql, "sessions").await, before);
    }

    async fn a_lost_answer_is_healed_for_the_known_caller_who_takes_the_session_with_it(world: World) {
        world.person("ann@example.com").await;
        let unknown = Client::of(world.app(), None);
        let first = world.login("ann@example.com").await.refresh_token;
        let (second, _) = good(world.app(), &unknown, &first).await;

        assert_eq!(good(world.app(), &known(SHOP), &first).await, (second.clone(), SHOP.to_owned()));

        assert_eq!(client_of(&world).await, SHOP);
        assert_eq!(world.sql().await.count("SELECT refresh_generation AS n FROM sessions").await, 1);
        for stranger in [unknown, known(BANK)] {
            for token in [&first, &second] {
                assert_eq!(why(refresh_for(world.app(), &stranger, token, "").await), "TOKEN_INVALID");
            }
        }
        good(world.app(), &known(SHOP), &second).await;
    }

    async fn of_many_known_callers_one_gets_the_session(world: World) {
        world.person("ann@example.com").await;
        let other = world.another_replica().await;
        for round in 0..4 {
            world.sql().await.execute("DELETE FROM sessions").await;
            let first = world.login("ann@example.com").await.refresh_token;
            let first = if round % 2 == 0 {
                first
            } else {
                // The answer of one who has no identity was lost: all come to heal.
                good(world.app(), &Client::of(world.app(), None), &first).await;
                first
            };
            let mut uses = JoinSet::new();
            for number in 0..32 {
                let app = if number % 2 == 0 { std::sync::Arc::clone(&world.replica.app) } else { std::sync::Arc::clone(&other.app) };
                let (client, token) = (known(if number % 3 == 0 { SHOP } else { BANK }), first.clone());
                uses.spawn(async move {
                    match refresh_for(&app, &client, &token, "").await {
                        Ok(set) => (client.id, payload(set.access_token.expose_secret())["client_id"].as_str().unwrap().to_owned()),
                        Err(error) => (client.id, error.reason().0.to_owned()),
                    }
                });
            }
            let answers = uses.join_all().await;
            let winner = client_of(&world).await;
            assert!([SHOP, BANK].contains(&winner.as_str()));
            for (client, answer) in answers {
                assert_eq!(answer, if client == winner { &winner } else { "TOKEN_INVALID" }, "{client} where {winner} has the session");
            }
        }
        assert_eq!(world.count_events("session.refresh_token_reused").await, 0);
        other.stop().await;
    }

    async fn the_trail_names_the_client_that_came_with_an_old_token(world: World) {
        let ann = world.person("ann@example.com").await;
        let unknown = Client::of(world.app(), None);
        let first = world.login("ann@example.com").await.refresh_token;
        let (second, _) = good(world.app(), &unknown, &first).await;
        let (third, _) = good(world.app(), &unknown, &second).await;
        // Within one second, by a caller who might have had the session.
        assert!(matches!(refresh_for(world.app(), &known(SHOP), &first, "").await, Err(Error::RefreshTokenReused)));

        assert_eq!(why(refresh_for(world.app(), &unknown, &third, "").await), "SESSION_REVOKED");
        let row = world.sql().await.query("SELECT client_id, request_id, details FROM audit_events WHERE event LIKE '%reused'").await.remove(0);
        let text = |column: &str| row.try_get::<String>("", column).unwrap();
        assert_eq!((text("client_id").as_str(), text("request_id").as_str()), (SHOP, "seen"));
        assert_eq!(
            row.try_get::<serde_json::Value>("", "details").unwrap(),
            serde_json::json!({
                "user_id": ann.id.to_string(),
                "session_client_id": "doorward",
                "generation": 0,
                "current_generation": 2,
                "seconds_since_rotation": 0,
            })
        );
    }
}
