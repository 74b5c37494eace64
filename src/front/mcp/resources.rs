//! Secrets as MCP resources: `kv://{subject}/{path}[?version=N]`, folders with a slash at the end. Each is
//! one call of the same operations that the tools are; values are masked as there, and since a resource
//! has no way to ask for a reveal, always.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use rmcp::{
    ErrorData,
    model::{
        CompleteRequestParams, CompleteResult, CompletionInfo, ErrorCode, ListResourceTemplatesResult,
        ListResourcesResult, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Reference,
        Resource, ResourceContents, ResourceTemplate, ResourceUpdatedNotification,
        ResourceUpdatedNotificationParam, SubscriptionFilter,
    },
    service::{Peer, RequestContext, RoleServer, SubscriptionContext},
};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    confirm::MayRepeat,
    handler::{Carried, McpServer},
    prompts,
};
use crate::{
    broker::{
        Place,
        events::{Event, Listener, Missed, Since, What},
    },
    caller::Caller,
    error::Error,
    names::{Prefix, SecretPath, Version},
    op,
};

const JSON: &str = "application/json";
/// Most resources that a session may subscribe to.
const MAX_WATCHED: usize = 256;

/// A parsed URI.
enum Uri {
    Secret { path: SecretPath, version: Option<Version> },
    Folder(Prefix),
}

fn parse(uri: &str, caller: &Caller) -> Result<Uri, Error> {
    let refused = |fault: &'static str| Error::PathRefused { fault: fault.into() };
    let rest = uri.strip_prefix("kv://").ok_or(refused("a resource begins with kv://"))?;
    let (subject, rest) = rest.split_once('/').ok_or(refused("a resource is kv://{subject}/{path}"))?;
    if subject != caller.subject.as_str() {
        return Err(refused("the resource belongs to another subject"));
    }
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    if path.contains('#') {
        return Err(refused("a resource has no fragment"));
    }
    // Decoded once; what the decoded text may be is decided by the names.
    let path = percent_decode(path).ok_or(refused("its percent-encoding is broken"))?;
    if path.is_empty() || path.ends_with('/') {
        if query.is_some() {
            return Err(refused("a folder has no version"));
        }
        let folder =
            Prefix::parse(&path).map_err(|fault| Error::PathRefused { fault: fault.to_string().into() })?;
        return Ok(Uri::Folder(folder));
    }
    let version = match query {
        None => None,
        Some(query) => {
            let number =
                query.strip_prefix("version=").filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let number =
                number.and_then(|text| text.parse().ok()).and_then(|number| Version::new(number).ok());
            Some(number.ok_or(refused("the only query is ?version=N, a whole number from 1"))?)
        }
    };
    let path =
        SecretPath::parse(&path).map_err(|fault| Error::PathRefused { fault: fault.to_string().into() })?;
    Ok(Uri::Secret { path, version })
}

fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        out.extend(hex::decode(digits).ok()?);
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

fn protocol_error(error: &Error) -> ErrorData {
    let code = match error {
        Error::NotFound | Error::VersionGone { .. } => ErrorCode::RESOURCE_NOT_FOUND,
        error if error.is_validation() => ErrorCode::INVALID_PARAMS,
        _ => ErrorCode::INTERNAL_ERROR,
    };
    ErrorData::new(code, format!("{}: {error}", error.code()), None)
}

/// One call of an operation for a resource.
async fn call(
    server: &McpServer,
    context: &RequestContext<RoleServer>,
    id: &str,
    arguments: Value,
) -> Result<Value, Error> {
    let op = op::find(id).ok_or(Error::UnknownTool)?;
    let caller = server.caller(context);
    match server.carry_out(context, op, &caller, arguments, None, MayRepeat::No).await? {
        Carried::Answer(answer) => Ok(answer.value),
        Carried::Repeat(_) => Err(Error::Internal { what: "a resource was to be asked for again" }),
    }
}

fn parse_or_record(server: &McpServer, uri: &str, caller: &Caller) -> Result<Uri, ErrorData> {
    parse(uri, caller)
        .map_err(|error| protocol_error(&server.broker().refuse_unknown("resources/read", caller, error)))
}

