//! `[log]`: what log lines look like and which are written.

use super::reader::{Section, key};
use super::setting::Shown;
use super::source::Entry;
use super::value::FromEntry;

/// Log lines, written to standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Their form.
    pub format: LogFormat,
    /// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`), and after commas levels for parts: `info,doorward=debug`.
    pub level: String,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

impl Log {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut log = Self::default();
        section.set(key("format", "The form of log lines: `text` for people, `json` for collectors."), &mut log.format);
        section.set_if(
            key("level", "`error`, `warn`, `info`, `debug`, `trace` or `off`, and after commas levels for parts: `info,doorward=debug`."),
            &mut log.level,
            |level| is_filter(level),
            "must be error, warn, info, debug, trace or off, and after commas levels for parts, such as \
             info,doorward=debug",
        );
        log
    }
}

impl FromEntry for LogFormat {
    fn from_entry(entry: &Entry) -> Result<Self, &'static str> {
        match String::from_entry(entry)?.as_str() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be text or json"),
        }
    }

    fn shown(&self) -> Option<Shown> {
        let name = match self {
            Self::Text => "text",
            Self::Json => "json",
        };
        Some(Shown::Text(name.to_owned()))
    }
}

/// Stricter than the filter's own parser, which takes a mistyped level such as `inof` for the name of a part and turns
/// everything else off.
fn is_filter(filter: &str) -> bool {
    let is_level = |text: &str| matches!(text, "error" | "warn" | "info" | "debug" | "trace" | "off");
    let is_part = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c));
    filter.split(',').all(|directive| match directive.split_once('=') {
        Some((part, level)) => is_part(part) && is_level(level),
        None => is_level(directive),
    })
}
