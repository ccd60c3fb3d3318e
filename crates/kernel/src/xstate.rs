//! The extended state of a thread in a form that does not depend on the CPU.
//!
//! Where a register state lies in the kernel's form (the uncompacted XSAVE format) is each CPU's own affair, and so is how
//! long the whole is. The portable form is the legacy area, which all CPUs have alike, and then each further state that is
//! not in its initial configuration: its number, its length in four bytes, its bytes.
//!
//! Sources: Intel SDM volume 1, 13.4; Linux `arch/x86/include/uapi/asm/sigcontext.h`.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

/// The x87 and SSE registers.
const LEGACY_BYTES: usize = 512;
/// What of the legacy area is the kernel's to fill.
const LEGACY_SOFTWARE: usize = 464;
/// Where the mask of the states in use is; what else the header has is 0 in this form.
const IN_USE: usize = 512;
/// The first byte behind the header.
const HEADER_END: usize = 576;
/// The states of the legacy area.
const LEGACY_STATES: u64 = 0b11;
/// The protection keys' rights. The kernel gives every thread some that are not the initial ones, and who has never set any
/// does not miss them.
const PKRU: u8 = 9;
const XSAVE_LEAF: u32 = 0xd;

/// Where a state lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Component {
    number: u8,
    offset: usize,
    length: usize,
}

/// A register state in use that this CPU does not have, or has in another form; by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown(pub u8);

/// Where this CPU has the states that the kernel has switched on.
fn layout() -> &'static [Component] {
    static LAYOUT: OnceLock<Vec<Component>> = OnceLock::new();
    LAYOUT.get_or_init(|| {
        if __cpuid(0).eax < XSAVE_LEAF {
            return Vec::new();
        }
        let supported = __cpuid_count(XSAVE_LEAF, 0);
        let supported = u64::from(supported.eax) | u64::from(supported.edx) << 32;
        let numbers = (2..63_u8).filter(|number| supported & (1 << number) != 0);
        numbers
            .map(|number| {
                let told = __cpuid_count(XSAVE_LEAF, u32::from(number));
                Component { number, offset: told.ebx as usize, length: told.eax as usize }
            })
            .collect()
    })
}

/// The portable form of a state that this machine's kernel gave.
pub fn to_portable(state: &[u8]) -> Result<Vec<u8>, Unknown> {
    pack(state, layout())
}

/// Writes a portable state into one that this machine's kernel gave of the same thread, or of any other.
pub fn from_portable(portable: &[u8], state: &mut [u8]) -> Result<(), Unknown> {
    unpack(portable, state, layout())
}

fn pack(state: &[u8], layout: &[Component]) -> Result<Vec<u8>, Unknown> {
    let mut portable = state.get(..LEGACY_BYTES).ok_or(Unknown(0))?.to_vec();
    // A CPU without XSAVE has the legacy area alone.
    let in_use =
        state.get(IN_USE..).and_then(|rest| rest.first_chunk()).map_or(0, |mask| u64::from_le_bytes(*mask));
    for number in (2..63_u8).filter(|number| in_use & (1 << number) != 0) {
        let component = layout.iter().find(|component| component.number == number).ok_or(Unknown(number))?;
        let bytes =
            state.get(component.offset..component.offset + component.length).ok_or(Unknown(number))?;
        // All of them are 0 in the initial configuration, and CPUs may take one for used that is in it again.
        if bytes.iter().any(|byte| *byte != 0) {
            portable.push(number);
            portable.extend((bytes.len() as u32).to_le_bytes());
            portable.extend(bytes);
        }
    }
    Ok(portable)
}

