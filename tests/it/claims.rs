//! The second verification layer (invariant 29): every claim in every wrong shape, lifetimes, the edges of the leeway.

use std::time::Duration;

use doorward::domain::tokens::claims::{
    Claims, ClaimsError, Expected, ExpiryRule, LEEWAY, MAX_AUDIENCES, MAX_CUSTOM_BYTES, MAX_PERMISSIONS, MAX_PERMISSIONS_BYTES,
    MAX_SCOPE_BYTES, REGISTERED, SubjectKind, parse,
};
use doorward::values::ids::{SessionId, TenantId, TokenId};
use doorward::values::time::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use uuid::Uuid;

const ISSUER: &str = "https://auth.example";
const NOW: i64 = 1_790_000_000;
const LIFETIME: i64 = 900;
const LONGEST: i64 = 3600;

fn expected(now: i64) -> Expected<'static> {
    let max_lifetime = Duration::from_secs(LONGEST.unsigned_abs());
    Expected { issuer: ISSUER, now: Timestamp::from_unix(now), max_lifetime, expiry: ExpiryRule::Enforced }
}

fn id(last: u128) -> Uuid {
    Uuid::from_u128(0x0189_0a5d_ac96_774b_bcce_b302_099a_8000 + last)
}

/// A person's token in a tenant, with every claim that there is.
fn user() -> Value {
    json!({
        "iss": ISSUER, "sub": id(1), "sub_kind": "user", "aud": ["doorward-clients", ISSUER], "client_id": "doorward",
        "iat": NOW, "nbf": NOW, "exp": NOW + LIFETIME, "jti": id(2), "ver": [0, 1, 2, 3], "sid": id(3),
        "auth_time": NOW - 60, "amr": ["pwd"], "scope": "sales:read sales:write", "tid": id(4), "roles": ["owner"],
        "permissions": ["*:*"],
    })
}

/// The same person outside of any tenant.
fn tenantless() -> Value {
    let mut token = user();
    remove(&mut token, &["scope", "tid", "roles", "permissions"]);
    token["ver"] = json!([0, 1]);
    token
}

/// A workload's token in a tenant.
fn workload() -> Value {
    let mut token = user();
    token["sub_kind"] = json!("service_account");
    remove(&mut token, &["sid", "auth_time", "amr"]);
    token
}

fn remove(token: &mut Value, claims: &[&str]) {
    for claim in claims {
        token.as_object_mut().unwrap().remove(*claim).unwrap();
    }
}

fn with(mut token: Value, claim: &str, value: Value) -> Value {
    token[claim] = value;
    token
}

fn parse_value(token: &Value) -> Result<Claims, ClaimsError> {
    parse(token.to_string().as_bytes(), &expected(NOW))
}

fn refusal(token: &Value) -> ClaimsError {
    parse_value(token).expect_err(&token.to_string())
}

#[test]
fn good_tokens_are_read_in_full() {
    let claims = parse_value(&user()).unwrap();
    let read = Claims {
        iss: ISSUER.to_owned(),
        sub: id(1),
        sub_kind: SubjectKind::User,
        aud: vec!["doorward-clients".to_owned(), ISSUER.to_owned()],
        client_id: "doorward".to_owned(),
        iat: Timestamp::from_unix(NOW),
        nbf: Timestamp::from_unix(NOW),
        exp: Timestamp::from_unix(NOW + LIFETIME),
        jti: TokenId::from_uuid(id(2)),
        ver: vec![0, 1, 2, 3],
        sid: Some(SessionId::from_uuid(id(3))),
        auth_time: Some(Timestamp::from_unix(NOW - 60)),
        amr: vec!["pwd".to_owned()],
        scope: Some("sales:read sales:write".to_owned()),
        tid: Some(TenantId::from_uuid(id(4))),
        roles: Some(vec!["owner".to_owned()]),
        permissions: Some(vec!["*:*".to_owned()]),
        custom: Map::new(),
    };
    assert_eq!(claims, read);
    assert_eq!(user().as_object().unwrap().len(), REGISTERED.len(), "the fixture has every registered claim");

    assert!(claims.has_audience(ISSUER) && claims.has_audience("doorward-clients"));
    for other in ["", "doorward", "doorward-client", "DOORWARD-CLIENTS", "https://auth.example/"] {
        assert!(!claims.has_audience(other), "{other}");
    }
    assert_eq!(parse_value(&tenantless()).unwrap().tid, None);
    let workload = parse_value(&workload()).unwrap();
    assert_eq!((workload.sub_kind, workload.sid, workload.auth_time), (SubjectKind::ServiceAccount, None, None));
    assert!(workload.amr.is_empty());
}

