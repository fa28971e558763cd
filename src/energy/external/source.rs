//! Where an external meter's lines come from: a command, a FIFO or device, or a file that grows.

use super::samples::Samples;
use crate::sys::{Pollable, allowed_cpus, open_without_waiting, pin_current_thread, readable};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A longer line is garbage.
const LONGEST_LINE: usize = 4096;
const TOO_LONG: &str = "a line has more than 4096 bytes";
/// How long to wait for data before looking whether to stop, and before looking again at the end of a file.
const PATIENCE: Duration = Duration::from_millis(100);
const AT_THE_END: Duration = Duration::from_millis(20);
/// Of a long file only the beginning (headers) and the end are read.
const HEAD: u64 = 4096;
const TAIL: u64 = 1 << 20;
/// After that many lines without a single reading it is no meter.
const HOPELESS: u64 = 10_000;

/// What kind of thing the lines come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// A shell command, whose output is read.
    Command,
    /// A FIFO or a character device.
    Stream,
    /// A regular file; what is appended to it is read.
    File,
}

/// What `spec` names: an existing path that is not executable is read, everything else is run.
pub(super) fn sort(spec: &str) -> Sort {
    let Ok(metadata) = std::fs::metadata(spec) else { return Sort::Command };
    #[cfg(unix)]
    {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt};
        let kind = metadata.file_type();
        if kind.is_fifo() || kind.is_char_device() {
            return Sort::Stream;
        }
        if metadata.permissions().mode() & 0o111 != 0 {
            return Sort::Command;
        }
    }
    if metadata.is_file() { Sort::File } else { Sort::Command }
}

enum Input {
    Command(Child, ChildStdout),
    File(File),
}

/// A thread that reads the lines until this is dropped.
pub(super) struct Source {
    samples: Arc<Mutex<Samples>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Source {
    /// Starts listening.
    pub(super) fn open(spec: &str, sort: Sort) -> io::Result<Self> {
        let samples = Arc::new(Mutex::new(Samples::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let spec = spec.to_owned();
        // Opened here, so that what is wrong is known at once; a command is started by the thread, from which it inherits its CPU.
        let opened = match sort {
            Sort::Command => None,
            Sort::Stream | Sort::File => Some(open_without_waiting(Path::new(&spec))?),
        };
        let thread = {
            let (samples, stop) = (Arc::clone(&samples), Arc::clone(&stop));
            std::thread::Builder::new().name("external meter".into()).spawn(move || {
                if let Ok(&[first, ..]) = allowed_cpus().as_deref() {
                    let _ = pin_current_thread(&[first]);
                }
                let input = opened.map_or_else(|| run(&spec), |file| Ok(Input::File(file)));
                let why = match input {
                    Ok(input) => Reader { samples: &samples, stop: &stop, sort, line: Vec::new(), skipping: false }.follow(input),
                    Err(e) => format!("it cannot be started: {e}"),
                };
                lock(&samples).end(why);
            })?
        };
        Ok(Source { samples, stop, thread: Some(thread) })
    }

    /// Looks at what has arrived.
    pub(super) fn with<R>(&self, look: impl FnOnce(&Samples) -> R) -> R {
        look(&lock(&self.samples))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

fn lock(samples: &Mutex<Samples>) -> std::sync::MutexGuard<'_, Samples> {
    samples.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(command: &str) -> io::Result<Input> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    #[cfg(unix)]
    {
        // A group of its own, so that all of a pipeline can be ended.
        use std::os::unix::process::CommandExt;
        shell.process_group(0);
    }
    let mut child = shell.spawn()?;
    let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok(Input::Command(child, out))
}

/// Cuts what is read into lines.
struct Reader<'a> {
    samples: &'a Mutex<Samples>,
    stop: &'a AtomicBool,
    sort: Sort,
    line: Vec<u8>,
    /// The rest of a line that is too long.
    skipping: bool,
}

impl Reader<'_> {
    /// Reads until the end, or until it is told to stop; says why it ended.
    fn follow(&mut self, input: Input) -> String {
        match input {
            Input::File(mut file) => {
                let old = if self.sort == Sort::File { self.history(&mut file) } else { Ok(()) };
                match old.and_then(|()| self.pump(&mut file)) {
                    Ok(why) => why,
                    Err(e) => format!("reading failed: {e}"),
                }
            }
            Input::Command(mut child, mut out) => {
                let ended = self.pump(&mut out);
                end(&mut child);
                let status = child.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
                match ended {
                    Ok(why) if why.is_empty() => format!("the command ended ({status})"),
                    Ok(why) => why,
                    Err(e) => format!("reading failed: {e}"),
                }
            }
        }
    }

    /// What stood in a file before we listened: headers and the latest lines.
    fn history(&mut self, file: &mut File) -> io::Result<()> {
        let length = file.metadata()?.len();
        if length > HEAD + TAIL {
            let mut head = vec![0; HEAD as usize];
            file.read_exact(&mut head)?;
            let mut samples = lock(self.samples);
            let text = String::from_utf8_lossy(&head);
            text.lines().take_while(|l| l.starts_with('#')).for_each(|l| samples.line(l, None));
            file.seek(SeekFrom::Start(length - TAIL))?;
            // The first line is most likely cut.
            self.skipping = true;
        }
        let mut rest = length - file.stream_position()?;
        let mut buffer = vec![0; 1 << 16];
        while rest > 0 {
            let n = file.read(&mut buffer[..rest.min(1 << 16) as usize])?;
            if n == 0 {
                break;
            }
            rest -= n as u64;
            self.feed(&buffer[..n], None);
        }
        Ok(())
    }

    fn pump(&mut self, file: &mut (impl Read + Pollable)) -> io::Result<String> {
        let mut buffer = vec![0; 1 << 16];
        while !self.stop.load(Ordering::Relaxed) {
            if !readable(file, PATIENCE)? {
                continue;
            }
            match file.read(&mut buffer) {
                // A FIFO's writers come and go, and a file grows; a command's output ends once.
                Ok(0) if self.sort == Sort::Command => return Ok(String::new()),
                Ok(0) => std::thread::sleep(AT_THE_END),
                Ok(n) => {
                    let arrival = SystemTime::now().duration_since(UNIX_EPOCH).map(|t| t.as_secs_f64()).ok();
                    self.feed(&buffer[..n], arrival);
                    if let Some(why) = self.hopeless() {
                        return Ok(why);
                    }
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(e) => return Err(e),
            }
        }
        Ok("it is no longer listened to".into())
    }

    fn hopeless(&self) -> Option<String> {
        let samples = lock(self.samples);
        let (lines, garbage, why) = samples.lines();
        (samples.count() == 0 && garbage > HOPELESS).then(|| format!("{lines} lines and not one reading: {}", why.unwrap_or_default()))
    }

    /// Takes some bytes.
    fn feed(&mut self, bytes: &[u8], arrival: Option<f64>) {
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            let ends = part.last() == Some(&b'\n');
            if self.skipping {
                // A line without an end is more and more garbage.
                (0..part.len() / LONGEST_LINE).for_each(|_| lock(self.samples).garbage(TOO_LONG));
            } else {
                self.line.extend_from_slice(part);
                if self.line.len() > LONGEST_LINE {
                    lock(self.samples).garbage(TOO_LONG);
                    self.line.clear();
                    self.skipping = true;
                }
            }
            if ends {
                if !self.skipping {
                    lock(self.samples).line(&String::from_utf8_lossy(&self.line), arrival);
                }
                self.line.clear();
                self.skipping = false;
            }
        }
    }
}

/// Ends a command with everything it started.
fn end(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
    }
    let _ = child.kill();
}
