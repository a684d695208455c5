//! Page tokens: bound to query and caller.

use doorward::values::{PageToken, RootSecrets};
use proptest::prelude::*;
use uuid::Uuid;

use super::{fresh_root, golden_roots, naughty_strings, near_misses};

/// FROZEN, and computed apart from this program: another result breaks every list that is being read.
const GOLDEN: &str = "XBj6UFBRUlNUVVZXWFlaW1xdXl_4GRzniaNpNw4yr7UsMtb6";
const BINDING: [&[u8]; 2] = [b"method", b"subject"];

fn cursor() -> Uuid {
    Uuid::from_bytes(*b"PQRSTUVWXYZ[\\]^_")
}

#[test]
fn the_form_never_changes() {
    let roots = golden_roots();
    assert_eq!(PageToken::encode(&roots, &BINDING, cursor()), GOLDEN);
    assert_eq!(PageToken::decode(GOLDEN, &roots, &BINDING), Ok(cursor()));
}

proptest! {
    #[test]
    fn a_token_reads_back_with_its_binding_only(
        id in any::<[u8; 16]>(),
        binding in proptest::collection::vec("[ab]{0,3}", 0..4),
        other in proptest::collection::vec("[ab]{0,3}", 0..4),
    ) {
        let roots = golden_roots();
        let parts = |texts: &[String]| texts.iter().map(|text| text.clone().into_bytes()).collect::<Vec<_>>();
        let (mine, theirs) = (parts(&binding), parts(&other));
        let mine: Vec<&[u8]> = mine.iter().map(Vec::as_slice).collect();
        let theirs: Vec<&[u8]> = theirs.iter().map(Vec::as_slice).collect();
        let id = Uuid::from_bytes(id);
        let token = PageToken::encode(&roots, &mine, id);
        prop_assert_eq!(token.len(), 48);
        prop_assert_eq!(PageToken::decode(&token, &roots, &mine), Ok(id));
        prop_assert_eq!(PageToken::decode(&token, &roots, &theirs).is_ok(), mine == theirs);
    }

    #[test]
    fn garbage_is_refused(text in "[A-Za-z0-9_-]{48}|.{0,60}") {
        prop_assert!(PageToken::decode(&text, &golden_roots(), &BINDING).is_err());
    }
}

#[test]
fn whatever_is_near_a_token_is_refused() {
    let roots = golden_roots();
    for near in near_misses(GOLDEN) {
        assert!(PageToken::decode(&near, &roots, &BINDING).is_err(), "{near:?} was accepted");
    }
    for naughty in naughty_strings() {
        assert!(PageToken::decode(&naughty, &roots, &BINDING).is_err());
    }
}

#[test]
fn parts_of_the_binding_do_not_flow_into_one_another() {
    let roots = golden_roots();
    let token = PageToken::encode(&roots, &[b"ab", b"c"], cursor());
    for other in [&[b"a" as &[u8], b"bc"] as &[&[u8]], &[b"abc"], &[b"ab", b"c", b""], &[b"c", b"ab"], &[]] {
        assert!(PageToken::decode(&token, &roots, other).is_err());
    }
}

#[test]
fn a_token_outlives_the_turn_of_the_root_but_not_its_removal() {
    let (old, new) = (fresh_root(), fresh_root());
    let token = PageToken::encode(&RootSecrets::parse(&[&old]).unwrap(), &BINDING, cursor());
    let turned = RootSecrets::parse(&[&new, &old]).unwrap();
    let removed = RootSecrets::parse(&[&new]).unwrap();
    assert_eq!(PageToken::decode(&token, &turned, &BINDING), Ok(cursor()));
    assert!(PageToken::decode(&token, &removed, &BINDING).is_err());
}
