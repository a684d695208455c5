//! Root secrets and all that is derived from them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::values::secret::{equal, generate_root, read_root, sha256};
use doorward::values::{Entropy, Password, Purpose, RootError, RootFlaw, RootSecrets, UnsealError};
use proptest::prelude::*;

use super::{GOLDEN_ROOT, fresh_root, golden_roots};

const PURPOSES: [(Purpose, &str); 5] = [
    (Purpose::RefreshChain, "6993fb65492766e26872b8fd3e93e73f4cc25d51fedd41ac63215dba7ea04ead"),
    (Purpose::TokenTag, "e9709824a4dad97976faf79a40e7dcd16e7800787c841965341a0cdbfdcb7b8d"),
    (Purpose::PageToken, "00efa121364e489d2bf1ce157b6a98a5f90481b7548c9520bfc744a568a02bbf"),
    (Purpose::Identifier, "c6871170fc3045a54734bad4f09296e832b75ccf63bd37e49e5968ff860dd022"),
    (Purpose::Idempotency, "8b5c55774d24af912f7e4af862754e7e49b79d9f81834bbf927369076e78a719"),
];

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// FROZEN. Computed apart from this program (HKDF, HMAC and AES-GCM of Python). When this test fails, every token, throttle
/// counter and sealed key of every installation has become invalid: change the program back, never the values.
#[test]
fn what_is_derived_from_a_root_never_changes() {
    let roots = golden_roots();
    let root = roots.first();
    assert_eq!(hex(&root.key_id()), "5c18fa50");
    let check = "58b393dfe4fefed1964068ff7a269c3d74ea81860357e415cba936f7be5705a1";
    assert_eq!(root.check(), check);
    for (purpose, expected) in PURPOSES {
        assert_eq!(hex(&root.mac(purpose, &[b"ab", b"c"])), expected, "{purpose:?}");
    }
    let sealed = unhex("015c18fa50000102030405060708090a0bfeafba46d2c4a13b3fd5a4503fcca8c4be464478f602d4f07c3ff4c73c5504");
    assert_eq!(roots.unseal(&sealed, b"row").unwrap().as_slice(), b"the private key");
}

#[test]
fn parts_of_a_mac_do_not_flow_into_one_another() {
    let roots = golden_roots();
    let root = roots.first();
    let lists: [&[&[u8]]; 6] = [&[b"ab", b"c"], &[b"a", b"bc"], &[b"abc"], &[b"abc", b""], &[b"", b"abc"], &[]];
    let macs = lists.map(|list| root.mac(Purpose::Identifier, list));
    for (at, mac) in macs.iter().enumerate() {
        assert!(!macs[..at].contains(mac), "list {at} has the mac of another");
    }
    let joined = root.mac_fixed(Purpose::Identifier, &[b"ab", b"c"]);
    assert_eq!(joined, root.mac_fixed(Purpose::Identifier, &[b"abc"]));
    assert!(!macs.contains(&joined));
}

#[test]
fn a_list_of_roots_is_refused_with_the_place_of_the_mistake() {
    let good = fresh_root();
    let refused = |list: &[&str]| RootSecrets::parse(list).unwrap_err();
    assert_eq!(refused(&[]), RootError::Missing);
    assert_eq!(refused(&[&good, ""]), RootError::Unfit { index: 1, flaw: RootFlaw::Short });
    // A length that no bytes have, and 31 bytes.
    assert_eq!(refused(&[&"A".repeat(45)]), RootError::Unfit { index: 0, flaw: RootFlaw::Encoding });
    assert_eq!(refused(&["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg"]), RootError::Unfit { index: 0, flaw: RootFlaw::Short });
    for encoded in [
        format!("{GOLDEN_ROOT}="),
        format!(" {GOLDEN_ROOT}"),
        format!("{GOLDEN_ROOT}\n"),
        // The last character carries bits that no byte takes.
        GOLDEN_ROOT.replace("Hh8", "Hh9"),
        "+/".repeat(32),
    ] {
        assert_eq!(refused(&[&good, &encoded]), RootError::Unfit { index: 1, flaw: RootFlaw::Encoding }, "{encoded}");
    }
    assert_eq!(refused(&[&"A".repeat(43)]), RootError::Unfit { index: 0, flaw: RootFlaw::Pattern });
    assert_eq!(refused(&[&good, GOLDEN_ROOT, &good]), RootError::Repeated { index: 2 });
}

/// What is printed in places from which secrets are copied.
const EXAMPLES: [&str; 15] = [
    "super_secret_key_change_in_prod",
    "your-secret-key-change-in-production",
    "MY_SECRET_KEY",
    "your-secret-key",
    "example-jwt-secret",
    "your-production-secret-here",
    "insecure-secret-key-change-this",
    "your-secure-secret-key",
    "your-256-bit-secret",
    "a-string-secret-at-least-256-bits-long",
    "Change-Me",
    "OUTPUT-OF-DOORWARD-SECRET-GENERATE",
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
];

#[test]
fn known_defaults_are_refused_in_every_spelling_and_in_base64url() {
    for example in EXAMPLES {
        let encoded = URL_SAFE_NO_PAD.encode(example);
        let spellings = [example.to_owned(), example.to_uppercase(), example.to_lowercase(), example.replace('-', "_"), encoded];
        for spelling in spellings {
            assert_eq!(read_root(&spelling).map(drop), Err(RootFlaw::Guessable), "{spelling}");
        }
    }
    // Words of the alphabet decode to bytes that look random.
    assert_eq!(read_root("This-is-my-own-PassWord-and-nobody-will-guess-it1").map(drop), Err(RootFlaw::Guessable));
}

