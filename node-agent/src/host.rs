//! What the agent needs of the node's own network settings.

use anyhow::Context as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

const SETTINGS: &str = "/proc/sys/net";

/// Lets packets between pods and the world outside pass through this host.
///
/// A host that forwards IPv6 takes no router advertisements any more unless an interface is told to go on
/// (`accept_ra` 2, Documentation/networking/ip-sysctl.rst), and with them would go its own default route.
pub(crate) fn forward(v6: bool, uplink: Option<&str>) -> anyhow::Result<()> {
    let set = |name: &str, value: &str| {
        let at = Path::new(SETTINGS).join(name);
        std::fs::write(&at, value).with_context(|| at.display().to_string())
    };
    set("ipv4/ip_forward", "1")?;
    if !v6 || !skep_pods::network::veth::has_ipv6() {
        return Ok(());
    }
    if let Some(uplink) = uplink {
        let name = format!("ipv6/conf/{uplink}/accept_ra");
        let takes = std::fs::read_to_string(Path::new(SETTINGS).join(&name)).unwrap_or_default();
        if takes.trim() == "1" {
            set(&name, "2")?;
        }
    }
    set("ipv6/conf/all/forwarding", "1")
}

/// The address that stands for all of this host's: of both families, where the kernel has them.
pub(crate) fn any() -> IpAddr {
    if skep_pods::network::veth::has_ipv6() {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}
