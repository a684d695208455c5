//! What a refresh token is bound to: its own text, its row, its client, its tenant and its scope (invariant 10). Whatever does not fit is
//! refused and ends nothing; the token itself stays good.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::values::{
    entropy::Entropy,
    ids::SessionId,
    opaque::{Kind, RefreshToken},
};
use secrecy::ExposeSecret;

use crate::{harness::*, on_both, probe::*};

/// What the database says of every session and event.
async fn everything(world: &World) -> (Vec<String>, Vec<String>) {
    let sql = world.sql().await;
    (rows(&sql, "sessions").await, rows(&sql, "audit_events").await)
}

/// Every near miss of a token: cut, lengthened, in another case, with one bit changed, and a sample of rougher changes.
fn near_misses(token: &str, chance: &mut Chance) -> Vec<String> {
    let mut misses: Vec<String> = (0..token.len()).map(|length| token[..length].to_owned()).collect();
    misses.extend((1..token.len()).map(|start| token[start..].to_owned()));
    misses.extend(["A", "a", "=", "==", " ", "\n", "\0", ".", "AAAA", "\u{e9}"].iter().map(|more| format!("{token}{more}")));
    misses.extend([" ", "\n", "\u{feff}", "dw_rt_", "Bearer "].iter().map(|more| format!("{more}{token}")));
    misses.extend([".", "A", "dw_rt_", "\u{e9}"].iter().map(|part| part.repeat(60_000 / part.len())));
    misses.push(format!("{token}{}", "A".repeat(60_000)));
    misses.extend([token.to_uppercase(), token.to_lowercase(), token.replace('_', "-"), format!("{token}{token}")]);
    for (at, letter) in token.char_indices().filter(|(_, letter)| letter.is_ascii_alphabetic()) {
        let other = if letter.is_ascii_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
        misses.push(format!("{}{other}{}", &token[..at], &token[at + 1..]));
    }
    let (prefix, text) = token.split_at(6);
    let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        misses.push(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(flipped)));
    }
    misses.extend(Kind::ALL.iter().filter(|kind| **kind != Kind::Refresh).map(|kind| format!("{}{text}", kind.prefix())));
    for _ in 0..100 {
        let mut changed = bytes.clone();
        for _ in 0..=chance.below(8) {
            let at = chance.below(changed.len());
            changed[at] = chance.next().to_le_bytes()[0];
        }
        misses.push(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(changed)));
    }
    misses.retain(|miss| miss != token);
    misses
}

