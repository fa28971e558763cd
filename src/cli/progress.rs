//! Progress on stderr, and Ctrl-C.

use super::{Global, say};
use crate::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A bar with time left; silent with `--quiet`, and where stderr is no terminal only its messages are printed.
pub(super) struct Bar {
    bar: ProgressBar,
    plain: bool,
}

impl Bar {
    pub(super) fn new(global: &Global, length: u64, unit: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if global.quiet || !terminal { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(length), target);
        let template = format!("{{bar:24}} {{pos}}/{{len}} {unit}, {{elapsed}} so far, {{eta}} left  {{wide_msg}}");
        bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(500));
        Bar { bar, plain: !terminal && !global.quiet }
    }

    pub(super) fn at(&self, position: u64) {
        self.bar.set_position(position);
    }

    pub(super) fn set_length(&self, length: u64) {
        self.bar.set_length(length);
    }

    /// What is being done now.
    pub(super) fn message(&self, text: String) {
        self.bar.set_message(text);
    }

    /// A line that stays.
    pub(super) fn line(&self, text: &str) {
        if self.plain {
            say(text);
        } else {
            self.bar.println(text);
        }
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// A flag that Ctrl-C (or SIGTERM) sets; a second one ends the program at once.
pub(super) fn on_ctrl_c() -> Result<&'static Arc<AtomicBool>> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(flag) = FLAG.get() {
        return Ok(flag);
    }
    let flag = FLAG.get_or_init(|| Arc::new(AtomicBool::new(false)));
    let inner = Arc::clone(flag);
    ctrlc::set_handler(move || {
        if inner.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .map_err(|e| Error::environment(format!("cannot catch Ctrl-C: {e}")))?;
    Ok(flag)
}
