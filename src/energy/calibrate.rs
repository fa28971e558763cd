//! Fitting a power profile where there is a counter.

use super::kind::{Kind, WindowEnergy};
use super::load::{Load, Work};
use super::meter::{Meter, Target, read_after_tick};
use super::profile::{Busy, Fit, PowerProfile};
use crate::sys::{CpuInfo, allowed_cpus, process_cpu_time};
use crate::units::{Seconds, Watts};
use crate::{Error, ErrorKind, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Between two loads the machine comes to rest, and a load gets going before its window.
const REST: Seconds = Seconds(0.1);
/// Windows in which a load got less of its cores than that are told of.
const UNDISTURBED: f64 = 0.9;

/// How a profile is fitted.
#[derive(Debug, Clone)]
pub struct CalibrationPlan {
    /// Length of a window; never less than 200 updates of the meter's counter.
    pub window: Seconds,
    /// Windows of each load and number of cores.
    pub repeats: usize,
    /// Seed of the order.
    pub seed: u64,
    /// Set by others to stop.
    pub cancel: Arc<AtomicBool>,
}

impl Default for CalibrationPlan {
    /// Three windows of two seconds each.
    fn default() -> Self {
        CalibrationPlan { window: Seconds(2.0), repeats: 3, seed: 0, cancel: Arc::default() }
    }
}

/// One window: what was run on how many cores, and the power it took.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    /// `None`: idle.
    load: Option<(Work, usize)>,
    power: Watts,
    /// Cores that were busy on average; fewer than asked for where others took their time.
    busy: f64,
}

/// Runs known loads on one core, on two and so on, and fits what they draw above idle. The machine should have nothing else to
/// do: what others draw would be in the profile. `progress` is told the number of windows done and of all. Beside the profile,
/// what a reader of it must know.
///
/// # Errors
/// Environment: the meter only estimates, cannot tell the energy of a window, or shows no difference between busy and idle.
/// Interrupted, when the plan was cancelled.
pub fn calibrate(
    meter: &mut dyn Meter,
    cpu: &CpuInfo,
    plan: &CalibrationPlan,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(PowerProfile, Vec<String>)> {
    let info = meter.info().clone();
    if !matches!(info.kind, Kind::Measured | Kind::Simulated) {
        return Err(Error::environment(format!("a power profile is fitted to a counter, and `{}` is {}", info.name, info.kind))
            .hint("run it on a machine with a counter and the same CPU; see `joulefront doctor`"));
    }
    let cpus = allowed_cpus()?;
    let window = Seconds(plan.window.0.max(info.update_period.map_or(0.0, |p| 200.0 * p.0)));
    let loads: Vec<(Work, usize)> = Work::ALL.into_iter().flat_map(|w| numbers(cpus.len()).into_iter().map(move |n| (w, n))).collect();
    let total = plan.repeats.max(1) * (loads.len() + 2);
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    let mut windows = Vec::with_capacity(total);
    for _ in 0..plan.repeats.max(1) {
        // Idle before and after, so that heat falls on both.
        let mut order: Vec<Option<(Work, usize)>> = loads.iter().copied().map(Some).collect();
        order.shuffle(&mut rng);
        order.insert(0, None);
        order.push(None);
        for load in order {
            if plan.cancel.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted while calibrating"));
            }
            progress(windows.len(), total);
            windows.push(one(meter, load, &cpus, window)?);
        }
    }
    let mut warnings = meter.warnings();
    let starved = windows.iter().filter(|w| w.load.is_some_and(|(_, n)| w.busy < UNDISTURBED * n as f64)).count();
    if starved > 0 {
        warnings.push(format!(
            "in {starved} of {} windows others took more than a tenth of the cores; stop them and calibrate again",
            windows.len()
        ));
    }
    fit(&windows).map(|fit| (PowerProfile::new(&info, cpu, fit), warnings)).map_err(|why| {
        Error::environment(format!("no power profile can be fitted: {why}")).hint("repeat it on a quiet machine, with longer windows")
    })
}

/// The numbers of busy cores that are tried: all up to eight, then each half as many again.
fn numbers(cores: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (1..=cores.min(8)).collect();
    while let Some(&last) = numbers.last()
        && last < cores
    {
        numbers.push((last + last / 2).min(cores));
    }
    numbers
}

fn one(meter: &mut dyn Meter, load: Option<(Work, usize)>, cpus: &[usize], window: Seconds) -> Result<Window> {
    let me = Target::this_process();
    let sleep = |time: Seconds| std::thread::sleep(time.into());
    sleep(REST);
    // The last cores first, as when models are measured.
    let running = load.map(|(work, n)| Load::start(&cpus[cpus.len().saturating_sub(n)..], work));
    sleep(REST);
    let cpu = || process_cpu_time(me.pid).map_err(|e| Error::environment(format!("cannot read the CPU time: {e}")));
    let (before, start) = (cpu()?, read_after_tick(meter, me));
    sleep(window);
    let (end, after) = (meter.read(me), cpu()?);
    drop(running);
    let span = Seconds::from(end.since(&start));
    match meter.energy(&start, &end) {
        WindowEnergy::Valid { total, .. } => Ok(Window { load, power: total / span, busy: Seconds::from(after - before) / span }),
        WindowEnergy::Invalid(why) => Err(Error::environment(format!("the meter `{}` lost a window: {why}", meter.info().name))),
    }
}

