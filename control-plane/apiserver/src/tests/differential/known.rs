//! What differs still, one answer a row: `file`, `case`, number of the answer, and why it differs, by the name of a reason.
//! Reasons stand before the rows, one a line: `=name`, and what it is. The list only gets shorter: an answer that has come
//! to agree must be taken out of it, and none is put in but with new recordings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn read() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/differential/open.txt");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
}

/// The answers of a file that are known to differ.
pub(super) fn open(file: &str) -> BTreeSet<(String, usize)> {
    let text = read();
    let of_file = lines(&text).filter_map(|fields| match fields[..] {
        [in_file, case, number, _] if in_file == file => Some((case.to_owned(), number.parse().unwrap())),
        [_, _, _, _] => None,
        [reason, _] if reason.starts_with('=') => None,
        _ => panic!("a row has four fields, a reason two: {fields:?}"),
    });
    of_file.collect()
}

#[test]
fn every_row_says_why() {
    let text = read();
    let reasons: BTreeMap<&str, &str> = lines(&text)
        .filter_map(|fields| match fields[..] {
            [name, text] => Some((name.strip_prefix('=')?, text)),
            _ => None,
        })
        .collect();
    assert!(reasons.values().all(|text| text.len() > 20), "{reasons:?}");
    let used: BTreeSet<&str> = lines(&text).filter_map(|fields| fields.get(3).copied()).collect();
    assert_eq!(used, reasons.keys().copied().collect());
}
