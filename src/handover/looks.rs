//! Which entries of a file look secret. A guess from name and shape, made to be shown to a person: it errs towards
//! saying yes, and nothing is hidden or written because it said no.

/// What makes an entry look secret; none of it tells anything of the value but its kind.
pub type Sign = &'static str;

/// Beginnings that issuers give their credentials so that they can be found, and what each is.
const PREFIXES: &[(&str, Sign)] = &[
    ("AKIA", "AWS access key id"),
    ("ASIA", "AWS access key id"),
    ("ghp_", "GitHub token"),
    ("gho_", "GitHub token"),
    ("ghu_", "GitHub token"),
    ("ghs_", "GitHub token"),
    ("ghr_", "GitHub token"),
    ("github_pat_", "GitHub token"),
    ("glpat-", "GitLab token"),
    ("glrt-", "GitLab token"),
    ("xoxb-", "Slack token"),
    ("xoxp-", "Slack token"),
    ("xoxa-", "Slack token"),
    ("xapp-", "Slack token"),
    ("https://hooks.slack.com/services/", "Slack webhook"),
    ("sk_live_", "Stripe key"),
    ("sk_test_", "Stripe key"),
    ("rk_live_", "Stripe key"),
    ("whsec_", "Stripe webhook secret"),
    ("sk-ant-", "Anthropic key"),
    ("sk-proj-", "OpenAI key"),
    ("sk-", "API key"),
    ("AIza", "Google API key"),
    ("ya29.", "Google access token"),
    ("GOCSPX-", "Google client secret"),
    ("hvs.", "Vault token"),
    ("hvb.", "Vault token"),
    ("hvr.", "Vault token"),
    ("npm_", "npm token"),
    ("pypi-", "PyPI token"),
    ("dckr_pat_", "Docker token"),
    ("dop_v1_", "DigitalOcean token"),
    ("SG.", "SendGrid key"),
    ("shpat_", "Shopify token"),
    ("EAAC", "Facebook token"),
    ("AGE-SECRET-KEY-1", "age key"),
    ("-----BEGIN ", "PEM block"),
];

/// Words in a name that speak of a secret.
const WORDS: &[&str] = &[
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PASS",
    "PWD",
    "PW",
    "SECRET",
    "SECRETS",
    "TOKEN",
    "CREDENTIAL",
    "CREDENTIALS",
    "CREDS",
    "APIKEY",
    "AUTH",
    "DSN",
    "SALT",
    "PEPPER",
    "PIN",
    "OTP",
    "SEED",
    "MNEMONIC",
    "WEBHOOK",
    "COOKIE",
    "JWT",
    "HMAC",
    "BEARER",
    "KEY",
];

/// Words after which a name speaks of something about the secret, or of what is public.
const HARMLESS_ENDS: &[&str] = &[
    "ID",
    "NAME",
    "FILE",
    "PATH",
    "DIR",
    "TTL",
    "EXPIRY",
    "EXPIRES",
    "TIMEOUT",
    "LENGTH",
    "SIZE",
    "TYPE",
    "ALG",
    "ALGORITHM",
    "URL",
    "URI",
    "ENDPOINT",
    "HOST",
    "PORT",
    "ENABLED",
    "REQUIRED",
    "HEADER",
    "PREFIX",
    "ISSUER",
    "AUDIENCE",
    "METHOD",
    "MODE",
    "COUNT",
    "LIMIT",
    "ROUNDS",
    "POLICY",
];

/// Why an entry looks secret, if it does. `value` is the literal one; `None` where something else stands for it.
#[must_use]
pub fn secret(name: &str, value: Option<&str>) -> Option<Sign> {
    let value = value?.trim();
    if is_placeholder(value) {
        return None;
    }
    shape(value).or_else(|| by_name(name, value))
}

/// What a value's shape alone says.
#[must_use]
pub fn shape(value: &str) -> Option<Sign> {
    let value = value.trim();
    if let Some((_, sign)) = PREFIXES.iter().find(|(prefix, _)| {
        value.starts_with(prefix) && value.len() >= prefix.len() + 8 && !value.contains("...")
    }) {
        let is_public = *sign == "PEM block" && !value.contains("PRIVATE");
        return (!is_public).then_some(*sign);
    }
    if has_password(value) {
        return Some("URL with a password");
    }
    if value.starts_with("eyJ") && value.matches('.').count() == 2 && value.len() > 40 {
        return Some("JSON web token");
    }
    if ["AccountKey=", "SharedAccessKey=", "Password=", "Pwd="].iter().any(|part| value.contains(part)) {
        return Some("connection string");
    }
    is_random(value).then_some("random text")
}

fn by_name(name: &str, value: &str) -> Option<Sign> {
    let words = words(name);
    let is_flag = matches!(
        value.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "none" | "null"
    );
    if is_flag || words.iter().any(|word| word == "PUBLIC") {
        return None;
    }
    if words.last().is_some_and(|last| HARMLESS_ENDS.contains(&last.as_str())) {
        return None;
    }
    words.iter().any(|word| WORDS.contains(&word.as_str())).then_some("name")
}

/// True when a name alone speaks of a secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    by_name(name, "x").is_some()
}

