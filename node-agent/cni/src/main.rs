//! skep-cni, the network plugin that a container runtime runs: stateless, it passes each request to the agent's
//! socket and the answer back. CNI specification 1.1.0 and the versions before it down to 0.3.1.
//!
//! Without the agent an addition fails with code 11 ("try again later"); a removal succeeds and is noted in a
//! directory, from which the agent finishes it.

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Versions of the specification that are spoken.
const VERSIONS: [&str; 5] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0", "0.3.0"];
/// Longest request or answer in bytes.
const MESSAGE: u64 = 1 << 20;
/// How long the agent may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An error as the runtime reads it.
struct Failure {
    code: u32,
    msg: String,
    details: String,
}

impl Failure {
    fn new(code: u32, msg: &str, details: impl ToString) -> Self {
        Self { code, msg: msg.to_owned(), details: details.to_string() }
    }

    fn later(details: impl ToString) -> Self {
        Self::new(11, "the node agent does not answer; try again later", details)
    }
}

fn main() -> ExitCode {
    let mut version = "1.0.0".to_owned();
    match run(&mut version) {
        Ok(Some(v)) => {
            println!("{v}");
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(f) => {
            let v = json!({"cniVersion": version, "code": f.code, "msg": f.msg, "details": f.details});
            println!("{v}");
            ExitCode::FAILURE
        }
    }
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn run(version: &mut String) -> Result<Option<Value>, Failure> {
    let mut text = Vec::new();
    std::io::stdin()
        .lock()
        .take(MESSAGE)
        .read_to_end(&mut text)
        .map_err(|e| Failure::new(5, "the configuration cannot be read", e))?;
    let command = env("CNI_COMMAND");
    let config: Value = match serde_json::from_slice(&text) {
        Ok(v) => v,
        Err(_) if command == "VERSION" => Value::Null,
        Err(e) => return Err(Failure::new(6, "the configuration is not JSON", e)),
    };
    if let Some(v) = config["cniVersion"].as_str() {
        v.clone_into(version);
    }
    if command == "VERSION" {
        return Ok(Some(json!({"cniVersion": version, "supportedVersions": VERSIONS})));
    }
    if !VERSIONS.contains(&version.as_str()) {
        return Err(Failure::new(1, "this version of the specification is not spoken here", version));
    }
    if !matches!(command.as_str(), "ADD" | "DEL" | "CHECK" | "STATUS" | "GC") {
        return Err(Failure::new(4, "CNI_COMMAND is not usable", command));
    }
    let socket = config["socket"]
        .as_str()
        .ok_or_else(|| Failure::new(7, "the configuration lacks \"socket\"", ""))?
        .to_owned();
    let id = env("CNI_CONTAINERID");
    let request = json!({
        "command": command, "containerId": id, "netns": env("CNI_NETNS"), "ifname": env("CNI_IFNAME"),
        "args": env("CNI_ARGS"), "config": config,
    });
    match ask(&socket, &request) {
        Ok(answer) => settle(&command, answer),
        Err(e) if command == "DEL" => {
            note(&config, &id)
                .map_err(|n| Failure::later(format!("{e}; the removal cannot be noted: {n}")))?;
            Ok(None)
        }
        Err(e) if command == "STATUS" => Err(Failure::new(50, "the node agent does not answer", e)),
        Err(_) if command == "GC" => Ok(None),
        Err(e) => Err(Failure::later(e)),
    }
}

/// What an answer of the agent means for the runtime.
fn settle(command: &str, answer: Value) -> Result<Option<Value>, Failure> {
    if let Some(e) = answer.get("error") {
        let code = e["code"].as_u64().and_then(|c| u32::try_from(c).ok()).unwrap_or(11);
        let text = |k: &str| e[k].as_str().unwrap_or_default().to_owned();
        return Err(Failure { code, msg: text("msg"), details: text("details") });
    }
    match answer.get("ok") {
        Some(v) if command == "ADD" && v.is_object() => Ok(Some(v.clone())),
        Some(_) if command != "ADD" => Ok(None),
        _ => Err(Failure::later("the agent's answer cannot be read")),
    }
}

fn ask(socket: &str, request: &Value) -> std::io::Result<Value> {
    let mut s = UnixStream::connect(socket)?;
    s.set_read_timeout(Some(TIMEOUT))?;
    s.set_write_timeout(Some(TIMEOUT))?;
    s.write_all(request.to_string().as_bytes())?;
    s.shutdown(Shutdown::Write)?;
    let mut text = Vec::new();
    s.take(MESSAGE).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(std::io::Error::from)
}

/// Notes a removal for the agent to finish.
fn note(config: &Value, id: &str) -> std::io::Result<()> {
    let bad = || std::io::Error::other("no usable directory or container identifier");
    let dir = config["spool"].as_str().filter(|d| !d.is_empty()).ok_or_else(bad)?;
    let usable = !id.is_empty()
        && id.len() <= 128
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !usable {
        return Err(bad());
    }
    if !Path::new(dir).is_dir() {
        // The agent's directory is gone and with it what there was to remove.
        return Ok(());
    }
    let f = std::fs::File::create(Path::new(dir).join(id))?;
    f.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_results_or_errors() {
        assert!(settle("DEL", json!({"ok": null})).is_ok_and(|v| v.is_none()));
        assert!(settle("ADD", json!({"ok": {"ips": []}})).is_ok_and(|v| v.is_some()));
        assert!(settle("ADD", json!({"ok": null})).is_err());
        assert_eq!(settle("ADD", json!({})).err().map(|f| f.code), Some(11));
        let e = settle("ADD", json!({"error": {"code": 4, "msg": "m", "details": "d"}}));
        assert_eq!(e.err().map(|f| (f.code, f.msg)), Some((4, "m".to_owned())));
    }

    #[test]
    fn removals_are_noted_by_a_safe_name() {
        let dir = std::env::temp_dir().join(format!("skep-spool-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let config = json!({"spool": dir});
        note(&config, "abc123").unwrap();
        assert!(dir.join("abc123").exists());
        assert!(note(&config, "../abc").is_err());
        assert!(note(&json!({}), "abc").is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
