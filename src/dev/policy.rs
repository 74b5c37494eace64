//! ACL policies: the rules of one policy, and what several of them together allow.
//!
//! Vault's documented order of precedence: an exact path beats any pattern; of the patterns the one whose
//! first wildcard comes last wins, then the one without `*` at its end, then fewer `+`, then the longer,
//! then the greater. Rules for the same path add up, but `deny` beats them. Templates (`{{identity…}}`),
//! parameter rules, wrapping limits, control groups and MFA are refused when the policy is written.

use std::collections::BTreeMap;

use serde_json::Value;

use super::wire::Op;

mod hcl;

pub(super) const CREATE: u16 = 1;
pub(super) const READ: u16 = 1 << 1;
pub(super) const UPDATE: u16 = 1 << 2;
pub(super) const DELETE: u16 = 1 << 3;
pub(super) const LIST: u16 = 1 << 4;
pub(super) const SUDO: u16 = 1 << 5;
pub(super) const PATCH: u16 = 1 << 6;
pub(super) const SUBSCRIBE: u16 = 1 << 7;
pub(super) const RECOVER: u16 = 1 << 8;
const DENY: u16 = 1 << 9;

/// One policy: its text as written and what it says.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) text: String,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Pattern,
    capabilities: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Pattern {
    Exact(String),
    Prefix(String),
    /// With `+` for whole segments; may end in `*`.
    Segments(String),
}

impl Policy {
    /// Reads a policy from HCL or JSON. The error is Vault's "failed to parse policy: …" or says what this
    /// server does not support.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fault = |text: String| format!("failed to parse policy: {text}");
        let mut rules = Vec::new();
        for block in hcl::parse(text).map_err(fault)? {
            rules.push(rule(&block).map_err(fault)?);
        }
        Ok(Self { text: text.to_owned(), rules })
    }
}

fn rule(block: &hcl::Block) -> Result<Rule, String> {
    let mut path = block.label.as_str();
    if path.contains("{{") {
        return Err(format!("path {path:?}: templated paths are not supported by the embedded dev Vault"));
    }
    path = path.strip_prefix('/').unwrap_or(path);
    if path.contains("+*") {
        return Err(format!("path {path:?}: invalid use of wildcards ('+*' is forbidden)"));
    }
    let mut names: Vec<&str> = Vec::new();
    for (key, value) in &block.attributes {
        match key.as_str() {
            "comment" | "subscribe_event_types" => {}
            "capabilities" => {
                let items =
                    value.as_array().ok_or_else(|| format!("path {path:?}: capabilities must be a list"))?;
                for item in items {
                    names.push(
                        item.as_str().ok_or_else(|| format!("path {path:?}: a capability must be text"))?,
                    );
                }
            }
            "policy" => names.extend(old_style(path, value)?),
            "allowed_parameters"
            | "denied_parameters"
            | "required_parameters"
            | "min_wrapping_ttl"
            | "max_wrapping_ttl"
            | "mfa_methods"
            | "control_group" => {
                return Err(format!("path {path:?}: {key} is not supported by the embedded dev Vault"));
            }
            other => return Err(format!("path {path:?}: invalid key {other:?}")),
        }
    }
    let mut capabilities = 0;
    for name in names {
        let bit = match name {
            "deny" => {
                capabilities = DENY;
                break;
            }
            "create" => CREATE,
            "read" => READ,
            "update" => UPDATE,
            "delete" => DELETE,
            "list" => LIST,
            "sudo" => SUDO,
            "patch" => PATCH,
            "subscribe" => SUBSCRIBE,
            "recover" => RECOVER,
            other => return Err(format!("path {path:?}: invalid capability {other:?}")),
        };
        capabilities |= bit;
    }
    let pattern = if path == "+" || path.contains("/+") || path.starts_with("+/") {
        Pattern::Segments(path.to_owned())
    } else if let Some(prefix) = path.strip_suffix('*') {
        Pattern::Prefix(prefix.to_owned())
    } else {
        Pattern::Exact(path.to_owned())
    };
    Ok(Rule { pattern, capabilities })
}

fn old_style(path: &str, value: &Value) -> Result<&'static [&'static str], String> {
    Ok(match value.as_str().unwrap_or_default() {
        "deny" => &["deny"],
        "read" => &["read", "list"],
        "write" => &["create", "read", "update", "delete", "list"],
        "sudo" => &["create", "read", "update", "delete", "list", "sudo"],
        other => return Err(format!("path {path:?}: invalid policy {other:?}")),
    })
}

/// What a token's policies together allow.
#[derive(Debug, Default)]
pub(super) struct Acl {
    root: bool,
    rules: BTreeMap<Pattern, u16>,
}

impl Acl {
    /// Everything, as the policy `root` gives it.
    pub(super) fn root() -> Self {
        Self { root: true, rules: BTreeMap::new() }
    }

