//! Opaque tokens: their form, their tag, the chain of refresh secrets.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward::values::opaque::{Kind, kind_of};
use doorward::values::{Entropy, OpaqueError, Purpose, RefreshToken, RootSecrets, SessionId};
use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::secret::hex;
use super::{fresh_root, golden_roots, naughty_strings, near_misses};

const GOLDEN: &str = "dw_rt_XBj6UEBBQkNERUZHSElKS0xNTk8AAAAABwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcdsDrwbROnhGG-A-d_39Og";
const GOLDEN_SUCCESSOR: &str = "dw_rt_XBj6UEBBQkNERUZHSElKS0xNTk8AAAAB3l-czvqbNCy0P6eCKr1WE5dBRJvkyJVnAE-Y96rPWSlsj5RYd0pekSpRcUQPmSfm";

fn text(token: &RefreshToken, roots: &RootSecrets) -> String {
    token.encode(roots).unwrap().expose_secret().to_owned()
}

fn token(roots: &RootSecrets, session: [u8; 16], generation: u32, secret: [u8; 32]) -> RefreshToken {
    RefreshToken {
        key_id: roots.first().key_id(),
        session: SessionId::from_uuid(Uuid::from_bytes(session)),
        generation,
        secret: Zeroizing::new(secret),
    }
}

/// FROZEN, and computed apart from this program: another result logs everybody out.
#[test]
fn the_form_and_the_chain_of_refresh_tokens_never_change() {
    let roots = golden_roots();
    let session = *b"@ABCDEFGHIJKLMNO";
    let first = token(&roots, session, 0, [7; 32]);
    assert_eq!(text(&first, &roots), GOLDEN);
    let second = first.successor(&roots).unwrap();
    assert_eq!(text(&second, &roots), GOLDEN_SUCCESSOR);
    let digest = "ba89d54df3a61188118fe2b4265905947effe5282ee5eeb7fdbc8c272ee2b1cd";
    assert_eq!(hex(&second.digest()), digest);
}

proptest! {
    #[test]
    fn a_token_reads_back(session in any::<[u8; 16]>(), generation in any::<u32>(), secret in any::<[u8; 32]>()) {
        let roots = golden_roots();
        let token = token(&roots, session, generation, secret);
        let text = text(&token, &roots);
        prop_assert_eq!(text.len(), 102);
        let read = RefreshToken::parse(&text, &roots).unwrap();
        prop_assert_eq!(read.key_id, token.key_id);
        prop_assert_eq!(read.session, token.session);
        prop_assert_eq!(read.generation, generation);
        prop_assert_eq!(*read.secret, secret);
        prop_assert_eq!(read.digest(), token.digest());
    }

    #[test]
    fn garbage_is_refused(text in "(dw_rt_)?[A-Za-z0-9_-]{0,110}|.{0,110}") {
        prop_assert!(RefreshToken::parse(&text, &golden_roots()).is_err());
    }

    #[test]
    fn successors_depend_on_session_generation_and_secret(
        session in any::<[u8; 16]>(), generation in 0..u32::MAX - 1, secret in any::<[u8; 32]>(), bit in 0_usize..128,
    ) {
        let roots = golden_roots();
        let next = |session, generation, secret| *token(&roots, session, generation, secret).successor(&roots).unwrap().secret;
        let successor = next(session, generation, secret);
        prop_assert_eq!(successor, next(session, generation, secret));
        prop_assert_ne!(successor, next(session, generation + 1, secret));
        let flip = |byte: &mut u8| *byte ^= 1 << (bit % 8);
        let (mut other_session, mut other_secret) = (session, secret);
        flip(&mut other_session[bit / 8]);
        flip(&mut other_secret[bit / 8]);
        prop_assert_ne!(successor, next(other_session, generation, secret));
        prop_assert_ne!(successor, next(session, generation, other_secret));
    }
}

#[test]
fn whatever_is_near_a_token_is_refused() {
    let roots = golden_roots();
    assert!(RefreshToken::parse(GOLDEN, &roots).is_ok());
    for near in near_misses(GOLDEN) {
        assert!(RefreshToken::parse(&near, &roots).is_err(), "{near:?} was accepted");
    }
    for (at, character) in GOLDEN.char_indices().filter(|(_, c)| c.is_ascii_alphabetic()) {
        let mut other = GOLDEN.to_owned();
        let swapped = if character.is_ascii_lowercase() { character.to_ascii_uppercase() } else { character.to_ascii_lowercase() };
        other.replace_range(at..=at, swapped.encode_utf8(&mut [0; 4]));
        assert!(RefreshToken::parse(&other, &roots).is_err(), "{other:?} was accepted");
    }
}

