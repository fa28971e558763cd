//! The store: one SQLite file, and beside it a folder with the variants' ONNX files by content.
//!
//! Only finished trials are stored, each in one transaction. So whatever kills a sweep, only the trial that was running
//! is lost, and no configuration is run twice.

use super::file::{APPLICATION_ID, beside, check, connect, connect_immutable, explain, parse, read_only, row_id, to_json};
use super::{SCHEMA_VERSION, StudyHeader, Trial};
use crate::stats::Interval;
use crate::{Error, Result, atomic};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SCHEMA: &str = "
    CREATE TABLE header (id INTEGER PRIMARY KEY CHECK (id = 0), json TEXT NOT NULL) STRICT;
    CREATE TABLE environments (key TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT;
    CREATE TABLE trials (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        environment TEXT NOT NULL REFERENCES environments (key),
        json TEXT NOT NULL
    ) STRICT;";

/// An open study.
///
/// ```
/// use joulefront::study::{Configuration, Study, StudyHeader};
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("mnist.study");
/// let reference = Configuration {
///     recipe: "original".into(),
///     reproduce: String::new(),
///     engine: "tract".into(),
///     lowering: "float".into(),
///     threads: 1,
///     batch: 1,
///     seed: 0,
/// };
/// Study::create(&path, &StudyHeader::new(("model.onnx", "…"), ("mnist", "…"), reference))?;
/// assert_eq!(Study::open(&path)?.next_id()?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Study {
    connection: Connection,
    path: PathBuf,
    header: StudyHeader,
}

/// What [`Study::insert`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Inserted {
    /// The trial is stored.
    New,
    /// The configuration had been finished before (by another process, say); what was stored stays.
    AlreadyThere,
}