// ---- every claim, every wrong shape ---------------------------------------------------------------------------------

/// What is wrong for any claim, whatever its type: its own good value is among them only in disguise.
fn wrong_values(claim: &str, good: &Value) -> Vec<Value> {
    let is_list = good.is_array();
    let huge_text = "a".repeat(5000);
    let mut wrong = vec![
        json!(null),
        json!(true),
        json!({}),
        json!({ "0": good }),
        json!([good]),
        json!([null]),
        json!([{}]),
        json!([[]]),
        json!([""]),
        json!([1.5]),
        json!([-1]),
        json!([true]),
        json!(["a\u{0}b"]),
        json!([huge_text]),
        json!(""),
        json!(" "),
        json!("a\u{0}b"),
        json!("a\nb"),
        json!(huge_text),
        json!(-1),
        json!(i64::MIN),
        json!(1.0),
        json!(1.5),
        json!(-0.0),
        json!(1e300),
        json!(1_u64 << 53),
        json!(u64::MAX),
        json!(vec![good; 1000]),
        json!(vec!["a"; 1000]),
        json!(vec![1; 1000]),
    ];
    // The other type in the shape of this one: "1790000000", [1790000000], ["0", "1"].
    wrong.push(if is_list { json!(good.to_string()) } else { json!([good, good]) });
    wrong.push(match good {
        Value::Number(number) => json!(number.to_string()),
        Value::String(_) => json!(NOW),
        _ => json!([good.to_string(), 7]),
    });
    if !matches!(claim, "roles" | "permissions") {
        wrong.push(json!([]));
    }
    // A blank is a fine, if silly, name.
    wrong.retain(|value| !(matches!(claim, "client_id") && value == " "));
    wrong
}

/// The token as text, with the claim written a second time.
fn twice(token: &Value, claim: &str, value: &Value) -> String {
    let text = token.to_string();
    format!("{},{}:{value}}}", text.strip_suffix('}').unwrap(), json!(claim))
}

#[test]
fn every_claim_in_every_wrong_shape_is_refused() {
    let mut tried = 0;
    for base in [user(), tenantless(), workload()] {
        parse_value(&base).unwrap();
        for (claim, good) in base.as_object().unwrap() {
            for wrong in wrong_values(claim, good) {
                let refusal = refusal(&with(base.clone(), claim, wrong.clone()));
                let named = REGISTERED.iter().find(|name| *name == claim).unwrap();
                // A well-shaped issuer is judged as an issuer, one that is none as a claim.
                let is_other_issuer = claim == "iss" && wrong == " ";
                let told = if is_other_issuer { ClaimsError::WrongIssuer } else { ClaimsError::Malformed(named) };
                assert_eq!(refusal, told, "{claim} = {wrong}");
                tried += 1;
            }
            for second in [good.clone(), json!(null), json!("x"), json!(NOW)] {
                let text = twice(&base, claim, &second);
                assert_eq!(parse(text.as_bytes(), &expected(NOW)).unwrap_err(), ClaimsError::Malformed("payload"), "{text}");
            }
        }
    }
    assert!(tried > 1000, "{tried}");
}

#[test]
fn every_missing_claim_is_refused_unless_it_is_optional() {
    let optional = ["scope", "permissions"];
    for base in [user(), tenantless(), workload()] {
        for claim in base.as_object().unwrap().keys() {
            let mut token = base.clone();
            remove(&mut token, &[claim]);
            if optional.contains(&claim.as_str()) {
                parse_value(&token).unwrap();
                continue;
            }
            // Without its tenant, what was said about the tenant is out of place.
            let named = if claim == "tid" { "ver" } else { REGISTERED.iter().find(|name| *name == claim).unwrap() };
            assert_eq!(refusal(&token), ClaimsError::Malformed(named), "{base}");
        }
    }
}

