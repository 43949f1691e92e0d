//! What differs still, one answer a row: `file`, `case`, number of the answer. The list only gets shorter: an answer that
//! has come to agree must be taken out of it, and none is put in but with new recordings.

use std::collections::BTreeSet;

const OPEN: &str = include_str!("open.txt");

/// The answers of a file that are known to differ.
pub(super) fn open(file: &str) -> BTreeSet<(String, usize)> {
    let rows = OPEN.lines().filter(|line| !line.starts_with('#'));
    let fields = rows.map(|line| line.split('\t').collect::<Vec<_>>());
    let of_file = fields.filter_map(|fields| match fields[..] {
        [in_file, case, number] if in_file == file => Some((case.to_owned(), number.parse().unwrap())),
        [_, _, _] => None,
        _ => panic!("a row has three fields: {fields:?}"),
    });
    of_file.collect()
}
