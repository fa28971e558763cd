//! One piece of code for many element types: macros that pick the variants, and the arithmetic that all numbers have.
//!
//! `numbers!(wrap!(data, v => vector))` runs the expression with `v` bound to the elements, whatever their type, and gives `None` for
//! types outside the list. Half precision is in no list: [`super::halves`] computes it in `f32`.

use std::cmp::Ordering;

/// The element types with arithmetic of their own.
macro_rules! numbers {
    ($apply:ident!($($rest:tt)*)) => { $apply!([F32 F64 I8 I16 I32 I64 U8 U16 U32 U64] $($rest)*) };
}

/// The integers.
macro_rules! whole {
    ($apply:ident!($($rest:tt)*)) => { $apply!([I8 I16 I32 I64 U8 U16 U32 U64] $($rest)*) };
}

/// All element types.
macro_rules! every {
    ($apply:ident!($($rest:tt)*)) => { $apply!([F32 F64 F16 BF16 I4 I8 I16 I32 I64 U4 U8 U16 U32 U64 Bool] $($rest)*) };
}

/// The expression's vector as elements of the same type.
macro_rules! wrap {
    ([$($t:ident)*] $data:expr, $v:ident => $body:expr) => {
        match $data {
            $(Data::$t($v) => Some(Data::$t($body)),)*
            #[allow(unreachable_patterns, reason = "the list may hold all types")]
            _ => None,
        }
    };
}

/// The expression's value, of one type whatever the elements are.
macro_rules! read {
    ([$($t:ident)*] $data:expr, $v:ident => $body:expr) => {
        match $data {
            $(Data::$t($v) => Some($body),)*
            #[allow(unreachable_patterns, reason = "the list may hold all types")]
            _ => None,
        }
    };
}

/// As `wrap!`, on two tensors of the same type.
macro_rules! wrap2 {
    ([$($t:ident)*] $a:expr, $b:expr, $x:ident, $y:ident => $body:expr) => {
        match ($a, $b) {
            $((Data::$t($x), Data::$t($y)) => Some(Data::$t($body)),)*
            _ => None,
        }
    };
}

/// As `read!`, on two tensors of the same type.
macro_rules! read2 {
    ([$($t:ident)*] $a:expr, $b:expr, $x:ident, $y:ident => $body:expr) => {
        match ($a, $b) {
            $((Data::$t($x), Data::$t($y)) => Some($body),)*
            _ => None,
        }
    };
}
pub(crate) use {every, numbers, read, read2, whole, wrap, wrap2};

/// The arithmetic that tensors of numbers allow. Integers wrap, as all runtimes do.
pub(crate) trait Number: Copy + PartialOrd + Default {
    const ONE: Self;
    /// Whether sums are worth double precision.
    const IS_FLOAT: bool;
    /// The identity of `max`.
    const LEAST: Self;
    /// The identity of `min`.
    const MOST: Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// Integers truncate; the divisor is not an integer zero.
    fn div(self, other: Self) -> Self;
    /// The remainder with the sign of the dividend; the divisor is not an integer zero.
    fn rem(self, other: Self) -> Self;
    /// Not a number wins, unlike in `f32::min`.
    fn min(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn neg(self) -> Self;
    fn is_integer_zero(self) -> bool;
    /// The nearest value, saturating.
    fn from_f64(x: f64) -> Self;
    /// The nearest `f64`.
    fn to_f64(self) -> f64;

    /// The remainder with the sign of the divisor, as Python has it.
    fn modulo(self, other: Self) -> Self {
        let zero = Self::default();
        let r = self.rem(other);
        if r != zero && (r < zero) != (other < zero) { r.add(other) } else { r }
    }

    fn abs(self) -> Self {
        if self < Self::default() { self.neg() } else { self }
    }

    /// A total order of values: not a number is above all.
    fn order(self, other: Self) -> Ordering {
        let nan = |x: Self| x.partial_cmp(&x).is_none();
        self.partial_cmp(&other).unwrap_or_else(|| nan(self).cmp(&nan(other)))
    }
}

macro_rules! integer {
    ($($t:ident)*) => {$(
        impl Number for $t {
            const ONE: Self = 1;
            const IS_FLOAT: bool = false;
            const LEAST: Self = $t::MIN;
            const MOST: Self = $t::MAX;
            fn add(self, other: Self) -> Self { self.wrapping_add(other) }
            fn sub(self, other: Self) -> Self { self.wrapping_sub(other) }
            fn mul(self, other: Self) -> Self { self.wrapping_mul(other) }
            fn div(self, other: Self) -> Self { self.wrapping_div(other) }
            fn rem(self, other: Self) -> Self { self.wrapping_rem(other) }
            fn min(self, other: Self) -> Self { Ord::min(self, other) }
            fn max(self, other: Self) -> Self { Ord::max(self, other) }
            fn neg(self) -> Self { self.wrapping_neg() }
            fn is_integer_zero(self) -> bool { self == 0 }
            fn from_f64(x: f64) -> Self { x as $t }
            fn to_f64(self) -> f64 { self as f64 }
        }
    )*};
}
integer!(i8 i16 i32 i64 u8 u16 u32 u64);

macro_rules! float {
    ($($t:ident)*) => {$(
        impl Number for $t {
            const ONE: Self = 1.0;
            const IS_FLOAT: bool = true;
            const LEAST: Self = $t::NEG_INFINITY;
            const MOST: Self = $t::INFINITY;
            fn add(self, other: Self) -> Self { self + other }
            fn sub(self, other: Self) -> Self { self - other }
            fn mul(self, other: Self) -> Self { self * other }
            fn div(self, other: Self) -> Self { self / other }
            fn rem(self, other: Self) -> Self { self % other }
            fn min(self, other: Self) -> Self { if self < other || self.is_nan() { self } else { other } }
            fn max(self, other: Self) -> Self { if self > other || self.is_nan() { self } else { other } }
            fn neg(self) -> Self { -self }
            fn abs(self) -> Self { self.abs() }
            fn is_integer_zero(self) -> bool { false }
            fn from_f64(x: f64) -> Self { x as $t }
            fn to_f64(self) -> f64 { self as f64 }
        }
    )*};
}
float!(f32 f64);
