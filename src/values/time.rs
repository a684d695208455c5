//! Time: whole seconds UTC, and the clock that hands them out.
//!
//! Whole seconds because one of the two databases compares times as text, where `…:05.5` and `…:05` do not sort by time. Order is
//! never decided by comparing times, only expiry is; so a second is fine enough.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

const SECONDS_PER_DAY: i64 = 86_400;
/// 0000-01-01T00:00:00Z, the first second that RFC 3339 can write.
const FIRST_WRITABLE: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
const LAST_WRITABLE: i64 = 253_402_300_799;

/// A moment: whole seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
///
/// `Display` writes RFC 3339 in UTC (`2026-11-24T03:06:34Z`); moments outside the years 0 to 9999 are written as the nearest
/// moment inside.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From seconds since the epoch.
    #[must_use]
    pub const fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since the epoch.
    #[must_use]
    pub const fn as_unix(self) -> i64 {
        self.0
    }

    /// This much later, parts of a second cut off; the end of time at most.
    #[must_use]
    pub const fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(by.as_secs()))
    }

    /// This much earlier, parts of a second cut off; the beginning of time at least.
    #[must_use]
    pub const fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(by.as_secs()))
    }

    /// How long after `earlier` this is; zero when it is not after it (clocks of replicas differ).
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        if self.0 > earlier.0 { Duration::from_secs(self.0.abs_diff(earlier.0)) } else { Duration::ZERO }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.clamp(FIRST_WRITABLE, LAST_WRITABLE);
        let (year, month, day) = civil(seconds.div_euclid(SECONDS_PER_DAY));
        let second = seconds.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Year, month and day of the proleptic Gregorian calendar for days since 1970-01-01.
///
/// Counts in eras of 400 years that begin on the first of March, so that the leap day is the last day of its year and the months
/// before it have a length that one line gives.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Five months from March hold 153 days, whichever five.
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// What tells the time: the system, or a hand that a test moves. Clones of a manual clock share the hand.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Milliseconds since the epoch.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self { source: Source::System }
    }

    /// A clock that stands at `at` until it is moved.
    #[must_use]
    pub fn manual(at: Timestamp) -> Self {
        let hand = AtomicI64::new(at.0.saturating_mul(1_000));
        Self { source: Source::Manual(Arc::new(hand)) }
    }

    /// Moves a manual clock and all its clones forward. The system's clock is not ours to move: nothing happens.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(hand) = &self.source {
            let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            let moved = |now: i64| Some(now.saturating_add(by));
            // `moved` always answers, so this cannot fail.
            let _ = hand.fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved);
        }
    }

    /// Puts a manual clock and all its clones to `at`, also backwards. On the system's clock nothing happens.
    pub fn set(&self, at: Timestamp) {
        if let Source::Manual(hand) = &self.source {
            hand.store(at.0.saturating_mul(1_000), Ordering::SeqCst);
        }
    }

    /// The current second.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.millis().div_euclid(1_000))
    }

    /// Milliseconds since the epoch; zero before it.
    #[must_use]
    pub fn now_millis(&self) -> u64 {
        u64::try_from(self.millis()).unwrap_or(0)
    }

    fn millis(&self) -> i64 {
        match &self.source {
            Source::System => system_millis(),
            Source::Manual(hand) => hand.load(Ordering::SeqCst),
        }
    }
}

/// A machine without a set clock may stand before the epoch; that is told as it is, never as some moment of the present.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock; all others are handed a `Clock`")]
fn system_millis() -> i64 {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    }
}
