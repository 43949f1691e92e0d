//! Writes the schema set of the built-in kinds: types, descriptions and `required` from k8s-openapi, all
//! else from the tables in `facts/`.

#[path = "build/facts.rs"]
mod facts;
#[path = "build/kinds.rs"]
mod kinds;
#[path = "build/write.rs"]
mod write;

use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    for input in ["build.rs", "build", "facts"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let facts = facts::Facts::read(Path::new("facts"))?;
    let definitions = kinds::definitions();
    let written = write::write(&definitions, &facts)?;
    let out = std::env::var("OUT_DIR")?;
    let mut hasher = DefaultHasher::new();
    (&written.code, &written.docs).hash(&mut hasher);
    println!("cargo::rustc-env=SKEP_SCHEMA_HASH={:016x}", hasher.finish());
    std::fs::write(Path::new(&out).join("types.rs"), written.code)?;
    std::fs::write(Path::new(&out).join("docs.txt"), written.docs)?;
    Ok(())
}
