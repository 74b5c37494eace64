//! `/docs` and `/redoc`: Swagger UI and ReDoc over `/openapi.json`, out of the binary. A page loads what this
//! server has and nothing else: its policy lets a browser run no script, and send nothing, that is not from here.
//!
//! The pages are open: what they show is the same for everybody, and whoever tries a call out gives a credential.
//! The files come from `console/`; `console/vendor/refresh.sh` fetches those that are others'.

use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

use axum::{
    body::Bytes,
    extract::{Path, rejection::PathRejection},
    response::Response,
};
use http::{HeaderMap, StatusCode, header};
use rust_embed::RustEmbed;
use schemars::JsonSchema;

use super::{
    answer::plain,
    fixed::Fixed,
    routes::{Access, Content, Endpoint, Parameter, Place, Reply, Routes},
};
use crate::op::Verb;

/// What is others': their scripts and styles, compressed, and their licences, which are to go with them.
#[derive(RustEmbed)]
#[folder = "console/vendor"]
struct Vendored;

/// What is ours.
const OWN: &[(&str, &str)] = &[
    ("docs.js", include_str!("../../../console/docs/docs.js")),
    ("redoc.js", include_str!("../../../console/docs/redoc.js")),
    ("redoc.css", include_str!("../../../console/docs/redoc.css")),
];

static SWAGGER: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/docs",
    tag: "documents",
    title: "The API to try out",
    about: "Swagger UI over `/openapi.json`.",
    access: Access::Open,
    parameters: &[],
    body: Content::Nothing,
    replies: PAGE,
};

static REDOC: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/redoc",
    tag: "documents",
    title: "The API to read",
    about: "ReDoc over `/openapi.json`.",
    access: Access::Open,
    parameters: &[],
    body: Content::Nothing,
    replies: PAGE,
};

const PAGE: &[Reply] = &[
    Reply { status: 200, when: "The page.", content: Content::Text("text/html") },
    Reply { status: 304, when: "It is the one that `If-None-Match` names.", content: Content::Nothing },
];

static ASSET: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/assets/{digest}/{file}",
    tag: "documents",
    title: "A file of a page",
    about: "Scripts and styles of the pages. The digest in the address is the file's, so it can be kept for good.",
    access: Access::Open,
    parameters: &[
        Parameter { name: "digest", place: Place::Path, about: "Of the file.", schema: String::json_schema },
        Parameter { name: "file", place: Place::Path, about: "Its name.", schema: String::json_schema },
    ],
    body: Content::Nothing,
    replies: &[
        Reply { status: 200, when: "The file.", content: Content::Text("text/*") },
        Reply { status: 304, when: "It is the one that `If-None-Match` names.", content: Content::Nothing },
        Reply {
            status: 404,
            when: "There is no such file, or no longer with that digest.",
            content: Content::Fault,
        },
        Reply {
            status: 406,
            when: "It is kept compressed, and the client does not take that.",
            content: Content::Fault,
        },
    ],
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(&SWAGGER, async |headers: HeaderMap| PAGES.swagger.answer(&headers))
        .add(&REDOC, async |headers: HeaderMap| PAGES.redoc.answer(&headers))
        .add(&ASSET, asset)
}

/// The pages and what they are made of.
struct Pages {
    swagger: Fixed,
    redoc: Fixed,
    assets: HashMap<String, Fixed>,
}

/// Made when the first is asked for: nobody else pays for them.
static PAGES: LazyLock<Pages> = LazyLock::new(|| {
    let own = OWN.iter().filter_map(|(name, text)| asset_of(name, text.as_bytes().into()));
    let vendored = Vendored::iter().filter_map(|path| asset_of(&path, Vendored::get(&path)?.data));
    let assets: HashMap<_, _> = own.chain(vendored).collect();
    let page = |html: &str, policy| {
        let mut html = html.to_owned();
        for (name, file) in &assets {
            html = html.replace(&format!("{{{name}}}"), &format!("assets/{}/{name}", file.digest()));
        }
        let page = Fixed::new("text/html; charset=utf-8", html).with(header::CONTENT_SECURITY_POLICY, policy);
        page.with(header::X_FRAME_OPTIONS, "DENY").with(header::REFERRER_POLICY, "no-referrer")
    };
    Pages {
        swagger: page(include_str!("../../../console/docs/docs.html"), SWAGGER_POLICY),
        redoc: page(include_str!("../../../console/docs/redoc.html"), REDOC_POLICY),
        assets,
    }
});

const SWAGGER_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const REDOC_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='; img-src data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of a page by its name.
fn asset_of(path: &str, body: Cow<'static, [u8]>) -> Option<(String, Fixed)> {
    let name = path.rsplit('/').next()?;
    let bare = name.strip_suffix(".gz").unwrap_or(name);
    let media = match bare.rsplit('.').next()? {
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        _ => return None,
    };
    let body = match body {
        Cow::Borrowed(body) => Bytes::from_static(body),
        Cow::Owned(body) => body.into(),
    };
    let file = Fixed::new(media, body);
    let file = if bare == name { file } else { file.gzipped() };
    // Another digest is another address.
    let file = file.with(header::CACHE_CONTROL, "public, max-age=31536000, immutable");
    Some((bare.to_owned(), file))
}

async fn asset(path: Result<Path<(String, String)>, PathRejection>, headers: HeaderMap) -> Response {
    let file = path
        .ok()
        .and_then(|Path((digest, name))| PAGES.assets.get(&name).filter(|file| file.digest() == digest));
    file.map_or_else(|| plain(StatusCode::NOT_FOUND, "Not Found"), |file| file.answer(&headers))
}