on_both! {
    async fn every_near_miss_is_refused_and_touches_nothing(world: World) {
        let world = world.quiet().await;
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        // A live chain with a past, so that a lower generation would be reuse.
        let second = world.refresh(&first.refresh_token).await.unwrap();
        let token = world.refresh(&second.refresh_token).await.unwrap().refresh_token;
        let before = everything(&world).await;
        let mut client = world.client();
        let statements = world.app().store.statements();
        for miss in near_misses(&token, &mut Chance::new()) {
            assert_eq!(refused(refresh_with(&mut client, &miss).await), "TOKEN_INVALID", "{miss:?} for {token:?}");
        }
        assert_eq!(world.app().store.statements(), statements, "a string that is no token of ours asked the database");
        assert_eq!(everything(&world).await, before);
        world.refresh(&token).await.unwrap();
    }

    async fn no_near_miss_ends_a_session(world: World) {
        let world = world.quiet().await;
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.refresh_token;
        let before = everything(&world).await;
        let statements = world.app().store.statements();
        for miss in near_misses(&token, &mut Chance::new()) {
            // An empty one is none: the method looks at the header then.
            let answer = if miss.is_empty() { "TOKEN_MISSING" } else { "OK" };
            assert_eq!(word(logout_by_refresh(&world, &miss).await), answer, "{miss:?} for {token:?}");
        }
        assert_eq!(world.app().store.statements(), statements, "a string that is no token of ours asked the database");
        assert_eq!(everything(&world).await, before);
        logout_by_refresh(&world, &token).await.unwrap();
        assert_eq!(world.count_events("session.revoked").await, 1);
    }

    async fn a_good_tag_over_a_wrong_secret_ends_nothing(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        let second = world.refresh(&first.refresh_token).await.unwrap();
        let before = everything(&world).await;
        let roots = &world.app().roots;
        let honest = RefreshToken::parse(&second.refresh_token, roots).unwrap();
        let stranger = RefreshToken::first(roots, honest.session, &Entropy::system());
        let text = |token: RefreshToken| token.encode(roots).unwrap().expose_secret().to_owned();
        for generation in [1, 2, 3, u32::MAX - 1, u32::MAX] {
            let forged = text(RefreshToken { generation, ..stranger.clone() });
            assert_eq!(refused(world.refresh(&forged).await), "TOKEN_INVALID", "generation {generation}");
        }
        let nowhere = SessionId::generate(&Entropy::system(), &world.clock);
        assert_eq!(refused(world.refresh(&text(RefreshToken { session: nowhere, ..honest })).await), "SESSION_REVOKED");
        assert_eq!(everything(&world).await, before);
        world.refresh(&second.refresh_token).await.unwrap();
    }

    async fn another_digest_in_the_row_is_no_reuse(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        let second = world.refresh(&first.refresh_token).await.unwrap();
        let sql = world.sql().await;
        sql.execute(&format!("UPDATE sessions SET refresh_digest = {}", bytes_literal(&sql, &[7; 32]))).await;
        assert_eq!(refused(world.refresh(&second.refresh_token).await), "TOKEN_INVALID");
        world.validate(&second.access_token).await.unwrap();
        assert_eq!(world.count_events("session.refresh_token_reused").await, 0);
    }

    async fn a_previous_token_whose_successor_is_not_the_row_s_ends_nothing(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        let second = world.refresh(&first.refresh_token).await.unwrap();
        let sql = world.sql().await;
        sql.execute(&format!("UPDATE sessions SET refresh_digest = {}", bytes_literal(&sql, &[7; 32]))).await;
        assert_eq!(refused(world.refresh(&first.refresh_token).await), "TOKEN_INVALID");
        world.validate(&second.access_token).await.unwrap();
        assert_eq!(world.count_events("session.refresh_token_reused").await, 0);
    }

    async fn each_condition_stands_alone(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        let second = world.refresh(&first.refresh_token).await.unwrap();
        let sql = world.sql().await;
        // Rows that no step of the service makes: what the conditions beside it would let through.
        for (wrong, right, answer) in [
            ("refresh_generation = 0", "refresh_generation = 1", "TOKEN_INVALID"),
            ("refresh_generation = 2", "refresh_generation = 1", "TOKEN_INVALID"),
            ("must_change = TRUE", "must_change = FALSE", "TOKEN_INVALID"),
            ("expires_at = 1800000000", "expires_at = 1802592000", "SESSION_EXPIRED"),
            ("idle_expires_at = 1800000000", "idle_expires_at = 1800604800", "SESSION_EXPIRED"),
        ] {
            sql.execute(&format!("UPDATE sessions SET {wrong}")).await;
            let before = everything(&world).await;
            assert_eq!(refused(world.refresh(&second.refresh_token).await), answer, "{wrong}");
            assert_eq!(everything(&world).await, before, "{wrong}");
            sql.execute(&format!("UPDATE sessions SET {right}")).await;
        }
        world.refresh(&second.refresh_token).await.unwrap();
    }

    async fn a_restored_backup_ends_nothing(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        let sql = world.sql().await;
        sql.execute("CREATE TABLE backup AS SELECT * FROM sessions").await;
        let second = world.refresh(&first.refresh_token).await.unwrap();
        let third = world.refresh(&second.refresh_token).await.unwrap();
        for column in ["refresh_generation", "refresh_digest", "rotated_at"] {
            sql.execute(&format!("UPDATE sessions SET {column} = (SELECT {column} FROM backup)")).await;
        }
        let before = everything(&world).await;
        for ahead in [&second, &third, &second] {
            assert_eq!(refused(world.refresh(&ahead.refresh_token).await), "TOKEN_INVALID");
        }
        assert_eq!(everything(&world).await, before);
        world.validate(&third.access_token).await.unwrap();
        // The one who holds the token of the backup's moment goes on.
        assert_eq!(world.refresh(&first.refresh_token).await.unwrap().refresh_token, second.refresh_token);
    }

    async fn another_client_gets_nothing_and_ends_nothing(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        let second = world.refresh(&first.refresh_token).await.unwrap();
        world.pass(std::time::Duration::from_mins(1));
        let sql = world.sql().await;
        sql.execute("UPDATE sessions SET client_id = 'someone-else'").await;
        let before = everything(&world).await;
        // The old one too: reuse by a stranger must not end the owner's session.
        for token in [&second, &first] {
            assert_eq!(refused(world.refresh(&token.refresh_token).await), "TOKEN_INVALID");
        }
        assert_eq!(everything(&world).await, before);
        sql.execute("UPDATE sessions SET client_id = 'doorward'").await;

        let world = world.restart_with(|config| "someone-else".clone_into(&mut config.tokens.default_client_id)).await;
        for token in [&second, &first] {
            assert_eq!(refused(world.refresh(&token.refresh_token).await), "TOKEN_INVALID");
            assert_eq!(refused(logout_by_refresh(&world, &token.refresh_token).await), "TOKEN_INVALID");
        }
        assert_eq!(world.count_events("session.revoked").await, 0);
        let world = world.restart_with(|config| "doorward".clone_into(&mut config.tokens.default_client_id)).await;
        world.refresh(&second.refresh_token).await.unwrap();
    }

    async fn scope_can_only_shrink_and_only_for_the_access_token(world: World) {
        world.person("ann@example.com").await;
        let capped = grant(&world, "ann@example.com", Ask { scope: "sales:read sales:write", ..Ask::default() }).await.unwrap();
        let scope = |set: &doorward::pb::v1::TokenSet| payload(&set.access_token)["scope"].as_str().unwrap_or("none").to_owned();
        assert_eq!((capped.scope.as_str(), scope(&capped).as_str()), ("sales:read sales:write", "sales:read sales:write"));

        let before = everything(&world).await;
        for wider in ["sales:delete", "sales:read sales:delete", "sales:*", "*:*", "nonsense", "sales:read  sales:write", "\0"] {
            let ask = Ask { scope: wider, ..Ask::default() };
            assert_eq!(refused(refresh_asking(&world, &capped.refresh_token, ask).await), "INVALID_FIELD", "{wider:?}");
        }
        assert_eq!(everything(&world).await, before);

        let ask = Ask { scope: "sales:read", ..Ask::default() };
        let narrow = refresh_asking(&world, &capped.refresh_token, ask).await.unwrap();
        assert_eq!((narrow.scope.as_str(), scope(&narrow).as_str()), ("sales:read", "sales:read"));
        let healed = refresh_asking(&world, &capped.refresh_token, Ask { scope: "sales:write", ..Ask::default() }).await.unwrap();
        assert_eq!((&healed.refresh_token, scope(&healed)), (&narrow.refresh_token, "sales:write".to_owned()));
        let whole = world.refresh(&narrow.refresh_token).await.unwrap();
        assert_eq!((whole.scope.as_str(), scope(&whole).as_str()), ("sales:read sales:write", "sales:read sales:write"));

        // A session without a cap: the access token alone is capped.
        let free = world.login("ann@example.com").await;
        let once = refresh_asking(&world, &free.refresh_token, Ask { scope: "sales:read", ..Ask::default() }).await.unwrap();
        assert_eq!(scope(&once), "sales:read");
        let again = world.refresh(&once.refresh_token).await.unwrap();
        assert_eq!((again.scope.as_str(), scope(&again).as_str()), ("", "none"));
    }

    async fn a_tenant_can_only_be_the_session_s_own(world: World) {
        let ann = world.person("ann@example.com").await;
        let (acme, blue) = (world.tenant("acme").await, world.tenant("blue").await);
        world.member(&acme, &ann, &["member"]).await;
        world.member(&blue, &ann, &["member"]).await;
        let ask = |tenant_id| Ask { tenant_id, ..Ask::default() };
        let (own, foreign, random) = (acme.id.to_string(), blue.id.to_string(), ann.id.to_string());

        let plain = world.login("ann@example.com").await;
        let mut bound = world.login_to("ann@example.com", &acme).await;
        let before = everything(&world).await;
        for tenant_id in [foreign.as_str(), random.as_str(), "ext:crm-blue", "ext:nobody", "ext:", "acme", "*", "\0", " "] {
            for set in [&plain, &bound] {
                assert_eq!(refused(refresh_asking(&world, &set.refresh_token, ask(tenant_id)).await), "INVALID_FIELD", "{tenant_id:?}");
            }
        }
        for tenant_id in [own.as_str(), "ext:crm-acme"] {
            assert_eq!(refused(refresh_asking(&world, &plain.refresh_token, ask(tenant_id)).await), "INVALID_FIELD", "{tenant_id:?}");
        }
        assert_eq!(everything(&world).await, before);

        for tenant_id in ["", own.as_str(), "ext:crm-acme", own.to_uppercase().as_str()] {
            bound = refresh_asking(&world, &bound.refresh_token, ask(tenant_id)).await.unwrap();
            assert_eq!(payload(&bound.access_token)["tid"], own.as_str(), "{tenant_id:?}");
        }
        let plain = world.refresh(&plain.refresh_token).await.unwrap();
        assert!(payload(&plain.access_token).get("tid").is_none());
    }
}
