//! What the warden asks of the deputy, frame by frame.

use super::calls::{Calls, lock};
use super::slot::{Queued, Under};
use crate::journey::Result;
use std::collections::VecDeque;
use std::sync::Arc;
use stub::Post;
use stub_abi::NOT_EXECUTED;
use tracee::deputy::home_action;
use wire::session::{
    self, Action, BirthOrder, CallHeader, CancelCall, ExecOrder, Kind, SignalOrder, SignalSeen, ThreadEnd,
};

const ALL_BLOCKED: u64 = u64::MAX;
const NONE_BLOCKED: u64 = 0;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is not about calls.
    Other,
    /// It was dealt with.
    Done,
    /// It was posted, and [`Calls::attend`] is to wait for the reply.
    Attended {
        /// The slot.
        index: u32,
        /// The request there.
        seq: u32,
    },
}

impl Calls {
    /// Takes a frame of the warden.
    pub(crate) fn take(self: &Arc<Self>, kind: Kind, payload: &[u8]) -> Result<Taken> {
        match kind {
            Kind::Call => {
                let (header, input) = session::decode::<CallHeader>(payload)?;
                return self.take_call(header, input);
            }
            Kind::SignalSeen => {
                let (seen, _) = session::decode::<SignalSeen>(payload)?;
                let slot = lock(self.slot(seen.slot)?);
                if slot.tenant.is_none() {
                    return Ok(Taken::Done);
                }
                if seen.tail.wrapping_sub(slot.signals_sent) as i32 > 0 {
                    return Err(session::Malformed("acknowledgement of a signal that was not sent").into());
                }
                self.shared.acknowledge(seen.slot, seen.tail);
            }
            Kind::Cancel => {
                let (cancel, _) = session::decode::<CancelCall>(payload)?;
                let mut slot = lock(self.slot(cancel.slot)?);
                let queued = slot.queued.take_if(|queued| queued.seq() == cancel.seq).is_some();
                if queued || slot.held_back.take_if(|&mut seq| seq == cancel.seq).is_some() {
                    self.reply(cancel.slot, cancel.seq, NOT_EXECUTED, &[])?;
                } else if matches!(slot.under, Under::Call { seq, .. } if seq == cancel.seq) {
                    self.shared.cancel(cancel.slot, slot.stub_seq);
                }
            }
            Kind::Action => {
                let (action, _) = session::decode::<Action>(payload)?;
                check_signal(action.signal)?;
                let mut slot = lock(self.slot(action.slot)?);
                if slot.tenant.is_none() {
                    return Ok(Taken::Done);
                }
                let step = self.set_action(
                    action.slot,
                    0,
                    action.signal,
                    &self.at_home(action.signal, &action.action),
                );
                self.begin_steps(action.slot, &mut slot, Some(action.seq), [step].into())?;
                drop(slot);
                self.shared.kick(action.slot);
            }
            Kind::StopSelf | Kind::Die => {
                let (order, _) = session::decode::<SignalOrder>(payload)?;
                check_signal(order.signal)?;
                let mut slot = lock(self.slot(order.slot)?);
                let Some(tenant) = slot.tenant else { return Ok(Taken::Done) };
                let kill = Post {
                    nr: nix::libc::SYS_tgkill as u32,
                    args: [tenant.pid as u64, tenant.tid as u64, order.signal as u64, 0, 0, 0],

                    signals_seen: 0,
                    mask: NONE_BLOCKED,
                };
                let mut steps = VecDeque::from([self.set_action(order.slot, 0, order.signal, &[0; 4]), kill]);
                if kind == Kind::StopSelf {
                    let action = self.at_home(order.signal, &order.action);
                    steps.push_back(self.set_action(order.slot, 64, order.signal, &action));
                }
                let reply = (kind == Kind::StopSelf).then_some(order.seq);
                self.begin_steps(order.slot, &mut slot, reply, steps)?;
                drop(slot);
                self.shared.kick(order.slot);
            }
            Kind::Birth => {
                let (order, _) = session::decode::<BirthOrder>(payload)?;
                self.await_vacancy(order.newborn)?;
                self.take_request(order.slot, Queued::Birth(order))?;
            }
            Kind::Exec => {
                let (order, input) = session::decode::<ExecOrder>(payload)?;
                self.take_request(order.header.slot, Queued::Exec(order, input.to_vec()))?;
            }
            Kind::EndThread => {
                let (end, _) = session::decode::<ThreadEnd>(payload)?;
                self.take_request(end.slot, Queued::End(end))?;
            }
            Kind::WriteBack => self.write_back(payload)?,
            Kind::Sync => self.sync(payload)?,
            Kind::WrittenBack => self.is_written_back(payload)?,
            _ => return Ok(Taken::Other),
        }
        Ok(Taken::Done)
    }

    fn at_home(&self, signal: i32, action: &[u64; 4]) -> [u64; 4] {
        home_action(signal, action, &self.entries)
    }

    /// A step that sets an action; its argument lies at `offset` of the slot's data, which nobody uses meanwhile.
    fn set_action(&self, index: u32, offset: u32, signal: i32, action: &[u64; 4]) -> Post {
        let bytes: Vec<u8> = action.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.shared.write_data(index, offset, &bytes);
        let address = self.shared.data_address(index) + u64::from(offset);
        Post {
            nr: nix::libc::SYS_rt_sigaction as u32,
            args: [signal as u64, address, 0, 8, 0, 0],

            signals_seen: 0,
            mask: ALL_BLOCKED,
        }
    }
}

fn check_signal(signal: i32) -> Result<()> {
    if (1..=64).contains(&signal) { Ok(()) } else { Err(session::Malformed("signal number").into()) }
}
