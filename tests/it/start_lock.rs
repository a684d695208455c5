//! The lock file beside an SQLite database, on which starts and commands wait for one another: nobody else may hold it, and a wait is told.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    harness::*,
    start::{Ground, run},
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_lock_file_is_closed_to_others_also_where_it_was_open() {
    run(Backend::Sqlite, |ground: Ground| async move {
        let lock = ground.file(".lock");
        ground.open_and_close().await;
        assert_eq!(mode(&lock), 0o600);
        fs::set_permissions(&lock, fs::Permissions::from_mode(0o644)).unwrap();
        ground.open_and_close().await;
        assert_eq!(mode(&lock), 0o600);
    });
}

#[test]
fn a_link_in_the_place_of_the_lock_file_is_not_followed() {
    run(Backend::Sqlite, |ground: Ground| async move {
        let elsewhere = ground.folder.path().join("elsewhere");
        symlink(&elsewhere, ground.file(".lock")).unwrap();
        let refusal = ground.refusal().await;
        assert!(refusal.contains("doorward.db.lock") && refusal.contains("symbolic link; remove it"), "{refusal}");
        assert!(!elsewhere.exists());
    });
}

#[test]
fn a_command_that_waits_for_the_lock_says_so_and_goes_on_when_it_is_free() {
    run(Backend::Sqlite, |ground: Ground| async move {
        ground.open_and_close().await;
        let held = File::open(ground.file(".lock")).unwrap();
        held.lock().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        command.args(["user", "list"]).current_dir(ground.folder.path()).env_clear();
        command.env("DOORWARD__DATABASE__URL", database_url(&ground.config));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let told = format!("waiting for {}, which another process holds", ground.file(".lock").display());
        assert!(line.contains(&told), "{line}");
        held.unlock().unwrap();
        assert!(child.wait().unwrap().success());
    });
}
