//! What is known of a key: what it is for, its default, and what holds for it. Never a secret.

use std::fmt;

use serde::Serialize;

use super::source;

/// The `origin` of what no layer sets.
pub const DEFAULT: &str = "default";
/// The words for a key that has no default at all.
pub const NOT_SET: &str = "not set";

/// A key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `section.key`.
    pub key: String,
    /// What it is for, in one paragraph.
    pub doc: String,
    /// What holds where nothing is set, if that is always the same.
    pub default: Option<Shown>,
    /// For a key without such a default.
    pub unset: Option<Unset>,
    /// What holds.
    pub value: InForce,
    /// The variable or the file that sets it, or [`DEFAULT`].
    pub origin: String,
}

/// What there is to say of a key that has no fixed default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unset {
    /// What holds where nothing is set, in words.
    pub default: &'static str,
    /// What one may write, as TOML.
    pub example: String,
}

/// What holds for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InForce {
    /// Nothing.
    Unset,
    /// This.
    Shown(Shown),
    /// A secret: what may be told of it.
    Hidden(String),
}

/// A value that may be shown. `Display` writes TOML.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Shown {
    /// Text, and everything that is written as one.
    Text(String),
    /// A number.
    Number(u64),
    /// `true` or `false`.
    Truth(bool),
    /// Texts.
    List(Vec<String>),
}

impl Setting {
    /// The variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        source::variable(&self.key)
    }
}

impl From<Option<Shown>> for InForce {
    fn from(shown: Option<Shown>) -> Self {
        shown.map_or(Self::Unset, Self::Shown)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Number(number) => write!(f, "{number}"),
            Self::Truth(truth) => write!(f, "{truth}"),
            Self::List(texts) => write!(f, "[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// A TOML basic string. What a terminal would obey, or not show, is written as its number.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        _ if c.is_alphanumeric() => c.to_string(),
        _ => format!("\\U{:08X}", u32::from(c)),
    });
    format!("\"{}\"", escaped.collect::<String>())
}