/// The words of a name in capitals: `dbPassword`, `db-password` and `DB_PASSWORD` are the same two.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for c in name.chars() {
        let starts = c.is_ascii_uppercase() && lower_before;
        if !c.is_ascii_alphanumeric() || starts {
            words.push(String::new());
        }
        if c.is_ascii_alphanumeric()
            && let Some(last) = words.last_mut()
        {
            last.push(c.to_ascii_uppercase());
        }
        lower_before = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What people write where a secret will stand.
fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let same = value.chars().next().is_some_and(|first| value.chars().all(|c| c == first));
    value.is_empty()
        || same
        || value.starts_with(crate::secret::REFERENCE_SCHEME)
        || (value.starts_with('<') && value.ends_with('>'))
        || (value.starts_with("${") && value.ends_with('}'))
        || (value.starts_with("{{") && value.ends_with("}}"))
        || matches!(
            lower.as_str(),
            "changeme" | "change-me" | "change_me" | "replace-me" | "replace_me" | "todo"
        )
        || lower.starts_with("your-")
        || lower.starts_with("your_")
}

/// `scheme://user:password@host`.
fn has_password(value: &str) -> bool {
    let Some((scheme, rest)) = value.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else { return false };
    let is_scheme =
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    is_scheme && user.split_once(':').is_some_and(|(_, password)| !is_placeholder(password))
}

/// Letters and digits without order, as generators make them. Paths, names of hosts and sentences are not.
fn is_random(value: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    if !(20..=512).contains(&value.len()) || !value.chars().all(fits) || value.starts_with('/') {
        return false;
    }
    let digits = value.chars().filter(char::is_ascii_digit).count();
    let letters = value.chars().filter(char::is_ascii_alphabetic).count();
    let is_uuid = value.len() == 36 && value.matches('-').count() == 4;
    let class = |c: char| match c {
        'a'..='z' => 0,
        'A'..='Z' => 1,
        '0'..='9' => 2,
        _ => 3,
    };
    let classes: Vec<u8> = value.chars().map(class).collect();
    let changes = classes.iter().zip(classes.iter().skip(1)).filter(|(a, b)| a != b).count();
    // Words are of one case and carry no digits; one long run has to be no word.
    let is_no_word = |run: &str| {
        let has = |kind: fn(&char) -> bool| run.chars().any(|c| kind(&c));
        run.len() >= 12
            && (has(char::is_ascii_digit) || (has(char::is_ascii_lowercase) && has(char::is_ascii_uppercase)))
    };
    let has_run = value.split(|c: char| !c.is_ascii_alphanumeric()).any(is_no_word);
    !is_uuid && has_run && digits >= 1 && letters >= 4 && entropy(value) >= 3.2 && changes * 5 >= value.len()
}

/// Bits a character, from how often each stands in the text (Shannon 1948).
fn entropy(value: &str) -> f64 {
    let mut counts = std::collections::BTreeMap::<char, f64>::new();
    for c in value.chars() {
        *counts.entry(c).or_default() += 1.0;
    }
    let total: f64 = counts.values().sum();
    counts.values().map(|count| -(count / total) * (count / total).log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_secret_is_told_from_what_does_not() {
        for (name, value, sign) in [
            ("DB_PASSWORD", "hunter2", Some("name")),
            ("dbPassword", "hunter2", Some("name")),
            ("db-pass", "x1", Some("name")),
            ("STRIPE_API_KEY", "abc", Some("name")),
            ("X", "AKIAIOSFODNN7EXAMPLE", Some("AWS access key id")),
            ("X", "ghp_0123456789abcdefghijABCDEFGHIJ012345", Some("GitHub token")),
            ("DATABASE_URL", "postgres://u:p4ss@db/x", Some("URL with a password")),
            ("X", "-----BEGIN RSA PRIVATE KEY-----\nabc", Some("PEM block")),
            ("X", "9f8e7d6c5b4a39281706f5e4d3c2b1a0", Some("random text")),
            ("X", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", Some("random text")),
            ("X", "aB3dE5fG7hJ9kL1mN2pQ4rS6", Some("random text")),
            ("CERT", "-----BEGIN CERTIFICATE-----\nabc", None),
            ("DATABASE_URL", "postgres://db/x", None),
            ("PORT", "5432", None),
            ("LOG_LEVEL", "info", None),
            ("TOKEN_TTL", "3600", None),
            ("PUBLIC_KEY", "abc", None),
            ("KEYBOARD", "de", None),
            ("AUTHOR", "me", None),
            ("AUTH_ENABLED", "x", None),
            ("USE_TOKEN", "true", None),
            ("DB_PASSWORD", "", None),
            ("DB_PASSWORD", "changeme", None),
            ("DB_PASSWORD", "<your password>", None),
            ("DB_PASSWORD", "${DB_PASSWORD}", None),
            ("DB_PASSWORD", "xxxxxxxx", None),
            ("DB_PASSWORD", "secretref://secret/mcp/a/b#K", None),
            ("X", "123e4567-e89b-12d3-a456-426614174000", None),
            ("X", "/usr/local/lib/python3/site-packages", None),
            ("X", "my-service-name-in-production-01", None),
            ("X", "my-infrastructure-01-and-more-02", None),
            ("X", "registry.example.com/team/app:1.2.3", None),
        ] {
            assert_eq!(secret(name, Some(value)), sign, "{name}={value}");
        }
        assert_eq!(secret("DB_PASSWORD", None), None);
    }
}
