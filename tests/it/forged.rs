//! Hostile access tokens through the whole verifier, over the wire (invariants 28 and 29): other headers, other signatures, and payloads
//! that the service's own key signed.

use aws_lc_rs::{encoding::AsDer, rand::SystemRandom, signature};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::{domain::tokens::claims::REGISTERED, pb::v1};
use jsonwebtoken::{Algorithm, EncodingKey, crypto, jwk::Jwk};
use serde_json::{Value, json};

use crate::{harness::*, on_both, probe::*};

/// What a hostile token may be told.
const REFUSALS: [&str; 2] = ["TOKEN_INVALID", "SESSION_REVOKED"];

/// Presents a token wherever an access token is read, and wants one of these answers; Logout answers success and does nothing, which the
/// caller sees by the session that goes on.
async fn assert_refused(world: &World, token: &str, answers: &[&str], what: &str) {
    let mut client = world.client();
    let in_message = v1::ValidateSessionRequest { access_token: token.to_owned(), ..Default::default() };
    let change = v1::ChangePasswordRequest {
        current_password: PASSWORD.to_owned(),
        new_password: "another good long password".to_owned(),
        client_info: None,
    };
    let mut told = vec![("ValidateSession", word(client.validate_session(in_message).await))];
    if token.bytes().all(|byte| byte.is_ascii_graphic()) && token.len() < 12_000 {
        told.push(("GetMe", word(client.get_me(bearer(v1::GetMeRequest {}, token)).await)));
        told.push(("ListTenants", word(client.list_tenants(bearer(v1::ListTenantsRequest::default(), token)).await)));
        told.push(("ListSessions", word(list_sessions(world, token, "").await)));
        told.push(("RevokeAllSessions", word(revoke_all_sessions(world, token, false).await)));
        told.push(("authorization", word(client.validate_session(bearer(v1::ValidateSessionRequest::default(), token)).await)));
        told.push(("ChangePassword", word(client.change_password(bearer(change, token)).await)));
    }
    for (method, answer) in told {
        assert!(answers.contains(&answer.as_str()), "{what}: {method} answered {answer}");
    }
}

/// A person in a tenant, with a session that is bound to it and one that is not.
struct Victim {
    plain: v1::TokenSet,
    bound: v1::TokenSet,
}

impl Victim {
    async fn new(world: &World) -> Self {
        let ann = world.person("ann@example.com").await;
        let acme = world.tenant("acme").await;
        world.member(&acme, &ann, &["member"]).await;
        Self { plain: world.login("ann@example.com").await, bound: world.login_to("ann@example.com", &acme).await }
    }

    /// Nothing hostile was of any effect on them.
    async fn assert_unharmed(&self, world: &World) {
        for set in [&self.plain, &self.bound] {
            world.validate(&set.access_token).await.unwrap();
            world.refresh(&set.refresh_token).await.unwrap();
        }
    }
}

/// Values that no claim may have, and the good one in wrappings.
fn wrong_values(good: &Value) -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!({}),
        json!([]),
        json!([[]]),
        json!([null]),
        json!(""),
        json!("not it"),
        json!("x\u{0}y"),
        json!("x".repeat(600)),
        json!(-1),
        json!(0.5),
        json!(1.0),
        json!(1e300),
        json!(9_007_199_254_740_992_u64),
        json!(u64::MAX),
        json!([good]),
        json!({ "value": good }),
    ];
    match good {
        Value::Number(number) => values.extend([json!(number.to_string()), json!(number.as_f64()), json!(-number.as_i64().unwrap())]),
        Value::String(text) => values.extend([json!(format!("{text} ")), json!(text.to_uppercase())]),
        Value::Array(entries) => values.extend([json!([entries, entries]), json!(entries.first())]),
        _ => {}
    }
    values.retain(|value| value != good);
    values
}

/// The few of those that are of the right form: they say something that only an offline verifier reads.
fn is_harmless(claim: &str, value: &Value, in_tenant: bool) -> bool {
    let any_text = value.as_str().is_some_and(|text| !text.is_empty() && text.len() <= 512 && !text.contains('\0'));
    match claim {
        "client_id" => any_text,
        "roles" | "permissions" => in_tenant && *value == json!([]),
        _ => false,
    }
}

