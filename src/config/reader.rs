//! From entries to typed fields. The reader collects every problem instead of stopping at the first.
//!
//! A section asks for its keys one by one; what nobody has asked for in the end is unknown. So the line that reads a key is
//! also the one that declares it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use ::config::ValueKind;
use secrecy::SecretString;

use super::problem::{Problem, Problems};
use super::source::{self, Entries, Entry};
use super::value::FromEntry;

/// The `origin` of a problem whose key no layer sets.
const NOT_SET: &str = "not set";

/// Entries not yet asked for, and what was found out so far.
pub(super) struct Reader {
    entries: Entries,
    /// Where each set key comes from.
    origins: BTreeMap<String, String>,
    sections: Vec<&'static str>,
    /// Every key that a section asked for.
    known: Vec<String>,
    /// Variables that begin like ours and are none.
    near: Vec<String>,
    problems: Vec<Problem>,
    file_was_read: bool,
}

/// The keys of one section.
pub(super) struct Section<'a> {
    reader: &'a mut Reader,
    name: &'static str,
}

/// A secret in place or in a file of its own.
enum Given {
    Here(Entry),
    InFile(Entry),
}

impl Reader {
    pub(super) fn new(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut entries = Entries::new();
        let file_problem = file.and_then(|path| source::add_file(path, &mut entries).err());
        let near = source::add_environment(environment, &mut entries);
        let origins = entries.iter().map(|(key, entry)| (key.clone(), entry.origin.clone())).collect();
        Self {
            entries,
            origins,
            sections: Vec::new(),
            known: Vec::new(),
            near,
            file_was_read: file_problem.is_none(),
            problems: file_problem.into_iter().collect(),
        }
    }

    pub(super) fn section(&mut self, name: &'static str) -> Section<'_> {
        self.sections.push(name);
        Section { reader: self, name }
    }

    /// Whether there is no file or it could be read.
    pub(super) fn file_was_read(&self) -> bool {
        self.file_was_read
    }

    /// Whether any layer sets the key.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    /// Notes that something is wrong with the key.
    pub(super) fn problem(&mut self, key: &str, message: impl Display) {
        let origin = self.origins.get(key).map_or(NOT_SET, String::as_str);
        // Key and origin may be anything that somebody wrote; a problem is one line.
        self.problems.push(Problem {
            key: key.escape_debug().to_string(),
            message: message.to_string(),
            origin: origin.escape_debug().to_string(),
        });
    }

    /// Notes a problem unless `holds`, at the first of the keys that is set, else at the first. Says nothing while one of
    /// them has a problem of its own: its default stands in its place and proves nothing.
    pub(super) fn require(&mut self, keys: &[&str], holds: bool, message: impl Display) {
        let is_bad = |key: &&str| self.problems.iter().any(|problem| problem.key == **key);
        if holds || keys.iter().any(is_bad) {
            return;
        }
        let culprit = keys.iter().find(|key| self.is_set(key)).or(keys.first());
        if let Some(culprit) = culprit {
            self.problem(culprit, message);
        }
    }

    /// Notes every entry that no section has asked for.
    pub(super) fn refuse_unknown_keys(&mut self) {
        for (key, entry) in std::mem::take(&mut self.entries) {
            let section = key.split('.').next().unwrap_or_default();
            let is_section = self.sections.contains(&section);
            let is_table = matches!(entry.kind, ValueKind::Table(_));
            if is_section && key == section {
                // An empty `[section]` sets nothing and harms nobody.
                if !is_table {
                    self.problem(&key, "is a section, not a key");
                }
            } else if is_section {
                let known = self.known_in(section);
                self.problem(&key, format!("is no known key; there are {known}"));
            } else {
                let sections = self.sections.join(", ");
                self.problem(&key, format!("is in no known section; there are {sections}"));
            }
        }
    }

    /// Notes every variable that would set a key if it were spelt right: to pass over it would be to use a default in its place.
    pub(super) fn refuse_near_misses(&mut self) {
        for name in std::mem::take(&mut self.near) {
            if let Some(meant) = self.known.iter().find(|key| source::is_near(&name, key)).map(|key| source::variable(key)) {
                self.problem(&name, format!("sets nothing: write {meant}"));
            }
        }
    }

    fn known_in(&self, section: &str) -> String {
        let keys: BTreeSet<&str> = self.known.iter().filter_map(|key| key.strip_prefix(section)?.strip_prefix('.')).collect();
        keys.into_iter().collect::<Vec<_>>().join(", ")
    }

    pub(super) fn into_known_keys(self) -> Vec<String> {
        self.known
    }

    /// `value`, if nothing is wrong.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Problems> {
        if self.problems.is_empty() { Ok(value) } else { Err(Problems(self.problems)) }
    }
}