    pub(super) fn of<'a>(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let mut rules: BTreeMap<Pattern, u16> = BTreeMap::new();
        for rule in policies.flat_map(|policy| &policy.rules) {
            let known = rules.entry(rule.pattern.clone()).or_default();
            *known = if (*known | rule.capabilities) & DENY != 0 { DENY } else { *known | rule.capabilities };
        }
        Self { root: false, rules }
    }

    /// Whether `op` on `path` is allowed; `sudo` when the path asks for it.
    pub(super) fn allows(&self, op: Op, path: &str, sudo: bool) -> bool {
        if self.root {
            return true;
        }
        let Some(capabilities) = self.capabilities_at(path, op == Op::List) else { return false };
        let wanted = match op {
            Op::Read => READ,
            Op::List => LIST,
            Op::Create => CREATE,
            Op::Update => UPDATE,
            Op::Delete => DELETE,
            Op::Patch => PATCH,
            Op::Other => return false,
        };
        capabilities & wanted != 0 && (!sudo || capabilities & SUDO != 0)
    }

    /// Whether the token has root or sudo on `path`.
    pub(super) fn is_sudo(&self, path: &str) -> bool {
        self.root || self.capabilities_at(path, true).is_some_and(|found| found & SUDO != 0)
    }

    /// The names of what is allowed on `path`, as `sys/capabilities` answers.
    pub(super) fn capabilities(&self, path: &str) -> Vec<&'static str> {
        if self.root {
            return vec!["root"];
        }
        let found = self.capabilities_at(path.trim_start_matches('/'), true).unwrap_or_default();
        let names: Vec<&str> = [
            (CREATE, "create"),
            (DELETE, "delete"),
            (LIST, "list"),
            (PATCH, "patch"),
            (READ, "read"),
            (RECOVER, "recover"),
            (SUBSCRIBE, "subscribe"),
            (SUDO, "sudo"),
            (UPDATE, "update"),
        ]
        .into_iter()
        .filter(|(bit, _)| found & bit != 0)
        .map(|(_, name)| name)
        .collect();
        if found & DENY != 0 || names.is_empty() { vec!["deny"] } else { names }
    }

    /// Whether anything at or below the mount at `path` is allowed.
    pub(super) fn sees_mount(&self, path: &str) -> bool {
        if self.capabilities(path) != ["deny"] {
            return true;
        }
        self.rules.iter().filter(|(_, capabilities)| **capabilities & !DENY != 0).any(|(pattern, _)| {
            match pattern {
                Pattern::Exact(known) | Pattern::Prefix(known) => known.starts_with(path),
                Pattern::Segments(known) => {
                    let wanted = path.trim_end_matches('/').split('/');
                    let mut known = known.split('/');
                    wanted.into_iter().all(|part| {
                        known.next().is_some_and(|known| {
                            known == "+"
                                || known == part
                                || known.strip_suffix('*').is_some_and(|p| part.starts_with(p))
                        })
                    })
                }
            }
        })
    }

    fn capabilities_at(&self, path: &str, listing: bool) -> Option<u16> {
        let exact = |path: &str| self.rules.get(&Pattern::Exact(path.to_owned())).copied();
        let bare = path.strip_suffix('/').unwrap_or(path);
        if let Some(found) = exact(path) {
            return Some(found);
        }
        if listing {
            // A list may be granted with or without the slash, and patterns are tried without it first.
            if let Some(found) = exact(bare) {
                return Some(found);
            }
            if bare != path
                && let Some(found) = self.by_pattern(bare)
            {
                return Some(found);
            }
        }
        self.by_pattern(path)
    }

    fn by_pattern(&self, path: &str) -> Option<u16> {
        let matching = self.rules.iter().filter_map(|(pattern, capabilities)| {
            let rank = match pattern {
                Pattern::Exact(_) => return None,
                Pattern::Prefix(prefix) => path.starts_with(prefix.as_str()).then(|| Rank {
                    first_wildcard: prefix.len(),
                    whole: false,
                    fewer_segments: usize::MAX,
                    length: prefix.len(),
                    text: prefix,
                }),
                Pattern::Segments(known) => segments(known, path),
            }?;
            Some((rank, *capabilities))
        });
        matching.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, capabilities)| capabilities)
    }
}

/// How specific a match is; the greatest wins.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'a> {
    first_wildcard: usize,
    whole: bool,
    fewer_segments: usize,
    length: usize,
    text: &'a str,
}

