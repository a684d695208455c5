//! `doorward config …`: what is set, and whether it can be used. Opens no database and changes nothing.

use std::{collections::BTreeSet, path::Path};

use clap::Subcommand;
use serde::Serialize;

use super::{
    failure::Failure,
    output::{self, Format},
};
use crate::config::{Config, InForce, Setting, Shown, setting::DEFAULT};

const CHECK: &str = "\
Exits with 0 when a first start would take the configuration, and with 1 and every problem when not.
Whether the database is there and the ports are free shows at the start.

Examples:
  doorward config check
  doorward --config /etc/doorward.toml config check";
const SHOW: &str = "\
Secrets are not shown; what is printed is itself a settings file.

Examples:
  doorward config show
  doorward config show | grep -v '# default$'
  doorward --config /etc/doorward.toml config show --format json";
/// Columns at most that a value pushes its origin to the right.
const ALIGNED: usize = 56;

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration without starting anything
    #[command(after_help = CHECK)]
    Check,
    /// Print every setting with what holds and where it comes from
    #[command(after_help = SHOW)]
    Show,
}

/// Does it. `file` is that of `--config`, `variables` the settings of the environment.
///
/// # Errors
/// Every problem of the configuration.
pub fn run(command: &ConfigCommand, file: Option<&Path>, variables: Vec<(String, String)>, format: Format) -> Result<(), Failure> {
    let (config, settings) = Config::explain(file, variables)?;
    match command {
        ConfigCommand::Check => check(&config, &settings, file, format),
        ConfigCommand::Show if format == Format::Json => {
            let shown: Vec<Row> = settings.iter().map(Row::of).collect();
            output::one(format, &serde_json::json!({ "settings": shown }), "")
        }
        ConfigCommand::Show => output::print(&toml(&settings)),
    }
}

fn check(config: &Config, settings: &[Setting], file: Option<&Path>, format: Format) -> Result<(), Failure> {
    let is_from_file = |setting: &&Setting| file.is_some_and(|file| setting.origin == origin(file));
    let set: Vec<&Setting> = settings.iter().filter(|setting| setting.origin != DEFAULT).collect();
    // A secret from a file is the value of two keys, and one setting.
    let by_file = set.iter().filter(|setting| is_from_file(setting)).filter(|setting| !is_read_elsewhere(setting, settings)).count();
    let by_variable = set.iter().filter(|setting| !is_from_file(setting)).map(|setting| &setting.origin).collect::<BTreeSet<_>>().len();
    let from_file = file.map(|file| format!("{by_file} set by {}, ", origin(file))).unwrap_or_default();
    let advice = config.tokens.advice(config.server.http_addr);
    let mut text = format!("the configuration is good: {} keys, {from_file}{by_variable} by variables, the rest defaults", settings.len());
    text.extend(advice.iter().map(|advice| format!("\nbut {advice}")));
    let advice: Vec<_> = advice.into_iter().collect();
    let json = serde_json::json!({ "file": file.map(origin), "set_by_file": by_file, "set_by_variables": by_variable, "advice": advice });
    output::one(format, &json, &text)
}

/// A path as the configuration names it.
fn origin(file: &Path) -> String {
    file.display().to_string().escape_debug().to_string()
}

/// Whether the value of this secret comes by way of its `…_file`.
fn is_read_elsewhere(setting: &Setting, settings: &[Setting]) -> bool {
    let file_key = format!("{}_file", setting.key);
    settings.iter().any(|other| other.key == file_key && other.value != InForce::Unset)
}

/// A key in JSON.
#[derive(Serialize)]
struct Row<'a> {
    key: &'a str,
    variable: String,
    /// Absent where nothing holds.
    value: Option<Shown>,
    /// Whether the value is a secret: then it says only what may be told of it.
    redacted: bool,
    origin: &'a str,
}

impl<'a> Row<'a> {
    fn of(setting: &'a Setting) -> Self {
        let (value, redacted) = match &setting.value {
            InForce::Unset => (None, false),
            InForce::Shown(shown) => (Some(shown.clone()), false),
            InForce::Hidden(told) => (Some(Shown::Text(told.clone())), true),
        };
        Self { key: &setting.key, variable: setting.variable(), value, redacted, origin: &setting.origin }
    }
}

/// All as a settings file: what is not set or not shown is a comment.
fn toml(settings: &[Setting]) -> String {
    let lines: Vec<(&str, String, &str)> = settings
        .iter()
        .map(|setting| {
            let (section, name) = setting.key.split_once('.').unwrap_or_default();
            let line = match &setting.value {
                InForce::Unset => format!("# {name} is not set"),
                InForce::Hidden(told) => format!("# {name} is not shown: {}", output::quoted(told)),
                // Only one of the two may be set.
                InForce::Shown(value) if is_read_elsewhere(setting, settings) => format!("# {name} = {value}"),
                InForce::Shown(value) => format!("{name} = {value}"),
            };
            (section, line, setting.origin.as_str())
        })
        .collect();
    let width = lines.iter().map(|(_, line, _)| line.chars().count()).filter(|width| *width <= ALIGNED).max().unwrap_or_default();
    let mut text = String::new();
    let mut current = "";
    for (section, line, origin) in lines {
        if section != current {
            text.extend([if current.is_empty() { "[" } else { "\n[" }, section, "]\n"]);
            current = section;
        }
        text.extend([&format!("{line:width$}"), "  # ", &output::quoted(&origin), "\n"]);
    }
    text
}
