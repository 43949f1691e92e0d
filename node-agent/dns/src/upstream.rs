//! Which other servers are asked, in which order.

use crate::access::own_addresses;
use crate::core::resolv;
use parking_lot::Mutex;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How often the file is looked at.
const FRESH: Duration = Duration::from_secs(5);

/// Where the servers are named.
#[derive(Clone, Debug)]
pub enum Named {
    /// On the command line.
    Here(Vec<SocketAddr>),
    /// In a `resolv.conf`.
    File(PathBuf),
}

struct Known {
    looked: Option<Instant>,
    modified: Option<SystemTime>,
    servers: Vec<SocketAddr>,
}

/// The other servers.
pub struct Upstreams {
    named: Named,
    listening: Vec<SocketAddr>,
    known: Mutex<Known>,
    /// The one that answered last.
    preferred: AtomicUsize,
}

impl Upstreams {
    /// The servers of a list or file, without ourselves.
    pub fn new(named: Named, listening: Vec<SocketAddr>) -> Self {
        let known = Mutex::new(Known { looked: None, modified: None, servers: Vec::new() });
        Upstreams { named, listening, known, preferred: AtomicUsize::new(0) }
    }

    /// The servers with their places in the list, the one that answered last first.
    pub fn in_order(&self) -> Vec<(usize, SocketAddr)> {
        let mut known = self.known.lock();
        if known.looked.is_none_or(|looked| looked.elapsed() > FRESH) {
            self.look(&mut known);
        }
        let mut servers: Vec<_> = known.servers.iter().copied().enumerate().collect();
        if !servers.is_empty() {
            let first = self.preferred.load(Ordering::Relaxed) % servers.len();
            servers.rotate_left(first);
        }
        servers
    }

    /// Notes which one answered.
    pub fn answered(&self, place: usize) {
        self.preferred.store(place, Ordering::Relaxed);
    }

    fn look(&self, known: &mut Known) {
        let first = known.looked.is_none();
        known.looked = Some(Instant::now());
        let named = match &self.named {
            Named::Here(servers) if first => servers.clone(),
            Named::Here(_) => return,
            Named::File(path) => {
                let modified = std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
                if modified == known.modified && !first {
                    return;
                }
                known.modified = modified;
                match std::fs::read_to_string(path) {
                    Ok(text) => resolv::servers(&text),
                    Err(error) => {
                        tracing::warn!(file = %path.display(), %error, "no other servers are known");
                        Vec::new()
                    }
                }
            }
        };
        let own: Vec<IpAddr> = own_addresses().into_iter().collect();
        let (others, selves): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|server| !resolv::is_self(*server, &self.listening, &own));
        for server in selves {
            tracing::warn!(%server, "this server itself is no server to ask");
        }
        if others.is_empty() {
            tracing::warn!("there is no other server to ask; names outside the cluster fail (--upstream)");
        } else {
            tracing::info!(?others, "names outside the cluster are asked of these");
        }
        self.preferred.store(0, Ordering::Relaxed);
        known.servers = others;
    }
}
