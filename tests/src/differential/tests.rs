use super::*;
use std::collections::BTreeSet;

#[test]
fn a_seed_is_one_set_of_requests() {
    let one = groups(7).unwrap();
    assert_eq!(one, groups(7).unwrap());
    assert_ne!(one, groups(8).unwrap());
}

#[test]
fn every_kind_is_created_changed_and_patched() {
    let groups = groups(1).unwrap();
    let steps = |verb: &str| -> usize {
        let of = groups.iter().filter(|group| group.name.starts_with(verb));
        of.flat_map(|group| &group.cases).map(|case| case.steps.len()).sum()
    };
    assert!(steps("create") > 1_000, "{}", steps("create"));
    assert!(steps("patch") > 1_000, "{}", steps("patch"));
    assert!(steps("apply") > 300, "{}", steps("apply"));
    let kinds: BTreeSet<_> = examples().unwrap().iter().map(|example| example.gvk.clone()).collect();
    assert!(kinds.len() > 50, "{}", kinds.len());
}

#[test]
fn cases_share_no_object() {
    let mut seen = BTreeSet::new();
    for case in groups(1).unwrap().iter().flat_map(|group| &group.cases) {
        let mut own: BTreeSet<&str> = BTreeSet::new();
        for step in case.before.iter().chain(&case.steps) {
            let path = step.path.split('?').next().unwrap();
            if step.method == "PATCH" {
                own.insert(path.trim_end_matches("/status"));
            }
        }
        for path in own {
            assert!(seen.insert(path.to_owned()), "{path} in two cases");
        }
    }
}
