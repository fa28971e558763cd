//! The child: loads one model and does what it is told until its stdin closes. It writes nothing but replies to stdout.
//!
//! It has one thread of its own. A second one, even asleep, would make the allocator take locks and so slow down what is
//! measured.

use super::death::PANICKED;
use super::protocol::{self, MAX_SLOTS, Memory, Reply, Request};
use crate::engine::{LoadOptions, Profiled, Session, Source, Spec, by_name};
use crate::sys::peak::Peak;
use crate::sys::{limit_cpu, limit_memory, no_core_file, pin_current_thread};
use crate::units::Bytes;
use crate::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::io::{BufReader, Write};
use std::time::{Duration, Instant};

/// Runs the loop; returns the exit code.
pub(super) fn main() -> i32 {
    die_with_parent();
    // One that the system insists on is no reason not to run.
    let _ = no_core_file();
    // A panic ends the process at once, wherever it happens; the parent reports the message it finds on stderr.
    std::panic::set_hook(Box::new(|panic| {
        let _ = writeln!(std::io::stderr(), "{panic}");
        std::process::exit(PANICKED);
    }));
    let mut input = BufReader::new(std::io::stdin().lock());
    // Not locked: an engine that prints in a thread of its own while it is profiled would wait for the lock for ever.
    let mut output = std::io::stdout();
    let mut child = Child::new();
    loop {
        let (request, payload) = match protocol::read_message::<Request>(&mut input) {
            Ok(None) => return 0,
            Ok(Some(message)) => message,
            Err(e) => {
                let _ = writeln!(std::io::stderr(), "unreadable request: {e}");
                return 2;
            }
        };
        let (reply, payload) = child.answer(request, &payload).unwrap_or_else(|e| (Reply::failed(&e), Vec::new()));
        let sent = protocol::write_header(&mut output, &reply, payload.len());
        if sent.and_then(|()| output.write_all(&payload)).and_then(|()| output.flush()).is_err() {
            return 0; // The parent is gone.
        }
    }
}

/// A parent that is killed in the middle of a window must not leave a child behind that burns the core; between windows the
/// end of stdin ends it.
fn die_with_parent() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
}

/// Inputs of the rotation that a profile runs over at most.
const PROFILED_SLOTS: usize = 4;

struct Child {
    loaded: Option<Loaded>,
    before: Memory,
    /// CPU time that one answer may take.
    patience: Option<Duration>,
}

struct Loaded {
    session: Box<dyn Session>,
    batch: usize,
    /// Length of the rotation.
    slots: usize,
    /// Where in the rotation the next run begins.
    next: usize,
    /// Nanoseconds of each inference of the last run.
    latencies: Vec<u64>,
}

impl Child {
    fn new() -> Self {
        Child { loaded: None, before: memory(), patience: None }
    }

    fn answer(&mut self, request: Request, payload: &[u8]) -> Result<(Reply, Vec<u8>)> {
        if let Request::Find { engine } = &request {
            return Ok((Reply::Found { found: by_name(engine)?.find()? }, Vec::new()));
        }
        if let Request::Load { model, engine, threads, batch, dims, shapes, symbolic, cpus, memory, cpu_s } = request {
            if !cpus.is_empty() {
                pin_current_thread(&cpus)?;
            }
            memory.map_or(Ok(()), |bytes| limit_memory(Bytes(bytes)))?;
            self.patience = Duration::try_from_secs_f64(cpu_s).ok();
            self.bound()?;
            let start = Instant::now();
            let session = by_name(&engine)?.load(Source::Path(&model), &LoadOptions { batch, threads, dims, shapes, symbolic })?;
            let load_ns = start.elapsed().as_nanos() as u64;
            let wire = |specs: &[Spec]| specs.iter().map(Into::into).collect();
            let reply = Reply::Loaded { inputs: wire(session.inputs()), outputs: wire(session.outputs()), before: self.before, load_ns };
            self.loaded = Some(Loaded { session, batch, slots: 0, next: 0, latencies: Vec::new() });
            return Ok((reply, Vec::new()));
        }
        if let Request::Peak { threads, working_set } = request {
            return Ok((Reply::Peak { peak: Peak::measure(threads, working_set) }, Vec::new()));
        }
        self.bound()?;
        let loaded = self.loaded.as_mut().ok_or_else(|| Error::bad_input("no model is loaded"))?;
        let nothing = Vec::new();
        Ok(match request {
            Request::Prepare => (loaded.prepare(payload)?, nothing),
            Request::Run { n } => (loaded.run(n)?, nothing),
            Request::Serve { n, rate, seed } => (loaded.serve(n, rate, seed)?, nothing),
            Request::Latencies => (Reply::Latencies, loaded.latencies.iter().flat_map(|ns| ns.to_le_bytes()).collect()),
            Request::Infer { samples } => (Reply::Inferred, loaded.infer(samples, payload)?),
            Request::Memory => (Reply::Memory { memory: memory() }, nothing),
            Request::Profile { runs } => loaded.profile(runs)?,
            Request::Find { .. } | Request::Load { .. } | Request::Peak { .. } => {
                return Err(Error::bad_input("the request is out of place"));
            }
        })
    }
}

