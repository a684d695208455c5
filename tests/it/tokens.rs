//! What an access token says, exactly (DESIGN 4), and that others can verify it by the public key alone.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::{pb::v1, values::secret::sha256};
use serde_json::{Value, json};

use crate::{harness::*, on_both, probe::*};

/// The claims whose values are random, as the login answered them; the session's id must be the answer's.
fn expected(login: &v1::LoginResponse, more: &Value) -> Value {
    let (user, session) = (login.user.as_ref().unwrap(), login.session.as_ref().unwrap());
    let said = payload(&login.tokens.as_ref().unwrap().access_token);
    let mut claims = json!({
        "iss": "http://127.0.0.1:8080",
        "sub": user.id,
        "sub_kind": "user",
        "aud": ["doorward-clients", "http://127.0.0.1:8080"],
        "client_id": "doorward",
        "iat": START,
        "nbf": START,
        "exp": START + 900,
        "jti": said["jti"],
        "sid": session.id,
        "auth_time": START,
        "amr": ["pwd"],
        "ver": [0, 0],
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn access(login: &v1::LoginResponse) -> &str {
    &login.tokens.as_ref().unwrap().access_token
}

/// The public half of the key that signs, as its `x` and `y`.
fn public_point(world: &World) -> (String, String) {
    let jwk = public_key(world.app());
    let member = |name: &str| jwk[name].as_str().unwrap().to_owned();
    (member("x"), member("y"))
}

on_both! {
    async fn the_claims_of_a_person_without_a_tenant(world: World) {
        world.person("ann@example.com").await;
        let login = world.try_login("ann@example.com", PASSWORD, "").await.unwrap();
        assert_eq!(payload(access(&login)), expected(&login, &json!({})));
        let jti: uuid::Uuid = payload(access(&login))["jti"].as_str().unwrap().parse().unwrap();
        assert_eq!(jti.get_version_num(), 7);
    }

    async fn permissions_are_left_out_before_a_token_is_too_long(world: World) {
        // Everything as long as it may be.
        let long = |config: &mut doorward::config::Config| {
            config.tokens.issuer = format!("http://{}", "i".repeat(248));
            config.tokens.audience = (0..4).map(|n| format!("{n}{}", "a".repeat(254))).collect();
        };
        let world = world.restart_with(long).await;
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        let permissions: Vec<String> = (0..64).map(|n| format!("resource-{n:02}:{}", "w".repeat(20))).collect();
        let mut names: Vec<String> = (0..10).map(|n| format!("{n}{}", "\u{5f79}".repeat(63))).collect();
        names.push("all".to_owned());
        for name in &names {
            let held: Vec<&str> = if name == "all" { permissions.iter().map(String::as_str).collect() } else { Vec::new() };
            world.role(&acme, name, &held).await;
        }
        world.member(&acme, &ann, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let login = world.try_login("ann@example.com", PASSWORD, &acme.id.to_string()).await.unwrap();
        let claims = payload(access(&login));
        assert_eq!((claims["roles"].as_array().unwrap().len(), claims.get("permissions")), (11, None));
        let answer = world.validate(access(&login)).await.unwrap();
        assert_eq!(answer.tenant.unwrap().permissions.len(), 64, "they count all the same");
    }

    async fn a_clock_that_goes_back_makes_no_token_that_is_good_nowhere(world: World) {
        world.person("ann@example.com").await;
        let first = world.login("ann@example.com").await;
        world.clock.set(doorward::values::time::Timestamp::from_unix(START - 60));
        let second = world.refresh(&first.refresh_token).await.unwrap();
        world.validate(&second.access_token).await.unwrap();
    }

    async fn the_claims_of_a_person_in_a_tenant(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write", "sales:read"]).await;
        world.role(&acme, "clerk", &["files:read", "sales:read"]).await;
        world.member(&acme, &ann, &["seller", "clerk"]).await;
        let sql = world.sql().await;
        sql.execute("UPDATE instance SET epoch = 3").await;
        sql.execute("UPDATE users SET epoch = 5").await;
        sql.execute("UPDATE tenants SET epoch = 7").await;
        sql.execute("UPDATE memberships SET epoch = 11").await;

        let login = world.try_login("ann@example.com", PASSWORD, "ext:crm-acme").await.unwrap();

        let tenant = json!({
            "tid": acme.id.to_string(),
            "roles": ["clerk", "seller"],
            "permissions": ["files:read", "sales:read", "sales:write"],
            "ver": [3, 5, 7, 11],
        });
        assert_eq!(payload(access(&login)), expected(&login, &tenant));
        world.validate(access(&login)).await.unwrap();
    }

    async fn a_member_without_roles_has_empty_lists(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &[]).await;
        let login = world.try_login("ann@example.com", PASSWORD, &acme.id.to_string()).await.unwrap();
        let tenant = json!({ "tid": acme.id.to_string(), "roles": [], "permissions": [], "ver": [0, 0, 0, 0] });
        assert_eq!(payload(access(&login)), expected(&login, &tenant));
    }

    async fn a_superuser_who_is_no_member_has_no_membership_epoch_and_no_flag(world: World) {
        world.superuser("root@example.com").await;
        let acme = world.tenant("acme").await;
        let login = world.try_login("root@example.com", PASSWORD, &acme.id.to_string()).await.unwrap();
        let tenant = json!({ "tid": acme.id.to_string(), "roles": [], "permissions": [], "ver": [0, 0, 0, 0] });
        assert_eq!(payload(access(&login)), expected(&login, &tenant));
    }

    async fn a_scope_caps_what_the_token_says(world: World) {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:*"]).await;
        world.member(&acme, &ann, &["seller"]).await;
        let ask = Ask { scope: "sales:read files:read", tenant_id: "ext:crm-acme", audience: &[] };
        let claims = payload(&grant(&world, "ann@example.com", ask).await.unwrap().access_token);
        assert_eq!(claims["scope"], "files:read sales:read");
        assert_eq!((&claims["roles"], &claims["permissions"]), (&json!([]), &json!(["sales:read"])));
        let names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        let all = "amr aud auth_time client_id exp iat iss jti nbf permissions roles scope sid sub sub_kind tid ver";
        assert_eq!(names.join(" "), all);
    }

    async fn asked_audiences_are_the_only_ones(world: World) {
        world.person("ann@example.com").await;
        for audience in [&["doorward-clients"][..], &["http://127.0.0.1:8080"], &["http://127.0.0.1:8080", "doorward-clients"]] {
            let set = grant(&world, "ann@example.com", Ask { audience, ..Ask::default() }).await.unwrap();
            assert_eq!(payload(&set.access_token)["aud"], json!(audience));
            let whole = world.refresh(&set.refresh_token).await.unwrap();
            assert_eq!(payload(&whole.access_token)["aud"], json!(["doorward-clients", "http://127.0.0.1:8080"]));
        }
    }

    async fn more_than_64_permissions_are_left_out_and_roles_stay(world: World) {
        let ann = world.person("ann@example.com").await;
        let permissions: Vec<String> = (0..65).map(|n| format!("thing-{n:02}:read")).collect();
        let permissions: Vec<&str> = permissions.iter().map(String::as_str).collect();
        for (slug, count) in [("acme", 64), ("blue", 65)] {
            let tenant = world.tenant(slug).await;
            world.role(&tenant, "everything", &permissions[..count]).await;
            world.member(&tenant, &ann, &["everything"]).await;
            let claims = payload(&world.login_to("ann@example.com", &tenant).await.access_token);
            assert_eq!(claims["roles"], json!(["everything"]));
            assert_eq!(claims.get("permissions").cloned(), (count == 64).then(|| json!(permissions[..64])));
        }
    }

    async fn a_must_change_token_says_the_least(world: World) {
        let ann = world.new_person(Person { email: Some("ann@example.com"), must_change: true, ..Person::default() }).await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["member"]).await;
        let login = world.try_login("ann@example.com", PASSWORD, &acme.id.to_string()).await.unwrap();
        let least = json!({ "aud": ["http://127.0.0.1:8080"], "exp": START + 600 });
        assert_eq!(payload(access(&login)), expected(&login, &least));
        assert_eq!(header(access(&login))["typ"], "pwc+jwt");
        let tokens = login.tokens.unwrap();
        assert_eq!((tokens.refresh_token.as_str(), tokens.expires_in), ("", 600));
        assert!(login.tenants.is_empty());
    }

    async fn the_header_is_typ_alg_and_the_thumbprint(world: World) {
        world.person("ann@example.com").await;
        let token = world.login("ann@example.com").await.access_token;
        let (x, y) = public_point(&world);
        // RFC 7638, section 3: the required members in lexicographic order, no white space.
        let thumbprint = URL_SAFE_NO_PAD.encode(sha256(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes()));
        assert_eq!(header(&token), json!({ "typ": "at+jwt", "alg": "ES256", "kid": thumbprint }));

        // Another implementation, given the public key alone.
        let point = [vec![4], URL_SAFE_NO_PAD.decode(x).unwrap(), URL_SAFE_NO_PAD.decode(y).unwrap()].concat();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message.as_bytes(), &signature).unwrap();
    }

    async fn no_token_says_an_address_or_a_name(world: World) {
        let person = Person { email: Some("Zebediah@Example.com"), username: Some("zeb.quux"), full_name: "Zoë Quux", ..Person::default() };
        let user = world.new_person(person).await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &user, &["member"]).await;
        let sets = [world.login("zeb.quux").await, world.login_to("zebediah@example.com", &acme).await];
        for set in sets {
            let next = world.refresh(&set.refresh_token).await.unwrap();
            for token in [&set.access_token, &next.access_token] {
                let text = format!("{}{}", header(token), payload(token)).to_lowercase();
                for word in ["zebediah", "example.com", "zeb.quux", "zoë", "quux", "acme", "company", "76.123"] {
                    assert!(!text.contains(word), "{word} in {text}");
                }
            }
        }
    }

    async fn the_answer_says_what_the_token_says(world: World) {
        world.person("ann@example.com").await;
        let set = grant(&world, "ann@example.com", Ask { scope: "sales:read", ..Ask::default() }).await.unwrap();
        let facts = world.validate(&set.access_token).await.unwrap().token.unwrap();
        let seconds = |time: Option<prost_types::Timestamp>| time.unwrap().seconds;
        assert_eq!((seconds(facts.issue_time), seconds(facts.expire_time), seconds(facts.auth_time)), (START, START + 900, START));
        assert_eq!((facts.client_id.as_str(), facts.scope.as_str(), facts.tenant_id.as_str()), ("doorward", "sales:read", ""));
        assert_eq!(facts.audience, ["doorward-clients", "http://127.0.0.1:8080"]);
        assert_eq!(facts.kind(), v1::TokenKind::AccessToken);
    }

    async fn two_logins_in_one_second_give_different_tokens(world: World) {
        world.person("ann@example.com").await;
        let (one, other) = (world.login("ann@example.com").await, world.login("ann@example.com").await);
        let (a, b) = (payload(&one.access_token), payload(&other.access_token));
        assert_eq!(a["iat"], b["iat"]);
        assert!(a["jti"] != b["jti"] && a["sid"] != b["sid"]);
        assert_ne!(one.refresh_token, other.refresh_token);
    }
}
