//! The kernel's side of routes: what is there, and single changes of it.

use super::plan::{Change, Local, Net, NodeView, Wanted, Way, changes, wanted};
use super::tunnel;
use futures::TryStreamExt as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteIpTunnel, RouteLwTunnelEncap, RouteMessage,
    RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The routing protocol number of our routes: no other program uses it, and we touch no route that has another.
const OURS: RouteProtocol = RouteProtocol::Other(83);

/// How many routers a packet of the tunnel may pass.
const TTL: u8 = 64;

/// Why the kernel's routes are not as they should be.
#[derive(Debug)]
pub(super) enum Error {
    /// No netlink socket.
    Socket(std::io::Error),
    /// The kernel does not say what is there.
    Read(rtnetlink::Error),
    /// It refuses to make the tunnel, or to take it away.
    Tunnel(rtnetlink::Error),
    /// It refuses a change.
    Change(Change, rtnetlink::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Socket(e) => write!(f, "no netlink socket: {e}"),
            Error::Read(e) => write!(f, "routes and addresses cannot be read: {e}"),
            Error::Tunnel(e) => {
                write!(
                    f,
                    "no tunnel to nodes on other networks (has the kernel VXLAN, is UDP port 4789 free?): {e}"
                )
            }
            Error::Change(Change::Add(net, _), e) => {
                write!(f, "no route to {}/{} (has somebody else made one?): {e}", net.first(), net.prefix())
            }
            Error::Change(Change::Replace(net, _) | Change::Remove(net), e) => {
                write!(f, "the route to {}/{} cannot be changed: {e}", net.first(), net.prefix())
            }
        }
    }
}

/// Brings the routes to the pods of all nodes, and the tunnel where some need it, to what the nodes say, by difference. Gives
/// what was wanted. The tunnel's packets leave by `uplink`.
///
/// # Errors
/// When the kernel cannot be read; or the first change that it refuses, after all others were made.
pub(super) async fn reconcile(
    own: &str,
    nodes: &[NodeView],
    cluster: &[Net],
    uplink: Option<&str>,
) -> Result<Wanted, Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
    tokio::spawn(connection);
    let wanted = wanted(own, nodes, &locals(&handle).await.map_err(Error::Read)?, cluster);
    let ends = wanted.tunnelled();
    let mut through = Tunnel::default();
    if let (Some(ip), false) = (wanted.own.ip, ends.is_empty()) {
        let index = tunnel::ensure(&handle, ip, &wanted.own.ranges, uplink).await.map_err(Error::Tunnel)?;
        tunnel::neighbours(&handle, index, &ends).await.map_err(Error::Tunnel)?;
        through = Tunnel { index, own: wanted.own.ranges.iter().map(tunnel::own_address).collect() };
    }
    let present = present(&handle, cluster, &through).await.map_err(Error::Read)?;
    let mut first = Ok(());
    for change in changes(&present, &wanted.routes) {
        let done = make(&handle, change, &through).await;
        tracing::debug!(?change, ?done, "route");
        if let Err(error) = done {
            first = first.and(Err(Error::Change(change, error)));
        }
    }
    if ends.is_empty() {
        tunnel::remove(&handle).await.map_err(Error::Tunnel)?;
    }
    first.map(|()| wanted)
}

/// The node's end of the tunnel, as routes name it.
#[derive(Debug, Default)]
struct Tunnel {
    /// Index of the interface; 0 for none.
    index: u32,
    /// Its addresses.
    own: Vec<IpAddr>,
}

/// Addresses of all interfaces.
async fn locals(handle: &Handle) -> Result<Vec<Local>, rtnetlink::Error> {
    let mut all = handle.address().get().execute();
    let mut found = Vec::new();
    while let Some(message) = all.try_next().await? {
        // On an interface with a peer, `Address` is the peer's and `Local` is ours.
        let ip = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
        let local = ip(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None });
        let address = ip(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None });
        if let Some(ip) = local.or(address) {
            found.push(Local { link: message.header.index, ip, prefix: message.header.prefix_len });
        }
    }
    Ok(found)
}

