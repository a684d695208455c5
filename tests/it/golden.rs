//! Golden files: what a reviewer reads instead of assertions, in `tests/golden/`.

use std::{fs, path::Path};

/// Compares with the golden file; writes it where `DOORWARD_UPDATE_GOLDEN` is set.
pub fn check(name: &str, found: &str) {
    check_file(&format!("tests/golden/{name}"), found);
}

/// The same for a file that is made, at any place of the repository.
pub fn check_file(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("DOORWARD_UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let differing: Vec<_> = differences(&expected, found);
    assert!(
        expected == found,
        "{name} says otherwise (- golden, + now):\n{}\nIs the change meant? Then run this test with \
         DOORWARD_UPDATE_GOLDEN=1, read the diff, and commit it.",
        differing.join("\n")
    );
}

fn differences(expected: &str, found: &str) -> Vec<String> {
    let only_in = |mark: char, one: &str, other: &str| -> Vec<String> {
        one.lines().filter(|line| !other.lines().any(|o| o == *line)).map(|line| format!("{mark} {line}")).collect()
    };
    [only_in('-', expected, found), only_in('+', found, expected)].concat()
}
