//! The command line: parse, run, print the error with its hint, exit code.

fn main() {
    joulefront::runner::init();
}