impl Child {
    /// Bounds the CPU time of the answer that begins: a parent that is stopped or too busy to look at its clock does not leave a
    /// child that burns the core for ever.
    fn bound(&self) -> Result<()> {
        self.patience.map_or(Ok(()), |patience| limit_cpu(Duration::from_nanos(cpu_ns()).saturating_add(patience)))
    }
}

impl Loaded {
    fn prepare(&mut self, mut payload: &[u8]) -> Result<Reply> {
        let mut slots = Vec::new();
        while !payload.is_empty() {
            if slots.len() == MAX_SLOTS {
                return Err(Error::bad_input(format!("more than {MAX_SLOTS} inputs to rotate over")));
            }
            let specs = self.session.inputs().iter();
            slots.push(specs.map(|spec| protocol::tensor(spec, protocol::take(&mut payload, spec.bytes())?)).collect::<Result<_>>()?);
        }
        self.session.prepare(&slots)?;
        (self.slots, self.next) = (slots.len(), 0);
        Ok(Reply::Prepared { slots: self.slots })
    }

    /// All that is written to is written once before, so that no page fault falls into the loop.
    fn run(&mut self, n: u64) -> Result<Reply> {
        if self.slots == 0 {
            return Err(Error::bad_input("no inputs are prepared"));
        }
        let n = usize::try_from(n).map_err(|_| Error::bad_input("too many inferences at once"))?;
        self.latencies.clear();
        self.latencies.resize(n, u64::MAX);
        let cpu = cpu_ns();
        let wall_ns = back_to_back(self.session.as_mut(), (&mut self.next, self.slots), &mut self.latencies)?;
        Ok(Reply::Ran { wall_ns, cpu_ns: cpu_ns().saturating_sub(cpu) })
    }

    /// Answers `n` requests that arrive at random (a Poisson process), `rate` in a second on average.
    fn serve(&mut self, n: u64, rate: f64, seed: u64) -> Result<Reply> {
        if self.slots == 0 {
            return Err(Error::bad_input("no inputs are prepared"));
        }
        let n = usize::try_from(n).map_err(|_| Error::bad_input("too many inferences at once"))?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut at = 0.0;
        let arrivals: Vec<Duration> = (0..n)
            .map(|_| {
                at -= (1.0 - rng.random::<f64>()).ln() / rate;
                Duration::try_from_secs_f64(at).map_err(|_| Error::bad_input(format!("{rate} requests per second have no arrivals")))
            })
            .collect::<Result<_>>()?;
        self.latencies.clear();
        self.latencies.resize(n, u64::MAX);
        let cpu = cpu_ns();
        let wall_ns = answer(self.session.as_mut(), (&mut self.next, self.slots), &arrivals, &mut self.latencies)?;
        Ok(Reply::Ran { wall_ns, cpu_ns: cpu_ns().saturating_sub(cpu) })
    }

    /// Times of the nodes, the first inputs of the rotation together: `runs` runs divided over them, at least one each.
    fn profile(&mut self, runs: u64) -> Result<(Reply, Vec<u8>)> {
        if self.slots == 0 {
            return Err(Error::bad_input("no inputs are prepared"));
        }
        // A few inputs do: an engine may have to be made ready for each of them.
        let slots = self.slots.min(PROFILED_SLOTS);
        let each = runs.div_ceil(slots as u64).max(1);
        let mut sum = Profiled::default();
        let (start, cpu) = (Instant::now(), cpu_ns());
        for slot in 0..slots {
            sum.add(self.session.profile(slot, each)?);
        }
        let (took_ns, cpu_ns) = (start.elapsed().as_nanos() as u64, cpu_ns().saturating_sub(cpu));
        let nodes = serde_json::to_vec(&sum.nodes).map_err(|e| Error::engine(format!("the times of nodes cannot be sent: {e}")))?;
        let (runs, wall_ns) = (each * slots as u64, sum.wall_ns);
        Ok((Reply::Profiled { runs, wall_ns, took_ns, cpu_ns }, nodes))
    }

