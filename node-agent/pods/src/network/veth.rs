//! The wire of a pod: a veth pair, addresses and routes on both ends. Everything here may be done again.

use super::ipam::Record;
use futures::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

/// The next hop every pod has: an address of no network, answered by a fixed neighbour entry.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The same for IPv6, in which a next hop is link-local.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Addresses of the node, as sources towards its pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sources {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// Whether the kernel has IPv6.
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6/conf").is_dir()
}

/// Makes an interface of this thread's namespace one that has its addresses at once and takes none from the network: its
/// neighbours are known, and nobody else is on the wire.
fn settle_ipv6(interface: &str, forwards: bool) -> io::Result<()> {
    let forwarding = if forwards { "1" } else { "0" };
    for (name, value) in [
        ("disable_ipv6", "0"),
        ("accept_dad", "0"),
        ("accept_ra", "0"),
        ("autoconf", "0"),
        ("forwarding", forwarding),
    ] {
        let at = format!("/proc/sys/net/ipv6/conf/{interface}/{name}");
        std::fs::write(&at, value).map_err(|e| io::Error::new(e.kind(), format!("{at}: {e}")))?;
    }
    Ok(())
}

fn other(what: &str) -> impl Fn(rtnetlink::Error) -> io::Error + '_ {
    move |e| io::Error::other(format!("{what}: {e}"))
}

/// Opens a route socket in the present namespace; its task ends with the handle.
fn open() -> io::Result<Handle> {
    let (connection, handle, _) = new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn link(h: &Handle, name: &str) -> io::Result<Option<LinkMessage>> {
    match h.link().get().match_name(name.to_owned()).execute().try_next().await {
        Ok(l) => Ok(l),
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -nix::libc::ENODEV => Ok(None),
        Err(e) => Err(other("link")(e)),
    }
}

fn mac(l: &LinkMessage) -> Vec<u8> {
    l.attributes
        .iter()
        .find_map(|a| if let LinkAttribute::Address(m) = a { Some(m.clone()) } else { None })
        .unwrap_or_default()
}

fn mtu(l: &LinkMessage) -> Option<u32> {
    l.attributes.iter().find_map(|a| if let LinkAttribute::Mtu(m) = a { Some(*m) } else { None })
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("interface {name} is gone"))
}

/// What came of a wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    /// Index of the host's end.
    pub host_index: u32,
    /// Hardware address of the host's end.
    pub host_mac: Vec<u8>,
    /// Hardware address of the pod's end.
    pub pod_mac: Vec<u8>,
}

/// Lays the wire of a pod: pair, pod's end moved and renamed, addresses, routes, neighbours.
pub async fn lay(r: &Record, node: Sources, uplink: Option<&str>) -> io::Result<Wire> {
    let h = open()?;
    if let Some(old) = link(&h, &r.host_ifname).await? {
        h.link().del(old.header.index).execute().await.map_err(other("old link"))?;
    }
    let size = match uplink {
        Some(u) => link(&h, u).await?.as_ref().and_then(mtu).unwrap_or(1500),
        None => 1500,
    };
    let temporary = format!("t{}", r.host_ifname.trim_start_matches("skep"));
    let ns = std::fs::File::open(&r.netns)?;
    let add = h.link().add(LinkVeth::new(&r.host_ifname, &temporary).mtu(size).build()).execute().await;
    add.map_err(other("veth"))?;
    let host = link(&h, &r.host_ifname).await?.ok_or_else(|| missing(&r.host_ifname))?;
    let peer = link(&h, &temporary).await?.ok_or_else(|| missing(&temporary))?;
    let (host_index, host_mac, pod_mac) = (host.header.index, mac(&host), mac(&peer));
    h.link()
        .change(LinkUnspec::new_with_index(peer.header.index).mtu(size).setns_by_fd(ns.as_raw_fd()).build())
        .execute()
        .await
        .map_err(other("move to the pod"))?;
    let (ns, of, gateway) = (r.netns.clone(), r.clone(), host_mac.clone());
    let inside = tokio::task::spawn_blocking(move || {
        super::netns::within(&ns, move || {
            let rt = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            rt.block_on(pod_end(&temporary, &of, &gateway))
        })
    });
    inside.await.map_err(io::Error::other)???;
    if r.ip6.is_some() {
        // Before it is up, so that its link-local address is one at once.
        settle_ipv6(&r.host_ifname, true)?;
    }
    h.link()
        .change(LinkUnspec::new_with_index(host_index).up().build())
        .execute()
        .await
        .map_err(other("host link up"))?;
    host_end(&h, r, host_index, &pod_mac, node).await?;
    Ok(Wire { host_index, host_mac, pod_mac })
}

