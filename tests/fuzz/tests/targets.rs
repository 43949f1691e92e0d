//! Every target, a fixed number of times: more with `SKEP_TEST_LONG=1`.

#![allow(missing_docs, clippy::expect_used)]

use skep_fuzz::{Dice, target};

/// Runs a target over its seeds and mutations of them.
fn drive(name: &str, rounds: usize) {
    let target = target(name).expect("a target");
    for seed in target.seeds {
        (target.run)(seed);
    }
    let rounds = if std::env::var_os("SKEP_TEST_LONG").is_some() { rounds * 100 } else { rounds };
    let mut dice = Dice::new(0x0123_4567_89ab_cdef);
    for _ in 0..rounds {
        let input = dice.input(target.seeds);
        // The input is told by the panic's own message or found by the same dice.
        (target.run)(&input);
    }
}

macro_rules! targets {
    ($($name:ident: $target:literal, $rounds:literal;)*) => {
        $(#[test]
        fn $name() {
            drive($target, $rounds);
        })*

        #[test]
        fn none_is_left_out() {
            let driven = [$($target),*];
            assert!(skep_fuzz::TARGETS.iter().all(|target| driven.contains(&target.name)));
        }
    };
}

targets! {
    json: "json", 20_000;
    yaml: "yaml", 5_000;
    protobuf: "protobuf", 20_000;
    selectors: "selector", 50_000;
    quantities: "quantity", 100_000;
    patches: "patch", 10_000;
    cel: "cel", 5_000;
    continue_tokens: "continue", 50_000;
    paths: "path", 50_000;
    questions: "dns", 50_000;
}
