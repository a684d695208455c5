//! Where passwords come from: a prompt, standard input or a file; never an argument, which other users of the machine can read.
//!
//! What a person chose is final unless `--must-change`. What is made here is printed once and must be changed at the first login.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, IsTerminal as _, Read, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::{failure::Failure, output};
use crate::values::{entropy::Entropy, secret::Password};

/// No password is longer; what is read beyond is not one.
const READ_MAX: u64 = 64 * 1024;
/// 32 characters, 5 bits each, none of which looks like another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Characters at least of a made password: 120 bits.
const MADE_MIN: usize = 24;
/// What shells expect of whoever ends by Ctrl-C.
const INTERRUPTED: i32 = 130;
/// A made password has a hyphen behind every so many characters, for people who type it.
const GROUP: usize = 6;

/// The flags.
#[derive(Debug, Args)]
pub struct PasswordFlags {
    /// Read the password, one line, from standard input
    #[arg(long, conflicts_with = "password_file")]
    pub password_stdin: bool,
    /// Read the password, one line, from a file
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Let the password be good for nothing but choosing another at the first login
    #[arg(long)]
    pub must_change: bool,
}

/// A password to be set.
#[derive(Debug)]
pub struct Chosen {
    /// The password.
    pub password: Password,
    /// Whether it must be changed at the first login.
    pub must_change: bool,
    /// Whether it was made here, so that it has to be shown.
    pub made: bool,
}

impl PasswordFlags {
    /// The password as the flags say; without any, the operator is asked twice at a terminal, and elsewhere one of at least `min_length`
    /// characters is made.
    ///
    /// # Errors
    /// Nothing can be read, or the two answers differ.
    pub fn choose(&self, min_length: usize, entropy: &Entropy) -> Result<Chosen, Failure> {
        let given = |password| Chosen { password, must_change: self.must_change, made: false };
        if let Some(path) = &self.password_file {
            read_file(path).map(given)
        } else if self.password_stdin {
            read_stdin().map(given)
        } else if io::stdin().is_terminal() {
            prompt().map(given)
        } else {
            Ok(Chosen { password: make(min_length, entropy), must_change: true, made: true })
        }
    }
}

/// The password in a file. One that others can read is taken, with a warning.
///
/// # Errors
/// It cannot be read, or holds no text.
pub fn read_file(path: &Path) -> Result<Password, Failure> {
    let shown = path.display();
    let unreadable = |e: io::Error| Failure::new(format!("the password file {shown} cannot be read: {e}"));
    let found = fs::metadata(path).map_err(unreadable)?;
    let mode = found.permissions().mode();
    // Of a pipe or a device it says nothing that could be mended.
    if found.is_file() && mode & 0o077 != 0 {
        tracing::warn!(mode = format!("{:o}", mode & 0o777), "the password file {shown} is open to others: run chmod 600 {shown}");
    }
    let file = File::open(path).map_err(unreadable)?;
    read(file).map_err(|problem| Failure::new(format!("the password file {shown} {problem}")))
}

fn read_stdin() -> Result<Password, Failure> {
    if io::stdin().is_terminal() {
        return Err(Failure::new("standard input is a terminal: leave --password-stdin out to be asked without echo"));
    }
    read(io::stdin()).map_err(|problem| Failure::new(format!("standard input {problem}")))
}

/// The one line of it; the error is the rest of a sentence.
fn read(source: impl Read) -> Result<Password, String> {
    // All the room at once: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(READ_MAX).unwrap_or_default() + 1));
    source.take(READ_MAX + 1).read_to_end(&mut bytes).map_err(|e| format!("cannot be read: {e}"))?;
    if bytes.len() as u64 > READ_MAX {
        return Err("is longer than any password may be".to_owned());
    }
    Password::from_source(&bytes).map_err(str::to_owned)
}

fn prompt() -> Result<Password, Failure> {
    restore_on_interrupt();
    let ask = |text| {
        rpassword::prompt_password(text).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => {
                // Ctrl-D: the cursor still stands behind the question.
                drop(writeln!(io::stderr()));
                Failure::new("no password was given: nothing was changed")
            }
            _ => Failure::new(format!("the terminal cannot be read: {e}")),
        })
    };
    let password = Password::new(ask("New password: ")?);
    let again = Password::new(ask("The same password again: ")?);
    if password.as_str() == again.as_str() {
        Ok(password)
    } else {
        Err(Failure::new("the two passwords are not the same: nothing was changed"))
    }
}

/// Lets Ctrl-C end the command with the terminal as it is now: the prompt switches the echo off, and would leave it so.
fn restore_on_interrupt() {
    let Ok(before) = tcgetattr(io::stdin()) else { return };
    #[expect(clippy::disallowed_methods, reason = "nobody awaits it: it ends the process, or ends with it")]
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &before);
            // Also long after the prompt, when something may have been changed.
            output::note("interrupted");
            std::process::exit(INTERRUPTED);
        }
    });
}

/// A random password of at least `min_length` characters.
#[must_use]
pub fn make(min_length: usize, entropy: &Entropy) -> Password {
    let length = MADE_MIN.max(min_length);
    let mut text = String::with_capacity(length * 2);
    for index in 0..length {
        if index > 0 && index % GROUP == 0 {
            text.push('-');
        }
        // 32 divides 256: every character is as likely as any other.
        let [byte] = entropy.bytes::<1>();
        text.extend(ALPHABET.get(usize::from(byte % 32)).map(|&letter| char::from(letter)));
    }
    Password::new(text)
}