fn unpack(portable: &[u8], state: &mut [u8], layout: &[Component]) -> Result<(), Unknown> {
    let (legacy, mut rest) = portable.split_at_checked(LEGACY_BYTES).ok_or(Unknown(0))?;
    state.get_mut(..LEGACY_SOFTWARE).ok_or(Unknown(0))?.copy_from_slice(&legacy[..LEGACY_SOFTWARE]);
    if let Some(extended) = state.get_mut(IN_USE..) {
        extended.fill(0);
    }
    let mut in_use = LEGACY_STATES;
    while let Some((&[number, a, b, c, d], behind)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let (bytes, behind) = behind.split_at_checked(length).ok_or(Unknown(number))?;
        rest = behind;
        match layout.iter().find(|component| component.number == number) {
            Some(component) if component.length == length && component.offset >= HEADER_END => {
                let place = component.offset..component.offset + length;
                state.get_mut(place).ok_or(Unknown(number))?.copy_from_slice(bytes);
                in_use |= 1 << number;
            }
            None if number == PKRU => {}
            _ => return Err(Unknown(number)),
        }
    }
    if !rest.is_empty() {
        return Err(Unknown(rest[0]));
    }
    if let Some(header) = state.get_mut(IN_USE..IN_USE + size_of::<u64>()) {
        header.copy_from_slice(&in_use.to_le_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVX: Component = Component { number: 2, offset: 576, length: 256 };
    /// Two CPUs that have the protection keys at different places, and one without.
    const NEAR: &[Component] = &[AVX, Component { number: PKRU, offset: 832, length: 8 }];
    const FAR: &[Component] = &[AVX, Component { number: PKRU, offset: 2688, length: 8 }];
    const NONE: &[Component] = &[AVX];

    fn state(length: usize, in_use: u64) -> Vec<u8> {
        let mut state = vec![0; length];
        state[..LEGACY_SOFTWARE].fill(7);
        state[IN_USE..][..8].copy_from_slice(&in_use.to_le_bytes());
        state
    }

    #[test]
    fn a_state_finds_its_place_on_another_cpu() {
        let mut from = state(840, 0b111 | 1 << PKRU);
        from[576..832].fill(1);
        from[832..840].fill(2);
        let portable = pack(&from, NEAR).unwrap();
        let mut to = state(2696, 0);
        unpack(&portable, &mut to, FAR).unwrap();
        assert!(to[..LEGACY_SOFTWARE].iter().all(|byte| *byte == 7));
        assert!(to[576..832].iter().all(|byte| *byte == 1));
        assert!(to[832..2688].iter().all(|byte| *byte == 0));
        assert!(to[2688..].iter().all(|byte| *byte == 2));
        assert_eq!(to[IN_USE..][..8], (0b111_u64 | 1 << PKRU).to_le_bytes());
        // And back, where nothing else is.
        let mut back = state(840, 0);
        unpack(&pack(&to, FAR).unwrap(), &mut back, NEAR).unwrap();
        assert_eq!(back, from);
    }

    #[test]
    fn what_is_not_here_is_an_error_unless_nobody_misses_it() {
        let mut from = state(840, 0b111 | 1 << PKRU);
        from[576..840].fill(1);
        let portable = pack(&from, NEAR).unwrap();
        let mut to = state(832, 0);
        unpack(&portable, &mut to, NONE).unwrap();
        assert_eq!(to[IN_USE..][..8], 0b111_u64.to_le_bytes());
        assert_eq!(unpack(&portable, &mut to, &[]), Err(Unknown(2)));
        let longer = [Component { length: 300, ..AVX }];
        assert_eq!(unpack(&portable, &mut to, &longer), Err(Unknown(2)));
        assert_eq!(pack(&from, &[]), Err(Unknown(2)));
        // What was used once, and is as in the beginning again, does not count.
        from[576..832].fill(0);
        let portable = pack(&from, NEAR).unwrap();
        unpack(&portable, &mut to, &[]).unwrap();
    }

    #[test]
    fn strangers_bytes_are_errors() {
        let mut to = state(832, 0);
        assert_eq!(unpack(&[1; 100], &mut to, NONE), Err(Unknown(0)));
        for tail in [&[2, 0, 1, 0, 0][..], &[2, 255, 255, 255, 255, 1], &[2, 0]] {
            let portable = [&[0; LEGACY_BYTES][..], tail].concat();
            assert!(unpack(&portable, &mut to, NONE).is_err(), "{tail:?}");
        }
    }

    #[test]
    fn this_cpus_states_do_not_overlap() {
        let mut ends = HEADER_END;
        let mut sorted = layout().to_vec();
        sorted.retain(|component| component.offset != 0);
        sorted.sort_by_key(|component| component.offset);
        for component in sorted {
            assert!(component.offset >= ends, "{component:?}");
            ends = component.offset + component.length;
        }
    }
}
