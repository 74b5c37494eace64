//! The operations, one family a file. The table below is all that front ends know of them.

pub mod kv;
pub mod service;
pub mod session;
pub mod transit;

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
    Op::of::<transit::Encrypt>(),
    Op::of::<transit::Decrypt>(),
    Op::of::<transit::Sign>(),
    Op::of::<transit::Verify>(),
    Op::of::<transit::Rewrap>(),
    Op::of::<transit::Random>(),
    Op::of::<transit::Keys>(),
    Op::of::<session::Status>(),
    Op::of::<session::Login>(),
    Op::of::<session::Logout>(),
    Op::of::<session::Mounts>(),
];
