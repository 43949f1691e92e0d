//! The ranges that addresses of Services come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses of one family, such as `10.96.0.0/16` or `fd00:10:96::/108`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

/// Text is not a range that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// No range.
    #[error(
        "{0:?} is not a range such as 10.96.0.0/16, with a prefix of 8 to 28 bits, or fd00:10:96::/108, with one of 64 to 124"
    )]
    Range(String),
    /// More than one range of a family, or none at all.
    #[error("{0:?} are not one or two ranges, one a family, with a comma between them")]
    Families(String),
}

/// An address as a number, and how many bits it has.
fn number(ip: IpAddr) -> (u128, u32) {
    match ip {
        IpAddr::V4(ip) => (u32::from(ip).into(), 32),
        IpAddr::V6(ip) => (ip.into(), 128),
    }
}

impl std::str::FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parsed = || {
            let (ip, bits) = text.split_once('/')?;
            let (base, bits): (IpAddr, u8) = (ip.parse().ok()?, bits.parse().ok()?);
            let allowed = if base.is_ipv4() { 8..=28 } else { 64..=124 };
            if !allowed.contains(&bits) {
                return None;
            }
            let (value, width) = number(base);
            let own = (1u128 << (width - u32::from(bits))) - 1;
            (value & own == 0).then_some(Cidr { base, bits })
        };
        parsed().ok_or_else(|| CidrError::Range(text.to_owned()))
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl Cidr {
    /// How many addresses can be given out: all but the network's own and, where the family has one, the broadcast address.
    pub fn size(&self) -> u64 {
        let (_, width) = number(self.base);
        let all = 1u128 << (width - u32::from(self.bits));
        let reserved = if self.base.is_ipv4() { 2 } else { 1 };
        u64::try_from(all - reserved).unwrap_or(u64::MAX)
    }

    /// The `n`th address that can be given out, counting from 0.
    pub fn nth(&self, n: u64) -> IpAddr {
        let (base, _) = number(self.base);
        let ip = base + 1 + u128::from(n % self.size());
        match self.base {
            // It lies in the range, and so has no more bits than an address of the family.
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(ip as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(ip)),
        }
    }

    /// The first address: that of the `kubernetes` Service.
    pub fn first(&self) -> IpAddr {
        self.nth(0)
    }

    /// Whether an address can be given out.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ((base, _), (value, _)) = (number(self.base), number(ip));
        ip.is_ipv4() == self.base.is_ipv4() && value > base && value - base <= u128::from(self.size())
    }

    /// Its family as the API names it.
    pub fn family(&self) -> &'static str {
        family(self.base)
    }
}

/// The family of an address as the API names it.
pub(super) fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The ranges of a cluster: one, or one of each family, of which the first is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// The range of the default family.
    pub first: Cidr,
    /// The range of the other family, where the cluster has both.
    pub second: Option<Cidr>,
}

impl std::str::FromStr for Ranges {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let all = text.split(',').map(|range| range.trim().parse()).collect::<Result<Vec<Cidr>, _>>()?;
        match *all.as_slice() {
            [first] => Ok(Ranges { first, second: None }),
            [first, second] if first.family() != second.family() => {
                Ok(Ranges { first, second: Some(second) })
            }
            _ => Err(CidrError::Families(text.to_owned())),
        }
    }
}

impl Ranges {
    /// All of them, the default family's first.
    pub fn iter(&self) -> impl Iterator<Item = Cidr> + '_ {
        std::iter::once(self.first).chain(self.second)
    }

    /// The range of a family.
    pub(super) fn of(&self, family: &str) -> Option<Cidr> {
        self.iter().find(|range| range.family() == family)
    }
}
