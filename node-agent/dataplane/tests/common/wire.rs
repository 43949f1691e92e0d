//! Interfaces, addresses and routes of a test's own network namespaces.

use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::Netns;

/// Runs netlink requests in the namespace of this thread.
pub fn netlink<T>(work: impl AsyncFnOnce(&Handle) -> Result<T, rtnetlink::Error>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        work(&handle).await.unwrap()
    })
}

/// New interfaces of this namespace send nothing of their own accord (IPv6 would).
pub fn quiet() {
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
    std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
}

/// Sets an interface up.
pub fn up(ifindex: u32) {
    netlink(async |h| h.link().set(LinkUnspec::new_with_index(ifindex).up().build()).execute().await);
}

/// The index of an interface of this namespace.
pub fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

/// Gives an interface an address, and IPv6 with the first one of that.
pub fn address(ifindex: u32, addr: impl Into<IpAddr>, prefix: u8) {
    let addr = addr.into();
    if addr.is_ipv6() {
        let name = nix::net::if_::if_indextoname(ifindex).unwrap().into_string().unwrap();
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0").unwrap();
    }
    netlink(async |h| h.address().add(ifindex, addr, prefix).execute().await);
}

/// Adds a route.
pub fn route<A: Into<IpAddr>>(ifindex: u32, to: A, prefix: u8, via: Option<A>) {
    let to = to.into();
    let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(to, prefix).unwrap();
    let mut route = route.output_interface(ifindex);
    match via {
        Some(via) => route = route.gateway(via.into()).unwrap().onlink(),
        None if to.is_ipv4() => route = route.scope(rtnetlink::packet_route::route::RouteScope::Link),
        None => {}
    }
    netlink(async |h| h.route().add(route.build()).execute().await);
}

/// Makes a veth pair whose other end, `eth0`, lies in another namespace; both ends are up. Returns the index here.
pub fn veth(name: &str, to: &Netns) -> u32 {
    let fd = to.0.as_raw_fd();
    let peer = format!("{name}p");
    netlink(async |h| h.link().add(LinkVeth::new(name, &peer).build()).execute().await);
    let moved = LinkUnspec::new_with_index(index(&peer)).setns_by_fd(fd).name("eth0").build();
    netlink(async |h| h.link().set(moved).execute().await);
    up(index(name));
    to.run(|| up(index("eth0")));
    index(name)
}