impl Section<'_> {
    /// Sets the field if a layer sets the key; returns whether the field has a new value.
    pub(super) fn set<T: FromEntry>(&mut self, key: &str, field: &mut T) -> bool {
        let Some(entry) = self.take(key) else { return false };
        match T::from_entry(&entry) {
            Ok(value) => {
                *field = value;
                true
            }
            Err(message) => {
                self.problem(key, message);
                false
            }
        }
    }

    /// Like [`Section::set`], for a number with bounds.
    pub(super) fn set_within<T>(&mut self, key: &str, field: &mut T, bounds: RangeInclusive<T>)
    where
        T: FromEntry + PartialOrd + Display,
    {
        let holds = |value: &T| bounds.contains(value);
        self.set_if(key, field, holds, format!("must be from {} to {}", bounds.start(), bounds.end()));
    }

    /// Like [`Section::set`], for a length of time that must not be zero.
    pub(super) fn set_positive(&mut self, key: &str, field: &mut Duration) {
        self.set_if(key, field, |value| !value.is_zero(), "must be longer than zero");
    }

    /// Like [`Section::set`], for a value with a rule of its own.
    pub(super) fn set_if<T: FromEntry>(&mut self, key: &str, field: &mut T, holds: impl FnOnce(&T) -> bool, message: impl Display) {
        let mut value = None;
        if self.set(key, &mut value)
            && let Some(value) = value
        {
            if holds(&value) {
                *field = value;
            } else {
                self.problem(key, message);
            }
        }
    }

    /// Sets a secret from `key`, or from the single line of the file that `key_file` names, if `check` finds it good.
    pub(super) fn set_secret(&mut self, key: &str, field: &mut SecretString, check: impl FnOnce(&str) -> Result<(), &'static str>) {
        let Some((from, result)) = self.given(key).map(|given| match given {
            Given::Here(entry) => (key.to_owned(), String::from_entry(&entry).map_err(str::to_owned)),
            Given::InFile(entry) => (file_key(key), lines(&entry).and_then(only_line)),
        }) else {
            return;
        };
        match result.and_then(|text| check(&text).map(|()| text).map_err(str::to_owned)) {
            Ok(text) => *field = SecretString::from(text),
            Err(message) => self.problem(&from, message),
        }
    }

    /// Sets a list of secrets from `key`, or from the lines of the file that `key_file` names, if `check` finds each good.
    pub(super) fn set_secrets(&mut self, key: &str, field: &mut Vec<SecretString>, check: impl Fn(&str) -> Result<(), String>) {
        let Some((from, result)) = self.given(key).map(|given| match given {
            Given::Here(entry) => (key.to_owned(), Vec::from_entry(&entry).map_err(str::to_owned)),
            Given::InFile(entry) => (file_key(key), lines(&entry)),
        }) else {
            return;
        };
        let texts = match result {
            Ok(texts) => texts,
            Err(message) => return self.problem(&from, message),
        };
        if texts.is_empty() {
            return self.problem(&from, "must not be empty");
        }
        for (index, text) in texts.iter().enumerate() {
            if let Err(message) = check(text) {
                self.problem(&from, format!("entry {} {message}", index + 1));
            } else if texts.iter().take(index).any(|earlier| earlier == text) {
                self.problem(&from, format!("entry {} is there twice", index + 1));
            }
        }
        *field = texts.into_iter().map(SecretString::from).collect();
    }

    /// The entry of `key` or of `key_file`, whichever the higher layer sets.
    fn given(&mut self, key: &str) -> Option<Given> {
        match (self.take(key), self.take(&file_key(key))) {
            (Some(here), Some(in_file)) if here.layer == in_file.layer => {
                self.problem(key, format!("and {} exclude each other", self.full(&file_key(key))));
                None
            }
            (Some(here), Some(in_file)) if here.layer < in_file.layer => Some(Given::InFile(in_file)),
            (Some(here), _) => Some(Given::Here(here)),
            (None, in_file) => in_file.map(Given::InFile),
        }
    }

    /// The key's entry, which nobody else will find again. An empty one is a problem here, once for all types.
    fn take(&mut self, key: &str) -> Option<Entry> {
        let full = self.full(key);
        let entry = self.reader.entries.remove(&full);
        self.reader.known.push(full);
        let entry = entry?;
        if matches!(&entry.kind, ValueKind::String(text) if text.trim().is_empty()) {
            self.problem(key, "is empty; leave it out to get the default");
            return None;
        }
        Some(entry)
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    /// Notes that something is wrong with a key of this section.
    pub(super) fn problem(&mut self, key: &str, message: impl Display) {
        self.reader.problem(&self.full(key), message);
    }
}

fn file_key(key: &str) -> String {
    format!("{key}_file")
}

/// The lines of the file that the entry names, without surrounding spaces; empty ones are left out.
fn lines(entry: &Entry) -> Result<Vec<String>, String> {
    let path = String::from_entry(entry)?;
    let text = std::fs::read_to_string(path).map_err(|e| format!("names a file that cannot be read: {e}"))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn only_line(lines: Vec<String>) -> Result<String, String> {
    let mut lines = lines.into_iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => Ok(line),
        _ => Err("must name a file of exactly one line".to_owned()),
    }
}
