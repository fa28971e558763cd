//! Baselines: a folder for each name, one file for each run, none of which is ever written again.
//!
//! `STORE/NAME/000012-5e0f….json`: the number says the order (clocks may step), the digest is that of the run, so that a run is not
//! saved twice. Files appear whole or not at all ([`crate::atomic`]); what is no run's file is left alone.

use super::run::Run;
use crate::{Error, Result, atomic};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Digits of a run's digest in the name of its file.
const DIGEST: usize = 16;

/// Runs are compared with this many of the newest.
const NEWEST: usize = 200;

/// A folder of baselines.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// A run of a baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// Its place in the order.
    pub number: u64,
    /// The run.
    pub run: Run,
}

impl Store {
    /// A store in `folder`, which need not be there.
    pub fn at(folder: impl Into<PathBuf>) -> Store {
        Store { folder: folder.into() }
    }

    /// The runs of the baseline `name`, oldest first, the newest 200. Empty where there is none.
    ///
    /// # Errors
    /// Bad input: the name is none, a file is damaged or of a newer schema. Environment: the folder cannot be read.
    pub fn load(&self, name: &str) -> Result<Vec<Saved>> {
        let mut files = self.files(name)?;
        files.drain(..files.len().saturating_sub(NEWEST));
        let read = |(number, path): (u64, PathBuf)| {
            let hint = "history is never changed by joulefront: restore the file, or move it out of the store";
            Run::read_file(&path).map(|run| Saved { number, run }).map_err(|e| e.hint(hint))
        };
        files.into_iter().map(read).collect()
    }

    /// Appends a run and says where; a run that is there already is not saved again.
    ///
    /// # Errors
    /// Bad input: the name is none. Environment: the folder cannot be written.
    pub fn save(&self, name: &str, run: &Run) -> Result<PathBuf> {
        let folder = self.folder(name)?;
        let text = run.to_json()?;
        let digest: String = Sha256::digest(&text).iter().take(DIGEST / 2).map(|b| format!("{b:02x}")).collect();
        let files = self.files(name)?;
        if let Some((_, path)) = files.iter().find(|(_, path)| file_name(path).ends_with(&format!("-{digest}.json"))) {
            return Ok(path.clone());
        }
        std::fs::create_dir_all(&folder).map_err(|e| Error::write(&folder, e))?;
        atomic::remove_stale(&folder);
        // Two that save at once may take the same number: their digests differ, and the order between them means nothing.
        let number = files.last().map_or(0, |(number, _)| *number).saturating_add(1);
        let path = folder.join(format!("{number:06}-{digest}.json"));
        atomic::write(&path, &text)?;
        Ok(path)
    }

    /// The files of a baseline in their order.
    fn files(&self, name: &str) -> Result<Vec<(u64, PathBuf)>> {
        let folder = self.folder(name)?;
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::read(&folder, e)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| Error::read(&folder, e))?.path();
            if let Some(number) = number(&file_name(&path)) {
                files.push((number, path));
            }
        }
        files.sort();
        Ok(files)
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.chars().all(plain) {
            return Err(Error::bad_input(format!("`{name}` is no name for a baseline"))
                .hint("use letters, digits, `-`, `_` and `.`, not at the beginning a dot: `main`, `v1.2`"));
        }
        Ok(self.folder.join(name))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

/// The number of a run's file; `None` for other files.
fn number(name: &str) -> Option<u64> {
    let (number, digest) = name.strip_suffix(".json")?.split_once('-')?;
    let digits = |text: &str, least: usize, ok: fn(&u8) -> bool| text.len() >= least && text.bytes().all(|b| ok(&b));
    (digits(number, 6, u8::is_ascii_digit) && digits(digest, DIGEST, u8::is_ascii_hexdigit)).then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::samples::run;
    use super::*;
    use crate::ErrorKind;
    use std::fs;

    #[test]
    fn runs_come_back_in_the_order_of_saving_whatever_the_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("store"));
        assert_eq!(store.load("main").unwrap(), []);
        for seed in [5, 3, 9] {
            store.save("main", &run(seed, 1.0)).unwrap();
        }
        let seeds: Vec<u64> = store.load("main").unwrap().iter().map(|s| s.run.taken_unix_s - 1_760_000_000).collect();
        assert_eq!(seeds, [5, 3, 9]);
        // Again: nothing new.
        let again = store.save("main", &run(3, 1.0)).unwrap();
        assert!(again.ends_with(again.file_name().unwrap()) && store.load("main").unwrap().len() == 3);
        assert_eq!(store.load("other").unwrap(), []);
    }

    #[test]
    fn damage_is_said_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let first = store.save("main", &run(1, 1.0)).unwrap();
        store.save("main", &run(2, 1.0)).unwrap();
        // What an interrupted write leaves, and what others put there.
        fs::write(folder.path().join("main/.joulefront-abc"), "{").unwrap();
        fs::write(folder.path().join("main/notes.txt"), "x").unwrap();
        assert_eq!(store.load("main").unwrap().len(), 2);
        let whole = fs::read(&first).unwrap();
        for (damage, word) in [(&whole[..whole.len() / 2], "not JSON"), (b"{}", "no run"), (b"\xff\x00", "not JSON")] {
            fs::write(&first, damage).unwrap();
            let error = store.load("main").unwrap_err();
            assert!(error.to_string().contains(word) && error.to_string().contains("000001-"), "{error}");
            assert_eq!(error.kind(), ErrorKind::BadInput);
            // Saving goes on beside it.
            store.save("main", &run(2, 1.0)).unwrap();
            assert_eq!(fs::read(&first).unwrap(), damage);
        }
        let newer = String::from_utf8(whole.clone()).unwrap().replacen("\"schema_version\": 1", "\"schema_version\": 7", 1);
        fs::write(&first, newer).unwrap();
        assert!(store.load("main").unwrap_err().to_string().contains("newer joulefront"));
        fs::write(&first, whole).unwrap();
        assert_eq!(store.load("main").unwrap().len(), 2);
    }

    #[test]
    fn names_stay_inside_the_store() {
        let store = Store::at("nowhere");
        for name in ["", "..", "a/b", "../x", ".hidden", "a b", "ä"] {
            assert_eq!(store.load(name).unwrap_err().kind(), ErrorKind::BadInput, "{name}");
        }
        assert_eq!(number("000001-0123456789abcdef.json"), Some(1));
        assert_eq!(number("1-0123456789abcdef.json"), None);
        assert_eq!(number("99999999999999999999999-0123456789abcdef.json"), None);
    }
}
