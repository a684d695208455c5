//! What is printed: tables for people, JSON for programs. Standard output has results and nothing else.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, ErrorKind, Write as _},
};

use clap::ValueEnum;
use serde::Serialize;

use super::failure::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Words and tables, for people.
    Text,
    /// JSON with the names of the proto, for programs.
    Json,
}

/// Something that is shown: as JSON by its fields, as a table by its columns.
pub trait View: Serialize {
    /// What several of them are called, in JSON too.
    const PLURAL: &'static str;
    /// The columns of their table.
    const COLUMNS: &'static [&'static str];

    /// A cell for each column; an empty one is shown as a hyphen.
    fn row(&self) -> Vec<String>;
}

/// Prints all of a kind.
///
/// # Errors
/// Standard output cannot be written.
pub fn list<V: View>(format: Format, views: &[V]) -> Result<(), Failure> {
    match format {
        Format::Json => json(&BTreeMap::from([(V::PLURAL, views)])),
        Format::Text if views.is_empty() => print(&format!("There are no {}.\n", V::PLURAL.replace('_', " "))),
        Format::Text => print(&table(V::COLUMNS, &views.iter().map(V::row).collect::<Vec<_>>())),
    }
}

/// Prints one thing: JSON of it, or `text`.
///
/// # Errors
/// Standard output cannot be written.
pub fn one(format: Format, value: &impl Serialize, text: &str) -> Result<(), Failure> {
    match format {
        Format::Json => json(value),
        Format::Text => print(&format!("{text}\n")),
    }
}

/// Label and value, a line each; an empty value is shown as a hyphen.
#[must_use]
pub fn lines(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(label, _)| label.chars().count()).max().unwrap_or_default() + 1;
    let line = |(label, value): &(&str, String)| format!("{:width$} {}", format!("{label}:"), cell(value));
    pairs.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Prints text as it is.
///
/// # Errors
/// Standard output cannot be written; a reader that has seen enough (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(format!("standard output cannot be written: {error}"))),
        _ => Ok(()),
    }
}

/// Says on standard error what went wrong.
pub fn complain(failure: &Failure) {
    note(&failure.to_string());
}

/// Says something on standard error. There is nobody left to tell where that fails.
pub fn note(text: &str) {
    drop(writeln!(io::stderr(), "doorward: {text}"));
}

fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::new(format!("the result has no JSON form: {e}")))?;
    print(&format!("{text}\n"))
}

fn table(columns: &[&str], rows: &[Vec<String>]) -> String {
    let head = columns.iter().map(|&column| column.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows.iter().map(|row| row.iter().map(|text| cell(text)).collect())).collect();
    let width = |index: usize| rows.iter().filter_map(|row| row.get(index)).map(|text| text.chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A value on one line that cannot steer the terminal, whoever wrote it to the database.
fn cell(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    let is_unsafe = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// What somebody is called, safe for a sentence.
#[must_use]
pub fn quoted(name: &impl fmt::Display) -> String {
    cell(&name.to_string())
}
