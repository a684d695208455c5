//! Reading what lies under `deploy/`, with short ways to the values in it.

use std::{collections::BTreeMap, fs, path::PathBuf};

use doorward::config::{self, Config, Problems};
use doorward::values::{entropy::Entropy, secret};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn text(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The one document of a YAML file.
pub fn yaml(path: &str) -> Value {
    let text = text(path);
    let documents = Yaml::load_from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(documents.len(), 1, "{path} has one document");
    json(&documents[0])
}

fn json(node: &Yaml) -> Value {
    match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => Value::from(*value),
        Yaml::Value(Scalar::Integer(value)) => Value::from(*value),
        Yaml::Value(Scalar::FloatingPoint(value)) => Value::from(**value),
        Yaml::Value(Scalar::String(value)) => Value::from(value.as_ref()),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(entries) => {
            let entry = |(key, value): (&Yaml, &Yaml)| (key.as_str().expect("keys are texts").to_owned(), json(value));
            Value::Object(entries.iter().map(entry).collect::<Map<_, _>>())
        }
        other => panic!("not expected in a manifest: {other:?}"),
    }
}

/// Every item of a list; none where there is no list.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub fn strings(value: &Value) -> Vec<&str> {
    list(value).map(string).collect()
}

pub fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text is expected, not {value}"))
}

pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a number is expected, not {value}"))
}

/// The item of a list that has this name.
pub fn named<'a>(items: &'a Value, name: &str) -> &'a Value {
    list(items).find(|item| item["name"] == name).unwrap_or_else(|| panic!("nothing is named {name} in {items}"))
}

/// The key that a variable sets; none for other programs' variables.
pub fn key(variable: &str) -> Option<String> {
    let (section, key) = variable.strip_prefix("DOORWARD__")?.split_once("__")?;
    Some(format!("{section}.{key}").to_ascii_lowercase())
}

/// The configuration that these variables make, where each file that they name holds a good secret.
pub fn load(variables: &Variables) -> Config {
    try_load(variables).unwrap_or_else(|problems| panic!("the server refuses what is deployed: {problems}"))
}

/// What the server says to these variables.
pub fn try_load(variables: &Variables) -> Result<Config, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let known = config::keys();
    let environment = variables.iter().map(|(name, value)| {
        let key = key(name).unwrap_or_else(|| panic!("{name} sets no key"));
        assert!(known.contains(&key) || known.contains(&format!("{key}_file")), "{name}: there is no key {key}");
        let content = match key.as_str() {
            "secrets.root_file" => secret::generate_root(&Entropy::system()),
            "database.url_file" => "postgres://doorward:secret@postgres/doorward".to_owned(),
            _ => return (name.clone(), value.clone()),
        };
        let file = folder.path().join(&key);
        fs::write(&file, content).unwrap();
        (name.clone(), file.to_str().unwrap().to_owned())
    });
    Config::load(None, environment.collect::<Vec<_>>())
}

/// The instructions of the image, each with its words, continued lines joined.
pub fn dockerfile() -> Vec<(String, String)> {
    let text = text("deploy/Dockerfile");
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let instructions = joined.lines().filter_map(|line| line.split_once(' '));
    instructions.map(|(name, words)| (name.to_owned(), words.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
}

/// The instructions of the stage that is the image.
pub fn last_stage() -> Vec<(String, String)> {
    let mut instructions = dockerfile();
    let from = instructions.iter().rposition(|(name, _)| name == "FROM").unwrap();
    instructions.split_off(from)
}

/// What an instruction of the image's stage says; it is there once.
pub fn instruction(name: &str) -> String {
    let found: Vec<String> = last_stage().into_iter().filter(|(known, _)| known == name).map(|(_, words)| words).collect();
    assert_eq!(found.len(), 1, "the image has one {name}");
    found.into_iter().next().unwrap()
}

/// The words of an instruction in exec form.
pub fn exec(words: &str) -> Vec<String> {
    serde_json::from_str(words).unwrap_or_else(|e| panic!("{words} is no exec form: {e}"))
}

/// The variables that the image sets.
pub fn image_variables() -> Variables {
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
    instruction("ENV").split(' ').map(pair).collect()
}
