//! The child: loads one model and does what it is told until its stdin closes. It writes nothing but replies to stdout.
//!
//! It has one thread of its own. A second one, even asleep, would make the allocator take locks and so slow down what is
//! measured.

use super::death::PANICKED;
use super::protocol::{self, MAX_SLOTS, Memory, Reply, Request};
use crate::engine::{LoadOptions, Session, Source, Spec, by_name};
use crate::sys::pin_current_thread;
use crate::units::Bytes;
use crate::{Error, Result};
use std::io::{BufReader, Write};
use std::time::Instant;

/// Runs the loop; returns the exit code.
pub(super) fn main() -> i32 {
    die_with_parent();
    // A panic ends the process at once, wherever it happens; the parent reports the message it finds on stderr.
    std::panic::set_hook(Box::new(|panic| {
        let _ = writeln!(std::io::stderr(), "{panic}");
        std::process::exit(PANICKED);
    }));
    let mut input = BufReader::new(std::io::stdin().lock());
    let mut output = std::io::stdout().lock();
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

struct Child {
    loaded: Option<Loaded>,
    before: Memory,
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
        Child { loaded: None, before: memory() }
    }

    fn answer(&mut self, request: Request, payload: &[u8]) -> Result<(Reply, Vec<u8>)> {
        if let Request::Load { model, engine, threads, batch, dims, shapes, cpus } = request {
            if !cpus.is_empty() {
                pin_current_thread(&cpus)?;
            }
            let start = Instant::now();
            let session = by_name(&engine)?.load(Source::Path(&model), &LoadOptions { batch, threads, dims, shapes })?;
            let load_ns = start.elapsed().as_nanos() as u64;
            let wire = |specs: &[Spec]| specs.iter().map(Into::into).collect();
            let reply = Reply::Loaded { inputs: wire(session.inputs()), outputs: wire(session.outputs()), before: self.before, load_ns };
            self.loaded = Some(Loaded { session, batch, slots: 0, next: 0, latencies: Vec::new() });
            return Ok((reply, Vec::new()));
        }
        let loaded = self.loaded.as_mut().ok_or_else(|| Error::bad_input("no model is loaded"))?;
        let nothing = Vec::new();
        Ok(match request {
            Request::Prepare => (loaded.prepare(payload)?, nothing),
            Request::Run { n } => (loaded.run(n)?, nothing),
            Request::Latencies => (Reply::Latencies, loaded.latencies.iter().flat_map(|ns| ns.to_le_bytes()).collect()),
            Request::Infer { samples } => (Reply::Inferred, loaded.infer(samples, payload)?),
            Request::Memory => (Reply::Memory { memory: memory() }, nothing),
            Request::Load { .. } => return Err(Error::bad_input("the request is out of place")),
        })
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

    /// The hot loop. One clock reading per inference: the end of one is the start of the next, so that the latencies add up to
    /// the wall time. The buffer is written once before, so that no page fault falls into the loop.
    fn run(&mut self, n: u64) -> Result<Reply> {
        if self.slots == 0 {
            return Err(Error::bad_input("no inputs are prepared"));
        }
        let n = usize::try_from(n).map_err(|_| Error::bad_input("too many inferences at once"))?;
        self.latencies.clear();
        self.latencies.resize(n, u64::MAX);
        let mut next = self.next;
        let cpu = cpu_ns();
        let start = Instant::now();
        let mut last = start;
        for latency in &mut self.latencies {
            self.session.run_slot(next)?;
            next += 1;
            if next == self.slots {
                next = 0;
            }
            let now = Instant::now();
            *latency = (now - last).as_nanos() as u64;
            last = now;
        }
        let cpu_ns = cpu_ns().saturating_sub(cpu);
        self.next = next;
        Ok(Reply::Ran { wall_ns: (last - start).as_nanos() as u64, cpu_ns })
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
