//! One section while it is read: from its entries to its fields.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use ::config::ValueKind;
use secrecy::{ExposeSecret as _, SecretString};

use super::Reader;
use crate::config::duration;
use crate::config::setting::{DEFAULT, InForce, NOT_SET, Setting, Shown, Unset};
use crate::config::source::{self, Entry};
use crate::config::value::FromEntry;

/// What a secret's key ends in when it names a file.
pub(super) const FILE_SUFFIX: &str = "_file";

/// The keys of one section.
pub(in crate::config) struct Section<'a> {
    reader: &'a mut Reader,
    name: &'static str,
}

/// A key as its section declares it.
pub(in crate::config) struct Key {
    name: String,
    doc: String,
    unset: Option<Unset>,
}

/// A key and what it is for. Its default is what its field holds when it is read.
pub(in crate::config) fn key(name: &str, doc: &str) -> Key {
    Key { name: name.to_owned(), doc: doc.to_owned(), unset: None }
}

impl Key {
    /// For a key without a fixed default: what holds where nothing is set, and what one may write.
    pub(in crate::config) fn unset(self, default: &'static str, example: &str) -> Self {
        Self { unset: Some(Unset { default, example: example.to_owned() }), ..self }
    }
}

/// A secret in place, in a file of its own, or not set. Both at once are a mistake, and each is judged all the same.
struct Given {
    here: Option<Entry>,
    in_file: Option<Entry>,
}

impl Given {
    /// What `here` and `in_file` make of the entries that there are, each with the name of its key.
    fn read<T>(
        &self,
        name: &str,
        here: impl Fn(&Entry) -> Result<T, &'static str>,
        in_file: impl Fn(&Entry) -> Result<T, String>,
    ) -> Vec<(String, Result<T, String>)> {
        let here = self.here.as_ref().map(|entry| (name.to_owned(), here(entry).map_err(str::to_owned)));
        let in_file = self.in_file.as_ref().map(|entry| (file_key(name), in_file(entry)));
        here.into_iter().chain(in_file).collect()
    }
}

impl<'a> Section<'a> {
    pub(super) fn new(reader: &'a mut Reader, name: &'static str) -> Self {
        Self { reader, name }
    }

    /// Sets the field if a layer sets the key.
    pub(in crate::config) fn set<T: FromEntry>(&mut self, key: Key, field: &mut T) {
        self.set_if(key, field, |_| true, "");
    }

    /// Like [`Section::set`], for a number with bounds, which become part of the key's doc.
    pub(in crate::config) fn set_within<T>(&mut self, mut key: Key, field: &mut T, bounds: RangeInclusive<T>)
    where
        T: FromEntry + PartialOrd + Display,
    {
        key.doc = format!("{} From {} to {}.", key.doc, bounds.start(), bounds.end());
        let message = format!("must be from {} to {}", bounds.start(), bounds.end());
        self.set_if(key, field, |value| bounds.contains(value), message);
    }

    /// Like [`Section::set`], for a length of time that must not be zero.
    pub(in crate::config) fn set_positive(&mut self, key: Key, field: &mut Duration) {
        self.set_if(key, field, |value| !value.is_zero(), "must be longer than zero");
    }

    /// Like [`Section::set_within`], for a length of time.
    pub(in crate::config) fn set_length(&mut self, mut key: Key, field: &mut Duration, bounds: &RangeInclusive<Duration>) {
        let (least, most) = (duration::write(*bounds.start()), duration::write(*bounds.end()));
        key.doc = format!("{} From {least} to {most}.", key.doc);
        self.set_if(key, field, |length| bounds.contains(length), format!("must be from {least} to {most}"));
    }

    /// Like [`Section::set`], for a value with a rule of its own.
    pub(in crate::config) fn set_if<T: FromEntry>(
        &mut self,
        key: Key,
        field: &mut T,
        holds: impl FnOnce(&T) -> bool,
        message: impl Display,
    ) {
        let default = field.shown();
        if let Some(entry) = self.take(&key.name) {
            match T::from_entry(&entry) {
                Ok(value) if holds(&value) => *field = value,
                Ok(_) => self.problem(&key.name, message),
                Err(message) => self.problem(&key.name, message),
            }
        }
        let origin = self.origin(&key.name);
        self.note(key, default, field.shown().into(), origin);
    }

    /// Says what holds for a key without a fixed default that nobody has set.
    pub(in crate::config) fn in_force(&mut self, name: &str, value: &impl FromEntry) {
        let full = self.full(name);
        if let Some(setting) = self.reader.settings.iter_mut().find(|setting| setting.key == full && setting.value == InForce::Unset) {
            setting.value = value.shown().into();
        }
    }

    /// Sets a secret from the key, or from the single line of the file that `…_file` names, if `check` finds it good. `show` says what
    /// may be told of it.
    pub(in crate::config) fn set_secret(
        &mut self,
        key: Key,
        field: &mut SecretString,
        check: impl Fn(&str) -> Result<(), &'static str>,
        show: impl Fn(&str) -> InForce,
    ) {
        let default = match show(field.expose_secret()) {
            InForce::Shown(shown) => Some(shown),
            InForce::Unset | InForce::Hidden(_) => None,
        };
        let given = self.given(&key.name);
        for (from, result) in given.read(&key.name, String::from_entry, |entry| lines(entry).and_then(only_line)) {
            match result.and_then(|text| check(&text).map(|()| text).map_err(str::to_owned)) {
                Ok(text) => *field = SecretString::from(text),
                Err(message) => self.problem(&from, message),
            }
        }
        let value = show(field.expose_secret());
        self.note_secret(key, default, value, &given, "of one line");
    }

