//! What a caller asks a certificate to be for, held against a role.

use std::net::IpAddr;

use chrono::{DateTime, SecondsFormat, Utc};

use super::{
    certificate::Names,
    issuers::Issuer,
    names::{is_dns, is_hostname},
    not_here,
    roles::Role,
};
use crate::dev::{
    duration,
    engine::Call,
    fields::Fields,
    wire::{Fault, time},
};

/// The names of a certificate, and how long it is good.
pub(super) struct Wanted {
    pub(super) common_name: String,
    pub(super) names: Names,
    pub(super) not_before: DateTime<Utc>,
    pub(super) not_after: DateTime<Utc>,
    pub(super) warnings: Vec<String>,
}

/// How a certificate that would outlive its issuer is met.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outliving {
    Refused,
    /// It ends with its issuer.
    Cut,
}

impl Wanted {
    /// Reads a request, in Vault's order of checks. `from_request` is the common name of a signing request.
    pub(super) fn read(
        call: &Call<'_>,
        role: &Role,
        issuer: Option<&Issuer>,
        outliving: Outliving,
        from_request: Option<&str>,
    ) -> Result<Self, Fault> {
        let fields = Fields(call.data);
        for name in ["other_sans", "uri_sans", "user_ids"] {
            if !fields.list(name)?.unwrap_or_default().is_empty() {
                return Err(not_here(name));
            }
        }
        for name in ["serial_number", "cert_metadata", "skid"] {
            if !fields.text_or_empty(name)?.is_empty() {
                return Err(not_here(name));
            }
        }
        let common_name = match from_request.filter(|name| !name.is_empty()) {
            Some(name) => name.to_owned(),
            None => fields.text_or_empty("common_name")?,
        };
        if common_name.is_empty() && role.require_cn {
            return Err(Fault::bad(
                "the common_name field is required, or must be provided in a CSR with \"use_csr_common_name\" set \
                 to true, unless \"require_cn\" is set to false",
            ));
        }
        let mut names = Names::default();
        if !common_name.is_empty() && !fields.bool("exclude_cn_from_sans")?.unwrap_or_default() {
            names.add(&common_name)?;
        }
        let mut more: Vec<String> = fields
            .text_or_empty("alt_names")?
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        more.sort_unstable();
        for name in more {
            names.add(&name)?;
        }
        if !common_name.is_empty() && !role.allows_common_name(&common_name) {
            return Err(Fault::bad(format!("common name {common_name} not allowed by this role")));
        }
        for (what, list) in [("subject alternate name", &names.dns), ("email address", &names.email)] {
            if let Some(other) = list.iter().find(|name| !role.allows_name(name)) {
                return Err(Fault::bad(format!("{what} {other} not allowed by this role")));
            }
        }
        names.sort();
        let addresses = fields.list("ip_sans")?.unwrap_or_default();
        if !addresses.is_empty() && !role.allow_ip_sans {
            let list = addresses.join(" ");
            return Err(Fault::bad(format!(
                "IP Subject Alternative Names are not allowed in this role, but was provided [{list}]"
            )));
        }
        for address in addresses {
            let parsed: IpAddr = address
                .parse()
                .map_err(|_| Fault::bad(format!("the value {address:?} is not a valid IP address")))?;
            names.ip.push(parsed.to_canonical());
        }
        let mut warnings = Vec::new();
        let not_after = end(call, role, issuer, outliving, &mut warnings)?;
        let before = if role.not_before_duration > 0 { role.not_before_duration } else { 30 };
        let not_before = duration::earlier(call.now, before);
        Ok(Self { common_name, names, not_before, not_after, warnings })
    }
}

impl Names {
    /// Adds a name where it belongs; what is neither an address with an `@` nor a host name is no name.
    fn add(&mut self, name: &str) -> Result<(), Fault> {
        if name.contains('@') {
            self.email.push(name.to_owned());
            return Ok(());
        }
        if !name.is_ascii() {
            return Err(not_here("names that are not ASCII; write them as xn--…"));
        }
        if !is_dns(name) {
            // An empty label is shown with all around it.
            let label = name.split('.').find(|label| label.len() > 63).unwrap_or(name);
            return Err(Fault::bad(format!("idna: invalid label {label:?}")));
        }
        if is_hostname(name) {
            self.dns.push(name.to_owned());
        }
        Ok(())
    }
}

/// When the certificate ends: as asked, within what role, mount and issuer allow.
fn end(
    call: &Call<'_>,
    role: &Role,
    issuer: Option<&Issuer>,
    outliving: Outliving,
    warnings: &mut Vec<String>,
) -> Result<DateTime<Utc>, Fault> {
    let fields = Fields(call.data);
    let asked = fields.seconds("ttl")?.unwrap_or_default();
    let fixed = match role.not_after.as_str() {
        "" => fields.text_or_empty("not_after")?,
        fixed => fixed.to_owned(),
    };
    if asked > 0 && !fixed.is_empty() {
        return Err(Fault::bad(
            "Either ttl or not_after should be provided. Both should not be provided in the same request.",
        ));
    }
    let or = |set: i64, usual: i64| if set == 0 { usual } else { set };
    let max = or(role.max_ttl, call.lease.max);
    let mut ttl = or(or(asked, role.ttl), call.lease.default);
    if ttl > max {
        let (long, short) = (duration::to_go(ttl), duration::to_go(max));
        warnings
            .push(format!("TTL {long:?} is longer than permitted maxTTL {short:?}, so maxTTL is being used"));
        ttl = max;
    }
    let end = match fixed.as_str() {
        "" => duration::later(call.now, ttl),
        fixed => DateTime::parse_from_rfc3339(fixed)
            .map_err(|_| {
                Fault::bad(format!(
                    "parsing time {fixed:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {fixed:?} as \"2006\""
                ))
            })?
            .with_timezone(&Utc),
    };
    let Some(last) = issuer.map(Issuer::not_after).filter(|last| end > *last) else { return Ok(end) };
    if outliving == Outliving::Cut {
        return Ok(last);
    }
    let last = last.to_rfc3339_opts(SecondsFormat::Secs, true);
    Err(Fault::bad(format!(
        "cannot satisfy request, as TTL would result in notAfter of {} that is beyond the expiration of the CA \
         certificate at {last}",
        time(end)
    )))
}
