//! The command line: parse, run, print the error with its hint, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Started as a child, this never returns.
    joulefront::runner::init();
    joulefront::cli::main()
}