#[test]
fn numbers_out_of_json_are_whole() {
    let text = user().to_string();
    for (claim, good) in [("exp", NOW + LIFETIME), ("iat", NOW), ("nbf", NOW), ("auth_time", NOW - 60)] {
        let spellings =
            ["1.79e9", "1790000000.0", "1790000000e0", "17900000000E-1", "-1790000000", "0x6ab1b780", "1_790_000_000", "+1", "NaN"];
        for spelling in spellings {
            let token = text.replacen(&format!("\"{claim}\":{good}"), &format!("\"{claim}\":{spelling}"), 1);
            assert_ne!(token, text);
            assert!(matches!(parse(token.as_bytes(), &expected(NOW)), Err(ClaimsError::Malformed(_))), "{claim} = {spelling}");
        }
    }
    for epoch in ["1.0", "1e0", "-1", "\"1\"", "null", "9007199254740992", "18446744073709551616"] {
        let token = text.replacen("[0,1,2,3]", &format!("[0,1,2,{epoch}]"), 1);
        assert_eq!(parse(token.as_bytes(), &expected(NOW)).unwrap_err(), ClaimsError::Malformed("ver"), "{epoch}");
    }
    let token = text.replacen("[0,1,2,3]", "[0,1,2,9007199254740991]", 1);
    assert_eq!(parse(token.as_bytes(), &expected(NOW)).unwrap().ver[3], (1 << 53) - 1);
}

#[test]
fn uuids_have_one_spelling() {
    for claim in ["sub", "jti", "sid", "tid"] {
        let good = user()[claim].as_str().unwrap().to_owned();
        let spellings = [
            good.replace('-', ""),
            good.to_uppercase(),
            format!("{{{good}}}"),
            format!("urn:uuid:{good}"),
            format!("{good} "),
            format!(" {good}"),
            good[1..].to_owned(),
            good.replacen('0', "g", 1),
            good.replacen('-', "_", 1),
        ];
        for spelling in spellings {
            assert_eq!(refusal(&with(user(), claim, json!(spelling))), ClaimsError::Malformed(claim), "{spelling}");
        }
    }
}

#[test]
fn what_belongs_to_the_other_kind_of_token_is_refused() {
    for claim in ["sid", "auth_time", "amr"] {
        let token = with(workload(), claim, user()[claim].clone());
        assert_eq!(refusal(&token), ClaimsError::Malformed(claim), "a workload has no {claim}");
    }
    assert_eq!(refusal(&with(workload(), "amr", json!([]))), ClaimsError::Malformed("amr"), "nor an empty one");
    for claim in ["roles", "permissions"] {
        let token = with(tenantless(), claim, user()[claim].clone());
        assert_eq!(refusal(&token), ClaimsError::Malformed(claim), "no {claim} without a tenant");
    }
    assert_eq!(refusal(&with(tenantless(), "tid", json!(id(4)))), ClaimsError::Malformed("ver"));
    for kind in ["User", "USER", "users", "service-account", "superuser", "user "] {
        assert_eq!(refusal(&with(user(), "sub_kind", json!(kind))), ClaimsError::Malformed("sub_kind"), "{kind}");
    }
    assert_eq!(refusal(&with(user(), "sub_kind", json!("service_account"))), ClaimsError::Malformed("sid"));
    assert_eq!(refusal(&with(workload(), "sub_kind", json!("user"))), ClaimsError::Malformed("sid"));
    for length in 0..8 {
        let ver = json!(vec![1; length]);
        for (base, good) in [(user(), 4), (tenantless(), 2), (workload(), 4)] {
            let parsed = parse_value(&with(base, "ver", ver.clone()));
            assert_eq!(parsed.err(), (length != good).then_some(ClaimsError::Malformed("ver")), "{length} epochs");
        }
    }
}

#[test]
fn lists_and_strings_have_their_limits() {
    let names = |count: usize| (0..count).map(|at| json!(format!("name{at}"))).collect::<Value>();
    let accepted = |claim, value| parse_value(&with(user(), claim, value)).is_ok();
    assert!(accepted("aud", names(1)) && accepted("aud", names(MAX_AUDIENCES)));
    assert!(!accepted("aud", names(MAX_AUDIENCES + 1)) && !accepted("aud", json!([])));
    assert!(!accepted("aud", json!(["a", "b", "a"])), "an audience twice");
    assert!(!accepted("aud", json!(ISSUER)), "one audience is still a list");
    assert!(accepted("permissions", names(MAX_PERMISSIONS)) && !accepted("permissions", names(MAX_PERMISSIONS + 1)));
    assert!(accepted("permissions", json!([])) && accepted("roles", json!([])), "a capped token has no roles");
    assert!(accepted("amr", json!(["pwd", "otp"])) && !accepted("amr", json!([])));
    assert!(accepted("client_id", json!("c".repeat(512))) && !accepted("client_id", json!("c".repeat(513))));
    assert!(accepted("scope", json!("s".repeat(MAX_SCOPE_BYTES))) && !accepted("scope", json!("s".repeat(MAX_SCOPE_BYTES + 1))));
    let words = |count: usize| json!(vec!["s:r"; count].join(" "));
    assert!(accepted("scope", words(64)) && !accepted("scope", words(65)));
    for scope in [" a:b", "a:b ", "a:b  c:d", "a:b\tc:d", "a:b\u{85}c:d"] {
        assert!(!accepted("scope", json!(scope)), "{scope:?}");
    }
}