#[test]
fn what_is_plainly_not_random_is_refused() {
    let refused = |bytes: &[u8]| read_root(&URL_SAFE_NO_PAD.encode(bytes)).map(drop);
    assert_eq!(refused(b"correct horse battery staple, and more of it"), Err(RootFlaw::Text));
    assert_eq!(refused(b"0123456789\tabcdefghijklmnopqrstuvwxyz\n"), Err(RootFlaw::Text));
    let pattern = |different: u8| (0..64).map(|at| 0xf0 + at % different).collect::<Vec<u8>>();
    assert_eq!(refused(&pattern(15)), Err(RootFlaw::Pattern));
    assert_eq!(refused(&pattern(16)), Ok(()), "the bound is where it is said to be");
    assert_eq!(refused(&[0; 32]), Err(RootFlaw::Pattern));
    // Of thousands of random ones none is.
    for _ in 0..5_000 {
        assert_eq!(refused(&Entropy::system().bytes::<32>()), Ok(()));
    }
}

#[test]
fn errors_about_roots_do_not_repeat_them() {
    let error = RootSecrets::parse(&["correcthorse"]).unwrap_err();
    assert!(error.to_string().starts_with("root secret 1 is shorter than 32 bytes"));
    assert!(!format!("{error:?}").contains("correcthorse"));
}

#[test]
fn the_first_root_makes_and_all_are_accepted() {
    let (old, new) = (fresh_root(), fresh_root());
    let before = RootSecrets::parse(&[&old]).unwrap();
    let after = RootSecrets::parse(&[&new, &old]).unwrap();
    let alone = RootSecrets::parse(&[&new]).unwrap();
    assert_eq!(after.first().key_id(), alone.first().key_id());
    assert_eq!(after.all().count(), 2);

    let key_id = before.first().key_id();
    assert_eq!(after.by_key_id(key_id).unwrap().key_id(), key_id);
    assert!(alone.by_key_id(key_id).is_none());

    let sealed = before.first().seal(b"key", b"row", &Entropy::system());
    assert_eq!(after.unseal(&sealed, b"row").unwrap().as_slice(), b"key");
    assert_eq!(alone.unseal(&sealed, b"row").unwrap_err(), UnsealError::UnknownKey);

    let check = before.first().check();
    assert!(before.accepts_check(&check) && after.accepts_check(&check));
    assert!(!alone.accepts_check(&check));
    for wrong in ["", &check[1..], &check[..63], &check.to_uppercase(), &format!("{check}0")] {
        assert!(!after.accepts_check(wrong), "{wrong:?}");
    }
}

#[test]
fn a_generated_root_is_good_and_new_each_time() {
    let entropy = Entropy::system();
    let root = generate_root(&entropy);
    assert_eq!(root.len(), 43);
    assert!(RootSecrets::parse(&[&root]).is_ok());
    assert_ne!(root, generate_root(&entropy));
    assert_ne!(entropy.bytes::<32>(), [0; 32]);
}

proptest! {
    #[test]
    fn sealed_bytes_open_with_what_they_are_bound_to(
        plaintext in proptest::collection::vec(any::<u8>(), 0..200),
        associated in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let roots = golden_roots();
        let sealed = roots.first().seal(&plaintext, &associated, &Entropy::system());
        prop_assert_eq!(sealed.len(), plaintext.len() + 33);
        let opened = roots.unseal(&sealed, &associated).unwrap();
        prop_assert_eq!(opened.as_slice(), plaintext);
    }

    #[test]
    fn unsealing_anything_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        prop_assert!(golden_roots().unseal(&bytes, b"").is_err());
    }
}

#[test]
fn changed_sealed_bytes_stay_closed() {
    let roots = golden_roots();
    let sealed = roots.first().seal(b"the private key", b"row", &Entropy::system());
    assert!(!sealed.windows(7).any(|window| window == b"private"));
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << bit;
            let error = roots.unseal(&changed, b"row").unwrap_err();
            let expected = match at {
                0 => UnsealError::Malformed,
                1..5 => UnsealError::UnknownKey,
                _ => UnsealError::Forged,
            };
            assert_eq!(error, expected, "byte {at}");
        }
        let expected = if at < 33 { UnsealError::Malformed } else { UnsealError::Forged };
        assert_eq!(roots.unseal(&sealed[..at], b"row"), Err(expected), "cut at {at}");
    }
    assert_eq!(roots.unseal(&[sealed.as_slice(), &[0]].concat(), b"row"), Err(UnsealError::Forged));
    assert_eq!(roots.unseal(&sealed, b"another row"), Err(UnsealError::Forged));
    assert_eq!(roots.unseal(&sealed, b""), Err(UnsealError::Forged));
}

#[test]
fn sealing_twice_never_gives_the_same_bytes() {
    let roots = golden_roots();
    let seal = || roots.first().seal(b"key", b"row", &Entropy::system());
    let (one, other) = (seal(), seal());
    assert_eq!(one[..5], other[..5]);
    assert_ne!(one[5..17], other[5..17], "a nonce came twice");
}

#[test]
fn sha256_is_that_of_fips_180() {
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hex(&sha256(b"abc")), abc);
}

#[test]
fn equality_is_that_of_bytes() {
    assert!(equal(b"", b"") && equal(b"ab", b"ab"));
    assert!(!equal(b"ab", b"ac") && !equal(b"ab", b"b") && !equal(b"ab", b"abc") && !equal(b"", b"a"));
}

#[test]
fn secrets_do_not_show_in_debug() {
    let password = Password::new("correct horse".to_owned());
    assert_eq!(password.as_str(), "correct horse");
    assert_eq!(format!("{password:?}"), "Password(…)");
    let roots = golden_roots();
    assert_eq!(format!("{roots:?}"), "[Root(5c18fa50)]");
}
