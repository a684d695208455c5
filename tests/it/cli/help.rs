//! Help texts: golden files in `tests/golden/help`; `DOORWARD_UPDATE_GOLDEN=1 cargo test --test it cli::help` writes them anew.

use super::*;

/// Every command that has a help text, by its words.
const COMMANDS: [&str; 55] = [
    "",
    "serve",
    "migrate",
    "migrate up",
    "migrate status",
    "user",
    "user create",
    "user list",
    "user show",
    "user disable",
    "user enable",
    "user delete",
    "user set-password",
    "tenant",
    "tenant create",
    "tenant list",
    "tenant suspend",
    "tenant activate",
    "tenant set-policy",
    "role",
    "role create",
    "role list",
    "member",
    "member add",
    "member list",
    "member remove",
    "service-account",
    "service-account create",
    "service-account list",
    "service-account show",
    "service-account disable",
    "service-account enable",
    "service-account delete",
    "service-account add-secret",
    "service-account remove-secret",
    "service-account add-certificate",
    "service-account remove-certificate",
    "key",
    "key list",
    "key rotate",
    "key retire",
    "key revoke",
    "key reseal",
    "session",
    "session list",
    "session revoke",
    "backup",
    "demo",
    "health",
    "completions",
    "config",
    "config check",
    "config show",
    "secret",
    "secret generate",
];

/// Those that only lead to others.
const NOUNS: [&str; 10] = ["migrate", "user", "tenant", "role", "member", "service-account", "key", "session", "config", "secret"];

#[test]
fn help_texts_are_golden() {
    let place = Place::new();
    for words in COMMANDS {
        let typed: Vec<&str> = words.split_whitespace().chain(["--help"]).collect();
        let text = place.run(&typed).done().out;
        let name = ["doorward", words].join(" ").trim_end().replace(' ', "-");
        golden::check(&format!("help/{name}.txt"), &text);
        assert!(NOUNS.contains(&words) || text.contains("doorward ") && text.contains("Example"), "{words} has no example");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{words} has a line that no terminal shows whole:\n{text}");
    }
}

#[test]
fn no_command_is_without_a_golden_help_text() {
    use clap::CommandFactory;
    fn walk(command: &clap::Command, words: &str, found: &mut Vec<String>) {
        found.push(words.to_owned());
        for inner in command.get_subcommands() {
            walk(inner, format!("{words} {}", inner.get_name()).trim_start(), found);
        }
    }
    let mut found = Vec::new();
    walk(&doorward::cli::Cli::command(), "", &mut found);
    let mut known: Vec<&str> = COMMANDS.to_vec();
    known.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, known);
    doorward::cli::Cli::command().debug_assert();
}
