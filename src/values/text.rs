//! Text: what free text, slugs, role names and protocol strings may hold.
//!
//! The functions look and say no; they never change what they are given.

use super::ids;

/// Why a text is refused. The sentence goes behind the field's name in a `BadRequest`; it never repeats the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TextError {
    /// Nothing is given where something must be.
    #[error("must not be empty")]
    Empty,
    /// More bytes of UTF-8 than the field takes.
    #[error("must not be longer than {max} bytes")]
    Bytes {
        /// The most that it takes.
        max: usize,
    },
    /// More characters than the field takes.
    #[error("must not be longer than {max} characters")]
    Characters {
        /// The most that it takes.
        max: usize,
    },
    /// NUL, tab, line break or another control character, or a Unicode line or paragraph separator.
    #[error("must not hold control characters")]
    Control,
    /// Characters that cannot be seen, or that turn the direction of others.
    #[error("must not hold invisible characters")]
    Invisible,
    /// White space at an end, or more than one in a row.
    #[error("must not begin or end with white space, nor hold more than one in a row")]
    Space,
    /// Not a slug.
    #[error("must be lower-case letters a to z, digits and hyphens, with a letter or digit at both ends")]
    Slug,
    /// In the form of an id: whoever names things by id or name could not tell which is meant.
    #[error("must not have the form of a UUID")]
    Uuid,
    /// Not visible ASCII.
    #[error("must be visible ASCII characters without spaces")]
    Ascii,
}

/// The most characters of a slug: one DNS label (RFC 1035, section 2.3.4), so that it can be part of a host name.
const SLUG_MAX: usize = 63;
const ROLE_NAME_MAX: usize = 64;
/// The most bytes of an audience or a client id.
const PROTOCOL_MAX: usize = 255;

/// Free text, possibly empty, such as a person's name: at most `max_bytes` of UTF-8 and on one line.
///
/// # Errors
/// Too long, or with control characters (NUL, tab and line breaks are among them).
pub fn text(value: &str, max_bytes: usize) -> Result<(), TextError> {
    if value.len() > max_bytes {
        return Err(TextError::Bytes { max: max_bytes });
    }
    if value.chars().any(is_control) {
        return Err(TextError::Control);
    }
    Ok(())
}

/// Free text that must say something: as [`text`], and not empty, and not white space alone.
///
/// # Errors
/// Those of [`text`], and empty.
pub fn required_text(value: &str, max_bytes: usize) -> Result<(), TextError> {
    text(value, max_bytes)?;
    if value.trim().is_empty() {
        return Err(TextError::Empty);
    }
    Ok(())
}

/// A tenant's slug: 1 to 63 of `a-z`, `0-9` and, inside, `-`.
///
/// # Errors
/// Everything else.
pub fn slug(value: &str) -> Result<(), TextError> {
    let inside = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = value.as_bytes();
    if value.is_empty() {
        return Err(TextError::Empty);
    }
    if bytes.len() > SLUG_MAX {
        return Err(TextError::Characters { max: SLUG_MAX });
    }
    if !(bytes.iter().all(inside) && edge(bytes.first()) && edge(bytes.last())) {
        return Err(TextError::Slug);
    }
    no_id(value)
}

/// A role's name: 1 to 64 characters that can be seen, words apart by single white space.
///
/// # Errors
/// Everything else.
pub fn role_name(value: &str) -> Result<(), TextError> {
    name(value, ROLE_NAME_MAX, ROLE_NAME_MAX * 4)
}

/// An audience (`aud`, RFC 7519, section 4.1.3): 1 to 255 visible ASCII characters.
///
/// # Errors
/// Everything else.
pub fn audience(value: &str) -> Result<(), TextError> {
    visible_ascii(value)
}

/// A client id: 1 to 255 visible ASCII characters (RFC 6749, appendix A.1, without the space).
///
/// # Errors
/// Everything else.
pub fn client_id(value: &str) -> Result<(), TextError> {
    visible_ascii(value)
}

/// The rule of all names that people read and compare: not empty, bounded, nothing unseen, single white space inside only.
///
/// # Errors
/// Everything else.
pub(super) fn name(value: &str, max_chars: usize, max_bytes: usize) -> Result<(), TextError> {
    if value.is_empty() {
        return Err(TextError::Empty);
    }
    if value.len() > max_bytes {
        return Err(TextError::Bytes { max: max_bytes });
    }
    if value.chars().count() > max_chars {
        return Err(TextError::Characters { max: max_chars });
    }
    if value.chars().any(is_control) {
        return Err(TextError::Control);
    }
    if value.chars().any(is_invisible) {
        return Err(TextError::Invisible);
    }
    // An empty word is what white space at an end or twice in a row leaves.
    if value.split(char::is_whitespace).any(str::is_empty) {
        return Err(TextError::Space);
    }
    Ok(())
}

/// Not what an id looks like.
///
/// # Errors
/// [`TextError::Uuid`].
pub(super) fn no_id(value: &str) -> Result<(), TextError> {
    if ids::parse_uuid(value).is_ok() { Err(TextError::Uuid) } else { Ok(()) }
}

fn visible_ascii(value: &str) -> Result<(), TextError> {
    if value.is_empty() {
        return Err(TextError::Empty);
    }
    if value.len() > PROTOCOL_MAX {
        return Err(TextError::Bytes { max: PROTOCOL_MAX });
    }
    if value.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(()) } else { Err(TextError::Ascii) }
}

/// Control characters (Unicode category Cc) and the two separators that end a line (Zl, Zp).
pub(super) fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Characters that a reader cannot see, so that two names would look the same: the Unicode property
/// `Default_Ignorable_Code_Point` (zero-width and bidirectional controls, variation selectors, fillers, tags), the interlinear
/// annotation marks, the Braille blank, and the code points that are no characters.
pub(super) fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}' | '\u{FDD0}'..='\u{FDEF}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}'
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
        || u32::from(character) & 0xFFFE == 0xFFFE
}
