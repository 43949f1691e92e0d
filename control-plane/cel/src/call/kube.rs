//! The libraries of Kubernetes: quantities, URLs, addresses, versions, named formats.

use std::net::IpAddr;
use std::sync::Arc;

use skep_api::quantity::{Quantity, QuantityFormat};

use super::arith::text;
use super::convert::texts;
use super::{Native, named, room};
use crate::value::net::{self, Cidr};
use crate::value::semver::Semver;
use crate::value::url::{self, Url};
use crate::value::{Entries, Failure, Key, Map, Outcome, Value};

pub(super) fn find(function: &str) -> Option<Native> {
    quantities(function)
        .or_else(|| urls(function))
        .or_else(|| addresses(function))
        .or_else(|| formats(function))
}

fn quantities(function: &str) -> Option<Native> {
    Some(match function {
        "quantity" => |_, args| {
            let parsed = Quantity::parse(only(args)?);
            parsed.map(Value::Quantity).map_err(|why| Failure::new(why.to_string()))
        },
        "isQuantity" => |_, args| Ok(Value::Bool(Quantity::parse(only(args)?).is_ok())),
        "sign" => |_, args| on_quantity(args, |quantity| Ok(Value::Int(quantity.sign().into()))),
        "asApproximateFloat" => |_, args| on_quantity(args, |quantity| Ok(Value::Double(quantity.as_f64()))),
        "isInteger" => |_, args| on_quantity(args, |quantity| Ok(Value::Bool(whole(quantity).is_some()))),
        "asInteger" => |_, args| {
            on_quantity(args, |quantity| {
                whole(quantity).map(Value::Int).ok_or_else(|| Failure::new("cannot convert value to integer"))
            })
        },
        "add" => |_, args| sum(args, Quantity::add),
        "sub" => |_, args| sum(args, Quantity::sub),
        "isGreaterThan" => |_, args| compare(args).map(|order| Value::Bool(order.is_gt())),
        "isLessThan" => |_, args| compare(args).map(|order| Value::Bool(order.is_lt())),
        "compareTo" => |_, args| compare(args).map(|order| Value::Int(order as i64)),
        "semver" => |_, args| {
            let (text, normalize) = version(args)?;
            Semver::parse(text, normalize).map(|found| Value::Semver(Arc::new(found))).map_err(Failure::new)
        },
        "isSemver" => |_, args| {
            let (text, normalize) = version(args)?;
            Ok(Value::Bool(Semver::parse(text, normalize).is_ok()))
        },
        "major" => |_, args| on_version(args, 0),
        "minor" => |_, args| on_version(args, 1),
        "patch" => |_, args| on_version(args, 2),
        _ => return None,
    })
}

fn only<'a>(args: &'a [Value<'_>]) -> Outcome<&'a str> {
    match args {
        [value] => text(value),
        _ => Err(Failure::overload()),
    }
}

fn on_quantity<'v>(
    args: &[Value<'v>],
    run: impl FnOnce(&Quantity) -> Outcome<Value<'v>>,
) -> Outcome<Value<'v>> {
    match args {
        [Value::Quantity(quantity)] => run(quantity),
        _ => Err(Failure::overload()),
    }
}

/// A quantity as the whole number it is.
fn whole(quantity: &Quantity) -> Option<i64> {
    let value = quantity.value();
    (Quantity::new(value, quantity.format()) == *quantity).then_some(value)
}

fn sum<'v>(args: &[Value<'v>], run: impl FnOnce(&Quantity, &Quantity) -> Quantity) -> Outcome<Value<'v>> {
    match args {
        [Value::Quantity(a), Value::Quantity(b)] => Ok(Value::Quantity(run(a, b))),
        [Value::Quantity(a), Value::Int(b)] => {
            Ok(Value::Quantity(run(a, &Quantity::new(*b, QuantityFormat::DecimalExponent))))
        }
        _ => Err(Failure::overload()),
    }
}

fn compare(args: &[Value<'_>]) -> Outcome<std::cmp::Ordering> {
    match args {
        [Value::Quantity(a), Value::Quantity(b)] => Ok(a.cmp(b)),
        [Value::Semver(a), Value::Semver(b)] => Ok(a.order(b)),
        _ => Err(Failure::overload()),
    }
}

fn version<'a>(args: &'a [Value<'_>]) -> Outcome<(&'a str, bool)> {
    match args {
        [value] => Ok((text(value)?, false)),
        [value, Value::Bool(normalize)] => Ok((text(value)?, *normalize)),
        _ => Err(Failure::overload()),
    }
}

fn on_version<'v>(args: &[Value<'v>], part: usize) -> Outcome<Value<'v>> {
    match args {
        [Value::Semver(version)] => {
            Ok(Value::Int(version.numbers.get(part).map_or(0, |number| *number as i64)))
        }
        _ => Err(Failure::overload()),
    }
}

