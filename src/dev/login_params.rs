//! What AppRole roles and userpass users say about the tokens of their logins.

use serde_json::json;

use super::{
    fields::Fields,
    wire::{Fault, Limits, Object},
};

/// The `token_*` parameters.
#[derive(Clone, Default)]
pub(super) struct TokenParams {
    pub(super) policies: Vec<String>,
    pub(super) no_default_policy: bool,
    pub(super) limits: Limits,
}

impl TokenParams {
    /// Takes what a request sets and leaves the rest.
    pub(super) fn update(&mut self, fields: &Fields<'_>) -> Result<(), Fault> {
        for name in ["token_policies", "policies"] {
            if let Some(policies) = fields.list(name)? {
                self.policies = policies;
                break;
            }
        }
        let limits = &mut self.limits;
        for (name, slot) in [
            ("token_ttl", &mut limits.ttl),
            ("token_max_ttl", &mut limits.max_ttl),
            ("token_explicit_max_ttl", &mut limits.explicit_max_ttl),
            ("token_period", &mut limits.period),
        ] {
            if let Some(seconds) = fields.seconds(name)? {
                *slot = seconds;
            }
        }
        if let Some(uses) = fields.int("token_num_uses")? {
            if uses < 0 {
                return Err(Fault::bad("'token_num_uses' cannot be negative"));
            }
            limits.num_uses = uses;
        }
        if limits.ttl > 0 && limits.max_ttl > 0 && limits.ttl > limits.max_ttl {
            return Err(Fault::bad("'token_ttl' cannot be greater than 'token_max_ttl'"));
        }
        if let Some(no_default) = fields.bool("token_no_default_policy")? {
            self.no_default_policy = no_default;
        }
        for name in ["token_bound_cidrs", "bound_cidrs", "secret_id_bound_cidrs", "bound_cidr_list"] {
            if fields.list(name)?.is_some_and(|list| !list.is_empty()) {
                return Err(Fault::bad(format!(
                    "the embedded dev Vault does not bind to addresses; leave {name:?} out"
                )));
            }
        }
        match fields.text_or_empty("token_type")?.as_str() {
            "" | "default" | "service" | "default-service" => Ok(()),
            other => Err(Fault::bad(format!("the embedded dev Vault has no tokens of type {other:?}"))),
        }
    }

    /// Adds the parameters to what a role or a user shows.
    pub(super) fn describe(&self, out: &mut Object) {
        let limits = &self.limits;
        let mut set = |name: &str, value| out.insert(name.to_owned(), value);
        set("token_bound_cidrs", json!([]));
        set("token_explicit_max_ttl", json!(limits.explicit_max_ttl));
        set("token_max_ttl", json!(limits.max_ttl));
        set("token_no_default_policy", json!(self.no_default_policy));
        set("token_num_uses", json!(limits.num_uses));
        set("token_period", json!(limits.period));
        set("token_policies", json!(self.policies));
        set("token_ttl", json!(limits.ttl));
        set("token_type", json!("default"));
    }
}
