//! Methods that are told apart without their text.

macro_rules! methods {
    ($($(#[doc = $doc:literal])+ $name:ident = $id:literal, $text:literal;)+) => {
        /// A request's method, in `ExchangeRecord::method`: those of RFC 9110, PATCH (RFC 5789) and QUERY.
        /// Ids are append-only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Method {
            /// Any other.
            Unknown = 0,
            $($(#[doc = $doc])+ $name = $id,)+
        }

        impl Method {
            /// Parses the byte of a record; one that this version does not know is [`Method::Unknown`].
            pub const fn from_byte(byte: u8) -> Self {
                match byte { $($id => Self::$name,)+ _ => Self::Unknown }
            }

            /// As it stands in a request line; empty for [`Method::Unknown`].
            pub const fn text(self) -> &'static str {
                match self { Self::Unknown => "", $(Self::$name => $text,)+ }
            }

            /// Tells a method from its bytes, the first one highest, of which there are `len`.
            #[inline(always)]
            pub const fn of(name: u64, len: u8) -> Self {
                if len > 8 {
                    return Self::Unknown;
                }
                $(if name == word($text) { return Self::$name; })+
                Self::Unknown
            }
        }
    };
}

/// Up to eight bytes as one number, the first one highest.
const fn word(text: &str) -> u64 {
    let mut value = 0;
    let mut index = 0;
    while index < text.len() {
        value = value << 8 | text.as_bytes()[index] as u64;
        index += 1;
    }
    value
}

methods! {
    /// Its responses have no body.
    Head = 1, "HEAD";
    /// A 2xx response to it ends HTTP on the connection.
    Connect = 2, "CONNECT";
    /// Retrieve.
    Get = 3, "GET";
    /// Process.
    Post = 4, "POST";
    /// Replace.
    Put = 5, "PUT";
    /// Remove.
    Delete = 6, "DELETE";
    /// Change in part.
    Patch = 7, "PATCH";
    /// Ask for what is possible.
    Options = 8, "OPTIONS";
    /// Loop back.
    Trace = 9, "TRACE";
    /// Ask with a body.
    Query = 10, "QUERY";
}
