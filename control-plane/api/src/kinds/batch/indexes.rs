//! Sets of completion indexes, as a Job's status writes them: `1,3-5,7`.

use std::fmt;

/// A set of indexes as ordered ranges that do not touch. A client may write any numbers, so it is never spelt out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(i64, i64)>);

fn number(text: &str) -> Option<i64> {
    text.parse::<i32>().ok().map(i64::from)
}

impl Indexes {
    /// Reads a set whose form and order must be right and whose numbers must lie below `completions`.
    ///
    /// # Errors
    ///
    /// What is wrong, for people.
    pub fn check(text: &str, completions: i64) -> Result<Self, String> {
        let mut out = Indexes::default();
        let mut last = None;
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let limits: Vec<&str> = part.split('-').collect();
            if limits.len() > 2 {
                return Err(format!(
                    "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
                ));
            }
            let mut ends = Vec::new();
            for limit in limits {
                let Some(n) = number(limit) else {
                    return Err(format!("cannot convert string to integer for index: {limit:?}"));
                };
                if n >= completions {
                    return Err(format!("too large index: {limit:?}"));
                }
                ends.push(n);
            }
            let (first, end) = (ends[0], ends.last().copied().unwrap_or(ends[0]));
            if ends.len() > 1 && first >= end {
                return Err(format!("non-increasing order, previous: {first}, current: {end}"));
            }
            if let Some(last) = last.filter(|last| *last >= first) {
                return Err(format!("non-increasing order, previous: {last}, current: {first}"));
            }
            last = Some(end);
            out.add(first, end);
        }
        Ok(out)
    }

    /// Reads a set as well as it can be read; numbers from `completions` on are left out.
    pub fn parse(text: &str, completions: i64) -> Self {
        let mut out = Indexes::default();
        for part in text.split(',') {
            let (first, end) = part.split_once('-').unwrap_or((part, part));
            if let (Some(first), Some(end)) = (number(first), number(end)) {
                let end = end.min(completions - 1);
                if 0 <= first && first <= end {
                    out.add(first, end);
                }
            }
        }
        out
    }

    /// Adds one index.
    pub fn insert(&mut self, index: i64) {
        self.add(index, index);
    }

    fn add(&mut self, mut first: i64, mut end: i64) {
        // Ranges that overlap or touch the new one become part of it.
        let from = self.0.partition_point(|r| r.1 + 1 < first);
        let to = self.0.partition_point(|r| r.0 <= end + 1);
        if let Some(range) = self.0.get(from).filter(|_| from < to) {
            first = first.min(range.0);
            end = end.max(self.0[to - 1].1);
        }
        self.0.splice(from..to, [(first, end)]);
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: &Indexes) {
        for (first, end) in &other.0 {
            self.add(*first, *end);
        }
    }

    /// Whether an index is among them.
    pub fn has(&self, index: i64) -> bool {
        let at = self.0.partition_point(|r| r.1 < index);
        self.0.get(at).is_some_and(|r| r.0 <= index)
    }

    /// How many there are.
    pub fn total(&self) -> i64 {
        self.0.iter().map(|(first, end)| end - first + 1).sum()
    }

    /// The indexes that both sets have.
    pub fn common(&self, other: &Indexes) -> Indexes {
        let (mut a, mut b, mut out) = (0, 0, Vec::new());
        while let (Some(x), Some(y)) = (self.0.get(a), other.0.get(b)) {
            let (first, end) = (x.0.max(y.0), x.1.min(y.1));
            if first <= end {
                out.push((first, end));
            }
            if x.1 <= y.1 {
                a += 1;
            } else {
                b += 1;
            }
        }
        Indexes(out)
    }

    /// The smallest, if there is one.
    pub fn first(&self) -> Option<i64> {
        self.0.first().map(|r| r.0)
    }

    /// The first `count` indexes below `completions` that are not in the set.
    pub fn missing(&self, count: usize, completions: i64) -> Vec<i64> {
        let (mut out, mut next) = (Vec::new(), 0);
        for (first, end) in self.0.iter().copied().chain([(completions, completions)]) {
            while next < first.min(completions) && out.len() < count {
                out.push(next);
                next += 1;
            }
            next = next.max(end + 1);
        }
        out
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, end)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match end - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{end}")?,
                _ => write!(f, "{comma}{first}-{end}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_added_to_and_written() {
        let mut set = Indexes::check("1,3-5,7", 10).unwrap();
        assert_eq!((set.total(), set.first()), (5, Some(1)));
        assert!(set.has(4) && !set.has(2) && !set.has(8));
        assert_eq!(set.missing(3, 10), [0, 2, 6]);
        assert_eq!(set.missing(9, 9), [0, 2, 6, 8]);
        set.insert(6);
        assert_eq!(set.to_string(), "1,3-7");
        set.insert(2);
        assert_eq!(set.to_string(), "1-7");
        set.insert(9);
        set.insert(0);
        assert_eq!(set.to_string(), "0-7,9");
        set.extend(&Indexes::parse("8,20,x,4-2", 15));
        assert_eq!(set.to_string(), "0-9");
        assert_eq!(Indexes::parse("0,1,3,4-99999999", 100).to_string(), "0,1,3-99");
        assert_eq!(set.common(&Indexes::parse("4,8-12", 15)).to_string(), "4,8,9");
        assert_eq!(Indexes::check("", 3), Ok(Indexes::default()));
        for (text, wrong) in [
            ("1-2-3", "the fragment \"1-2-3\" violates"),
            ("a", "cannot convert string to integer for index: \"a\""),
            ("5", "too large index: \"5\""),
            ("3-3", "non-increasing order, previous: 3, current: 3"),
            ("2,1", "non-increasing order, previous: 2, current: 1"),
        ] {
            let told = Indexes::check(text, 5).unwrap_err();
            assert!(told.starts_with(wrong), "{told}");
        }
    }
}
