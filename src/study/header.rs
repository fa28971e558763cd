//! What a study is about: one model, one dataset, one reference. Written once, when the study is created.

use super::Configuration;
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// Version of the database's tables and of the JSON in them. A study with a higher number is refused, never guessed at.
pub const SCHEMA_VERSION: u32 = 1;

/// The facts all trials of a study share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyHeader {
    /// [`SCHEMA_VERSION`] of the program that created the study.
    pub schema_version: u32,
    /// Version of the joulefront that created the study.
    pub joulefront_version: String,
    /// When, in UTC: `2026-01-31T12:00:00Z`.
    pub created: String,
    /// The model's file as the user named it; stands in the commands that reproduce a trial.
    pub model: String,
    /// SHA-256 of the model's file, hexadecimal.
    pub model_sha256: String,
    /// The dataset's name.
    pub dataset: String,
    /// Digest of the dataset's files.
    pub dataset_digest: String,
    /// What every trial is compared with.
    pub reference: Configuration,
    /// All other settings of the sweep, so that it can be resumed and repeated.
    pub settings: serde_json::Value,
}

impl StudyHeader {
    /// A header of this version and this moment with empty settings.
    pub fn new(model: (&str, &str), dataset: (&str, &str), reference: Configuration) -> Self {
        StudyHeader {
            schema_version: SCHEMA_VERSION,
            joulefront_version: env!("CARGO_PKG_VERSION").to_owned(),
            created: utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())),
            model: model.0.to_owned(),
            model_sha256: model.1.to_owned(),
            dataset: dataset.0.to_owned(),
            dataset_digest: dataset.1.to_owned(),
            reference,
            settings: serde_json::Value::Null,
        }
    }
}

/// Seconds since 1970 as RFC 3339, proleptic Gregorian: a year starts in March here, so that the leap day is its last
/// and the months' lengths follow (153 m + 2) / 5.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year_of_era + next_year;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn utc_agrees_with_date() {
        // `date -u -d @SECONDS`
        for (seconds, expect) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_772_323_200, "2026-03-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(super::utc(seconds), expect);
        }
    }
}
