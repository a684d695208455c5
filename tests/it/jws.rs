//! The first verification layer (invariants 27 and 28): vectors of others, forgeries of our own, every bit flipped.

use std::collections::BTreeSet;
use std::path::PathBuf;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use doorward::domain::tokens::jws::{HeaderRule, JwsError, KeySet, MAX_TOKEN_BYTES, Verified, VerifyingKey, parse_object, sign, verify};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use proptest::prelude::*;
use serde_json::{Value, json};

/// One of the vectors' secrets has its last bits set; the case is about something else.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

const ACCESS: HeaderRule = HeaderRule::new(&["at+jwt"]);

/// Text of a vector file, or nothing, with a note, where there are none. In CI that is a failure.
pub fn vector(name: &str) -> Option<String> {
    let Some(dir) = std::env::var_os("DOORWARD_VECTORS_DIR") else {
        assert!(std::env::var_os("CI").is_none(), "DOORWARD_VECTORS_DIR is not set: CI does not skip the vectors");
        eprintln!("skipped: {name} needs DOORWARD_VECTORS_DIR");
        return None;
    };
    let path = PathBuf::from(dir).join(name);
    Some(std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn vector_json(name: &str) -> Option<Value> {
    vector(name).map(|text| serde_json::from_str(&text).unwrap())
}

// ---- keys of others -------------------------------------------------------------------------------------------------

/// A published key as a cautious reader takes it: made for verifying, with one known algorithm that suits its type.
fn from_jwk(jwk: &Value) -> Option<VerifyingKey> {
    let member = |name: &str| jwk.get(name).and_then(Value::as_str);
    let may_verify = jwk.get("use").is_none_or(|usage| usage == "sig")
        && jwk.get("key_ops").is_none_or(|ops| ops.as_array().is_some_and(|ops| ops.contains(&json!("verify"))));
    if !may_verify {
        return None;
    }
    let algorithm: Algorithm = member("alg")?.parse().ok()?;
    let key = match (algorithm, member("kty")?, member("crv")) {
        (Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512, "oct", None) => {
            DecodingKey::from_secret(&LENIENT.decode(member("k")?).ok()?)
        }
        (Algorithm::ES256, "EC", Some("P-256")) | (Algorithm::ES384, "EC", Some("P-384")) => {
            DecodingKey::from_ec_components(member("x")?, member("y")?).ok()?
        }
        (Algorithm::EdDSA, "OKP", Some("Ed25519")) => DecodingKey::from_ed_components(member("x")?).ok()?,
        (Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 | Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512, "RSA", None) => {
            DecodingKey::from_rsa_components(member("n")?, member("e")?).ok()?
        }
        _ => return None,
    };
    Some(VerifyingKey { kid: member("kid").unwrap_or("unnamed").to_owned(), algorithm, key })
}

/// The verifying side of a Wycheproof group: one key or a set. A set with a key that cannot be used is refused as a whole.
fn key_set(group: &Value) -> KeySet {
    let keys = group.get("public").or_else(|| group.get("private")).unwrap();
    let keys = keys.get("keys").map_or_else(|| vec![keys.clone()], |all| all.as_array().unwrap().clone());
    let mut set = KeySet::new();
    for jwk in &keys {
        let Some(key) = from_jwk(jwk) else { continue };
        if set.push(key).is_err() {
            return KeySet::new();
        }
    }
    set
}

/// One Wycheproof case after it was run.
struct Outcome {
    id: u64,
    valid: bool,
    error: Option<JwsError>,
}

fn run_wycheproof(file: &Value) -> Vec<Outcome> {
    let groups = file["testGroups"].as_array().unwrap();
    let runs = groups.iter().flat_map(|group| {
        let keys = key_set(group);
        group["tests"].as_array().unwrap().iter().map(move |case| {
            let token = case.get("jws").or_else(|| case.get("jwe")).unwrap();
            let token = token.as_str().map_or_else(|| token.to_string(), str::to_owned);
            Outcome {
                id: case["tcId"].as_u64().unwrap(),
                // A JWE is never a JWS, however valid.
                valid: case["result"] == "valid" && case.get("jws").is_some(),
                error: verify(&token, &keys, &HeaderRule::any()).err(),
            }
        })
    });
    runs.collect()
}

fn ids(outcomes: &[Outcome], which: impl Fn(&Outcome) -> bool) -> BTreeSet<u64> {
    outcomes.iter().filter(|outcome| which(outcome)).map(|outcome| outcome.id).collect()
}

#[test]
fn wycheproof_signatures_are_judged_as_told() {
    let Some(file) = vector_json("wycheproof_json_web_signature_test.json") else { return };
    let outcomes = run_wycheproof(&file);
    assert_eq!(outcomes.len(), 401);

    let refused_valid = ids(&outcomes, |case| case.valid && case.error.is_some());
    let expected = [
        (346, "the token says PS384, its key PS256: a key has one algorithm"),
        (350, "the same, with key_ops"),
        (347, "ES512 is not supported (and the key says ES521)"),
        (351, "the same, with key_ops"),
        (372, "base64 with a foreign character in the header: one token, one spelling"),
        (373, "the same in the payload"),
    ];
    assert_eq!(refused_valid, expected.iter().map(|(id, _)| *id).collect());

    let accepted_invalid = ids(&outcomes, |case| !case.valid && case.error.is_none());
    let expected = [(367, "textually equal to the valid case 357"), (370, "textually equal to the valid case 357")];
    assert_eq!(accepted_invalid, expected.iter().map(|(id, _)| *id).collect());
}

#[test]
fn wycheproof_keys_are_judged_as_told() {
    let Some(file) = vector_json("wycheproof_json_web_key_test.json") else { return };
    let outcomes = run_wycheproof(&file);
    assert_eq!(outcomes.len(), 26);
    assert_eq!(ids(&outcomes, |case| case.valid && case.error.is_some()), BTreeSet::new());

    let accepted_invalid = ids(&outcomes, |case| !case.valid && case.error.is_none());
    let expected = [
        (1, "secret and public keys in one set: ours holds both while an algorithm is being changed, each key keeps its own"),
        (7, "a key with the ROCA weakness: verifying keys are our own, and our key generator does not make such"),
    ];
    assert_eq!(accepted_invalid, expected.iter().map(|(id, _)| *id).collect());
}

#[test]
fn wycheproof_crypto_cases_are_judged_as_told() {
    let Some(file) = vector_json("wycheproof_json_web_crypto_test.json") else { return };
    let outcomes = run_wycheproof(&file);
    assert_eq!(outcomes.len(), 83);
    assert_eq!(ids(&outcomes, |case| case.valid && case.error.is_some()), BTreeSet::new());

    let accepted_invalid = ids(&outcomes, |case| !case.valid && case.error.is_none());
    let expected =
        [(46, "a key with the ROCA weakness: as in the file of keys"), (47, "secret and public keys in one set: as in the file of keys")];
    assert_eq!(accepted_invalid, expected.iter().map(|(id, _)| *id).collect());

    let error = |id| outcomes.iter().find(|case| case.id == id).unwrap().error;
    assert_eq!(error(31), Some(JwsError::WrongAlgorithm), "HS256 under the bytes of an EC key");
    assert_eq!(error(32), Some(JwsError::Malformed), "an embedded key");
}

// ---- RFC 7520 and RFC 8037 ------------------------------------------------------------------------------------------

/// Verifies one signature of the cookbook in compact form, with the algorithm that the example names.
fn run_cookbook(jwk: &Value, algorithm: &str, protected: &str, payload: &str, signature: &str) -> Result<Verified, JwsError> {
    let mut jwk = jwk.clone();
    jwk["alg"] = json!(algorithm);
    let mut keys = KeySet::new();
    if let Some(key) = from_jwk(&jwk) {
        keys.push(key).unwrap();
    }
    verify(&format!("{protected}.{payload}.{signature}"), &keys, &HeaderRule::any())
}

#[test]
fn cookbook_signatures_verify() {
    let examples = [
        "4_1.rsa_v15_signature",
        "4_2.rsa-pss_signature",
        "4_4.hmac-sha2_integrity_protection",
        "4_6.protecting_specific_header_fields",
        "jws",
    ];
    for example in examples {
        let Some(file) = vector_json(&format!("jose-cookbook/{example}.json")) else { return };
        let (input, signing) = (&file["input"], &file["signing"]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let payload = URL_SAFE_NO_PAD.encode(text(&input["payload"]));
        let run = |payload: &str| {
            run_cookbook(&input["key"], &text(&input["alg"]), &text(&signing["protected_b64u"]), payload, &text(&signing["sig"]))
        };
        assert_eq!(run(&payload).unwrap().payload, text(&input["payload"]).as_bytes(), "{example}");
        assert_eq!(run("e30").unwrap_err(), JwsError::BadSignature, "{example}");
    }
}

#[test]
fn cookbook_multiple_signatures_verify_but_for_es512() {
    let Some(file) = vector_json("jose-cookbook/4_8.multiple_signatures.json") else { return };
    let payload = file["output"]["json"]["payload"].as_str().unwrap();
    let run = |at: usize| {
        let signing = &file["signing"][at];
        let protected = signing["protected_b64u"].as_str().unwrap_or_default();
        let algorithm = file["input"]["alg"][at].as_str().unwrap();
        run_cookbook(&file["input"]["key"][at], algorithm, protected, payload, signing["sig"].as_str().unwrap())
    };
    run(0).unwrap();
    assert_eq!(run(1).unwrap_err(), JwsError::Malformed, "no protected header, hence no alg that is signed");
    run(2).unwrap();
}

#[test]
fn cookbook_signatures_beyond_our_set_are_refused() {
    let Some(file) = vector_json("jose-cookbook/4_3.ecdsa_signature.json") else { return };
    let token = file["output"]["compact"].as_str().unwrap();
    let mut keys = KeySet::new();
    let (_, mut p384) = ec_key("bilbo.baggins@hobbiton.example", Algorithm::ES384, &ECDSA_P384_SHA384_FIXED_SIGNING);
    assert_eq!(verify(token, &keys, &HeaderRule::any()).unwrap_err(), JwsError::UnknownKey);
    keys.push(p384.clone()).unwrap();
    assert_eq!(verify(token, &keys, &HeaderRule::any()).unwrap_err(), JwsError::WrongAlgorithm);
    p384.algorithm = Algorithm::HS512;
    assert_eq!(keys.push(p384).unwrap_err(), JwsError::UnusableKey);

    let file = vector_json("jose-cookbook/4.2.hmac-sha2_b64_false.json").unwrap();
    let signing = &file["signing"];
    for payload in ["$.02", &URL_SAFE_NO_PAD.encode("$.02")] {
        let protected = signing["protected_b64u"].as_str().unwrap();
        let run = run_cookbook(&file["input"]["key"], "HS256", protected, payload, signing["sig"].as_str().unwrap());
        assert_eq!(run.unwrap_err(), JwsError::Malformed, "an unencoded payload (RFC 7797)");
    }
}

// ---- our own keys and forgeries -------------------------------------------------------------------------------------

/// A signing key with its public half.
struct Pair {
    algorithm: Algorithm,
    signing: EncodingKey,
    verifying: VerifyingKey,
}

fn ec_key(kid: &str, algorithm: Algorithm, curve: &'static EcdsaSigningAlgorithm) -> (EncodingKey, VerifyingKey) {
    let document = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(curve, document.as_ref()).unwrap();
    let key = DecodingKey::from_ec_der(pair.public_key().as_ref());
    (EncodingKey::from_ec_der(document.as_ref()), VerifyingKey { kid: kid.to_owned(), algorithm, key })
}

fn pair(kid: &str, algorithm: Algorithm) -> Pair {
    let name = kid.to_owned();
    let (signing, verifying) = match algorithm {
        Algorithm::ES256 => ec_key(kid, algorithm, &ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::ES384 => ec_key(kid, algorithm, &ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::EdDSA => {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            let public = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
            let key = DecodingKey::from_ed_der(public.public_key().as_ref());
            (EncodingKey::from_ed_der(document.as_ref()), VerifyingKey { kid: name, algorithm, key })
        }
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            let secret = [0x5a; 64];
            (EncodingKey::from_secret(&secret), VerifyingKey { kid: name, algorithm, key: DecodingKey::from_secret(&secret) })
        }
        _ => {
            let document = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
            let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&document).unwrap();
            let public = RsaKeyPair::from_pkcs8(der.as_ref()).unwrap();
            let key = DecodingKey::from_rsa_der(public.public_key().as_ref());
            // The primitive wants the bare RSAPrivateKey (RFC 8017), which is what PKCS#8 wraps in 26 bytes at this size.
            (EncodingKey::from_rsa_der(&der.as_ref()[26..]), VerifyingKey { kid: name, algorithm, key })
        }
    };
    Pair { algorithm, signing, verifying }
}

impl Pair {
    fn sign(&self, typ: &str, payload: &Value) -> String {
        sign(typ, &self.verifying.kid, self.algorithm, &self.signing, payload).unwrap()
    }

    /// Signs these very parts with the real key, so that only the rule under test can refuse them.
    fn forge(&self, header: &str, payload: &str) -> String {
        let message = format!("{header}.{payload}");
        let signature = crypto::sign(message.as_bytes(), &self.signing, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    fn forge_header(&self, header: &str) -> String {
        self.forge(&URL_SAFE_NO_PAD.encode(header), "e30")
    }

    fn keys(&self) -> KeySet {
        let mut keys = KeySet::new();
        keys.push(self.verifying.clone()).unwrap();
        keys
    }
}

#[test]
fn what_we_sign_we_verify_under_every_algorithm() {
    let all = [
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::HS256,
        Algorithm::HS384,
        Algorithm::HS512,
    ];
    let pairs: Vec<Pair> = all.into_iter().map(|algorithm| pair(&format!("{algorithm:?}"), algorithm)).collect();
    let mut keys = KeySet::new();
    for pair in &pairs {
        keys.push(pair.verifying.clone()).unwrap();
    }
    assert_eq!(keys.iter().count(), all.len());
    for pair in &pairs {
        let token = pair.sign("at+jwt", &json!({ "a": 1 }));
        let verified = verify(&token, &keys, &ACCESS).unwrap();
        assert_eq!((verified.typ.as_str(), verified.payload.as_slice()), ("at+jwt", br#"{"a":1}"#.as_slice()));
        assert!(!format!("{verified:?}").contains("97"), "the payload stays out of Debug");
        // Under every other key of the set, by its name, the same text is worth nothing.
        for other in pairs.iter().filter(|other| other.algorithm != pair.algorithm) {
            let header = json!({ "typ": "at+jwt", "alg": format!("{:?}", pair.algorithm), "kid": other.verifying.kid });
            let forged = pair.forge_header(&header.to_string());
            assert_eq!(verify(&forged, &keys, &ACCESS).unwrap_err(), JwsError::WrongAlgorithm);
            let header = json!({ "typ": "at+jwt", "alg": format!("{:?}", other.algorithm), "kid": other.verifying.kid });
            let forged = pair.forge_header(&header.to_string());
            assert_eq!(verify(&forged, &keys, &ACCESS).unwrap_err(), JwsError::BadSignature);
        }
    }
}

#[test]
fn the_header_holds_typ_alg_and_kid_and_nothing_else() {
    let pair = pair("k1", Algorithm::ES256);
    let keys = pair.keys();
    verify(&pair.forge_header(r#"{"typ":"at+jwt","alg":"ES256","kid":"k1"}"#), &keys, &ACCESS).unwrap();
    verify(&pair.forge_header(" {\n\"kid\": \"k1\", \"alg\": \"ES256\", \"typ\": \"at+jwt\" }"), &keys, &ACCESS).unwrap();

    let members = [
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""crit":["b64"],"b64":true"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""zip":"DEF""#,
        r#""jku":"https://attacker.example/keys""#,
        r#""jku":"file:///etc/passwd""#,
        r#""jwk":{"kty":"oct","k":"AAAA"}"#,
        r#""x5u":"https://attacker.example/cert""#,
        r#""x5c":["MIIB"]"#,
        r#""x5t":"AAAA""#,
        r#""x5t#S256":"AAAA""#,
        r#""cty":"JWT""#,
        r#""enc":"A256GCM""#,
        r#""url":"https://attacker.example""#,
        r#""nonce":"1""#,
        r#""p2c":1000000000"#,
        r#""":"""#,
        r#""Alg":"ES256""#,
        r#""unknown":null"#,
    ];
    for member in members {
        let token = pair.forge_header(&format!(r#"{{"typ":"at+jwt","alg":"ES256","kid":"k1",{member}}}"#));
        for rule in [ACCESS, HeaderRule::any()] {
            assert_eq!(verify(&token, &keys, &rule).unwrap_err(), JwsError::Malformed, "{member}");
        }
    }
}

#[test]
fn a_header_of_another_shape_is_refused() {
    let pair = pair("k1", Algorithm::ES256);
    let headers = [
        "",
        "{}",
        "null",
        "[]",
        r#""ES256""#,
        // A derived reader would take this for the struct.
        r#"["at+jwt","ES256","k1"]"#,
        r#"[{"typ":"at+jwt","alg":"ES256","kid":"k1"}]"#,
        r#"{"typ":"at+jwt","alg":"ES256","kid":"k1"}{}"#,
        r#"{"typ":"at+jwt","alg":"ES256","kid":"k1""#,
        r#"{"typ":"at+jwt","alg":"ES256","kid":"k1",}"#,
        "\u{feff}{\"typ\":\"at+jwt\",\"alg\":\"ES256\",\"kid\":\"k1\"}",
        // Twice, also in disguise and also with equal values.
        r#"{"typ":"at+jwt","alg":"none","alg":"ES256","kid":"k1"}"#,
        r#"{"typ":"at+jwt","alg":"ES256","\u0061lg":"ES256","kid":"k1"}"#,
        r#"{"typ":"at+jwt","alg":"ES256","kid":"k2","kid":"k1"}"#,
        r#"{"typ":"JWT","typ":"at+jwt","alg":"ES256","kid":"k1"}"#,
        // Not strings, or not there.
        r#"{"typ":"at+jwt","alg":null,"kid":"k1"}"#,
        r#"{"typ":"at+jwt","alg":["ES256"],"kid":"k1"}"#,
        r#"{"typ":"at+jwt","alg":256,"kid":"k1"}"#,
        r#"{"typ":"at+jwt","kid":"k1"}"#,
        r#"{"typ":"at+jwt","alg":"ES256","kid":null}"#,
        r#"{"typ":"at+jwt","alg":"ES256","kid":["k1"]}"#,
        r#"{"typ":"at+jwt","alg":"ES256","kid":{"$ne":""}}"#,
        r#"{"typ":"at+jwt","alg":"ES256"}"#,
        r#"{"typ":["at+jwt"],"alg":"ES256","kid":"k1"}"#,
        r#"{"typ":null,"alg":"ES256","kid":"k1"}"#,
    ];
    for header in headers {
        assert_eq!(verify(&pair.forge_header(header), &pair.keys(), &ACCESS).unwrap_err(), JwsError::Malformed, "{header}");
    }
}

#[test]
fn none_is_no_algorithm_in_any_spelling() {
    let pair = pair("k1", Algorithm::ES256);
    for alg in ["none", "None", "NONE", "nOnE", "none ", "", "es256", "ES256 ", "ES256K", "ES384", "ES512", "HS256", "EdDSA"] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "typ": "at+jwt", "alg": alg, "kid": "k1" }).to_string());
        for rule in [ACCESS, HeaderRule::any()] {
            assert_eq!(verify(&format!("{header}.e30."), &pair.keys(), &rule).unwrap_err(), JwsError::Malformed, "{alg}: no signature");
            assert_eq!(verify(&format!("{header}.e30.AAAA"), &pair.keys(), &rule).unwrap_err(), JwsError::WrongAlgorithm, "{alg}");
            assert_eq!(verify(&pair.forge(&header, "e30"), &pair.keys(), &rule).unwrap_err(), JwsError::WrongAlgorithm, "{alg}: signed");
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256] {
        let pair = pair("k1", algorithm);
        let public = pair.verifying.key.try_get_as_bytes().unwrap();
        for secret in [public.to_vec(), STANDARD_NO_PAD.encode(public).into_bytes(), URL_SAFE_NO_PAD.encode(public).into_bytes()] {
            let token = sign("at+jwt", "k1", Algorithm::HS256, &EncodingKey::from_secret(&secret), &json!({})).unwrap();
            assert_eq!(verify(&token, &pair.keys(), &ACCESS).unwrap_err(), JwsError::WrongAlgorithm, "{algorithm:?}");
            assert_eq!(verify(&token, &pair.keys(), &HeaderRule::any()).unwrap_err(), JwsError::WrongAlgorithm, "{algorithm:?}");
        }
    }
}

#[test]
fn the_kid_names_the_key() {
    let (one, two) = (pair("one", Algorithm::ES256), pair("two", Algorithm::ES256));
    let mut both = one.keys();
    both.push(two.verifying.clone()).unwrap();
    let token = two.sign("at+jwt", &json!({}));
    verify(&token, &both, &ACCESS).unwrap();
    assert_eq!(verify(&token, &one.keys(), &ACCESS).unwrap_err(), JwsError::UnknownKey);
    assert_eq!(verify(&token, &KeySet::new(), &ACCESS).unwrap_err(), JwsError::UnknownKey);
    for kid in ["", "ONE", "one\0", "../one", "one' OR '1'='1"] {
        let header = json!({ "typ": "at+jwt", "alg": "ES256", "kid": kid }).to_string();
        assert_eq!(verify(&one.forge_header(&header), &both, &ACCESS).unwrap_err(), JwsError::UnknownKey, "{kid:?}");
    }
    let wrong = two.forge_header(r#"{"typ":"at+jwt","alg":"ES256","kid":"one"}"#);
    assert_eq!(verify(&wrong, &both, &ACCESS).unwrap_err(), JwsError::BadSignature, "no key is tried but the named one");

    // Without a kid: only under the relaxed rule, and only where there is no choice.
    let nameless = one.forge_header(r#"{"typ":"at+jwt","alg":"ES256"}"#);
    verify(&nameless, &one.keys(), &HeaderRule::any()).unwrap();
    assert_eq!(verify(&nameless, &both, &HeaderRule::any()).unwrap_err(), JwsError::UnknownKey);
    assert_eq!(verify(&nameless, &one.keys(), &ACCESS).unwrap_err(), JwsError::Malformed);
}

#[test]
fn keys_that_cannot_be_told_apart_or_trusted_do_not_enter_the_set() {
    let good = pair("k1", Algorithm::ES256);
    let mut keys = good.keys();
    assert_eq!(keys.push(good.verifying.clone()).unwrap_err(), JwsError::UnusableKey, "the same kid again");
    let named = |kid: &str, algorithm, key| VerifyingKey { kid: kid.to_owned(), algorithm, key };
    assert_eq!(keys.push(named("", Algorithm::ES256, good.verifying.key.clone())).unwrap_err(), JwsError::UnusableKey);
    assert_eq!(keys.push(named("k2", Algorithm::HS256, good.verifying.key.clone())).unwrap_err(), JwsError::UnusableKey);
    for (algorithm, floor) in [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)] {
        let secret = vec![7; floor];
        for short in [&secret[..0], &secret[1..]] {
            let key = DecodingKey::from_secret(short);
            assert_eq!(keys.push(named("short", algorithm, key)).unwrap_err(), JwsError::UnusableKey);
            let refused = sign("at+jwt", "short", algorithm, &EncodingKey::from_secret(short), &json!({}));
            assert_eq!(refused.unwrap_err(), JwsError::UnusableKey);
        }
        keys.push(named(&format!("{floor}"), algorithm, DecodingKey::from_secret(&secret))).unwrap();
    }
    assert_eq!(keys.iter().count(), 4);
    assert_eq!(sign("at+jwt", "k1", Algorithm::RS256, &good.signing, &json!({})).unwrap_err(), JwsError::UnusableKey);
}

#[test]
fn kinds_of_tokens_exclude_each_other() {
    let pair = pair("k1", Algorithm::ES256);
    let rules = [("at+jwt", ACCESS), ("pwc+jwt", HeaderRule::new(&["pwc+jwt"]))];
    for (kind, _) in rules {
        for (accepted, rule) in rules {
            let verified = verify(&pair.sign(kind, &json!({})), &pair.keys(), &rule);
            assert_eq!(
                verified.map(|verified| verified.typ),
                if kind == accepted { Ok(kind.to_owned()) } else { Err(JwsError::WrongType) }
            );
        }
    }
    let both = HeaderRule::new(&["at+jwt", "pwc+jwt"]);
    assert_eq!(verify(&pair.sign("pwc+jwt", &json!({})), &pair.keys(), &both).unwrap().typ, "pwc+jwt");
    for same in ["AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        assert_eq!(verify(&pair.sign(same, &json!({})), &pair.keys(), &ACCESS).unwrap().typ, "at+jwt", "{same}");
    }
    for other in
        ["", "JWT", "jwt", "at+jwt ", " at+jwt", "at+jw", "at+jwtx", "application/", "application/application/at+jwt", "text/at+jwt"]
    {
        assert_eq!(verify(&pair.sign(other, &json!({})), &pair.keys(), &ACCESS).unwrap_err(), JwsError::WrongType, "{other}");
    }
    let untyped = pair.forge_header(r#"{"alg":"ES256","kid":"k1"}"#);
    assert_eq!(verify(&untyped, &pair.keys(), &ACCESS).unwrap_err(), JwsError::WrongType);
    assert_eq!(verify(&untyped, &pair.keys(), &HeaderRule::any()).unwrap().typ, "");
    assert_eq!(verify(&pair.sign("at+jwt", &json!({})), &pair.keys(), &HeaderRule::new(&[])).unwrap_err(), JwsError::WrongType);
}

#[test]
fn the_length_is_judged_before_anything_else() {
    let pair = pair("k1", Algorithm::HS256);
    let fill = |bytes: usize| pair.forge(&URL_SAFE_NO_PAD.encode(r#"{"typ":"at+jwt","alg":"HS256","kid":"k1"}"#), &"A".repeat(bytes));
    let rest = fill(0).len();
    let room = MAX_TOKEN_BYTES - rest;
    // Base64 has no length of 4n + 1.
    let room = if room % 4 == 1 { room - 1 } else { room };
    verify(&fill(room), &pair.keys(), &ACCESS).unwrap();
    assert_eq!(verify(&fill(room + 4), &pair.keys(), &ACCESS).unwrap_err(), JwsError::TooLong);
    assert_eq!(verify(&"\0".repeat(MAX_TOKEN_BYTES + 1), &pair.keys(), &ACCESS).unwrap_err(), JwsError::TooLong);
    assert_eq!(verify(&".".repeat(MAX_TOKEN_BYTES), &pair.keys(), &ACCESS).unwrap_err(), JwsError::Malformed);
    let deep = pair.forge_header(&"[".repeat(5000));
    assert_eq!(verify(&deep, &pair.keys(), &ACCESS).unwrap_err(), JwsError::Malformed);
    let huge = sign("at+jwt", "k1", Algorithm::HS256, &pair.signing, &json!({ "a": "x".repeat(MAX_TOKEN_BYTES) }));
    assert_eq!(huge.unwrap_err(), JwsError::TooLong, "we make no token that we would not take");
}

#[test]
fn a_token_has_one_spelling() {
    let pair = pair("k1", Algorithm::HS256);
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"at+jwt","alg":"HS256","kid":"k1"}"#);
    let good = pair.forge(&header, "e30");
    verify(&good, &pair.keys(), &ACCESS).unwrap();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    // All of them are signed over their very text where the fault is not in the signature itself.
    let forged = [
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.AAAA"),
        format!("{message}.{}", URL_SAFE.encode(&bytes)),
        format!("{message}.{signature}\n"),
        format!("{message}. {signature}"),
        format!("Bearer {good}"),
        format!("\"{good}\""),
        pair.forge(&format!("{header}="), "e30"),
        pair.forge(&header, "e30="),
        pair.forge(&header, "e31"),
        pair.forge(&header, "e3"),
        pair.forge(&header, "e"),
        pair.forge(&header, "e3 0"),
        pair.forge(&header, "_+_/"),
        pair.forge(&header, "ｅ30"),
        pair.forge(&format!("{header}\0"), "e30"),
        pair.forge("", "e30"),
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        message.to_owned(),
        format!("{message}."),
    ];
    for token in forged {
        assert_eq!(verify(&token, &pair.keys(), &ACCESS).unwrap_err(), JwsError::Malformed, "{token}");
    }
    assert_eq!(verify(&pair.forge(&header, ""), &pair.keys(), &ACCESS).unwrap().payload, b"", "empty is the claims layer's matter");
}

#[test]
fn every_bit_counts() {
    let payload = json!({ "iss": "https://auth.example", "sub": "01890a5d-ac96-774b-bcce-b302099a8057", "ver": [0, 1] });
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::HS256, Algorithm::RS256] {
        let pair = pair("k1", algorithm);
        let (token, keys) = (pair.sign("at+jwt", &payload), pair.keys());
        verify(&token, &keys, &ACCESS).unwrap();
        let mut tried = 0;
        for at in 0..token.len() {
            assert!(verify(&token[..at], &keys, &ACCESS).is_err(), "{algorithm:?}: cut at {at}");
            // The highest bit would leave ASCII, and such bytes are no `&str`.
            for bit in 0..7 {
                let mut bytes = token.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let flipped = String::from_utf8(bytes).unwrap();
                assert!(verify(&flipped, &keys, &ACCESS).is_err(), "{algorithm:?}: bit {bit} of byte {at}");
                assert!(verify(&flipped, &keys, &HeaderRule::any()).is_err(), "{algorithm:?}: bit {bit} of byte {at}, relaxed");
                tried += 1;
            }
        }
        assert_eq!(tried, token.len() * 7);
    }
}

#[test]
fn naughty_strings_are_no_tokens() {
    let Some(Value::Array(all)) = vector_json("naughty-strings.json") else { return };
    let pair = pair("k1", Algorithm::HS256);
    assert!(all.len() > 500);
    for text in all.iter().map(|text| text.as_str().unwrap()) {
        assert!(verify(text, &pair.keys(), &HeaderRule::any()).is_err());
        assert!(verify(&pair.forge(text, "e30"), &pair.keys(), &HeaderRule::any()).is_err());
        let header = json!({ "typ": text, "alg": "HS256", "kid": "k1" }).to_string();
        assert!(verify(&pair.forge_header(&header), &pair.keys(), &ACCESS).is_err());
    }
}

#[test]
fn objects_have_no_duplicate_members() {
    assert_eq!(parse_object(br#"{"a":{"b":[1,null]},"c":"d"}"#).unwrap().len(), 2);
    for json in [r#"{"a":1,"a":1}"#, r#"{"a":1,"b":2,"\u0061":1}"#, "[]", "1", "", "{", "{} {}", "nul"] {
        assert_eq!(parse_object(json.as_bytes()).unwrap_err(), JwsError::Malformed, "{json}");
    }
    assert_eq!(parse_object(b"{\"a\":\"\xff\"}").unwrap_err(), JwsError::Malformed, "not UTF-8");
}

proptest! {
    /// Whatever arrives is refused without a panic.
    #[test]
    fn noise_is_refused(token in "[A-Za-z0-9_.=+/ -]{0,400}|.{0,80}", header in ".{0,80}", payload in ".{0,80}") {
        let pair = pair("k1", Algorithm::HS256);
        prop_assert!(verify(&token, &pair.keys(), &ACCESS).is_err());
        prop_assert!(verify(&pair.forge(&header, &payload), &pair.keys(), &ACCESS).is_err());
        prop_assert!(verify(&pair.forge_header(&header), &pair.keys(), &ACCESS).is_err());
    }

    /// Any payload comes back as it went in.
    #[test]
    fn payloads_come_back(text in ".{0,200}", number in any::<i64>()) {
        let pair = pair("k1", Algorithm::HS256);
        let payload = json!({ "text": text, "number": number });
        let verified = verify(&pair.sign("at+jwt", &payload), &pair.keys(), &ACCESS).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Value>(&verified.payload).unwrap(), payload);
    }
}
