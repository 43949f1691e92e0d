//! Names as the C library finds them, by the `resolv.conf` and `hosts` of wherever this runs.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};

/// The addresses of a name, sorted.
///
/// # Errors
/// The name is not found, or nobody could be asked.
pub fn addresses(name: &str) -> io::Result<BTreeSet<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// One line: the name, and its addresses or what went wrong.
#[must_use]
pub fn line(name: &str) -> String {
    match addresses(name) {
        Ok(found) => {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            format!("{name} {}", found.join(" "))
        }
        Err(error) => format!("{name} ! {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_its_own_name_and_a_bad_name_is_told() {
        assert_eq!(line("192.0.2.7"), "192.0.2.7 192.0.2.7");
        assert!(line("-..-").starts_with("-..- ! "));
    }
}