#[test]
fn a_payload_is_one_object() {
    let good = user().to_string();
    let no_objects = [
        "",
        "null",
        "[]",
        "\"\"",
        "1",
        "{",
        &format!("[{good}]"),
        &format!("{good}{good}"),
        &format!("{good} x"),
        &format!("\u{feff}{good}"),
    ];
    for payload in no_objects {
        assert_eq!(parse(payload.as_bytes(), &expected(NOW)).unwrap_err(), ClaimsError::Malformed("payload"), "{payload}");
    }
    assert_eq!(parse(b"{\"iss\":\"\xff\"}", &expected(NOW)).unwrap_err(), ClaimsError::Malformed("payload"));
    assert_eq!(parse(b"{}", &expected(NOW)).unwrap_err(), ClaimsError::Malformed("iss"));
    let disguised = twice(&user(), "sub", &json!(id(9))).replacen("\"sub\":", "\"\\u0073ub\":", 1);
    assert_eq!(parse(disguised.as_bytes(), &expected(NOW)).unwrap_err(), ClaimsError::Malformed("payload"));
}

#[test]
fn custom_claims_are_carried_up_to_their_limit() {
    let custom = json!({ "plan": "gold", "nested": { "a": [1, 2.5, null] }, "email": "kept, as configured" });
    let mut token = user();
    token.as_object_mut().unwrap().extend(custom.as_object().unwrap().clone());
    assert_eq!(parse_value(&token).unwrap().custom, *custom.as_object().unwrap());

    let fits = MAX_CUSTOM_BYTES - r#"{"c":""}"#.len();
    assert!(parse_value(&with(user(), "c", json!("x".repeat(fits)))).is_ok());
    assert_eq!(refusal(&with(user(), "c", json!("x".repeat(fits + 1)))), ClaimsError::Malformed("custom"));

    // Minting keeps to the same: too much is an error, a registered name changes nothing.
    let mut claims = parse_value(&user()).unwrap();
    claims.custom = json!({ "sub": id(9), "ver": [], "plan": "gold" }).as_object().unwrap().clone();
    let minted = serde_json::to_value(&claims).unwrap();
    assert_eq!(minted, with(user(), "plan", json!("gold")));
    assert_eq!(serde_json::to_string(&claims).unwrap().matches("\"sub\":").count(), 1);
    claims.custom = json!({ "c": "x".repeat(fits + 1) }).as_object().unwrap().clone();
    assert!(serde_json::to_string(&claims).is_err());
}

// ---- issuer and times -----------------------------------------------------------------------------------------------

#[test]
fn only_our_issuer_is_believed() {
    for issuer in ["https://auth.example/", "HTTPS://auth.example", "http://auth.example", "https://auth.example.evil", "x"] {
        assert_eq!(refusal(&with(user(), "iss", json!(issuer))), ClaimsError::WrongIssuer, "{issuer}");
    }
}

#[test]
fn no_token_outlives_the_maximum() {
    parse_value(&with(user(), "exp", json!(NOW + LONGEST))).unwrap();
    for exp in [NOW + LONGEST + 1, NOW + 10 * 365 * 86_400, (1 << 53) - 1] {
        assert_eq!(refusal(&with(user(), "exp", json!(exp))), ClaimsError::TooLongLived, "{exp}");
    }
    let ignored = Expected { expiry: ExpiryRule::Ignored, ..expected(NOW) };
    let token = with(user(), "exp", json!(NOW + LONGEST + 1)).to_string();
    assert_eq!(parse(token.as_bytes(), &ignored).unwrap_err(), ClaimsError::TooLongLived, "also where expiry does not matter");
}

