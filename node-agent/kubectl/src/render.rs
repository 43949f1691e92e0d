//! What nodes said, for people and for programs. Pure.

use serde_json::{Value, json};
use skep_observe::NodeReport;

/// What one node said, or why it said nothing.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Name of the node.
    pub(crate) node: String,
    /// Its report.
    pub(crate) report: Result<NodeReport, String>,
}

/// As a list: the report of each node, or its name with an `error`.
pub(crate) fn json(answers: &[Answer]) -> Value {
    let one = |answer: &Answer| match &answer.report {
        Ok(report) => serde_json::to_value(report).unwrap_or_default(),
        Err(error) => json!({"node": answer.node, "error": error}),
    };
    json!({"items": answers.iter().map(one).collect::<Vec<_>>()})
}

/// As tables: nodes, programs, maps, and what is wrong.
pub(crate) fn tables(answers: &[Answer]) -> String {
    let mut nodes = table(&[
        "NODE",
        "VERSION",
        "PROGRAMS",
        "PODS",
        "SERVICES",
        "BACKENDS",
        "LAST SYNC",
        "TOOK",
        "PROBLEMS",
    ]);
    let mut programs = table(&["NODE", "PROGRAM", "ID", "INSTRUCTIONS", "ATTACHED TO"]);
    let mut maps = table(&["NODE", "MAP", "ENTRIES", "OF", "FILL", "KIB"]);
    let mut problems = table(&["NODE", "SUBJECT", "PROBLEM"]);
    for Answer { node, report } in answers {
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                let unknown = std::iter::repeat_n("?".to_owned(), 7);
                nodes.push([node.clone()].into_iter().chain(unknown).chain(["1".to_owned()]).collect());
                problems.push(vec![node.clone(), "node".to_owned(), error.clone()]);
                continue;
            }
        };
        nodes.push(node_row(node, report));
        for program in &report.programs {
            let verified = program.verified_instructions.map_or("?".to_owned(), |n| n.to_string());
            let places = match program.attached_to.as_slice() {
                [] => "nothing".to_owned(),
                [first @ .., last] if first.len() > 2 => {
                    format!("{}, … {last} ({})", first[0], first.len() + 1)
                }
                few => few.join(", "),
            };
            programs.push(vec![node.clone(), program.name.clone(), program.id.to_string(), verified, places]);
        }
        for map in &report.maps {
            let fill = 100.0 * map.entries as f64 / map.max_entries.max(1) as f64;
            let numbers = [map.entries, map.max_entries].map(|n| n.to_string());
            let [entries, of] = numbers;
            let size = (map.bytes / 1024).to_string();
            maps.push(vec![node.clone(), map.name.clone(), entries, of, format!("{fill:.1} %"), size]);
        }
        for problem in &report.problems {
            problems.push(vec![node.clone(), problem.subject.clone(), problem.message.clone()]);
        }
    }
    let mut out = [nodes, programs, maps].iter().map(|rows| lines(rows)).collect::<Vec<_>>().join("\n");
    if problems.len() > 1 {
        out.push('\n');
        out.push_str(&lines(&problems));
    }
    out
}

fn node_row(node: &str, report: &NodeReport) -> Vec<String> {
    let sync = report.last_sync.as_ref();
    let of_sync = |value: fn(&skep_observe::SyncReport) -> String| sync.map_or("?".to_owned(), value);
    let pods = match report.detached_pods {
        0 => report.attached_pods.to_string(),
        lost => format!("{} ({lost} without programs)", report.attached_pods),
    };
    vec![
        node.to_owned(),
        report.version.clone(),
        report.programs.len().to_string(),
        pods,
        of_sync(|s| s.services.to_string()),
        of_sync(|s| s.backends.to_string()),
        sync.map_or("never".to_owned(), |s| s.at.clone()),
        of_sync(|s| format!("{:.1} ms", s.seconds * 1000.0)),
        report.problems.len().to_string(),
    ]
}

fn table(head: &[&str]) -> Vec<Vec<String>> {
    vec![head.iter().map(|&cell| cell.to_owned()).collect()]
}

/// Rows as lines, as kubectl has them: columns three spaces apart.
fn lines(rows: &[Vec<String>]) -> String {
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..).map_while(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}   "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_observe::{MapReport, Problem, ProgramReport, SyncReport};

    fn answers() -> Vec<Answer> {
        let program = |name: &str, places: &[&str]| ProgramReport {
            name: name.into(),
            id: 7,
            verified_instructions: Some(1442),
            attached_to: places.iter().map(|&p| p.to_owned()).collect(),
            ..ProgramReport::default()
        };
        let report = NodeReport {
            node: "node-1".into(),
            version: "0.1.0".into(),
            programs: vec![
                program("skep_connect4", &["cgroup connect4"]),
                program("skep_from_pod", &["a", "b", "c", "d"]),
                program("skep_to_net", &[]),
            ],
            maps: vec![MapReport {
                name: "CONNTRACK".into(),
                entries: 1024,
                max_entries: 4096,
                bytes: 65_536,
            }],
            attached_pods: 4,
            last_sync: Some(SyncReport {
                at: "2026-01-01T00:00:00Z".into(),
                seconds: 0.0025,
                services: 3,
                backends: 5,
                writes: 9,
            }),
            problems: vec![Problem {
                subject: "conflicts".into(),
                message: "default/web 10.96.0.10:80".into(),
            }],
            ..NodeReport::default()
        };
        vec![
            Answer { node: "node-1".into(), report: Ok(report) },
            Answer { node: "node-2".into(), report: Err("connection refused".into()) },
        ]
    }

    #[test]
    fn people_see_nodes_programs_maps_and_problems() {
        let text = tables(&answers());
        let squeezed: Vec<String> =
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "node-1 0.1.0 3 4 3 5 2026-01-01T00:00:00Z 2.5 ms 1",
            "node-2 ? ? ? ? ? ? ? 1",
            "node-1 skep_connect4 7 1442 cgroup connect4",
            "node-1 skep_from_pod 7 1442 a, … d (4)",
            "node-1 skep_to_net 7 1442 nothing",
            "node-1 CONNTRACK 1024 4096 25.0 % 64",
            "node-1 conflicts default/web 10.96.0.10:80",
            "node-2 node connection refused",
        ] {
            assert!(squeezed.iter().any(|l| l == line), "{line} is not in\n{text}");
        }
        let head = text.lines().next().unwrap();
        let at = head.find("VERSION").unwrap();
        assert_eq!(text.lines().nth(1).unwrap().find("0.1.0"), Some(at), "columns stand below one another");
        let mut well = answers();
        well.truncate(1);
        well[0].report.as_mut().unwrap().problems.clear();
        assert!(!tables(&well).contains("SUBJECT"), "nothing is wrong");
    }

    #[test]
    fn programs_see_what_each_node_said() {
        let list = json(&answers());
        assert_eq!(list["items"][0]["maps"][0]["maxEntries"], 4096);
        assert_eq!(list["items"][0]["lastSync"]["backends"], 5);
        assert_eq!(list["items"][1], json!({"node": "node-2", "error": "connection refused"}));
    }
}
