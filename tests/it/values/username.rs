//! User names and identifiers: who is the same person, and who is not.

use doorward::values::identifier::throttle_text;
use doorward::values::{EmailAddress, Identifier, TextError, Username, UsernameError};
use proptest::prelude::*;

use super::{naughty_strings, telling_characters};

fn canonical(raw: &str) -> String {
    Username::parse(raw).unwrap().canonical().to_owned()
}

fn refused(raw: &str) -> UsernameError {
    Username::parse(raw).unwrap_err()
}

fn assert_stable(raw: &str) {
    let Ok(name) = Username::parse(raw) else {
        return;
    };
    assert_eq!(name.as_str(), raw);
    let canonical = name.canonical();
    assert!(!canonical.is_empty() && !canonical.contains('@'), "{raw:?}");
    let again = Username::parse(canonical).unwrap_or_else(|error| panic!("{raw:?} to {canonical:?}: {error}"));
    assert_eq!(again.canonical(), canonical, "{raw:?}");
}

#[test]
fn one_name_in_several_spellings_is_one_name() {
    for (raw, expected) in [
        ("Ana", "ana"),
        ("ANA María", "ana maría"),
        ("ana mari\u{301}a", "ana maría"),
        ("ｆｕｌｌ", "full"),
        ("ﬁn①", "fin1"),
        ("a\u{a0}b", "a b"),
        ("\u{212a}ate", "kate"),
        ("STRASSE", "strasse"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
    ] {
        assert_eq!(canonical(raw), expected, "{raw:?}");
        assert_eq!(Username::parse(raw).unwrap().as_str(), raw);
    }
}

#[test]
fn names_that_only_look_alike_are_several() {
    let alike = ["i", "ı", "İ", "і", "l", "1"].map(canonical);
    for (at, one) in alike.iter().enumerate() {
        assert!(!alike[..at].contains(one), "{one:?} is there twice");
    }
    assert_ne!(canonical("straße"), canonical("strasse"));
}

#[test]
fn a_user_name_holds_no_at_in_any_spelling() {
    for raw in ["a@b", "@", "a\u{ff20}b", "a\u{fe6b}b"] {
        assert_eq!(refused(raw), UsernameError::At, "{raw:?}");
    }
}

#[test]
fn the_canonical_form_keeps_the_rules_of_the_name() {
    // NFKC makes a space and a mark of the first, three words of the second, 18 characters of each of the third.
    assert_eq!(refused("\u{a8}a"), TextError::Space.into());
    assert_eq!(canonical("a\u{fdfb}b").split(' ').count(), 2);
    assert_eq!(refused(&"\u{fdfa}".repeat(4)), TextError::Characters { max: 64 }.into());
}

#[test]
fn names_are_bounded_and_seen() {
    assert!(Username::parse(&"a".repeat(64)).is_ok());
    assert_eq!(refused(&"a".repeat(65)), TextError::Characters { max: 64 }.into());
    assert!(Username::parse(&"𠀀".repeat(63)).is_ok());
    assert_eq!(refused(&"𠀀".repeat(64)), TextError::Bytes { max: 255 }.into());
    assert_eq!(refused(&"a".repeat(5_000)), TextError::Bytes { max: 255 }.into());
    // As given, though NFKC makes 40 of them.
    assert_eq!(refused(&"e\u{301}".repeat(40)), TextError::Characters { max: 64 }.into());
    assert_eq!(refused(""), TextError::Empty.into());
    for space in [" a", "a ", "a  b", "a \u{a0}b", " "] {
        assert_eq!(refused(space), TextError::Space.into(), "{space:?}");
    }
    for control in ["a\0b", "a\tb", "a\nb", "\u{9f}", "a\u{2028}b"] {
        assert_eq!(refused(control), TextError::Control.into(), "{control:?}");
    }
    for unseen in ["a\u{200b}b", "a\u{202e}b", "a\u{2067}b", "\u{feff}a", "a\u{ad}", "\u{3164}", "a\u{180e}"] {
        assert_eq!(refused(unseen), TextError::Invisible.into(), "{unseen:?}");
    }
}

#[test]
fn every_character_has_a_stable_canonical_form() {
    for character in telling_characters() {
        let alone = character.to_string();
        let inside = format!("a{character}\u{301}B");
        for raw in [&alone, &inside] {
            assert_stable(raw);
        }
    }
}

#[test]
fn names_do_not_show_in_debug() {
    let shown = format!("{:?} {:?}", Username::parse("Ana"), Identifier::parse("ana@example.com"));
    assert!(!shown.to_lowercase().contains("ana"), "{shown}");
}

proptest! {
    #[test]
    fn canonical_names_are_stable(raw in any::<String>(), mixed in "[a-zİıſKΣς\u{301}\u{307}\u{323} ǅﬁ]{1,20}") {
        assert_stable(&raw);
        assert_stable(&mixed);
    }

    #[test]
    fn an_at_decides_what_an_identifier_is(raw in "[a-zA-Z@. ]{0,12}|.{0,20}") {
        match Identifier::parse(&raw) {
            Some(Identifier::Email(email)) => {
                prop_assert!(raw.contains('@'));
                prop_assert_eq!(EmailAddress::parse(&raw), Ok(email));
            }
            Some(Identifier::Username(name)) => {
                prop_assert!(!raw.contains('@'));
                prop_assert_eq!(Username::parse(&raw), Ok(name));
            }
            None => prop_assert!(EmailAddress::parse(&raw).is_err()),
        }
    }

    #[test]
    fn throttle_texts_are_bounded(raw in ".{0,1500}") {
        prop_assert!(throttle_text(&raw).len() <= 1_024);
    }
}

#[test]
fn all_spellings_of_an_account_share_a_counter() {
    for (one, other, text) in [
        ("Ana@Example.com", "ana@EXAMPLE.COM", "ana@example.com"),
        ("ｆｕｌｌ", "FULL", "full"),
        ("a@müller.example", "A@xn--mller-kva.example", "a@xn--mller-kva.example"),
        // Nobody can have these, and they are counted all the same.
        (" ana@example.com", " ANA@example.com", " ana@example.com"),
        ("a  B", "A  b", "a  b"),
        ("e\u{301}\0", "É\0", "é\0"),
        ("", "", ""),
    ] {
        assert_eq!(throttle_text(one), text, "{one:?}");
        assert_eq!(throttle_text(other), text, "{other:?}");
    }
    assert_ne!(throttle_text("ana"), throttle_text("ana@example.com"));
}

#[test]
fn long_throttle_texts_are_cut_between_characters() {
    assert_eq!(throttle_text(&"A".repeat(5_000)), "a".repeat(1_024));
    assert_eq!(throttle_text(&"日".repeat(5_000)), "日".repeat(341));
}

#[test]
fn naughty_strings_are_stable_or_refused() {
    for naughty in naughty_strings() {
        assert_stable(&naughty);
        let text = throttle_text(&naughty);
        assert_eq!(throttle_text(&naughty), text);
        assert!(text.len() <= 1_024);
    }
}