#[test]
fn times_are_in_order() {
    for exp in [NOW, NOW - 1, 0] {
        assert_eq!(refusal(&with(user(), "exp", json!(exp))), ClaimsError::Malformed("exp"), "{exp}");
    }
    for nbf in [NOW - 1, 0] {
        assert_eq!(refusal(&with(user(), "nbf", json!(nbf))), ClaimsError::Malformed("nbf"), "{nbf}");
    }
    assert_eq!(refusal(&with(user(), "nbf", json!(NOW + LIFETIME))), ClaimsError::Malformed("exp"), "never valid");
    parse_value(&with(user(), "auth_time", json!(NOW + 5))).unwrap();
    for auth_time in [NOW + 6, (1 << 53) - 1] {
        assert_eq!(refusal(&with(user(), "auth_time", json!(auth_time))), ClaimsError::Malformed("auth_time"), "{auth_time}");
    }
    parse_value(&with(user(), "auth_time", json!(0))).unwrap();
}

#[test]
fn the_leeway_is_five_seconds_and_no_more() {
    assert_eq!(LEEWAY, Duration::from_secs(5));
    let token = user().to_string();
    let at = |now: i64| parse(token.as_bytes(), &expected(now)).map(|_| ());
    // Issued by a clock that is ahead.
    assert_eq!(at(NOW - 5), Ok(()));
    assert_eq!(at(NOW - 6), Err(ClaimsError::NotYetValid));
    // Expired by the clock of its maker.
    assert_eq!(at(NOW + LIFETIME - 1), Ok(()));
    assert_eq!(at(NOW + LIFETIME + 4), Ok(()));
    assert_eq!(at(NOW + LIFETIME + 5), Err(ClaimsError::Expired));
    assert_eq!(at(i64::MAX), Err(ClaimsError::Expired));
    assert_eq!(at(i64::MIN), Err(ClaimsError::NotYetValid));
    // Valid from later on.
    let later = with(user(), "nbf", json!(NOW + 60)).to_string();
    let at = |now: i64| parse(later.as_bytes(), &expected(now)).map(|_| ());
    assert_eq!((at(NOW + 54), at(NOW + 55)), (Err(ClaimsError::NotYetValid), Ok(())));
}

#[test]
fn an_expired_token_is_good_enough_where_expiry_is_ignored() {
    let at = |token: &Value, now: i64| {
        let expected = Expected { expiry: ExpiryRule::Ignored, ..expected(now) };
        parse(token.to_string().as_bytes(), &expected).map(|_| ())
    };
    assert_eq!(at(&user(), NOW + 400 * 86_400), Ok(()));
    assert_eq!(at(&user(), NOW - 6), Err(ClaimsError::NotYetValid), "but all else is judged");
    assert_eq!(at(&with(user(), "iss", json!("x")), NOW), Err(ClaimsError::WrongIssuer));
    assert_eq!(at(&with(user(), "exp", json!(null)), NOW), Err(ClaimsError::Malformed("exp")));
}

// ---- minting --------------------------------------------------------------------------------------------------------

#[test]
fn minting_writes_what_the_kind_of_token_has() {
    for token in [user(), tenantless(), workload()] {
        let claims = parse_value(&token).unwrap();
        assert_eq!(serde_json::to_value(&claims).unwrap(), token);
    }
    // Whatever a caller left in the struct, a workload's token says nothing about sessions, nor one without tenant about roles.
    let mut claims = parse_value(&user()).unwrap();
    claims.sub_kind = SubjectKind::ServiceAccount;
    assert_eq!(serde_json::to_value(&claims).unwrap(), workload());
    let mut claims = parse_value(&user()).unwrap();
    (claims.tid, claims.scope, claims.ver) = (None, None, vec![0, 1]);
    assert_eq!(serde_json::to_value(&claims).unwrap(), tenantless());
}

#[test]
fn too_many_permissions_stay_at_home_and_roles_travel() {
    let minted = |permissions: Vec<String>| {
        let mut claims = parse_value(&user()).unwrap();
        claims.permissions = Some(permissions);
        let token = serde_json::to_value(&claims).unwrap();
        assert_eq!(token["roles"], json!(["owner"]));
        parse_value(&token).unwrap();
        token.get("permissions").map(|all| all.as_array().unwrap().len())
    };
    let few = |count: usize, bytes: usize| (0..count).map(|at| format!("{at:0bytes$}")).collect();
    assert_eq!(minted(vec![]), Some(0));
    assert_eq!(minted(few(MAX_PERMISSIONS, 10)), Some(MAX_PERMISSIONS));
    assert_eq!(minted(few(MAX_PERMISSIONS + 1, 10)), None);
    assert_eq!(minted(few(MAX_PERMISSIONS_BYTES / 128, 128)), Some(16));
    assert_eq!(minted(few(MAX_PERMISSIONS_BYTES / 128 + 1, 128)), None);
}

