//! Choosing the port, or ICMP identifier, that a masqueraded connection leaves with.

/// How many ports are tried before a new connection is refused. The loop is unrolled by the verifier, and
/// with half of the range in use toward one destination all of them fail once in 65,536 connections.
pub const ATTEMPTS: u32 = 16;

/// The `attempt`-th candidate in `min..=max` (machine order) for a connection from `source_port` (machine
/// order): its own port first if that lies in the range, then places spread from a random word. An empty
/// range (`min > max`) has no candidate.
#[inline(always)]
pub const fn candidate(min: u16, max: u16, source_port: u16, random: u32, attempt: u32) -> Option<u16> {
    if min > max || min == 0 {
        return None;
    }
    if attempt == 0 && source_port >= min && source_port <= max {
        return Some(source_port);
    }
    let span = (max - min) as u32 + 1;
    // A large odd stride visits places far apart, so neighbours in use do not all fail together.
    let place = random.wrapping_add(attempt.wrapping_mul(0x9e37_79b1));
    Some(min + ((place as u64 * span as u64) >> 32) as u16)
}

/// The range to masquerade with, beside the host's own ephemeral range `low..=high`
/// (`net.ipv4.ip_local_port_range`): the ports above it if at least 2,048 are left there, else those between
/// the NodePort range (30000-32767) and it, else those from 20000 below it.
pub const fn port_range(low: u16, high: u16) -> (u16, u16) {
    const ENOUGH: u16 = 2_048;
    if u16::MAX - high >= ENOUGH {
        (high + 1, u16::MAX)
    } else if low > 32_768 + ENOUGH {
        (32_768, low - 1)
    } else {
        (20_000, 29_999)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_stay_in_range_and_differ() {
        let mut seen = std::collections::BTreeSet::new();
        for attempt in 0..ATTEMPTS {
            let port = candidate(61_000, 65_535, 40_000, 0xdead_beef, attempt).unwrap();
            assert!((61_000..=65_535).contains(&port));
            seen.insert(port);
        }
        assert_eq!(seen.len(), ATTEMPTS as usize);
        assert_eq!(candidate(61_000, 65_535, 62_000, 1, 0), Some(62_000), "keeps its own port if it can");
        assert_eq!(candidate(5, 4, 5, 1, 0), None);
        assert_eq!(candidate(0, 0, 0, 1, 0), None, "no configuration, no port");
        assert_eq!(candidate(65_535, 65_535, 1, u32::MAX, 15), Some(65_535));
    }

    #[test]
    fn the_range_never_meets_the_hosts_own() {
        for (low, high) in [(32_768, 60_999), (1_024, 65_535), (35_000, 65_000), (32_768, 65_535)] {
            let (min, max) = port_range(low, high);
            assert!(
                min <= max && (max < low || min > high || (low, high) == (1_024, 65_535)),
                "{low}-{high}"
            );
        }
    }
}
