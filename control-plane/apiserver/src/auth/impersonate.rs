//! Acting as somebody else: the `Impersonate-*` headers (`kubectl --as`).

use crate::authz::{Rbac, forbidden};
use crate::request::{RequestInfo, UserInfo, decode};
use http::HeaderMap;
use skep_api::Status;
use std::collections::BTreeMap;

const EXTRA: &str = "impersonate-extra-";

/// Who is to be impersonated.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// Reads the headers; none where nobody is to be impersonated.
pub(super) fn wanted(headers: &HeaderMap) -> Result<Option<Wanted>, Status> {
    let mut wanted = Wanted::default();
    let mut any = false;
    for (name, value) in headers {
        let name = name.as_str();
        if !name.starts_with("impersonate-") {
            continue;
        }
        let text =
            value.to_str().map_err(|_| Status::bad_request(format!("header {name} is not text")))?.to_owned();
        any = true;
        match name {
            "impersonate-user" => wanted.user = text,
            "impersonate-uid" => wanted.uid = text,
            "impersonate-group" => wanted.groups.push(text),
            _ => match name.strip_prefix(EXTRA) {
                Some(key) => wanted.extra.entry(decode(key)).or_default().push(text),
                None => return Err(Status::bad_request(format!("header {name} is not known"))),
            },
        }
    }
    if any && wanted.user.is_empty() {
        return Err(Status::internal(
            "requested impersonation of groups, a uid or extra fields without impersonating a user",
        ));
    }
    Ok(any.then_some(wanted))
}

impl Wanted {
    /// The impersonated user, where `by` may impersonate each part of it.
    pub(super) fn become_by(self, by: &UserInfo, rbac: &Rbac) -> Result<UserInfo, Status> {
        let account = self.user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        match account {
            Some((namespace, name)) => check(by, rbac, "", "serviceaccounts", "", namespace, name)?,
            None => check(by, rbac, "", "users", "", "", &self.user)?,
        }
        for group in &self.groups {
            check(by, rbac, "", "groups", "", "", group)?;
        }
        const AUTHENTICATION: &str = "authentication.k8s.io";
        for (key, value) in self.extra.iter().flat_map(|(k, vs)| vs.iter().map(move |v| (k, v))) {
            check(by, rbac, AUTHENTICATION, "userextras", key, "", value)?;
        }
        if !self.uid.is_empty() {
            check(by, rbac, AUTHENTICATION, "uids", "", "", &self.uid)?;
        }
        let mut groups = self.groups;
        if let (Some((namespace, _)), true) = (account, groups.is_empty()) {
            groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
        }
        const SIDES: [&str; 2] = ["system:authenticated", "system:unauthenticated"];
        if self.user == "system:anonymous" {
            if !groups.iter().any(|g| g == SIDES[1]) {
                groups.push(SIDES[1].into());
            }
        } else if !groups.iter().any(|g| SIDES.contains(&g.as_str())) {
            groups.push(SIDES[0].into());
        }
        Ok(UserInfo { name: self.user, uid: self.uid, groups, extra: self.extra })
    }
}

fn check(
    by: &UserInfo,
    rbac: &Rbac,
    group: &str,
    resource: &str,
    subresource: &str,
    namespace: &str,
    name: &str,
) -> Result<(), Status> {
    let info = RequestInfo {
        verb: "impersonate".into(),
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: name.into(),
        is_resource: true,
        ..RequestInfo::default()
    };
    match rbac.decide(by, &(&info).into()) {
        Ok(_) => Ok(()),
        Err(why) => Err(forbidden(by, &info, &why)),
    }
}