/// Idle power, the mean power above it for each number of cores, and the range of the loads around that mean.
fn fit(windows: &[Window]) -> Result<Fit, String> {
    let idles: Vec<f64> = windows.iter().filter(|w| w.load.is_none()).map(|w| w.power.0).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let idle = mean(&idles);
    // Power above idle as if nobody had taken any of the cores' time.
    let net = |w: &Window| w.load.map(|(_, n)| (n, (w.power.0 - idle) * n as f64 / w.busy.max(f64::MIN_POSITIVE)));
    let nets: Vec<(usize, f64)> = windows.iter().filter_map(net).collect();
    let mut cores: Vec<usize> = nets.iter().map(|(n, _)| *n).collect();
    cores.sort_unstable();
    cores.dedup();
    let (mut busy, mut low, mut high) = (Vec::new(), 1.0f64, 1.0f64);
    for n in cores {
        let powers: Vec<f64> = nets.iter().filter(|(m, _)| *m == n).map(|(_, p)| *p).collect();
        let power = mean(&powers);
        let smallest = powers.iter().copied().fold(f64::INFINITY, f64::min);
        if power.is_nan() || smallest <= 0.0 {
            return Err(format!("{n} busy cores draw no more than the idle machine's {}", Watts(idle)));
        }
        low = low.min(smallest / power);
        high = high.max(powers.iter().copied().fold(0.0, f64::max) / power);
        busy.push(Busy { cores: n, watts: Watts(power) });
    }
    if busy.is_empty() || idles.is_empty() {
        return Err("there are no windows".into());
    }
    // What is not known of idle power is not known of every figure above it.
    let scatter = idles.iter().map(|i| (i - idle).abs()).fold(0.0, f64::max) / busy[0].watts.0;
    Ok(Fit { idle: Watts(idle), busy, range: ((low - scatter).max(0.01), high + scatter), windows: windows.len() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use crate::energy::Estimator;

    fn window(load: Option<(Work, usize)>, power: f64, busy: f64) -> Window {
        Window { load, power: Watts(power), busy }
    }

    #[test]
    fn the_fit_is_the_mean_and_the_range_is_that_of_the_loads() {
        let windows = [
            window(None, 10.0, 0.0),
            window(Some((Work::Integers, 1)), 18.0, 1.0),
            window(Some((Work::Memory, 1)), 22.0, 1.0),
            // Others had half of this one's cores.
            window(Some((Work::Integers, 2)), 18.0, 1.0),
            window(Some((Work::Memory, 2)), 26.0, 2.0),
            window(None, 10.0, 0.0),
        ];
        let fit = fit(&windows).unwrap();
        assert_eq!(fit.idle, Watts(10.0));
        assert_eq!(fit.busy, [Busy { cores: 1, watts: Watts(10.0) }, Busy { cores: 2, watts: Watts(16.0) }]);
        assert!((fit.range.0 - 0.8).abs() < 1e-12 && (fit.range.1 - 1.2).abs() < 1e-12, "{fit:?}");
        assert_eq!(fit.windows, 6);
    }

    #[test]
    fn unsteady_idle_power_widens_the_range_and_no_difference_is_no_fit() {
        let load = |power| window(Some((Work::Integers, 1)), power, 1.0);
        let unsteady = fit(&[window(None, 9.0, 0.0), load(20.0), window(None, 11.0, 0.0)]).unwrap();
        assert!((unsteady.range.0 - 0.9).abs() < 1e-12 && (unsteady.range.1 - 1.1).abs() < 1e-12);
        assert!(fit(&[window(None, 20.0, 0.0), load(20.0)]).unwrap_err().contains("no more than the idle"));
        assert!(fit(&[window(None, 20.0, 0.0)]).is_err() && fit(&[load(5.0)]).is_err() && fit(&[]).is_err());
    }

    #[test]
    fn numbers_of_cores() {
        assert_eq!(numbers(2), [1, 2]);
        assert_eq!(numbers(8).len(), 8);
        assert_eq!(numbers(64), [1, 2, 3, 4, 5, 6, 7, 8, 12, 18, 27, 40, 60, 64]);
    }

    #[test]
    fn an_estimate_is_no_counter() {
        let mut estimator = Estimator::for_cpu(&CpuInfo::default());
        let error = calibrate(&mut estimator, &CpuInfo::default(), &CalibrationPlan::default(), &mut |_, _| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Environment);
        assert!(error.to_string().contains("`estimate` is estimated"));
    }
}
