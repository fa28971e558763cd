//! How a child died, in words.

use std::collections::VecDeque;
use std::process::ExitStatus;

/// Exit code after a panic of an engine: the same as Rust's own.
pub(super) const PANICKED: i32 = 101;
/// Lines of a child's stderr that are kept.
const KEPT: usize = 20;
/// Lines that an error message quotes.
const QUOTED: usize = 3;
/// A quoted line is cut here.
const LONGEST_LINE: usize = 200;

/// The last lines of a child's stderr.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<String>);

impl Tail {
    pub(super) fn push(&mut self, line: &str) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(line.chars().take(LONGEST_LINE).collect());
    }

    /// Whether it wanted memory that it did not get: the words of Rust's allocator, of tract, and of C++ where nothing catches the exception.
    pub(super) fn lacked_memory(&self) -> bool {
        self.0.iter().any(|line| ["memory allocation of", "failed to allocate", "std::bad_alloc"].iter().any(|sign| line.contains(sign)))
    }

    /// `: its last words: …`, or nothing.
    pub(super) fn quoted(&self) -> String {
        let lines: Vec<_> = self.0.iter().filter(|l| !l.trim().is_empty()).map(|l| l.trim()).collect();
        match lines.len() {
            0 => String::new(),
            n => format!("; it last said: {}", lines[n.saturating_sub(QUOTED)..].join(" | ")),
        }
    }
}

/// Exit code or signal, with what it usually means, or what it said itself.
pub(super) fn cause(status: ExitStatus, said: &Tail) -> (String, &'static str) {
    const LESS_MEMORY: &str = "it asked for more memory than it may have: use a smaller batch or model, or allow it more (`--max-memory`)";
    let (how, hint) = ended(status);
    (how, if said.lacked_memory() { LESS_MEMORY } else { hint })
}

fn ended(status: ExitStatus) -> (String, &'static str) {
    const OTHER: &str = "the model or the engine is at fault; other configurations are not affected";
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let (name, hint) = match signal {
            2 => ("SIGINT", "it was interrupted"),
            4 => ("SIGILL", "the program or the engine's library was built for another CPU than this one"),
            5 => ("SIGTRAP", OTHER),
            6 => ("SIGABRT", OTHER),
            7 => ("SIGBUS", "the model file shrank while it was read, or the memory is full"),
            8 => ("SIGFPE", OTHER),
            9 => ("SIGKILL", "usually the system ran out of memory; try a smaller batch"),
            11 => ("SIGSEGV", OTHER),
            15 => ("SIGTERM", "something outside ended it"),
            24 => ("SIGXCPU", "it used more CPU time than an answer may take: allow more time, or use a smaller batch or model"),
            25 => ("SIGXFSZ", "it wrote a larger file than it may"),
            31 => ("SIGSYS", "a sandbox here forbids a system call that it needs"),
            _ => ("a signal", OTHER),
        };
        return (format!("it was ended by {name} ({signal})"), hint);
    }
    match status.code() {
        Some(PANICKED) => ("the engine panicked".to_owned(), "try another engine or lowering for this model"),
        Some(code) => (format!("it exited with code {code}"), OTHER),
        None => ("it ended".to_owned(), OTHER),
    }
}
