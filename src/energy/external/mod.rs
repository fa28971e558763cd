//! A meter outside of this program: at the wall, in a USB cable, on another machine.

mod line;
mod samples;
mod source;

use super::kind::{Kind, Scope, Systematic, WindowEnergy};
use super::meter::{Domain, Meter, MeterInfo, Reading, Target};
use super::unavailable::Unavailable;
use crate::units::{Joules, Seconds, Watts};
use samples::{Missing, Quantity, Samples};
use source::{Sort, Source};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Readings that are waited for when it is opened, and for how long.
const FIRST: usize = 3;
const OPENING: Duration = Duration::from_secs(15);
/// How long the report of a window's end is waited for, at least.
const LATE: Seconds = Seconds(2.0);
/// Lines that cannot be used are worth a warning above this share.
const GARBAGE: f64 = 0.01;

/// Reads lines from a command, a FIFO or device, or a file that grows.
///
/// A path that exists is read (a regular file that is executable is run); everything else is run by `sh -c`, and its output is
/// read. Lines are
///
/// ```text
/// TIME VALUE UNIT     1700000000.25 12.5 W        a reading; TIME in seconds since the epoch, or 2026-01-31T12:34:56.789Z;
///                                                 UNIT is a power (W, watts, mW, kW) or a cumulative energy (J, joules, Wh, kWh)
/// now VALUE UNIT                                  the same at the moment at which the line arrives
/// clock TIME                                      the meter's clock when it wrote this line
/// # scope: wall                                   wall (if not said), board, battery, package, package_dram, rail
/// # accuracy: 1%                                  how far the true value may be from the reading
/// # name: NAME                                    what the meter is called
/// ```
///
/// Fields may also be separated by commas. Other lines are counted and passed over. Energy is the difference of the cumulative
/// energy, or the integral of the power, interpolated at both edges of the window.
///
/// **The clock.** A reading's time is on the meter's clock, a window's edges are on ours. From `clock` lines the offset is
/// estimated (the smallest difference to the moment of arrival) and corrected. Without them nothing can be corrected, because a
/// delay may be the clock or the way. If what is not known of the offset is more than 1 % of a window, the window is invalid;
/// so it is when the meter's time or energy went backwards in it, or readings are missing.
///
/// **Kind.** Lines from a command, a FIFO or a device are `measured`, on the word of whoever provides them. A regular file may
/// have been written by anybody at any time, so it is `simulated`, as everything is beside a given sysfs tree.
#[derive(Debug)]
pub struct External {
    info: MeterInfo,
    source: Source,
}