/// `resources/read`.
pub(super) async fn read(
    server: &McpServer,
    request: ReadResourceRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<ReadResourceResponse, ErrorData> {
    let caller = server.caller(context);
    let content = match parse_or_record(server, &request.uri, &caller)? {
        Uri::Folder(folder) => {
            let prefix = folder.path().map(SecretPath::as_str).unwrap_or_default();
            let answer = call(server, context, "kv.list", json!({ "prefix": prefix })).await;
            json!({ "keys": answer.map_err(|error| protocol_error(&error))?.get("keys") })
        }
        Uri::Secret { path, version } => {
            let mut arguments = json!({ "path": path.as_str() });
            if let (Some(version), Some(map)) = (version, arguments.as_object_mut()) {
                map.insert("version".into(), version.get().into());
            }
            let answer =
                call(server, context, "kv.read", arguments).await.map_err(|error| protocol_error(&error))?;
            json!({ "data": answer.get("data"), "version": answer.get("version") })
        }
    };
    let contents = ResourceContents::text(content.to_string(), request.uri).with_mime_type(JSON);
    Ok(ReadResourceResult::new(vec![contents])
        .with_ttl_ms(0)
        .with_cache_scope(rmcp::model::CacheScope::Private)
        .into())
}

/// `resources/list`: the root folder, and the secrets in it that the token may list.
pub(super) async fn list(
    server: &McpServer,
    context: &RequestContext<RoleServer>,
) -> Result<ListResourcesResult, ErrorData> {
    let caller = server.caller(context);
    let root = format!("kv://{}/", caller.subject);
    let mut resources = vec![
        Resource::new(root.clone(), "/")
            .with_title("Secrets")
            .with_description("Names in the root folder.")
            .with_mime_type(JSON),
    ];
    // A Vault that cannot be reached must not make the list fail: clients ask for it at start.
    if let Ok(answer) = call(server, context, "kv.list", json!({})).await {
        for name in
            answer.get("keys").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            resources.push(Resource::new(format!("{root}{name}"), name).with_mime_type(JSON));
        }
    }
    Ok(ListResourcesResult::with_all_items(resources)
        .with_ttl_ms(0)
        .with_cache_scope(rmcp::model::CacheScope::Private))
}

/// `resources/templates/list`.
pub(super) fn templates(caller: &Caller) -> ListResourceTemplatesResult {
    let secret = ResourceTemplate::new(format!("kv://{}/{{+path}}{{?version}}", caller.subject), "secret")
        .with_title("Secret")
        .with_description(
            "Keys of a secret with masked values; a path with a slash at the end lists a folder.",
        )
        .with_mime_type(JSON);
    ListResourceTemplatesResult::with_all_items(vec![secret])
        .with_ttl_ms(3_600_000)
        .with_cache_scope(rmcp::model::CacheScope::Private)
}

/// `completion/complete` for paths and services.
pub(super) async fn complete(
    server: &McpServer,
    request: CompleteRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CompleteResult, ErrorData> {
    let wanted = match &request.r#ref {
        Reference::Resource(_) => request.argument.name == "path",
        Reference::Prompt(prompt) => prompts::takes(&prompt.name, &request.argument.name),
        _ => false,
    };
    let typed = request.argument.value.as_str();
    let (id, arguments, folder) = match request.argument.name.as_str() {
        "path" if wanted => {
            let folder = typed.rfind('/').and_then(|at| typed.get(..=at)).unwrap_or_default();
            ("kv.list", json!({ "prefix": folder }), folder)
        }
        "service" if wanted => ("vault_list", json!({}), ""),
        _ => return Ok(CompleteResult::default()),
    };
    // Nothing to offer is no fault: the client is only typing.
    let Ok(answer) = call(server, context, id, arguments).await else { return Ok(CompleteResult::default()) };
    let names = answer
        .get("keys")
        .or_else(|| answer.get("services"))
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let all: Vec<String> = names
        .iter()
        .filter_map(Value::as_str)
        .map(|name| format!("{folder}{name}"))
        .filter(|path| path.starts_with(typed))
        .collect();
    let total = u32::try_from(all.len()).ok();
    let has_more = all.len() > CompletionInfo::MAX_VALUES;
    let values = all.into_iter().take(CompletionInfo::MAX_VALUES).collect();
    let info = CompletionInfo::with_pagination(values, total, has_more);
    info.map(CompleteResult::new)
        .map_err(|_| protocol_error(&Error::Internal { what: "a completion does not fit" }))
}

/// What a session watches: URI → where it lies.
pub(super) struct Watched {
    by_uri: Mutex<HashMap<String, String>>,
    /// Set once something is watched: the task that tells of changes, which ends with the session.
    pump: OnceLock<DropGuard>,
}

