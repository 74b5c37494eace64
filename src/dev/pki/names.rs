//! Which names a role allows, with Vault's own understanding of wildcards, globs and addresses with an `@`.

use super::roles::{CnValidation, Role};

/// A name with a wildcard in it, taken apart.
struct Wildcard<'a> {
    label: &'a str,
    /// What comes after the label; empty when there is nothing.
    rest: &'a str,
}

impl<'a> Wildcard<'a> {
    /// `None` when there is more than one wildcard, or one that is not in the first label.
    fn of(name: &'a str) -> Option<Self> {
        if name.matches('*').count() > 1 {
            return None;
        }
        let (label, rest) = name.split_once('.').unwrap_or((name, ""));
        (!rest.contains('*')).then_some(Self { label, rest })
    }
}

impl Role {
    /// Whether the role allows a common name.
    pub(super) fn allows_common_name(&self, name: &str) -> bool {
        let validations = &self.cn_validations;
        if validations.as_slice() == [CnValidation::Disabled] {
            return true;
        }
        let kind = if name.contains('@') { CnValidation::Email } else { CnValidation::Hostname };
        self.allows_name(name) && (validations.is_empty() || validations.contains(&kind))
    }

    /// Whether the role allows a host name or an address with an `@`.
    pub(super) fn allows_name(&self, name: &str) -> bool {
        let mut parts = name.split('@');
        let (is_email, host) = match (parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(host), None) => (true, host),
            (_, None, _) => (false, name),
            _ => return false,
        };
        let wildcard = if host.contains('*') {
            if !self.allow_wildcard_certificates || is_email {
                return false;
            }
            let Some(wildcard) = Wildcard::of(host) else { return false };
            Some(wildcard)
        } else {
            None
        };
        let reduced = wildcard.as_ref().map_or(host, |wildcard| wildcard.rest);
        if self.enforce_hostnames {
            let fits = reduced.is_empty() || is_dns(reduced) && is_hostname(reduced);
            if !fits || wildcard.as_ref().is_some_and(|wildcard| !is_wild_label(wildcard.label)) {
                return false;
            }
        }
        self.allow_any_name
            || self.is_local(reduced)
            || self.is_in_domain(name, reduced, host, is_email, wildcard.is_some())
    }

    fn is_local(&self, reduced: &str) -> bool {
        self.allow_localhost
            && ["localhost", "localdomain"]
                .iter()
                .any(|local| reduced == *local || self.allow_subdomains && is_below(reduced, local))
    }

    fn is_in_domain(&self, name: &str, reduced: &str, host: &str, is_email: bool, is_wildcard: bool) -> bool {
        self.allowed_domains.iter().any(|domain| {
            let same = |text: &str| text.eq_ignore_ascii_case(domain);
            self.allow_bare_domains && (same(name) || is_email && same(host))
                || self.allow_subdomains && (is_below(reduced, domain) || is_wildcard && same(reduced))
                || self.allow_glob_domains
                    && domain.contains('*')
                    && glob(&domain.to_lowercase(), &name.to_lowercase())
        })
    }
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether every label, and all together, have a length that DNS takes.
pub(super) fn is_dns(name: &str) -> bool {
    let whole = name.strip_suffix('.').unwrap_or(name);
    (1..=253).contains(&whole.len()) && whole.split('.').all(|label| (1..=63).contains(&label.len()))
}

/// Letters, digits and hyphens within labels; a whole `*` may come first.
pub(super) fn is_hostname(name: &str) -> bool {
    let name = name.strip_prefix("*.").unwrap_or(name);
    name.strip_suffix('.').unwrap_or(name).split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// `*`, `*x`, `x*` or `x*y`.
fn is_wild_label(label: &str) -> bool {
    label
        .split_once('*')
        .is_some_and(|(before, after)| [before, after].iter().all(|part| part.is_empty() || is_label(part)))
}

/// Whether a text fits a pattern in which `*` is anything.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_from_end_to_end() {
        for (pattern, text, fits) in [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "abcd", false),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("a*ba", "aba", true),
            ("ab*ba", "aba", false),
            ("a", "a", true),
            ("a", "ab", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        for name in ["a", "a.example.com", "*.example.com", "a-b.example.com.", "1.2"] {
            assert!(is_hostname(name) && is_dns(name), "{name}");
        }
        for name in ["", "-a", "a-.b", "a..b", "a b", "a_b", "a*.b", ".", "a\u{e9}"] {
            assert!(!is_hostname(name), "{name}");
        }
        assert!(!is_dns(&"a".repeat(64)) && !is_dns(&["a"; 128].join(".")) && !is_dns(""));
    }

    #[test]
    fn domains_allow_what_is_below_them_and_themselves_only_when_said() {
        let role = Role {
            allowed_domains: vec!["example.com".to_owned()],
            allow_subdomains: true,
            enforce_hostnames: true,
            cn_validations: vec![CnValidation::Email, CnValidation::Hostname],
            ..Role::default()
        };
        for (name, allowed) in [
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("example.com", false),
            ("badexample.com", false),
            ("example.com.evil.org", false),
            ("*.example.com", false),
            ("me@a.example.com", true),
            ("me@example.com", false),
            ("a@b@a.example.com", false),
            ("localhost", false),
            ("", false),
        ] {
            assert_eq!(role.allows_common_name(name), allowed, "{name}");
        }
        let role = Role { allow_wildcard_certificates: true, allow_bare_domains: true, ..role };
        for (name, allowed) in [
            ("example.com", true),
            ("EXAMPLE.com", true),
            ("*.example.com", true),
            ("*.a.example.com", true),
            ("a*.example.com", true),
            ("*.*.example.com", false),
            ("a.*.example.com", false),
            ("*", false),
        ] {
            assert_eq!(role.allows_common_name(name), allowed, "{name}");
        }
    }
}