fn urls(function: &str) -> Option<Native> {
    Some(match function {
        "url" => |meter, args| {
            let text = only(args)?;
            room(meter, text.len() * 4)?;
            url::parse(text)
                .map(|url| Value::Url(Arc::new(url)))
                .map_err(|why| Failure::new(format!("URL parse error during conversion from string: {why}")))
        },
        "isURL" => |meter, args| {
            let text = only(args)?;
            room(meter, text.len() * 4)?;
            Ok(Value::Bool(url::check(text).is_ok()))
        },
        "getScheme" => |_, args| on_url(args, |url| &url.scheme),
        "getHost" => |_, args| on_url(args, |url| &url.host),
        "getHostname" => |_, args| on_url(args, |url| &url.hostname),
        "getPort" => |_, args| on_url(args, |url| &url.port),
        "getEscapedPath" => |_, args| on_url(args, |url| &url.path),
        "getQuery" => |_, args| {
            let [Value::Url(url)] = args else { return Err(Failure::overload()) };
            let entry = |(name, values): &(String, Vec<String>)| {
                let value = (Value::text(name.as_str()), texts(values.iter().cloned()));
                (Key::Text(name.as_str().into()), value)
            };
            let entries: Entries<'_> = url.query.iter().map(entry).collect();
            Ok(Value::Map(Map::Made(Arc::new(entries))))
        },
        _ => return None,
    })
}

fn on_url<'v>(args: &[Value<'v>], read: impl FnOnce(&Url) -> &String) -> Outcome<Value<'v>> {
    match args {
        [Value::Url(url)] => Ok(Value::text(read(url).as_str())),
        _ => Err(Failure::overload()),
    }
}

fn addresses(function: &str) -> Option<Native> {
    Some(match function {
        "ip" => |_, args| match args {
            [Value::Cidr(cidr)] => Ok(Value::Ip(cidr.address)),
            args => net::parse_ip(only(args)?).map(Value::Ip).map_err(Failure::new),
        },
        "isIP" => |_, args| Ok(Value::Bool(net::parse_ip(only(args)?).is_ok())),
        "ip.isCanonical" => |_, args| {
            let text = only(args)?;
            let address = net::parse_ip(text).map_err(Failure::new)?;
            Ok(Value::Bool(address.to_string() == text))
        },
        "family" => |_, args| on_ip(args, |address| Value::Int(if address.is_ipv4() { 4 } else { 6 })),
        "isUnspecified" => |_, args| on_ip(args, |address| Value::Bool(address.is_unspecified())),
        "isLoopback" => |_, args| on_ip(args, |address| Value::Bool(address.is_loopback())),
        "isLinkLocalMulticast" => {
            |_, args| on_ip(args, |address| Value::Bool(net::link_local_multicast(address)))
        }
        "isLinkLocalUnicast" => {
            |_, args| on_ip(args, |address| Value::Bool(net::link_local_unicast(address)))
        }
        "isGlobalUnicast" => |_, args| on_ip(args, |address| Value::Bool(net::global_unicast(address))),
        "cidr" => |_, args| parsed_cidr(only(args)?).map(Value::Cidr),
        "isCIDR" => |_, args| Ok(Value::Bool(net::parse_cidr(only(args)?).is_ok())),
        "prefixLength" => |_, args| match args {
            [Value::Cidr(cidr)] => Ok(Value::Int(cidr.bits.into())),
            _ => Err(Failure::overload()),
        },
        "masked" => |_, args| match args {
            [Value::Cidr(cidr)] => Ok(Value::Cidr(cidr.masked())),
            _ => Err(Failure::overload()),
        },
        "containsIP" => |_, args| match args {
            [Value::Cidr(cidr), Value::Ip(address)] => Ok(Value::Bool(cidr.contains(*address))),
            [Value::Cidr(cidr), other] => {
                let address = net::parse_ip(text(other)?).map_err(Failure::new)?;
                Ok(Value::Bool(cidr.contains(address)))
            }
            _ => Err(Failure::overload()),
        },
        "containsCIDR" => |_, args| match args {
            [Value::Cidr(cidr), Value::Cidr(other)] => Ok(Value::Bool(cidr.covers(other))),
            [Value::Cidr(cidr), other] => Ok(Value::Bool(cidr.covers(&parsed_cidr(text(other)?)?))),
            _ => Err(Failure::overload()),
        },
        _ => return None,
    })
}

fn parsed_cidr(text: &str) -> Outcome<Cidr> {
    net::parse_cidr(text).map_err(|why| {
        Failure::new(format!("network address parse error during conversion from string: {why}"))
    })
}

fn on_ip<'v>(args: &[Value<'v>], run: impl FnOnce(IpAddr) -> Value<'v>) -> Outcome<Value<'v>> {
    match args {
        [Value::Ip(address)] => Ok(run(*address)),
        _ => Err(Failure::overload()),
    }
}

fn formats(function: &str) -> Option<Native> {
    macro_rules! constant {
        ($($name:literal),*) => {
            match function {
                $(concat!("format.", $name) => {
                    let native: Native = |_, _| match named::find($name) {
                        Some(format) => Ok(Value::Format(format)),
                        None => Err(Failure::overload()),
                    };
                    return Some(native);
                })*
                _ => {}
            }
        };
    }
    constant!(
        "dns1123Label",
        "dns1123Subdomain",
        "dns1035Label",
        "qualifiedName",
        "dns1123LabelPrefix",
        "dns1123SubdomainPrefix",
        "dns1035LabelPrefix",
        "labelValue",
        "uri",
        "uuid",
        "byte",
        "date",
        "datetime"
    );
    Some(match function {
        "format.named" => |_, args| {
            let found = named::find(only(args)?).map(|format| Arc::new(Value::Format(format)));
            Ok(Value::Optional(found))
        },
        "validate" => |meter, args| match args {
            [Value::Format(format), value] => {
                let text = text(value)?;
                meter.spend(text.len() as u64)?;
                let wrong = (format.check)(text);
                Ok(Value::Optional((!wrong.is_empty()).then(|| Arc::new(texts(wrong)))))
            }
            _ => Err(Failure::overload()),
        },
        _ => return None,
    })
}
