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

use super::{
    auth::certificate::{self, Certificates},
    rig::{Agent, Http},
};
use crate::common::{PATIENCE, assert_untouched, unique, vault};

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

pub(crate) const PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJd0h1vWZ6kqQ4mKkQd1sYw2rVq3bq3hXoQ2q0q5dRkZ";

/// A kind of caller, and the headers by which one with these scopes proves who they are.
struct Caller {
    kind: &'static str,
    /// Whether its credential can hold fewer scopes than all.
    narrow: bool,
    headers: Prove,
}

type Prove = Box<dyn Fn(&[Scope]) -> Headers>;

type Headers = Vec<(String, String)>;

/// What came back. A stream that goes on has no text.
struct Answer {
    status: u16,
    text: String,
}

impl Answer {
    fn body(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// A running server, the callers that it takes, and a client for them.
struct Street {
    http: Http,
    callers: Vec<Caller>,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Street {
    fn new(http: Http, callers: Vec<Caller>, client: reqwest::ClientBuilder) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = client.no_proxy().timeout(PATIENCE).build().unwrap();
        Self { http, callers, client, runtime }
    }

    fn send(&self, headers: &[(String, String)], call: &Call) -> Answer {
        let method = call.method.parse().unwrap();
        let mut request = self.client.request(method, format!("{}{}", self.http.url, call.path));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            let goes_on =
                response.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream");
            let kept = response.headers().get("cache-control");
            assert!(kept.is_some_and(|kept| kept == "no-store"), "{} may be kept: {kept:?}", call.what);
            let status = response.status().as_u16();
            let text = if goes_on { String::new() } else { response.text().await.unwrap() };
            Answer { status, text }
        })
    }
}

/// Every set of scopes, and an agent of each.
fn agents() -> Vec<(Vec<Scope>, Agent)> {
    let set = |bits: u8| {
        let numbered = Scope::ALL.iter().copied().enumerate();
        numbered.filter(|(at, _)| bits >> at & 1 == 1).map(|(_, scope)| scope).collect::<Vec<_>>()
    };
    let agent =
        |scopes: &[Scope]| Agent::with_scopes(&scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>());
    (0..16).map(set).map(|scopes| (scopes.clone(), agent(&scopes))).collect()
}

/// The header of an agent with these scopes and no more.
fn by_key(agents: Vec<(Vec<Scope>, Agent)>) -> impl Fn(&[Scope]) -> Headers {
    move |wanted| {
        let (_, agent) = agents.iter().find(|(scopes, _)| scopes == wanted).unwrap();
        vec![("X-API-Key".to_owned(), agent.key.clone())]
    }
}

fn by_proxy(subject: &str) -> Headers {
    vec![
        ("X-SSL-Client-S-DN".to_owned(), format!("CN={subject}")),
        ("X-SSL-Client-Verify".to_owned(), "SUCCESS".to_owned()),
    ]
}

/// A server that takes callers of every kind that needs no TLS of its own.
fn plain() -> Street {
    let agents = agents();
    // Behind a proxy a key says what of its holder's scopes a call may use.
    let behind = vault().fresh_subject();
    let keyed: Vec<(Vec<Scope>, Agent)> = agents
        .iter()
        .map(|(scopes, agent)| {
            (scopes.clone(), Agent { subject: behind.clone(), key: unique("key"), ..agent.clone() })
        })
        .collect();
    let secret = unique("a-shared-secret-of-more-than-32-bytes-");
    let all: Vec<&Agent> = agents.iter().chain(&keyed).map(|(_, agent)| agent).collect();
    let http = Http::start(
        &all,
        &[
            ("JWT_HS256_SECRET", &secret),
            ("AUTH_MTLS_ENABLED", "true"),
            ("MTLS_TRUSTED_PROXIES", "127.0.0.1/32"),
        ],
    );
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
    let (of_key, beside) = (by_key(agents), by_key(keyed));
    let by_both = move |wanted: &[Scope]| [by_proxy(&behind), beside(wanted)].concat();
    let callers = vec![
        Caller { kind: "API key", narrow: true, headers: Box::new(of_key) },
        Caller { kind: "JWT", narrow: true, headers: Box::new(by_token) },
        Caller { kind: "proxy's headers", narrow: false, headers: Box::new(|_| by_proxy(&unique("s"))) },
        Caller { kind: "proxy's headers and a key", narrow: true, headers: Box::new(by_both) },
    ];
    Street::new(http, callers, certificate::client_without_tls())
}

