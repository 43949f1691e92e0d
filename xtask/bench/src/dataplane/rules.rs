//! What kube-proxy would write for Services with one endpoint each: the same chains, maps and matches, in its iptables mode
//! and in its nftables mode, as one text for the tool that loads them. Pure.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// Port of every Service and of every endpoint.
pub(crate) const PORT: u16 = 80;
/// The network of pods.
pub(crate) const PODS: &str = "10.244.0.0/16";
/// The network of ClusterIPs.
pub(crate) const CLUSTER_IPS: &str = "10.96.0.0/16";
/// The pod that the measured Service leads to.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 6);
/// The pod that asks.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 5);

/// One Service: its address and its endpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// ClusterIP.
    pub(crate) vip: Ipv4Addr,
    /// The endpoint.
    pub(crate) backend: Ipv4Addr,
}

/// The Service of this number of `count`. The one in the middle and the last lead to the server, the others to pods that
/// do not exist. In the middle, for a list of rules is searched from its beginning.
pub(crate) fn entry(number: usize, count: usize) -> Entry {
    let at = |base: u32| Ipv4Addr::from(base + u32::try_from(number).unwrap_or(u32::MAX));
    let ours = number == measured(count) || number + 1 == count;
    Entry {
        vip: at(u32::from(Ipv4Addr::new(10, 96, 16, 0))),
        backend: if ours { SERVER } else { at(u32::from(Ipv4Addr::new(10, 244, 16, 0))) },
    }
}

/// The number of the Service that is measured.
pub(crate) fn measured(count: usize) -> usize {
    count / 2
}

/// Services of this many.
pub(crate) fn entries(count: usize) -> impl Iterator<Item = (usize, Entry)> {
    (0..count).map(move |number| (number, entry(number, count)))
}

/// Input of `iptables-restore`: each Service has a rule in one list, a chain of its own, and one for its endpoint.
pub(crate) fn iptables(count: usize) -> String {
    let mut text = String::from(
        "*filter\n:KUBE-EXTERNAL-SERVICES - [0:0]\n:KUBE-FORWARD - [0:0]\n:KUBE-NODEPORTS - [0:0]\n\
         :KUBE-PROXY-FIREWALL - [0:0]\n:KUBE-SERVICES - [0:0]\n\
         -A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL\n-A INPUT -j KUBE-NODEPORTS\n\
         -A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES\n\
         -A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL\n-A FORWARD -j KUBE-FORWARD\n\
         -A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES\n\
         -A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES\n\
         -A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL\n\
         -A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES\n\
         -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
         -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n\
         -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n\
         *nat\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-SERVICES - [0:0]\n",
    );
    for (number, _) in entries(count) {
        let _ = write!(text, ":KUBE-SVC-{number:016} - [0:0]\n:KUBE-SEP-{number:016} - [0:0]\n");
    }
    text.push_str(
        "-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n-A POSTROUTING -j KUBE-POSTROUTING\n\
         -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n\
         -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n\
         -A KUBE-POSTROUTING -j MASQUERADE --random-fully\n",
    );
    for (number, Entry { vip, backend }) in entries(count) {
        let (svc, sep) = (format!("KUBE-SVC-{number:016}"), format!("KUBE-SEP-{number:016}"));
        let comment = format!("-m comment --comment \"bench/service-{number}\"");
        let to = format!("-d {vip}/32 -p tcp -m tcp --dport {PORT}");
        let _ = write!(
            text,
            "-A KUBE-SERVICES {comment} {to} -j {svc}\n\
             -A {svc} {comment} {to} ! -s {PODS} -j KUBE-MARK-MASQ\n-A {svc} {comment} -j {sep}\n\
             -A {sep} {comment} -s {backend}/32 -j KUBE-MARK-MASQ\n\
             -A {sep} {comment} -m tcp -p tcp -j DNAT --to-destination {backend}:{PORT}\n"
        );
    }
    text.push_str("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n");
    text
}

