//! The values: what parses, what does not, what stays equal, and what must never be merged.

mod certificate;
mod email;
mod ids;
mod opaque;
mod page;
mod permission;
mod secret;
mod text;
mod time;
mod username;

use std::path::PathBuf;

use doorward::values::{Entropy, RootSecrets};
use unicode_normalization::UnicodeNormalization as _;

/// Bytes 0 to 31: the root of the golden vectors.
const GOLDEN_ROOT: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn golden_roots() -> RootSecrets {
    RootSecrets::parse(&[GOLDEN_ROOT]).unwrap()
}

/// A root of its own, as text, so that lists with it can be made.
fn fresh_root() -> String {
    doorward::values::secret::generate_root(&Entropy::system())
}

/// A file of foreign vectors; `None`, with a note, where the environment does not name their folder.
#[expect(clippy::disallowed_methods, reason = "where the vectors lie is told to tests by the environment")]
fn vectors(file: &str) -> Option<String> {
    let Some(folder) = std::env::var_os("DOORWARD_VECTORS_DIR") else {
        eprintln!("skipped: DOORWARD_VECTORS_DIR is not set, {file} is not read");
        return None;
    };
    let path = PathBuf::from(folder).join(file);
    let text = std::fs::read_to_string(&path);
    Some(text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// The characters that some mapping touches, and all of the first scripts: the others map to themselves in every form.
fn telling_characters() -> impl Iterator<Item = char> {
    ('\0'..=char::MAX).filter(|&character| {
        let alone = character.to_string();
        u32::from(character) < 0x1200
            || !character.to_lowercase().eq([character])
            || !character.to_uppercase().eq([character])
            || !('\u{ac00}'..='\u{d7a3}').contains(&character) && !alone.nfkd().eq([character])
    })
}

fn naughty_strings() -> Vec<String> {
    let Some(text) = vectors("naughty-strings.json") else {
        return Vec::new();
    };
    let strings: Vec<String> = serde_json::from_str(&text).unwrap();
    assert!(strings.len() > 500, "the file lost its strings");
    strings
}

/// Every text that differs from `token` by one bit of one byte (where that is UTF-8), by the case of one letter, or by being
/// shorter or longer at either end.
fn near_misses(token: &str) -> Vec<String> {
    let mut near = Vec::new();
    for at in 0..token.len() {
        for bit in 0..8 {
            let mut bytes = token.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            near.extend(String::from_utf8(bytes));
        }
        near.push(token[..at].to_owned());
        near.push(token[at + 1..].to_owned());
        near.push(format!("{}{}", &token[..at], &token[at + 1..]));
    }
    for extra in ["A", "=", "==", "====", "AAAA", " ", "\n", "\0", "é"] {
        near.push(format!("{token}{extra}"));
        near.push(format!("{extra}{token}"));
    }
    near.push(token.to_ascii_uppercase());
    near.push(token.to_ascii_lowercase());
    near.push(format!("{token}{token}"));
    near.push(String::new());
    assert!(!near.iter().any(|other| other == token));
    near
}
