//! Passwords: what is one, how one is stored, how one is changed.
//!
//! | file | rule |
//! |---|---|
//! | `stored.rs` | hashes of other parameters, and hashes that cannot be read |
//! | `change.rs` | `ChangePassword` |
//! | `must_change.rs` | a login that is good for changing the password only |
//! | `hasher.rs` | the queue before the hashing threads |
//!
//! Here: that nothing of a password is lost or folded (invariant 12).

use crate::{
    harness::*,
    login::{DOORS, attempt},
    on_both,
};

mod change;
mod hasher;
mod must_change;
mod stored;

/// A person with that password.
async fn person_with(world: &World, email: &str, password: &str) {
    world.new_person(Person { email: Some(email), password: Some(password), ..Person::default() }).await;
}

/// Whether a password logs in, by both doors alike.
async fn logs_in(world: &World, email: &str, password: &str) -> bool {
    let mut answers = Vec::new();
    for door in DOORS {
        let before = world.count_events("login.succeeded").await;
        let seen = attempt(world, door, email, password, "").await;
        let opened = world.count_events("login.succeeded").await > before;
        assert!(opened || seen.reason() == "INVALID_CREDENTIALS", "{door:?}");
        answers.push(opened);
    }
    assert_eq!(answers[0], answers[1], "both doors");
    answers[0]
}

/// Passwords that log in where `stored` was set, and others that do not.
async fn check(world: &World, stored: &str, same: &[&str], different: &[&str]) {
    let email = format!("p{}@example.com", world.sql().await.count("SELECT count(*) AS n FROM users").await);
    person_with(world, &email, stored).await;
    for typed in [stored].iter().chain(same) {
        assert!(logs_in(world, &email, typed).await, "{typed:?} is {stored:?}");
    }
    for typed in different {
        assert!(!logs_in(world, &email, typed).await, "{typed:?} is not {stored:?}");
    }
}

on_both! {
    async fn every_byte_of_a_password_counts(world: World) {
        let long = "a".repeat(72);
        let (longer, other, shorter) = (format!("{long}b"), format!("{long}c"), "a".repeat(71));
        check(&world, &longer, &[], &[&long, &other, &shorter, &format!("{long}bb"), &format!("{long}b\0")]).await;
        check(&world, &long, &[], &[&longer, &shorter, &format!("{long} ")]).await;

        let limit = "a".repeat(1024);
        check(&world, &limit, &[], &[&"a".repeat(1023), &"a".repeat(1025), &format!("{}b", "a".repeat(1023))]).await;
    }

    async fn a_nul_byte_is_a_character_like_others(world: World) {
        let stored = "before the nul\0after it";
        let different = ["before the nul", "before the nul\0", "before the nul\0other", "before the nulafter it", "before the nul after it"];
        check(&world, stored, &[], &different).await;
        check(&world, "fifteen letters", &[], &["fifteen letters\0", "\0fifteen letters", "fifteen\0letters"]).await;
    }

    async fn spaces_and_case_count(world: World) {
        let stored = "Correct horse battery";
        let different = [
            "correct horse battery", "CORRECT HORSE BATTERY", "Correct horse battery ", " Correct horse battery", "Correct  horse battery",
            "Correct\thorse battery", "Correct horse battery\n", "Correct horse\u{200b} battery", "Correcthorsebattery", "\u{feff}Correct horse battery",
        ];
        check(&world, stored, &[], &different).await;
        check(&world, "Correct horse battery ", &[], &["Correct horse battery", "Correct horse battery  "]).await;
    }

    async fn nfkc_is_the_one_normal_form(world: World) {
        // Composed, decomposed, full-width, ligature, ideographic space.
        let forms = [
            "\u{e9}lan vital fin 1 of all", "e\u{301}lan vital fin 1 of all", "\u{e9}lan \u{ff56}ital fin 1 of all",
            "\u{e9}lan vital \u{fb01}n 1 of all", "\u{e9}lan vital fin \u{2460} of all", "\u{e9}lan\u{3000}vital fin 1 of all",
        ];
        for stored in forms {
            check(&world, stored, &forms, &["elan vital fin 1 of all", "\u{c9}lan vital fin 1 of all", "\u{e8}lan vital fin 1 of all"]).await;
        }
    }

    async fn what_only_looks_alike_is_another_password(world: World) {
        check(&world, "an idle strasse in town", &[], &[
            "an \u{131}dle strasse in town", "an idle stra\u{df}e in town", "\u{430}n idle strasse in town", "an idle strasse in town\u{200d}",
            "an idle strasse in t\u{3bf}wn",
        ]).await;
    }

    async fn the_limit_is_of_bytes_as_typed(world: World) {
        // One sign of three bytes that NFKC makes 33 of.
        let (short, expanded) = ("\u{fdfa}".repeat(341), "\u{635}\u{644}\u{649} \u{627}\u{644}\u{644}\u{647} \u{639}\u{644}\u{64a}\u{647} \u{648}\u{633}\u{644}\u{645}".repeat(341));
        check(&world, &short, &[], &[&expanded, &"\u{fdfa}".repeat(340), &"\u{fdfa}".repeat(342)]).await;
        // And one that NFKC makes a byte of: 342 of them are 1,026 bytes, of which 342 would be left.
        check(&world, &"a".repeat(341), &[&"\u{ff41}".repeat(341)], &[]).await;
        check(&world, &"a".repeat(342), &[], &[&"\u{ff41}".repeat(342)]).await;
    }
}
