//! Drives one target by coverage. `SKEP_FUZZ_TARGET` names it; its seeds are written to `SKEP_FUZZ_SEEDS` first.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use skep_fuzz::Target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fuzz_target!(init: {
    let name = std::env::var("SKEP_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = skep_fuzz::target(&name) else {
        let names: Vec<&str> = skep_fuzz::TARGETS.iter().map(|target| target.name).collect();
        eprintln!("no target is named {name:?}; there are {}", names.join(", "));
        std::process::exit(2);
    };
    if let Some(folder) = std::env::var_os("SKEP_FUZZ_SEEDS") {
        for (number, seed) in target.seeds.iter().enumerate() {
            let _ = std::fs::write(std::path::Path::new(&folder).join(format!("seed-{number}")), seed);
        }
    }
    let _ = TARGET.set(target);
}, |data: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(data);
    }
});