impl External {
    /// Starts listening, and waits until three readings have come, for at most 15 s. `simulated`: whatever it sends is not of
    /// this machine.
    ///
    /// # Errors
    /// It cannot be read or started, it ends, or nothing usable comes.
    pub fn open(spec: &str, simulated: bool) -> Result<Self, Unavailable> {
        const FORM: &str = "it has to write lines `TIME VALUE UNIT`, such as `1700000000.25 12.5 W`, and each at once (`stdbuf -oL`)";
        if spec.trim().is_empty() {
            return Err(Unavailable::new("nothing is named", "`--meter external:COMMAND`, or the path of a FIFO, a device or a file"));
        }
        let sort = source::sort(spec);
        let source = Source::open(spec, sort).map_err(|e| Unavailable::new(format!("`{spec}` cannot be read: {e}"), FORM))?;
        let begin = Instant::now();
        loop {
            let (count, ended) = source.with(|s| (s.count(), s.ended().map(str::to_owned)));
            if count >= FIRST {
                break;
            }
            if ended.is_some() || begin.elapsed() > OPENING {
                let (lines, garbage, first) = source.with(|s| {
                    let (lines, garbage, first) = s.lines();
                    (lines, garbage, first.map(|f| format!(", the first because {f}")).unwrap_or_default())
                });
                let ended = ended.map_or_else(String::new, |why| format!("{why}; "));
                let waited = Seconds::from(begin.elapsed());
                return Err(Unavailable::new(
                    format!("{ended}`{spec}` sent {count} usable readings in {waited} ({lines} lines, {garbage} of them unusable{first})"),
                    FORM,
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let kind = if sort == Sort::File || simulated { Kind::Simulated } else { Kind::Measured };
        let info = source.with(|samples| info(samples, kind, sort)).map_err(|why| Unavailable::new(why, FORM))?;
        Ok(External { info, source })
    }
}

fn info(samples: &Samples, kind: Kind, sort: Sort) -> Result<MeterInfo, String> {
    let scope = match samples.header("scope") {
        Some(name) => Scope::by_name(name).ok_or_else(|| format!("its header has an unknown scope `{name}`"))?,
        None => Scope::Wall,
    };
    let accuracy = match samples.header("accuracy") {
        Some(text) => {
            let number = text.strip_suffix('%').map_or((text, 1.0), |n| (n, 0.01));
            let share = number.0.trim().parse::<f64>().ok().map(|n| n * number.1).filter(|n| (0.0..1.0).contains(n));
            Some(share.ok_or_else(|| format!("its header has an accuracy `{text}` that is no share: write 1%"))?)
        }
        None => None,
    };
    let from = match sort {
        Sort::Command => "a command",
        Sort::Stream => "a stream",
        Sort::File => "a file",
    };
    let said = match accuracy {
        Some(_) => format!("as its provider says in the header of {from}"),
        None => format!("an allowance of 10 %: the provider of {from} states no accuracy (`# accuracy: 1%`)"),
    };
    let period = samples.period();
    let (how, unit) = match samples.quantity() {
        Some(Quantity::Energy) => ("cumulative energy", Joules(samples.step())),
        _ => ("samples of power, integrated", Watts(samples.step()) * period.unwrap_or(Seconds(0.0))),
    };
    let off = accuracy.unwrap_or(0.1);
    Ok(MeterInfo {
        name: "external".into(),
        kind,
        scope,
        domains: vec![Domain { name: samples.header("name").filter(|n| !n.is_empty()).unwrap_or(scope.name()).to_owned(), counted: true }],
        unit,
        update_period: period,
        systematic: Systematic { low: 1.0 - off, high: 1.0 + off, source: format!("{said}; {how}, found by time") },
        attributes_idle: true,
    })
}

fn since_epoch(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}

impl Meter for External {
    fn info(&self) -> &MeterInfo {
        &self.info
    }

    /// Only the time is taken: the readings come later, and by themselves.
    fn read(&mut self, target: Target) -> Reading {
        self.info.update_period = self.source.with(Samples::period).or(self.info.update_period);
        Reading::take(target, || vec![Ok(0)])
    }

    /// Waits until the meter has reported the end of the window.
    fn energy(&self, start: &Reading, end: &Reading) -> WindowEnergy {
        let (from, to) = (since_epoch(start.time()), since_epoch(end.time()));
        let length = end.since(start).as_secs_f64();
        // Somebody set the clock in the middle of the window.
        if (to - from - length).abs() > (0.01 * length).max(2e-3) {
            return WindowEnergy::Invalid("this machine's clock was set during the window".into());
        }
        let period = self.info.update_period.unwrap_or(LATE);
        let patience = Duration::from(Seconds(LATE.0.max(5.0 * period.0)));
        let begin = Instant::now();
        loop {
            match self.source.with(|s| s.energy(from, to)) {
                Ok((total, _)) if total.0 <= 0.0 => return WindowEnergy::Invalid("the meter showed no energy at all".into()),
                Ok((total, resolution)) => return WindowEnergy::Valid { total, resolution },
                Err(Missing::Never(why)) => return WindowEnergy::Invalid(why),
                Err(Missing::NotYet) if begin.elapsed() > patience => {
                    let waited = Seconds::from(begin.elapsed());
                    return WindowEnergy::Invalid(format!("the meter has not reported the end of the window after {waited}"));
                }
                Err(Missing::NotYet) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    fn domains_energy(&self, start: &Reading, end: &Reading) -> Vec<(String, WindowEnergy)> {
        self.info.domains.iter().map(|d| (d.name.clone(), self.energy(start, end))).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let (lines, garbage, first) = self.source.with(|s| {
            let (lines, garbage, first) = s.lines();
            (lines, garbage, first.unwrap_or_default().to_owned())
        });
        if garbage as f64 <= GARBAGE * lines as f64 {
            return Vec::new();
        }
        vec![format!("{garbage} of {lines} lines of the external meter could not be used ({first}); look at what it writes")]
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
