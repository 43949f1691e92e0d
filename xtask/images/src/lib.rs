//! What the two images hold that Skep builds from its own sources: a pause process and a demo program.
//!
//! Both are linked statically, so an image is one layer with one file and no registry is needed to run pods. The demo
//! program is also the instrument of the end-to-end tests: it answers with the name of the pod it runs in, and its load
//! mode counts who answered.

pub mod args;
pub mod http;
pub mod load;
pub mod resolve;
pub mod serve;
pub mod shell;
