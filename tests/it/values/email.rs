//! E-mail addresses: who is the same person, and who is not.

use doorward::values::{EmailAddress, EmailError};
use proptest::prelude::*;

use super::{naughty_strings, telling_characters, vectors};

fn canonical(raw: &str) -> String {
    let email = EmailAddress::parse(raw).unwrap_or_else(|error| panic!("{raw:?}: {error}"));
    email.canonical().to_owned()
}

fn refused(raw: &str) -> EmailError {
    EmailAddress::parse(raw).unwrap_err()
}

fn assert_stable(raw: &str) {
    let Ok(email) = EmailAddress::parse(raw) else {
        return;
    };
    let stored = EmailAddress::parse(email.as_str()).unwrap_or_else(|error| panic!("{raw:?}: {error}"));
    assert_eq!(stored, email, "{raw:?} is stored as another address");
    let again = EmailAddress::parse(email.canonical()).unwrap_or_else(|error| panic!("{raw:?}: {error}"));
    assert_eq!(again.canonical(), email.canonical(), "{raw:?}");
    assert_eq!(again.as_str(), email.canonical(), "{raw:?}");
}

#[test]
fn one_address_in_several_spellings_is_one_address() {
    for (raw, expected) in [
        ("Ana@Example.COM", "ana@example.com"),
        ("test@io", "test@io"),
        ("o'neil+tag@example.com", "o'neil+tag@example.com"),
        ("MU\u{308}LLER@example.com", "müller@example.com"),
        ("müller@mu\u{308}ller.example", "müller@xn--mller-kva.example"),
        ("a@MÜLLER.example", "a@xn--mller-kva.example"),
        ("a@XN--MLLER-KVA.example", "a@xn--mller-kva.example"),
        ("a@ｆｕｌｌ。example", "a@full.example"),
        ("a@r3---sn-x.example", "a@r3---sn-x.example"),
        ("用户@例子.公司", "用户@xn--fsqu00a.xn--55qx5d"),
        // Unicode says that these are the letter K and the letter Å: NFC replaces them.
        ("\u{212a}ate@example.com", "kate@example.com"),
        ("\u{212b}sa@example.com", "åsa@example.com"),
    ] {
        assert_eq!(canonical(raw), expected, "{raw:?}");
    }
}

#[test]
fn the_stored_form_keeps_the_case_that_was_given() {
    let email = EmailAddress::parse("Ana.Mari\u{301}a@Müller.Example").unwrap();
    assert_eq!(email.as_str(), "Ana.María@Müller.Example");
}

#[test]
fn addresses_that_only_look_alike_are_several_people() {
    let locals = ["i", "ı", "İ", "і", "ｉ", "ß", "ss", "ſs", "l", "1", "a.b", "ab", "ab+c", "ﬁ", "fi", "ø", "o"];
    let alike = locals.map(|local| canonical(&format!("{local}@example.com")));
    for (at, one) in alike.iter().enumerate() {
        assert!(!alike[..at].contains(one), "{one:?} is there twice");
    }
    assert_eq!(alike[2], "i\u{307}@example.com");
    assert_ne!(canonical("a@straße.example"), canonical("a@strasse.example"));
}

#[test]
fn each_refusal_says_what_is_wrong() {
    for raw in [" a@b.c", "a@b.c ", "a b@c.d", "a\0@b.c", "a@b.c\n", "a\u{a0}@b.c", "a\u{200b}@b.c", "a@b\u{ad}.c", "\u{202e}a@b.c"] {
        assert_eq!(refused(raw), EmailError::Character, "{raw:?}");
    }
    for raw in ["", "a", "example.com", "a\u{ff20}b.c"] {
        assert_eq!(refused(raw), EmailError::Form, "{raw:?}");
    }
    // The last is a Greek question mark, which NFC makes a semicolon.
    for raw in ["@b.c", ".a@b.c", "a.@b.c", "a..b@c.d", "a@b@c.d", "\"a\"@b.c", "(x)a@b.c", "a,b@c.d", "a\u{37e}b@c.d"] {
        assert_eq!(refused(raw), EmailError::Local, "{raw:?}");
    }
    for raw in [
        "a@",
        "a@.",
        "a@b.",
        "a@.b",
        "a@b..c",
        "a@-b.c",
        "a@b-.c",
        "a@b_c.d",
        "a@[127.0.0.1]",
        "a@b(x).c",
        "a@b\u{ff0f}c.d",
        "a@xn--\u{fc}.c",
        "a@xn--zzzzzz99999.c",
        "a@b%c.d",
        "a@b:25",
    ] {
        assert_eq!(refused(raw), EmailError::Domain, "{raw:?}");
    }
}

