//! The other side: a node that is asked tells the truth, and promises room or refuses.

use super::agree::{jobs_of, memory_mb_of};
use super::rooms::Ticket;
use super::{Action, Broker};
use crate::entry::{KB_PER_MB, Sound};
use crate::settings::HOLD_S_MAX;
use model::NodeId;
use model::limits::MOVES_PER_MINUTE_MAX;
use std::time::Duration;
use wire::balance::{Brief, Entry, Errand, Message, Refusal, Seen, Switches};

/// How much slower a place may have become since it was seen: rounding.
const CHANGED_MIN: f64 = 1.001;

impl Broker {
    pub(super) fn tell(&self, now: Duration, to: NodeId, number: u32, out: &mut Vec<Action>) {
        if let Some(entry) = self.own.entry(now, &self.rooms) {
            out.push(Action::Send { to, message: Message::Tell { number, entry } });
        }
    }

    pub(super) fn reserve(
        &mut self,
        now: Duration,
        ticket: Ticket,
        seen: Seen,
        job: Brief,
        hold_ms: u32,
        out: &mut Vec<Action>,
    ) {
        // The same promise, asked for again because the answer was lost.
        self.rooms.take(&ticket);
        let Some(entry) = self.own.entry(now, &self.rooms) else { return };
        let message = match self.objection(&entry, ticket.asker, seen, &job) {
            Some(why) => Message::Refused { number: ticket.number, why, entry },
            None => {
                let hold = Duration::from_millis(u64::from(hold_ms)).min(Duration::from_secs_f64(HOLD_S_MAX));
                self.rooms.keep(ticket, bounded(job), now + hold);
                let hold_ms = u32::try_from(hold.as_millis()).unwrap_or(u32::MAX);
                Message::Granted { number: ticket.number, hold_ms }
            }
        };
        out.push(Action::Send { to: ticket.asker, message });
    }

    /// Why there is no room for it, if there is none. A process that comes home is never a guest too many.
    fn objection(&self, entry: &Entry, asker: NodeId, seen: Seen, job: &Brief) -> Option<Refusal> {
        let comes_home = job.home == self.me;
        let switched_off = entry.switches.intersects(Switches::BLOCK | Switches::NO_GUESTS);
        let guests = self.own.guests() + self.rooms.guests(self.me);
        // What is refused by what the asker cannot know comes before what it could have seen.
        if !comes_home && (switched_off || !self.members.contains(asker)) {
            Some(Refusal::NoGuests)
        } else if self.rooms.is_full_for(asker) || (!comes_home && guests >= self.own.guests_max()) {
            Some(Refusal::Full)
        } else if job.errand == Errand::Move && self.own.link_busy_s() > self.settings.link_busy_max_s {
            Some(Refusal::LinkBusy)
        } else if job.errand == Errand::Move && job.moves_ms.len() >= MOVES_PER_MINUTE_MAX {
            Some(Refusal::Restless)
        } else if self.has_changed(entry, seen, job) {
            Some(Refusal::Changed)
        } else {
            None
        }
    }

    /// Whether the process would be slower here than its sender has seen.
    fn has_changed(&self, entry: &Entry, seen: Seen, job: &Brief) -> bool {
        let Ok(sound) = Sound::judge(entry.clone()) else { return true };
        let state = sound.state(self.settings.thrash);
        let width = f64::from(job.width_hundredths) / 100.0;
        let memory_mb = job.memory_kb as f64 / KB_PER_MB;
        let expected = state.stretch(jobs_of(seen) + width, memory_mb_of(seen) + memory_mb);
        state.stretch_with(width, memory_mb) > expected * CHANGED_MIN
    }
}

/// Without absurd numbers: they would make this node look full to everybody else.
fn bounded(job: Brief) -> Brief {
    Brief {
        memory_kb: job.memory_kb.min(1 << 36),
        width_hundredths: job.width_hundredths.min(100_000),
        ..job
    }
}
