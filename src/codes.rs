//! Stable codes of errors: one row each, from which come the match that gives an error its code, the one that
//! gives it its kind, and the list that the documents and the approver's wire use. So no code stands in two
//! places.

/// What sort of fault it is: what a caller could do about it, in no protocol's words. A front end makes of it
/// what its protocol has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The call says something that cannot be: change it.
    Input,
    /// The call is too large: split it.
    TooLarge,
    /// It is not known who calls.
    NobodyKnown,
    /// A person, a policy or the caller's own credential does not allow it.
    NotAllowed,
    /// What it names is not there.
    Absent,
    /// What it names has changed in the meantime.
    Conflict,
    /// Too many calls: wait.
    Busy,
    /// No answer from what is behind, in time.
    Timeout,
    /// This server, or what is behind it, cannot do it now or as it is set up.
    Unavailable,
    /// What is behind failed, or answered with nonsense.
    Upstream,
    /// A fault of this program or its settings.
    Internal,
}

/// A stable code, as clients and the audit log see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The word.
    pub code: &'static str,
    /// What sort of fault it stands for.
    pub kind: Kind,
    /// When it is given.
    pub when: &'static str,
}

/// Rows of `pattern => Kind "code", "when it is given";`, then those whose code and kind are another's to say.
/// Where all are of one kind, it stands before the rows.
macro_rules! codes {
    ($error:ident: $kind:ident { $($pattern:pat => $code:literal, $when:literal;)* }) => {
        crate::codes::codes!($error { $($pattern => $kind $code, $when;)* });
    };
    ($error:ident { $($pattern:pat => $kind:ident $code:literal, $when:literal;)* }
        $({ $($other:pat => $given:expr, $its:expr;)* })?) => {
        impl $error {
            /// Every code of this error's own.
            pub const CODES: &'static [crate::codes::Code] = &[
                $(crate::codes::Code { code: $code, kind: crate::codes::Kind::$kind, when: $when }),*
            ];

            /// The stable code, as clients and the audit log carry it.
            #[must_use]
            pub fn code(&self) -> &'static str {
                match self {
                    $($pattern => $code,)*
                    $($($other => $given,)*)?
                }
            }

            /// What sort of fault it is.
            #[must_use]
            pub fn kind(&self) -> crate::codes::Kind {
                match self {
                    $($pattern => crate::codes::Kind::$kind,)*
                    $($($other => $its,)*)?
                }
            }
        }
    };
}
pub(crate) use codes;
