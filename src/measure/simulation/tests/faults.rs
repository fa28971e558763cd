//! What goes wrong stays where it belongs, and is told.

use super::*;
use crate::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn a_subject_that_crashes_ends_only_itself() {
    // It dies in its second process.
    let crashing = Truth { dies_at: Some(300), ..truth(0.01, 0.1) };
    let machine = Machine::ideal(vec![truth(0.01, 0.1), crashing, truth(0.01, 0.05)]);
    let results = run(&machine, &Plan::default()).unwrap();
    assert_eq!(results[1].as_ref().unwrap_err().to_string(), "it was ended by SIGSEGV (11)");
    let last = results[2].as_ref().unwrap();
    assert_eq!(last.windows, 20);
    near(last.energy.as_ref().unwrap().ratio.unwrap().value, 0.5);
}

#[test]
fn without_the_reference_there_is_nothing_to_compare_with() {
    let crashing = Truth { dies_at: Some(300), ..truth(0.01, 0.1) };
    let e = run(&Machine::ideal(vec![crashing, truth(0.01, 0.1)]), &Plan::default()).unwrap_err();
    assert_eq!(e.to_string(), "the reference `s0`: it was ended by SIGSEGV (11)");
}

#[test]
fn a_request_to_stop_is_heard_before_the_next_window() {
    let plan = Plan::default();
    let windows = AtomicU64::new(0);
    let mut stop_at_third = |_: &Progress<'_>| {
        if windows.fetch_add(1, Ordering::Relaxed) == 3 {
            plan.cancel.store(true, Ordering::Relaxed);
        }
    };
    let e = simulate_batches(&Machine::ideal(vec![truth(0.01, 0.1)]), &plan, 1, &mut stop_at_third).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Interrupted);
    assert_eq!(windows.load(Ordering::Relaxed), 4);
}

#[test]
fn disturbed_windows_are_measured_again_and_counted_by_reason() {
    let mut machine = Machine::ideal(vec![truth(0.01, 0.1)]);
    machine.disturb_every = Some(3);
    let m = one(&machine, &Plan::default());
    // Every third of the tries is lost: 20 windows take 29 tries.
    assert_eq!((m.windows, m.invalid_windows.as_slice()), (20, &[("others used … % of the CPU".to_owned(), 9)][..]));
    near(m.energy.unwrap().gross.value, 0.05);
    assert!(m.warnings.is_empty());
}

#[test]
fn a_machine_that_is_never_quiet_gives_latency_but_no_energy() {
    let mut machine = Machine::ideal(vec![truth(0.01, 0.1)]);
    machine.disturb_every = Some(1);
    let m = one(&machine, &Plan::default());
    assert_eq!(m.energy, None);
    near(m.latency.p50.0, 0.005);
    assert_eq!(m.invalid_windows[0].1, 20 * 4);
    assert!(m.warnings[0].starts_with("energy is not known: others used … % of the CPU"), "{:?}", m.warnings);
    assert!(m.warnings[1].starts_with("no window was free of disturbance"), "{:?}", m.warnings);
    let m = one(&machine, &Plan { disturbance: 1.0, ..Plan::default() });
    near(m.energy.unwrap().gross.value, 0.05);
}

#[test]
fn a_process_that_always_waits_for_its_core_has_an_energy_of_its_own_all_the_same() {
    let mut machine = Machine::ideal(vec![truth(0.01, 0.1), truth(0.01, 0.05)]);
    machine.waiting = 0.5;
    machine.scope = Scope::ProcessShare;
    for m in run(&machine, &Plan::default()).unwrap() {
        let m = m.unwrap();
        let e = m.energy.unwrap();
        near(e.gross.value, 0.05 * e.ratio.unwrap().value);
        let said = "too few windows were free of disturbance (its core was taken by others for … % of the window)";
        assert!(m.warnings[0].starts_with(said), "{:?}", m.warnings);
    }
}

#[test]
fn a_meter_that_fails_takes_the_energy_and_leaves_the_latency() {
    let mut machine = Machine::ideal(vec![truth(0.01, 0.1)]);
    machine.meter_fails_at = Some(1);
    let m = one(&machine, &Plan::default());
    assert_eq!(m.energy, None);
    assert_eq!(m.windows, 20);
    assert!(m.warnings.iter().any(|w| w.starts_with("energy is not known: the counter vanished")), "{:?}", m.warnings);
}

#[test]
fn plans_that_give_no_result_are_refused() {
    let machine = Machine::ideal(vec![truth(0.01, 0.1)]);
    for plan in [
        Plan { processes: 1, ..Plan::default() },
        Plan { blocks: 0, ..Plan::default() },
        Plan { window: Seconds(0.0), ..Plan::default() },
        Plan { window: Seconds(f64::NAN), ..Plan::default() },
        Plan { precision: Some(0.0), ..Plan::default() },
        Plan { pairs: vec![(0, 0)], ..Plan::default() },
        Plan { pairs: vec![(0, 1)], ..Plan::default() },
    ] {
        assert_eq!(run(&machine, &plan).unwrap_err().kind(), ErrorKind::BadInput);
    }
    assert!(run(&Machine::ideal(vec![]), &Plan::default()).is_err());
}
