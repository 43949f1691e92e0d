//! ServiceCIDRs and IPAddresses: the ranges that addresses of Services come from, and who holds one (KEP-1880).

use super::columns::{age, name};
use crate::field::FieldError;
use crate::names::{dns1123_subdomain, path_segment};
use crate::resource::{Column, Context, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, IMMUTABLE, text};
use serde_json::Value;
use std::net::IpAddr;

/// ServiceCIDRs.
#[derive(Debug, Default)]
pub struct ServiceCidr;

/// Most ranges of one object: one a family.
const RANGES_MAX: usize = 2;

fn is_v4(cidr: &str) -> Option<bool> {
    let (address, _) = cidr.split_once('/')?;
    address.parse::<IpAddr>().ok().map(|address| address.is_ipv4())
}

fn ranges(errors: &mut Errors, spec: &At<'_, '_>) {
    let cidrs = spec.get("cidrs");
    if cidrs.is_empty() {
        return errors.required(&cidrs, "at least one CIDR required");
    }
    if cidrs.len() > RANGES_MAX {
        let why = "may only hold up to 2 values";
        return errors.push(FieldError::invalid(cidrs.path(), spec.json(), why));
    }
    cidrs.items().for_each(|cidr| errors.text(&cidr, text::cidr(cidr.text())));
    let families: Vec<_> = cidrs.texts().map(is_v4).collect();
    if matches!(families[..], [Some(a), Some(b)] if a == b) {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&cidrs, why);
    }
}

impl Strategy for ServiceCidr {
    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        ranges(&mut errors, &At::root(object).get("spec"));
        errors.done()
    }

    /// A range stays; one of the other family may come.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new, old) = (At::root(new), At::root(old));
        let (spec, old) = (new.get("spec"), old.get("spec"));
        let (cidrs, old) = (spec.get("cidrs"), old.get("cidrs"));
        if cidrs.len() != old.len() && (old.len(), cidrs.len()) != (1, 2) {
            errors.invalid(&cidrs, IMMUTABLE);
            return errors.done();
        }
        for (is, _) in cidrs.items().zip(old.texts()).filter(|(is, was)| is.text() != *was) {
            errors.invalid(&is, IMMUTABLE);
        }
        if cidrs.len() != old.len() {
            ranges(&mut errors, &spec);
        }
        errors.done()
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), column("CIDRs", "string", "The ranges, one a family."), age()]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let cidrs = root.get("spec").get("cidrs").texts().collect::<Vec<_>>().join(",");
        vec![table::name(object), cidrs.into(), table::age(object, now)]
    }
}

/// IPAddresses.
#[derive(Debug, Default)]
pub struct IpAddress;

impl Strategy for IpAddress {
    fn prepare_create(&self, _object: &mut Value, _context: &Context<'_>) {}

    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    /// The address, as it is always written.
    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        let errors = text::ip(name);
        match name.parse::<IpAddr>() {
            Ok(address) if errors.is_empty() && address.to_string() != name => {
                vec![format!("must be in canonical form (\"{address}\")")]
            }
            _ => errors,
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        let parent = spec.get("parentRef");
        if !parent.present() {
            errors.required(&parent, "");
            return errors.done();
        }
        errors.optional_text(&parent.get("group"), |group| dns1123_subdomain(group, false));
        errors.required_text(&parent.get("resource"), |text| path_segment(text, false));
        errors.required_text(&parent.get("name"), |text| path_segment(text, false));
        errors.optional_text(&parent.get("namespace"), |text| path_segment(text, false));
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new, old) = (At::root(new), At::root(old));
        errors.immutable(&new.get("spec").get("parentRef"), &old.get("spec").get("parentRef"));
        errors.done()
    }

    /// Upstream says the age of an address without a column for it, so that clients do not show it.
    fn columns(&self) -> Vec<Column> {
        vec![name(), column("ParentRef", "string", "Who holds the address."), age()]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let spec = root.get("spec");
        let parent = spec.get("parentRef");
        let part = |field: &'static str| parent.get(field).text();
        let shown = if parent.present() {
            let dot = if part("group").is_empty() { "" } else { "." };
            let resource = format!("{}{dot}{}", part("resource"), part("group")).to_lowercase();
            let slash = if part("namespace").is_empty() { "" } else { "/" };
            format!("{resource}{slash}{}/{}", part("namespace"), part("name"))
        } else {
            "<none>".into()
        };
        vec![table::name(object), shown.into(), table::age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{now, shown};
    use serde_json::json;

    fn range(cidrs: &[&str]) -> Value {
        json!({"metadata": {"name": "a"}, "spec": {"cidrs": cidrs}})
    }

    #[test]
    fn ranges_are_checked_when_made_and_may_then_only_gain_a_family() {
        for (cidrs, wrong) in [
            (&["10.0.0.0/16"][..], ""),
            (&["10.0.0.0/16", "2001:db8::/112"], ""),
            (&[], "spec.cidrs: Required value: at least one CIDR required"),
            (
                &["10.0.0.1/16"],
                "spec.cidrs[0]: Invalid value: \"10.0.0.1/16\": must not have bits set beyond the prefix length",
            ),
        ] {
            assert_eq!(shown(&ServiceCidr.validate_create(&range(cidrs))), wrong);
        }
        let twice = ServiceCidr.validate_create(&range(&["10.0.0.0/16", "10.1.0.0/16"]));
        assert!(shown(&twice).contains("no more than one IP for each IP family"), "{twice:?}");
        let update =
            |new: &[&str], old: &[&str]| shown(&ServiceCidr.validate_update(&range(new), &range(old)));
        assert_eq!(update(&["10.0.0.0/16"], &["10.0.0.0/16"]), "");
        assert_eq!(update(&["10.0.0.0/16", "2001:db8::/112"], &["10.0.0.0/16"]), "");
        assert_eq!(
            update(&["10.1.0.0/16"], &["10.0.0.0/16"]),
            "spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable"
        );
        assert!(!update(&["10.0.0.0/16"], &["10.0.0.0/16", "2001:db8::/112"]).is_empty());
    }

    #[test]
    fn an_address_is_named_by_itself_and_belongs_to_one() {
        assert!(IpAddress.validate_name("255.255.255.255", false).is_empty());
        assert!(IpAddress.validate_name("fe80::42:1dff:fe84:f9e2", false).is_empty());
        for bad in ["a", "010.0.0.1", "2001:db8:0:0::1", "2001:DB8::1"] {
            assert!(!IpAddress.validate_name(bad, false).is_empty(), "{bad}");
        }
        let parent = json!({"group": "", "resource": "services", "namespace": "n", "name": "s"});
        let object = json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": parent}});
        assert_eq!(shown(&IpAddress.validate(&object)), "");
        assert_eq!(IpAddress.cells(&object, now())[1], "services/n/s");
        let none = json!({"metadata": {"name": "10.0.0.1"}, "spec": {}});
        assert_eq!(shown(&IpAddress.validate(&none)), "spec.parentRef: Required value");
        assert!(!IpAddress.validate_update(&none, &object).is_empty());
    }
}