async fn host_end(h: &Handle, r: &Record, index: u32, pod_mac: &[u8], node: Sources) -> io::Result<()> {
    let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(r.ip, 32)
        .output_interface(index)
        .scope(RouteScope::Link);
    if let Some(ip) = node.v4 {
        route = route.pref_source(ip);
    }
    let mut routes = vec![route.build()];
    if let Some(ip) = r.ip6 {
        let mut route =
            RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(ip, 128).output_interface(index);
        if let Some(ip) = node.v6 {
            route = route.pref_source(ip);
        }
        routes.push(route.build());
    }
    for route in routes {
        add_route(h, route).await.map_err(other("route to the pod"))?;
    }
    for ip in r.addresses() {
        neighbour(h, index, ip, pod_mac).await.map_err(other("neighbour on the host"))?;
    }
    Ok(())
}

async fn add_route(h: &Handle, route: RouteMessage) -> Result<(), rtnetlink::Error> {
    h.route().add(route).replace().execute().await
}

/// An entry that is not asked for and does not age.
async fn neighbour(h: &Handle, index: u32, ip: IpAddr, mac: &[u8]) -> Result<(), rtnetlink::Error> {
    let entry = h.neighbours().add(index, ip).link_layer_address(mac).state(NeighbourState::Permanent);
    entry.replace().execute().await
}

async fn pod_end(temporary: &str, r: &Record, gateway_mac: &[u8]) -> io::Result<()> {
    let h = open()?;
    let ifname = r.ifname.as_str();
    if let Some(lo) = link(&h, "lo").await? {
        h.link()
            .change(LinkUnspec::new_with_index(lo.header.index).up().build())
            .execute()
            .await
            .map_err(other("lo up"))?;
    }
    if let Some(old) = link(&h, ifname).await? {
        h.link().del(old.header.index).execute().await.map_err(other("old pod link"))?;
    }
    let l = link(&h, temporary).await?.ok_or_else(|| missing(temporary))?;
    let index = l.header.index;
    let set = LinkUnspec::new_with_index(index).name(ifname).build();
    h.link().change(set).execute().await.map_err(other("rename"))?;
    if r.ip6.is_some() {
        settle_ipv6(ifname, false)?;
    }
    h.link()
        .change(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await
        .map_err(other("pod link up"))?;
    h.address().add(index, IpAddr::V4(r.ip), 32).execute().await.map_err(other("address"))?;
    let to_gateway = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(GATEWAY, 32)
        .output_interface(index)
        .scope(RouteScope::Link)
        .build();
    add_route(&h, to_gateway).await.map_err(other("route to the gateway"))?;
    neighbour(&h, index, GATEWAY.into(), gateway_mac).await.map_err(other("neighbour in the pod"))?;
    let all = RouteMessageBuilder::<Ipv4Addr>::new().gateway(GATEWAY).output_interface(index).build();
    add_route(&h, all).await.map_err(other("default route"))?;
    let Some(ip) = r.ip6 else { return Ok(()) };
    let mut address = h.address().add(index, IpAddr::V6(ip), 128);
    // Nobody else has it, so that it need not be tried out.
    address.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    address.execute().await.map_err(other("IPv6 address"))?;
    neighbour(&h, index, GATEWAY6.into(), gateway_mac).await.map_err(other("IPv6 neighbour in the pod"))?;
    let all = RouteMessageBuilder::<Ipv6Addr>::new().gateway(GATEWAY6).output_interface(index).build();
    add_route(&h, all).await.map_err(other("IPv6 default route"))
}

/// Index of the host's end of a wire, if it is there.
pub async fn host_index(name: &str) -> io::Result<Option<u32>> {
    Ok(link(&open()?, name).await?.map(|l| l.header.index))
}

/// Takes a wire away; the pod's end goes with it.
pub async fn cut(name: &str) -> io::Result<()> {
    let h = open()?;
    match link(&h, name).await? {
        Some(l) => h.link().del(l.header.index).execute().await.map_err(other("link removal")),
        None => Ok(()),
    }
}
