//! One server at a time on an SQLite file: a lock that lasts as long as the server.
//!
//! Two servers on one file would not break it, but each would do the work that is meant to be done once, and the second is mostly started
//! by mistake. Commands take no part: they work beside a server.
//!
//! The lock is the kernel's (flock), on the file `<database>.serving` beside the database, so it ends with the process, however that
//! ends; the file itself only says who holds it, and goes away at a clean stop. It is not to be had on network file systems, and neither
//! is SQLite's write-ahead log.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use super::failure::Failure;
use crate::{config::Config, domain::start};

/// Bytes at most that are read of who holds it.
const HOLDER_MAX: u64 = 32;

/// Held as long as the server is.
#[derive(Debug)]
pub(super) struct OnlyServer(Option<(PathBuf, File)>);

impl OnlyServer {
    /// Takes the lock of the configured database; on PostgreSQL there is none to take.
    ///
    /// # Errors
    /// Another server holds it, or there is no place for it.
    pub(super) fn claim(config: &Config) -> Result<Self, Failure> {
        let Some(database) = start::database_file(config)? else { return Ok(Self(None)) };
        let path = place(&database)?;
        let shown = path.display();
        loop {
            let file = open(&path).map_err(|e| Failure::new(format!("the lock file {shown} cannot be made: {e}")))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(held(&database, &file)),
                Err(TryLockError::Error(e)) => {
                    let text = "is it on a network file system? SQLite needs a local one";
                    return Err(Failure::new(format!("the lock file {shown} cannot be locked ({e}): {text}")));
                }
            }
            if !is_ours(&file) {
                return Err(Failure::new(format!("{shown} is no lock file of a server: it is in the way, so move it elsewhere")));
            }
            // The server before may have removed it between the two steps: then it is the lock of nothing.
            if is_still(&path, &file) {
                sign(&file).map_err(|e| Failure::new(format!("the lock file {shown} cannot be written: {e}")))?;
                return Ok(Self(Some((path, file))));
            }
        }
    }
}

impl Drop for OnlyServer {
    fn drop(&mut self) {
        // While it is locked: nobody else can hold a lock on it that would be lost. Where somebody removed it, another one is another's.
        if let Some((path, file)) = &self.0
            && is_still(path, file)
        {
            drop(fs::remove_file(path));
        }
    }
}

/// Beside the database itself, whatever symbolic links lead to it.
fn place(database: &Path) -> Result<PathBuf, Failure> {
    let mut path = if let Ok(path) = database.canonicalize() {
        path
    } else {
        // A first start: the folder is all there is.
        let parent = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let folder = parent.canonicalize().map_err(|_| start::no_folder(parent))?;
        folder.join(database.file_name().unwrap_or_default())
    }
    .into_os_string();
    path.push(".serving");
    Ok(path.into())
}

fn open(path: &Path) -> io::Result<File> {
    // Not through a link, which may lead to anybody's file: it is written to.
    let no_link = OFlag::O_NOFOLLOW.bits();
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_link).open(path)
}

/// Whether it is what [`sign`] leaves, or new, and no other name of anybody's file.
fn is_ours(mut file: &File) -> bool {
    let mut text = String::new();
    let is_plain = file.metadata().is_ok_and(|found| found.is_file() && found.nlink() == 1 && found.len() <= HOLDER_MAX);
    is_plain && file.read_to_string(&mut text).is_ok() && text.trim_end().bytes().all(|byte| byte.is_ascii_digit())
}

fn is_still(path: &Path, file: &File) -> bool {
    let (Ok(there), Ok(here)) = (fs::symlink_metadata(path), file.metadata()) else { return false };
    (there.dev(), there.ino()) == (here.dev(), here.ino())
}

fn sign(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn held(database: &Path, file: &File) -> Failure {
    let mut text = String::new();
    let read = file.take(HOLDER_MAX).read_to_string(&mut text);
    let holder = match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("another server (process {pid})"),
        _ => "another server".to_owned(),
    };
    Failure::new(format!(
        "{holder} serves the database {} already, and SQLite is for one: stop it, name another file in database.url \
         (DOORWARD__DATABASE__URL), or use PostgreSQL for several servers. Commands such as `doorward user list` work beside it",
        database.display()
    ))
}
