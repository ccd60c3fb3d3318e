//! What an argument is, so that it can be carried to another machine.

/// Kind of one argument of a call. "Argument n" counts from 0.
///
/// A NULL pointer always stays NULL: the kernel at home knows best whether it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A number, or a descriptor of the home node by number.
    Value,
    /// A file descriptor; all of them live at home.
    Fd,
    /// A position in a file that goes with the payload of this call; -1 where the call knows a current position.
    Offset,
    /// A number of bytes to be given away, from nothing that travels with the call.
    Gives,
    /// A path, with its NUL.
    Path,
    /// Another string, with its NUL.
    Text,
    /// An array of pointers to strings, NULL behind the last.
    Strings,
    /// Payload to be written, as many bytes as argument n says. May be cut: the call then writes less.
    Send(u8),
    /// Payload to be read, at most as many bytes as argument n says; the result says how many. May be cut.
    Receive(u8),
    /// A structure of so many bytes that the call reads.
    In(u32),
    /// A structure of so many bytes that the call fills on success.
    Out(u32),
    /// A structure of so many bytes that the call fills when its result is positive.
    OutIfPositive(u32),
    /// A structure of so many bytes that the call reads and changes on success.
    InOut(u32),
    /// The same, changed even when the call fails.
    InOutAlways(u32),
    /// `head` bytes, then `each` bytes as many times as the argument `count` says; read.
    InMany {
        /// Which argument counts.
        count: u8,
        /// Bytes of one.
        each: u32,
        /// Bytes before the first.
        head: u32,
    },
    /// `each` bytes as many times as the argument `count` says; read and changed on success.
    InOutMany {
        /// Which argument counts.
        count: u8,
        /// Bytes of one.
        each: u32,
    },
    /// Room for `each` bytes as many times as the argument `count` says; the result says how many were filled.
    /// The count may be lowered.
    OutMany {
        /// Which argument counts.
        count: u8,
        /// Bytes of one.
        each: u32,
    },
    /// A System V message: a type of 8 bytes, then as many bytes as the result says, at most argument n.
    OutTyped(u8),
    /// A structure whose first u32 is its size in bytes; 0 stands for the given size. Read.
    InSized(u32),
    /// A `struct file_handle` that the call reads.
    InHandle,
    /// A `struct file_handle` that the call fills; its size comes back even on an error.
    OutHandle,
    /// Room for a socket address; argument n points to its length, which goes in and out.
    Address(u8),
    /// The value of a socket option going in, as many bytes as argument n says. Argument n-3 is the level.
    OptionIn(u8),
    /// Room for the value of a socket option; argument n points to its length, which goes in and out.
    OptionOut(u8),
    /// The length that belongs to an [`Arg::Address`] or [`Arg::OptionOut`].
    Length,
    /// An array of `struct iovec`, as many as argument n says.
    Vector(u8, Way),
    /// A `struct msghdr`. The next argument holds the flags.
    Message(Way),
    /// An array of `struct mmsghdr`, as many as argument n says.
    Messages(u8, Way),
    /// A set of file descriptors; argument 0 says how many bits.
    FdSet,
    /// How long to wait, counted from now.
    Timeout(Span, Back),
    /// A signal mask for the time of the call; the next argument is its size.
    Mask,
    /// A pointer to such a mask and its size (pselect6).
    MaskPair,
    /// A `struct sigevent`.
    SignalEvent,
    /// What the command in the argument before takes.
    Operand(Family),
}

/// Where data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the guest to the kernel.
    Send,
    /// From the kernel to the guest.
    Receive,
}

/// How a timeout is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// An int of milliseconds; negative: for ever.
    Milliseconds,
    /// A `struct timeval`; NULL: for ever.
    Timeval,
    /// A `struct timespec`; NULL: for ever.
    Timespec,
}

/// Whether the kernel writes back the time that was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// It does not.
    Never,
    /// It does, on errors as well.
    Always,
}

/// Families of commands: calls whose operand depends on another argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `ioctl(2)`.
    Ioctl,
    /// `fcntl(2)`.
    Fcntl,
    /// `prctl(2)`.
    Prctl,
}
