#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::samples::{around, done, header, trials};
use super::{Inserted, Outcome, Study, Trial};
use crate::ErrorKind;
use crate::stats::Interval;
use std::path::PathBuf;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("a study.db")
    }

    fn create(&self) -> Study {
        let study = Study::create(&self.path(), &header()).unwrap();
        study.insert_environment("host", &serde_json::json!({ "cpu": "x" })).unwrap();
        study
    }
}

fn key(trial: &Trial) -> String {
    format!("{}/{}", trial.id, trial.configuration.recipe)
}

#[test]
fn all_that_is_stored_comes_back() {
    let place = Place::new();
    let mut study = place.create();
    let mut all = trials();
    for t in &all {
        assert_eq!(study.insert(t, &key(t)).unwrap(), Inserted::New);
    }
    study.update_test_accuracy(3, around(0.9, 0.01)).unwrap();
    let Outcome::Done(r) = &mut all[3].outcome else { panic!("trial 3 is done") };
    r.test_accuracy = Some(around(0.9, 0.01));
    assert_eq!(
        study.update_test_accuracy(24, around(0.9, 0.01)).unwrap_err().to_string().split("has").nth(1).unwrap(),
        " no finished trial 24"
    );
    drop(study);
    for study in [Study::open(&place.path()).unwrap(), Study::open_read_only(&place.path()).unwrap()] {
        assert_eq!(study.trials().unwrap(), all);
        assert_eq!(study.header(), &header());
        assert_eq!(study.environments().unwrap()["host"]["cpu"], "x");
        assert_eq!(study.find(&key(&all[5])).unwrap().as_ref(), Some(&all[5]));
        assert_eq!(study.find("other").unwrap(), None);
        assert_eq!(study.next_id().unwrap(), all.len() as u64);
    }
}

#[test]
fn no_configuration_is_stored_twice() {
    let place = Place::new();
    let study = place.create();
    let t = &trials()[1];
    assert_eq!(study.insert(t, "k").unwrap(), Inserted::New);
    let mut again = t.clone();
    again.id = 2;
    assert_eq!(study.insert(&again, "k").unwrap(), Inserted::AlreadyThere);
    assert_eq!(study.trials().unwrap(), std::slice::from_ref(t));
    assert_eq!(study.insert(t, "another key, the same number").unwrap_err().kind(), ErrorKind::BadInput);
    again.environment = "unknown".into();
    assert_eq!(study.insert(&again, "k2").unwrap_err().kind(), ErrorKind::BadInput);
}

#[test]
fn an_unbounded_interval_is_kept_and_nan_is_refused() {
    let place = Place::new();
    let study = place.create();
    let trial = |throughput: f64| {
        let mut t = done(1, trials()[1].configuration.clone(), 0.9, 0.5, 1000);
        let Outcome::Done(r) = &mut t.outcome else { panic!("it is done") };
        r.accuracy_drop_points = Some(Interval { value: 1.0, lo: f64::NEG_INFINITY, hi: f64::INFINITY });
        r.measurement.throughput_per_s = throughput;
        t
    };
    assert!(study.insert(&trial(f64::NAN), "k").is_err());
    let t = trial(10.0);
    assert_eq!(study.insert(&t, "k").unwrap(), Inserted::New);
    assert_eq!(study.trials().unwrap(), [t]);
}

#[test]
fn artifacts_are_kept_by_content_and_cannot_leave_the_folder() {
    let place = Place::new();
    let study = place.create();
    let sha = study.store_artifact(b"model").unwrap();
    assert_eq!(study.store_artifact(b"model").unwrap(), sha);
    let path = study.artifact_path(&sha).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"model");
    assert!(path.starts_with(place.folder.path().join("a study.db.files")));
    assert_eq!(study.artifact_path("../../etc/passwd").unwrap_err().kind(), ErrorKind::BadInput);
}

#[track_caller]
fn refused(place: &Place, kind: ErrorKind, says: &str) {
    for e in [Study::open(&place.path()).unwrap_err(), Study::open_read_only(&place.path()).unwrap_err()] {
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(says), "{e}");
    }
}

#[test]
fn what_is_not_a_study_is_refused() {
    let place = Place::new();
    refused(&place, ErrorKind::BadInput, "cannot read");
    for garbage in
        [&b""[..], b"x", &[0x5a; 8192], b"SQLite format 3\0 and then something else that is long enough to look like a header............"]
    {
        std::fs::write(place.path(), garbage).unwrap();
        refused(&place, ErrorKind::BadInput, "");
    }
    std::fs::remove_file(place.path()).unwrap();
    rusqlite::Connection::open(place.path()).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    refused(&place, ErrorKind::BadInput, "is not a joulefront study");
    assert!(Study::create(&place.path(), &header()).unwrap_err().to_string().contains("exists already"));
}

#[test]
fn a_torn_file_is_refused_or_whole_but_never_a_panic() {
    let place = Place::new();
    let study = place.create();
    for t in trials() {
        assert_eq!(study.insert(&t, &key(&t)).unwrap(), Inserted::New);
    }
    drop(study);
    let whole = std::fs::read(place.path()).unwrap();
    for keep in [1, 99, 100, 4095, 4096, whole.len() / 2, whole.len() - 1] {
        std::fs::write(place.path(), &whole[..keep]).unwrap();
        let e = Study::open(&place.path()).and_then(|s| s.trials()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::BadInput, "{keep} bytes: {e}");
    }
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bent = whole.clone();
        bent[at] ^= 0x55;
        std::fs::write(place.path(), &bent).unwrap();
        let _ = Study::open_read_only(&place.path()).and_then(|s| s.trials());
    }
}

#[test]
fn a_newer_schema_is_refused() {
    let place = Place::new();
    drop(place.create());
    rusqlite::Connection::open(place.path()).unwrap().pragma_update(None, "user_version", 2).unwrap();
    refused(&place, ErrorKind::BadInput, "has schema 2");
}

#[test]
fn two_processes_can_add_to_one_study() {
    let place = Place::new();
    let (a, b) = (place.create(), Study::open(&place.path()).unwrap());
    let all = trials();
    for (i, t) in all.iter().enumerate() {
        assert_eq!([&a, &b][i % 2].insert(t, &key(t)).unwrap(), Inserted::New);
    }
    assert_eq!(a.trials().unwrap(), b.trials().unwrap());
}
