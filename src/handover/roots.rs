//! The folders that files may be read and written in: those that a client names, else the working folder. The
//! client names them, never the model; all the same some places are for no file of ours, whoever names them.

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    path::{Component, Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use crate::names::is_invisible;

/// Most folders of one client that count.
const MAX_ROOTS: usize = 64;

/// A folder that files may lie in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Without a link in it.
    path: PathBuf,
    /// As it was named, where that is another spelling.
    named: Option<PathBuf>,
}

impl Root {
    /// The folder behind a path, links resolved.
    ///
    /// # Errors
    /// Why it is no place for a user's files.
    pub fn of(named: &Path) -> Result<Self, Cow<'static, str>> {
        let path = named.canonicalize().map_err(|error| format!("it cannot be opened ({})", error.kind()))?;
        if !path.is_dir() {
            return Err("it is no folder".into());
        }
        let text = path.to_str().ok_or("its name is no text")?;
        if text.chars().any(is_invisible) {
            return Err("its name has an invisible character".into());
        }
        if path.parent().is_none() {
            return Err("it is the whole file system".into());
        }
        if is_systems(&path) || is_systems(named) {
            return Err("it is the system's".into());
        }
        if !is_users(&path) {
            return Err("hidden folders steer other programs".into());
        }
        let named = (named != path).then(|| named.to_owned());
        Ok(Self { path, named })
    }

    /// The folder that a `file://` URI names.
    ///
    /// # Errors
    /// As [`Self::of`]; also for another scheme or machine, and for what readers of URIs understand differently.
    pub fn from_uri(uri: &str) -> Result<Self, Cow<'static, str>> {
        let scheme = uri.get(..7).filter(|start| start.eq_ignore_ascii_case("file://"));
        let rest = scheme.and(uri.get(7..)).ok_or("it is no file:// URI")?;
        if rest.contains(['?', '#', '\\']) || rest.chars().any(is_invisible) {
            return Err("it holds a character that has to be encoded".into());
        }
        let plain = |segment: &str| {
            let segment = segment.to_ascii_lowercase().replace("%2e", ".");
            !(segment == "." || segment == ".." || segment.contains("%2f") || segment.contains("%00"))
        };
        if !rest.split('/').all(plain) {
            return Err("it holds '.', '..' or an encoded slash".into());
        }
        let url = url::Url::parse(uri).map_err(|_| "it is no URI")?;
        // Fails for the folder of another machine.
        let path = url.to_file_path().map_err(|()| "it is on another machine")?;
        Self::of(&path)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is left of an absolute path that begins with this folder, in either spelling.
    #[must_use]
    pub fn strip<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let named = self.named.as_deref().and_then(|named| path.strip_prefix(named).ok());
        path.strip_prefix(&self.path).ok().or(named)
    }
}

/// The working folder as the only root; none where it is no place for a user's files, such as `/`, which is where
/// some clients start their servers.
#[must_use]
pub fn working_folder() -> Arc<[Root]> {
    std::env::current_dir().ok().and_then(|folder| Root::of(&folder).ok()).into_iter().collect()
}

/// The folders of a client's list, those that are none left out.
#[must_use]
pub fn of_client<'a>(uris: impl Iterator<Item = &'a str>) -> Arc<[Root]> {
    let usable = uris.take(MAX_ROOTS).filter_map(|uri| {
        // The folder's name is the client's own business and stays out of the log.
        Root::from_uri(uri)
            .inspect_err(|fault| tracing::warn!(%fault, "a folder of the client is not used"))
            .ok()
    });
    usable.collect()
}

/// Folders of the system: what lies there steers it.
const SYSTEM: &[&str] = &[
    "/Applications",
    "/Library",
    "/System",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/private/etc",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/run",
    "/var/spool",
];
/// Folders of people's work among them.
const WORK: &[&str] = &["/usr/src", "/usr/local/src", "/run/media"];

/// True for a folder of the system. The path has no link in it.
pub(super) fn is_systems(path: &Path) -> bool {
    let within = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
    within(SYSTEM) && !within(WORK)
}

/// False within a hidden folder, unless a work tree of git lies there (some clients keep theirs in one), and
/// always within git's own folder and where keys lie.
fn is_users(path: &Path) -> bool {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let mut names = names.filter(|name| name.starts_with('.')).peekable();
    if names.peek().is_none() {
        return true;
    }
    if names.any(|name| [".git", ".gnupg", ".ssh"].iter().any(|kept| name.eq_ignore_ascii_case(kept))) {
        return false;
    }
    for folder in path.ancestors() {
        if folder.join(".git").symlink_metadata().is_ok() {
            return true;
        }
        if folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            return false;
        }
    }
    false
}

/// Finds out where a caller's files may lie.
pub trait FindRoots: Send + Sync {
    /// The folders; the same ones however often it is asked.
    fn find(&self) -> Pin<Box<dyn Future<Output = Arc<[Root]>> + Send + '_>>;
}

