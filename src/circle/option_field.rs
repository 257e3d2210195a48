//! How the fields of option tables are read, written and shown; and the macro that lists them.

use super::cursor::Table;
use super::emit::Node;
use super::error::Result;
use super::types::{Activation, Padding, TensorType};

/// A type that a field of an option table can have.
pub(super) trait Field: Sized {
    /// The field as it is written; `None` leaves it out.
    fn node(&self) -> Option<Node<'_>>;
    /// The field at `slot`, or `default` where the table lacks it.
    fn read(table: &Table<'_>, slot: u16, default: Self) -> Result<Self>;
    /// The field as JSON, which is also how it is printed.
    fn json(&self) -> serde_json::Value;
}

macro_rules! scalar_field {
    ($($type:ty, $node:ident;)*) => {$(
        impl Field for $type {
            fn node(&self) -> Option<Node<'_>> {
                Some(Node::$node(*self))
            }

            fn read(table: &Table<'_>, slot: u16, default: Self) -> Result<Self> {
                Ok(table.scalar(slot)?.map_or(default, <$type>::from_le_bytes))
            }

            fn json(&self) -> serde_json::Value {
                (*self).into()
            }
        }
    )*};
}

scalar_field! { i8, I8; i32, I32; u32, U32; i64, I64; f32, F32; }

impl Field for bool {
    fn node(&self) -> Option<Node<'_>> {
        Some(Node::Bool(*self))
    }

    fn read(table: &Table<'_>, slot: u16, default: Self) -> Result<Self> {
        table.bool(slot, default)
    }

    fn json(&self) -> serde_json::Value {
        (*self).into()
    }
}

macro_rules! enum_field {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn node(&self) -> Option<Node<'_>> {
                Some(Node::I8(self.code()))
            }

            fn read(table: &Table<'_>, slot: u16, default: Self) -> Result<Self> {
                Ok(Self::from_code(table.i8(slot, default.code())?))
            }

            fn json(&self) -> serde_json::Value {
                self.to_string().into()
            }
        }
    )*};
}

enum_field! { Activation, Padding, TensorType }

macro_rules! vector_field {
    ($($type:ty, $node:ident, $from:expr;)*) => {$(
        impl Field for Vec<$type> {
            fn node(&self) -> Option<Node<'_>> {
                (!self.is_empty()).then_some(Node::$node(self))
            }

            fn read(table: &Table<'_>, slot: u16, default: Self) -> Result<Self> {
                Ok(table.maybe_scalars(slot, $from)?.unwrap_or(default))
            }

            fn json(&self) -> serde_json::Value {
                self.clone().into()
            }
        }
    )*};
}

vector_field! {
    bool, Bools, |[b]: [u8; 1]| b != 0;
    u8, U8s, |[b]: [u8; 1]| b;
    i32, I32s, i32::from_le_bytes;
    u32, U32s, u32::from_le_bytes;
    i64, I64s, i64::from_le_bytes;
    f32, F32s, f32::from_le_bytes;
}

impl Field for String {
    fn node(&self) -> Option<Node<'_>> {
        Some(Node::Str(self))
    }

    fn read(table: &Table<'_>, slot: u16, default: Self) -> Result<Self> {
        Ok(table.string(slot)?.unwrap_or(default))
    }

    fn json(&self) -> serde_json::Value {
        self.clone().into()
    }
}

/// Declares a union of option tables: `Variant = id "Table" { field: type = (slot, default) }`.
macro_rules! option_tables {
    ($(#[$meta:meta])* $name:ident {
        $($variant:ident = $id:literal $table:literal
            $({ $($field:ident: $type:ty = ($slot:literal, $default:expr)),* $(,)? })?,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub enum $name {
            /// No table.
            #[default]
            None,
            $(
                #[doc = concat!("`", $table, "`, union member ", stringify!($id), ".")]
                $variant $({ $(
                    #[doc = concat!("Slot ", stringify!($slot), ", absent: `", stringify!($default), "`.")]
                    $field: $type,
                )* })?,
            )*
            /// A table that the schema does not list. It can be shown, but not written: which of its
            /// fields are offsets is unknown.
            Unknown {
                /// Its number in the union.
                type_id: u8,
                /// The slots that it has.
                slots: Vec<u16>,
            },
        }

        impl $name {
            /// The table's number in the union, 0 for none.
            pub fn type_id(&self) -> u8 {
                match self {
                    Self::None => 0,
                    $(Self::$variant { .. } => $id,)*
                    Self::Unknown { type_id, .. } => *type_id,
                }
            }

            /// The schema's name of the table.
            pub fn name(&self) -> &'static str {
                match self {
                    Self::None => "NONE",
                    $(Self::$variant { .. } => $table,)*
                    Self::Unknown { .. } => "UNKNOWN",
                }
            }

            /// The table of this number with every field at the schema's default; `None` for
            /// numbers that the schema does not list.
            pub fn with_defaults(type_id: u8) -> Option<Self> {
                Some(match type_id {
                    0 => Self::None,
                    $($id => Self::$variant $({ $($field: $default),* })?,)*
                    _ => return None,
                })
            }

            /// Every field by its name, in the order of the slots.
            pub fn fields(&self) -> Vec<(&'static str, serde_json::Value)> {
                match self {
                    $(Self::$variant $({ $($field),* })? => {
                        vec![$($((stringify!($field), Field::json($field))),*)?]
                    })*
                    Self::None => Vec::new(),
                    Self::Unknown { slots, .. } => vec![("slots", slots.clone().into())],
                }
            }

            /// The table as it is written, every scalar present; `None` if there is none or its
            /// layout is unknown.
            pub(super) fn nodes(&self) -> Option<Fields<'_>> {
                match self {
                    $(Self::$variant $({ $($field),* })? => {
                        let fields: Vec<(u16, Option<Node<'_>>)> =
                            vec![$($(($slot, Field::node($field))),*)?];
                        Some(fields.into_iter().filter_map(|(s, n)| Some((s, n?))).collect())
                    })*
                    Self::None | Self::Unknown { .. } => None,
                }
            }

            /// Reads member `type_id` of the union.
            #[allow(clippy::too_many_lines)] // one line per table of the schema
            pub(super) fn read(type_id: u8, table: &Table<'_>) -> Result<Self> {
                Ok(match type_id {
                    $($id => Self::$variant $({
                        $($field: Field::read(table, $slot, $default)
                            .map_err(|e| e.within(stringify!($field)))?),*
                    })?,)*
                    type_id => Self::Unknown { type_id, slots: table.present() },
                })
            }
        }
    };
}

pub(super) use option_tables;
