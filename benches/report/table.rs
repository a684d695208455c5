//! The report: rows on the terminal, and the same as Markdown.

use std::{fmt::Write as _, fs, path::PathBuf};

use anyhow::Result;

use crate::load::Load;

/// The report as far as it is measured.
#[derive(Default)]
pub struct Table {
    loads: Vec<[String; 6]>,
    rows: Vec<[String; 3]>,
}

impl Table {
    /// A figure and the bar that it is held to, if there is one.
    pub fn row(&mut self, what: &str, figure: &str, bar: &str, is_met: bool) {
        let bar = match (bar, is_met) {
            ("", _) => String::new(),
            (bar, true) => format!("{bar}, met"),
            (bar, false) => format!("{bar}, MISSED"),
        };
        self.rows.push([what.to_owned(), figure.to_owned(), bar]);
    }

    /// A load, beside another where there is one.
    pub fn load(&mut self, what: &str, load: &Load, beside: Option<&Load>) {
        let ratio = beside.map_or_else(String::new, |beside| {
            format!("{} / {}", times(load.per_second() / beside.per_second()), times(beside.cpu_micros() / load.cpu_micros()))
        });
        self.loads.push([
            what.to_owned(),
            per_second(load.per_second()),
            format!("{:.0} µs", load.cpu_micros()),
            format!("{:.2} ms", load.percentile(50)),
            format!("{:.2} ms", load.percentile(99)),
            ratio,
        ]);
    }

    /// Prints it, and writes it beside what was built.
    pub fn print(&self, how: &str) -> Result<()> {
        let loads = ["load", "throughput", "server's CPU a call", "p50", "p99", "÷ bare: throughput / CPU"].map(str::to_owned);
        let rows = ["figure", "measured", "bar"].map(str::to_owned);
        let text = format!("{how}\n\n{}\n{}", markdown(&loads, &self.loads), markdown(&rows, &self.rows));
        println!("{text}");
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-report.md");
        fs::write(&file, text)?;
        println!("written to {}", file.display());
        Ok(())
    }
}

fn markdown<const N: usize>(head: &[String; N], rows: &[[String; N]]) -> String {
    let width =
        |column: usize| rows.iter().chain([head]).filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |cells: &[String; N]| {
        cells.iter().zip(&widths).fold(String::from("|"), |mut line, (cell, width)| {
            // Writing to a string cannot fail.
            let _ = write!(line, " {cell:width$} |");
            line
        })
    };
    let rule = format!("|{}|", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|"));
    let mut text = format!("{}\n{rule}\n", line(head));
    for row in rows {
        text.push_str(&line(row));
        text.push('\n');
    }
    text
}

/// A rate.
pub fn per_second(rate: f64) -> String {
    if rate < 1_000.0 { format!("{rate:.1}/s") } else { format!("{rate:.0}/s") }
}

/// A ratio.
pub fn times(ratio: f64) -> String {
    format!("{ratio:.2}")
}