impl Default for Watched {
    fn default() -> Self {
        Self { by_uri: Mutex::default(), pump: OnceLock::new() }
    }
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.by_uri.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn remove(&self, uri: &str) {
        self.lock().remove(uri);
    }

    fn touched(&self, heard: &Heard) -> Vec<String> {
        let by_uri = self.lock();
        by_uri.iter().filter(|(_, target)| concerns(target, heard)).map(|(uri, _)| uri.clone()).collect()
    }
}

type Heard = Result<Arc<Event>, Missed>;

/// A secret is concerned by its own change, a folder by any below it. What was missed may concern all.
fn concerns(target: &str, heard: &Heard) -> bool {
    let Ok(event) = heard else { return true };
    match &event.what {
        What::Changed { target: changed } => {
            target == &**changed || (target.ends_with('/') && changed.starts_with(target))
        }
        What::Completed { .. } => false,
    }
}

/// Mount and full path that a URI stands for.
fn target_of(uri: &str, caller: &Caller) -> Result<String, Error> {
    let place: &Place = &caller.place;
    let mount = place.mount(None)?;
    Ok(match parse(uri, caller)? {
        Uri::Secret { path, .. } => format!("{mount}/{}", place.path(&path)?),
        Uri::Folder(folder) => format!("{mount}/{}/", place.folder(&folder)?),
    })
}

/// `resources/subscribe` of clients before 2026-07-28.
pub(super) fn subscribe(
    server: &McpServer,
    uri: &str,
    context: &RequestContext<RoleServer>,
) -> Result<(), ErrorData> {
    let caller = server.caller(context);
    let target = target_of(uri, &caller).map_err(|error| {
        protocol_error(&server.broker().refuse_unknown("resources/subscribe", &caller, error))
    })?;
    let watched = server.watched();
    // Before it is entered: a change that comes now is not missed.
    watched.pump.get_or_init(|| {
        let ended = CancellationToken::new();
        let events = server.broker().events().listen(&caller.subject, Since::Now);
        tokio::spawn(tell(Arc::downgrade(watched), events, context.peer.clone(), ended.clone()));
        ended.drop_guard()
    });
    let mut by_uri = watched.lock();
    if by_uri.len() >= MAX_WATCHED && !by_uri.contains_key(uri) {
        return Err(ErrorData::invalid_params(
            format!("At most {MAX_WATCHED} resources can be watched. Unsubscribe from some."),
            None,
        ));
    }
    by_uri.insert(uri.to_owned(), target);
    Ok(())
}

/// Tells a session's client of changes until the session ends.
async fn tell(
    watched: Weak<Watched>,
    mut events: Listener,
    peer: Peer<RoleServer>,
    ended: CancellationToken,
) {
    loop {
        let heard = tokio::select! {
            heard = events.next() => heard,
            () = ended.cancelled() => return,
        };
        let Some(touched) = watched.upgrade().map(|watched| watched.touched(&heard)) else { return };
        for uri in touched {
            let update = ResourceUpdatedNotification::new(ResourceUpdatedNotificationParam::new(uri));
            if peer.send_notification(update.into()).await.is_err() {
                return;
            }
        }
    }
}

/// Of what a `subscriptions/listen` asks for, the resources that are the caller's own.
pub(super) fn accepted(caller: &Caller, requested: &SubscriptionFilter) -> SubscriptionFilter {
    let uris = requested.resource_subscriptions.iter().flatten();
    let own: Vec<&String> = uris.filter(|uri| target_of(uri, caller).is_ok()).take(MAX_WATCHED).collect();
    SubscriptionFilter::builder().resource_subscriptions(own).build()
}

/// `subscriptions/listen`: runs until the client cancels it or the input ends.
pub(super) async fn listen(server: &McpServer, context: SubscriptionContext) {
    let caller = server.caller(context.request_context());
    let uris = context.accepted().resource_subscriptions.clone().unwrap_or_default();
    let targets: Vec<(String, String)> = uris
        .into_iter()
        .filter_map(|uri| target_of(&uri, &caller).ok().map(|target| (uri, target)))
        .collect();
    let mut events = server.broker().events().listen(&caller.subject, Since::Now);
    loop {
        let heard = tokio::select! {
            heard = events.next() => heard,
            () = context.cancelled() => return,
            () = server.ended() => return,
        };
        for (uri, _) in targets.iter().filter(|(_, target)| concerns(target, &heard)) {
            if context.sink().notify_resource_updated(uri.clone()).await.is_err() {
                return;
            }
        }
    }
}
