//! How a call of the remote travels: gathering, landing, resuming.
#![forbid(unsafe_code)]
