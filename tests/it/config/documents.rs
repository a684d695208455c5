//! What is made of the keys' docs: the example file and the README's table.

use std::{collections::BTreeSet, fs, path::Path};

use doorward::config::{self, Config, InForce, docs};
use secrecy::ExposeSecret;

use super::from_toml;
use crate::golden;

const BEGIN: &str = "<!-- configuration keys: begin -->\n";
const END: &str = "<!-- configuration keys: end -->";

#[test]
fn the_example_file_is_made_of_the_docs() {
    golden::check_file("deploy/config.example.toml", &docs::example(&config::settings()));
}

#[test]
fn the_table_in_the_readme_is_made_of_the_docs() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the mark where the table begins");
    let (_, after) = rest.split_once(END).expect("the mark where it ends");
    let table = docs::table(&config::settings());
    assert!(table.lines().all(|line| line.matches(" | ").count() == 3 || line.starts_with("|---")), "{table}");
    golden::check_file("README.md", &format!("{before}{BEGIN}\n{table}\n{END}{after}"));
}

#[test]
fn every_key_says_what_it_is_for_and_what_holds_without_it() {
    for setting in config::settings() {
        assert!(setting.doc.ends_with('.') && setting.doc.len() > 15, "{setting:?}");
        assert!(setting.default.is_some() != setting.unset.is_some(), "one of the two: {setting:?}");
        assert!(!matches!(setting.value, InForce::Hidden(_)), "there is no default secret: {setting:?}");
    }
    let without_effect = ["login.failure_floor"];
    let found: Vec<String> =
        config::settings().into_iter().filter(|setting| setting.doc.contains("Without effect yet")).map(|setting| setting.key).collect();
    assert_eq!(found, without_effect);
}

/// An example that one may write is one that is taken.
#[test]
fn examples_of_keys_without_a_default_are_good() {
    for setting in config::settings() {
        let Some(unset) = &setting.unset else { continue };
        let (section, name) = setting.key.split_once('.').unwrap();
        let problems = from_toml(&format!("[{section}]\n{name} = {}", unset.example)).err().map(|problems| problems.to_string());
        // A file that is not here, the other half of the first superuser or of TLS, and a placeholder that must never work.
        let expected = ["cannot be read", "needs bootstrap.", "needs server.tls_", "well-known example"];
        assert!(problems.as_ref().is_none_or(|text| expected.iter().any(|part| text.contains(part))), "{}: {problems:?}", setting.key);
    }
}

/// The example file has every key, in its section, and every default that it shows is the default.
#[test]
fn the_example_file_tells_the_truth() {
    let example = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/config.example.toml")).unwrap();
    let (mut defaults, mut named, mut section) = (String::new(), Vec::new(), "");
    for line in example.lines() {
        let assignment = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '-'));
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
        } else if let Some(assignment) = assignment {
            let example_only = assignment.strip_prefix("- ");
            let (key, _) = example_only.unwrap_or(assignment).split_once(" = ").expect(line);
            named.push(format!("{section}.{key}"));
            if example_only.is_none() {
                defaults.push_str(assignment);
            }
        } else {
            assert!(line.is_empty() || line == "#" || line.starts_with("# "), "neither doc nor assignment: {line}");
        }
        if assignment.is_none() {
            defaults.push_str(line);
        }
        defaults.push('\n');
    }

    let (sorted, known) = (BTreeSet::from_iter(named.clone()), BTreeSet::from_iter(config::keys()));
    assert_eq!(sorted, known, "deploy/config.example.toml and the keys that are read differ");
    assert_eq!(named.len(), known.len(), "a key is there twice");

    assert!(defaults.contains("\ngrpc_addr = "), "the assignments are not commented out here:\n{defaults}");
    let config = from_toml(&defaults).unwrap();
    assert_eq!(format!("{config:#?}"), format!("{:#?}", Config::default()));
    assert_eq!(config.database.url.expose_secret(), Config::default().database.url.expose_secret());
    // And as it stands it changes nothing.
    assert_eq!(format!("{:#?}", from_toml(&example).unwrap()), format!("{:#?}", Config::default()));
}
