//! What somebody wrote and nobody reads: named, with what was probably meant.

use std::collections::BTreeSet;

use ::config::ValueKind;

use super::Reader;
use crate::config::source::{self, Entry, Layer};

/// Two names that are less alike than this are not taken for one another.
const ALIKE: f64 = 0.85;

impl Reader {
    /// Notes every entry that no section has asked for.
    pub(in crate::config) fn refuse_unknown_keys(&mut self) {
        for (key, entry) in std::mem::take(&mut self.entries) {
            let section = key.split('.').next().unwrap_or_default();
            if self.sections.contains(&section) && key == section {
                // An empty `[section]` sets nothing and harms nobody.
                if !matches!(entry.kind, ValueKind::Table(_)) {
                    self.problem(&key, format!("is a section, not a key; it has {}", self.known_in(section)));
                }
            } else {
                let message = self.unknown(&key, section, &entry);
                self.problem(&key, message);
            }
        }
    }

    /// Notes every variable that would set a key if it were spelt right: to pass over it would be to use a default in its place.
    pub(in crate::config) fn refuse_near_misses(&mut self) {
        for name in std::mem::take(&mut self.near) {
            let meant =
                self.settings.iter().find(|setting| source::is_near(&name, &setting.key)).map(|setting| source::variable(&setting.key));
            if let Some(meant) = meant {
                self.problem(&name, format!("sets nothing: write {meant}"));
            }
        }
    }

    fn unknown(&self, key: &str, section: &str, entry: &Entry) -> String {
        let is_section = self.sections.contains(&section);
        let place = if is_section { "is no known key" } else { "is in no known section" };
        if let Some(meant) = self.meant(key) {
            let meant = if entry.layer == Layer::Environment { source::variable(meant) } else { meant.to_owned() };
            return format!("{place}: did you mean `{meant}`?");
        }
        if is_section {
            return format!("{place}; there are {}", self.known_in(section));
        }
        match most_alike(self.sections.iter().copied(), |name| likeness(section, name)) {
            Some(near) => format!("{place}: did you mean `{near}`, which has {}?", self.known_in(near)),
            None => format!("{place}; there are {}", self.sections.join(", ")),
        }
    }

    /// The only key of this name in whatever section, or else the one that is spelt nearly like this.
    fn meant(&self, written: &str) -> Option<&str> {
        let keys = || self.settings.iter().map(|setting| setting.key.as_str());
        let (section, name) = written.split_once('.').unwrap_or(("", written));
        let mut same_name = keys().filter(|key| key.split_once('.').is_some_and(|(_, n)| n == name));
        if let (Some(key), None) = (same_name.next(), same_name.next()) {
            return Some(key);
        }
        let likeness = |key: &str| key.split_once('.').map_or(0.0, |(s, n)| likeness(section, s).min(likeness(name, n)));
        most_alike(keys(), likeness)
    }

    fn known_in(&self, section: &str) -> String {
        let keys = self.settings.iter().filter_map(|setting| setting.key.strip_prefix(section)?.strip_prefix('.'));
        keys.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
    }
}

/// The name that is most like what is looked for, if it is like it at all.
fn most_alike<'n>(names: impl Iterator<Item = &'n str>, likeness: impl Fn(&str) -> f64) -> Option<&'n str> {
    let best = names.map(|name| (likeness(name), name)).max_by(|one, other| one.0.total_cmp(&other.0));
    best.filter(|(likeness, _)| *likeness >= ALIKE).map(|(_, name)| name)
}

/// From 0 to 1: how alike two names are. Letter case and the kind of hyphen do not count; a slip of the finger or two counts little,
/// also in a short name.
fn likeness(written: &str, name: &str) -> f64 {
    let written = written.to_lowercase().replace('-', "_");
    let slips = strsim::osa_distance(&written, name);
    match slips {
        0 => 1.0,
        1 if name.len() > 2 => 0.95,
        2 if name.len() > 7 => 0.9,
        _ => strsim::jaro_winkler(&written, name),
    }
}
