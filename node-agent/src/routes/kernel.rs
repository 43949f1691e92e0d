//! The kernel's side of routes: what is there, and single changes of it.

use super::plan::{Change, Local, Net, NodeView, Wanted, Way, changes, wanted};
use futures::TryStreamExt as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The routing protocol number of our routes: no other program uses it, and we touch no route that has another.
const OURS: RouteProtocol = RouteProtocol::Other(83);

/// Why the kernel's routes are not as they should be.
#[derive(Debug)]
pub(super) enum Error {
    /// No netlink socket.
    Socket(std::io::Error),
    /// The kernel does not say what is there.
    Read(rtnetlink::Error),
    /// It refuses a change.
    Change(Change, rtnetlink::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Socket(e) => write!(f, "no netlink socket: {e}"),
            Error::Read(e) => write!(f, "routes and addresses cannot be read: {e}"),
            Error::Change(Change::Add(net, _), e) => {
                write!(f, "no route to {}/{} (has somebody else made one?): {e}", net.first(), net.prefix())
            }
            Error::Change(Change::Replace(net, _) | Change::Remove(net), e) => {
                write!(f, "the route to {}/{} cannot be changed: {e}", net.first(), net.prefix())
            }
        }
    }
}

/// Brings the routes to the pods of all nodes to what the nodes say, by difference. Gives what was wanted.
///
/// # Errors
/// When the kernel cannot be read; or the first change that it refuses, after all others were made.
pub(super) async fn reconcile(own: &str, nodes: &[NodeView], cluster: &[Net]) -> Result<Wanted, Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
    tokio::spawn(connection);
    let wanted = wanted(own, nodes, &locals(&handle).await.map_err(Error::Read)?, cluster);
    let present = present(&handle, cluster).await.map_err(Error::Read)?;
    let mut first = Ok(());
    for change in changes(&present, &wanted.routes) {
        let done = make(&handle, change).await;
        tracing::debug!(?change, ?done, "route");
        if let Err(error) = done {
            first = first.and(Err(Error::Change(change, error)));
        }
    }
    first.map(|()| wanted)
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
async fn present(handle: &Handle, cluster: &[Net]) -> Result<BTreeMap<Net, Option<Way>>, rtnetlink::Error> {
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
                found.insert(net, way(&route));
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

fn way(route: &RouteMessage) -> Option<Way> {
    if route.header.kind == RouteType::Unreachable {
        return Some(Way::Nowhere);
    }
    let (mut gateway, mut link) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Gateway(address) => gateway = ip_of(address),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    Some(Way::Node { gateway: gateway?, link: link? })
}

async fn make(handle: &Handle, change: Change) -> Result<(), rtnetlink::Error> {
    match change {
        Change::Add(net, way) => handle.route().add(route(net, Some(way))).execute().await,
        Change::Replace(net, way) => handle.route().add(route(net, Some(way))).replace().execute().await,
        Change::Remove(net) => handle.route().del(gone(net)).execute().await,
    }
}

/// Our route to a network, along a way.
fn route(net: Net, way: Option<Way>) -> RouteMessage {
    match net.first() {
        IpAddr::V4(first) => {
            let to = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(first, net.prefix());
            match way {
                Some(Way::Node { gateway: IpAddr::V4(gateway), link }) => {
                    to.gateway(gateway).output_interface(link)
                }
                Some(_) => to.kind(RouteType::Unreachable),
                None => to,
            }
            .protocol(OURS)
            .build()
        }
        IpAddr::V6(first) => {
            let to = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(first, net.prefix());
            match way {
                Some(Way::Node { gateway: IpAddr::V6(gateway), link }) => {
                    to.gateway(gateway).output_interface(link)
                }
                Some(_) => to.kind(RouteType::Unreachable),
                None => to,
            }
            .protocol(OURS)
            .build()
        }
    }
}

/// What names a route of ours to a network, of any type and any scope.
fn gone(net: Net) -> RouteMessage {
    let mut gone = route(net, None);
    gone.header.scope = RouteScope::NoWhere;
    gone.header.kind = RouteType::Unspec;
    gone
}
