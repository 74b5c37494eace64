//! What can be known of the running process from outside: meters, log files, traces.
//!
//! Every room may report here, and none learns whether anybody looks: on stdio nothing is installed, and a
//! report is one load of a flag. What this module does not do: the audit log, which is the broker's and never
//! switched off; or answer an HTTP request, which is the front's. Nothing that is reported here holds a secret,
//! a path below a mount, or a caller's own text.

pub mod meters;