#[test]
fn naughty_strings_are_read_or_refused() {
    let Some(text) = crate::jws::vector("naughty-strings.json") else { return };
    let all: Vec<String> = serde_json::from_str(&text).unwrap();
    for text in &all {
        for claim in REGISTERED {
            let parsed = parse_value(&with(user(), claim, json!(text)));
            // The only claims that are free text; of these the issuer has one good value.
            assert!(parsed.is_err() || matches!(claim, "client_id" | "scope"), "{claim} = {text:?}");
        }
        assert!(parse(text.as_bytes(), &expected(NOW)).is_err());
    }
}

fn any_id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

prop_compose! {
    /// A token of any kind that we could mint at `NOW`.
    fn any_claims()(
        (sub, jti, sid, tid) in (any_id(), any_id(), any_id(), proptest::option::of(any_id())),
        is_user in any::<bool>(),
        aud in proptest::collection::btree_set("[!-~]{1,40}", 1..=MAX_AUDIENCES),
        client_id in "[a-zA-Z0-9 \\p{L}\"\\\\]{1,40}",
        (age, wait, lifetime, since) in (0..200_i64, 0..5_i64, 300..=LONGEST, 0..100_000_i64),
        epochs in proptest::array::uniform4(0..1_i64 << 53),
        scope in proptest::option::of("[a-z]{1,9}:[a-z*]{1,9}( [a-z]{1,9}:[a-z]{1,9}){0,5}"),
        (roles, permissions) in (
            proptest::collection::vec("[a-z]{1,20}", 0..5),
            proptest::option::of(proptest::collection::vec("[a-z]{1,9}:[a-z]{1,9}", 0..=MAX_PERMISSIONS)),
        ),
        custom in proptest::collection::btree_map("x_[a-z]{1,8}", "\\PC{0,20}", 0..5),
    ) -> Claims {
        let tid = tid.map(TenantId::from_uuid);
        let iat = NOW - age;
        Claims {
            iss: ISSUER.to_owned(),
            sub,
            sub_kind: if is_user { SubjectKind::User } else { SubjectKind::ServiceAccount },
            aud: aud.into_iter().collect(),
            client_id,
            iat: Timestamp::from_unix(iat),
            nbf: Timestamp::from_unix(iat + wait),
            exp: Timestamp::from_unix(iat + lifetime),
            jti: TokenId::from_uuid(jti),
            sid: is_user.then(|| SessionId::from_uuid(sid)),
            auth_time: is_user.then(|| Timestamp::from_unix(iat - since)),
            amr: if is_user { vec!["pwd".to_owned()] } else { vec![] },
            ver: epochs[..if tid.is_some() { 4 } else { 2 }].to_vec(),
            scope,
            roles: tid.is_some().then_some(roles),
            permissions: permissions.filter(|_| tid.is_some()),
            tid,
            custom: custom.into_iter().map(|(name, value)| (name, json!(value))).collect(),
        }
    }
}

proptest! {
    /// What we mint we read, unchanged.
    #[test]
    fn minted_claims_come_back(claims in any_claims()) {
        let payload = serde_json::to_vec(&claims).unwrap();
        prop_assert_eq!(parse(&payload, &expected(NOW)), Ok(claims));
    }

    /// Whatever was signed, reading it does not panic, and what is accepted keeps every promise about time.
    #[test]
    fn accepted_times_are_sane(iat in any::<i64>(), nbf in any::<i64>(), exp in any::<i64>(), near in proptest::array::uniform3(-20..20_i64)) {
        let at = |far: i64, base: i64, offset: i64| if far % 2 == 0 { far } else { base + offset };
        let (iat, nbf, exp) = (at(iat, NOW, near[0]), at(nbf, NOW, near[1]), at(exp, NOW, near[2]));
        let token = with(with(with(user(), "iat", json!(iat)), "nbf", json!(nbf)), "exp", json!(exp));
        let (iat, nbf, exp) = (i128::from(iat), i128::from(nbf), i128::from(exp));
        let (now, longest) = (i128::from(NOW), i128::from(LONGEST));
        let should = (iat..=now + 5).contains(&nbf) && exp > nbf && exp - iat <= longest && now < exp + 5 && now - 60 <= iat + 5;
        prop_assert_eq!(parse_value(&token).is_ok(), should);
    }

    /// Noise is refused.
    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\":,0-9a-z ]{0,200}") {
        prop_assert!(parse(&bytes, &expected(NOW)).is_err());
        prop_assert!(parse(text.as_bytes(), &expected(NOW)).is_err());
    }
}
