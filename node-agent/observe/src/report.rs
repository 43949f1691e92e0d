//! What a node says about its dataplane, as the agent serves it and `kubectl skep status` reads it.

use serde::{Deserialize, Serialize};

/// The dataplane of one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeReport {
    /// Name of the node.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// Layout of the maps.
    pub layout: u32,
    /// The loaded programs.
    pub programs: Vec<ProgramReport>,
    /// The maps.
    pub maps: Vec<MapReport>,
    /// Interfaces of pods that have their programs, and that have lost them.
    pub attached_pods: usize,
    /// Interfaces of pods that should have programs and have none.
    pub detached_pods: usize,
    /// The last time that the tables were brought to what the API says; none yet when absent.
    pub last_sync: Option<SyncReport>,
    /// Whether the kernel can end sockets whose endpoint is gone; not asked yet when absent.
    pub ends_sockets: Option<bool>,
    /// What could not be applied, and why; empty when all is well.
    pub problems: Vec<Problem>,
}

/// One loaded program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProgramReport {
    /// Its name.
    pub name: String,
    /// The kernel's number for it.
    pub id: u32,
    /// The kernel's hash of its instructions, as hexadecimal digits.
    pub tag: String,
    /// Instructions the verifier walked, where the kernel tells (Linux 5.16).
    pub verified_instructions: Option<u32>,
    /// Where it is attached.
    pub attached_to: Vec<String>,
}

/// One map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MapReport {
    /// Its name.
    pub name: String,
    /// Entries that it holds.
    pub entries: u64,
    /// Entries that it can hold.
    pub max_entries: u64,
    /// Memory that the kernel charges for it, in bytes.
    pub bytes: u64,
}

/// One synchronization.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyncReport {
    /// When it ended (RFC 3339).
    pub at: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Front ends in force.
    pub services: usize,
    /// Backends in force.
    pub backends: usize,
    /// Writes to maps that it took.
    pub writes: usize,
}

/// Something that could not be applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Problem {
    /// What it is about.
    pub subject: String,
    /// What is wrong, and why.
    pub message: String,
}