#[test]
fn the_tag_covers_the_prefix() {
    let roots = golden_roots();
    let body = URL_SAFE_NO_PAD.decode(&GOLDEN[6..]).unwrap();
    for kind in Kind::ALL {
        let tag = roots.first().mac_fixed(Purpose::TokenTag, &[kind.prefix().as_bytes(), &body[..56]]);
        let bytes = [&body[..56], &tag[..16]].concat();
        let text = format!("dw_rt_{}", URL_SAFE_NO_PAD.encode(bytes));
        let read = RefreshToken::parse(&text, &roots);
        assert_eq!(read.is_ok(), kind == Kind::Refresh, "{kind:?}");
    }
}

#[test]
fn each_refusal_says_what_it_was() {
    let roots = golden_roots();
    let refused = |text: &str| RefreshToken::parse(text, &roots).unwrap_err();
    assert_eq!(refused(&GOLDEN.replace("dw_rt_", "dw_ak_")), OpaqueError::Malformed);
    assert_eq!(refused(&GOLDEN[..98]), OpaqueError::Malformed);
    assert_eq!(refused(&"dw_rt_".repeat(1_000)), OpaqueError::Malformed);
    assert_eq!(refused(&GOLDEN.replace('_', "/")), OpaqueError::Malformed);
    assert_eq!(refused(&GOLDEN.replace("39Og", "39Oh")), OpaqueError::Forged);
    let others = RootSecrets::parse(&[fresh_root()]).unwrap();
    assert_eq!(RefreshToken::parse(GOLDEN, &others).unwrap_err(), OpaqueError::UnknownKey);
}

#[test]
fn a_chain_stays_with_the_root_that_began_it() {
    let (old, new) = (fresh_root(), fresh_root());
    let before = RootSecrets::parse(&[&old]).unwrap();
    let after = RootSecrets::parse(&[&new, &old]).unwrap();
    let gone = RootSecrets::parse(&[&new]).unwrap();
    let session = SessionId::from_uuid(Uuid::from_bytes([9; 16]));
    let first = RefreshToken::first(&before, session, &Entropy::system());
    assert_eq!((first.generation, first.session), (0, session));

    let second = RefreshToken::parse(&text(&first, &before), &after).unwrap().successor(&after).unwrap();
    assert_eq!(second.key_id, before.first().key_id());
    assert_eq!(text(&second, &after), text(&first.successor(&before).unwrap(), &before));

    assert!(first.successor(&gone).is_none());
    assert!(first.encode(&gone).is_none());
}

#[test]
fn first_secrets_are_random() {
    let roots = golden_roots();
    let session = SessionId::from_uuid(Uuid::nil());
    let first = || *RefreshToken::first(&roots, session, &Entropy::system()).secret;
    assert_ne!(first(), first());
}

#[test]
fn a_chain_ends_at_the_end_of_the_count() {
    let roots = golden_roots();
    let last = token(&roots, [1; 16], u32::MAX, [2; 32]);
    assert!(last.successor(&roots).is_none());
    let before = token(&roots, [1; 16], u32::MAX - 1, [2; 32]);
    assert_eq!(before.successor(&roots).unwrap().generation, u32::MAX);
}

#[test]
fn a_token_does_not_show_its_secret() {
    let roots = golden_roots();
    let token = RefreshToken::parse(GOLDEN, &roots).unwrap();
    let shown = format!("{token:?} {:?}", token.encode(&roots).unwrap());
    assert!(!shown.contains("secret:") && !shown.contains("7, 7"), "{shown}");
    assert!(!shown.contains("BwcHBw"), "{shown}");
}

#[test]
fn kinds_are_told_by_their_prefix() {
    let expected = [
        ("dw_rt_", Kind::Refresh),
        ("dw_ak_", Kind::ApiKey),
        ("dw_pr_", Kind::PasswordReset),
        ("dw_ev_", Kind::EmailVerification),
        ("dw_in_", Kind::Invitation),
        ("dw_dt_", Kind::Device),
    ];
    for (prefix, kind) in expected {
        assert_eq!(kind_of(&format!("{prefix}x")), Some(kind));
        assert_eq!(kind.prefix(), prefix);
        assert_eq!(kind_of(&prefix.to_uppercase()), None);
        assert_eq!(kind_of(&format!(" {prefix}")), None);
    }
    for other in ["", "dw_", "dw_rt", "dw_xx_", "eyJhbGciOiJFUzI1NiJ9.e30."] {
        assert_eq!(kind_of(other), None);
    }
}

#[test]
fn naughty_strings_are_no_tokens() {
    for naughty in naughty_strings() {
        assert!(RefreshToken::parse(&naughty, &golden_roots()).is_err());
        assert!(RefreshToken::parse(&format!("dw_rt_{naughty}"), &golden_roots()).is_err());
    }
}