/// Where a caller's files may lie.
#[derive(Clone)]
pub enum Roots {
    /// Known from the start.
    Known(Arc<[Root]>),
    /// To be asked for, when the first call needs a file.
    Asked(Arc<dyn FindRoots>),
}

impl Roots {
    /// No folder at all.
    #[must_use]
    pub fn none() -> Self {
        Self::Known(Arc::from([]))
    }

    /// The folders.
    pub async fn find(&self) -> Arc<[Root]> {
        match self {
            Self::Known(roots) => roots.clone(),
            Self::Asked(source) => source.find().await,
        }
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(roots) => write!(f, "{} roots", roots.len()),
            Self::Asked(_) => f.write_str("roots to be asked for"),
        }
    }
}

/// A folder for a test; `tempfile`'s own names are hidden ones.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) fn visible_folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("vm").tempdir().unwrap()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn uri(path: &Path) -> String {
        format!("file://{}", path.display())
    }

    #[test]
    fn a_folder_of_a_client_is_found_behind_links_and_encodings() {
        let base = visible_folder();
        let base = base.path().canonicalize().unwrap();
        let project = base.join("my prøject%41#1");
        std::fs::create_dir(&project).unwrap();
        symlink(&project, base.join("link")).unwrap();
        let encoded = format!("{}/my%20pr%C3%B8ject%2541%231", uri(&base));
        for uri in [&encoded, &encoded.replace("file://", "FILE://localhost"), &format!("{encoded}/")] {
            assert_eq!(Root::from_uri(uri).unwrap().path(), project, "{uri}");
        }
        let root = Root::from_uri(&uri(&base.join("link"))).unwrap();
        assert_eq!(root.path(), project);
        for spelling in [project.join("a/b"), base.join("link/a/b")] {
            assert_eq!(root.strip(&spelling), Some(Path::new("a/b")));
        }
        assert_eq!(root.strip(&base.join("link2/a")), None);
        assert_eq!(root.strip(&base.join("a")), None);
    }

    #[test]
    fn what_is_no_folder_of_a_user_is_no_root_whoever_names_it() {
        let base = visible_folder();
        let base = base.path().canonicalize().unwrap();
        for folder in ["p/.git/hooks", ".ssh", ".SSH/x", ".config/x", "plain", ".w/tree/.git", ".w/tree/sub"]
        {
            std::fs::create_dir_all(base.join(folder)).unwrap();
        }
        std::fs::create_dir_all(base.join(".ssh/.git")).unwrap();
        std::fs::write(base.join("file"), "").unwrap();
        symlink("/etc", base.join("system")).unwrap();
        symlink("/", base.join("whole")).unwrap();
        symlink(base.join(".ssh"), base.join("keys")).unwrap();
        symlink(base.join("loop"), base.join("loop")).unwrap();
        let inside = |name: &str| uri(&base.join(name));
        let plain = inside("plain");
        let refused = [
            "",
            "file:///",
            "file:////",
            "file:///etc",
            "file:///etc/ssh",
            "file:///proc/self",
            "file:///dev",
            "file:///usr",
            "file:///home/../etc",
            "file:///%2e%2e/etc",
            "file:///nothing/here",
            "file://",
            "file:",
            "file:etc",
            "file://example.com/etc",
            "file://~/",
            "file:///~",
            "file:///tmp%00",
            "file:///tmp\0",
            "file:///tmp\n",
            "https://example.com/",
            "vscode-remote://ssh-remote/tmp",
            "data:,x",
            "/tmp",
            "tmp",
            "./tmp",
            "~",
            "..",
            " file:///tmp",
            "file:\\\\\\tmp",
        ];
        let refused = refused.map(str::to_owned).into_iter().chain([
            inside("file"),
            inside("system"),
            inside("whole"),
            inside("keys"),
            inside("loop"),
            inside("p/.git"),
            inside("p/.git/hooks"),
            inside(".ssh"),
            inside(".SSH/x"),
            inside(".config/x"),
            inside(".w"),
            inside(".w/tree/.git"),
            format!("{plain}?x"),
            format!("{plain}#x"),
            format!("{plain}/../.ssh"),
            format!("{plain}/%2e%2E/.ssh"),
            format!("{plain}/..%2f.ssh"),
            format!("{plain}%2F..%2F.ssh"),
            plain.replace("file://", "http://"),
            format!("{plain}\u{202e}"),
            format!("{plain}/."),
        ]);
        for uri in refused {
            assert!(Root::from_uri(&uri).is_err(), "{uri:?} was accepted");
        }
        for folder in ["plain", "p", ".w/tree", ".w/tree/sub"] {
            assert!(Root::from_uri(&inside(folder)).is_ok(), "{folder} was refused");
        }
        let list = ["file:///etc", &plain, "nonsense"];
        assert_eq!(of_client(list.into_iter()).len(), 1);
        assert_eq!(of_client(std::iter::repeat_n(plain.as_str(), 10_000)).len(), MAX_ROOTS);
    }
}
