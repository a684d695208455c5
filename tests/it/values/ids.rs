//! Ids: their one text form.

use std::time::Duration;

use doorward::values::ids::{TenantId, UserId};
use doorward::values::{Clock, Entropy, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

const HYPHENATED: &str = "0192f0a1-b2c3-7d4e-8f50-112233445566";

proptest! {
    #[test]
    fn an_id_reads_back_from_its_text_in_any_case(bytes in any::<[u8; 16]>()) {
        let id = UserId::from_uuid(Uuid::from_bytes(bytes));
        let text = id.to_string();
        prop_assert_eq!(text.parse::<UserId>(), Ok(id));
        prop_assert_eq!(text.to_uppercase().parse::<UserId>(), Ok(id));
        prop_assert_eq!(text.to_lowercase(), text);
        prop_assert_eq!(id.as_bytes(), bytes);
        prop_assert_eq!(id.as_uuid().into_bytes(), bytes);
    }

    #[test]
    fn whatever_parses_is_hyphenated(text in ".{0,48}") {
        if let Ok(id) = text.parse::<UserId>() {
            prop_assert_eq!(id.to_string(), text.to_lowercase());
        }
    }
}

#[test]
fn other_spellings_of_a_uuid_are_refused() {
    assert!(HYPHENATED.parse::<UserId>().is_ok());
    let simple = HYPHENATED.replace('-', "");
    let moved = "0192f0a1b-2c3-7d4e-8f50-112233445566";
    for other in [
        simple.clone(),
        format!("{{{HYPHENATED}}}"),
        format!("urn:uuid:{HYPHENATED}"),
        format!(" {HYPHENATED}"),
        format!("{HYPHENATED}\n"),
        format!("{simple}    "),
        moved.to_owned(),
        HYPHENATED.replace('0', "g"),
        String::new(),
    ] {
        assert!(other.parse::<UserId>().is_err(), "{other:?} was read");
    }
}

#[test]
fn new_ids_are_of_version_7_and_carry_the_clock() {
    let clock = Clock::manual(Timestamp::from_unix(1_700_000_000));
    let entropy = Entropy::system();
    let earlier = TenantId::generate(&entropy, &clock);
    clock.advance(Duration::from_millis(1));
    let later = TenantId::generate(&entropy, &clock);

    assert_eq!(earlier.as_uuid().get_version_num(), 7);
    assert_eq!(earlier.as_uuid().get_variant(), uuid::Variant::RFC4122);
    assert_eq!(earlier.as_bytes()[..6], 1_700_000_000_000_u64.to_be_bytes()[2..]);
    assert!(earlier < later, "ids sort by time of birth");
    assert_ne!(later, TenantId::generate(&entropy, &clock));
}

#[test]
fn ids_are_plain_strings_in_json_and_name_their_type_in_debug() {
    let id: UserId = HYPHENATED.parse().unwrap();
    let json = serde_json::to_string(&id).unwrap();
    assert_eq!(json, format!("\"{HYPHENATED}\""));
    assert_eq!(serde_json::from_str::<UserId>(&json).unwrap(), id);
    let simple = format!("\"{}\"", HYPHENATED.replace('-', ""));
    assert!(serde_json::from_str::<UserId>(&simple).is_err());
    assert_eq!(format!("{id:?}"), format!("UserId({HYPHENATED})"));
}
