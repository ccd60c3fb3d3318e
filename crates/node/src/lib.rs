//! The daemon, the keeper and the warden: where policy and mechanism meet.
