//! Stable codes of errors: one row each, from which come both the match that gives an error its code and the
//! list that the documents and the approver's wire use. So no code stands in two places.

/// A stable code, as clients and the audit log see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The word.
    pub code: &'static str,
    /// When it is given.
    pub when: &'static str,
}

/// Rows of `pattern => "code", "when it is given";`, then those whose code is another's to say.
macro_rules! codes {
    ($error:ident { $($pattern:pat => $code:literal, $when:literal;)* } $({ $($other:pat => $given:expr;)* })?) => {
        impl $error {
            /// Every code of this error's own.
            pub const CODES: &'static [crate::codes::Code] =
                &[$(crate::codes::Code { code: $code, when: $when }),*];

            /// The stable code, as clients and the audit log carry it.
            #[must_use]
            pub fn code(&self) -> &'static str {
                match self {
                    $($pattern => $code,)*
                    $($($other => $given,)*)?
                }
            }
        }
    };
}
pub(crate) use codes;
