//! Who may call what: a walk over the table of operations and the list of the other routes. A route without a
//! case here fails the walk, so a new one cannot be forgotten.

use serde_json::{Value, json};
use vault_mcp::{
    caller::Scope,
    front::http::{
        routes,
        routes::{Access, Place},
    },
    op::{OPS, Verb},
};

use super::rig::{Agent, Http, assert_refused};
use crate::common::{Reply, assert_untouched, unique};

/// A call of each operation that has a REST route: what stands in the path, and the body or query.
fn case(id: &str) -> Option<(&'static str, Value)> {
    Some(match id {
        "kv.list" => ("", json!({"prefix": "x"})),
        "kv.read" | "kv.delete" => ("app", json!({})),
        "kv.write" => ("app", json!({"data": {"A": "b"}})),
        "kv.undelete" | "kv.destroy" => ("app", json!({"versions": [1]})),
        "transit.encrypt" => ("", json!({"key": "k", "plaintext": "aGk="})),
        "transit.decrypt" | "transit.rewrap" => ("", json!({"key": "k", "ciphertext": "vault:v1:aGk="})),
        "transit.sign" => ("", json!({"key": "k", "input": "aGk="})),
        "transit.verify" => ("", json!({"key": "k", "input": "aGk=", "signature": "vault:v1:aGk="})),
        "transit.random" => ("", json!({"bytes": "16"})),
        "db.issue_creds" => ("app", json!({})),
        "db.renew" | "db.revoke" => ("", json!({"lease_id": "database/creds/app/none"})),
        "ssh.otp" => ("", json!({"role": "otp", "ip": "127.0.0.1", "username": "app"})),
        "ssh.sign" => ("", json!({"role": "user", "public_key": PUBLIC_KEY, "valid_principals": ["app"]})),
        "kms.encrypt" => ("", json!({"plaintext": "aGk="})),
        "kms.decrypt" => ("", json!({"ciphertext": "aGk="})),
        "kms.generate_data_key" => ("", json!({})),
        "kms.sign" => ("", json!({"message": "aGk=", "signing_algorithm": "ECDSA_SHA_256"})),
        "kms.verify" => {
            ("", json!({"message": "aGk=", "signature": "aGk=", "signing_algorithm": "ECDSA_SHA_256"}))
        }
        _ => return None,
    })
}

const PUBLIC_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJd0h1vWZ6kqQ4mKkQd1sYw2rVq3bq3hXoQ2q0q5dRkZ";

/// A kind of caller, and the headers by which one with these scopes proves who they are.
struct Caller {
    kind: &'static str,
    /// Whether its credential can hold fewer scopes than all.
    narrow: bool,
    headers: Prove,
}

type Prove = Box<dyn Fn(&[Scope]) -> Headers>;

type Headers = Vec<(String, String)>;

/// A server that takes callers of every kind that needs no TLS of its own.
fn server_and_callers() -> (Http, Vec<Caller>) {
    let scopes: Vec<Vec<Scope>> = (0_u8..16)
        .map(|bits| {
            Scope::ALL
                .iter()
                .copied()
                .enumerate()
                .filter(|(at, _)| bits >> at & 1 == 1)
                .map(|(_, scope)| scope)
                .collect()
        })
        .collect();
    let agents: Vec<(Vec<Scope>, Agent)> = scopes
        .into_iter()
        .map(|scopes| {
            let words: Vec<&'static str> = scopes.iter().map(|scope| scope.as_str()).collect();
            (scopes, Agent::with_scopes(&words))
        })
        .collect();
    let secret = unique("a-shared-secret-of-more-than-32-bytes-");
    let all: Vec<&Agent> = agents.iter().map(|(_, agent)| agent).collect();
    let http = Http::start(
        &all,
        &[
            ("JWT_HS256_SECRET", &secret),
            ("AUTH_MTLS_ENABLED", "true"),
            ("MTLS_TRUSTED_PROXIES", "127.0.0.1/32"),
        ],
    );
    let by_key = move |wanted: &[Scope]| {
        let (_, agent) = agents.iter().find(|(scopes, _)| scopes == wanted).unwrap();
        vec![("X-API-Key".to_owned(), agent.key.clone())]
    };
    let by_token = move |wanted: &[Scope]| {
        let words: Vec<_> = wanted.iter().map(|scope| scope.as_str()).collect();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "iss": "mcp-auth", "aud": "mcp-agents", "sub": unique("s"), "exp": now + 300, "scopes": words,
        });
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        vec![("Authorization".to_owned(), format!("Bearer {token}"))]
    };
    let by_proxy = |_: &[Scope]| {
        vec![
            ("X-SSL-Client-S-DN".to_owned(), format!("CN={}", unique("s"))),
            ("X-SSL-Client-Verify".to_owned(), "SUCCESS".to_owned()),
        ]
    };
    let callers = vec![
        Caller { kind: "API key", narrow: true, headers: Box::new(by_key) },
        Caller { kind: "JWT", narrow: true, headers: Box::new(by_token) },
        Caller { kind: "proxy's headers", narrow: false, headers: Box::new(by_proxy) },
    ];
    (http, callers)
}

fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::Post => "POST",
        Verb::Put => "PUT",
        Verb::Delete => "DELETE",
    }
}

/// A call of something that needs a credential: what it is, the scope it needs, method, path, body.
type Call = (String, Option<Scope>, &'static str, String, Option<String>);

/// One call of everything that needs a credential.
fn calls() -> Vec<Call> {
    let operations = OPS.iter().filter_map(|op| Some((op, op.rest?))).map(|(op, rest)| {
        let id = op.spec.id;
        let (held, arguments) = case(id).unwrap_or_else(|| panic!("there is no case for {id}"));
        let mut path = match rest.path.split_once('{') {
            Some((before, after)) => format!("{before}{held}{}", after.split_once('}').unwrap().1),
            None => rest.path.to_owned(),
        };
        let in_query = matches!(rest.verb, Verb::Get | Verb::Delete);
        let body = (!in_query).then(|| arguments.to_string());
        if in_query {
            let pairs = arguments.as_object().unwrap().iter();
            let pairs: Vec<_> =
                pairs.map(|(name, value)| format!("{name}={}", value.as_str().unwrap())).collect();
            if !pairs.is_empty() {
                path = format!("{path}?{}", pairs.join("&"));
            }
        }
        (id.to_owned(), op.spec.scope, word(rest.verb), path, body)
    });
    let others = routes();
    let others = others.endpoints().iter().filter_map(|endpoint| {
        let scope = match endpoint.access {
            Access::Open => return None,
            Access::Caller => None,
            Access::Scope(scope) => Some(scope),
        };
        // One way to fill a place in a path is as good as another.
        let mut path = endpoint.path.to_owned();
        for parameter in endpoint.parameters.iter().filter(|parameter| parameter.place == Place::Path) {
            path = path.replace(&format!("{{{}}}", parameter.name), "requests");
        }
        assert!(!path.contains('{'), "{path} has a place that is no parameter");
        let body = (endpoint.verb == Verb::Post).then(|| "{}".to_owned());
        Some((endpoint.path.to_owned(), scope, word(endpoint.verb), path, body))
    });
    operations.chain(others).collect()
}

#[track_caller]
fn send(http: &Http, headers: &[(String, String)], method: &str, path: &str, body: Option<&str>) -> Reply {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    http.bare(method, path, &headers, body)
}

#[test]
fn every_route_is_closed_to_callers_without_a_credential() {
    let kinds: [&[(&str, &str)]; 4] = [
        &[],
        &[("X-API-Key", "no-such-key")],
        &[("Authorization", "Bearer e30.e30.e30")],
        &[("X-SSL-Client-S-DN", "CN=alice"), ("X-SSL-Client-Verify", "NONE")],
    ];
    for kind in kinds {
        // A server for each kind: one that refuses too often grows shorter.
        let (http, _) = server_and_callers();
        for (what, _, method, path, body) in calls() {
            let reply = assert_untouched(&http.proxy, || http.bare(method, &path, kind, body.as_deref()));
            assert_eq!(
                (reply.status, &reply.body),
                (401, &json!({"detail": "Unauthorized"})),
                "{what} {kind:?}"
            );
        }
    }
}

#[test]
fn every_route_with_a_scope_is_closed_to_callers_with_all_the_others() {
    let (http, callers) = server_and_callers();
    for (what, scope, method, path, body) in calls() {
        let Some(scope) = scope else { continue };
        let others: Vec<Scope> = Scope::ALL.iter().copied().filter(|other| *other != scope).collect();
        for caller in callers.iter().filter(|caller| caller.narrow) {
            let headers = (caller.headers)(&others);
            let reply =
                assert_untouched(&http.proxy, || send(&http, &headers, method, &path, body.as_deref()));
            assert_refused(&reply, 403, "missing_scope");
            assert_eq!(reply.body["detail"], "Forbidden: missing scopes", "{what} by {}", caller.kind);
        }
    }
}

#[test]
fn every_operation_is_open_to_callers_of_every_kind_with_its_scope_alone() {
    let (http, callers) = server_and_callers();
    let operations = calls().into_iter().filter(|(what, ..)| !what.starts_with('/'));
    for (what, scope, method, path, body) in operations {
        for caller in &callers {
            let scopes: Vec<Scope> = scope.into_iter().collect();
            let headers = (caller.headers)(&scopes);
            let reply = send(&http, &headers, method, &path, body.as_deref());
            assert!(
                !matches!(reply.status, 401 | 403 | 405 | 500),
                "{what} by {}: {}",
                caller.kind,
                reply.text
            );
        }
    }
}