    /// Outputs of `samples` samples, one output after the other. The last batch is filled up with its own last sample.
    fn infer(&mut self, samples: usize, mut payload: &[u8]) -> Result<Vec<u8>> {
        let inputs = self.session.inputs().to_vec();
        if let Some(s) = inputs.iter().chain(self.session.outputs()).find(|s| s.shape.first() != Some(&self.batch)) {
            return Err(Error::engine(format!(
                "`{}` {:?} does not have the batch of {} as its first dimension",
                s.name, s.shape, self.batch
            )));
        }
        let each: Vec<usize> = inputs.iter().map(|spec| spec.bytes() / self.batch).collect();
        let columns: Vec<&[u8]> = each.iter().map(|each| protocol::take(&mut payload, each * samples)).collect::<Result<_>>()?;
        let mut floats: Vec<Vec<f32>> = vec![Vec::new(); self.session.outputs().len()];
        for start in (0..samples).step_by(self.batch) {
            let wanted = self.batch.min(samples - start);
            let mut batch = Vec::with_capacity(inputs.len());
            for ((spec, &each), column) in inputs.iter().zip(&each).zip(&columns) {
                let mut bytes = column[start * each..(start + wanted) * each].to_vec();
                let last = bytes[(wanted - 1) * each..].to_vec();
                (wanted..self.batch).for_each(|_| bytes.extend(&last));
                batch.push(protocol::tensor(spec, &bytes)?);
            }
            for (all, output) in floats.iter_mut().zip(self.session.infer(&batch)?) {
                let each = output.len() / self.batch;
                all.extend(&protocol::as_floats(output.into_data())[..each * wanted]);
            }
        }
        Ok(floats.iter().flatten().flat_map(|x| x.to_le_bytes()).collect())
    }
}

/// The hot loop; gives its wall time in nanoseconds. One clock reading per inference: the end of one is the start of the next, so
/// that the latencies add up to the wall time. It allocates nothing.
fn back_to_back(session: &mut dyn Session, (next, slots): (&mut usize, usize), latencies: &mut [u64]) -> Result<u64> {
    let mut slot = *next;
    let start = Instant::now();
    let mut last = start;
    for latency in latencies {
        session.run_slot(slot)?;
        slot += 1;
        if slot == slots {
            slot = 0;
        }
        let now = Instant::now();
        *latency = (now - last).as_nanos() as u64;
        last = now;
    }
    *next = slot;
    Ok((last - start).as_nanos() as u64)
}

/// Waits for each arrival asleep, as a server does, and runs; gives the wall time in nanoseconds. A request that arrives while
/// another runs waits, and its latency says so (else a slow run would hide those that it held up). It allocates nothing.
fn answer(session: &mut dyn Session, (next, slots): (&mut usize, usize), arrivals: &[Duration], latencies: &mut [u64]) -> Result<u64> {
    let start = Instant::now();
    for (latency, arrival) in latencies.iter_mut().zip(arrivals) {
        while let Some(early) = arrival.checked_sub(start.elapsed()).filter(|e| !e.is_zero()) {
            std::thread::sleep(early);
        }
        session.run_slot(*next)?;
        *next = (*next + 1) % slots;
        *latency = start.elapsed().saturating_sub(*arrival).as_nanos() as u64;
    }
    Ok(start.elapsed().as_nanos() as u64)
}

/// CPU time of all threads of this process, nanoseconds.
fn cpu_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Zero where the system does not tell.
fn memory() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        let kib: Option<u64> = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse().ok());
        Bytes(kib.unwrap_or(0) * 1024)
    };
    Memory { peak: field("VmHWM"), now: field("VmRSS") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::sys::counting::allocations;
    use crate::tensor::Tensor;

    /// Remembers the last slots that it ran.
    struct Recorder([usize; 4], u64);

    impl Session for Recorder {
        fn inputs(&self) -> &[Spec] {
            &[]
        }

        fn outputs(&self) -> &[Spec] {
            &[]
        }

        fn prepare(&mut self, _: &[Vec<Tensor>]) -> Result<()> {
            Ok(())
        }

        fn run_slot(&mut self, slot: usize) -> Result<()> {
            self.0.rotate_left(1);
            self.0[3] = slot;
            self.1 += 1;
            Ok(())
        }

        fn infer(&mut self, _: &[Tensor]) -> Result<Vec<Tensor>> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn the_timed_loops_allocate_nothing_and_turn_the_inputs() {
        let mut session = Recorder([0; 4], 0);
        let (mut next, mut latencies) = (1, vec![u64::MAX; 1000]);
        let (wall, asked) = allocations(|| back_to_back(&mut session, (&mut next, 3), &mut latencies));
        assert_eq!((asked, session.0, session.1, next), (0, [1, 2, 0, 1], 1000, 2));
        assert_eq!(latencies.iter().sum::<u64>(), wall.unwrap());
        let arrivals: Vec<Duration> = (0..1000).map(|i| Duration::from_micros(2 * i)).collect();
        let (wall, asked) = allocations(|| answer(&mut session, (&mut next, 3), &arrivals, &mut latencies));
        assert_eq!((asked, session.0, session.1), (0, [2, 0, 1, 2], 2000));
        assert!(wall.unwrap() >= 1_998_000 && latencies.iter().all(|&ns| ns < u64::MAX));
    }
}
