//! The wire of a pod: a veth pair, addresses and routes on both ends. Everything here may be done again.

use super::ipam::Record;
use futures::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

/// The next hop every pod has: an address of no network, answered by a fixed neighbour entry.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

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
pub async fn lay(r: &Record, node_ip: Option<Ipv4Addr>, uplink: Option<&str>) -> io::Result<Wire> {
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
    let (ns, ifname, ip, gateway) = (r.netns.clone(), r.ifname.clone(), r.ip, host_mac.clone());
    let inside = tokio::task::spawn_blocking(move || {
        super::netns::within(&ns, move || {
            let rt = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            rt.block_on(pod_end(&temporary, &ifname, ip, &gateway))
        })
    });
    inside.await.map_err(io::Error::other)???;
    h.link()
        .change(LinkUnspec::new_with_index(host_index).up().build())
        .execute()
        .await
        .map_err(other("host link up"))?;
    host_end(&h, r, host_index, &pod_mac, node_ip).await?;
    Ok(Wire { host_index, host_mac, pod_mac })
}

async fn host_end(
    h: &Handle,
    r: &Record,
    index: u32,
    pod_mac: &[u8],
    node_ip: Option<Ipv4Addr>,
) -> io::Result<()> {
    let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(r.ip, 32)
        .output_interface(index)
        .scope(RouteScope::Link);
    if let Some(ip) = node_ip {
        route = route.pref_source(ip);
    }
    h.route().add(route.build()).replace().execute().await.map_err(other("route to the pod"))?;
    h.neighbours()
        .add(index, IpAddr::V4(r.ip))
        .link_layer_address(pod_mac)
        .state(NeighbourState::Permanent)
        .replace()
        .execute()
        .await
        .map_err(other("neighbour on the host"))
}

async fn pod_end(temporary: &str, ifname: &str, ip: Ipv4Addr, gateway_mac: &[u8]) -> io::Result<()> {
    let h = open()?;
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
    h.link()
        .change(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await
        .map_err(other("pod link up"))?;
    h.address().add(index, IpAddr::V4(ip), 32).execute().await.map_err(other("address"))?;
    let to_gateway = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(GATEWAY, 32)
        .output_interface(index)
        .scope(RouteScope::Link)
        .build();
    h.route().add(to_gateway).replace().execute().await.map_err(other("route to the gateway"))?;
    h.neighbours()
        .add(index, IpAddr::V4(GATEWAY))
        .link_layer_address(gateway_mac)
        .state(NeighbourState::Permanent)
        .replace()
        .execute()
        .await
        .map_err(other("neighbour in the pod"))?;
    let all = RouteMessageBuilder::<Ipv4Addr>::new().gateway(GATEWAY).output_interface(index).build();
    h.route().add(all).replace().execute().await.map_err(other("default route"))
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
