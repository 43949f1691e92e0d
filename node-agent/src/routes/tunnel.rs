//! The tunnel to nodes on other networks: one VXLAN interface (RFC 7348) whose packets go where the route of each says
//! (`encap ip`, the kernel's lightweight tunnels), so that routes are all there is to keep.
//!
//! Every end derives its hardware address from its node's IPv4 address, and so everybody knows everybody's: neighbours are
//! fixed entries, and nothing is asked or learned. The interface has the second address of each of the node's pod ranges,
//! which no pod gets; with it the node itself speaks to pods through the tunnel, so that their answers return by it.

use super::plan::Net;
use futures::TryStreamExt as _;
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVxlan};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Name of the interface.
const NAME: &str = "skep-vxlan";
/// The port that IANA gave VXLAN.
const PORT: u16 = 4789;
/// The network's number within the tunnel.
pub(super) const VNI: u64 = 83;
/// What a packet grows by: an IPv4, a UDP and a VXLAN header, and the Ethernet header within (RFC 7348, section 5).
const OVERHEAD: u32 = 50;
const ETHERNET_MTU: u32 = 1500;

/// The hardware address of a node's end: a locally administered one.
fn hardware(node: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = node.octets();
    [0x02, 0x53, a, b, c, d]
}

/// The next hop by which packets of a family enter the tunnel to a node.
pub(super) fn next_hop(node: Ipv4Addr, v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(node.to_bits())).into() } else { node.into() }
}

/// The address that the tunnel has of a range of the node's pods: the second.
pub(super) fn own_address(range: &Net) -> IpAddr {
    match range.first() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().saturating_add(1)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().saturating_add(1)).into(),
    }
}

async fn find(handle: &Handle) -> Result<Option<LinkMessage>, rtnetlink::Error> {
    match handle.link().get().match_name(NAME.to_owned()).execute().try_next().await {
        Ok(link) => Ok(link),
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -nix::libc::ENODEV => Ok(None),
        Err(e) => Err(e),
    }
}

fn mtu(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|a| if let LinkAttribute::Mtu(mtu) = a { Some(*mtu) } else { None })
}

fn address(link: &LinkMessage) -> Option<&[u8]> {
    link.attributes
        .iter()
        .find_map(|a| if let LinkAttribute::Address(a) = a { Some(a.as_slice()) } else { None })
}

/// Index of the interface, if it is there.
pub(super) async fn index(handle: &Handle) -> Result<Option<u32>, rtnetlink::Error> {
    Ok(find(handle).await?.map(|link| link.header.index))
}

/// Makes what is missing of the tunnel of the node with address `own`: the interface, with addresses of the node's `ranges`,
/// on packets as long as `uplink` takes. Gives its index.
///
/// # Errors
/// When the kernel refuses.
pub(super) async fn ensure(
    handle: &Handle,
    own: Ipv4Addr,
    ranges: &[Net],
    uplink: Option<&str>,
) -> Result<u32, rtnetlink::Error> {
    let outer = match uplink {
        Some(name) => {
            let found = handle.link().get().match_name(name.to_owned()).execute().try_next().await?;
            found.as_ref().and_then(mtu).unwrap_or(ETHERNET_MTU)
        }
        None => ETHERNET_MTU,
    };
    let (mac, size) = (hardware(own), outer.saturating_sub(OVERHEAD));
    let link = match find(handle).await? {
        // One of a node that had another address.
        Some(link) if address(&link) != Some(&mac[..]) => {
            handle.link().del(link.header.index).execute().await?;
            None
        }
        link => link,
    };
    let (index, made) = match link {
        Some(link) => (link.header.index, mtu(&link)),
        None => {
            let new =
                LinkMessageBuilder::<LinkVxlan>::new(NAME).collect_metadata(true).learning(false).port(PORT);
            handle.link().add(new.address(mac.to_vec()).mtu(size).build()).execute().await?;
            let link = find(handle).await?.ok_or(rtnetlink::Error::RequestFailed)?;
            (link.header.index, Some(size))
        }
    };
    let mut up = LinkUnspec::new_with_index(index).up();
    if made != Some(size) {
        up = up.mtu(size);
    }
    handle.link().change(up.build()).execute().await?;
    for range in ranges {
        let ip = own_address(range);
        let mut add = handle.address().add(index, ip, if ip.is_ipv4() { 32 } else { 128 }).replace();
        // Nobody else has it, so that it need not be tried out.
        add.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        add.execute().await?;
    }
    Ok(index)
}

/// Takes the interface away, with whatever leads into it.
///
/// # Errors
/// When the kernel refuses.
pub(super) async fn remove(handle: &Handle) -> Result<(), rtnetlink::Error> {
    match index(handle).await? {
        Some(index) => handle.link().del(index).execute().await,
        None => Ok(()),
    }
}

/// Makes the nodes at the other ends known as neighbours in both families, and forgets those that are none.
///
/// # Errors
/// When the kernel refuses.
pub(super) async fn neighbours(
    handle: &Handle,
    index: u32,
    nodes: &BTreeSet<Ipv4Addr>,
) -> Result<(), rtnetlink::Error> {
    let mut all = handle.neighbours().get().execute();
    let mut gone = Vec::new();
    let wanted: BTreeSet<IpAddr> =
        nodes.iter().flat_map(|node| [next_hop(*node, false), next_hop(*node, true)]).collect();
    while let Some(entry) = all.try_next().await? {
        let ip = entry.attributes.iter().find_map(|a| match a {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
            _ => None,
        });
        let ours = entry.header.ifindex == index && entry.header.state == NeighbourState::Permanent;
        if ours && ip.is_some_and(|ip| !wanted.contains(&ip)) {
            gone.push(entry);
        }
    }
    for node in nodes {
        for v6 in [false, true] {
            let add =
                handle.neighbours().add(index, next_hop(*node, v6)).link_layer_address(&hardware(*node));
            add.state(NeighbourState::Permanent).replace().execute().await?;
        }
    }
    for entry in gone {
        handle.neighbours().del(entry).execute().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_derive_the_same_from_a_nodes_address() {
        let node = "10.245.3.7".parse().unwrap();
        assert_eq!(hardware(node), [0x02, 0x53, 10, 245, 3, 7]);
        assert_eq!(next_hop(node, false), IpAddr::V4(node));
        assert_eq!(next_hop(node, true), "fe80::af5:307".parse::<IpAddr>().unwrap());
        let own = |range: &str| own_address(&Net::parse(range).unwrap()).to_string();
        assert_eq!(own("10.244.7.0/24"), "10.244.7.1");
        assert_eq!(own("fd00:10:244:7::/64"), "fd00:10:244:7::1");
    }
}
