//! The macro that turns one description of a table into its struct, its encoder, its description for the JSON
//! decoder, and its JSON writer.

/// `kind` makes a root that an envelope carries, `table` a part of one.
macro_rules! messages {
    ($( $(#[$doc:meta])* $sort:ident $name:ident $(<$life:lifetime>)? {
        $( $field:ident : $class:ident $(($($arg:tt)*))? ),* $(,)?
    } )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[expect(missing_docs, reason = "schema/tidegate.fbs says what each field means")]
        pub struct $name $(<$life>)? {
            $( pub $field: field!(type $class $($($arg)*)?), )*
        }

        impl $(<$life>)? Default for $name $(<$life>)? {
            fn default() -> Self {
                Self { $( $field: field!(default $class $($($arg)*)?), )* }
            }
        }

        impl $(<$life>)? $name $(<$life>)? {
            pub(crate) const TABLE: &'static Table = &Table {
                #[cfg(test)]
                name: stringify!($name),
                fields: &[$( Field { name: stringify!($field), class: field!(class $class $($($arg)*)?) } ),*],
            };

            /// Writes the table, its children first.
            fn create(&self, builder: &mut FlatBufferBuilder<'_>) -> Built {
                let slots = [$( field!(slot (self.$field) builder $class $($($arg)*)?) ),*];
                table::build(Self::TABLE, &slots, builder)
            }

            message_root!($sort);
        }

        impl write::WriteMembers for fb::$name<'_> {
            fn write_members(&self, out: &mut Vec<u8>) {
                $( field!(write (self.$field()) (concat!(",\"", stringify!($field), "\":")) out
                    $class $($($arg)*)?); )*
            }
        }
    )*};
}

macro_rules! message_root {
    (kind) => {
        /// The payload of an envelope of this kind. What `builder` held before is gone.
        pub fn encode<'b>(&self, builder: &'b mut FlatBufferBuilder<'_>) -> &'b [u8] {
            builder.reset();
            let root = self.create(builder);
            builder.finish_minimal(root);
            builder.finished_data()
        }
    };
    (table) => {};
}

/// What each class of field is: the struct's type and default, the description, the slot to build, the JSON.
macro_rules! field {
    (type u64) => { u64 };
    (type hex64) => { u64 };
    (type u32) => { u32 };
    (type bool $default:literal) => { bool };
    (type text) => { &'a str };
    (type id) => { Id };
    (type enumeration $enumeration:ident) => { fb::$enumeration };
    (type table $table:ty) => { $table };
    (type tables $table:ty) => { &'a [$table] };

    (default bool $default:literal) => { $default };
    (default $class:ident $($arg:tt)*) => { Default::default() };

    (class u64) => { Class::U64 };
    (class hex64) => { Class::Hex64 };
    (class u32) => { Class::U32 };
    (class bool $default:literal) => { Class::Bool($default) };
    (class text) => { Class::Text };
    (class id) => { Class::Id };
    (class enumeration $enumeration:ident) => {
        Class::Enumeration(concat!("a name of ", stringify!($enumeration)), |name| fb::$enumeration::from_name(name).map(Named::to_u8))
    };
    (class table $table:ty) => { Class::Table(<$table>::TABLE) };
    (class tables $table:ty) => { Class::Tables(<$table>::TABLE) };

    (slot ($value:expr) $builder:ident u64) => { Slot::U64($value) };
    (slot ($value:expr) $builder:ident hex64) => { Slot::U64($value) };
    (slot ($value:expr) $builder:ident u32) => { Slot::U32($value) };
    (slot ($value:expr) $builder:ident bool $default:literal) => { Slot::U8(u8::from($value)) };
    (slot ($value:expr) $builder:ident text) => { Slot::text($value, $builder) };
    (slot ($value:expr) $builder:ident id) => { Slot::id($value) };
    (slot ($value:expr) $builder:ident enumeration $enumeration:ident) => { Slot::U8($value.0) };
    (slot ($value:expr) $builder:ident table $table:ty) => { Slot::child($value.create($builder)) };
    (slot ($value:expr) $builder:ident tables $table:ty) => {
        if $value.is_empty() {
            Slot::Absent
        } else {
            let children: Vec<Built> = $value.iter().map(|child| child.create($builder)).collect();
            Slot::children(&children, $builder)
        }
    };

    (write ($value:expr) ($key:expr) $out:ident u64) => { write::number($out, $key, $value) };
    (write ($value:expr) ($key:expr) $out:ident hex64) => { write::hex64($out, $key, $value) };
    (write ($value:expr) ($key:expr) $out:ident u32) => { write::number($out, $key, u64::from($value)) };
    (write ($value:expr) ($key:expr) $out:ident bool $default:literal) => {
        write::boolean($out, $key, $value, $default)
    };
    (write ($value:expr) ($key:expr) $out:ident text) => { write::text($out, $key, $value) };
    (write ($value:expr) ($key:expr) $out:ident id) => { write::id($out, $key, $value.into()) };
    (write ($value:expr) ($key:expr) $out:ident enumeration $enumeration:ident) => {
        write::enumeration($out, $key, $value)
    };
    (write ($value:expr) ($key:expr) $out:ident table $table:ty) => {
        if let Some(child) = $value { write::table($out, $key, &child) }
    };
    (write ($value:expr) ($key:expr) $out:ident tables $table:ty) => {
        if let Some(children) = $value { write::tables($out, $key, children.iter()) }
    };
}

/// `Kind::table`: the description of each kind's root.
macro_rules! roots {
    ($($kind:ident),* $(,)?) => {
        impl crate::envelope::Kind {
            pub(crate) const fn table(self) -> &'static Table {
                match self { $(Self::$kind => $kind::TABLE),* }
            }
        }
    };
}
