//! The macro behind every enum of the schema: a closed list of names plus whatever else a file may hold.

/// Declares an enum that maps to an integer code of the file and keeps codes it does not know.
macro_rules! code_enum {
    ($(#[$meta:meta])* $name:ident : $repr:ident { $($variant:ident = $code:literal $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $text, "`, code ", stringify!($code), ".")] $variant,)*
            /// A code that the schema does not list; kept so that it can be shown and written back.
            Unknown($repr),
        }

        impl $name {
            /// Every code that the schema lists, in the order of the codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number that stands in the file.
            pub const fn code(self) -> $repr {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Unknown(code) => code,
                }
            }

            /// The meaning of a number found in a file.
            pub const fn from_code(code: $repr) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }

            /// The schema's name, `UNKNOWN` where it has none. `Display` shows the number as well then.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unknown(_) => "UNKNOWN",
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    Self::Unknown(code) => f.pad(&format!("UNKNOWN({code})")),
                    known => f.pad(known.name()),
                }
            }
        }
    };
}

pub(super) use code_enum;
