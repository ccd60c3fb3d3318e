//! The headers of every kind of frame of a session.
#![no_main]
#![forbid(unsafe_code)]

use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use wire::session::*;

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(payload: &[u8]) {
    if let Ok((header, raw)) = decode::<T>(payload) {
        assert!(raw.len() <= payload.len());
        let mut again = encode(&header);
        again.extend_from_slice(raw);
        let (same, rest) = decode::<T>(&again).expect("our own words");
        assert_eq!((same, rest), (header, raw));
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, payload)) = bytes.split_first() else { return };
    // One row for each kind; those that a later version adds are reached by the last.
    match Kind::new(u16::from(kind)) {
        Some(Kind::Hello) => check::<Hello>(payload),
        Some(Kind::Files | Kind::Missing) => check::<Files>(payload),
        Some(Kind::FilePart) => check::<FilePart>(payload),
        Some(Kind::Image) => check::<Part>(payload),
        Some(Kind::Pages) => check::<Pages>(payload),
        Some(Kind::Prepared) => check::<Prepared>(payload),
        Some(Kind::Commit) => check::<Commit>(payload),
        Some(Kind::Started) => check::<Started>(payload),
        Some(Kind::Refused) => check::<Refusal>(payload),
        Some(Kind::ClockReading) => check::<ClockReading>(payload),
        Some(Kind::Embody) => check::<Embody>(payload),
        Some(Kind::Call) => check::<CallHeader>(payload),
        Some(Kind::Reply) => check::<ReplyHeader>(payload),
        Some(Kind::Signal) => check::<SignalHeader>(payload),
        Some(Kind::SignalSeen) => check::<SignalSeen>(payload),
        Some(Kind::Cancel) => check::<CancelCall>(payload),
        Some(Kind::Action) => check::<Action>(payload),
        Some(Kind::StopSelf | Kind::Die) => check::<SignalOrder>(payload),
        Some(Kind::Wish) => check::<WishOf>(payload),
        Some(Kind::Birth) => check::<BirthOrder>(payload),
        Some(Kind::EndThread) => check::<ThreadEnd>(payload),
        Some(Kind::Exec) => check::<ExecOrder>(payload),
        Some(Kind::Lost) => check::<Lost>(payload),
        Some(Kind::Quiesce) => check::<Quiesce>(payload),
        Some(Kind::Quiet) => check::<Round>(payload),
        Some(Kind::Stays) => check::<Stays>(payload),
        Some(Kind::Gone) => check::<GoneOrder>(payload),
        Some(Kind::WriteBack) => check::<WriteBack>(payload),
        Some(Kind::Sync) => check::<SyncOrder>(payload),
        Some(Kind::WrittenBack) => check::<Which>(payload),
        Some(Kind::Status) => check::<Status>(payload),
        Some(Kind::Hold) => check::<Hold>(payload),
        Some(Kind::File) => check::<FileRequest>(payload),
        Some(Kind::FileIs) => check::<FileAnswer>(payload),
        Some(Kind::MoveOn) => check::<MoveOn>(payload),
        Some(Kind::Sent) => check::<Sent>(payload),
        Some(Kind::Ended) => check::<Ended>(payload),
        _ => check::<()>(payload),
    }
});
