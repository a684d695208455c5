//! From entries to typed fields. The reader collects every problem instead of stopping at the first.
//!
//! A section asks for its keys one by one; what nobody has asked for in the end is unknown. So the line that reads a key is
//! also the one that declares and documents it.

use std::collections::BTreeMap;
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
    file_was_read: bool,
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
            settings: Vec::new(),
            near,
            file_was_read: file_problem.is_none(),
            problems: file_problem.into_iter().collect(),
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
        let origin = self.origins.get(key).map_or(NOT_SET, String::as_str);
        // Key and origin may be anything that somebody wrote; a problem is one line.
        self.problems.push(Problem {
            key: key.escape_debug().to_string(),
            message: message.to_string(),
            origin: origin.escape_debug().to_string(),
        });
    }

    /// Notes a problem unless `holds`, at the first of the keys that is set, else at the first, in the sentence that stands with it.
    /// Says nothing while one of them has a problem of its own: its default stands in its place and proves nothing.
    pub(super) fn require(&mut self, holds: bool, keys: &[(&str, &str)]) {
        if holds || keys.iter().any(|(key, _)| self.is_bad(key)) {
            return;
        }
        if let Some((culprit, sentence)) = keys.iter().find(|(key, _)| self.is_set(key)).or(keys.first()) {
            self.problem(culprit, sentence);
        }
    }

    /// Whether something is wrong with the key, or with the file that it is read from.
    pub(super) fn is_bad(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key || problem.key.strip_suffix(section::FILE_SUFFIX) == Some(key))
    }

    pub(super) fn into_settings(self) -> Vec<Setting> {
        self.settings
    }

    /// `value` and every key, if nothing is wrong.
    pub(super) fn finish<T>(self, value: T) -> Result<(T, Vec<Setting>), Problems> {
        if self.problems.is_empty() { Ok((value, self.settings)) } else { Err(Problems(self.problems)) }
    }
}