    /// Sets a list of secrets from the key, or from the lines of the file that `…_file` names, if `check` finds each good.
    pub(in crate::config) fn set_secrets(&mut self, key: Key, field: &mut Vec<SecretString>, check: impl Fn(&str) -> Result<(), String>) {
        let given = self.given(&key.name);
        for (from, result) in given.read(&key.name, Vec::from_entry, lines) {
            match result {
                Ok(texts) => {
                    self.check_each(&from, &texts, &check);
                    *field = texts.into_iter().map(SecretString::from).collect();
                }
                Err(message) => self.problem(&from, message),
            }
        }
        let value = if field.is_empty() { InForce::Unset } else { InForce::Hidden(format!("{} in all", field.len())) };
        self.note_secret(key, None, value, &given, "with one a line");
    }

    fn check_each(&mut self, from: &str, texts: &[String], check: impl Fn(&str) -> Result<(), String>) {
        if texts.is_empty() {
            self.problem(from, "must not be empty");
        }
        for (index, text) in texts.iter().enumerate() {
            if let Err(message) = check(text) {
                self.problem(from, format!("entry {} {message}", index + 1));
            } else if texts.iter().take(index).any(|earlier| earlier == text) {
                self.problem(from, format!("entry {} is there twice", index + 1));
            }
        }
    }

    /// The entry of the key or of `…_file`, whichever the higher layer sets; both where they are of one layer, which is a problem.
    fn given(&mut self, name: &str) -> Given {
        match (self.take(name), self.take(&file_key(name))) {
            (Some(here), Some(in_file)) if here.layer == in_file.layer => {
                self.problem(name, format!("is set, and {} too: only one of them may be", self.full(&file_key(name))));
                Given { here: Some(here), in_file: Some(in_file) }
            }
            (Some(here), Some(in_file)) if here.layer > in_file.layer => Given { here: Some(here), in_file: None },
            (here, None) => Given { here, in_file: None },
            (_, in_file) => Given { here: None, in_file },
        }
    }

    /// The key's entry, which nobody else will find again. What no type takes is a problem here, once for all of them.
    fn take(&mut self, name: &str) -> Option<Entry> {
        let entry = self.reader.entries.remove(&self.full(name))?;
        if let ValueKind::String(text) = &entry.kind {
            if text.trim().is_empty() {
                self.problem(name, "is empty; leave it out to get the default");
                return None;
            }
            // In place of bytes that are no text.
            if text.contains(char::REPLACEMENT_CHARACTER) {
                self.problem(name, "is not UTF-8 text");
                return None;
            }
        }
        Some(entry)
    }

    fn full(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    fn origin(&self, name: &str) -> String {
        self.reader.origins.get(&self.full(name)).map_or_else(|| DEFAULT.to_owned(), |origin| origin.escape_debug().to_string())
    }

    /// Notes that something is wrong with the value of a key of this section, whatever the others are.
    pub(in crate::config) fn problem(&mut self, name: &str, message: impl Display) {
        self.reader.unreadable(&self.full(name), message);
    }

    fn note(&mut self, key: Key, default: Option<Shown>, value: InForce, origin: String) {
        self.reader.settings.push(Setting { key: self.full(&key.name), doc: key.doc, default, unset: key.unset, value, origin });
    }

    /// Notes a secret and the key of its file, of which at most one is in force.
    fn note_secret(&mut self, key: Key, default: Option<Shown>, value: InForce, given: &Given, form: &str) {
        let name = key.name.clone();
        let doc = format!("The same as `{}`, read from a file {form}.", self.full(&name));
        let example = format!("\"/run/secrets/{}_{name}\"", self.name);
        let file = self::key(&file_key(&name), &doc).unset(NOT_SET, &example);
        let (origin, path) = match given {
            Given { here: Some(_), .. } => (self.origin(&name), None),
            Given { in_file: Some(entry), .. } => (self.origin(&file_key(&name)), String::from_entry(entry).ok()),
            Given { .. } => (DEFAULT.to_owned(), None),
        };
        self.note(key, default, value, origin.clone());
        let file_origin = if path.is_some() { origin } else { DEFAULT.to_owned() };
        self.note(file, None, path.shown().into(), file_origin);
    }
}

fn file_key(name: &str) -> String {
    format!("{name}{FILE_SUFFIX}")
}

/// The lines of the file that the entry names, without surrounding spaces; empty ones are left out.
fn lines(entry: &Entry) -> Result<Vec<String>, String> {
    let path = String::from_entry(entry)?;
    let bytes = source::read_small(path.as_ref())?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "names a file that is not UTF-8 text".to_owned())?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn only_line(lines: Vec<String>) -> Result<String, String> {
    let mut lines = lines.into_iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => Ok(line),
        _ => Err("must name a file of exactly one line".to_owned()),
    }
}
