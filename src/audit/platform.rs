//! The few things about files that differ between systems: who owns one, who may open one, and how
//! to open one without being led elsewhere. Off Unix there are no owners and modes to check, so
//! those checks pass and the folder's access list is the fence.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

use super::AuditError;

/// What makes two names the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

#[cfg(unix)]
mod system {
    use std::fs::{DirBuilder, Metadata, OpenOptions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
    use std::path::Path;

    use rustix::fs::OFlags;

    use super::FileId;

    pub(super) fn id(meta: &Metadata) -> FileId {
        FileId { device: meta.dev(), inode: meta.ino() }
    }

    pub(super) fn foreign_owner(meta: &Metadata) -> Option<u32> {
        (meta.uid() != rustix::process::geteuid().as_raw()).then(|| meta.uid())
    }

    pub(super) fn owned_by_root(meta: &Metadata) -> bool {
        meta.uid() == 0
    }

    pub(super) fn mode(meta: &Metadata) -> u32 {
        meta.permissions().mode() & 0o7777
    }

    /// Non-blocking, or opening a FIFO for reading would wait for its other end for ever.
    pub(super) fn guard(options: &mut OpenOptions) {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
        options.mode(0o600).custom_flags(i32::try_from(flags).unwrap_or_default());
    }

    pub(super) fn make_folder(path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    pub(super) fn kind(meta: &Metadata) -> &'static str {
        let kind = meta.file_type();
        if kind.is_fifo() {
            "a FIFO"
        } else if kind.is_socket() {
            "a socket"
        } else if kind.is_block_device() || kind.is_char_device() {
            "a device"
        } else {
            "something else"
        }
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs::{Metadata, OpenOptions};
    use std::io;
    use std::path::Path;

    use super::FileId;

    /// The time of creation stands in for the inode: it survives a rename and differs for a new file.
    pub(super) fn id(meta: &Metadata) -> FileId {
        let created = meta.created().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let nanos = created.map_or(0, |since| since.as_nanos());
        FileId { device: 0, inode: u64::try_from(nanos).unwrap_or(u64::MAX) }
    }

    pub(super) fn foreign_owner(_: &Metadata) -> Option<u32> {
        None
    }

    pub(super) fn owned_by_root(_: &Metadata) -> bool {
        false
    }

    pub(super) fn mode(_: &Metadata) -> u32 {
        0o600
    }

    pub(super) fn guard(_: &mut OpenOptions) {}

    pub(super) fn make_folder(path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    pub(super) fn kind(_: &Metadata) -> &'static str {
        "something else"
    }
}

/// The identity of the file that `meta` describes.
pub(super) fn id(meta: &Metadata) -> FileId {
    system::id(meta)
}

/// What a path names, with its article, for an error.
pub(super) fn kind(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_file() {
        "another file"
    } else {
        system::kind(meta)
    }
}

/// How a file of the log is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// For reading alone.
    Read,
    /// For reading, and writing at the end.
    Append,
    /// As `Append`, made if it is not there.
    AppendOrMake,
    /// A new file for writing; an existing one is an error.
    Make,
}

/// Opens a file of the log, and refuses links, everything but regular files, foreign owners and
/// permissions wider than 0600.
pub(super) fn open(path: &Path, access: Access) -> Result<(File, Metadata), AuditError> {
    let mut options = OpenOptions::new();
    match access {
        Access::Read => options.read(true),
        Access::Append => options.read(true).append(true),
        Access::AppendOrMake => options.read(true).append(true).create(true),
        Access::Make => options.read(true).write(true).create_new(true),
    };
    system::guard(&mut options);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(source) => {
            // The error number for a link or a folder differs between systems; what is there says it.
            if let Ok(meta) = fs::symlink_metadata(path) {
                check_kind(path, &meta)?;
                if let Some(owner) = system::foreign_owner(&meta) {
                    return Err(AuditError::ForeignOwner { path: path.to_path_buf(), owner });
                }
            }
            return Err(AuditError::io("opening", path, source));
        }
    };
    let meta = file.metadata().map_err(|source| AuditError::io("examining", path, source))?;
    check_kind(path, &meta)?;
    if let Some(owner) = system::foreign_owner(&meta) {
        return Err(AuditError::ForeignOwner { path: path.to_path_buf(), owner });
    }
    let mode = system::mode(&meta);
    if mode & !0o600 != 0 {
        return Err(AuditError::Permissions { path: path.to_path_buf(), mode });
    }
    Ok((file, meta))
}

fn check_kind(path: &Path, meta: &Metadata) -> Result<(), AuditError> {
    if meta.is_file() {
        Ok(())
    } else if meta.is_symlink() {
        Err(AuditError::Symlink { path: path.to_path_buf() })
    } else {
        Err(AuditError::NotAFile { path: path.to_path_buf(), kind: kind(meta) })
    }
}

/// Makes the log's folder if it is missing (0700), and refuses one in which others may make files.
pub(super) fn ready_folder(folder: &Path) -> Result<(), AuditError> {
    let meta = match fs::symlink_metadata(folder) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            system::make_folder(folder)
                .map_err(|source| AuditError::io("making the folder", folder, source))?;
            fs::metadata(folder)
        }
        // A linked folder is judged by what it leads to: some systems link their temporary folders.
        Ok(meta) if meta.is_symlink() => fs::metadata(folder),
        other => other,
    }
    .map_err(|source| AuditError::io("examining the folder", folder, source))?;
    if !meta.is_dir() {
        return Err(AuditError::NotAFile { path: folder.to_path_buf(), kind: kind(&meta) });
    }
    if let Some(owner) = system::foreign_owner(&meta)
        && !system::owned_by_root(&meta)
    {
        return Err(AuditError::ForeignOwner { path: folder.to_path_buf(), owner });
    }
    let mode = system::mode(&meta);
    if mode & 0o022 != 0 {
        return Err(AuditError::FolderOpen { path: folder.to_path_buf(), mode });
    }
    Ok(())
}

/// Makes renames and new names in a folder outlast a power cut.
pub(super) fn sync_folder(folder: &Path) -> Result<(), AuditError> {
    if cfg!(unix) {
        File::open(folder)
            .and_then(|opened| opened.sync_all())
            .map_err(|source| AuditError::io("syncing the folder", folder, source))?;
    }
    Ok(())
}
