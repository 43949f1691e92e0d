//! The demo program's command line: `--name value` pairs and positional words, nothing more.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Parsed words of a command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Args {
    options: BTreeMap<String, String>,
    /// Words that are not options, in order.
    pub words: Vec<String>,
}

/// Options that stand alone and take no value.
const SWITCHES: &[&str] = &["udp", "unconnected", "keep"];

impl Args {
    /// Splits `args` into options and words.
    ///
    /// # Errors
    /// An option without its value.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Args::default();
        let mut args = args.into_iter();
        while let Some(word) = args.next() {
            let Some(name) = word.strip_prefix("--") else {
                parsed.words.push(word);
                continue;
            };
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None if SWITCHES.contains(&name) => (name, "true".to_owned()),
                None => (name, args.next().ok_or_else(|| format!("--{name} needs a value"))?),
            };
            parsed.options.insert(name.to_owned(), value);
        }
        Ok(parsed)
    }

    /// The value of `--name`, or `default` when it was not given.
    ///
    /// # Errors
    /// A value that does not parse as `T`.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.options.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("--{name}: {text:?} is not what it takes")),
        }
    }

    /// Whether the switch `--name` was given.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.options.get(name).is_some_and(|value| value == "true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_words_and_switches() {
        let args = parse("10.0.0.1:80 --requests 7 --udp --timeout-ms=20 tail").unwrap();
        assert_eq!(args.words, ["10.0.0.1:80", "tail"]);
        assert_eq!(args.get("requests", 1u64), Ok(7));
        assert_eq!(args.get("timeout-ms", 1u64), Ok(20));
        assert_eq!(args.get("absent", 3u64), Ok(3));
        assert!(args.has("udp") && !args.has("unconnected"));
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(parse("--requests"), Err("--requests needs a value".to_owned()));
        assert!(parse("--requests many").unwrap().get("requests", 1u64).unwrap_err().contains("many"));
    }
}
