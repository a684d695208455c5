//! The documents that are made of the keys' own docs: the example file and the README's table. Tests compare both with what is in the
//! repository.

use super::setting::{NOT_SET, Setting};

/// Characters at most of a line of the example file.
const WIDTH: usize = 120;

const HEAD: &str = "\
# Every key of Doorward's configuration. This file is made from the docs in the code.
#
# A line `#key = value` shows the default. A line `#- key = value` is an example of a key that has no fixed default.
# Any key may also be set by a variable DOORWARD__SECTION__KEY, which goes before this file; lists are then separated by
# commas. Lengths of time are \"30s\", \"15m\", \"12h\" or \"7d\". Unknown keys and empty values are errors.
# `doorward config check` names every mistake; `doorward config show` tells what holds, and where it comes from.
";

/// The example file: every key with its doc and its default, all of it commented out.
#[must_use]
pub fn example(settings: &[Setting]) -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for setting in settings {
        let (of, name) = setting.key.split_once('.').unwrap_or_default();
        if of != section {
            section = of;
            text.extend(["\n[", section, "]\n"]);
        }
        let doc = match &setting.unset {
            Some(unset) if unset.default != NOT_SET => format!("{} Default: {}.", setting.doc, unset.default),
            _ => setting.doc.clone(),
        };
        text.push_str(&comment(&doc));
        let assignment = match (&setting.default, &setting.unset) {
            (_, Some(unset)) => format!("#- {name} = {}\n", unset.example),
            (Some(default), None) => format!("#{name} = {default}\n"),
            (None, None) => format!("#- {name} = \"\"\n"),
        };
        text.push_str(&assignment);
    }
    text
}

/// The README's table: a row a key.
#[must_use]
pub fn table(settings: &[Setting]) -> String {
    let mut text = String::from("| key | variable | default | meaning |\n|---|---|---|---|\n");
    for setting in settings {
        let default = match (&setting.default, &setting.unset) {
            (_, Some(unset)) => unset.default.to_owned(),
            (Some(default), None) => format!("`{default}`"),
            (None, None) => NOT_SET.to_owned(),
        };
        let (key, variable) = (&setting.key, setting.variable());
        // A bar would end the cell, also inside of code.
        let row = [format!("`{key}`"), format!("`{variable}`"), default, setting.doc.clone()].map(|cell| cell.replace('|', "\\|"));
        text.extend(["| ", &row.join(" | "), " |\n"]);
    }
    text
}

/// Words in lines that begin with `# `.
fn comment(words: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in words.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => line.extend([" ", word]),
            _ => lines.push(format!("# {word}")),
        }
    }
    lines.join("\n") + "\n"
}