impl Study {
    /// Creates a study. It is built under another name and renamed when complete: no half study is ever found at `path`.
    ///
    /// # Errors
    /// Something is at `path` already; the folder is missing or not writable; the disk is full.
    pub fn create(path: &Path, header: &StudyHeader) -> Result<Self> {
        let folder = folder(path);
        let file = tempfile::Builder::new().prefix(atomic::TEMPORARY).tempfile_in(folder).map_err(|e| Error::write(path, e))?;
        let json = to_json(header)?;
        let build = || -> rusqlite::Result<()> {
            let mut c = Connection::open(file.path())?;
            let t = c.transaction()?;
            t.pragma_update(None, "application_id", APPLICATION_ID)?;
            t.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            t.execute_batch(SCHEMA)?;
            t.execute("INSERT INTO header VALUES (0, ?1)", [&json])?;
            t.commit()
        };
        build().map_err(|e| explain(path, e))?;
        atomic::set_default_mode(file.as_file()).map_err(|e| Error::write(path, e))?;
        file.persist_noclobber(path).map_err(|e| match e.error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::bad_input(format!("`{}` exists already", path.display()))
                .hint("resume that study with `--resume`, or name another file"),
            _ => Error::write(path, e.error),
        })?;
        Self::open(path)
    }

    /// Opens a study to read and add trials.
    ///
    /// # Errors
    /// The file is absent, is not a study, is damaged, was made by a newer joulefront, cannot be written to, or is locked.
    pub fn open(path: &Path) -> Result<Self> {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let prepare = || -> rusqlite::Result<()> {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // FULL: after a power cut the last trial is still there. It costs one fsync (milliseconds) for each trial
            // (seconds to minutes of measuring); NORMAL would save that and could lose the last few trials.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", true)
        };
        let header = check(&connection, path)?;
        // SQLite opens what it cannot write to for reading and says nothing; the first trial would be lost.
        if connection.is_readonly("main").map_err(|e| explain(path, e))? {
            return Err(read_only(path));
        }
        prepare().map_err(|e| explain(path, e))?;
        atomic::remove_stale(folder(path));
        atomic::remove_stale(&beside(path, ".files"));
        Ok(Study { connection, path: path.to_owned(), header })
    }

    /// Opens a study to read only; works on read-only media as well.
    ///
    /// # Errors
    /// The file is absent, is not a study, is damaged, was made by a newer joulefront, or is locked.
    pub fn open_read_only(path: &Path) -> Result<Self> {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        match check(&connection, path) {
            Ok(header) => Ok(Study { connection, path: path.to_owned(), header }),
            // In a folder that cannot be written to, SQLite cannot put its lock file for WAL mode there. If no other
            // process has a log of pending changes either, nothing can be missed by not locking.
            Err(e) if e.kind() == crate::ErrorKind::Environment && !beside(path, "-wal").exists() => {
                let connection = connect_immutable(path)?;
                let header = check(&connection, path)?;
                Ok(Study { connection, path: path.to_owned(), header })
            }
            Err(e) => Err(e),
        }
    }

    /// Where the study is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the study is about.
    pub fn header(&self) -> &StudyHeader {
        &self.header
    }

    /// Stores an environment record under the key that trials name it by; the same key again changes nothing.
    ///
    /// # Errors
    /// The study cannot be written to.
    pub fn insert_environment(&self, key: &str, record: &Value) -> Result<()> {
        let sql = "INSERT INTO environments VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING";
        self.connection.execute(sql, params![key, to_json(record)?]).map_err(|e| self.explain(e))?;
        Ok(())
    }

    /// All environment records by their keys.
    ///
    /// # Errors
    /// The study cannot be read.
    pub fn environments(&self) -> Result<BTreeMap<String, Value>> {
        let rows = self.texts("SELECT key, json FROM environments")?;
        rows.into_iter().map(|(key, json)| Ok((key, self.parse(&json)?))).collect()
    }

    /// Stores a finished trial under the canonical key of its configuration.
    ///
    /// # Errors
    /// The trial's number is taken by another configuration; its environment is not stored; a figure is not finite (it
    /// could not be read again); the study cannot be written to.
    pub fn insert(&self, trial: &Trial, key: &str) -> Result<Inserted> {
        let json = to_json(trial)?;
        if serde_json::from_str::<Trial>(&json).is_err() {
            return Err(Error::new(crate::ErrorKind::Engine, format!("trial {} has a figure that is not a finite number", trial.id)));
        }
        let sql = "INSERT INTO trials VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO NOTHING";
        match self.connection.execute(sql, params![row_id(trial.id)?, key, trial.environment, json]) {
            Ok(0) => Ok(Inserted::AlreadyThere),
            Ok(_) => Ok(Inserted::New),
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                let what = format!("trial {} of `{}` has a number in use or names an unknown environment", trial.id, self.path.display());
                Err(Error::bad_input(what).hint("is another sweep writing to the same study? give each its own file").with_source(e))
            }
            Err(e) => Err(self.explain(e)),
        }
    }

    /// The trial of a configuration, if it was finished.
    ///
    /// # Errors
    /// The study cannot be read.
    pub fn find(&self, key: &str) -> Result<Option<Trial>> {
        let found = self.connection.query_row("SELECT json FROM trials WHERE key = ?1", [key], |r| r.get::<_, String>(0));
        found.optional().map_err(|e| self.explain(e))?.map(|json| self.parse(&json)).transpose()
    }

    /// All trials in the order of their numbers.
    ///
    /// # Errors
    /// The study cannot be read.
    pub fn trials(&self) -> Result<Vec<Trial>> {
        let rows = self.texts("SELECT key, json FROM trials ORDER BY id")?;
        rows.iter().map(|(_, json)| self.parse(json)).collect()
    }

    /// The number the next trial gets.
    ///
    /// # Errors
    /// The study cannot be read.
    pub fn next_id(&self) -> Result<u64> {
        let next = self.connection.query_row("SELECT coalesce(max(id) + 1, 0) FROM trials", [], |r| r.get::<_, i64>(0));
        Ok(next.map_err(|e| self.explain(e))?.unsigned_abs())
    }

    /// Fills in the accuracy on `test` of a finished trial; done once, for the final front.
    ///
    /// # Errors
    /// There is no such trial or it failed; the study cannot be written to.
    pub fn update_test_accuracy(&mut self, id: u64, accuracy: Interval) -> Result<()> {
        let (path, row) = (self.path.clone(), row_id(id)?);
        let absent = || Error::bad_input(format!("`{}` has no finished trial {id}", path.display()));
        let t = self.connection.transaction().map_err(|e| explain(&path, e))?;
        let json = t.query_row("SELECT json FROM trials WHERE id = ?1", [row], |r| r.get::<_, String>(0));
        let json = json.optional().map_err(|e| explain(&path, e))?.ok_or_else(absent)?;
        let mut trial: Trial = parse(&path, &json)?;
        let super::Outcome::Done(results) = &mut trial.outcome else { return Err(absent()) };
        results.test_accuracy = Some(accuracy);
        t.execute("UPDATE trials SET json = ?2 WHERE id = ?1", params![row, to_json(&trial)?]).map_err(|e| explain(&path, e))?;
        t.commit().map_err(|e| explain(&path, e))
    }

    /// Where the variant with this SHA-256 (64 hexadecimal digits) is kept: `STUDY.files/SHA256.onnx`.
    ///
    /// # Errors
    /// `sha256` is not one, and might lead out of the folder.
    pub fn artifact_path(&self, sha256: &str) -> Result<PathBuf> {
        if sha256.len() != 64 || !sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Error::bad_input(format!("`{sha256}` is not a SHA-256 in lower-case hexadecimal")));
        }
        Ok(beside(&self.path, ".files").join(format!("{sha256}.onnx")))
    }

    /// Keeps a variant's file and returns its SHA-256. To be called before the trial that names it is inserted.
    ///
    /// # Errors
    /// The folder cannot be made or written to, or the disk is full.
    pub fn store_artifact(&self, onnx: &[u8]) -> Result<String> {
        let sha256 = crate::onnx::sha256_hex(onnx);
        let path = self.artifact_path(&sha256)?;
        if !path.exists() {
            let folder = beside(&self.path, ".files");
            std::fs::create_dir_all(&folder).map_err(|e| Error::write(&folder, e))?;
            atomic::write(&path, onnx)?;
        }
        Ok(sha256)
    }

    /// Removes a study that has no trials, with the original's file. Best effort: what remains is a whole, empty study.
    pub fn discard(self) {
        let original = self.artifact_path(&self.header.model_sha256);
        let Study { connection, path, .. } = self;
        // The last connection that closes takes the log files with it.
        drop(connection);
        let _ = original.map(std::fs::remove_file);
        let _ = std::fs::remove_dir(beside(&path, ".files"));
        for suffix in ["-wal", "-shm", ""] {
            let _ = std::fs::remove_file(beside(&path, suffix));
        }
    }

    fn texts(&self, sql: &str) -> Result<Vec<(String, String)>> {
        let read =
            || -> rusqlite::Result<Vec<_>> { self.connection.prepare(sql)?.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect() };
        read().map_err(|e| self.explain(e))
    }

    fn parse<T: DeserializeOwned>(&self, json: &str) -> Result<T> {
        parse(&self.path, json)
    }

    fn explain(&self, e: rusqlite::Error) -> Error {
        explain(&self.path, e)
    }
}

/// The folder that `path` is in.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
