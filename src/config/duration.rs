//! Lengths of time as an operator writes them: a whole number and one unit.

use std::time::Duration;

/// No configured length is longer: ten years, so that sums of times never overflow.
const MAX_SECONDS: u64 = 3_650 * 86_400;

/// Parses `30s`, `15m`, `12h` or `7d`. A bare number is refused: whether `30` meant seconds or minutes shows only in an
/// incident. Whole seconds only, because that is what the store keeps.
///
/// # Errors
/// What a good length looks like.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    let mut characters = text.chars();
    let seconds_per_unit = match characters.next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        Some(c) if c.is_ascii_digit() => return Err("must name its unit: s, m, h or d, such as 30s or 15m"),
        _ => return Err("must be a whole number and its unit s, m, h or d, such as 30s or 15m"),
    };
    let digits = characters.as_str();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("must be a whole number and its unit s, m, h or d, such as 30s or 15m");
    }
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(seconds_per_unit))
        .filter(|seconds| *seconds <= MAX_SECONDS)
        .map(Duration::from_secs)
        .ok_or("must be at most 3650d")
}

/// The same length as [`parse`] takes it, in the largest unit that fits: `15m`, not `900s`.
#[must_use]
pub fn write(length: Duration) -> String {
    let seconds = length.as_secs();
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
    let fits = |(unit, _): &&(u64, char)| seconds > 0 && seconds.is_multiple_of(*unit);
    let (unit, letter) = units.iter().find(fits).copied().unwrap_or((1, 's'));
    format!("{}{letter}", seconds / unit)
}