/// Our routes to pods of this cluster in the main tables. (Agents of other clusters may share the namespace.)
async fn present(
    handle: &Handle,
    cluster: &[Net],
    through: &Tunnel,
) -> Result<BTreeMap<Net, Option<Way>>, rtnetlink::Error> {
    let mut found = BTreeMap::new();
    for v6 in cluster.iter().map(|net| net.first().is_ipv6()) {
        let mut query = RouteMessage::default();
        query.header.address_family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let mut all = handle.route().get(query).execute();
        while let Some(route) = all.try_next().await? {
            let header = &route.header;
            if header.protocol == OURS
                && header.table == RouteHeader::RT_TABLE_MAIN
                && let Some(net) = destination(&route).filter(|net| cluster.iter().any(|all| all.covers(net)))
            {
                found.insert(net, way(&route, through));
            }
        }
    }
    Ok(found)
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn destination(route: &RouteMessage) -> Option<Net> {
    let to = route.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(address) => ip_of(address),
        _ => None,
    });
    Net::of(to?, route.header.destination_prefix_length)
}

fn way(route: &RouteMessage, through: &Tunnel) -> Option<Way> {
    if route.header.kind == RouteType::Unreachable {
        return Some(Way::Nowhere);
    }
    let (mut gateway, mut link, mut source, mut key) = (None, None, None, (None, None));
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::PrefSource(address) => source = ip_of(address),
            RouteAttribute::Encap(all) => {
                for part in all {
                    match part {
                        RouteLwTunnelEncap::Ip(RouteIpTunnel::Id(id)) => key.0 = Some(*id),
                        RouteLwTunnelEncap::Ip(RouteIpTunnel::Destination(ip)) => key.1 = Some(*ip),
                        _ => {}
                    }
                }
            }
            RouteAttribute::Gateway(address) => gateway = ip_of(address),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let (gateway, link) = (gateway?, link?);
    match key {
        (None, None) => Some(Way::Node { gateway, link }),
        (Some(tunnel::VNI), Some(node)) => {
            let whole = link == through.index && source.is_some_and(|source| through.own.contains(&source));
            let way = Way::Tunnel { node };
            (whole && gateway == tunnel::next_hop(node, gateway.is_ipv6())).then_some(way)
        }
        _ => None,
    }
}

async fn make(handle: &Handle, change: Change, through: &Tunnel) -> Result<(), rtnetlink::Error> {
    let add = |net, way| handle.route().add(route(net, Some(way), through));
    match change {
        Change::Add(net, way) => add(net, way).execute().await,
        Change::Replace(net, way) => add(net, way).replace().execute().await,
        Change::Remove(net) => handle.route().del(gone(net)).execute().await,
    }
}

/// Our route to a network, along a way.
fn route(net: Net, way: Option<Way>, through: &Tunnel) -> RouteMessage {
    let v6 = net.first().is_ipv6();
    let mut route = RouteMessageBuilder::<IpAddr>::new().protocol(OURS);
    route.get_mut().header.address_family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    route.get_mut().header.destination_prefix_length = net.prefix();
    route.get_mut().attributes.push(RouteAttribute::Destination(net.first().into()));
    match way {
        None => {}
        Some(Way::Nowhere) => route = route.kind(RouteType::Unreachable),
        Some(Way::Node { gateway, link }) => {
            route.get_mut().attributes.push(RouteAttribute::Gateway(gateway.into()));
            route = route.output_interface(link);
        }
        Some(Way::Tunnel { node }) => {
            let key =
                [RouteIpTunnel::Id(tunnel::VNI), RouteIpTunnel::Destination(node), RouteIpTunnel::Ttl(TTL)];
            let source = through.own.iter().find(|own| own.is_ipv6() == v6);
            let hop = RouteAttribute::Gateway(tunnel::next_hop(node, v6).into());
            let attributes =
                source.map(|own| RouteAttribute::PrefSource((*own).into())).into_iter().chain([hop]);
            route.get_mut().attributes.extend(attributes);
            route = route.output_interface(through.index).onlink().encap_ip(key.to_vec());
        }
    }
    route.build()
}

/// What names a route of ours to a network, of any type and any scope.
fn gone(net: Net) -> RouteMessage {
    let mut gone = route(net, None, &Tunnel::default());
    gone.header.scope = RouteScope::NoWhere;
    gone.header.kind = RouteType::Unspec;
    gone
}
