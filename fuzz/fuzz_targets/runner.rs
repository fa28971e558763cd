//! What a child process answers, as its parent reads it.
#![no_main]

use joulefront::runner::read_replies;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|output: &[u8]| read_replies(output));
