//! The types that a key can have. Each conversion is strict and says what it expects, never what it got.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ::config::ValueKind;

use super::duration;
use super::setting::Shown;
use super::source::{Entry, Layer};

/// A type that a key can have.
pub(super) trait FromEntry: Sized {
    /// The typed value, or what the key expects.
    fn from_entry(entry: &Entry) -> Result<Self, &'static str>;

    /// The value as one would write it; none where there is none.
    fn shown(&self) -> Option<Shown>;
}

impl<T: FromEntry> FromEntry for Option<T> {
    fn from_entry(entry: &Entry) -> Result<Self, &'static str> {
        T::from_entry(entry).map(Some)
    }

    fn shown(&self) -> Option<Shown> {
        self.as_ref().and_then(T::shown)
    }
}

impl FromEntry for String {
    fn from_entry(entry: &Entry) -> Result<Self, &'static str> {
        match &entry.kind {
            ValueKind::String(text) if text.chars().any(char::is_control) => Err("must not hold control characters"),
            ValueKind::String(text) => Ok(text.clone()),
            _ => Err("must be a text in quotes"),
        }
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown::Text(self.clone()))
    }
}

impl FromEntry for PathBuf {
    fn from_entry(entry: &Entry) -> Result<Self, &'static str> {
        String::from_entry(entry).map(PathBuf::from)
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown::Text(self.display().to_string()))
    }
}

impl FromEntry for Vec<String> {
    fn from_entry(entry: &Entry) -> Result<Self, &'static str> {
        match (&entry.kind, entry.layer) {
            (ValueKind::String(text), Layer::Environment) => Ok(text.split(',').map(|part| part.trim().to_owned()).collect()),
            (ValueKind::Array(values), Layer::File) => values
                .iter()
                .map(|value| match &value.kind {
                    ValueKind::String(text) => Ok(text.clone()),
                    _ => Err("must be a list of texts in quotes"),
                })
                .collect(),
            _ => Err("must be a list of texts in quotes"),
        }
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown::List(self.clone()))
    }
}

impl FromEntry for bool {
    fn from_entry(entry: &Entry) -> Result<Self, &'static str> {
        match (&entry.kind, entry.layer) {
            (ValueKind::Boolean(value), _) => Ok(*value),
            (ValueKind::String(text), Layer::Environment) => text.parse().map_err(|_| "must be true or false"),
            _ => Err("must be true or false, without quotes"),
        }
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown::Truth(*self))
    }
}

impl FromEntry for u64 {
    fn from_entry(entry: &Entry) -> Result<Self, &'static str> {
        match (&entry.kind, entry.layer) {
            (ValueKind::I64(number), _) => Self::try_from(*number).map_err(|_| "must not be negative"),
            (ValueKind::String(text), Layer::Environment) => text.parse().map_err(|_| "must be a whole number"),
            _ => Err("must be a whole number, without quotes"),
        }
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown::Number(*self))
    }
}

impl FromEntry for u32 {
    fn from_entry(entry: &Entry) -> Result<Self, &'static str> {
        Self::try_from(u64::from_entry(entry)?).map_err(|_| "is too large")
    }

    fn shown(&self) -> Option<Shown> {
        u64::from(*self).shown()
    }
}

impl FromEntry for usize {
    fn from_entry(entry: &Entry) -> Result<Self, &'static str> {
        Self::try_from(u64::from_entry(entry)?).map_err(|_| "is too large")
    }

    fn shown(&self) -> Option<Shown> {
        u64::try_from(*self).ok()?.shown()
    }
}

impl FromEntry for Duration {
    fn from_entry(entry: &Entry) -> Result<Self, &'static str> {
        match &entry.kind {
            ValueKind::String(text) => duration::parse(text),
            _ => Err("must be a length of time in quotes with its unit s, m, h or d, such as \"30s\" or \"15m\""),
        }
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown::Text(duration::write(*self)))
    }
}

impl FromEntry for SocketAddr {
    fn from_entry(entry: &Entry) -> Result<Self, &'static str> {
        String::from_entry(entry)?.parse().map_err(|_| "must be an IP address and a port, such as 127.0.0.1:50051 or [::1]:50051")
    }

    fn shown(&self) -> Option<Shown> {
        Some(Shown::Text(self.to_string()))
    }
}
