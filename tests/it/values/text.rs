//! Free text, slugs, role names and protocol strings.

use doorward::values::TextError;
use doorward::values::text::{audience, client_id, required_text, role_name, slug, text};

use super::naughty_strings;

/// Characters that end a line, end a string or move a terminal.
const CONTROLS: [&str; 9] = ["\0", "\t", "\n", "\r", "\u{1b}", "\u{7f}", "\u{85}", "\u{2028}", "\u{2029}"];

#[test]
fn free_text_is_bounded_and_on_one_line() {
    for good in ["", "Renée O'Connor-Núñez", "  spaces  ", "日本語", "می\u{200c}خواهم", "👩\u{200d}🚀", "<b>"] {
        assert_eq!(text(good, 40), Ok(()), "{good:?}");
    }
    for control in CONTROLS {
        assert_eq!(text(&format!("a{control}b"), 40), Err(TextError::Control), "{control:?}");
    }
    assert_eq!(text("éé", 4), Ok(()));
    assert_eq!(text("ééa", 4), Err(TextError::Bytes { max: 4 }));
}

#[test]
fn required_text_says_something() {
    assert_eq!(required_text("a", 40), Ok(()));
    for nothing in ["", " ", "\u{3000}\u{a0}"] {
        assert_eq!(required_text(nothing, 40), Err(TextError::Empty), "{nothing:?}");
    }
    assert_eq!(required_text("\0", 40), Err(TextError::Control));
    assert_eq!(required_text("abc", 2), Err(TextError::Bytes { max: 2 }));
}

#[test]
fn slugs_are_labels() {
    let longest = "a".repeat(63);
    for good in ["a", "0", "acme", "acme-2", "a--b", "xn--a", &longest] {
        assert_eq!(slug(good), Ok(()), "{good:?}");
    }
    for bad in ["-", "-a", "a-", "A", "a.b", "a_b", "a b", "é", "a\n", "ａ", "a\0"] {
        assert_eq!(slug(bad), Err(TextError::Slug), "{bad:?}");
    }
    assert_eq!(slug(""), Err(TextError::Empty));
    assert_eq!(slug(&"a".repeat(64)), Err(TextError::Characters { max: 63 }));
}

#[test]
fn role_names_can_be_seen() {
    let (longest, widest) = ("é".repeat(64), "𝔸".repeat(64));
    for good in ["owner", "Store Manager", "管理者", "a\u{a0}b", &longest, &widest] {
        assert_eq!(role_name(good), Ok(()), "{good:?}");
    }
    for space in [" a", "a ", "a  b", " ", "a\u{3000} b", "\u{a0}"] {
        assert_eq!(role_name(space), Err(TextError::Space), "{space:?}");
    }
    for unseen in
        ["\u{200b}", "\u{202e}", "\u{feff}", "\u{ad}", "\u{2066}", "\u{3164}", "\u{fe0f}", "\u{2800}", "\u{e0041}", "\u{ffff}", "\u{1fffe}"]
    {
        assert_eq!(role_name(&format!("own{unseen}er")), Err(TextError::Invisible), "{unseen:?}");
    }
    for control in CONTROLS {
        assert_eq!(role_name(&format!("a{control}b")), Err(TextError::Control), "{control:?}");
    }
    assert_eq!(role_name(""), Err(TextError::Empty));
    assert_eq!(role_name(&"a".repeat(65)), Err(TextError::Characters { max: 64 }));
    assert_eq!(role_name(&"a".repeat(5_000)), Err(TextError::Bytes { max: 256 }));
}

#[test]
fn audiences_and_client_ids_are_visible_ascii() {
    let longest = "a".repeat(255);
    for check in [audience, client_id] {
        for good in ["doorward", "https://api.example/v1?x=%20", "0192f0a1-b2c3-7d4e-8f50-112233445566", &longest] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        for bad in ["a b", " a", "é", "a\n", "a\0", "\u{7f}"] {
            assert_eq!(check(bad), Err(TextError::Ascii), "{bad:?}");
        }
        assert_eq!(check(""), Err(TextError::Empty));
        assert_eq!(check(&"a".repeat(256)), Err(TextError::Bytes { max: 255 }));
    }
}

#[test]
fn nothing_that_is_named_by_id_or_name_has_the_name_of_an_id() {
    let id = "01a21525-bc96-7eef-a253-e6be06a76b6c";
    assert_eq!(slug(id), Err(TextError::Uuid));
    assert_eq!(slug(&id[1..]), Ok(()));
    for name in [id, &id.to_uppercase()] {
        assert_eq!(doorward::values::Username::parse(name), Err(doorward::values::UsernameError::Text(TextError::Uuid)), "{name}");
    }
}

#[test]
fn refusals_are_sentences() {
    assert_eq!(TextError::Control.to_string(), "must not hold control characters");
    assert_eq!(TextError::Bytes { max: 9 }.to_string(), "must not be longer than 9 bytes");
    assert_eq!(TextError::Characters { max: 9 }.to_string(), "must not be longer than 9 characters");
}

#[test]
fn naughty_strings_do_not_break_the_checks() {
    for naughty in naughty_strings() {
        let checks = [text(&naughty, 10_000), required_text(&naughty, 64), slug(&naughty), role_name(&naughty), audience(&naughty)];
        let line = !naughty.chars().any(char::is_control);
        assert!(checks[0].is_err() || line, "{naughty:?}");
    }
}