on_both! {
    async fn every_claim_in_every_wrong_shape(world: World) {
        let victim = Victim::new(&world).await;
        for (set, in_tenant) in [(&victim.plain, false), (&victim.bound, true)] {
            let honest = payload(&set.access_token);
            assert_eq!(word(world.validate(&mint(world.app(), "at+jwt", &honest)).await), "OK");
            for claim in REGISTERED {
                let mut without = honest.clone();
                let good = without.as_object_mut().unwrap().remove(claim);
                if good.is_some() && claim != "permissions" {
                    assert_refused(&world, &mint(world.app(), "at+jwt", &without), &REFUSALS, &format!("no {claim}")).await;
                }
                for value in wrong_values(&good.unwrap_or_default()) {
                    let mut bent = honest.clone();
                    bent[claim] = value.clone();
                    let token = mint(world.app(), "at+jwt", &bent);
                    if !is_harmless(claim, &value, in_tenant) {
                        assert_refused(&world, &token, &REFUSALS, &format!("{claim} = {value}")).await;
                    }
                }
            }
        }
        victim.assert_unharmed(&world).await;
    }

    async fn every_claim_twice(world: World) {
        let victim = Victim::new(&world).await;
        let honest = payload(&victim.bound.access_token);
        let text = honest.to_string();
        for (claim, value) in honest.as_object().unwrap() {
            for first in [value, &json!(null), &json!("x")] {
                let doubled = format!("{{\"{claim}\":{first},{}", &text[1..]);
                let token = forge(world.app(), &header(&victim.bound.access_token).to_string(), &doubled);
                assert_refused(&world, &token, &REFUSALS, &format!("{claim} twice")).await;
            }
        }
        victim.assert_unharmed(&world).await;
    }

    async fn what_a_signed_token_may_not_claim(world: World) {
        let victim = Victim::new(&world).await;
        let bob = world.person("bob@example.com").await;
        let blue = world.tenant("blue").await;
        world.member(&blue, &bob, &["owner"]).await;
        let bobs = payload(&world.login_to("bob@example.com", &blue).await.access_token);
        let (plain, bound) = (payload(&victim.plain.access_token), payload(&victim.bound.access_token));
        let random = "01890a5d-ac96-774b-bcce-b302099a8057";
        let issuer = "http://127.0.0.1:8080";
        let invalid = [
            (&plain, json!({ "iss": "http://127.0.0.1:8081" })),
            (&plain, json!({ "iss": format!("{issuer}/") })),
            (&plain, json!({ "iss": "HTTP://127.0.0.1:8080" })),
            (&plain, json!({ "aud": [] })),
            (&plain, json!({ "aud": issuer })),
            (&plain, json!({ "aud": [issuer, issuer] })),
            (&plain, json!({ "sub": bobs["sub"] })),
            (&plain, json!({ "sub": random })),
            (&plain, json!({ "sub_kind": "service_account" })),
            (&plain, json!({ "sub_kind": "superuser" })),
            (&plain, json!({ "sid": bobs["sid"] })),
            (&plain, json!({ "tid": bound["tid"], "roles": ["owner"], "ver": [0, 0, 0, 0] })),
            (&bound, json!({ "sub": bobs["sub"] })),
            (&bound, json!({ "sid": bobs["sid"] })),
            (&bound, json!({ "sid": plain["sid"] })),
            (&bound, json!({ "tid": blue.id.to_string() })),
            (&bound, json!({ "tid": random })),
            (&bound, json!({ "sub": bobs["sub"], "tid": blue.id.to_string() })),
            (&bound, json!({ "sid": bobs["sid"], "tid": blue.id.to_string() })),
            (&plain, json!({ "ver": [0] })),
            (&plain, json!({ "ver": [0, 0, 0] })),
            (&plain, json!({ "ver": [0, 0, 0, 0] })),
            (&bound, json!({ "ver": [0, 0] })),
            (&plain, json!({ "scope": "everything" })),
            (&plain, json!({ "scope": "sales:read  sales:write" })),
            // Lifetimes and times, to the second.
            (&plain, json!({ "exp": START + 3_601 })),
            (&plain, json!({ "exp": START + 86_400 * 365 })),
            (&plain, json!({ "iat": START - 2_701, "exp": START + 900 })),
            (&plain, json!({ "exp": START })),
            (&plain, json!({ "exp": START - 1 })),
            (&plain, json!({ "nbf": START - 1 })),
            (&plain, json!({ "nbf": START + 6 })),
            (&plain, json!({ "iat": START + 6, "nbf": START + 6 })),
            (&plain, json!({ "auth_time": START + 6 })),
            (&plain, json!({ "custom": "x".repeat(1_024) })),
        ];
        for (honest, changes) in invalid {
            let token = mint(world.app(), "at+jwt", &changed(honest, &changes));
            assert_refused(&world, &token, &["TOKEN_INVALID"], &changes.to_string()).await;
        }
        let dropped = without(&bound, &["tid", "roles", "permissions"]);
        let token = mint(world.app(), "at+jwt", &changed(&dropped, &json!({ "ver": [0, 0] })));
        assert_refused(&world, &token, &["TOKEN_INVALID"], "a tenant's token without its tenant").await;

        let revoked = [
            (&plain, json!({ "sid": random })),
            (&plain, json!({ "ver": [1, 0] })),
            (&plain, json!({ "ver": [0, 1] })),
            (&bound, json!({ "ver": [0, 0, 1, 0] })),
            (&bound, json!({ "ver": [0, 0, 0, 1] })),
        ];
        for (honest, changes) in revoked {
            let token = mint(world.app(), "at+jwt", &changed(honest, &changes));
            assert_refused(&world, &token, &["SESSION_REVOKED"], &changes.to_string()).await;
        }
        // The longest life that there may be, so that the bound above is the bound.
        let longest = mint(world.app(), "at+jwt", &changed(&plain, &json!({ "exp": START + 3_600 })));
        world.validate(&longest).await.unwrap();
        victim.assert_unharmed(&world).await;
    }

    async fn other_signatures_and_algorithms(world: World) {
        let victim = Victim::new(&world).await;
        let token = &victim.plain.access_token;
        let kid = world.app().keys.latest().signer().unwrap().kid.clone();
        let (message, signed) = token.rsplit_once('.').unwrap();
        let claims = message.split_once('.').unwrap().1;
        let mut hostile = Vec::new();

        // No signature, in every spelling.
        for alg in ["none", "None", "NONE", "nOnE", "", "ES256"] {
            let head = URL_SAFE_NO_PAD.encode(json!({ "typ": "at+jwt", "alg": alg, "kid": kid }).to_string());
            hostile.push((format!("alg {alg}, nothing"), format!("{head}.{claims}.")));
            hostile.push((format!("alg {alg}, two parts"), format!("{head}.{claims}")));
            hostile.push((format!("alg {alg}, a byte"), format!("{head}.{claims}.AA")));
            if alg != "ES256" {
                hostile.push((format!("alg {alg}, the old signature"), format!("{head}.{claims}.{signed}")));
            }
        }
        // The public key as an HMAC secret, in every form in which somebody publishes it.
        for (form, secret) in public_forms(&world).await {
            for (name, algorithm) in [("HS256", Algorithm::HS256), ("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)] {
                for alg in [name, "ES256"] {
                    let head = URL_SAFE_NO_PAD.encode(json!({ "typ": "at+jwt", "alg": alg, "kid": kid }).to_string());
                    let message = format!("{head}.{claims}");
                    let mac = crypto::sign(message.as_bytes(), &EncodingKey::from_secret(&secret), algorithm).unwrap();
                    hostile.push((format!("{name} as {alg} by the {form}"), format!("{message}.{mac}")));
                }
            }
        }
        // Our own key under another algorithm's name, and a DER signature.
        for alg in ["RS256", "PS256", "ES384", "ES512", "ES256K", "EdDSA", "es256", "ES256 "] {
            let head = json!({ "typ": "at+jwt", "alg": alg, "kid": kid }).to_string();
            hostile.push((format!("signed by us as {alg}"), forge(world.app(), &head, &payload(token).to_string())));
        }
        hostile.push(("zeros".to_owned(), format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 64]))));
        let der: Vec<u8> = [&[0x30, 0x44, 0x02, 0x20][..], &URL_SAFE_NO_PAD.decode(signed).unwrap()].concat();
        hostile.push(("a DER signature".to_owned(), format!("{message}.{}", URL_SAFE_NO_PAD.encode(der))));

        for (what, token) in hostile {
            assert_refused(&world, &token, &["TOKEN_INVALID"], &what).await;
            world.logout(&token).await.unwrap();
        }
        victim.assert_unharmed(&world).await;
    }

    async fn headers_that_bring_a_key_or_name_a_place_for_one(world: World) {
        let victim = Victim::new(&world).await;
        let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        trap.set_nonblocking(true).unwrap();
        let url = format!("http://{}/keys.json", trap.local_addr().unwrap());
        let claims = payload(&victim.plain.access_token).to_string();
        let kid = world.app().keys.latest().signer().unwrap().kid.clone();
        let (stranger, jwk) = stranger();
        let base = json!({ "typ": "at+jwt", "alg": "ES256", "kid": kid });
        let strange_kid = jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap();
        let more = [
            json!({ "jwk": jwk }),
            json!({ "jwk": jwk, "kid": strange_kid }),
            json!({ "jku": url }),
            json!({ "jku": "file:///etc/passwd" }),
            json!({ "x5u": url }),
            json!({ "x5c": ["MIIB"] }),
            json!({ "x5t": "AA" }),
            json!({ "kid": url }),
            json!({ "kid": strange_kid }),
            json!({ "kid": "../../../../dev/null" }),
            json!({ "kid": "' OR 1=1 --" }),
            json!({ "kid": "x\u{0}" }),
            json!({ "kid": "" }),
            json!({ "kid": null }),
            json!({ "kid": [kid] }),
            json!({ "kid": kid.to_lowercase() }),
            json!({ "crit": ["exp"] }),
            json!({ "crit": [] }),
            json!({ "b64": false, "crit": ["b64"] }),
            json!({ "zip": "DEF" }),
            json!({ "cty": "JWT" }),
            json!({ "alg": ["ES256"] }),
            json!({ "typ": null }),
            json!({ "nonsense": 1 }),
        ];
        for members in more {
            let head = changed(&base, &members).to_string();
            // Signed by the stranger, and by us: the header alone is reason enough.
            let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(&head), URL_SAFE_NO_PAD.encode(&claims));
            let by_stranger = format!("{message}.{}", crypto::sign(message.as_bytes(), &stranger, Algorithm::ES256).unwrap());
            for token in [by_stranger, forge(world.app(), &head, &claims)] {
                assert_refused(&world, &token, &["TOKEN_INVALID"], &head).await;
                world.logout(&token).await.unwrap();
            }
        }
        for name in ["typ", "alg", "kid"] {
            let doubled = format!("{{\"{name}\":{},{}", base[name], &base.to_string()[1..]);
            assert_refused(&world, &forge(world.app(), &doubled, &claims), &["TOKEN_INVALID"], &doubled).await;
            let head = without(&base, &[name]).to_string();
            assert_refused(&world, &forge(world.app(), &head, &claims), &["TOKEN_INVALID"], &head).await;
        }
        let no_connection = trap.accept().unwrap_err();
        assert_eq!(no_connection.kind(), std::io::ErrorKind::WouldBlock);
        victim.assert_unharmed(&world).await;
    }

    async fn text_that_is_no_token(world: World) {
        let victim = Victim::new(&world).await;
        let token = &victim.plain.access_token;
        let mut garbage: Vec<String> =
            ["a", ".", "..", "...", "a.b.c", "{}.{}.{}", "null", "Bearer", "\0", "\u{202e}"].map(str::to_owned).to_vec();
        garbage.extend(["x".repeat(5_000), "x.".repeat(4_000), format!("{token}.{token}"), format!("{token}="), format!("{token}\n")]);
        garbage.extend([format!(" {token}"), token.replace('.', ".."), token.to_lowercase(), token.replacen('.', "", 1)]);
        let large = changed(&payload(token), &json!({ "custom": "x".repeat(8_000) }));
        garbage.push(mint(world.app(), "at+jwt", &large));
        let mut chance = Chance::new();
        for _ in 0..200 {
            let at = chance.below(token.len());
            let letter = char::from(b"ABCDEFGHabcdefgh0123-_.=+/"[chance.below(26)]);
            garbage.push(format!("{}{letter}{}", &token[..at], &token[at + 1..]));
            garbage.push(token[..at].to_owned());
        }
        garbage.retain(|text| text != token && !text.is_empty());
        for text in garbage {
            let request = v1::ValidateSessionRequest { access_token: text.clone(), ..Default::default() };
            assert_eq!(refused(world.validate_with(request).await), "TOKEN_INVALID", "{text:?}");
        }
        victim.assert_unharmed(&world).await;
    }
}

