//! From arguments to a call that may be made: what is refused before Vault hears of anything, and whether a human
//! is asked.

use serde_json::Value;

use super::{Broker, MAX_REQUEST, Passing, patterns};
use crate::{
    caller::Front,
    config::{DangerousPatterns, Reveal},
    error::Error,
    names::shown,
    op::{AnyCall, Effect, Files},
    secret::holds_mask,
};

impl Broker {
    pub(super) fn parse(
        &self,
        passing: &mut Passing<'_>,
        arguments: &Value,
    ) -> Result<Box<dyn AnyCall>, Error> {
        let front = passing.caller.front;
        if !Self::is_registered(&self.config, passing.op) || !self.is_for(passing.op, front) {
            return Err(Error::UnknownTool);
        }
        if self.is_off(passing.op) {
            has_scope(passing)?;
            return Err(Error::KmsOff);
        }
        if !front.is_on_this_machine() {
            let named = passing
                .op
                .file_arguments()
                .iter()
                .find(|name| arguments.get(name).is_some_and(|value| !value.is_null()));
            if let Some(name) = named {
                let fault = "it names a file of the server's machine, and you have none there; leave it out";
                return Err(Error::input(name.clone(), fault));
            }
        }
        let call = passing.op.parse(arguments.clone())?;
        passing.target = call.target(&passing.caller.place)?;
        if let Files::Writes(argument) = call.files()
            && *self.config.read_only
        {
            return Err(Error::input(argument, "this server writes no files (READ_ONLY=true); leave it out"));
        }
        let mut size = 0;
        for (key, value) in call.values() {
            if holds_mask(value) {
                return Err(Error::MaskedValue { field: shown(key, 64) });
            }
            if !survives(value) {
                return Err(Error::input(
                    shown(key, 64),
                    "it holds a number that Vault would round; give it as text",
                ));
            }
            size += approximate_size(value);
            if size > MAX_REQUEST {
                return Err(Error::TooLarge { what: "The data", limit: MAX_REQUEST });
            }
        }
        if *self.config.dangerous_patterns == DangerousPatterns::Block {
            let found = dangerous(call.as_ref());
            if !found.is_empty() {
                let keys = found.iter().map(|(key, _)| shown(key, 64)).collect::<Vec<_>>().join(", ");
                let mut names: Vec<&str> =
                    found.iter().flat_map(|(_, names)| names.iter().copied()).collect();
                names.sort_unstable();
                names.dedup();
                return Err(Error::DangerousPattern { keys, patterns: names.join(", ") });
            }
        }
        Ok(call)
    }

    pub(super) fn authorise(&self, passing: &Passing<'_>, call: &dyn AnyCall) -> Result<(), Error> {
        has_scope(passing)?;
        if call.wants_reveal()
            && passing.caller.front.answers_a_model()
            && *self.config.reveal == Reveal::Never
        {
            return Err(Error::RevealForbidden);
        }
        Ok(())
    }

    /// Whether a human stands between this call and Vault.
    pub(super) fn must_ask(&self, passing: &Passing<'_>, call: &dyn AnyCall) -> bool {
        match passing.caller.front {
            // The human's own command at the human's own terminal.
            Front::Cli => return false,
            // A program with its own credential and scope, where nobody has said otherwise.
            Front::Rest if !*self.config.confirm_rest => return false,
            Front::Approver | Front::Stdio | Front::Rest | Front::McpHttp => {}
        }
        let effect = match passing.op.spec.effect {
            _ if call.is_harmless() => Effect::Read,
            own if own.is_read_only() && matches!(call.files(), Files::Writes(_)) => Effect::Write,
            own => own,
        };
        self.config.confirm_effects.contains(effect)
            || (call.wants_reveal()
                && passing.caller.front.answers_a_model()
                && *self.config.reveal == Reveal::Ask)
    }
}

fn has_scope(passing: &Passing<'_>) -> Result<(), Error> {
    match passing.op.spec.scope {
        Some(scope) if !passing.caller.has(scope) => Err(Error::MissingScope { scope: scope.as_str() }),
        _ => Ok(()),
    }
}

pub(super) fn dangerous(call: &dyn AnyCall) -> Vec<(&str, Vec<&'static str>)> {
    let values = call.values().into_iter();
    values.map(|(key, value)| (key, patterns::found(value))).filter(|(_, names)| !names.is_empty()).collect()
}

/// False for numbers that Vault would give back changed: version 2 of KV keeps every number as a float.
fn survives(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            let text = number.to_string();
            let mantissa = text.split(['e', 'E']).next().unwrap_or(&text);
            let digits =
                mantissa.trim_start_matches(['-', '0', '.']).chars().filter(char::is_ascii_digit).count();
            let exponent =
                text.split(['e', 'E']).nth(1).map_or(Some(0), |exponent| exponent.parse::<i32>().ok());
            // A float keeps any integer up to 2^53 and any 15 significant digits (IEEE 754 binary64).
            number.as_i64().is_some_and(|whole| whole.unsigned_abs() <= 1 << 53)
                || (digits <= 15 && exponent.is_some_and(|exponent| exponent.abs() < 290))
        }
        Value::Array(items) => items.iter().all(survives),
        Value::Object(map) => map.values().all(survives),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

fn approximate_size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(approximate_size).sum(),
        Value::Object(map) => map.iter().map(|(key, item)| key.len() + approximate_size(item)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_vault_would_round_is_told_from_one_it_keeps() {
        for (text, kept) in [
            ("1", true),
            ("-9007199254740992", true),
            ("9007199254740992", true),
            ("9007199254740993", false),
            ("-9223372036854775808", false),
            ("9223372036854775807", false),
            ("9223372036854775808", false),
            ("1e999", false),
            ("1.10", true),
            ("0.1", true),
            ("123456789012345678.5", false),
            ("1e10", true),
            ("[1e999]", false),
            ("{\"a\":12345678901234567890123}", false),
            ("\"9223372036854775808\"", true),
        ] {
            assert_eq!(survives(&serde_json::from_str(text).unwrap()), kept, "{text}");
        }
    }
}
