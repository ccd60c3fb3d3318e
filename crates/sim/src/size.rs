//! How many bytes a message has, without making them.
//!
//! Nearly all messages are gossip, and of a message that is handed over as it is nobody needs the bytes but their number:
//! making them was a quarter of the time of a run. Numbers are as long in postcard as they have groups of seven bits; what is
//! not gossip is encoded.

use model::limits::{BALANCE_BYTES_MAX, GOSSIP_ENTRIES_MAX};
use wire::balance::{Aged, BalanceError, Entry, Message, encode};

/// The length of [`encode`]'s answer, or its error.
pub fn bytes_of(message: &Message) -> Result<usize, BalanceError> {
    if let Message::Gossip(told) = message {
        let bytes = 1 + number(told.len() as u64) + told.iter().map(aged).sum::<usize>();
        if told.len() <= GOSSIP_ENTRIES_MAX && bytes <= BALANCE_BYTES_MAX {
            return Ok(bytes);
        }
    }
    encode(message).map(|bytes| bytes.len())
}

/// Of seven bits each; zero has one byte too.
fn number(value: u64) -> usize {
    let bits = (value | 1).ilog2() as usize + 1;
    bits.div_ceil(7)
}

fn aged(aged: &Aged) -> usize {
    number(u64::from(aged.age_ms)) + entry(&aged.entry)
}

fn entry(entry: &Entry) -> usize {
    // Named one by one: a field that is new does not escape.
    let Entry {
        node,
        boot,
        stamp_ms,
        speed,
        cpus_hundredths,
        jobs_hundredths,
        load,
        memory_total_kb,
        memory_free_kb,
        memory_usable_kb,
        memory_taken_kb,
        pressure_thousandths,
        utilisation_thousandths,
        link_busy_ms,
        switches: _,
        cpu_class,
        kernel,
        guests,
        guests_max,
        ages,
    } = entry;
    let large =
        [*stamp_ms, *memory_total_kb, *memory_free_kb, *memory_usable_kb, *memory_taken_kb, *cpu_class];
    let medium = [*boot, *speed, *cpus_hundredths, *jobs_hundredths, *load, *link_busy_ms, *kernel];
    let small = [node.get(), *pressure_thousandths, *utilisation_thousandths, *guests, *guests_max];
    let numbers = large.into_iter().chain(medium.map(u64::from)).chain(small.map(u64::from));
    // The switches are one byte, and so is each age.
    numbers.map(number).sum::<usize>() + 1 + ages.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::NodeId;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};
    use wire::balance::Switches;

    proptest! {
        #[test]
        fn a_message_is_as_long_as_its_bytes(
            told in prop::collection::vec(
                (any::<[u64; 6]>(), any::<[u32; 8]>(), any::<[u16; 4]>(), 1..u16::MAX, 0..64_u32), 0..40),
        ) {
            let told = told.into_iter().map(|(large, medium, small, node, shift)| {
                let large = large.map(|number| number >> shift);
                let medium = medium.map(|number| number >> (shift / 2));
                let small = small.map(|number| number >> (shift / 4));
                let entry = Entry {
                    node: NodeId::new(node).unwrap(),
                    boot: medium[0],
                    stamp_ms: large[0],
                    speed: medium[1],
                    cpus_hundredths: medium[2],
                    jobs_hundredths: medium[3],
                    load: medium[4],
                    memory_total_kb: large[1],
                    memory_free_kb: large[2],
                    memory_usable_kb: large[3],
                    memory_taken_kb: large[4],
                    pressure_thousandths: small[0],
                    utilisation_thousandths: small[1],
                    link_busy_ms: medium[5],
                    switches: Switches::all(),
                    cpu_class: large[5],
                    kernel: medium[6],
                    guests: small[2],
                    guests_max: small[3],
                    ages: [shift as u8 * 4; 12],
                };
                Aged { age_ms: medium[7], entry }
            });
            let message = Message::Gossip(told.collect());
            prop_assert_eq!(bytes_of(&message), encode(&message).map(|bytes| bytes.len()));
        }
    }
}
