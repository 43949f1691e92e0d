//! A few interactive commands, for `kubectl exec -it` into an image that holds no shell.

use std::io::{self, BufRead, IsTerminal, Write};

/// Reads commands from `input` until `exit` or its end; gives the exit code.
///
/// # Errors
/// I/O errors.
pub fn run(input: &mut impl BufRead, output: &mut impl Write) -> io::Result<u8> {
    let mut line = String::new();
    loop {
        output.write_all(b"demo$ ")?;
        output.flush()?;
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(0);
        }
        let mut words = line.split_whitespace();
        match words.next() {
            None => {}
            Some("exit") => return Ok(words.next().and_then(|code| code.parse().ok()).unwrap_or(0)),
            Some("echo") => writeln!(output, "{}", words.collect::<Vec<_>>().join(" "))?,
            Some("hostname") => writeln!(output, "{}", hostname())?,
            Some("tty") => {
                writeln!(output, "{}", if io::stdin().is_terminal() { "a terminal" } else { "not a tty" })?
            }
            Some("env") => {
                for (name, value) in std::env::vars_os() {
                    writeln!(output, "{}={}", name.to_string_lossy(), value.to_string_lossy())?;
                }
            }
            Some("cat") => {
                for path in words {
                    match std::fs::read_to_string(path) {
                        Ok(text) => output.write_all(text.as_bytes())?,
                        Err(error) => writeln!(output, "cat: {path}: {error}")?,
                    }
                }
            }
            Some(other) => writeln!(output, "{other}: not one of echo, hostname, tty, env, cat, exit")?,
        }
    }
}

/// The kernel's name for this machine or pod.
#[must_use]
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(input: &str) -> (u8, String) {
        let mut output = Vec::new();
        let code = run(&mut input.as_bytes(), &mut output).unwrap();
        (code, String::from_utf8(output).unwrap())
    }

    #[test]
    fn echo_then_exit_with_a_code() {
        assert_eq!(session("echo a  b\nexit 3\necho late\n"), (3, "demo$ a b\ndemo$ ".to_owned()));
    }

    #[test]
    fn the_end_of_input_ends_it() {
        let (code, output) = session("nonsense\n");
        assert_eq!(code, 0);
        assert!(output.contains("nonsense: not one of"));
    }
}
