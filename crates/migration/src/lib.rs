//! The two-phase hand-over of a process, as a machine without a kernel or a clock.
#![forbid(unsafe_code)]