/// Input of `nft -f`: one map from addresses to chains, and a chain for each Service.
pub(crate) fn nftables(count: usize) -> String {
    let mut text = String::from("table ip kube-proxy {\n");
    for (name, kind, hook, priority) in [
        ("filter-prerouting-pre-dnat", "filter", "prerouting", "dstnat - 10"),
        ("filter-output-pre-dnat", "filter", "output", "-110"),
        ("filter-input", "filter", "input", "0"),
        ("filter-forward", "filter", "forward", "0"),
        ("filter-output", "filter", "output", "0"),
        ("nat-prerouting", "nat", "prerouting", "dstnat"),
        ("nat-output", "nat", "output", "-100"),
        ("nat-postrouting", "nat", "postrouting", "srcnat"),
    ] {
        let jumps: &[&str] = match name {
            "filter-prerouting-pre-dnat" | "filter-output-pre-dnat" => &["ct state new jump firewall-check"],
            "filter-input" => {
                &["ct state new jump nodeport-endpoints-check", "ct state new jump service-endpoints-check"]
            }
            "filter-forward" | "filter-output" => {
                &["ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"]
            }
            "nat-postrouting" => &["jump masquerading"],
            _ => &["jump services"],
        };
        let _ = write!(
            text,
            "chain {name} {{\ntype {kind} hook {hook} priority {priority};\n{}\n}}\n",
            jumps.join("\n")
        );
    }
    let key = "ip daddr . meta l4proto . th dport";
    let _ = write!(
        text,
        "set cluster-ips {{ type ipv4_addr; }}\n\
         set hairpin-connections {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; }}\n\
         map no-endpoint-services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}\n\
         map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict; }}\n\
         map firewall-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}\n\
         map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}\n\
         map service-nodeports {{ type inet_proto . inet_service : verdict; }}\n\
         chain firewall-check {{ {key} vmap @firewall-ips; }}\n\
         chain service-endpoints-check {{ {key} vmap @no-endpoint-services; }}\n\
         chain nodeport-endpoints-check {{ fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @no-endpoint-nodeports; }}\n\
         chain cluster-ips-check {{\nip daddr @cluster-ips reject\nip daddr {{ {CLUSTER_IPS} }} drop\n}}\n\
         chain masquerading {{\nmark and 0x4000 != 0 mark set mark xor 0x4000 masquerade fully-random\n\
         ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random\n}}\n\
         chain services {{\nip daddr @cluster-ips ip saddr != {PODS} mark set mark or 0x4000\n{key} vmap @service-ips\n\
         fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports\n}}\n"
    );
    for (number, Entry { backend, .. }) in entries(count) {
        let _ = writeln!(
            text,
            "chain service-{number} {{ meta l4proto tcp dnat ip addr . port to numgen random mod 1 map {{ 0 : {backend} . {PORT} }}; }}"
        );
    }
    text.push_str("}\n");
    let list = |write: &dyn Fn(usize, Entry) -> String| {
        entries(count).map(|(number, entry)| write(number, entry)).collect::<Vec<_>>().join(",\n")
    };
    let _ = write!(
        text,
        "add element ip kube-proxy cluster-ips {{ {} }}\nadd element ip kube-proxy hairpin-connections {{ {} }}\n\
         add element ip kube-proxy service-ips {{ {} }}\n",
        list(&|_, entry| entry.vip.to_string()),
        // An endpoint appears once however many Services lead to it; which ones do is known from `entry`.
        entries(count)
            .filter(|(number, entry)| entry.backend != SERVER || *number == measured(count))
            .map(|(_, Entry { backend, .. })| format!("{backend} . {backend} . tcp . {PORT}"))
            .collect::<Vec<_>>()
            .join(",\n"),
        list(&|number, entry| format!("{} . tcp . {PORT} : goto service-{number}", entry.vip)),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn services_have_addresses_of_their_own_within_their_networks() {
        for count in [1, 100, 30_000] {
            let vips: BTreeSet<Ipv4Addr> = entries(count).map(|(_, entry)| entry.vip).collect();
            assert_eq!(vips.len(), count);
            assert!(vips.iter().all(|vip| vip.octets()[..2] == [10, 96]));
            let served = entries(count).filter(|(_, entry)| entry.backend == SERVER).count();
            assert_eq!(served, count.min(2), "{count}");
            assert_eq!(entry(measured(count), count).backend, SERVER);
            assert!(entries(count).all(|(_, entry)| entry.backend.octets()[..2] == [10, 244]));
        }
    }

    #[test]
    fn every_service_has_its_rules_once() {
        for count in [1, 7] {
            let text = iptables(count);
            let with = |what: &str| text.lines().filter(|line| line.contains(what)).count();
            assert_eq!(with("-A KUBE-SERVICES -m comment"), count);
            assert_eq!(with("DNAT --to-destination"), count);
            assert_eq!(with("COMMIT"), 2);
            let text = nftables(count);
            let with = |what: &str| text.matches(what).count();
            assert_eq!(with("goto service-"), count);
            assert_eq!(with("dnat ip addr . port to"), count);
            assert_eq!(with(&format!("{SERVER} . {SERVER}")), 1);
        }
    }

    #[test]
    fn the_measured_service_stands_in_the_middle_of_the_list() {
        let text = iptables(100);
        let list: Vec<&str> =
            text.lines().filter(|line| line.starts_with("-A KUBE-SERVICES -m comment")).collect();
        let at = list.iter().position(|line| line.contains(&entry(50, 100).vip.to_string()));
        assert_eq!(at, Some(50));
    }
}
