//! Moments, their text, and the clock.

use std::time::Duration;

use doorward::values::{Clock, Timestamp};
use proptest::prelude::*;

/// Made with an independent calendar (Python's `datetime`), but for the years that it does not know.
const KNOWN: &[(i64, &str)] = &[
    (0, "1970-01-01T00:00:00Z"),
    (-1, "1969-12-31T23:59:59Z"),
    (951_782_399, "2000-02-28T23:59:59Z"),
    (951_782_400, "2000-02-29T00:00:00Z"),
    (951_868_800, "2000-03-01T00:00:00Z"),
    (1_709_164_800, "2024-02-29T00:00:00Z"),
    (1_795_489_594, "2026-11-24T03:06:34Z"),
    (4_107_542_399, "2100-02-28T23:59:59Z"),
    (4_107_542_400, "2100-03-01T00:00:00Z"),
    (-2_203_891_200, "1900-03-01T00:00:00Z"),
    (-2_203_891_201, "1900-02-28T23:59:59Z"),
    (-62_135_596_800, "0001-01-01T00:00:00Z"),
    (-62_135_596_801, "0000-12-31T23:59:59Z"),
    (-62_162_121_600, "0000-02-29T00:00:00Z"),
    (-62_167_219_200, "0000-01-01T00:00:00Z"),
    (253_402_300_799, "9999-12-31T23:59:59Z"),
];

#[test]
fn moments_are_written_as_rfc_3339() {
    for (seconds, text) in KNOWN {
        assert_eq!(Timestamp::from_unix(*seconds).to_string(), *text);
    }
}

#[test]
fn moments_that_rfc_3339_cannot_write_are_written_as_the_nearest() {
    for (seconds, text) in [
        (-62_167_219_201, "0000-01-01T00:00:00Z"),
        (i64::MIN, "0000-01-01T00:00:00Z"),
        (253_402_300_800, "9999-12-31T23:59:59Z"),
        (i64::MAX, "9999-12-31T23:59:59Z"),
    ] {
        assert_eq!(Timestamp::from_unix(seconds).to_string(), text);
    }
}

/// The calendar by its definition: count the days, year by year and month by month.
#[test]
fn every_day_of_ten_thousand_years_has_its_date() {
    let mut day = -62_167_219_200 / 86_400;
    for year in 0..=9999 {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let february = if leap { 29 } else { 28 };
        let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        for (month, length) in (1..).zip(lengths) {
            for date in 1..=length {
                let expected = format!("{year:04}-{month:02}-{date:02}T00:00:00Z");
                assert_eq!(Timestamp::from_unix(day * 86_400).to_string(), expected);
                day += 1;
            }
        }
    }
}

proptest! {
    #[test]
    fn arithmetic_is_exact_or_stops_at_the_ends(at in any::<i64>(), by in any::<u64>()) {
        let (moment, span) = (Timestamp::from_unix(at), Duration::from_secs(by));
        let clamp = |wide: i128| i64::try_from(wide.clamp(i64::MIN.into(), i64::MAX.into())).unwrap();
        prop_assert_eq!(moment.plus(span).as_unix(), clamp(i128::from(at) + i128::from(by)));
        prop_assert_eq!(moment.minus(span).as_unix(), clamp(i128::from(at) - i128::from(by)));
    }

    #[test]
    fn the_span_since_a_later_moment_is_zero(one in any::<i64>(), other in any::<i64>()) {
        let span = Timestamp::from_unix(one).since(Timestamp::from_unix(other));
        let expected = (i128::from(one) - i128::from(other)).max(0);
        prop_assert_eq!(span, Duration::from_secs(u64::try_from(expected).unwrap()));
    }
}

#[test]
fn clones_of_a_manual_clock_share_the_hand() {
    let clock = Clock::manual(Timestamp::from_unix(100));
    let other = clock.clone();
    other.advance(Duration::from_millis(1_999));
    assert_eq!(clock.now(), Timestamp::from_unix(101));
    assert_eq!(clock.now_millis(), 101_999);
    other.advance(Duration::from_millis(1));
    assert_eq!(clock.now(), Timestamp::from_unix(102));
    other.set(Timestamp::from_unix(7));
    assert_eq!(clock.now(), Timestamp::from_unix(7));
    clock.advance(Duration::MAX);
    assert!(clock.now() > Timestamp::from_unix(7), "the hand must not wrap");
}

#[test]
fn seconds_before_the_epoch_are_rounded_down_and_their_milliseconds_are_zero() {
    let clock = Clock::manual(Timestamp::from_unix(-2));
    clock.advance(Duration::from_millis(1));
    assert_eq!(clock.now(), Timestamp::from_unix(-2));
    assert_eq!(clock.now_millis(), 0);
}

#[test]
fn the_system_clock_goes_on_and_cannot_be_moved() {
    let clock = Clock::system();
    // 2026-01-01: later than any moment at which this could have been written wrongly.
    let new_year = Timestamp::from_unix(1_767_225_600);
    assert!(clock.now() > new_year);
    clock.set(Timestamp::from_unix(0));
    clock.advance(Duration::from_hours(24 * 365 * 1_000));
    let now = clock.now();
    assert!(now > new_year && now < Timestamp::from_unix(16_000_000_000));
    assert_eq!(clock.now_millis() / 1_000_000, u64::try_from(now.as_unix()).unwrap() / 1_000);
}
