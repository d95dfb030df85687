//! Pipelines made of bytes: the properties of the suite, looked for by a fuzzer.

#![no_main]
#![allow(dead_code, reason = "the suite uses more of what is shared")]

#[path = "../suite/case.rs"]
mod case;
#[path = "../suite/dto.rs"]
mod dto;
#[path = "../suite/parser.rs"]
mod parser;

use libfuzzer_sys::fuzz_target;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

fuzz_target!(|bytes: &[u8]| {
    // The bytes are what chance would be.
    let rng = TestRng::from_seed(RngAlgorithm::PassThrough, bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    if let Ok(tree) = case::cases().new_tree(&mut runner) {
        tree.current().check();
    }
});
