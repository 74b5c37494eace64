//! Routes that are no operation's. Each is registered together with its description, and there is no other way
//! to register one (`clippy.toml` bans axum's): so `/openapi.json` has them all, who may call a route is what its
//! description says, and its answers carry its name for metrics and logs.
//!
//! What this module does not do: describe the operations' routes, which are the table's (`rest`).

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    extract::Request,
    handler::Handler,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on, on_service},
};
use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use tower::Service;

use super::{
    App,
    answer::{Fault, Route, plain},
};
use crate::{
    caller::{Caller, Scope},
    error::Error,
    op::Verb,
};

/// Who may call a route. The description is the guard: nothing else decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// Whoever has a credential.
    Caller,
    /// Whoever has a credential with this scope.
    Scope(Scope),
}

/// A route and everything that is said of it.
#[derive(Debug)]
pub struct Endpoint {
    /// The method.
    pub verb: Verb,
    /// The path, with `{name}` for a segment and `{*name}` for what is left of it.
    pub path: &'static str,
    /// Its group in the documents.
    pub tag: &'static str,
    /// A few words.
    pub title: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Who may call.
    pub access: Access,
    /// What it takes besides a body.
    pub parameters: &'static [Parameter],
    /// What it takes in the body.
    pub body: Content,
    /// What it answers, refusals of every route (no credential, no scope, a panic) aside.
    pub replies: &'static [Reply],
}

/// A parameter of a route.
#[derive(Debug)]
pub struct Parameter {
    /// Its name, as it is in the path where it stands there.
    pub name: &'static str,
    /// Where it is given.
    pub place: Place,
    /// What it says.
    pub about: &'static str,
    /// What it may be.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

/// Where a parameter is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the path; required.
    Path,
    /// In the query; optional.
    Query,
    /// In a header; optional.
    Header,
}

/// One of the answers of a route.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// When it is given.
    pub when: &'static str,
    /// The body.
    pub content: Content,
}

/// A body.
#[derive(Debug, Clone, Copy)]
pub enum Content {
    /// None.
    Nothing,
    /// `application/json` of this schema.
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// A refusal as every route gives it: `detail`, and `error` where it has a code.
    Fault,
    /// Text of this media type.
    Text(&'static str),
}

impl Content {
    /// JSON of this type.
    #[must_use]
    pub const fn json<T: JsonSchema>() -> Self {
        Self::Json(T::json_schema)
    }
}

/// Routes in the making.
#[derive(Default)]
pub struct Routes {
    open: Router<Arc<App>>,
    guarded: Router<Arc<App>>,
    endpoints: Vec<&'static Endpoint>,
}

impl Routes {
    /// Adds a route that this handler answers.
    #[must_use]
    pub fn add<H, T>(self, endpoint: &'static Endpoint, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let method = on(filter(endpoint.verb), handler);
        self.put(endpoint, method)
    }

    /// Adds routes of one path that a service answers.
    #[must_use]
    pub fn add_service<S>(self, endpoints: &'static [Endpoint], service: &S) -> Self
    where
        S: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Response: IntoResponse + 'static,
        S::Future: Send + 'static,
    {
        endpoints.iter().fold(self, |routes, endpoint| {
            routes.put(endpoint, on_service(filter(endpoint.verb), service.clone()))
        })
    }

    /// These and those.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.open = self.open.merge(other.open);
        self.guarded = self.guarded.merge(other.guarded);
        self.endpoints.extend(other.endpoints);
        self
    }

    /// What is said of each.
    #[must_use]
    pub fn endpoints(&self) -> &[&'static Endpoint] {
        &self.endpoints
    }

    /// The routes that anybody may call, and those that need a credential.
    pub(super) fn into_routers(self) -> (Router<Arc<App>>, Router<Arc<App>>) {
        let refuse = async || plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        (self.open.method_not_allowed_fallback(refuse), self.guarded.method_not_allowed_fallback(refuse))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that has the description as well")]
    fn put(mut self, endpoint: &'static Endpoint, method: MethodRouter<Arc<App>>) -> Self {
        let method = method.route_layer(from_fn(async move |request: Request, next: Next| {
            Route(endpoint.path).on(enter(endpoint.access, request, next).await)
        }));
        let router = if endpoint.access == Access::Open { &mut self.open } else { &mut self.guarded };
        *router = std::mem::take(router).route(endpoint.path, method);
        self.endpoints.push(endpoint);
        self
    }
}

/// Lets a request in that may be there.
async fn enter(access: Access, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>();
    match (access, caller) {
        (Access::Open, _) | (Access::Caller, Some(_)) => next.run(request).await,
        (Access::Scope(scope), Some(caller)) if caller.has(scope) => next.run(request).await,
        (Access::Scope(scope), Some(_)) => {
            Fault(Error::MissingScope { scope: scope.as_str() }).into_response()
        }
        // The layer that authenticates stands before every guarded route.
        (Access::Caller | Access::Scope(_), None) => {
            Fault(Error::Internal { what: "a guarded route without a caller" }).into_response()
        }
    }
}

fn filter(verb: Verb) -> MethodFilter {
    match verb {
        Verb::Get => MethodFilter::GET,
        Verb::Post => MethodFilter::POST,
        Verb::Put => MethodFilter::PUT,
        Verb::Delete => MethodFilter::DELETE,
    }
}