fn changed(object: &Value, changes: &Value) -> Value {
    let mut object = object.clone();
    for (name, value) in changes.as_object().unwrap() {
        object[name] = value.clone();
    }
    object
}

fn without(object: &Value, names: &[&str]) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().retain(|name, _| !names.contains(&name.as_str()));
    object
}

/// A key that the service has never seen.
fn stranger() -> (EncodingKey, Jwk) {
    let curve = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = signature::EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap();
    let key = EncodingKey::from_ec_der(document.as_ref());
    let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
    (key, jwk)
}

/// The service's public key as somebody may publish it.
async fn public_forms(world: &World) -> Vec<(&'static str, Vec<u8>)> {
    use signature::KeyPair as _;
    let private = private_key(world.app()).await;
    let pair = signature::EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &private).unwrap();
    let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
    let base64 = base64::engine::general_purpose::STANDARD.encode(&spki);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n", &base64[..64], &base64[64..]);
    let jwk = public_key(world.app());
    assert!(spki.ends_with(pair.public_key().as_ref()), "the forms are of the same key");
    vec![
        ("SPKI", spki),
        ("PEM", pem.clone().into_bytes()),
        ("PEM without its last line end", pem.trim_end().as_bytes().to_vec()),
        ("base64 of the SPKI", base64.into_bytes()),
        ("point", pair.public_key().as_ref().to_vec()),
        ("coordinates", pair.public_key().as_ref()[1..].to_vec()),
        ("JWK", serde_json::to_vec(&jwk).unwrap()),
    ]
}
