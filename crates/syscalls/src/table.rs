//! The table, by ranges of numbers. Its files are data; the compiler checks that no number is missing.

mod high;
mod low;
mod middle;

use crate::route::Row;

/// The row of a call; `None` for a number younger than the table, which means [`crate::Route::GoHome`].
pub fn row(nr: u32) -> Option<&'static Row> {
    BLOCKS.iter().find_map(|block| block.get(nr.checked_sub(block.first()?.nr)? as usize))
}

/// All rows, by rising number.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    BLOCKS.iter().copied().flatten()
}

static BLOCKS: [&[Row]; 3] = [&low::ROWS, &middle::ROWS, &high::ROWS];

// x86-64 has 0..=335 and 424..=471; the numbers between were left free to align the architectures.
const _: () = assert!(continuous(&low::ROWS, 0, 169));
const _: () = assert!(continuous(&middle::ROWS, 170, 335));
const _: () = assert!(continuous(&high::ROWS, 424, 471));

/// Whether the rows are exactly those of the numbers from `first` to `last`, in order.
const fn continuous(rows: &[Row], first: u32, last: u32) -> bool {
    let mut index = 0;
    while index < rows.len() {
        if rows[index].nr != first + index as u32 {
            return false;
        }
        index += 1;
    }
    rows.len() as u32 == last - first + 1
}

/// Rows, one line each: number, name, what it takes, other effects, route, exceptions, note.
macro_rules! table {
    ($($nr:literal $name:ident ($($arg:expr),*) $([$($effect:ident),+])? => $route:expr
        $(, when $condition:ident => $to:expr)* $(, $note:literal)?;)*) => {
        [$($crate::route::Row {
            nr: $nr,
            name: stringify!($name),
            args: &[$($arg),*],
            effects: &[$($($crate::route::Effect::$effect),+)?],
            route: $route,
            cases: &[$($crate::route::Case { when: $crate::condition::$condition, route: $to }),*],
            note: concat!("" $(, $note)?),
        }),*]
    };
}
use table;

use crate::arg::Arg;

/// Payload read: what `count` says, `each` bytes per unit of the result.
const fn many(count: u8, each: u32) -> Arg {
    Arg::OutMany { count, each }
}

/// An array read by the call.
const fn array(count: u8, each: u32) -> Arg {
    Arg::InMany { count, each, head: 0 }
}

/// An array read and changed by the call.
const fn changed(count: u8, each: u32) -> Arg {
    Arg::InOutMany { count, each }
}
