//! Pipelines made of bytes: the properties of the suite, looked for by a fuzzer.

#![no_main]
#![allow(dead_code, unused_imports, reason = "the suite uses more of what is shared")]

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
    // The bytes are the seed of a case: a fuzzer keeps those that reach new code. (As chance itself they would not do: of
    // a short input nothing but zeros is left to most of the choices, and some are made again until they get another.)
    let mut seed = [0_u8; 32];
    bytes.iter().zip((0..seed.len()).cycle()).for_each(|(byte, place)| seed[place] = seed[place].rotate_left(3) ^ byte);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    if let Ok(tree) = case::cases().new_tree(&mut runner) {
        tree.current().check();
    }
});
