//! `trials.csv` and `front.csv`.

use super::Row;
use crate::{Error, Result};

/// The rows as CSV (RFC 4180) with a header line; numbers are the shortest that read back as the same number.
///
/// # Errors
/// Never in practice: it is written to memory.
pub fn csv(rows: &[Row]) -> Result<Vec<u8>> {
    let failed = |e: String| Error::environment(format!("cannot write CSV: {e}"));
    let mut writer = ::csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    // Written apart from the rows so that a study without trials has its header as well.
    writer.write_record(columns(&Row::default())).map_err(|e| failed(e.to_string()))?;
    for row in rows {
        writer.serialize(row).map_err(|e| failed(e.to_string()))?;
    }
    writer.into_inner().map_err(|e| failed(e.to_string()))
}

fn columns(row: &Row) -> Vec<String> {
    match serde_json::to_value(row) {
        Ok(serde_json::Value::Object(map)) => map.into_iter().map(|(name, _)| name).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::{fronts, rows};
    use super::*;
    use crate::study::samples::{configuration, failed, trials};

    /// DESIGN's contract, word for word.
    const CONTRACT: &str = "trial,status,engine,lowering,threads,batch,recipe,pruning_ratio,weight_bits,params,macs,model_bytes,\
        accuracy,accuracy_lo,accuracy_hi,accuracy_drop_points,accuracy_drop_lo,accuracy_drop_hi,test_accuracy,test_accuracy_lo,\
        test_accuracy_hi,energy_j,energy_lo_j,energy_hi_j,energy_net_j,energy_net_lo_j,energy_net_hi_j,energy_kind,energy_meter,\
        energy_scope,energy_ratio,energy_ratio_lo,energy_ratio_hi,energy_ratio_engine,latency_p50_s,latency_p90_s,latency_p99_s,\
        throughput_per_s,peak_rss_bytes,rss_before_load_bytes,make_energy_j,windows,inferences,on_front,front_probability,\
        model_sha256,seed,environment";

    /// What has been added since.
    const ADDED: &str = ",energy_verdict,latency_verdict,load,cold_load_p50_s,cold_first_p50_s\n";

    #[test]
    fn the_header_is_the_contract() {
        assert_eq!(String::from_utf8(csv(&[]).unwrap()).unwrap(), CONTRACT.to_owned() + ADDED);
    }

    #[test]
    fn numbers_read_back_exactly_and_absent_is_empty() {
        let mut all = trials();
        all.push(failed(26, configuration("a \"b\", c\nd", "", "rten"), "x"));
        let rows = rows(&all, &fronts(&all));
        let bytes = csv(&rows).unwrap();
        let mut reader = ::csv::Reader::from_reader(&bytes[..]);
        let names = reader.headers().unwrap().clone();
        let records: Vec<_> = reader.records().map(|r| r.unwrap()).collect();
        assert_eq!(records.len(), all.len());
        let cell = |i: usize, name: &str| &records[i][names.iter().position(|n| n == name).unwrap()];
        assert_eq!(cell(5, "energy_j").parse::<f64>().unwrap(), rows[5].energy_j.unwrap());
        assert_eq!(cell(5, "on_front"), "true");
        assert_eq!(cell(5, "energy_net_j"), "");
        assert_eq!(cell(24, "status"), "failed");
        assert_eq!(cell(24, "accuracy"), "");
        assert_eq!(cell(24, "on_front"), "");
        assert_eq!(cell(26, "recipe"), "a \"b\", c\nd");
    }

    #[test]
    fn rows_look_like_this() {
        let all = trials();
        let rows = rows(&all, &fronts(&all));
        let pick = [rows[0].clone(), rows[13].clone(), rows[24].clone()];
        insta::assert_snapshot!(String::from_utf8(csv(&pick).unwrap()).unwrap());
    }
}
