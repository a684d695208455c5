//! From entries to typed fields. The reader collects every problem instead of stopping at the first.
//!
//! A section asks for its keys one by one; what nobody has asked for in the end is unknown. So the line that reads a key is
//! also the one that declares and documents it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;

use super::problem::{Problem, Problems};
use super::setting::{NOT_SET, Setting};
use super::source::{self, Entries};

mod section;
mod unknown;

pub(super) use section::{Section, key};

/// Entries not yet asked for, and what was found out so far.
pub(super) struct Reader {
    entries: Entries,
    /// Where each set key comes from.
    origins: BTreeMap<String, String>,
    sections: Vec<&'static str>,
    /// Every key that a section asked for.
    settings: Vec<Setting>,
    /// Variables that begin like ours and are none.
    near: Vec<String>,
    problems: Vec<Problem>,
    /// The keys whose values could not be read: their defaults stand in their place.
    unread: BTreeSet<String>,
    file_was_read: bool,
}

impl Reader {
    pub(super) fn new(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut entries = Entries::new();
        let file_problem = file.and_then(|path| source::add_file(path, &mut entries).err());
        let near = source::add_environment(environment, &mut entries);
        let set = entries.iter().map(|(key, entry)| (key.clone(), entry.origin.clone()));
        // A variable that sets nothing is the origin of its own problem.
        let origins = set.chain(near.iter().map(|name| (name.clone(), name.clone()))).collect();
        Self {
            entries,
            origins,
            sections: Vec::new(),
            settings: Vec::new(),
            near,
            file_was_read: file_problem.is_none(),
            problems: file_problem.into_iter().collect(),
            unread: BTreeSet::new(),
        }
    }

    pub(super) fn section(&mut self, name: &'static str) -> Section<'_> {
        self.sections.push(name);
        Section::new(self, name)
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
        let origin = self.origins.get(key).cloned().unwrap_or_else(|| self.unset_origin(key));
        // Key and origin may be anything that somebody wrote; a problem is one line.
        self.problems.push(Problem {
            key: key.escape_debug().to_string(),
            message: message.to_string(),
            origin: origin.escape_debug().to_string(),
        });
    }

    /// That no layer sets the key, and what would.
    fn unset_origin(&self, key: &str) -> String {
        let file = format!("{key}{}", section::FILE_SUFFIX);
        let names = [key, &file].into_iter().filter(|name| self.settings.iter().any(|setting| setting.key == *name));
        let variables: Vec<_> = names.map(source::variable).collect();
        if variables.is_empty() { NOT_SET.to_owned() } else { format!("{NOT_SET}: {}", variables.join(" or ")) }
    }

    /// Notes a problem of a value that could not be read, or is not good for itself.
    pub(super) fn unreadable(&mut self, key: &str, message: impl Display) {
        self.unread.insert(key.strip_suffix(section::FILE_SUFFIX).unwrap_or(key).to_owned());
        self.unread.insert(key.to_owned());
        self.problem(key, message);
    }

    /// Notes a problem unless `holds`, at the first of the keys that is set, else at the first, in the sentence that stands with it.
    /// Says nothing while one of them could not be read: its default stands in its place and proves nothing. Another broken relation of
    /// the same key is no reason to be silent: whoever mends one should not be sent back for the next.
    pub(super) fn require(&mut self, holds: bool, keys: &[(&str, &str)]) {
        if holds || keys.iter().any(|(key, _)| self.is_unread(key)) {
            return;
        }
        if let Some((culprit, sentence)) = keys.iter().find(|(key, _)| self.is_set(key)).or(keys.first()) {
            self.problem(culprit, sentence);
        }
    }

    /// Whether the key's value, in place or in the file that it is read from, could not be read.
    pub(super) fn is_unread(&self, key: &str) -> bool {
        self.unread.contains(key)
    }

    pub(super) fn into_settings(self) -> Vec<Setting> {
        self.settings
    }

    /// `value` and every key, if nothing is wrong.
    pub(super) fn finish<T>(self, value: T) -> Result<(T, Vec<Setting>), Problems> {
        if self.problems.is_empty() { Ok((value, self.settings)) } else { Err(Problems(self.problems)) }
    }
}