/// A server with TLS of its own, and a caller with a certificate of this subject.
fn with_certificate(certificate: Option<&str>) -> Street {
    let made = Certificates::new();
    let subject = vault().fresh_subject();
    made.client("good", &format!("/CN={subject}"));
    made.client("nobody", "/CN=Nobody");
    let keyed: Vec<(Vec<Scope>, Agent)> = agents()
        .into_iter()
        .map(|(scopes, agent)| (scopes, Agent { subject: subject.clone(), ..agent }))
        .collect();
    let http = certificate::server(&made, &keyed.iter().map(|(_, agent)| agent).collect::<Vec<_>>());
    let callers = vec![
        Caller { kind: "certificate", narrow: false, headers: Box::new(|_| Vec::new()) },
        Caller { kind: "certificate and a key", narrow: true, headers: Box::new(by_key(keyed)) },
    ];
    Street::new(http, callers, certificate::client(&made, certificate))
}

/// A server for each kind of caller that there is.
fn streets() -> [Street; 2] {
    [plain(), with_certificate(Some("good"))]
}

fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::Post => "POST",
        Verb::Put => "PUT",
        Verb::Delete => "DELETE",
    }
}

/// A call of one route.
pub(crate) struct Call {
    /// The operation's id, or the path of another route.
    pub(crate) what: String,
    pub(crate) scope: Option<Scope>,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: Option<String>,
}

/// One call of everything that needs a credential.
fn calls() -> Vec<Call> {
    every_route().into_iter().filter(|(open, _)| !open).map(|(_, call)| call).collect()
}

/// One call of every route, and whether it is open to anybody.
pub(crate) fn every_route() -> Vec<(bool, Call)> {
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
        (false, Call { what: id.to_owned(), scope: op.spec.scope, method: word(rest.verb), path, body })
    });
    let others = routes();
    let others = others.endpoints().iter().map(|endpoint| {
        let (open, scope) = match endpoint.access {
            Access::Open => (true, None),
            Access::Caller => (false, None),
            Access::Scope(scope) => (false, Some(scope)),
        };
        // One way to fill a place in a path is as good as another.
        let mut path = endpoint.path.to_owned();
        for parameter in endpoint.parameters.iter().filter(|parameter| parameter.place == Place::Path) {
            path = path.replace(&format!("{{{}}}", parameter.name), "requests");
        }
        assert!(!path.contains('{'), "{path} has a place that is no parameter");
        let body = (endpoint.verb == Verb::Post).then(|| "{}".to_owned());
        (open, Call { what: endpoint.path.to_owned(), scope, method: word(endpoint.verb), path, body })
    });
    operations.chain(others).collect()
}

#[test]
fn every_route_is_closed_to_callers_without_a_credential() {
    let headers = |pairs: &[(&str, &str)]| -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let kinds: [(&dyn Fn() -> Street, Headers); 6] = [
        (&plain, headers(&[])),
        (&plain, headers(&[("X-API-Key", "no-such-key")])),
        (&plain, headers(&[("Authorization", "Bearer e30.e30.e30")])),
        (&plain, headers(&[("X-SSL-Client-S-DN", "CN=alice"), ("X-SSL-Client-Verify", "NONE")])),
        (&|| with_certificate(None), headers(&[])),
        (&|| with_certificate(Some("nobody")), headers(&[])),
    ];
    for (street, headers) in kinds {
        // A server for each kind: one that refuses too often grows shorter.
        let street = street();
        for call in calls() {
            let answer = assert_untouched(&street.http.proxy, || street.send(&headers, &call));
            let expected = (401, json!({"detail": "Unauthorized"}));
            assert_eq!((answer.status, answer.body()), expected, "{} {headers:?}", call.what);
        }
    }
}

#[test]
fn every_route_with_a_scope_is_closed_to_callers_with_all_the_others() {
    for street in streets() {
        for call in calls() {
            let Some(scope) = call.scope else { continue };
            let others: Vec<Scope> = Scope::ALL.iter().copied().filter(|other| *other != scope).collect();
            for caller in street.callers.iter().filter(|caller| caller.narrow) {
                let headers = (caller.headers)(&others);
                let answer = assert_untouched(&street.http.proxy, || street.send(&headers, &call));
                let expected =
                    (403, json!({"detail": "Forbidden: missing scopes", "error": "missing_scope"}));
                assert_eq!((answer.status, answer.body()), expected, "{} by {}", call.what, caller.kind);
            }
        }
    }
}

#[test]
fn every_route_is_open_to_callers_of_every_kind_with_its_scope_alone() {
    for street in streets() {
        for call in calls() {
            let is_operation = !call.what.starts_with('/');
            for caller in &street.callers {
                let scopes: Vec<Scope> = call.scope.into_iter().collect();
                let answer = street.send(&(caller.headers)(&scopes), &call);
                // Of the other routes each is there, too.
                let refused =
                    matches!(answer.status, 401 | 403 | 405 | 500) || !is_operation && answer.status == 404;
                assert!(!refused, "{} by {}: {} {}", call.what, caller.kind, answer.status, answer.text);
            }
        }
    }
}
