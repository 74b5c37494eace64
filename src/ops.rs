//! The operations, one family a file. The table below is all that front ends know of them.

pub mod database;
pub mod files;
#[cfg(feature = "kms")]
pub mod kms;
pub mod kv;
pub mod pki;
pub mod service;
pub mod session;
pub mod ssh;
pub mod transit;
pub mod wrap;

use crate::op::Op;

/// Every operation. Order is what `tools/list` shows and must stay as it is: clients cache it.
pub(crate) const TABLE: &[Op] = &[
    Op::of::<kv::List>(),
    Op::of::<kv::Read>(),
    Op::of::<kv::Metadata>(),
    Op::of::<kv::Diff>(),
    Op::of::<kv::Write>(),
    Op::of::<kv::Patch>(),
    Op::of::<kv::Rollback>(),
    Op::of::<kv::Generate>(),
    Op::of::<kv::Delete>(),
    Op::of::<kv::Undelete>(),
    Op::of::<kv::Destroy>(),
    Op::of::<kv::Compare>(),
    Op::of::<service::List>(),
    Op::of::<service::Get>(),
    Op::of::<service::Set>(),
    Op::of::<files::Inject>(),
    Op::of::<files::ScanEnv>(),
    Op::of::<files::ScanCompose>(),
    Op::of::<files::GenerateExample>(),
    Op::of::<transit::Encrypt>(),
    Op::of::<transit::Decrypt>(),
    Op::of::<transit::Sign>(),
    Op::of::<transit::Verify>(),
    Op::of::<transit::Rewrap>(),
    Op::of::<transit::Random>(),
    Op::of::<transit::Keys>(),
    Op::of::<database::Issue>(),
    Op::of::<database::Renew>(),
    Op::of::<database::Revoke>(),
    Op::of::<database::List>(),
    Op::of::<ssh::Otp>(),
    Op::of::<ssh::Sign>(),
    Op::of::<pki::Roles>(),
    Op::of::<pki::Issue>(),
    Op::of::<pki::Revoke>(),
    #[cfg(feature = "kms")]
    Op::of::<kms::Encrypt>(),
    #[cfg(feature = "kms")]
    Op::of::<kms::Decrypt>(),
    #[cfg(feature = "kms")]
    Op::of::<kms::DataKey>(),
    #[cfg(feature = "kms")]
    Op::of::<kms::Sign>(),
    #[cfg(feature = "kms")]
    Op::of::<kms::Verify>(),
    Op::of::<wrap::Wrap>(),
    Op::of::<kv::Ask>(),
    Op::of::<session::Status>(),
    Op::of::<session::Login>(),
    Op::of::<session::Logout>(),
    Op::of::<session::Mounts>(),
];