#[test]
fn lengths_are_bounded_in_both_forms() {
    let local = |length: usize| format!("{}@b.c", "a".repeat(length));
    assert!(EmailAddress::parse(&local(64)).is_ok());
    assert_eq!(refused(&local(65)), EmailError::Length);
    // 64 bytes as given, 96 in lower case.
    assert_eq!(refused(&format!("{}@b.c", "İ".repeat(32))), EmailError::Length);
    // 66 bytes as given, 44 in lower case.
    assert_eq!(refused(&format!("{}@b.c", "ẞ".repeat(22))), EmailError::Length);
    // 65 bytes as given, and 64 in NFC.
    assert!(EmailAddress::parse(&format!("{}e\u{301}@b.c", "a".repeat(62))).is_ok());

    let label = format!("{}.", "d".repeat(61));
    let total = |rest: usize| format!("a@{}{}", label.repeat(4), "e".repeat(rest));
    assert_eq!(total(4).len(), 254);
    assert!(EmailAddress::parse(&total(4)).is_ok());
    assert_eq!(refused(&format!("a{}", total(4))), EmailError::Length);
    // 303 bytes as given, in full-width letters, and 103 in ASCII.
    assert_eq!(refused(&format!("a@{0}.{0}", "ｅ".repeat(50))), EmailError::Length);
    // 111 bytes as given, 260 with the domain in ASCII; the domain alone would do.
    let wide = "ü.".repeat(30);
    assert!(EmailAddress::parse(&format!("a@{}", wide.trim_end_matches('.'))).is_ok());
    assert_eq!(refused(&format!("{}@{}", "a".repeat(20), wide.trim_end_matches('.'))), EmailError::Length);
    assert_eq!(refused(&format!("a@{}", "e".repeat(5_000))), EmailError::Length);
    assert_eq!(refused(&format!("a@{}.c", "e".repeat(64))), EmailError::Domain);
    assert!(EmailAddress::parse(&format!("a@{}.c", "e".repeat(63))).is_ok());
}

#[test]
fn addresses_do_not_show_in_debug_or_errors() {
    let shown = format!("{:?} {:?} {}", EmailAddress::parse("ana@example.com"), refused("ana@"), refused("ana@"));
    assert!(!shown.contains("ana"), "{shown}");
}

#[test]
fn every_character_has_a_stable_canonical_form() {
    for character in telling_characters() {
        assert_stable(&format!("{character}@b.c"));
        assert_stable(&format!("a{character}\u{301}B@b.c"));
        assert_stable(&format!("a@b{character}.c"));
    }
}

proptest! {
    #[test]
    fn canonical_addresses_are_stable(
        raw in any::<String>(),
        local in "[a-zA-Z.İıſKΣςé\u{301}\u{307}\u{323}ǅ]{1,20}",
        domain in "([a-zA-Z0-9üßΣςا日。.-]|xn--){1,20}",
    ) {
        assert_stable(&raw);
        assert_stable(&format!("{local}@example.com"));
        assert_stable(&format!("{local}@{domain}"));
        assert_stable(&format!("{raw}@{domain}"));
    }

    #[test]
    fn case_never_makes_another_person(local in "[a-z0-9é]{1,20}", domain in "[a-zü]{1,20}") {
        let lower = format!("{local}@{domain}.org");
        prop_assert_eq!(canonical(&lower), canonical(&lower.to_uppercase()));
    }
}

#[test]
fn naughty_strings_are_stable_or_refused() {
    for naughty in naughty_strings() {
        assert_stable(&naughty);
        assert_stable(&format!("{naughty}@example.com"));
        assert_stable(&format!("a@{naughty}"));
    }
}

/// What stands between two marks of a piece of XML, with its entities resolved.
fn element(xml: &str, name: &str) -> String {
    let after = xml.split_once(&format!("<{name}>")).map_or("", |(_, after)| after);
    let inside = after.split_once(&format!("</{name}>")).map_or("", |(inside, _)| inside);
    let mut text = inside.to_owned();
    for (entity, plain) in [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")] {
        text = text.replace(entity, plain);
    }
    // The file writes a control character as the symbol that pictures it.
    for code in 0..0x20_u8 {
        text = text.replace(&format!("&#x24{code:02X};"), &char::from(code).to_string());
    }
    text.replace("&#xA9;", "\u{a9}")
}

#[test]
fn the_foreign_syntax_cases_are_judged_as_their_authors_do() {
    let Some(xml) = vectors("email-syntax-cases.xml") else {
        return;
    };
    let mut seen = 0;
    for case in xml.split("<test id=").skip(1) {
        let address = element(case, "address");
        let (category, diagnosis) = (element(case, "category"), element(case, "diagnosis"));
        // Plain dot-atoms at host names, whether or not such a host exists; the other categories are what we leave out.
        let good = ["ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN"].contains(&category.as_str())
            || ["ISEMAIL_RFC5321_TLD", "ISEMAIL_RFC5321_TLDNUMERIC"].contains(&diagnosis.as_str());
        let read = EmailAddress::parse(&address);
        assert_eq!(read.is_ok(), good, "{address:?} is {diagnosis}, read as {read:?}");
        assert_stable(&address);
        seen += 1;
    }
    assert_eq!(seen, 164, "the file lost its cases");
}
