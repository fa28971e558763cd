//! The only place with `unsafe`: calls whose contracts Rust cannot check, behind functions that check them.

pub mod gemm;
