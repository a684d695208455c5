//! From the two places where an operator writes to entries that remember where they come from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use ::config::{ConfigError, FileFormat, Source as _, Value, ValueKind};
use zeroize::Zeroizing;

use super::problem::Problem;

/// The start of the variables that are ours. Prefix separator and separator are both two underscores.
const PREFIX: &str = "DOORWARD__";
const SEPARATOR: &str = "__";
/// The `key` of a problem with the file as a whole.
const FILE: &str = "configuration file";

/// Which layer a value comes from; the later one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    File,
    Environment,
}

/// A value that somebody wrote, and where.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: ValueKind,
    pub(super) layer: Layer,
    /// The variable's or the file's name.
    pub(super) origin: String,
}

/// All entries by `section.key`; an entry of the environment has replaced one of the file.
pub(super) type Entries = BTreeMap<String, Entry>;

/// Adds what the file sets.
///
/// # Errors
/// The file cannot be read or is no TOML.
pub(super) fn add_file(path: &Path, entries: &mut Entries) -> Result<(), Problem> {
    let origin = path.display().to_string();
    let problem = |message: String| Problem { key: FILE.to_owned(), message, origin: origin.escape_debug().to_string() };
    if path.as_os_str().is_empty() {
        let message = "has an empty name: name a file, or leave it out to use none".to_owned();
        return Err(Problem { key: FILE.to_owned(), message, origin: "--config or DOORWARD_CONFIG".to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(|e| problem(format!("cannot be read: {e}")))?;
    let sections = ::config::File::from_str(&text, FileFormat::Toml).collect().map_err(|e| problem(syntax_error(&e)))?;
    for (section, value) in sections {
        match value.kind {
            ValueKind::Table(keys) if !keys.is_empty() => {
                for (key, Value { kind, .. }) in keys {
                    let entry = Entry { kind, layer: Layer::File, origin: origin.clone() };
                    entries.insert(format!("{}.{}", plain(&section), plain(&key)), entry);
                }
            }
            kind => {
                entries.insert(plain(&section), Entry { kind, layer: Layer::File, origin: origin.clone() });
            }
        }
    }
    Ok(())
}

/// Adds what the environment sets, over what is there. Other programs' variables are passed over; answers the names of those that begin
/// like ours and are none.
pub(super) fn add_environment(variables: impl IntoIterator<Item = (String, String)>, entries: &mut Entries) -> Vec<String> {
    let mut near = Vec::new();
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            if name.to_ascii_uppercase().starts_with(PREFIX.trim_end_matches('_')) {
                near.push(name);
            }
            continue;
        };
        // What is not all capitals becomes no key: with several spellings accepted, which of two variables wins would be chance.
        let key = match (rest.chars().any(|c| c.is_ascii_lowercase()), rest.chars().any(|c| c.is_ascii_uppercase())) {
            (true, true) => rest.to_owned(),
            (true, false) => rest.to_ascii_uppercase(),
            (false, _) => rest.to_ascii_lowercase(),
        };
        let key = match key.split_once(SEPARATOR) {
            Some((section, key)) => format!("{}.{}", plain(section), plain(key)),
            None => plain(&key),
        };
        let entry = Entry { kind: ValueKind::String(text), layer: Layer::Environment, origin: name };
        entries.insert(key, entry);
    }
    near
}

/// The variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', SEPARATOR).to_ascii_uppercase())
}

/// Whether a variable's name is that of a key but for case and underscores: `DOORWARD_DATABASE_URL`. Kubernetes' own for a service of
/// this name (`DOORWARD_SERVICE_HOST`, `DOORWARD_PORT`) are not.
pub(super) fn is_near(name: &str, key: &str) -> bool {
    let letters = |text: &str| text.chars().filter(|c| *c != '_').map(|c| c.to_ascii_uppercase()).collect::<String>();
    letters(name) == letters(&variable(key))
}

/// The name, but in quotes where it holds a dot: `"server.grpc_addr"` is not the key `grpc_addr` of `[server]`.
fn plain(name: &str) -> String {
    if name.contains('.') { format!("{name:?}") } else { name.to_owned() }
}

/// The parser's place and reason without the lines that it quotes: a secret may stand there.
fn syntax_error(error: &ConfigError) -> String {
    const NO_TOML: &str = "is not valid TOML";
    let ConfigError::FileParse { cause, .. } = error else {
        return NO_TOML.to_owned();
    };
    // Place, the quoted line between two of the drawing, and the reason, which names what the grammar wants and no value.
    let text = cause.to_string();
    let mut lines = text.lines();
    let Some(place) = lines.find_map(|line| line.strip_prefix("TOML parse error ")) else {
        return NO_TOML.to_owned();
    };
    let is_pointer = |line: &str| line.contains('^') && line.chars().all(|c| matches!(c, ' ' | '|' | '^'));
    let reason = lines.skip_while(|line| !is_pointer(line)).nth(1).unwrap_or_default();
    if reason.is_empty() { format!("{NO_TOML} {place}") } else { format!("{NO_TOML} {place}: {reason}") }
}

/// Bytes at most of a file that holds secrets.
const SMALL: usize = 64 * 1024;

/// What stands in a file of secrets; the error is the rest of a sentence that starts with the key.
pub(super) fn read_small(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let cannot = |e| format!("names a file that cannot be read: {e}");
    // All the room at once: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SMALL + 1));
    File::open(path).and_then(|file| file.take(SMALL as u64 + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() > SMALL { Err("names a file that is too large to hold secrets".to_owned()) } else { Ok(bytes) }
}