fn segments<'a>(known: &'a str, path: &str) -> Option<Rank<'a>> {
    let (text, prefix) = match known.strip_suffix('*') {
        Some(text) => (text, true),
        None => (known, false),
    };
    let wanted: Vec<&str> = path.split('/').collect();
    let parts: Vec<&str> = text.split('/').collect();
    if wanted.len() < parts.len() || (!prefix && wanted.len() != parts.len()) {
        return None;
    }
    let last = parts.len() - 1;
    let mut wildcards = 0;
    for (index, (part, wanted)) in parts.iter().zip(&wanted).enumerate() {
        if *part == "+" {
            wildcards += 1;
        } else if part != wanted && !(prefix && index == last && wanted.starts_with(part)) {
            return None;
        }
    }
    Some(Rank {
        first_wildcard: known.find('+').unwrap_or_default(),
        whole: !prefix,
        fewer_segments: usize::MAX - wildcards,
        length: text.len(),
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(texts: &[&str]) -> Acl {
        let policies: Vec<Policy> = texts.iter().map(|text| Policy::parse(text).unwrap()).collect();
        Acl::of(policies.iter())
    }

    #[test]
    fn the_most_specific_rule_decides() {
        let acl = acl(&[r#"
            path "secret/*" { capabilities = ["read"] }
            path "secret/data/team/*" { capabilities = ["read", "update"] }
            path "secret/data/team/private" { capabilities = ["deny"] }
            path "secret/data/+/shared" { capabilities = ["list"] }
            path "secret/data/+/+" { capabilities = ["delete"] }
            path "secret/data/+/b*" { capabilities = ["create"] }
        "#]);
        assert!(acl.allows(Op::Read, "secret/metadata/x", false));
        assert!(acl.allows(Op::Update, "secret/data/team/app", false));
        assert!(!acl.allows(Op::Read, "secret/data/team/private", false));
        assert_eq!(acl.capabilities("secret/data/ops/shared"), ["list"]);
        assert_eq!(acl.capabilities("secret/data/ops/other"), ["delete"]);
        // Without `*` at the end beats with, whatever the length.
        assert_eq!(acl.capabilities("secret/data/ops/bigger"), ["delete"]);
        assert_eq!(acl.capabilities("secret/data/team/shared"), ["read", "update"]);
        assert_eq!(acl.capabilities("other"), ["deny"]);
    }

    #[test]
    fn rules_of_several_policies_add_up_and_deny_wins() {
        let read = r#"path "a" { capabilities = ["read"] }"#;
        let write = r#"path "/a" { capabilities = ["create", "update"] }"#;
        let deny = r#"path "a" { capabilities = ["read", "deny"] }"#;
        assert_eq!(acl(&[read, write]).capabilities("a"), ["create", "read", "update"]);
        assert_eq!(acl(&[read, deny, write]).capabilities("a"), ["deny"]);
    }

    #[test]
    fn a_list_is_granted_with_or_without_the_slash() {
        let with = acl(&[r#"path "kv/metadata/app/" { capabilities = ["list"] }"#]);
        let without = acl(&[r#"path "kv/metadata/app" { capabilities = ["list"] }"#]);
        assert!(with.allows(Op::List, "kv/metadata/app/", false));
        assert!(without.allows(Op::List, "kv/metadata/app/", false));
        assert!(!with.allows(Op::List, "kv/metadata/app2/", false));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for text in [
            r#"path "a/{{identity.entity.id}}" { capabilities = ["read"] }"#,
            r#"path "a" { capabilities = ["read"] denied_parameters = { "x" = [] } }"#,
        ] {
            assert!(
                Policy::parse(text).unwrap_err().contains("not supported by the embedded dev Vault"),
                "{text}"
            );
        }
        for text in [
            r#"path "a" { capabilities = ["fly"] }"#,
            r#"path "a" { capability = ["read"] }"#,
            r#"path "a+*" { capabilities = ["read"] }"#,
            r#"path "a" { capabilities = ["read"]"#,
            r#"other "a" { }"#,
            "path {",
        ] {
            assert!(Policy::parse(text).unwrap_err().starts_with("failed to parse policy: "), "{text}");
        }
    }

    #[test]
    fn json_says_the_same_as_hcl() {
        let acl = acl(&[r#"{"path": {"a/*": {"capabilities": ["read"]}, "b": {"policy": "write"}}}"#]);
        assert_eq!(acl.capabilities("a/b"), ["read"]);
        assert_eq!(acl.capabilities("b"), ["create", "delete", "list", "read", "update"]);
    }

    #[test]
    fn a_mount_is_seen_by_whoever_may_do_anything_below_it() {
        let acl = acl(&[r#"
            path "kv/data/app/*" { capabilities = ["read"] }
            path "other/x" { capabilities = ["deny"] }
            path "+/config" { capabilities = ["read"] }
        "#]);
        assert!(acl.sees_mount("kv/"));
        assert!(acl.sees_mount("any/"));
        assert!(!Acl::default().sees_mount("kv/"));
    }
}
