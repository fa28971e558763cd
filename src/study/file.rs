//! The SQLite file itself: opening it, knowing it for a whole study of a known version, and SQLite's errors in words.

use super::{SCHEMA_VERSION, StudyHeader};
use crate::{Error, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// "JLFT": SQLite's place for saying whose file it is.
pub(super) const APPLICATION_ID: i64 = 0x4A4C_4654;

/// How long a writer waits for another process that writes to the same study.
const BUSY: Duration = Duration::from_secs(10);

pub(super) fn connect(path: &Path, access: OpenFlags) -> Result<Connection> {
    // SQLite's own message for an absent file does not say that it is absent.
    std::fs::File::open(path).map_err(|e| Error::read(path, e))?;
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(|e| explain(path, e))?;
    connection.busy_timeout(BUSY).map_err(|e| explain(path, e))?;
    Ok(connection)
}

pub(super) fn connect_immutable(path: &Path) -> Result<Connection> {
    let mut uri = String::from("file:");
    for b in path.as_os_str().as_encoded_bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*b)),
            b => uri.push_str(&format!("%{b:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri, flags).map_err(|e| explain(path, e))
}

/// That the file is a whole study of a version we know; its header.
pub(super) fn check(c: &Connection, path: &Path) -> Result<StudyHeader> {
    let number = |pragma: &str| c.pragma_query_value(None, pragma, |r| r.get::<_, i64>(0)).map_err(|e| explain(path, e));
    if number("application_id")? != APPLICATION_ID {
        return Err(not_a_study(path));
    }
    let version = number("user_version")?;
    if version > i64::from(SCHEMA_VERSION) {
        return Err(Error::bad_input(format!("`{}` has schema {version}, this joulefront knows up to {SCHEMA_VERSION}", path.display()))
            .hint("use the joulefront that made it, or a newer one"));
    }
    let found: String = c.pragma_query_value(None, "quick_check", |r| r.get(0)).map_err(|e| explain(path, e))?;
    if found != "ok" {
        return Err(damaged(path));
    }
    let json: String = c.query_row("SELECT json FROM header", [], |r| r.get(0)).map_err(|e| explain(path, e))?;
    parse(path, &json)
}

/// `path` with `suffix` after its whole name: `x.db` → `x.db-wal`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn row_id(id: u64) -> Result<i64> {
    i64::try_from(id).map_err(|_| Error::bad_input(format!("{id} is not a trial's number")))
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::bad_input("a record cannot be written as JSON").with_source(e))
}

pub(super) fn parse<T: DeserializeOwned>(path: &Path, json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| damaged(path).with_source(e))
}

fn not_a_study(path: &Path) -> Error {
    Error::bad_input(format!("`{}` is not a joulefront study", path.display())).hint("give the file that `joulefront sweep --study` wrote")
}

fn damaged(path: &Path) -> Error {
    Error::bad_input(format!("the study `{}` is damaged", path.display()))
        .hint("take a copy, or save what can be saved with the `sqlite3` program's `.recover`")
}

pub(super) fn read_only(path: &Path) -> Error {
    Error::environment(format!("cannot write the study `{}` or the files beside it", path.display()))
        .hint("copy it, with the files beside it that share its name, to a folder you can write to")
}

pub(super) fn explain(path: &Path, e: rusqlite::Error) -> Error {
    let study = path.display();
    let error = match e.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => not_a_study(path),
        Some(ErrorCode::DatabaseCorrupt) => damaged(path),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::environment(format!("the study `{study}` is locked by another process")).hint("wait for it or stop it, then try again")
        }
        Some(ErrorCode::DiskFull) => Error::environment(format!("cannot write the study `{study}`: the disk is full"))
            .hint("free some space, then resume; every finished trial is kept"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => read_only(path),
        _ => Error::environment(format!("the study `{study}` cannot be used: {e}")),
    };
    error.with_source(e)
}
